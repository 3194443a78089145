//! Which requests are traced.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

/// A share of all traces, chosen by their ids: processes with the same share choose the same traces, without having to
/// believe each other.
#[derive(Debug, Clone)]
pub(super) struct ByTraceId {
    /// A trace is chosen when the last 63 bits of its id are below.
    bound: u64,
    follow_callers: bool,
}

impl ByTraceId {
    pub(super) fn new(ratio: f64, follow_callers: bool) -> Self {
        let bound = (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self { bound, follow_callers }
    }

    fn chooses(&self, trace: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace.to_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.bound
    }
}

impl ShouldSample for ByTraceId {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|context| context.span().span_context().clone());
        let chosen = match parent.filter(opentelemetry::trace::SpanContext::is_valid) {
            Some(parent) if !parent.is_remote() => parent.is_sampled(),
            Some(parent) if self.follow_callers => parent.is_sampled(),
            _ => self.chooses(trace),
        };
        let decision = if chosen { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::NONE }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags};

    use super::*;

    fn decides(sampler: &ByTraceId, parent: Option<(bool, bool)>, trace: TraceId) -> bool {
        let context = parent.map(|(remote, sampled)| {
            let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
            let of = SpanContext::new(trace, SpanId::from(1), flags, remote, TraceState::NONE);
            Context::new().with_remote_span_context(of)
        });
        let result = sampler.should_sample(context.as_ref(), trace, "", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn callers_choose_only_where_they_are_followed() {
        let (never, always) = (ByTraceId::new(0.0, false), ByTraceId::new(1.0, false));
        let trace = TraceId::from(u128::MAX);
        assert!(!decides(&never, None, trace) && decides(&always, None, trace));
        assert!(!decides(&never, Some((true, true)), trace), "a stranger's wish");
        assert!(decides(&always, Some((true, false)), trace));
        assert!(decides(&never, Some((false, true)), trace), "a part of a trace that is made");
        assert!(!decides(&always, Some((false, false)), trace));
        let follower = ByTraceId::new(0.0, true);
        assert!(
            decides(&follower, Some((true, true)), trace) && !decides(&follower, Some((true, false)), trace)
        );
    }

    #[test]
    fn the_share_is_kept_and_every_process_chooses_alike() {
        let (one, other) = (ByTraceId::new(0.25, false), ByTraceId::new(0.25, false));
        let seed: u64 = rand::random();
        let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
        let traces: Vec<TraceId> =
            (0..10_000).map(|_| TraceId::from(rand::Rng::random::<u128>(&mut random))).collect();
        let chosen = traces.iter().filter(|trace| one.chooses(**trace)).count();
        assert!((2_200..2_800).contains(&chosen), "{chosen} of 10 000, seed {seed}");
        assert!(traces.iter().all(|trace| one.chooses(*trace) == other.chooses(*trace)));
    }
}
