//! The routes for programs.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION};

use super::listing::{self, Window};
use super::query::{self, BadParameter, MAX_LIMIT, MAX_LIMIT_WITH_AVAILABILITY, Query, Segment};
use super::refusal::Refusal;
use super::search::{self, Wanted};
use super::shapes::{self, ErasShape, FoundShape, MatchShape, ProgressShape, SearchShape, VerificationShape};
use super::{Explorer, answer, verify as checks};
use crate::types::Content;

type Answer = Result<Response, Refusal>;

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

fn most(with_availability: bool) -> usize {
    if with_availability { MAX_LIMIT_WITH_AVAILABILITY } else { MAX_LIMIT }
}

pub(super) async fn batches(State(explorer): State<Arc<Explorer>>, RawQuery(raw): RawQuery) -> Answer {
    let known = &["era", "before", "limit", "since", "until", "availability"];
    let query = Query::parse(raw.as_deref(), known)?;
    let with_availability = query.is("availability")?;
    let window = window(&query, most(with_availability))?;
    let page = explorer.read(move |batches| listing::list(batches, &window)).await?;
    answer::json(&explorer, &shapes::listing(&explorer, page, with_availability).await).await
}

/// The window that `era`, `before`, `limit`, `since` and `until` describe.
pub(super) fn window(query: &Query, most: usize) -> Result<Window, BadParameter> {
    let (era, below) = query.before()?;
    let (since, until) = (query.time("since")?, query.time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(BadParameter::Order { since, until });
    }
    Ok(Window { era, below, since, until, limit: query.limit(most)? })
}

pub(super) async fn batch(
    State(explorer): State<Arc<Explorer>>,
    path: Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let number = query::number_of(path)?;
    let query = Query::parse(raw.as_deref(), &["era", "availability"])?;
    let (era, with_availability) = (query.era()?, query.is("availability")?);
    let (_, batch) = explorer.read(move |batches| listing::one(batches, era, number)).await?;
    answer::json(&explorer, &shapes::batches(&explorer, vec![batch], with_availability).await.first()).await
}

pub(super) async fn by_hash(
    State(explorer): State<Arc<Explorer>>,
    path: Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let hash = query::hash_of(path)?;
    let query = Query::parse(raw.as_deref(), &["limit", "availability"])?;
    let with_availability = query.is("availability")?;
    let limit = query.limit(most(with_availability))?;
    let found = explorer.read(move |batches| listing::with_data_hash(batches, &hash, limit)).await?;
    if found.batches.is_empty() {
        return Err(Refusal::DataHash(hash));
    }
    let batches = shapes::batches(&explorer, found.batches, with_availability).await;
    answer::json(&explorer, &FoundShape { batches, more: found.more }).await
}

pub(super) async fn by_transaction(
    State(explorer): State<Arc<Explorer>>,
    path: Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let hash = query::transaction_of(path)?;
    let query = Query::parse(raw.as_deref(), &["limit", "availability"])?;
    let with_availability = query.is("availability")?;
    let limit = query.limit(most(with_availability))?;
    let found = explorer.read(move |batches| listing::of_transaction(batches, &hash, limit)).await?;
    if found.batches.is_empty() {
        return Err(Refusal::Transaction(hash));
    }
    let batches = shapes::batches(&explorer, found.batches, with_availability).await;
    answer::json(&explorer, &FoundShape { batches, more: found.more }).await
}

pub(super) async fn at(
    State(explorer): State<Arc<Explorer>>,
    path: Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let time = query::time_of(path)?;
    let query = Query::parse(raw.as_deref(), &["era", "availability"])?;
    let (era, with_availability) = (query.era()?, query.is("availability")?);
    let batch = explorer.read(move |batches| listing::at(batches, era, time)).await?;
    answer::json(&explorer, &shapes::batches(&explorer, vec![batch], with_availability).await.first()).await
}

