use super::{Address, AddressError, Kind};

fn refused(text: &str) -> AddressError {
    text.parse::<Address>().unwrap_err()
}

#[test]
fn an_address_says_which_rival_where_and_how_safe() {
    let address: Address = "nats://127.0.0.1:4222?replicas=3#sync=always".parse().unwrap();
    assert_eq!(address.kind(), Kind::JetStream { replicas: 3 });
    assert_eq!(address.label(), Some("sync=always"));
    assert_eq!(address.url().as_str(), "nats://127.0.0.1:4222");
    assert_eq!(address.to_string(), "nats://127.0.0.1:4222?replicas=3");
    let address: Address = "redis://[::1]:6379/2".parse().unwrap();
    assert_eq!((address.kind(), address.label()), (Kind::Redis, None));
    assert_eq!(address.to_string(), "redis://[::1]:6379");
}

#[test]
fn a_password_is_passed_on_and_never_shown() {
    let address: Address = "redis://me:secret@localhost:6379".parse().unwrap();
    assert_eq!(address.url().password(), Some("secret"));
    assert_eq!(address.to_string(), "redis://localhost:6379");
}

#[test]
fn what_is_wrong_with_an_address_is_named() {
    assert!(matches!(refused("localhost"), AddressError::Url(_)));
    assert_eq!(refused("localhost:4222"), AddressError::Scheme("localhost".to_owned()));
    assert_eq!(refused("kafka://localhost:9092"), AddressError::Scheme("kafka".to_owned()));
    assert_eq!(refused("nats:///"), AddressError::Host);
    assert!(matches!(refused("nats://localhost:99999"), AddressError::Url(_)));
    assert_eq!(refused("nats://localhost?replicas=0"), AddressError::Replicas("0".to_owned()));
    assert_eq!(refused("nats://localhost?replica=3"), AddressError::Parameter("replica".to_owned()));
    assert_eq!(refused("redis://localhost?replicas=3"), AddressError::Parameter("replicas".to_owned()));
    assert_eq!(refused("nats://localhost/stream"), AddressError::Path("/stream".to_owned()));
    assert_eq!(refused("redis://localhost/first"), AddressError::Path("/first".to_owned()));
    assert_eq!(refused("nats://localhost#"), AddressError::Label(String::new()));
    assert!(matches!(refused(&format!("nats://localhost#{}", "x".repeat(41))), AddressError::Label(_)));
}
