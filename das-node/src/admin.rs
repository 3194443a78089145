//! The socket in the data directory, for `dastool` on the same machine: batches in and out without a signature, and backups.
//!
//! # Guarantees
//! - Whoever is not this process's user or root is hung up on before a byte of a request is read. The kernel says who it is.
//! - What is put is hashed here; only what has the name that it comes with is kept, and acknowledged when it is on disk.
//! - Memory: `AT_ONCE` requests at once, of bounded length; further ones wait.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use das_common::admin::{
    AboutNode, BackupRequest, BackupSummary, Entry, Form, Known, MAX_BATCH, MAX_HASHES, MAX_JSON, Progress,
    PutAnswer, Refusal, SOCKET, socket_path,
};
use das_common::batch::VerifiedBatch;
use das_common::data_hash::{DataHash, flat_hash};
use das_common::fault::{self, Coded, Fault};
use das_common::http::body::read_body;
use das_common::http::rest::Scope;
use das_common::wire::parse_get_by_hash;
use http::{StatusCode, Uri};
use parking_lot::Mutex;
use serde::Serialize;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clock::unix_time;
use crate::custody::Custody;
use crate::retrieve::Retrieve;
use crate::storage::backup::{BackupError, Meter};
use crate::storage::{BatchStore, Lookup, PutOutcome, StorageError};

/// Requests that are worked on at once.
const AT_ONCE: usize = 16;
/// How long the accept loop rests after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a request was not answered as asked.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The bytes have another name.
    #[error("{0}")]
    Unverified(String),
    /// It is here, and cannot be had.
    #[error("{0}")]
    Unavailable(String),
    #[error("nobody has it")]
    Absent,
    #[error("{0}")]
    Malformed(String),
}

