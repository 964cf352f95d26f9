use fulmar_core::control::BrokerState;
use fulmar_core::id::Ordinal;

use super::*;

fn view(disks: &[Option<Disk>]) -> View {
    let broker = |(ordinal, disk): (u16, &Option<Disk>)| BrokerView {
        ordinal: Ordinal(ordinal),
        incarnation: None,
        zone: None,
        state: BrokerState::Serving,
        replicas: 0,
        is_empty: false,
        message: String::new(),
        certificates: String::new(),
        disk: *disk,
    };
    View { brokers: (0..).zip(disks).map(broker).collect(), ..View::default() }
}

fn disk(used_percent: u8, is_full: bool) -> Disk {
    Disk { total_bytes: 10 << 30, used_percent, is_full }
}

fn of(disks: &[Option<Disk>]) -> Claim {
    let key = ClusterKey { namespace: "shop".to_owned(), name: "orders".to_owned() };
    pressure(&key, Some(&view(disks)))
}

#[test]
fn full_volumes_are_named_with_how_full_they_are() {
    let claim = of(&[Some(disk(50, false)), Some(disk(96, true)), Some(disk(97, true))]);
    assert_eq!((claim.truth, claim.reason.as_str()), (Truth::True, "VolumesFull"));
    assert!(
        claim.message.starts_with("orders-1 (96% of 10240 MiB), orders-2 (97% of 10240 MiB): "),
        "{}",
        claim.message
    );
}

#[test]
fn how_full_volumes_are_that_have_room_is_no_reason_for_a_write() {
    assert_eq!(of(&[Some(disk(50, false)), None]), of(&[Some(disk(70, false)), Some(disk(94, false))]));
    assert_eq!(of(&[Some(disk(50, false))]).truth, Truth::False);
}

#[test]
fn without_any_word_of_a_broker_nothing_is_claimed() {
    assert_eq!(of(&[None, None]).truth, Truth::Unknown);
    let key = ClusterKey { namespace: "shop".to_owned(), name: "orders".to_owned() };
    assert_eq!(pressure(&key, None).truth, Truth::Unknown);
}
