use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{End, Job, Measure, Measured, STAMP_BYTES, Stamp, WORK_BYTES_MAX, histogram, nanos};

#[test]
fn a_value_tells_when_it_was_sent_and_keeps_its_size() {
    let stamp = Stamp { mark: 7, base: Instant::now() };
    let value = stamp.on(&[1; 100], stamp.base);
    assert_eq!(value.len(), 100);
    assert!(stamp.age(&value).is_some());
    assert_eq!(stamp.on(&[1; STAMP_BYTES], stamp.base).len(), STAMP_BYTES);
}

#[test]
fn values_of_others_have_no_time() {
    let stamp = Stamp { mark: 7, base: Instant::now() };
    let other = Stamp { mark: 8, ..stamp };
    assert_eq!(stamp.age(&other.on(&[1; 100], stamp.base)), None);
    assert_eq!(stamp.age(&[0; 15]), None);
    assert_eq!(stamp.age(b""), None);
}

#[test]
fn publishing_ends_with_its_bytes_though_its_time_is_not_over() {
    let job =
        Job { value: Bytes::from_static(&[0; 1024]), duration: Duration::from_mins(10), connections: 1 };
    let end = End::of(&job);
    assert!(!end.is_reached(WORK_BYTES_MAX / 1024 - 1));
    assert!(end.is_reached(WORK_BYTES_MAX / 1024));
}

#[test]
fn latencies_are_told_from_a_microsecond_to_a_minute() {
    let mut latency = histogram();
    for time in [Duration::from_micros(300), Duration::from_micros(301), Duration::from_secs(2)] {
        latency.saturating_record(nanos(time));
    }
    let figures = Measured::latency(&latency).figures;
    let (p50, p99) = (figures[0].1, figures[1].1);
    assert_eq!((figures[0].0, figures[1].0), (Measure::P50, Measure::P99));
    assert!((300.0..302.0).contains(&p50) && (1_990_000.0..2_010_000.0).contains(&p99), "{figures:?}");
    latency.saturating_record(nanos(Duration::from_hours(1)));
    assert!(Measured::latency(&latency).figures[1].1 > 59_000_000.0);
}
