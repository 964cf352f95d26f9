use proptest::prelude::*;

use super::Pattern;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap().unwrap()
}

#[test]
fn a_name_is_no_pattern() {
    for name in ["orders", "orders.v1", "a-b_c.D", "..", ""] {
        assert_eq!(Pattern::parse(name), Ok(None));
    }
}

#[test]
fn a_star_is_one_word_and_an_arrow_one_or_more() {
    for (text, fits, fits_not) in [
        (
            "orders.*",
            &["orders.eu", "orders.v-1"][..],
            &["orders", "orders.eu.1", "order.eu", "ordersx.eu"][..],
        ),
        ("*.created", &["orders.created"], &["created", "a.b.created", "orders.created.x"]),
        ("sensors.>", &["sensors.a", "sensors.a.b.c"], &["sensors", "sensor.a", "x.sensors.a"]),
        ("*.>", &["a.b", "a.b.c"], &["a"]),
        ("*", &["a"], &["a.b"]),
        (">", &["a", "a.b"], &[]),
        ("a.*.c", &["a.b.c"], &["a.c", "a.b.b.c"]),
    ] {
        let pattern = pattern(text);
        assert!(fits.iter().all(|name| pattern.fits(name)), "{text} {fits:?}");
        assert!(!fits_not.iter().any(|name| pattern.fits(name)), "{text} {fits_not:?}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_what_is_allowed() {
    for text in ["orders*", "orders.*x", "a.>.b", ">a", "a>", "a..*", ".*", "*.", "*.>.", "a.**", ".>"] {
        let refused = Pattern::parse(text).unwrap_err().to_string();
        assert!(refused.contains(&format!("{text:?} is no pattern: *")), "{refused}");
    }
}

#[test]
fn what_is_longer_than_any_name_is_refused_and_not_repeated() {
    let longest = format!("{}*", "a.".repeat(124));
    assert_eq!(longest.len(), 249);
    assert!(pattern(&longest).fits(&longest.replace('*', "b")));
    let refused = Pattern::parse(&format!("a{longest}")).unwrap_err().to_string();
    assert_eq!(refused, "a pattern has at most 249 bytes, as names of topics have, and this one has 250");
}

proptest! {
    #[test]
    fn words_behind_dots_decide(name in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}", text in "([a-c]{1,2}|\\*)(\\.([a-c]{1,2}|\\*)){0,3}(\\.>)?") {
        if let Ok(Some(pattern)) = Pattern::parse(&text) {
            let names: Vec<&str> = name.split('.').collect();
            let words: Vec<&str> = text.split('.').collect();
            let (words, is_open) = match words.split_last() {
                Some((&">", words)) => (words, true),
                _ => (&words[..], false),
            };
            let fits = (if is_open { names.len() > words.len() } else { names.len() == words.len() })
                && words.iter().zip(&names).all(|(word, name)| *word == "*" || word == name);
            prop_assert_eq!(pattern.fits(&name), fits);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,40}", name in ".{0,40}") {
        if let Ok(Some(pattern)) = Pattern::parse(&text) {
            pattern.fits(&name);
        }
    }
}
