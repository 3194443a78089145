//! Do the clocks agree? Servers say what time they have in the `Date` of every answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::DATE;

use super::Finding;
use super::member::{Examined, Patient};

/// A server's clock minus ours, in seconds, with the error that travelling and whole seconds bring in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offset {
    pub(super) seconds: f64,
    /// Half of what lies between the earliest and latest instant at which the server can have looked at its clock.
    error: f64,
}

impl Offset {
    /// From an answer that was asked for at `sent` and arrived at `received`.
    pub(super) fn of(headers: &HeaderMap, sent: SystemTime, received: SystemTime) -> Option<Self> {
        let theirs = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
        let (sent, received) = (seconds(sent), seconds(received));
        // The header has whole seconds: its instant is half a second later on average, and some servers renew the header
        // only once a second.
        let error = (received - sent).max(0.0) / 2.0 + 1.0;
        Some(Self { seconds: seconds(theirs) + 0.5 - f64::midpoint(sent, received), error })
    }
}

/// Compares all clocks, ours among them, with their median: with three or more, the odd one out is the wrong one.
pub(super) fn compare(patients: &[Patient], examined: &[Examined], limit: Duration) -> Vec<Finding> {
    const CHECK: &str = "clock";
    let ours = Offset { seconds: 0.0, error: 0.0 };
    let known: Vec<(&str, Offset)> = patients
        .iter()
        .zip(examined)
        .filter_map(|(patient, examined)| Some((patient.name.as_str(), examined.clock?)))
        .chain([("this machine", ours)])
        .collect();
    if known.len() == 1 {
        return vec![Finding::not_checked("this machine", CHECK, "no server said what time it has")];
    }
    let mut sorted: Vec<f64> = known.iter().map(|(_, offset)| offset.seconds).collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let off = |offset: &Offset| (offset.seconds - median).abs() > limit.as_secs_f64() + offset.error;
    let wrong: Vec<Finding> = known
        .iter()
        .filter(|(_, offset)| off(offset))
        .map(|(name, offset)| {
            let difference = offset.seconds - median;
            let word = if difference > 0.0 { "ahead of" } else { "behind" };
            Finding::bad(
                name,
                CHECK,
                format!("{:.0} s {word} the others", difference.abs()),
                "make it follow NTP (chronyd or systemd-timesyncd); stores are refused when clocks differ by minutes, and \
                 expiry stops",
            )
        })
        .collect();
    if wrong.is_empty() {
        let text = format!("{} clocks agree within {} s", known.len(), limit.as_secs());
        return vec![Finding::good("clocks", CHECK, text)];
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::member::Signs;
    use super::*;

    fn verdicts(offsets: &[Option<f64>]) -> Vec<(String, Verdict)> {
        let patient = |i| Patient { name: format!("m{i}"), rpc: None, rest: None, signs: Signs::Unknown };
        let patients: Vec<Patient> = (0..offsets.len()).map(patient).collect();
        let examined: Vec<Examined> = offsets
            .iter()
            .map(|seconds| Examined {
                clock: seconds.map(|seconds| Offset { seconds, error: 1.0 }),
                ..Examined::default()
            })
            .collect();
        let findings = compare(&patients, &examined, Duration::from_secs(10));
        findings.into_iter().map(|finding| (finding.subject, finding.verdict)).collect()
    }

    #[test]
    fn the_odd_one_out_is_named() {
        let bad = |name: &str| vec![(name.to_owned(), Verdict::Bad)];
        let good = vec![("clocks".to_owned(), Verdict::Good)];
        assert_eq!(verdicts(&[Some(0.3), Some(-0.8), Some(9.0)]), good);
        assert_eq!(verdicts(&[Some(0.3), Some(60.0), None]), bad("m1"));
        assert_eq!(verdicts(&[Some(3600.2), Some(3600.0), Some(3599.0)]), bad("this machine"));
        assert_eq!(verdicts(&[None]), [("this machine".to_owned(), Verdict::NotChecked)]);
    }

    #[test]
    fn the_time_on_the_way_is_no_difference() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Wed, 15 Apr 2026 23:59:59 GMT".parse().unwrap());
        let at = |seconds| UNIX_EPOCH + Duration::from_secs_f64(seconds);
        let offset = Offset::of(&headers, at(1_776_297_590.5), at(1_776_297_608.5)).unwrap();
        assert!(offset.seconds.abs() < 1e-3 && (offset.error - 10.0).abs() < 1e-3, "{offset:?}");
        headers.insert(DATE, "yesterday".parse().unwrap());
        assert!(Offset::of(&headers, at(0.0), at(0.0)).is_none());
    }
}
