use fulmar_core::control::Input;
use fulmar_core::id::Ordinal;
use fulmar_proto::internal::v1::{GossipView, Heartbeat, Links};

use super::Said;

fn beat(hears: &[u32], linked: Option<&[u32]>) -> Heartbeat {
    let links = linked.map(|linked| Links { linked: linked.to_vec() });
    Heartbeat { hears: Some(GossipView { alive: hears.to_vec() }), links, ..Heartbeat::default() }
}

fn is_beat(inputs: &[Input]) -> bool {
    matches!(inputs, [Input::Heartbeat { .. }])
}

#[test]
fn whom_a_broker_hears_is_news_when_it_changes_and_confirmed_by_each_heartbeat() {
    let mut said = Said::default();
    let first = said.news(Ordinal(1), beat(&[0, 1, 2], Some(&[0, 2])));
    let all = vec![Ordinal(0), Ordinal(1), Ordinal(2)];
    let linked = vec![Ordinal(0), Ordinal(2)];
    assert!(matches!(&first[..], [
        Input::Gossip { alive, .. },
        Input::Links { linked: with, .. },
        Input::Heartbeat { .. }
    ] if *alive == all && *with == linked));
    assert!(is_beat(&said.news(Ordinal(1), beat(&[0, 1, 2], Some(&[0, 2])))), "it is as it was");
    let later = said.news(Ordinal(1), beat(&[1], Some(&[])));
    assert!(matches!(&later[..], [
        Input::Gossip { alive, .. },
        Input::Links { linked, .. },
        Input::Heartbeat { .. }
    ] if *alive == [Ordinal(1)] && linked.is_empty()));
}

#[test]
fn a_broker_that_does_not_say_with_whom_it_is_connected_is_not_taken_for_one_that_is_alone() {
    let mut said = Said::default();
    let first = said.news(Ordinal(1), beat(&[1], None));
    assert!(matches!(&first[..], [Input::Gossip { .. }, Input::Heartbeat { .. }]));
}
