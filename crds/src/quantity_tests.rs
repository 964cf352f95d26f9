use super::*;

#[test]
fn bytes_know_both_families_of_suffixes() {
    assert_eq!(bytes("1"), Some(1));
    assert_eq!(bytes("500M"), Some(500_000_000));
    assert_eq!(bytes("10Gi"), Some(10 << 30));
    assert_eq!(bytes("1Ei"), Some(1 << 60));
}

#[test]
fn bytes_that_are_no_whole_positive_number_are_refused() {
    for text in [
        "",
        "0",
        "-1",
        "+1",
        "01",
        "1.5Gi",
        "10GB",
        "1m",
        "Gi",
        "1 Gi",
        "1e9",
        "100Ei",
        "9999999999999999999",
    ] {
        assert_eq!(bytes(text), None, "{text}");
    }
}

#[test]
fn millicores_are_exact() {
    assert_eq!(millicores("250m"), Some(250));
    assert_eq!(millicores("2"), Some(2_000));
    assert_eq!(millicores("0.5"), Some(500));
    assert_eq!(millicores("1.025"), Some(1_025));
    for text in ["", "0", "0m", "0.0", ".5", "1.", "-1", "1.0001", "2k", "1e3"] {
        assert_eq!(millicores(text), None, "{text}");
    }
}

#[test]
fn durations_add_their_units_up() {
    assert_eq!(duration("168h"), Some(Duration::from_hours(168)));
    assert_eq!(duration("1h30m"), Some(Duration::from_mins(90)));
    assert_eq!(duration("1h2m3s4ms"), Some(Duration::from_millis(3_723_004)));
    assert_eq!(duration("999999h9999999m"), Some(Duration::from_mins(999_999 * 60 + 9_999_999)));
}

#[test]
fn durations_with_days_signs_repeats_or_nothing_in_them_are_refused() {
    for text in ["", "7d", "0s", "-1h", "1m1h", "1h1h", "h", "1", "1.5h", "1 h", "1000000h", "Forever"] {
        assert_eq!(duration(text), None, "{text}");
    }
}
