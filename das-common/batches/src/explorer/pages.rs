//! The routes for people: pages that need nothing but themselves.
//!
//! Templates escape whatever they are given; nothing is ever marked as escaped already except the stylesheet, which is a
//! constant.

mod batch;
mod frame;
mod links;
mod list;
mod parts;
mod verdict;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::listing::{self, Window};
use super::query::{self, BadParameter, DEFAULT_LIMIT, Query, Segment};
use super::refusal::Refusal;
use super::rosters::Rosters;
use super::search::{self, Wanted};
use super::{Explorer, answer, verify as checks};
use crate::types::Content;
use frame::Scene;
pub use links::{BadLink, LinkTemplate, Links};
use parts::batch_path;

/// The one stylesheet.
pub(super) const STYLE: &str = include_str!("pages/style.css");

type Answer = Result<Response, Refusal>;

pub(super) async fn newest(State(explorer): State<Arc<Explorer>>, RawQuery(raw): RawQuery) -> Answer {
    let (era, below) = Query::parse(raw.as_deref(), &["era", "before"])?.before()?;
    let window = Window { era, below, limit: DEFAULT_LIMIT, ..Window::default() };
    let (page, scene) = explorer
        .read(move |batches| {
            let page = listing::list(batches, &window)?;
            let scene = Scene::of(batches, page.era.clone())?;
            Ok((page, scene))
        })
        .await?;
    let rosters = Rosters::of(&explorer, &page.batches).await;
    let title = match below {
        Some(below) => format!("Batches before {below}"),
        None => "Newest batches".into(),
    };
    let body = list::page(&explorer, &scene, &page, below, &title, &rosters);
    answer::html(&explorer, frame::page(&title, &scene, "", &body)).await
}

pub(super) async fn batch(
    State(explorer): State<Arc<Explorer>>,
    path: Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let number = query::number_of(path)?;
    let era = Query::parse(raw.as_deref(), &["era"])?.era()?;
    let (batch, scene) = one(&explorer, era, number).await?;
    let asked = async {
        match listing::certificate(&batch) {
            Some(certificate) => Some(checks::availability(&explorer, &certificate).await),
            None => None,
        }
    };
    // Either may be slow where others do not answer.
    let (rosters, asked) = tokio::join!(Rosters::of(&explorer, std::slice::from_ref(&batch)), asked);
    let body = batch::page(&explorer, &scene, &batch, &rosters, asked.as_ref());
    answer::html(&explorer, frame::page(&format!("Batch {number}"), &scene, "", &body)).await
}

pub(super) async fn verify(
    State(explorer): State<Arc<Explorer>>,
    path: Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let number = query::number_of(path)?;
    let era = Query::parse(raw.as_deref(), &["era"])?.era()?;
    let (batch, scene) = one(&explorer, era, number).await?;
    let Content::Certificate(posted) = &batch.content else {
        return Err(Refusal::NoCertificate { era: batch.era, number });
    };
    let verification = checks::verify(&explorer, posted, &batch.bounds).await?;
    let body = verdict::page(&scene, &batch, &verification);
    answer::html(&explorer, frame::page(&format!("Batch {number} verified"), &scene, "", &body)).await
}

async fn one(
    explorer: &Explorer,
    era: Option<u32>,
    number: u64,
) -> Result<(crate::types::PostedBatch, Scene), Refusal> {
    explorer
        .read(move |batches| {
            let (era, batch) = listing::one(batches, era, number)?;
            Ok((batch, Scene::of(batches, Some(era))?))
        })
        .await
}

pub(super) async fn search(State(explorer): State<Arc<Explorer>>, RawQuery(raw): RawQuery) -> Answer {
    let query = Query::parse(raw.as_deref(), &["q"])?;
    let text = query.get("q").ok_or(BadParameter::Missing { field: "q" })?.to_owned();
    let wanted = Wanted::parse(&text)?;
    let (matches, scene) = explorer
        .read(move |batches| {
            let matches = search::search(batches, wanted, DEFAULT_LIMIT)?;
            let era = listing::era(batches, None)?;
            Ok((matches, Scene::of(batches, era)?))
        })
        .await?;
    if let ([(_, only)], false) = (&*matches.found, matches.more) {
        let path = batch_path(only.era, only.number, scene.is_in_force(only.era));
        return Ok(Redirect::to(&path).into_response());
    }
    let body = list::found(&explorer, &scene, &text, &matches);
    let mut response = answer::html(&explorer, frame::page("Search", &scene, &text, &body)).await?;
    if matches.found.is_empty() {
        *response.status_mut() = http::StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// The page in place of one that there is not.
pub(super) fn refused(refusal: &Refusal) -> Markup {
    let status = refusal.status();
    let (title, more) = match status {
        http::StatusCode::BAD_REQUEST => ("That cannot be looked up", None),
        http::StatusCode::NOT_FOUND => {
            ("Not found", Some("A batch may also have been taken back by the parent chain since you saw it."))
        }
        http::StatusCode::SERVICE_UNAVAILABLE => ("Not now", Some("Trying again later may help.")),
        _ => ("That did not work", None),
    };
    let body = html! {
        section.card.notice {
            h1 { (title) }
            p.why { (sentence(&refusal.to_string())) }
            @if let Some(more) = more { p.quiet { (more) } }
            p { a.button href="/" { "Newest batches" } }
        }
    };
    frame::bare(title, &body)
}

/// An error as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(letters).collect();
    if !sentence.ends_with(['.', '…', '?']) {
        sentence.push('.');
    }
    sentence
}
