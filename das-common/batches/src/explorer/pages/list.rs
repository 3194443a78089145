//! Tables of batches.

use maud::{Markup, html};

use super::frame::{Scene, lag};
use super::parts::{ago, batch_path, chain_hash, dots, kind, left, length, payload, size};
use crate::explorer::Explorer;
use crate::explorer::listing::{self, Listing};
use crate::explorer::query::DEFAULT_LIMIT;
use crate::explorer::rosters::Rosters;
use crate::explorer::search::{By, Matches};
use crate::types::PostedBatch;

pub(super) fn page(
    explorer: &Explorer,
    scene: &Scene,
    page: &Listing,
    below: Option<u64>,
    title: &str,
    rosters: &Rosters,
) -> Markup {
    let era = page.era.as_ref().filter(|era| !scene.is_in_force(era.id));
    let newest = match era {
        Some(era) => format!("/?era={}", era.id),
        None => "/".into(),
    };
    html! {
        div.title {
            h1 { (title) @if let Some(era) = era { " " span.pill { "era " (era.id) } } }
            (lag(scene))
        }
        @if page.batches.is_empty() {
            div.card.empty {
                @if below.is_some() { "There are none before." } @else { "No batch was posted yet." }
            }
        } @else {
            div.card.wide { (table(explorer, scene, &page.batches, rosters)) }
        }
        nav.paging aria-label="Pages" {
            @if let (Some(below), Some(era)) = (below, &page.era) {
                a.button href=(newest) { "Newest" }
                a.button href={ "/?before=" (era.id) "." (below.saturating_add(DEFAULT_LIMIT as u64)) } { "← Newer" }
            }
            @if let Some(next) = page.next { a.button href={ "/?before=" (next) } { "Older →" } }
        }
    }
}

fn table(explorer: &Explorer, scene: &Scene, batches: &[PostedBatch], rosters: &Rosters) -> Markup {
    html! {
        table aria-label="Batches" {
            thead {
                tr {
                    th scope="col" { "Batch" }
                    th scope="col" { "Posted" }
                    th.roomy scope="col" { "Posted as" }
                    th.roomy scope="col" { "Signed by" }
                    th.number scope="col" { "Size" }
                    th scope="col" { "Payload" }
                    th.roomy scope="col" { "Kept" }
                    th.roomy scope="col" { "Transaction" }
                }
            }
            tbody { @for batch in batches { (row(explorer, scene, batch, rosters)) } }
        }
    }
}

fn row(explorer: &Explorer, scene: &Scene, batch: &PostedBatch, rosters: &Rosters) -> Markup {
    let certificate = listing::certificate(batch);
    let signers = certificate.as_ref().and_then(|certificate| rosters.signers(certificate));
    html! {
        tr {
            th scope="row" {
                a href=(batch_path(batch.era, batch.number, scene.is_in_force(batch.era))) { (batch.number) }
            }
            td { (ago(batch.timestamp, scene.now)) }
            td.roomy { (kind(&batch.content)) }
            td.roomy {
                @match &certificate {
                    Some(certificate) => (dots(certificate, signers.as_deref())),
                    None => span.quiet { "–" }
                }
            }
            td.number {
                @match length(batch) { Some(length) => (size(length)), None => span.quiet { "–" } }
            }
            td { (payload(&batch.payload)) }
            td.roomy {
                @match &certificate {
                    Some(certificate) => (left(certificate.timeout, scene.now)),
                    None => span.quiet { "–" }
                }
            }
            td.roomy { (chain_hash(&batch.transaction, explorer.links.transaction.as_ref(), false)) }
        }
    }
}

fn means(by: By) -> &'static str {
    match by {
        By::Number => "its number",
        By::DataHash => "its data hash",
        By::Transaction => "its transaction",
        By::Time => "the newest at that time",
    }
}

/// What a search found, unless that is one batch.
pub(super) fn found(explorer: &Explorer, scene: &Scene, text: &str, matches: &Matches) -> Markup {
    html! {
        h1 { "Search" }
        @if matches.found.is_empty() {
            div.card.notice {
                p.why { "No batch is known under " code.hash { (text) } "." }
                p.quiet {
                    "What can be searched for: a batch’s number, the data hash of its certificate, the transaction that "
                    "posted it, or a time, such as 2026-11-23 or 2026-11-23T10:00:00Z."
                }
                p { a.button href="/" { "Newest batches" } }
            }
        } @else {
            p.quiet {
                "Batches for " code.hash { (text) }
                @if matches.more { ", the first " (matches.found.len()) } ":"
            }
            div.card.wide {
                table aria-label="Batches found" {
                    thead {
                        tr {
                            th scope="col" { "Batch" }
                            th scope="col" { "Era" }
                            th scope="col" { "Found by" }
                            th scope="col" { "Posted" }
                            th.roomy scope="col" { "Posted as" }
                            th.roomy scope="col" { "Transaction" }
                        }
                    }
                    tbody {
                        @for (by, batch) in &matches.found {
                            tr {
                                th scope="row" {
                                    a href=(batch_path(batch.era, batch.number, scene.is_in_force(batch.era))) {
                                        (batch.number)
                                    }
                                }
                                td { (batch.era) }
                                td { (means(*by)) }
                                td { (ago(batch.timestamp, scene.now)) }
                                td.roomy { (kind(&batch.content)) }
                                td.roomy {
                                    (chain_hash(&batch.transaction, explorer.links.transaction.as_ref(), false))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
