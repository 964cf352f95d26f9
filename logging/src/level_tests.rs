use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A subscriber that counts how often it is told a filter, and keeps the last one.
fn counted() -> (Levels, Arc<AtomicUsize>, Arc<Mutex<String>>) {
    let (count, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
    let (counting, keeping) = (Arc::clone(&count), Arc::clone(&last));
    let apply = move |filter: EnvFilter| {
        counting.fetch_add(1, Ordering::SeqCst);
        *keeping.lock() = filter.to_string();
        Ok(())
    };
    (Levels::new("info".parse().unwrap(), &["noisy=off"], Box::new(apply)), count, last)
}

async fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_change_ends_by_itself() {
    let (levels, _, last) = counted();
    assert_eq!(levels.describe(), "info, as configured");
    levels.change("debug".parse().unwrap(), CHANGE_MIN).unwrap();
    assert!(last.lock().contains("debug") && last.lock().contains("noisy=off"), "{}", last.lock());
    until(|| levels.describe() == "info, as configured").await;
    assert!(last.lock().contains("info") && last.lock().contains("noisy=off"), "{}", last.lock());
}

#[tokio::test]
async fn the_end_of_a_change_that_was_overtaken_ends_nothing() {
    let (levels, count, last) = counted();
    levels.change("debug".parse().unwrap(), CHANGE_MIN).unwrap();
    levels.change("trace".parse().unwrap(), CHANGE_MAX).unwrap();
    // The end of the first one, whenever it comes.
    levels.end(Some(1));
    assert!(levels.describe().starts_with("trace for ") && levels.describe().ends_with(", then info"));
    assert_eq!(count.load(Ordering::SeqCst), 2);
    levels.reset();
    levels.reset();
    assert_eq!((levels.describe().as_str(), count.load(Ordering::SeqCst)), ("info, as configured", 3));
    assert!(last.lock().contains("info"));
}

#[tokio::test]
async fn a_change_lasts_no_longer_than_an_hour() {
    let (levels, count, _) = counted();
    for lasting in [Duration::ZERO, CHANGE_MAX + Duration::from_secs(1)] {
        let refused = levels.change("debug".parse().unwrap(), lasting).unwrap_err();
        assert!(refused.to_string().ends_with("a change lasts 1s to 1h"), "{refused}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}
