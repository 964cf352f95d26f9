use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fulmar_client::Start;

use super::start;

#[test]
fn where_to_begin_is_a_word_an_offset_a_time_or_an_age() {
    assert_eq!(start("earliest"), Ok(Start::Earliest));
    assert_eq!(start("latest"), Ok(Start::Latest));
    assert_eq!(start("42"), Ok(Start::Offset(42)));
    assert_eq!(start("1970-01-01T00:01:00Z"), Ok(Start::Time(UNIX_EPOCH + Duration::from_mins(1))));
    let Ok(Start::Time(then)) = start("90m") else { panic!("an age is a time") };
    let age = SystemTime::now().duration_since(then).unwrap();
    assert!(age >= Duration::from_mins(90) && age < Duration::from_mins(91));
    for wrong in ["", "-1", "yesterday", "2026-13-01T00:00:00Z"] {
        assert!(start(wrong).unwrap_err().contains("earliest, latest"), "{wrong}");
    }
}
