//! The query of a URL, strictly: nothing is guessed, so that what a script sends by mistake is not published.

use std::collections::BTreeMap;

use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{Earliest, Latest};

use super::super::error::Failure;

/// Names and values. `+` is a space, `%XX` a byte; what is no UTF-8 then, no such parameter, or there twice is refused by
/// its name.
pub(super) fn parse(
    query: &str,
    allowed: &'static [&'static str],
) -> Result<BTreeMap<&'static str, String>, Failure> {
    let mut values = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = decode(name).ok().and_then(|name| allowed.iter().find(|known| **known == name));
        let Some(known) = known else {
            let message = format!("{name}: there is no such parameter; there are {}", allowed.join(", "));
            return Err(Failure::invalid("query", message));
        };
        let value = decode(value).map_err(|what| Failure::invalid(known, format!("{known}: {what}")))?;
        if values.insert(*known, value).is_some() {
            return Err(Failure::invalid(known, format!("{known}: it is there twice")));
        }
    }
    Ok(values)
}

/// A number of four bytes.
pub(super) fn number(name: &'static str, text: &str) -> Result<u32, Failure> {
    let wrong = |_| Failure::invalid(name, format!("{name}: a number from 0 on, not {text:?}"));
    text.parse().map_err(wrong)
}

/// From 1 to so many.
pub(super) fn count(
    name: &'static str,
    text: Option<&str>,
    default: usize,
    most: usize,
) -> Result<usize, Failure> {
    let Some(text) = text else { return Ok(default) };
    let wrong = || Failure::invalid(name, format!("{name}: a number from 1 to {most}, not {text:?}"));
    text.parse().ok().filter(|count| (1..=most).contains(count)).ok_or_else(wrong)
}

/// `earliest`, `latest` or an offset.
pub(super) fn start(name: &'static str, text: &str) -> Result<At, Failure> {
    let wrong = |_| Failure::invalid(name, format!("{name}: earliest, latest or an offset, not {text:?}"));
    match text {
        "earliest" => Ok(At::Earliest(Earliest {})),
        "latest" => Ok(At::Latest(Latest {})),
        offset => offset.parse().map(At::Offset).map_err(wrong),
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, left) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, left @ ..]) => {
                (hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low).ok_or_else(|| bad(rest))?, left)
            }
            (b'%', _) => return Err(bad(rest)),
            (byte, _) => (*byte, after),
        };
        bytes.push(byte);
        rest = left;
    }
    let at = |error: std::string::FromUtf8Error| {
        format!(
            "byte {} of it is no UTF-8 (0x{:02x}); bytes that are no text are published by gRPC, or as the body of a POST",
            error.utf8_error().valid_up_to(),
            error.as_bytes()[error.utf8_error().valid_up_to()]
        )
    };
    String::from_utf8(bytes).map_err(at)
}

fn bad(rest: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&rest[..rest.len().min(3)]).into_owned();
    format!("{shown} is no percent-encoded byte; a percent sign itself is %25")
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
