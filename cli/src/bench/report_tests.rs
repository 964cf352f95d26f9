use super::{Entrant, Report, median};
use crate::bench::work::{Measure, Measured, Work};

fn entrant(name: &str, safety: &str) -> Entrant {
    Entrant { name: name.to_owned(), version: "1".to_owned(), safety: safety.to_owned() }
}

fn measured(measure: Measure, figure: f64) -> Measured {
    Measured { records: 7, figures: vec![(measure, figure)] }
}

fn report() -> Report {
    let entrants = vec![entrant("fulmar", "synced"), entrant("nats://n:1", "sync: not told")];
    let mut report = Report::new(1024, 5.0, 64, 1, entrants);
    for (fulmar, rival) in [(300.0, 10.0), (100.0, 50.0), (200.0, 20.0)] {
        // Whoever has the first turn.
        report.add(Work::PublishBatched, 1, measured(Measure::RecordsPerSecond, rival));
        report.add(Work::PublishBatched, 0, measured(Measure::RecordsPerSecond, fulmar));
    }
    report.add(Work::OneInFlight, 0, measured(Measure::P50, 150.0));
    report.add(Work::OneInFlight, 1, measured(Measure::P50, 300.0));
    report
}

#[test]
fn a_median_is_the_middle_or_between_the_two_in_the_middle() {
    assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
    assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]).to_bits(), 3.0_f64.to_bits());
    assert_eq!(median(&[]).to_bits(), 0.0_f64.to_bits());
}

#[test]
fn ratios_are_those_of_medians_and_stand_with_the_rival() {
    let json = report().as_json();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!((&rows[0]["system"], &rows[0]["fulmar_by_system"]), (&"fulmar".into(), &().into()));
    assert_eq!((&rows[1]["median"], &rows[1]["fulmar_by_system"]), (&20.0.into(), &10.0.into()));
    assert_eq!(rows[1]["records"], serde_json::json!([7, 7, 7]));
    assert_eq!((&rows[3]["measure"], &rows[3]["fulmar_by_system"]), (&"p50_us".into(), &0.5.into()));
}

#[test]
fn no_figure_stands_without_what_an_acknowledgement_means() {
    let report = report();
    for row in report.as_json()["rows"].as_array().unwrap() {
        assert!(row["safety"].as_str().is_some_and(|safety| safety.contains("sync")), "{row}");
    }
    let table = report.as_table();
    let rows = table.lines().filter(|line| line.contains(" to "));
    assert_eq!(rows.clone().count(), 4, "{table}");
    assert!(rows.into_iter().all(|line| line.contains("sync")), "{table}");
    assert!(table.contains("10 to 50") || table.contains("10/s to 50/s"), "{table}");
}
