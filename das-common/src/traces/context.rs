//! The header `traceparent` of W3C Trace Context.
//!
//! ```text
//! version "-" trace id "-" parent id "-" flags      each in lower-case hex: 2, 32, 16 and 2 digits
//! ```

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The header's name.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Length of version 00. Later versions may have more after it.
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

/// The caller's span. What is malformed, or there more than once, counts as not there.
pub(super) fn from_headers(headers: &HeaderMap) -> Option<SpanContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let text = given.next()?.to_str().ok()?;
    if given.next().is_some() {
        return None;
    }
    parse(text)
}

fn parse(text: &str) -> Option<SpanContext> {
    let (head, rest) = text.split_at_checked(LENGTH)?;
    let mut parts = head.split('-');
    let version = hex(parts.next()?, 2)?;
    let later_version = version > 0 && version < 0xff;
    if !(version == 0 && rest.is_empty() || later_version && (rest.is_empty() || rest.starts_with('-'))) {
        return None;
    }
    let trace = TraceId::from(hex(parts.next()?, 32)?);
    let span = SpanId::from(u64::try_from(hex(parts.next()?, 16)?).ok()?);
    let flags = TraceFlags::new(u8::try_from(hex(parts.next()?, 2)?).ok()?);
    let context = SpanContext::new(trace, span, flags & TraceFlags::SAMPLED, true, TraceState::NONE);
    (parts.next().is_none() && context.is_valid()).then_some(context)
}

/// So many digits, none of them a capital.
fn hex(digits: &str, count: usize) -> Option<u128> {
    let right = digits.len() == count && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    right.then(|| u128::from_str_radix(digits, 16).ok())?
}

/// What a callee is told.
pub(super) fn to_header(context: &SpanContext) -> Option<HeaderValue> {
    let text = format!(
        "00-{:032x}-{:016x}-{:02x}",
        u128::from_be_bytes(context.trace_id().to_bytes()),
        u64::from_be_bytes(context.span_id().to_bytes()),
        context.trace_flags().to_u8() & 1
    );
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn malformed_parents_count_as_none() {
        let parsed = parse(GOOD).unwrap();
        assert_eq!(parsed.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parsed.span_id().to_string(), "00f067aa0ba902b7");
        assert!(parsed.is_sampled() && parsed.is_remote());
        assert!(!parse(&GOOD.replace("-01", "-00")).unwrap().is_sampled());
        let later = GOOD.replacen("00-", "cc-", 1);
        assert!(parse(&later).is_some());
        assert!(parse(&format!("{later}-more")).is_some());
        for wrong in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("{GOOD}0"),
            &format!("{later}more"),
            &GOOD.replacen("00-", "ff-", 1),
            &GOOD.to_uppercase(),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace('-', "_"),
            &GOOD.replace("4b", "+b"),
            "é0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
        let mut twice = HeaderMap::new();
        twice.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(from_headers(&twice).is_some());
        twice.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(from_headers(&twice).is_none());
    }

    proptest! {
        #[test]
        fn what_is_told_is_understood(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
            let told = SpanContext::new(trace.into(), span.into(), flags, true, TraceState::NONE);
            prop_assert_eq!(parse(to_header(&told).unwrap().to_str().unwrap()), Some(told));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,80}", near in "[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}.?") {
            let _ = (parse(&text), parse(&near));
        }
    }
}
