//! Certificates that others made, kept with their batches.
//!
//! A certificate is taken from anybody: it carries its own proof. What is kept was verified under the keyset of a committee
//! known here. To check a signature costs a millisecond, so that what can be refused without is refused first, and only a few
//! checks run at once.

use std::sync::Arc;
use std::time::Duration;

use das_common::certificate::{Certificate, CertificateError};
use das_common::custody::machine::Event;
use das_common::custody::message::CertificateBytes;
use das_common::data_hash::DataHash;
use das_common::fault::{self, Coded, Fault};
use das_common::telemetry::names;
use thiserror::Error;
use tracing::warn;

use super::{Custody, Shared};
use crate::clock::unix_time;
use crate::storage::StorageError;

/// Checks of signatures that run at once.
pub(super) const CHECKS: usize = 2;
/// Checks that wait for their turn; more are refused.
const WAITING: usize = 64;
/// A batch that is not here may still be on its way here when its certificate is: so many seconds it is waited for.
const ON_ITS_WAY: u64 = 10;
/// Clocks differ: a timeout may be so many seconds further ahead than a member would promise.
const SLACK: u64 = 300;
/// Certificates are told of, and forgotten, so often ...
const ROUND: Duration = Duration::from_millis(500);
/// ... and so many at once.
const AT_ONCE: usize = 64;
/// Certificates are kept for so many seconds longer than their timeout.
const KEPT_LONGER: u64 = 3600;

/// Why a certificate is not kept.
#[derive(Debug, Error)]
pub enum KeepError {
    /// It is no certificate, or its signature does not verify.
    #[error("the certificate is not kept: {0}")]
    Certificate(#[from] CertificateError),
    /// It is of no committee known here.
    #[error("the certificate is not kept: its keyset {got} is that of no committee known here")]
    Keyset {
        /// The keyset it names.
        got: DataHash,
    },
    /// Nobody promises anything any more.
    #[error("the certificate is not kept: its timeout {timeout} has passed, it is {now}")]
    Passed {
        /// Its timeout, unix seconds.
        timeout: u64,
        /// Unix seconds.
        now: u64,
    },
    /// Later than members promise.
    #[error("the certificate is not kept: its timeout {timeout} is more than {limit} s ahead")]
    TooLate {
        /// Its timeout, unix seconds.
        timeout: u64,
        /// Seconds.
        limit: u64,
    },
    /// Too much to check.
    #[error("the certificate is not kept: {limit} others wait to be checked")]
    Busy {
        /// How many may wait.
        limit: usize,
    },
    /// The disk.
    #[error("the certificate could not be kept: {0}")]
    Storage(#[from] StorageError),
    /// The node is going down.
    #[error("the server is stopping")]
    Stopping,
}

impl Coded for KeepError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Certificate(_) | Self::Keyset { .. } | Self::Passed { .. } | Self::TooLate { .. } => {
                fault::CUSTODY_CERTIFICATE
            }
            Self::Busy { .. } => fault::NET_OVERLOADED,
            Self::Storage(_) => fault::STORE_WRITE,
            Self::Stopping => fault::NET_SHUTTING_DOWN,
        }
    }
}

impl Custody {
    /// Keeps a certificate, given as its bytes, and has the batch held until its timeout.
    pub async fn keep_certificate(&self, bytes: &[u8]) -> Result<(), KeepError> {
        keep(&self.shared, bytes).await.map(drop)
    }

    /// The bytes of a batch's certificate.
    pub fn certificate(&self, hash: &DataHash) -> Result<Option<CertificateBytes>, StorageError> {
        self.shared.store.certificate(hash)
    }
}

/// Whether it was new here.
pub(super) async fn keep(shared: &Arc<Shared>, bytes: &[u8]) -> Result<bool, KeepError> {
    let kept = check_and_keep(shared, bytes).await;
    let outcome = match &kept {
        Ok(true) => "kept",
        Ok(false) => "known",
        Err(_) => "refused",
    };
    metrics::counter!(names::CUSTODY_CERTIFICATES, "outcome" => outcome).increment(1);
    kept
}

async fn check_and_keep(shared: &Arc<Shared>, bytes: &[u8]) -> Result<bool, KeepError> {
    let certificate = Certificate::parse_strict(bytes)?;
    let (hash, timeout) = (certificate.data_hash, certificate.timeout);
    let now = unix_time();
    if timeout <= now {
        return Err(KeepError::Passed { timeout, now });
    }
    let limit = shared.options.max_retention.as_secs();
    if timeout > now.saturating_add(limit).saturating_add(SLACK) {
        return Err(KeepError::TooLate { timeout, limit });
    }
    let known = shared.keysets.iter().find(|keyset| keyset.hash() == certificate.keyset_hash);
    let keyset = known.cloned().ok_or(KeepError::Keyset { got: certificate.keyset_hash })?;
    if shared.store.certificate_timeout(&hash)?.is_some_and(|known| known >= timeout) {
        return Ok(false);
    }
    let _place = shared.checks_waiting.try_acquire().map_err(|_| KeepError::Busy { limit: WAITING })?;
    let _turn = shared.checks.acquire().await.map_err(|_| KeepError::Stopping)?;
    let shared = Arc::clone(shared);
    let work = tokio::task::spawn_blocking(move || {
        certificate.verify(&keyset)?;
        let here = shared.store.held(&hash)?.is_some();
        let due = if here { 0 } else { unix_time() + ON_ITS_WAY };
        Ok(shared.store.put_certificate(&certificate, due)?)
    });
    work.await.map_err(|_| KeepError::Stopping)?
}

/// The semaphore of the checks that wait.
pub(super) fn waiting_places() -> tokio::sync::Semaphore {
    tokio::sync::Semaphore::new(WAITING + CHECKS)
}

/// Tells the machine of certificates, and forgets those that have ended, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(ROUND).await;
        let told = tell(&shared).await;
        let ended = unix_time().saturating_sub(KEPT_LONGER);
        let store = Arc::clone(&shared.store);
        let forgotten = tokio::task::spawn_blocking(move || store.drop_certificates(ended, AT_ONCE)).await;
        for error in [told.err(), forgotten.ok().and_then(Result::err)].into_iter().flatten() {
            warn!(%error, "certificates cannot be worked on; they are tried again");
        }
    }
}

/// The machine writes down what it hears before the note goes: a crash in between tells it twice.
async fn tell(shared: &Arc<Shared>) -> Result<(), StorageError> {
    loop {
        let waiting = shared.store.waiting_certificates(unix_time(), AT_ONCE)?;
        if waiting.is_empty() {
            return Ok(());
        }
        let told = waiting.clone();
        let heard = shared.ask(move |machine, now| {
            let certified = |hash, until| Event::Certified { hash, until };
            told.into_iter().try_for_each(|one| machine.handle(certified(one.hash, one.until), now))
        });
        // Too much waits for the machine, or it is about to start anew.
        let Some(Ok(())) = heard.await else { return Ok(()) };
        shared.store.certificates_heard(&waiting)?;
    }
}
