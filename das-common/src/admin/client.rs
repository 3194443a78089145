//! The side of `dastool`.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

use super::{
    AboutNode, BackupRequest, BackupSummary, Entry, Known, MAX_BATCH, MAX_HASHES, MAX_JSON, Progress,
    PutAnswer, Refusal, socket_path,
};
use crate::data_hash::DataHash;

/// Why a call gave no answer that can be used.
#[derive(Debug, Error)]
pub enum AdminError {
    /// Nobody is there.
    #[error("no das-node answers at the socket in {}: {source}", directory.display())]
    Connect {
        /// The data directory.
        directory: PathBuf,
        /// The system's report.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to das-node broke: {source}")]
    Broken {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It says no, and why.
    #[error("{}: {}", refusal.code, refusal.error)]
    Refused {
        /// The status.
        status: StatusCode,
        /// Why.
        refusal: Refusal,
    },
    /// An answer of another release.
    #[error("das-node answers {what} in a form that this release does not know")]
    Malformed {
        /// What was asked.
        what: &'static str,
    },
}

fn broken(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AdminError {
    AdminError::Broken { source: source.into() }
}

/// Calls the node of a data directory. Cheap to clone; each call has a connection of its own.
#[derive(Debug, Clone)]
pub struct AdminClient {
    directory: PathBuf,
}

impl AdminClient {
    /// For the node of this data directory, whether it is there or not.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Who is there.
    pub async fn about(&self) -> Result<AboutNode, AdminError> {
        self.json("who it is", Method::GET, "/about", Bytes::new()).await
    }

    /// What is known of these batches, in their order; at most [`MAX_HASHES`] at once.
    pub async fn known(&self, hashes: &[DataHash]) -> Result<Vec<Known>, AdminError> {
        let body: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        let answer = self.call(Method::POST, "/known", body.into(), MAX_HASHES * Known::BYTES).await?;
        let (found, rest) = answer.as_chunks::<{ Known::BYTES }>();
        let found: Option<Vec<Known>> = found.iter().map(Known::decode).collect();
        let found = found.filter(|found| found.len() == hashes.len() && rest.is_empty());
        found.ok_or(AdminError::Malformed { what: "what is known" })
    }

    /// The batches behind this one by data hash, from the first on without it, at most `limit`.
    pub async fn list(&self, after: Option<&DataHash>, limit: usize) -> Result<Vec<Entry>, AdminError> {
        let after = after.map(|hash| format!("after={hash}&")).unwrap_or_default();
        let path = format!("/list?{after}limit={}", limit.min(MAX_HASHES));
        let answer = self.call(Method::GET, &path, Bytes::new(), MAX_HASHES * Entry::BYTES).await?;
        let (found, rest) = answer.as_chunks::<{ Entry::BYTES }>();
        let found: Option<Vec<Entry>> = found.iter().map(Entry::decode).collect();
        found.filter(|_| rest.is_empty()).ok_or(AdminError::Malformed { what: "the list" })
    }

    /// Has it keep a batch until then (unix seconds). When this returns, a power cut takes nothing of it.
    pub async fn put(&self, hash: &DataHash, until: u64, batch: Bytes) -> Result<PutAnswer, AdminError> {
        self.json("a put", Method::PUT, &format!("/batches/{hash}?until={until}"), batch).await
    }

    /// A batch, not checked; `None`: nobody has it.
    pub async fn get(&self, hash: &DataHash) -> Result<Option<Bytes>, AdminError> {
        match self.call(Method::GET, &format!("/batches/{hash}"), Bytes::new(), MAX_BATCH).await {
            Err(AdminError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Makes a backup; returns when it is complete.
    pub async fn back_up(&self, request: &BackupRequest) -> Result<BackupSummary, AdminError> {
        self.json("a backup", Method::POST, "/backup", encode(request)?).await
    }

    /// How far the backup under way is.
    pub async fn backup_progress(&self) -> Result<Progress, AdminError> {
        self.json("how far it is", Method::GET, "/backup", Bytes::new()).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, AdminError> {
        let answer = self.call(method, path, body, MAX_JSON).await?;
        serde_json::from_slice(&answer).map_err(|_| AdminError::Malformed { what })
    }

    async fn call(&self, method: Method, path: &str, body: Bytes, limit: usize) -> Result<Bytes, AdminError> {
        let connect = |source| AdminError::Connect { directory: self.directory.clone(), source };
        let folder = std::fs::File::open(&self.directory).map_err(connect)?;
        let stream = UnixStream::connect(socket_path(&folder)).await.map_err(connect)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "das-node");
        let request = request.body(Full::new(body)).map_err(broken)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let limit = if status.is_success() { limit } else { MAX_JSON };
            Ok((
                status,
                Limited::new(response.into_body(), limit).collect().await.map_err(broken)?.to_bytes(),
            ))
        };
        let answer = answer.await;
        connection.abort();
        let (status, body) = answer?;
        if status.is_success() {
            return Ok(body);
        }
        let refusal = serde_json::from_slice(&body);
        Err(match refusal {
            Ok(refusal) => AdminError::Refused { status, refusal },
            Err(_) => AdminError::Malformed { what: "a refusal" },
        })
    }
}

fn encode(value: &impl Serialize) -> Result<Bytes, AdminError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(broken)
}
