//! Parameters of requests, checked once.

use alloy_primitives::B256;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use das_common::data_hash::DataHash;
use thiserror::Error;

use super::clock;

/// Batches of an answer, unless said otherwise.
pub(super) const DEFAULT_LIMIT: usize = 25;
/// Most batches of an answer.
pub(super) const MAX_LIMIT: usize = 200;
/// Most batches of an answer that says of each where its payload is.
pub(super) const MAX_LIMIT_WITH_AVAILABILITY: usize = 25;
/// Most characters of a parameter.
pub(super) const MAX_LENGTH: usize = 128;

/// A parameter that is not taken. `got` is cut to what a person reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum BadParameter {
    #[error("there is no parameter {field:?} here, only {}", if .known.is_empty() { "none".into() } else { .known.join(", ") })]
    Unknown { field: String, known: &'static [&'static str] },
    #[error("{field} is given twice; it is taken once")]
    Repeated { field: String },
    #[error("{field} is {got} characters long; at most {MAX_LENGTH} are taken")]
    TooLong { field: String, got: usize },
    #[error("{field} must be a whole number from {least} to {most}, not {got:?}")]
    Number { field: &'static str, least: u64, most: u64, got: String },
    #[error("{field} must be 64 hex digits with 0x, not {got:?}")]
    Hash { field: &'static str, got: String },
    #[error("{field} must be unix seconds or a time such as 2026-11-23T10:00:00Z, not {got:?}")]
    Time { field: &'static str, got: String },
    #[error("before must be a batch number, or ERA.NUMBER as given by next, not {got:?}")]
    Cursor { got: String },
    #[error("before is of era {cursor}, but era is {era}")]
    OtherEra { cursor: u32, era: u32 },
    #[error("{field} must be true or false, not {got:?}")]
    Choice { field: &'static str, got: String },
    #[error("since ({since}) must not be after until ({until})")]
    Order { since: u64, until: u64 },
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("q must be a batch number, a hash of 64 hex digits with 0x, or a time, not {got:?}")]
    Search { got: String },
    #[error("{field} is no text")]
    NoText { field: &'static str },
}

/// As much of a value as an error repeats.
pub(super) fn cut(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The parameters behind the question mark. Empty ones count as not given: that is what a form sends.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(raw: Option<&str>, known: &'static [&'static str]) -> Result<Self, BadParameter> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (field, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            if !known.contains(&&*field) {
                return Err(BadParameter::Unknown { field: cut(&field), known });
            }
            if pairs.iter().any(|(other, _)| *other == field) {
                return Err(BadParameter::Repeated { field: field.into_owned() });
            }
            if value.chars().count() > MAX_LENGTH {
                return Err(BadParameter::TooLong { field: field.into_owned(), got: value.chars().count() });
            }
            pairs.push((field.into_owned(), value.trim().to_owned()));
        }
        Ok(Self(pairs))
    }

    pub(super) fn get(&self, field: &str) -> Option<&str> {
        let value = self.0.iter().find(|(name, _)| name == field)?.1.as_str();
        (!value.is_empty()).then_some(value)
    }

    pub(super) fn era(&self) -> Result<Option<u32>, BadParameter> {
        let era = |text| number("era", text, 0, u64::from(u32::MAX));
        Ok(self.get("era").map(era).transpose()?.and_then(|era| u32::try_from(era).ok()))
    }

    pub(super) fn limit(&self, most: usize) -> Result<usize, BadParameter> {
        let Some(text) = self.get("limit") else { return Ok(DEFAULT_LIMIT.min(most)) };
        Ok(usize::try_from(number("limit", text, 1, most as u64)?).unwrap_or(most))
    }

    pub(super) fn time(&self, field: &'static str) -> Result<Option<u64>, BadParameter> {
        self.get(field).map(|text| time(field, text)).transpose()
    }

    pub(super) fn hash(&self, field: &'static str) -> Result<Option<DataHash>, BadParameter> {
        self.get(field).map(|text| hash(field, text)).transpose()
    }

    pub(super) fn is(&self, field: &'static str) -> Result<bool, BadParameter> {
        match self.get(field) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(got) => Err(BadParameter::Choice { field, got: cut(got) }),
        }
    }

    /// The era and number before which to list.
    pub(super) fn before(&self) -> Result<(Option<u32>, Option<u64>), BadParameter> {
        let era = self.era()?;
        let Some(text) = self.get("before") else { return Ok((era, None)) };
        let bad = || BadParameter::Cursor { got: cut(text) };
        let Some((of, below)) = text.split_once('.') else {
            return Ok((era, Some(digits(text).ok_or_else(bad)?)));
        };
        let cursor = digits(of).and_then(|of| u32::try_from(of).ok()).ok_or_else(bad)?;
        let below = digits(below).ok_or_else(bad)?;
        match era {
            Some(era) if era != cursor => Err(BadParameter::OtherEra { cursor, era }),
            Some(_) | None => Ok((Some(cursor), Some(below))),
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A number in decimal digits.
pub(super) fn number(field: &'static str, text: &str, least: u64, most: u64) -> Result<u64, BadParameter> {
    let number = digits(text).filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| BadParameter::Number { field, least, most, got: cut(text) })
}

/// 32 bytes in hex.
pub(super) fn hash(field: &'static str, text: &str) -> Result<DataHash, BadParameter> {
    text.parse().map_err(|_| BadParameter::Hash { field, got: cut(text) })
}

/// A time.
pub(super) fn time(field: &'static str, text: &str) -> Result<u64, BadParameter> {
    clock::parse(text).ok_or_else(|| BadParameter::Time { field, got: cut(text) })
}

/// A segment of a path, as axum takes it out.
pub(super) type Segment = Result<Path<String>, PathRejection>;

fn segment(field: &'static str, segment: Segment) -> Result<String, BadParameter> {
    match segment {
        Ok(Path(text)) => Ok(text),
        Err(_) => Err(BadParameter::NoText { field }),
    }
}

/// A batch's number in a path.
pub(super) fn number_of(path: Segment) -> Result<u64, BadParameter> {
    number("number", &segment("number", path)?, 0, u64::MAX)
}

/// A hash in a path.
pub(super) fn hash_of(path: Segment) -> Result<DataHash, BadParameter> {
    hash("hash", &segment("hash", path)?)
}

/// The same bytes as a hash of the parent chain.
pub(super) fn transaction_of(path: Segment) -> Result<B256, BadParameter> {
    hash_of(path).map(|hash| B256::from(*hash.as_bytes()))
}

/// A time in a path.
pub(super) fn time_of(path: Segment) -> Result<u64, BadParameter> {
    time("time", &segment("time", path)?)
}
