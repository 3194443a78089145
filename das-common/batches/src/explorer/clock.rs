//! Times as people write and read them; all of them UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// Characters of a date.
const DATE: usize = 10;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const FEW_HOURS: u64 = 10 * HOUR;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

/// Unix seconds from digits, RFC 3339, a date alone (its first second), or what [`shown`] gives.
pub(super) fn parse(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let mut text = match text.strip_suffix(" UTC") {
        Some(time) => format!("{time}Z"),
        None if text.len() == DATE => format!("{text}T00:00:00Z"),
        None => text.to_owned(),
    };
    if text.as_bytes().get(DATE) == Some(&b' ') {
        text.replace_range(DATE..=DATE, "T");
    }
    // The plus sign of an offset that was not encoded has become a space on the way.
    let time = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp()).ok()
}

fn at(seconds: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
}

/// In the form that machines read; none for a time after the year 9999.
pub(super) fn rfc3339(seconds: u64) -> Option<String> {
    at(seconds)?.to_offset(UtcOffset::UTC).format(&Rfc3339).ok()
}

/// In a form for people.
pub(super) fn shown(seconds: u64) -> String {
    match at(seconds) {
        Some(t) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        ),
        None => format!("second {seconds}, after the year 9999"),
    }
}

/// How long ago or ahead a time is, roughly.
pub(super) fn distance(seconds: u64, now: u64) -> String {
    let apart = seconds.abs_diff(now);
    let span = span(apart);
    match (apart, seconds > now) {
        (0..=1, _) => "now".into(),
        (_, true) => format!("in {span}"),
        (_, false) => format!("{span} ago"),
    }
}

/// A length of time, roughly: the second unit is only said where it still says something.
pub(super) fn span(seconds: u64) -> String {
    let days = |days: u64| format!("{days} day{}", if days == 1 { "" } else { "s" });
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..FEW_HOURS if seconds % HOUR >= MINUTE => {
            format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE)
        }
        HOUR..DAY => format!("{} h", seconds / HOUR),
        _ if seconds < 3 * DAY && seconds % DAY >= HOUR => {
            format!("{} {} h", days(seconds / DAY), seconds % DAY / HOUR)
        }
        _ if seconds < 10 * YEAR => days(seconds / DAY),
        _ => format!("{} years", seconds / YEAR),
    }
}
