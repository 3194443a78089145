//! What every node makes of a batch, check by check.
//!
//! The checks, their order and their rules are those of
//! [`recover_as_nitro`](das_common::sequencer_message::recover_as_nitro); here each is reported, there only what comes of
//! them. A test holds the two together.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use das_chain::keysets::KeysetReadError;
use das_common::certificate::{Certificate, CertificateError};
use das_common::data_hash::{DataHash, flat_hash};
use das_common::sequencer_message::{FIRST_UNKNOWN_VERSION, MIN_LIFETIME};

use super::refusal::Refusal;
use super::sources::{Availability, PayloadUnavailable};
use super::{AVAILABILITY_PATIENCE, Explorer, FETCH_PATIENCE, clock};
use crate::types::TimeBounds;

/// The checks, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Form,
    Version,
    Keyset,
    Signers,
    Signature,
    Timeout,
    Payload,
    Hash,
}

impl Step {
    pub(super) const ALL: [Self; 8] = [
        Self::Form,
        Self::Version,
        Self::Keyset,
        Self::Signers,
        Self::Signature,
        Self::Timeout,
        Self::Payload,
        Self::Hash,
    ];

    /// For programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Version => "version",
            Self::Keyset => "keyset",
            Self::Signers => "signers",
            Self::Signature => "signature",
            Self::Timeout => "timeout",
            Self::Payload => "payload",
            Self::Hash => "hash",
        }
    }

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Form => "The certificate parses",
            Self::Version => "Its version is known",
            Self::Keyset => "Its keyset is on the parent chain",
            Self::Signers => "Enough members signed",
            Self::Signature => "Their signature is right",
            Self::Timeout => "They keep the payload long enough",
            Self::Payload => "The payload can be read",
            Self::Hash => "The payload has the certificate’s hash",
        }
    }
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Passed,
    Failed,
    /// It cannot be told now.
    Unknown,
    /// One before it did not pass: nodes do not look any further.
    Skipped,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) step: Step,
    pub(super) state: State,
    /// What was seen, or why it did not pass.
    pub(super) why: String,
}

/// What nodes make of it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They read the payload.
    Valid,
    /// They take the batch for an empty one, and the chain goes on.
    Ignored,
    /// They cannot go past the batch.
    Blocked,
    /// It cannot be told now.
    Unknown,
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Ignored => "ignored",
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn means(self) -> &'static str {
        match self {
            Self::Valid => "Every node reads this payload from this batch.",
            Self::Ignored => {
                "Every node takes this batch for an empty one, and the chain goes on without it."
            }
            Self::Blocked => {
                "As far as this server can tell, no node can go past this batch until what is missing is there."
            }
            Self::Unknown => "What nodes make of this batch cannot be told now. Try again later.",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verification {
    pub(super) verdict: Verdict,
    pub(super) checks: Vec<Check>,
    /// When it was done (unix seconds).
    pub(super) at: u64,
}

/// Runs the checks on a certificate as it was posted.
pub(super) async fn verify(
    explorer: &Explorer,
    posted: &[u8],
    bounds: &TimeBounds,
) -> Result<Verification, Refusal> {
    let _place = explorer.fetch_place().await?;
    let mut run = Run { explorer, checks: Vec::new() };
    let verdict = match run.all(posted, bounds).await {
        Ok(()) => Verdict::Valid,
        Err(verdict) => verdict,
    };
    let mut checks = run.checks;
    let skipped = Step::ALL.into_iter().skip(checks.len());
    checks.extend(skipped.map(|step| Check { step, state: State::Skipped, why: String::new() }));
    Ok(Verification { verdict, checks, at: clock::now() })
}

struct Run<'a> {
    explorer: &'a Explorer,
    checks: Vec<Check>,
}

