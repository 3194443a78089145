//! Certificates after they were made: handed to the members, and found again for whoever asks.
//!
//! Members keep a certificate with its batch and repair what one says that they should have, so each gets it as soon as
//! it is made: in the background, bounded, and never in the way of a store. A member that misses it learns it from the others.

use std::sync::Arc;
use std::time::Duration;

use das_common::certificate::{Certificate, CertificateError};
use das_common::data_hash::DataHash;
use das_common::fault::{self, Coded, Fault};
use das_common::http::client::{Endpoint, HttpClient};
use das_common::keyset::Keyset;
use das_common::single_flight::SingleFlight;
use das_common::telemetry::names;
use das_common::wire::{CertificateBytes, parse_certificate_answer};
use futures::stream::{FuturesUnordered, StreamExt};
use http::StatusCode;
use metrics::counter;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::fan_out::FanOut;
use crate::member::Member;

/// Certificates that wait for one member; a member that is away longer learns the others from its peers.
const WAITING: usize = 4096;
/// Pauses before a certificate is sent again to a member that did not take it.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(3), Duration::from_secs(10)];
const DEADLINE: Duration = Duration::from_secs(5);
/// A member that does not know certificates is not told of any for so long.
const UNKNOWN_FOR: Duration = Duration::from_secs(600);
/// Certificates remembered here.
const REMEMBERED: u64 = 16_384;
/// Questions for certificates under way at once.
const QUESTIONS: usize = 64;
const MAX_ANSWER: usize = 4096;

/// Why a certificate could be neither found nor said to be unknown.
#[derive(Debug, Clone, Error)]
#[error("the certificate of {hash} cannot be read: {reason}")]
pub struct CertificateUnavailable {
    hash: DataHash,
    reason: String,
}

impl Coded for CertificateUnavailable {
    fn fault(&self) -> &'static Fault {
        fault::READ_FALLBACK
    }
}

/// Certificates made and asked for. Cheap to clone.
#[derive(Clone)]
pub struct Certificates {
    shared: Arc<Shared>,
}

type Found = Result<Option<CertificateBytes>, CertificateUnavailable>;

struct Shared {
    made: moka::sync::Cache<DataHash, CertificateBytes>,
    waiting: Vec<mpsc::Sender<CertificateBytes>>,
    /// The members' REST endpoints.
    endpoints: Vec<Endpoint>,
    http: HttpClient,
    keyset: Keyset,
    asking: SingleFlight<DataHash, Found>,
    slots: Semaphore,
}

impl Certificates {
    /// Begins to hand out what is made, until `stop`. `endpoints`: the members' REST ports.
    pub fn start(
        fan_out: &FanOut,
        endpoints: Vec<Endpoint>,
        http: HttpClient,
        stop: &CancellationToken,
    ) -> Self {
        let hand_to = |member: &Arc<Member>| {
            let (sender, received) = mpsc::channel(WAITING);
            tokio::spawn(stop.clone().run_until_cancelled_owned(hand_out(Arc::clone(member), received)));
            sender
        };
        let shared = Shared {
            made: moka::sync::Cache::new(REMEMBERED),
            waiting: fan_out.members().iter().map(hand_to).collect(),
            endpoints,
            http,
            keyset: fan_out.keyset().clone(),
            asking: SingleFlight::default(),
            slots: Semaphore::new(QUESTIONS),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A certificate was made. Returns at once.
    pub fn made(&self, certificate: &Certificate) {
        // Certificates of another version are not made today.
        let Ok(bytes) = CertificateBytes::try_from(certificate.to_bytes()) else { return };
        self.shared.made.insert(certificate.data_hash, bytes);
        for member in &self.shared.waiting {
            if member.try_send(bytes).is_err() {
                counter!(names::CERTIFICATES_HANDED, "result" => "dropped").increment(1);
            }
        }
    }

    /// The certificate of a batch: one made here, or one that a member keeps. `None` when all members say that they know
    /// none. What comes from a member is verified.
    pub async fn get(&self, hash: &DataHash) -> Found {
        if let Some(bytes) = self.shared.made.get(hash) {
            return Ok(Some(bytes));
        }
        let (shared, hash) = (Arc::clone(&self.shared), *hash);
        let work = || async move { shared.ask_all(hash).await };
        let found = self.shared.asking.run(hash, work).await;
        found.unwrap_or_else(|| Err(unavailable(hash, "the question was given up".into())))
    }
}

fn unavailable(hash: DataHash, reason: String) -> CertificateUnavailable {
    CertificateUnavailable { hash, reason }
}

impl Shared {
    async fn ask_all(&self, hash: DataHash) -> Found {
        let _slot = self.slots.acquire().await.map_err(|closed| unavailable(hash, closed.to_string()))?;
        let mut asked: FuturesUnordered<_> =
            self.endpoints.iter().map(|endpoint| self.ask(endpoint, hash)).collect();
        let (mut failures, mut unknown) = (Vec::new(), 0_usize);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(Some(bytes)) => {
                    self.made.insert(hash, bytes);
                    return Ok(Some(bytes));
                }
                Ok(None) => unknown += 1,
                Err(reason) => failures.push(reason),
            }
        }
        // Members that keep no certificates are no reason to say that it cannot be told.
        if failures.is_empty() && unknown > 0 {
            Ok(None)
        } else {
            Err(unavailable(hash, failures.join("; ")))
        }
    }

    async fn ask(&self, endpoint: &Endpoint, hash: DataHash) -> Result<Option<CertificateBytes>, String> {
        let path = format!("/certificate/{hash}");
        let answer = self.http.get(endpoint, &path, DEADLINE, MAX_ANSWER).await.map_err(|e| e.to_string())?;
        match answer.status {
            StatusCode::OK => {}
            // 400: a server that keeps no certificates.
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => return Ok(None),
            status => return Err(format!("{}: HTTP status {status}", endpoint.authority())),
        }
        let bytes = parse_certificate_answer(&answer.body)
            .ok_or_else(|| format!("{}: an answer without a certificate", endpoint.authority()))?;
        let check = || -> Result<(), CertificateError> {
            let certificate = Certificate::parse_strict(&bytes)?;
            certificate.verify(&self.keyset)?;
            if certificate.data_hash == hash { Ok(()) } else { Err(CertificateError::WrongSignature) }
        };
        match check() {
            Ok(()) => Ok(Some(bytes)),
            // Of a former committee, whose keyset is not known here.
            Err(CertificateError::OtherKeyset { .. }) => Ok(None),
            Err(error) => Err(format!("{}: {error}", endpoint.authority())),
        }
    }
}

/// Gives one member what was made, in order.
async fn hand_out(member: Arc<Member>, mut received: mpsc::Receiver<CertificateBytes>) {
    let mut unknown_until: Option<Instant> = None;
    while let Some(certificate) = received.recv().await {
        if unknown_until.is_some_and(|until| Instant::now() < until) {
            continue;
        }
        let mut pauses = AGAIN_AFTER.iter();
        let result = loop {
            match member.client().keep_certificate(&certificate, DEADLINE).await {
                Ok(()) => break "ok",
                Err(error) if error.is_unknown_method() => {
                    debug!(member = member.name, "keeps no certificates");
                    unknown_until = Some(Instant::now() + UNKNOWN_FOR);
                    break "unknown";
                }
                Err(error) => {
                    debug!(member = member.name, %error, "a certificate was not taken");
                    match pauses.next() {
                        Some(pause) if error.is_passing() => tokio::time::sleep(*pause).await,
                        _ => break "error",
                    }
                }
            }
        };
        counter!(names::CERTIFICATES_HANDED, "result" => result).increment(1);
    }
}
