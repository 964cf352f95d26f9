//! Patterns of topics' names.

use fulmar_core::control::table::TOPIC_NAME_BYTES_MAX;
use fulmar_core::pattern::Pattern;

/// A pattern on the first line, the name of a topic on the second.
pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(parsed) = Pattern::parse(pattern) else { return };
    assert_eq!(parsed.is_some(), pattern.contains(['*', '>']), "what has neither is a name");
    let Some(parsed) = parsed else { return };
    assert!(pattern.len() <= TOPIC_NAME_BYTES_MAX, "longer than any name: it fits nothing");
    if parsed.fits(name) {
        let (words, of_name) = (pattern.split('.').count(), name.split('.').count());
        let is_open = pattern.ends_with('>');
        assert!(of_name == words || (is_open && of_name > words), "{pattern:?} fits {name:?}");
    }
}

pub(super) fn examples() -> Vec<Vec<u8>> {
    ["orders.*\norders.eu", "orders.>\norders.eu.west", ">\norders", "*.eu.>\norders.eu.west"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}
