use super::*;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn first() -> Certificates {
    Certificates::current(None, None, now()).unwrap()
}

fn again(certificates: &Certificates, now: Timestamp) -> Certificates {
    Certificates::current(Some(certificates.ca.clone()), Some(certificates.brokers.clone()), now).unwrap()
}

#[test]
fn what_is_good_is_left_as_it_is() {
    let first = first();
    assert_eq!(again(&first, now() + Duration::from_hours(59 * 24)), first);
}

#[test]
fn a_certificate_is_issued_anew_after_two_thirds_of_its_time_and_the_ca_stays() {
    let first = first();
    let later = again(&first, now() + Duration::from_hours(60 * 24));
    assert_eq!(later.ca, first.ca);
    assert_ne!(later.brokers.data[CERTIFICATE], first.brokers.data[CERTIFICATE]);
    assert_eq!(later.brokers.data[GOSSIP_KEY], first.brokers.data[GOSSIP_KEY]);
    assert_eq!(later.brokers.data[CA_CERTIFICATE], first.brokers.data[CA_CERTIFICATE]);
    assert_eq!(first.renew_at, now() + Duration::from_hours(60 * 24));
}

#[test]
fn a_ca_that_was_lost_is_replaced_and_the_one_before_stays_trusted() {
    let first = first();
    let next = Certificates::current(None, Some(first.brokers.clone()), now()).unwrap();
    assert_ne!(next.ca, first.ca);
    let trusted = next.trusted();
    assert!(trusted.starts_with(next.ca.data[CA_CERTIFICATE].trim()));
    assert!(trusted.contains(first.ca.data[CA_CERTIFICATE].trim()));
    let after = Certificates::current(None, Some(next.brokers.clone()), now()).unwrap();
    assert_eq!(after.trusted().matches("BEGIN CERTIFICATE").count(), TRUSTED_MAX);
}

#[test]
fn what_is_spoilt_is_issued_anew() {
    let first = first();
    for key in [CERTIFICATE, KEY, GOSSIP_KEY, CA_CERTIFICATE] {
        let mut brokers = first.brokers.clone();
        brokers.data.insert(key.to_owned(), String::new());
        let next = Certificates::current(Some(first.ca.clone()), Some(brokers), now()).unwrap();
        assert_ne!(next.brokers.data[CERTIFICATE], first.brokers.data[CERTIFICATE], "{key}");
        assert_eq!(next.ca, first.ca);
    }
    let mut ca = first.ca.clone();
    ca.data.insert(CA_KEY.to_owned(), "no key".to_owned());
    let next = Certificates::current(Some(ca), Some(first.brokers.clone()), now()).unwrap();
    assert_ne!(next.ca.data[CA_CERTIFICATE], first.ca.data[CA_CERTIFICATE]);
}

#[test]
fn the_gossip_key_is_32_bytes_in_hexadecimal() {
    let (one, other) = (first(), first());
    assert!(is_gossip_key(&one.brokers.data[GOSSIP_KEY]));
    assert_ne!(one.brokers.data[GOSSIP_KEY], other.brokers.data[GOSSIP_KEY]);
}

#[test]
fn the_operator_has_a_certificate_of_its_own_name_from_the_same_ca() {
    let certificates = first();
    let operator = certificates.operator(now()).unwrap();
    assert_eq!(operator.ca, certificates.trusted());
    assert_eq!(operator.renew_at, now() + Duration::from_hours(60 * 24));
    assert!(operator.certificate.contains("BEGIN CERTIFICATE") && operator.key.contains("PRIVATE KEY"));
}