impl Run<'_> {
    fn note(&mut self, state: State, why: &impl Display) {
        // Every check is noted once, in their order.
        let step = Step::ALL[self.checks.len()];
        self.checks.push(Check { step, state, why: why.to_string() });
    }

    fn passed(&mut self, why: &impl Display) {
        self.note(State::Passed, why);
    }

    fn failed(&mut self, verdict: Verdict, why: &impl Display) -> Result<(), Verdict> {
        self.note(State::Failed, why);
        Err(verdict)
    }

    fn unknown(&mut self, why: &impl Display) -> Result<(), Verdict> {
        self.note(State::Unknown, why);
        Err(Verdict::Unknown)
    }

    async fn all(&mut self, posted: &[u8], bounds: &TimeBounds) -> Result<(), Verdict> {
        let certificate = match Certificate::parse_as_nitro(posted) {
            Ok(certificate) => certificate,
            Err(error) => return self.failed(Verdict::Ignored, &error),
        };
        self.passed(&format!("{} bytes with the header {:#04x}", posted.len(), posted[0]));

        let version = certificate.version;
        if version >= FIRST_UNKNOWN_VERSION {
            return self.failed(Verdict::Ignored, &format!("version {version} is for later software"));
        }
        self.passed(&format!("version {version}"));

        self.signed(&certificate).await?;

        let promised = certificate.timeout;
        // The sum wraps, as it does in every node.
        let needed = bounds.max_timestamp.wrapping_add(MIN_LIFETIME);
        let both = format!(
            "kept until {}; needed until {}, a week after the latest time in the batch",
            clock::shown(promised),
            clock::shown(needed)
        );
        if promised < needed {
            return self.failed(Verdict::Ignored, &both);
        }
        self.passed(&both);

        let payload = match fetch(self.explorer, &certificate).await {
            Ok(Some(payload)) => payload,
            Ok(None) => return self.failed(Verdict::Blocked, &"nobody who was asked has it"),
            Err(error) => return self.unknown(&error),
        };
        self.passed(&format!("{} bytes", payload.len()));
        match fits(&certificate, payload).await {
            Some(_) => {
                self.passed(&format!("0x{}", certificate.data_hash));
                Ok(())
            }
            None => self.failed(Verdict::Blocked, &"what was read has another hash"),
        }
    }

    /// Keyset, signers, signature.
    async fn signed(&mut self, certificate: &Certificate) -> Result<(), Verdict> {
        let hash = certificate.keyset_hash;
        let asked = tokio::time::timeout(FETCH_PATIENCE, self.explorer.signers.keyset(hash)).await;
        let keyset = match asked {
            Err(_) => return self.unknown(&late(FETCH_PATIENCE)),
            Ok(Ok(keyset)) => keyset,
            Ok(Err(error)) => {
                return match error {
                    KeysetReadError::Unknown { .. } => self.failed(Verdict::Blocked, &error),
                    // An error whose text nodes know: they go on without the batch.
                    KeysetReadError::Form { .. } => self.failed(Verdict::Ignored, &error),
                    KeysetReadError::Chain { .. }
                    | KeysetReadError::Missing { .. }
                    | KeysetReadError::Lost { .. } => self.unknown(&error),
                };
            }
        };
        let members = keyset.keyset.keys().len();
        let honest = keyset.keyset.assumed_honest();
        self.passed(&format!("{members} members, {honest} of them assumed honest"));
        let certified = certificate.clone();
        let verified = tokio::task::spawn_blocking(move || certified.verify_as_nitro(&keyset.keyset)).await;
        let signers = (0..members).filter(|index| certificate.signers_mask >> index & 1 == 1).count();
        let counted = format!("{signers} of {members} signed, {honest} are assumed honest");
        match verified {
            Ok(Ok(())) => {
                self.passed(&counted);
                self.passed(&"it is the sum of the signatures of those members");
                Ok(())
            }
            Ok(Err(error @ CertificateError::TooFewSigners { .. })) => self.failed(Verdict::Ignored, &error),
            Ok(Err(error)) => {
                self.passed(&counted);
                self.failed(Verdict::Ignored, &error)
            }
            Err(_) => self.unknown(&"the check was lost; the log of this server says why"),
        }
    }
}

fn late(patience: Duration) -> String {
    format!("no answer within {} seconds", patience.as_secs())
}

/// The names under which servers keep a certificate's payload, in the order in which nodes ask.
fn names(certificate: &Certificate) -> Vec<DataHash> {
    let hash = certificate.data_hash;
    match certificate.version {
        0 => vec![DataHash::of_flat(*hash.as_bytes()), hash],
        _ => vec![hash],
    }
}

/// Reads a payload, unchecked. The caller holds one of the [`Explorer::fetch_place`]s.
pub(super) async fn fetch(
    explorer: &Explorer,
    certificate: &Certificate,
) -> Result<Option<Bytes>, PayloadUnavailable> {
    let asked = async {
        let mut failure = None;
        for name in names(certificate) {
            match explorer.payloads.payload(name).await {
                Ok(Some(payload)) => return Ok(Some(payload)),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    };
    let answer = tokio::time::timeout(FETCH_PATIENCE, asked).await;
    answer.unwrap_or_else(|_| Err(PayloadUnavailable { why: late(FETCH_PATIENCE) }))
}

/// The payload, if it is the one that the certificate names.
pub(super) async fn fits(certificate: &Certificate, payload: Bytes) -> Option<Bytes> {
    let (version, hash) = (certificate.version, certificate.data_hash);
    let hashed = tokio::task::spawn_blocking(move || {
        let is_it = match version {
            0 => flat_hash(&payload) == *hash.as_bytes(),
            _ => DataHash::of(&payload) == hash,
        };
        is_it.then_some(payload)
    });
    hashed.await.ok().flatten()
}

/// Where a payload is, and when that was asked (unix seconds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) availability: Availability,
    pub(super) at: u64,
}

/// Asks where the payload of a certificate is.
pub(super) async fn availability(explorer: &Explorer, certificate: &Certificate) -> Asked {
    let asked = async {
        let mut answer = Availability::NotFound;
        for name in names(certificate) {
            match explorer.payloads.availability(name).await {
                Availability::NotFound => {}
                unknown @ Availability::Unknown { .. } => answer = unknown,
                found => return found,
            }
        }
        answer
    };
    let answered = match explorer.question().await {
        Ok(_place) => tokio::time::timeout(AVAILABILITY_PATIENCE, asked)
            .await
            .unwrap_or_else(|_| Availability::Unknown { why: late(AVAILABILITY_PATIENCE) }),
        Err(busy) => Availability::Unknown { why: busy.to_string() },
    };
    Asked { availability: answered, at: clock::now() }
}
