//! Small pieces that several pages have.

use alloy_primitives::B256;
use das_common::certificate::Certificate;
use maud::{Markup, html};

use super::links::LinkTemplate;
use crate::explorer::clock;
use crate::explorer::rosters::SignerShape;
use crate::types::{Content, Payload, PostedBatch};

/// Signers shown as dots; more are only counted.
const MAX_DOTS: usize = 16;

pub(super) fn batch_path(era: u32, number: u64, in_force: bool) -> String {
    if in_force { format!("/batch/{number}") } else { format!("/batch/{number}?era={era}") }
}

/// The same batch's list of checks.
pub(super) fn verify_path(era: u32, number: u64, in_force: bool) -> String {
    if in_force { format!("/batch/{number}/verify") } else { format!("/batch/{number}/verify?era={era}") }
}

/// How long ago, with the time itself for those who point at it.
pub(super) fn ago(time: u64, now: u64) -> Markup {
    html! {
        time datetime=[clock::rfc3339(time)] title=(clock::shown(time)) { (clock::distance(time, now)) }
    }
}

/// For how long something lasts yet.
pub(super) fn left(until: u64, now: u64) -> Markup {
    html! {
        time datetime=[clock::rfc3339(until)] title=(clock::shown(until)) {
            @match until.checked_sub(now).filter(|left| *left > 0) {
                Some(left) => { (clock::span(left)) " more" }
                None => span.quiet { "no more" }
            }
        }
    }
}

/// The time, and how long ago that is.
pub(super) fn moment(time: u64, now: u64) -> Markup {
    html! {
        time datetime=[clock::rfc3339(time)] { (clock::shown(time)) }
        " " span.quiet { "(" (clock::distance(time, now)) ")" }
    }
}

/// The beginning and the end of a hash.
pub(super) fn short(hash: &str) -> Markup {
    let (head, tail) = (hash.get(..8).unwrap_or(hash), hash.get(hash.len().saturating_sub(4)..));
    html! { code.hash title=(hash) { (head) "…" (tail.unwrap_or_default()) } }
}

/// A hash of the parent chain, linked when there is somewhere to link to.
pub(super) fn chain_hash(hash: &B256, link: Option<&LinkTemplate>, whole: bool) -> Markup {
    let text = hash.to_string();
    let shown = if whole {
        html! { code.hash { (text) } }
    } else {
        short(&text)
    };
    match link {
        Some(link) => html! { a href=(link.of(hash)) rel="noopener noreferrer nofollow" { (shown) } },
        None => shown,
    }
}

/// A length, in a unit that suits it.
pub(super) fn size(bytes: u64) -> Markup {
    html! { span title={ (grouped(bytes)) " bytes" } { (rounded(bytes)) } }
}

fn rounded(bytes: u64) -> String {
    let tenths = |unit: u64, name: &str| format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => tenths(1_000, "kB"),
        1_000_000..1_000_000_000 => tenths(1_000_000, "MB"),
        _ => tenths(1_000_000_000, "GB"),
    }
}

/// Digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// What a batch consists of, in a word or two.
pub(super) fn kind(content: &Content) -> &'static str {
    match content {
        Content::Certificate(_) => "certificate",
        Content::Data { .. } => "data on chain",
        Content::Nothing => "no data",
        Content::Blobs => "blobs",
        Content::Unreadable(_) => "unreadable",
    }
}

/// Bytes of the batch, if they are known.
pub(super) fn length(batch: &PostedBatch) -> Option<u64> {
    match (&batch.payload, &batch.content) {
        (Payload::Fetched { length }, _) | (_, Content::Data { length, .. }) => Some(*length),
        _ => None,
    }
}

/// What became of the payload here.
pub(super) fn payload(payload: &Payload) -> Markup {
    match payload {
        Payload::None => html! { span.quiet { "–" } },
        Payload::Waiting { why: None, .. } => html! { span.pill.waits { "waiting" } },
        Payload::Waiting { why: Some(why), .. } => html! { span.pill.waits title=(why) { "trying again" } },
        Payload::Fetched { .. } => html! { span.pill.good { "fetched" } },
        Payload::Ignored { why } => html! { span.pill.bad title=(why) { "ignored" } },
    }
}

/// How many signed, at a glance.
pub(super) fn dots(certificate: &Certificate, signers: Option<&[SignerShape]>) -> Markup {
    let Some(signers) = signers else {
        return html! { span title="the keyset is not known now" { (certificate.signers_mask.count_ones()) } };
    };
    let signed = signers.iter().filter(|signer| signer.signed).count();
    html! {
        span.nowrap {
            @if signers.len() <= MAX_DOTS {
                span.dots aria-hidden="true" {
                    @for signer in signers {
                        @if signer.signed { i.on title=(signer.name) {} } @else { i title=(signer.name) {} }
                    }
                }
                " "
            }
            span { (signed) "/" (signers.len()) }
        }
    }
}
