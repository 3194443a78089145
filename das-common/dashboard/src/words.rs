//! Numbers and times as people read them.

use time::OffsetDateTime;

/// `14:03:59`, in UTC.
pub fn clock(unix: u64) -> String {
    at(unix).map_or_else(far, |t| format!("{:02}:{:02}:{:02}", t.hour(), t.minute(), t.second()))
}

/// `2026-01-31 14:03:59 UTC`.
pub fn moment(unix: u64) -> String {
    at(unix).map_or_else(far, |t| {
        let (month, hour, minute, second) = (u8::from(t.month()), t.hour(), t.minute(), t.second());
        format!("{}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", t.year(), t.day())
    })
}

fn at(unix: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(unix).ok()?).ok()
}

fn far() -> String {
    "far away".to_owned()
}

/// `just now`, `12 s ago`, `3 h ago`.
pub fn ago(unix: u64, now: u64) -> String {
    match now.saturating_sub(unix) {
        0..=1 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

/// A span of time in its two largest units: `3 h 20 min`.
pub fn span(seconds: u64) -> String {
    let two = |large: u64, name: &str, small: u64, small_name: &str| match small {
        0 => format!("{large} {name}"),
        small => format!("{large} {name} {small} {small_name}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// Bytes in a unit that suits them: `1.2 GB`.
pub fn bytes(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes.max(0.0), 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.5 {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// Milliseconds: `0.25 ms`, `12 ms`, `1.5 s`.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms >= 10.0 => format!("{ms:.0} ms"),
        ms if ms >= 1.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

/// A number with as many digits as matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        n if n >= 100.0 || n == n.trunc() => format!("{value:.0}"),
        n if n >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A share as percent: `100 %`, `99.6 %`. What is not all is never said to be all.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        all if share >= 1.0 => format!("{all:.0} %"),
        most if most > 99.9 => "99.9 %".to_owned(),
        some => format!("{some:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_short_and_true() {
        assert_eq!(
            (span(59), span(60), span(3_720), span(90_000)),
            ("59 s".into(), "1 min".into(), "1 h 2 min".into(), "1 d 1 h".into())
        );
        assert_eq!(
            (bytes(999.0), bytes(999_600.0), bytes(1.5e9)),
            ("999 B".into(), "1.0 MB".into(), "1.5 GB".into())
        );
        assert_eq!(
            (percent(1.0), percent(0.9999), percent(0.5)),
            ("100 %".into(), "99.9 %".into(), "50.0 %".into())
        );
        assert_eq!(
            (milliseconds(0.254), milliseconds(12.4), milliseconds(2_540.0)),
            ("0.25 ms".into(), "12 ms".into(), "2.5 s".into())
        );
        assert_eq!((moment(0), clock(86_399)), ("1970-01-01 00:00:00 UTC".into(), "23:59:59".into()));
        assert_eq!(ago(5, 3), "just now");
        assert_eq!(moment(u64::MAX), "far away");
    }
}
