use super::*;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn first() -> Certificates {
    Certificates::current(None, None, false, now()).unwrap()
}

fn again(certificates: &Certificates, now: Timestamp) -> Certificates {
    Certificates::current(Some(certificates.ca.clone()), Some(certificates.brokers.clone()), false, now)
        .unwrap()
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

/// The next pass, with every broker known to use what the last one wrote, or not.
fn next(
    ca: Option<&Certificates>,
    brokers: &Certificates,
    acknowledged: bool,
    now: Timestamp,
) -> Certificates {
    let ca = ca.map(|one| one.ca.clone());
    Certificates::current(ca, Some(brokers.brokers.clone()), acknowledged, now).unwrap()
}

fn authority(certificates: &Certificates) -> &str {
    certificates.ca.data[CA_CERTIFICATE].trim()
}

fn used(certificates: &Certificates) -> [&String; 3] {
    [CERTIFICATE, KEY, GOSSIP_KEY].map(|key| &certificates.brokers.data[key])
}

#[test]
fn a_ca_that_was_lost_is_replaced_in_three_steps_each_acknowledged() {
    let old = first();
    let both = next(None, &old, false, now());
    assert_ne!(both.ca, old.ca);
    assert_eq!(authorities(both.trusted()), [authority(&both), authority(&old)]);
    assert_eq!(used(&both), used(&old), "nobody shows what others do not believe yet");
    assert_eq!(both.signer(), old.signer());
    assert_eq!(next(Some(&both), &both, false, now()), both, "it waits for every broker");

    let issued = next(Some(&both), &both, true, now());
    assert_ne!(used(&issued)[0], used(&old)[0]);
    assert_eq!(used(&issued)[2], used(&old)[2], "the key of gossip stays");
    assert_eq!(issued.trusted(), both.trusted());
    assert_ne!(issued.signer(), old.signer());
    assert_eq!(next(Some(&both), &issued, false, now()), issued);

    let done = next(Some(&both), &issued, true, now());
    assert_eq!(authorities(done.trusted()), [authority(&both)]);
    assert_eq!(used(&done), used(&issued));
    assert_eq!(next(Some(&both), &done, true, now()), done);
    assert!(issued.trusts_all_of(old.trusted()) && !done.trusts_all_of(old.trusted()));
}

#[test]
fn a_broker_that_is_away_holds_a_rotation_up_for_a_quarter_of_an_hour() {
    let both = next(None, &first(), false, now());
    let almost = now() + ARRIVES - Duration::from_secs(1);
    assert_eq!(next(Some(&both), &both, false, almost), both);
    assert_ne!(next(Some(&both), &both, false, now() + ARRIVES).signer(), both.signer());
}

#[test]
fn a_certificate_in_its_last_day_is_replaced_though_nobody_acknowledged() {
    let both = next(None, &first(), false, now());
    let end = now() + CERTIFICATE_VALIDITY - LAST_MOMENT;
    let issued =
        Certificates::current(Some(both.ca.clone()), Some(both.brokers.clone()), false, end).unwrap();
    assert_ne!(issued.signer(), both.signer());
    assert_eq!(authorities(issued.trusted()).len(), 2);
}

#[test]
fn a_ca_that_is_lost_in_the_middle_of_a_rotation_leaves_what_is_in_use_trusted() {
    let old = first();
    let mut last = next(None, &old, false, now());
    for _ in 0..4 {
        last = next(None, &last, false, now());
        assert_eq!(used(&last), used(&old));
        let trusted = authorities(last.trusted());
        assert!(trusted.contains(&authority(&old)) && trusted.contains(&authority(&last)));
        assert_eq!(trusted.len(), TRUSTED_MAX);
    }
}

#[test]
fn an_old_ca_is_replaced_in_the_same_steps() {
    let old = first();
    let late = now() + CA_VALIDITY - CA_VALIDITY / 3;
    let mut brokers = old.brokers.clone();
    brokers.annotations.extend(validity(late, CERTIFICATE_VALIDITY));
    let both = Certificates::current(Some(old.ca.clone()), Some(brokers), false, late).unwrap();
    assert_ne!(both.ca, old.ca);
    assert_eq!((authorities(both.trusted()).len(), used(&both)), (2, used(&old)));
}

#[test]
fn what_a_broker_wears_changes_with_its_certificate_and_with_its_cas() {
    let old = first();
    let both = next(None, &old, false, now());
    let issued = next(Some(&both), &both, true, now());
    let all = [worn(&old.brokers), worn(&both.brokers), worn(&issued.brokers)];
    assert!(all[0] != all[1] && all[1] != all[2]);
    assert_eq!(all[0].len(), 32);
}

#[test]
fn what_is_spoilt_is_issued_anew() {
    let first = first();
    for key in [CERTIFICATE, KEY, GOSSIP_KEY, CA_CERTIFICATE] {
        let mut brokers = first.brokers.clone();
        brokers.data.insert(key.to_owned(), String::new());
        let next = Certificates::current(Some(first.ca.clone()), Some(brokers), false, now()).unwrap();
        assert_ne!(next.brokers.data[CERTIFICATE], first.brokers.data[CERTIFICATE], "{key}");
        assert_eq!(next.ca, first.ca);
    }
    let mut ca = first.ca.clone();
    ca.data.insert(CA_KEY.to_owned(), "no key".to_owned());
    let next = Certificates::current(Some(ca), Some(first.brokers.clone()), false, now()).unwrap();
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

#[test]
fn certificates_in_use_are_called_what_brokers_call_them() {
    // The broker's tests have the same line.
    let data = owned([(CA_CERTIFICATE, "ca".to_owned()), (CERTIFICATE, "tls".to_owned())]);
    assert_eq!(worn(&Kept { data, ..Kept::default() }), "e27a4301fa1cb9c14ae0f98aa2681e4a");
}