pub(super) async fn eras(State(explorer): State<Arc<Explorer>>, RawQuery(raw): RawQuery) -> Answer {
    let limit = Query::parse(raw.as_deref(), &["limit"])?.limit(MAX_LIMIT)?;
    let eras = explorer.read(|batches| Ok(batches.eras()?)).await?;
    answer::json(&explorer, &ErasShape::new(&eras, limit)).await
}

pub(super) async fn progress(State(explorer): State<Arc<Explorer>>, RawQuery(raw): RawQuery) -> Answer {
    Query::parse(raw.as_deref(), &[])?;
    let (progress, away) = explorer.read(|batches| Ok((batches.progress(), batches.away()))).await?;
    answer::json(&explorer, &ProgressShape::new(&progress, away)).await
}

pub(super) async fn search(State(explorer): State<Arc<Explorer>>, RawQuery(raw): RawQuery) -> Answer {
    let query = Query::parse(raw.as_deref(), &["q", "limit"])?;
    let wanted = Wanted::parse(query.get("q").ok_or(BadParameter::Missing { field: "q" })?)?;
    let limit = query.limit(MAX_LIMIT)?;
    let matches = explorer.read(move |batches| search::search(batches, wanted, limit)).await?;
    let (by, found): (Vec<_>, Vec<_>) = matches.found.into_iter().unzip();
    let batches = shapes::batches(&explorer, found, false).await;
    let matched = by.into_iter().zip(batches).map(|(by, batch)| MatchShape { by: by.as_str(), batch });
    answer::json(&explorer, &SearchShape { matches: matched.collect(), more: matches.more }).await
}

pub(super) async fn verify(
    State(explorer): State<Arc<Explorer>>,
    path: Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let number = query::number_of(path)?;
    let era = Query::parse(raw.as_deref(), &["era"])?.era()?;
    let (_, batch) = explorer.read(move |batches| listing::one(batches, era, number)).await?;
    let Content::Certificate(posted) = &batch.content else {
        return Err(Refusal::NoCertificate { era: batch.era, number });
    };
    let verification = checks::verify(&explorer, posted, &batch.bounds).await?;
    answer::json(&explorer, &VerificationShape::new(&batch, verification)).await
}

/// A batch's number may come to name another batch, so only an answer to a question with the hash never changes.
pub(super) async fn payload(
    State(explorer): State<Arc<Explorer>>,
    path: Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let number = query::number_of(path)?;
    let query = Query::parse(raw.as_deref(), &["era", "hash"])?;
    let (era, asked) = (query.era()?, query.hash("hash")?);
    let (_, batch) = explorer.read(move |batches| listing::one(batches, era, number)).await?;
    let era = batch.era;
    let Content::Certificate(posted) = &batch.content else {
        return Err(Refusal::NoCertificate { era, number });
    };
    let certificate = das_common::certificate::Certificate::parse_as_nitro(posted)
        .map_err(|error| Refusal::Certificate { era, number, why: error.to_string() })?;
    let hash = certificate.data_hash;
    if let Some(asked) = asked.filter(|asked| *asked != hash) {
        return Err(Refusal::OtherHash { era, number, got: hash, asked });
    }
    let place = explorer.fetch_place().await?;
    let read = checks::fetch(&explorer, &certificate).await?.ok_or(Refusal::NoPayload(hash))?;
    let payload = checks::fits(&certificate, read).await.ok_or(Refusal::WrongPayload(hash))?;
    drop(place);
    download(&explorer, &format!("batch-{era}-{number}.bin"), payload, asked.is_some()).await
}

async fn download(explorer: &Explorer, file: &str, payload: Bytes, unchanging: bool) -> Answer {
    let mut response = answer::counted(explorer, payload, OCTETS).await?;
    let disposition = format!("attachment; filename=\"{file}\"");
    let disposition =
        HeaderValue::from_str(&disposition).expect("a file's name is made of digits and dashes");
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    if unchanging {
        response.headers_mut().insert(CACHE_CONTROL, FOREVER);
    }
    Ok(response)
}
