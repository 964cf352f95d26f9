use fulmar_core::control::{Disk, Input};
use fulmar_core::id::Ordinal;
use fulmar_proto::internal::v1::{GossipView, Heartbeat, Links, Volume};

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

fn full(available: u64, is_full: bool) -> Heartbeat {
    let volume = Volume { total_bytes: 1_000, available_bytes: available, is_full };
    Heartbeat { volume: Some(volume), ..beat(&[], None) }
}

fn disk_of(inputs: &[Input]) -> Option<Disk> {
    inputs.iter().find_map(|input| match input {
        Input::Disk { disk, .. } => Some(*disk),
        _ => None,
    })
}

#[test]
fn a_volume_that_fills_up_is_news_by_the_percent_and_once_it_is_full() {
    let mut said = Said::default();
    let mut news = |heartbeat| disk_of(&said.news(Ordinal(1), heartbeat));
    let disk = |used_percent, is_full| Some(Disk { total_bytes: 1_000, used_percent, is_full });
    assert_eq!(news(full(500, false)), disk(50, false));
    assert_eq!(news(full(495, false)), None, "half a percent");
    assert_eq!(news(full(490, false)), None, "one percent may go back");
    assert_eq!(news(full(480, false)), disk(52, false));
    assert_eq!(news(full(480, true)), disk(52, true));
    assert_eq!(news(full(480, true)), None, "it is as it was");
    assert_eq!(news(beat(&[], None)), None, "an older broker says nothing");
}

#[test]
fn a_volume_of_no_size_is_no_reason_to_fail() {
    let volume = Volume { total_bytes: 0, available_bytes: u64::MAX, is_full: true };
    let heartbeat = Heartbeat { volume: Some(volume), ..beat(&[], None) };
    let disk = disk_of(&Said::default().news(Ordinal(1), heartbeat));
    assert_eq!(disk, Some(Disk { total_bytes: 0, used_percent: 100, is_full: true }));
}
