//! A key in another process: the client of `das-signer`.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use das_common::bls::{PublicKey, Signature};
use das_common::fault::{self, Coded, Fault};
use das_common::http::client::{
    ClientIdentity, ClientLimits, Endpoint, EndpointError, HttpClient, HttpError, TlsError, TlsFiles,
};
use das_common::signer::{Message, SignError, Signer};
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::wire::{MAX_ANSWER_BYTES, Refusal, Request, SIGN_PATH, Signed};

/// Requests that are with the signer at once; further ones wait their turn within their deadline.
const IN_FLIGHT: usize = 64;
/// A signer that is away is asked again after this, then after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A signer that says nothing is asked again after this share of the deadline.
const ATTEMPTS_IN_DEADLINE: u32 = 3;

/// Where the signer is, and what is expected of it.
#[derive(Debug, Clone)]
pub struct RemoteSettings {
    /// An `https` URL, without a path.
    pub url: String,
    /// The member's public key, with its proof of possession.
    pub public_key: PublicKey,
    /// Certificates of the authorities that the signer has its certificate from; none: those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// Who we are to the signer.
    pub identity: ClientIdentity,
    /// Time for one signature, all repetitions together.
    pub deadline: Duration,
}

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The URL.
    #[error("the URL of the signer: {reason}")]
    Url {
        /// What is wrong.
        reason: String,
    },
    /// Certificates and keys.
    #[error("the signer's TLS files: {0}")]
    Tls(#[from] TlsError),
}

impl Coded for RemoteError {
    fn fault(&self) -> &'static Fault {
        fault::SIGNER_SETTINGS
    }
}

/// The client of a `das-signer`.
pub struct RemoteSigner {
    endpoint: Endpoint,
    http: HttpClient,
    public_key: PublicKey,
    deadline: Duration,
    turns: Semaphore,
}

impl fmt::Debug for RemoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteSigner({})", self.endpoint.authority())
    }
}

impl RemoteSigner {
    /// Reads the TLS files; nothing is sent yet.
    pub fn new(settings: RemoteSettings) -> Result<Self, RemoteError> {
        let url = |reason: &str| RemoteError::Url { reason: reason.to_owned() };
        let whole = format!("{}{SIGN_PATH}", settings.url.trim_end_matches('/'));
        let endpoint = Endpoint::parse(&whole).map_err(|error| match error {
            EndpointError::NotAUrl { reason, .. } => RemoteError::Url { reason },
            EndpointError::Scheme { .. } => url("the scheme must be https"),
            EndpointError::NoHost { .. } => url("it names no host"),
        })?;
        if !endpoint.is_https() {
            return Err(url("the scheme must be https: the signer knows us by our certificate"));
        }
        let files = TlsFiles {
            authorities: settings.authorities,
            identity: Some(settings.identity),
            ..TlsFiles::default()
        };
        Ok(Self {
            endpoint,
            http: HttpClient::with_tls(ClientLimits::default(), &files)?,
            public_key: settings.public_key,
            deadline: settings.deadline,
            turns: Semaphore::new(IN_FLIGHT),
        })
    }

    /// Asks until there is an answer or the time is over.
    async fn ask(&self, message: &Message) -> Result<Signature, SignError> {
        let until = Instant::now() + self.deadline;
        let mut pause = FIRST_PAUSE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let attempt = (self.deadline / ATTEMPTS_IN_DEADLINE).min(left);
            let away = match self.ask_once(message, attempt).await {
                Err(away @ SignError::Away { .. }) => away,
                outcome => return outcome,
            };
            if Instant::now() + pause >= until {
                return Err(away);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn ask_once(&self, message: &Message, deadline: Duration) -> Result<Signature, SignError> {
        let body = serde_json::to_vec(&Request::from(message)).map_err(|_| self.wrong("no JSON"))?;
        let exchange = async {
            // Never closed.
            let _turn = self.turns.acquire().await;
            self.http.post_json(&self.endpoint, body.into(), deadline, MAX_ANSWER_BYTES).await
        };
        let waited = tokio::time::timeout(deadline, exchange).await;
        let answer = match waited {
            Err(_) => return Err(self.away(format!("no answer within {deadline:?}"))),
            Ok(Err(HttpError::TooLarge { .. })) => return Err(self.wrong("its answer is too long")),
            Ok(Err(error)) => return Err(self.away(reason(error))),
            Ok(Ok(answer)) => answer,
        };
        if answer.status.is_success() {
            let signed: Option<Signed> = serde_json::from_slice(&answer.body).ok();
            let signature = signed.and_then(|signed| signed.signature());
            let signature = signature.ok_or_else(|| self.wrong("its answer holds no signature"))?;
            if !message.is_signed_by(&self.public_key, &signature) {
                return Err(self.wrong("the signature is of another key, or of something else"));
            }
            return Ok(signature);
        }
        let words = match serde_json::from_slice::<Refusal>(&answer.body) {
            Ok(refusal) => printable(&format!("{}: {}", refusal.code, refusal.message)),
            Err(_) => format!("HTTP status {}", answer.status),
        };
        let for_now = answer.status.is_server_error() || answer.status == http::StatusCode::TOO_MANY_REQUESTS;
        Err(if for_now { self.away(words) } else { self.refused(words) })
    }

    fn shown(&self) -> String {
        self.endpoint.authority().to_owned()
    }

    fn away(&self, reason: String) -> SignError {
        SignError::Away { signer: self.shown(), reason }
    }

    fn refused(&self, reason: String) -> SignError {
        SignError::Refused { signer: self.shown(), reason }
    }

    fn wrong(&self, reason: &str) -> SignError {
        SignError::Wrong { signer: self.shown(), reason: reason.to_owned() }
    }
}

impl Signer for RemoteSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, message: Message) -> BoxFuture<'_, Result<Signature, SignError>> {
        Box::pin(async move { self.ask(&message).await })
    }
}

/// Without the address, which is said before.
fn reason(error: HttpError) -> String {
    match error {
        HttpError::Connect { reason, .. } => format!("cannot connect: {reason}"),
        HttpError::Broken { reason, .. } => format!("the connection broke: {reason}"),
        HttpError::Timeout { after, .. } => format!("no answer within {after:?}"),
        error => error.to_string(),
    }
}

/// What somebody else says, fit for a log line.
fn printable(words: &str) -> String {
    words.chars().filter(|character| !character.is_control()).take(300).collect()
}
