//! Quantities and durations as they stand in manifests, turned into numbers.
//!
//! Owns: the parsing of what the CEL rules have let through, to the same bounds. Never: floats; a size is exact.

use std::time::Duration;

/// The number of bytes that a quantity says, such as `10Gi` or `500M`. `None` if it is not a positive whole number of
/// bytes with a suffix of `k M G T P E` or `Ki Mi Gi Ti Pi Ei`, or does not fit 64 bits.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    // As in the rule: no leading zero, at most 18 digits.
    if number.is_empty() || number.starts_with('0') || number.len() > 18 {
        return None;
    }
    let unit: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "E" => 1_000_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The thousandths of a core that a quantity says, such as `2`, `0.5` or `250m`. `None` if it is not positive or finer
/// than a thousandth.
pub fn millicores(text: &str) -> Option<u64> {
    let thousandths = if let Some(number) = text.strip_suffix('m') {
        digits(number, 9)?
    } else {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        if fraction.is_empty() || fraction.len() > 3 {
            return None;
        }
        digits(whole, 6)? * 1_000 + digits(&format!("{fraction:0<3}"), 3)?
    };
    (thousandths > 0).then_some(thousandths)
}

/// The time that a text such as `168h`, `1h30m` or `90s` says: hours, minutes, seconds and `ms`, in this order, each at
/// most once. `None` if it is anything else, or nothing at all, or zero.
pub fn duration(text: &str) -> Option<Duration> {
    // The unit, its milliseconds, and how many digits the rule allows before it.
    const UNITS: [(&str, u64, usize); 4] =
        [("h", 3_600_000, 6), ("m", 60_000, 7), ("s", 1_000, 9), ("ms", 1, 9)];
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut millis = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (unit, below) = after.split_at(after.bytes().take_while(u8::is_ascii_lowercase).count());
        let (_, each, length) = units.find(|(name, ..)| *name == unit)?;
        // At most 10^9 minutes and hours each: far from 64 bits.
        millis += digits(number, *length)? * each;
        rest = below;
    }
    (millis > 0).then(|| Duration::from_millis(millis))
}

fn digits(text: &str, length_max: usize) -> Option<u64> {
    let whole =
        !text.is_empty() && text.len() <= length_max && text.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
#[path = "quantity_tests.rs"]
mod tests;
