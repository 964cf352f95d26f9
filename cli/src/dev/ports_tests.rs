use std::collections::HashSet;
use std::net::TcpListener;

use super::Ports;

#[path = "../../../broker/tests/support/ports.rs"]
#[allow(unreachable_pub, reason = "tests of other crates share it")]
mod free;

#[test]
fn no_two_of_a_hundred_brokers_share_a_port() {
    for base in [None, Some(20_000)] {
        let ports = Ports::plan(base, 100).unwrap();
        let mut seen = HashSet::new();
        for ordinal in 0..100 {
            for (port, what, _) in ports.of(ordinal).uses() {
                assert!(seen.insert(port), "{port} ({what} of {ordinal})");
            }
        }
    }
}

#[test]
fn a_taken_port_is_named_with_its_use() {
    let block = free::Block::take();
    let taken = block.base + 2;
    let listener = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let ports = Ports::plan(Some(block.base), 1).unwrap();
    let refused = ports.check_free(0..1).unwrap_err().to_string();
    assert!(refused.contains(&format!("127.0.0.1:{taken}, HTTP of broker 0")), "{refused}");
    drop(listener);
}

#[test]
fn a_base_without_room_is_refused() {
    assert!(Ports::plan(Some(65_530), 1).unwrap_err().to_string().contains("lower --port-base"));
    assert!(Ports::plan(Some(65_525), 1).is_ok());
}
