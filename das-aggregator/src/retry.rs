//! When a member that failed is asked again: pure decisions.
//!
//! Sending a batch again is harmless: a member that has it already signs afresh. What limits it is the load.

use std::time::Duration;

use das_common::rpc_client::CallError;

use crate::collect::MemberFailure;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The connection, the time, an overload: the same request may work a moment later.
    Passing,
    /// The member refused in words that do not say whether it may change its mind (a full disk, say).
    Refused,
    /// The same request will fail in the same way.
    Final,
}

impl Kind {
    /// Of a failure.
    pub fn of(failure: &MemberFailure) -> Self {
        const NEVER: [&str; 5] = [
            "request not properly signed",
            "no signature verification method configured",
            "exceeds current time plus maximum allowed retention",
            "exceeds max int64",
            "does not exist/is not available",
        ];
        const BUSY: [&str; 2] = ["can't start collecting new message: already", "already seen this request"];
        match failure {
            MemberFailure::Call(CallError::Rpc { code, message }) => {
                if *code != -32000 || NEVER.iter().any(|text| message.contains(text)) {
                    Self::Final
                } else if BUSY.iter().any(|text| message.contains(text)) {
                    Self::Passing
                } else {
                    Self::Refused
                }
            }
            MemberFailure::Call(error) if error.is_passing() => Self::Passing,
            MemberFailure::NoAnswer => Self::Passing,
            _ => Self::Final,
        }
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Does the failure count against the quorum now? (A later success still counts for it.)
    pub counts: bool,
    /// The pause before the next attempt; `None`: there is none.
    pub again_after: Option<Duration>,
}

/// How patient to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// The pause after the quick attempts; it doubles from then on.
    pub delay: Duration,
    /// No attempt begins later than this after the first.
    pub total: Duration,
}

/// The attempts with which a failure in passing (a connection that the member had closed, a restart) is overcome
/// before it counts against the quorum.
const QUICK_ATTEMPTS: u32 = 3;
const QUICK_PAUSE: Duration = Duration::from_millis(50);
/// A failure that took this long counts at once: the caller has waited enough for this member.
const QUICK_TIME: Duration = Duration::from_secs(1);
/// A refusal is repeated this often at most.
const REFUSED_ATTEMPTS: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// After failed attempt number `attempt` (from 1), `elapsed` after the first began.
pub fn verdict(kind: Kind, attempt: u32, elapsed: Duration, patience: &Patience) -> Verdict {
    let doubled = |times: u32| patience.delay.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST_PAUSE);
    let quick = kind == Kind::Passing && attempt < QUICK_ATTEMPTS && elapsed < QUICK_TIME;
    let pause = match kind {
        Kind::Final => None,
        Kind::Refused if attempt >= REFUSED_ATTEMPTS => None,
        Kind::Refused => Some(doubled(attempt)),
        Kind::Passing if quick => Some(QUICK_PAUSE * attempt),
        Kind::Passing => Some(doubled(attempt.saturating_sub(QUICK_ATTEMPTS))),
    };
    let again_after = pause.filter(|pause| elapsed + *pause < patience.total);
    Verdict { counts: !quick || again_after.is_none(), again_after }
}

#[cfg(test)]
mod tests {
    use das_common::http::client::{Endpoint, HttpError};
    use proptest::prelude::*;

    use super::*;

    fn rpc(message: &str) -> MemberFailure {
        CallError::Rpc { code: -32000, message: message.to_owned() }.into()
    }

    #[test]
    fn failures_are_told_apart() {
        assert_eq!(Kind::of(&rpc("request not properly signed")), Kind::Final);
        assert_eq!(Kind::of(&rpc("can't start collecting new message: already 10 pending")), Kind::Passing);
        assert_eq!(Kind::of(&rpc("no space left on device")), Kind::Refused);
        assert_eq!(Kind::of(&MemberFailure::BadSignature), Kind::Final);
        let endpoint = Endpoint::parse("http://a").unwrap();
        let refused = HttpError::Connect { endpoint, reason: String::new() };
        assert_eq!(Kind::of(&CallError::from(refused).into()), Kind::Passing);
    }

    #[test]
    fn a_broken_connection_is_tried_again_before_it_counts() {
        let patience = Patience { delay: Duration::from_millis(500), total: Duration::from_secs(600) };
        let mut elapsed = Duration::ZERO;
        let mut counted_at = None;
        for attempt in 1..10 {
            let Verdict { counts, again_after } = verdict(Kind::Passing, attempt, elapsed, &patience);
            if counts && counted_at.is_none() {
                counted_at = Some(elapsed);
            }
            elapsed += again_after.unwrap();
        }
        assert_eq!(counted_at, Some(Duration::from_millis(150)));
        assert!(
            verdict(Kind::Passing, 1, Duration::from_secs(5), &patience).counts,
            "a timeout counts at once"
        );
    }

    proptest! {
        #[test]
        fn attempts_end(
            kind in prop_oneof![Just(Kind::Passing), Just(Kind::Refused), Just(Kind::Final)],
            total in 0_u64..1000
        ) {
            let patience = Patience { delay: Duration::from_millis(500), total: Duration::from_secs(total) };
            let mut elapsed = Duration::ZERO;
            for attempt in 1.. {
                prop_assert!(attempt < 200);
                let Verdict { counts, again_after } = verdict(kind, attempt, elapsed, &patience);
                let Some(pause) = again_after else {
                    prop_assert!(counts, "the last failure counts");
                    break;
                };
                elapsed += pause;
                prop_assert!(elapsed < patience.total);
            }
        }
    }
}
