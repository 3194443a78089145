//! What every page has around its contents.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::STYLE;
use super::parts::{ago, grouped};
use crate::explorer::query::MAX_LENGTH;
use crate::explorer::refusal::Refusal;
use crate::explorer::{clock, shapes};
use crate::types::{Away, Batches, Era, Progress};

/// For how long a reset is news (seconds).
const NEWS: u64 = 7 * 24 * 3600;
/// Blocks behind the head that are nothing to speak of.
const CLOSE: u64 = 20;
/// Eras that are linked; all of them are in the API.
const MAX_LINKED: usize = 12;

/// The state of the chain, as the pages show it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) now: u64,
    pub(super) progress: Progress,
    pub(super) away: Option<Away>,
    /// The newest first.
    pub(super) eras: Vec<Era>,
    /// The one that this page is about.
    pub(super) era: Option<Era>,
}

impl Scene {
    pub(super) fn of(batches: &dyn Batches, era: Option<Era>) -> Result<Self, Refusal> {
        Ok(Self {
            now: clock::now(),
            progress: batches.progress(),
            away: batches.away(),
            eras: batches.eras()?,
            era,
        })
    }

    /// The era that a path without one means.
    fn in_force(&self) -> Option<u32> {
        self.progress.era.or(self.eras.first().map(|era| era.id))
    }

    pub(super) fn is_in_force(&self, era: u32) -> bool {
        self.in_force() == Some(era)
    }
}

/// A page about what the chain has.
pub(super) fn page(title: &str, scene: &Scene, q: &str, body: &Markup) -> Markup {
    let framed = html! {
        (banners(scene))
        (body)
        footer { (status(scene)) }
    };
    document(title, q, &framed)
}

/// A page that says that there is none.
pub(super) fn bare(title: &str, body: &Markup) -> Markup {
    document(title, "", body)
}

fn document(title: &str, q: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex, nofollow";
                meta name="color-scheme" content="light dark";
                title { (title) " · Batch explorer" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    a.home href="/" { span.mark aria-hidden="true" { i {} i {} i {} } "Batch explorer" }
                    form action="/search" method="get" role="search" {
                        label.hidden for="q" { "Search for a batch" }
                        input #q name="q" type="search" value=(q) maxlength=(MAX_LENGTH) required
                            autocomplete="off" spellcheck="false"
                            placeholder="Number, data hash, transaction or time";
                        button type="submit" { "Search" }
                    }
                }
                main { (body) }
            }
        }
    }
}

fn banners(scene: &Scene) -> Markup {
    html! {
        @if let Some(away) = &scene.away {
            div.banner.bad role="status" {
                strong { "The parent chain cannot be read." }
                " It last answered " (ago(away.since, scene.now)) "; what is shown here may be out of date. "
                span.why { (away.why) }
            }
        }
        @match &scene.era {
            None => div.banner role="status" { "Nothing was read from the parent chain yet." }
            Some(era) if !scene.is_in_force(era.id) => {
                div.banner.warn role="status" {
                    strong { "This is era " (era.id) ", which is over." }
                    @if let Some(ended) = era.ended { " The chain was reset " (ago(ended, scene.now)) "." }
                    " " a href="/" { "Go to the chain as it is now" }
                }
            }
            Some(era) => @if let Some(before) = reset_from(scene, era) {
                div.banner.warn role="status" {
                    strong { "The chain was reset " (ago(era.began, scene.now)) "." }
                    " What it had before is in " a href={ "/?era=" (before) } { "era " (before) } "."
                }
            }
        }
    }
}

/// The era before, while its end is news.
fn reset_from(scene: &Scene, era: &Era) -> Option<u32> {
    let before = scene.eras.iter().find(|other| other.id < era.id)?;
    (scene.now.saturating_sub(era.began) < NEWS).then_some(before.id)
}

/// Whether what is shown is what the chain has, at a glance.
pub(super) fn lag(scene: &Scene) -> Markup {
    let of_now = scene.era.as_ref().is_some_and(|era| scene.is_in_force(era.id));
    match shapes::behind(&scene.progress) {
        _ if !of_now => html! {},
        _ if scene.away.is_some() => html! { span.pill.bad { "chain away" } },
        None => html! { span.pill.waits { "starting" } },
        Some(0) => html! { span.pill.good { "at the head of the chain" } },
        Some(behind @ ..=CLOSE) => html! {
            span.pill.good { (behind) @if behind == 1 { " block" } @else { " blocks" } " behind the head" }
        },
        Some(behind) => html! { span.pill.waits { "catching up, " (grouped(behind)) " blocks behind" } },
    }
}

fn status(scene: &Scene) -> Markup {
    let of_now = scene.era.as_ref().is_some_and(|era| scene.is_in_force(era.id));
    html! {
        @if of_now { (following(&scene.progress)) }
        @if let Some(era) = &scene.era {
            span { "chain " b { (era.chain_id) } ", contract " code.hash { (era.inbox) } }
            @if scene.eras.len() > 1 {
                nav aria-label="Eras" {
                    "Eras: "
                    @for other in scene.eras.iter().take(MAX_LINKED) {
                        @if other.id == era.id {
                            b aria-current="true" { (other.id) }
                        } @else {
                            a href={ "/?era=" (other.id) } { (other.id) }
                        }
                        " "
                    }
                }
            }
        }
        span { "as of " (clock::shown(scene.now)) }
    }
}

fn following(progress: &Progress) -> Markup {
    html! {
        @if let Some(at) = progress.at { span { "read to block " b { (grouped(at.number)) } } }
        @if let (Some(head), Some(behind)) = (progress.head, shapes::behind(progress)) {
            span {
                "head " b { (grouped(head)) }
                @if behind > 0 { ", " (grouped(behind)) " behind" } @else { ", nothing behind" }
            }
        }
        span { b { (grouped(progress.batches)) } @if progress.batches == 1 { " batch" } @else { " batches" } }
        @if progress.waiting > 0 {
            span {
                b { (grouped(progress.waiting)) } " waiting for payloads"
                @if progress.failing > 0 { ", " (grouped(progress.failing)) " of them in vain so far" }
            }
        }
    }
}