impl Coded for Failure {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Storage(error) => error.fault(),
            Self::Backup(error) => error.fault(),
            Self::Unverified(_) | Self::Unavailable(_) | Self::Absent => fault::IMPORT_UNVERIFIED,
            Self::Malformed(_) => fault::IMPORT_BUSY,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Storage(error) if error.is_disk_full() => StatusCode::INSUFFICIENT_STORAGE,
            Self::Storage(StorageError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Storage(_) | Self::Backup(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unverified(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable(_) => StatusCode::CONFLICT,
            Self::Absent => StatusCode::NOT_FOUND,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
        };
        let refusal = Refusal { code: self.fault().code.to_owned(), error: self.to_string() };
        (status, json(&refusal)).into_response()
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Our own types have no keys but strings.
    serde_json::to_vec(value).unwrap_or_default()
}

/// What the socket reaches.
pub struct Admin {
    store: Arc<BatchStore>,
    /// Where what is not whole here comes from; a store without a node around it has none.
    retrieve: Option<Retrieve>,
    custody: Option<Custody>,
    slots: Arc<Semaphore>,
    backup: Mutex<Arc<Meter>>,
    stop: CancellationToken,
}

impl Admin {
    /// Of a store alone.
    pub fn of_store(store: Arc<BatchStore>, stop: CancellationToken) -> Self {
        let (retrieve, custody, backup) = Default::default();
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Self { store, retrieve, custody, slots, backup, stop }
    }

    /// Of a node: what is here as a shard is gathered.
    pub fn of_node(self, retrieve: Retrieve, custody: Option<Custody>) -> Self {
        Self { retrieve: Some(retrieve), custody, ..self }
    }

    async fn slot(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// Opens the socket. The store of the directory is open here, so that nobody else can be behind one that is there already.
///
/// # Errors
/// What the system says, for example on file systems without sockets.
pub fn bind(directory: &Path) -> io::Result<UnixListener> {
    let folder = File::open(directory)?;
    let path = socket_path(&folder);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until told to stop, then lets requests in flight end within `grace`, and removes the socket.
///
/// # Errors
/// None so far: see `OwnUsers`.
pub async fn serve(
    listener: UnixListener,
    directory: PathBuf,
    admin: Admin,
    grace: Duration,
) -> io::Result<()> {
    let stop = admin.stop.clone();
    let router = Router::new()
        .route("/about", get(about))
        .route("/known", post(known))
        .route("/list", get(list))
        .route("/batches/{hash}", get(get_batch).put(put_batch))
        .route("/backup", get(backup_progress).post(back_up))
        .with_state(Arc::new(admin));
    let served = axum::serve(OwnUsers(listener), router);
    let ended = served.with_graceful_shutdown(stop.clone().cancelled_owned()).into_future();
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        _ = ended => {}
        () = late => warn!("requests of dastool are cut off by the shutdown"),
    }
    // Gone already, or the next start removes it.
    let _ = std::fs::remove_file(directory.join(SOCKET));
    Ok(())
}

/// Accepts connections of this process's user and of root; others are hung up on.
struct OwnUsers(UnixListener);

impl axum::serve::Listener for OwnUsers {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (UnixStream, ()) {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) if may_enter(peer.uid()) => return (stream, ()),
                    Ok(peer) => {
                        warn!(uid = peer.uid(), "another user was turned away at the socket for dastool");
                    }
                    Err(error) => warn!(%error, "who is at the socket for dastool cannot be told"),
                },
                Err(error) => {
                    warn!(%error, "cannot accept connections of dastool, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

fn may_enter(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

async fn about(State(admin): State<Arc<Admin>>) -> Result<Vec<u8>, Failure> {
    let usage = admin.store.usage().await?;
    Ok(json(&AboutNode {
        version: env!("CARGO_PKG_VERSION").into(),
        serves: admin.retrieve.is_some(),
        batches: usage.whole_batches + usage.sharded_batches,
        bytes: usage.whole_bytes + usage.payload_bytes_of_sharded,
    }))
}

async fn known(State(admin): State<Arc<Admin>>, body: Body) -> Result<Vec<u8>, Failure> {
    let _slot = admin.slot().await;
    let body = body_of(body, MAX_HASHES * 32).await?;
    let (hashes, rest) = body.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Failure::Malformed(format!("{} bytes are no list of hashes", body.len())));
    }
    let hashes: Vec<DataHash> = hashes.iter().map(|hash| DataHash::from_bytes(*hash)).collect();
    blocking(move || {
        let mut answer = Vec::with_capacity(hashes.len() * Known::BYTES);
        for hash in &hashes {
            // As reads do: a flat hash is known by its tree form.
            let record = match admin.store.index().batch(hash)? {
                None => admin.store.index().batch(&DataHash::of_flat(*hash.as_bytes()))?,
                found => found,
            };
            let known = record.map_or(Known { form: Form::Absent, until: 0 }, |record| Known {
                form: form(record.payload.is_some()),
                until: record.timeout,
            });
            known.encode(&mut answer);
        }
        Ok(answer)
    })
    .await
}

fn form(whole: bool) -> Form {
    if whole { Form::Whole } else { Form::Shards }
}

async fn list(State(admin): State<Arc<Admin>>, uri: Uri) -> Result<Vec<u8>, Failure> {
    let _slot = admin.slot().await;
    let after = parameter(&uri, "after").map(parse_hash).transpose()?;
    let limit = number::<usize>(&uri, "limit")?.clamp(1, MAX_HASHES);
    blocking(move || {
        let from = after.unwrap_or(DataHash::from_bytes([0; 32]));
        // The one that was named may be the first.
        let batches = admin.store.index().batches_from(&from, limit + usize::from(after.is_some()))?;
        let mut answer = Vec::with_capacity(limit * Entry::BYTES);
        for (hash, record) in batches.into_iter().filter(|(hash, _)| Some(*hash) != after).take(limit) {
            let known = Known { form: form(record.payload.is_some()), until: record.timeout };
            Entry { hash, known, length: record.length }.encode(&mut answer);
        }
        Ok(answer)
    })
    .await
}

async fn get_batch(
    State(admin): State<Arc<Admin>>,
    UrlPath(hash): UrlPath<String>,
) -> Result<Bytes, Failure> {
    let _slot = admin.slot().await;
    let hash = parse_hash(&hash)?;
    let lacking = match admin.store.get(hash).await? {
        Lookup::Found(batch) => return Ok(batch.into_bytes()),
        Lookup::Absent => return Err(Failure::Absent),
        Lookup::Damaged => "its bytes on the disk are damaged",
        Lookup::Archived { .. } => "it is in the archive only",
        Lookup::Sharded { .. } => "only a shard of it is here",
    };
    let Some(retrieve) = &admin.retrieve else {
        return Err(Failure::Unavailable(format!(
            "{lacking}; ask while the node runs, so that others give it"
        )));
    };
    match retrieve.get(&hash, Scope::Everywhere).await {
        Ok(Some(found)) => match parse_get_by_hash(found.body()) {
            Ok(batch) => Ok(batch.into()),
            Err(error) => Err(Failure::Unavailable(format!("{lacking}, and {error}"))),
        },
        Ok(None) => Err(Failure::Unavailable(format!("{lacking}, and nobody else has it"))),
        Err(error) => Err(Failure::Unavailable(format!("{lacking}, and {error}"))),
    }
}

async fn put_batch(
    State(admin): State<Arc<Admin>>,
    UrlPath(hash): UrlPath<String>,
    uri: Uri,
    body: Body,
) -> Result<Vec<u8>, Failure> {
    let _slot = admin.slot().await;
    let until = number(&uri, "until")?;
    let hash = parse_hash(&hash)?;
    let body = body_of(body, MAX_BATCH).await?;
    let length = body.len() as u64;
    let batches = blocking(move || names(body, &hash)).await?;
    let mut answer = PutAnswer::Present;
    for batch in batches {
        let outcome = admin.store.put(&batch, until, unix_time()).await?;
        if let Some(retrieve) = &admin.retrieve {
            retrieve.damage().ended(&batch.hash());
        }
        answer = match (outcome, answer) {
            (PutOutcome::Written, _) => PutAnswer::Written,
            (PutOutcome::Healed | PutOutcome::MadeWhole, PutAnswer::Present) => PutAnswer::Mended,
            (_, before) => before,
        };
    }
    if let Some(custody) = &admin.custody {
        custody.arrived(length);
    }
    Ok(json(&answer))
}

/// The batch under every name that it must be found by: its data hash, and where it comes under its flat hash, the tree form
/// of that, which is another name if the batch is longer than one leaf of the tree.
fn names(bytes: Bytes, hash: &DataHash) -> Result<Vec<VerifiedBatch>, Failure> {
    let batch = VerifiedBatch::new(bytes);
    if batch.hash() == *hash {
        return Ok(vec![batch]);
    }
    let flat = flat_hash(batch.bytes());
    let tree_of_flat = DataHash::of_flat(flat);
    if flat != *hash.as_bytes() && tree_of_flat != *hash {
        let error = format!("{} bytes hash to {}", batch.bytes().len(), batch.hash());
        return Err(Failure::Unverified(error));
    }
    // `check` has just been answered: it is the tree form of the flat hash.
    let other = VerifiedBatch::check(batch.bytes().clone(), &tree_of_flat).ok();
    let other = other.filter(|other| other.hash() != batch.hash());
    Ok(std::iter::once(batch).chain(other).collect())
}

async fn back_up(State(admin): State<Arc<Admin>>, body: Body) -> Result<Vec<u8>, Failure> {
    let body = body_of(body, MAX_JSON).await?;
    let request: BackupRequest =
        serde_json::from_slice(&body).map_err(|error| Failure::Malformed(error.to_string()))?;
    blocking(move || {
        let meter = Arc::new(Meter::default());
        *admin.backup.lock() = Arc::clone(&meter);
        let manifest = admin.store.back_up(&request.to, request.base.as_deref(), &meter, &admin.stop)?;
        tracing::info!(to = %request.to.display(), bytes = manifest.bytes(), "a backup was made");
        Ok(json(&BackupSummary {
            batches: manifest.batches,
            bytes: manifest.bytes(),
            linked_bytes: manifest.linked_bytes(),
        }))
    })
    .await
}

async fn backup_progress(State(admin): State<Arc<Admin>>) -> Vec<u8> {
    let (done, of) = admin.backup.lock().read();
    json(&Progress { done, of })
}

fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn number<T: FromStr>(uri: &Uri, name: &str) -> Result<T, Failure> {
    let value = parameter(uri, name).and_then(|value| value.parse().ok());
    value.ok_or_else(|| Failure::Malformed(format!("{uri}: {name} is no number")))
}

fn parse_hash(text: &str) -> Result<DataHash, Failure> {
    text.parse().map_err(|error| Failure::Malformed(format!("{text:?}: {error}")))
}

async fn body_of(body: Body, limit: usize) -> Result<Bytes, Failure> {
    read_body(body, limit).await.map_err(|error| Failure::Malformed(error.to_string()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StorageError::Closed)?
}

impl From<crate::storage::index::IndexError> for Failure {
    fn from(error: crate::storage::index::IndexError) -> Self {
        Self::Storage(error.into())
    }
}
