//! Claims about identifiers and their texts.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn identifiers_are_read_back_from_text_and_bytes(id in any::<u128>(), ordinal in any::<u16>()) {
        let topic = TopicId(id);
        prop_assert_eq!(topic.to_string().parse(), Ok(topic));
        prop_assert_eq!(topic.to_string().to_uppercase().parse(), Ok(topic));
        prop_assert_eq!(TopicId::from_bytes(topic.to_bytes()), topic);
        let replica = ReplicaId { ordinal: Ordinal(ordinal), incarnation: Incarnation(id) };
        prop_assert_eq!(replica.to_string().parse(), Ok(replica));
    }

    #[test]
    fn garbage_is_refused_and_never_panics(text in ".{0,60}", at in 0..36usize, other in any::<char>()) {
        let _ = text.parse::<TopicId>();
        let _ = text.parse::<ReplicaId>();
        let mut changed: Vec<char> = TopicId(7).to_string().chars().collect();
        changed[at] = other;
        let changed: String = changed.into_iter().collect();
        match changed.parse::<TopicId>() {
            Ok(id) => prop_assert_eq!(id.to_string(), changed.to_lowercase()),
            Err(InvalidUuid(said)) => prop_assert_eq!(said, changed),
        }
    }
}

#[test]
fn an_error_shows_a_shortened_text_and_an_example() {
    let error = "x".repeat(1000).parse::<ReplicaId>().unwrap_err().to_string();
    assert!(error.len() < 200 && error.contains("such as 2:0198a5c2"), "{error}");
}
