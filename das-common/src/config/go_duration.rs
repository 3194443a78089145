//! Durations as Go writes them: `504h0m0s`, `1.5s`, `100ms`.

use std::time::Duration;

use thiserror::Error;

/// A text that is no duration, or one that an option cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not a sequence of number and unit.
    #[error("is no duration")]
    Malformed,
    /// A number without a unit after it.
    #[error("has a number without a unit")]
    NoUnit,
    /// Below zero.
    #[error("is negative")]
    Negative,
    /// Above what Go's 64-bit nanoseconds hold (about 292 years).
    #[error("is too long")]
    TooLong,
}

/// Nanoseconds of a unit, longest unit names first where one begins with another.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// Longest duration: Go counts nanoseconds in an `i64`.
const MAX_NANOS: u128 = i64::MAX as u128;

/// Parses a duration in Go's syntax: numbers (with fraction) and units `ns us µs ms s m h`, or `0`.
///
/// ```
/// use das_common::config::parse_duration;
/// use std::time::Duration;
/// assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
/// assert_eq!(parse_duration("1.5ms"), Ok(Duration::from_micros(1_500)));
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::Malformed);
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(DurationError::NoUnit);
        }
        let nanos =
            UNITS.iter().find(|(name, _)| *name == unit).map(|(_, n)| *n).ok_or(DurationError::Malformed)?;
        total = total.saturating_add(amount(whole, fraction, nanos)?);
        if total > MAX_NANOS {
            return Err(DurationError::TooLong);
        }
        rest = after;
    }
    if negative && total > 0 {
        return Err(DurationError::Negative);
    }
    Ok(from_nanos(total))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `whole.fraction` units in nanoseconds, the fraction cut off below one nanosecond as Go does.
fn amount(whole: &str, fraction: &str, unit: u128) -> Result<u128, DurationError> {
    let mut value: u128 = 0;
    for digit in whole.bytes() {
        value = value * 10 + u128::from(digit - b'0');
        if value > MAX_NANOS {
            return Err(DurationError::TooLong);
        }
    }
    // 18 digits resolve an hour to far below a nanosecond; further ones cannot change the result.
    let (mut part, mut scale) = (0u128, 1u128);
    for digit in fraction.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    Ok(value * unit + part * unit / scale)
}

fn from_nanos(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / 1_000_000_000).expect("checked against MAX_NANOS");
    let rest = u32::try_from(nanos % 1_000_000_000).expect("a remainder by 1e9");
    Duration::new(seconds, rest)
}

/// Writes a duration as Go does: `0s`, `1.5s`, `2m0s`, `504h0m0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, name) = match nanos {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    let minutes = nanos / 60_000_000_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

/// `value / unit` with as many decimal places as it needs; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let places = format!("{part:0width$}");
    format!("{whole}.{}", places.trim_end_matches('0'))
}
