//! The list of checks on a batch.

use maud::{Markup, html};

use super::frame::Scene;
use super::parts::{batch_path, verify_path};
use crate::explorer::clock;
use crate::explorer::verify::{Check, State, Verdict, Verification};
use crate::types::PostedBatch;

fn heading(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Valid => ("verdict good", "Valid"),
        Verdict::Ignored => ("verdict bad", "Ignored"),
        Verdict::Blocked => ("verdict bad", "Blocked"),
        Verdict::Unknown => ("verdict waits", "Cannot be told"),
    }
}

pub(super) fn page(scene: &Scene, batch: &PostedBatch, verification: &Verification) -> Markup {
    let in_force = scene.is_in_force(batch.era);
    let (class, word) = heading(verification.verdict);
    html! {
        div.title {
            h1 { "Batch " (batch.number) ", checked" @if !in_force { " " span.pill { "era " (batch.era) } } }
        }
        section class={ "card " (class) } role="status" {
            h2 { (word) }
            p { (verification.verdict.means()) }
        }
        section.card {
            h2 { "Checks, in the order in which every node makes them" }
            ol.checks { @for check in &verification.checks { (one(check)) } }
            p.quiet { "Done at " (clock::shown(verification.at)) ", with what this server was given by the chain and by the committee." }
            p.actions {
                a.button href=(batch_path(batch.era, batch.number, in_force)) { "Back to the batch" }
                a.button href=(verify_path(batch.era, batch.number, in_force)) rel="nofollow" { "Check again" }
            }
        }
    }
}

fn one(check: &Check) -> Markup {
    let (class, mark) = match check.state {
        State::Passed => ("good", "✓"),
        State::Failed => ("bad", "✗"),
        State::Unknown => ("waits", "?"),
        State::Skipped => ("skipped", "·"),
    };
    html! {
        li class=(class) {
            span.tick aria-hidden="true" { (mark) }
            div {
                b { (check.step.title()) } " " span.state { (check.state.name()) }
                @if !check.why.is_empty() { br; span.detail { (check.why) } }
            }
        }
    }
}
