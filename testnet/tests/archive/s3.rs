//! An S3 server over a directory, in this process, behind a door that can be shut, held or made to lie.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use das_common::data_hash::DataHash;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub(crate) const BUCKET: &str = "batches";
const ACCESS: &str = "AKIATESTS";
const SECRET: &str = "a-secret-of-tests";

/// How requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well = 0,
    /// Connections are closed.
    Down = 1,
    /// Nothing is ever answered.
    Hung = 2,
    /// 503 to everything.
    Refusing = 3,
}

/// The server, until it is dropped.
pub(crate) struct S3 {
    root: TempDir,
    address: SocketAddr,
    mood: Arc<AtomicU8>,
    _runtime: Runtime,
}

impl S3 {
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS, SECRET));
        let service = builder.build();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, mood) = (listener.local_addr().unwrap(), Arc::new(AtomicU8::new(0)));
        let at_door = Arc::clone(&mood);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (mood, service) = (Arc::clone(&at_door), service.clone());
                tokio::spawn(async move {
                    let answer = service_fn(move |request: Request<Incoming>| {
                        let (mood, service) = (Arc::clone(&mood), service.clone());
                        async move {
                            match mood.load(Ordering::Relaxed) {
                                0 => Service::<Request<Incoming>>::call(&service, request)
                                    .await
                                    .map_err(|error| format!("{error:?}")),
                                1 => Err("down".to_owned()),
                                2 => std::future::pending().await,
                                _ => Ok(Response::builder()
                                    .status(503)
                                    .body(s3s::Body::from("<Error><Code>SlowDown</Code></Error>".to_owned()))
                                    .unwrap()),
                            }
                        }
                    });
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), answer)
                        .await;
                });
            }
        });
        Self { root, address, mood, _runtime: runtime }
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Relaxed);
    }

    /// The options of a node that has its archive here, in Nitro's words.
    pub(crate) fn options(&self, prefix: &str) -> Vec<String> {
        self.options_with(BUCKET, SECRET, prefix)
    }

    pub(crate) fn options_with(&self, bucket: &str, secret: &str, prefix: &str) -> Vec<String> {
        let section = "--data-availability.s3-storage";
        vec![
            format!("{section}.enable"),
            format!("{section}.endpoint=http://{}", self.address),
            format!("{section}.bucket={bucket}"),
            format!("{section}.region=us-east-1"),
            format!("{section}.access-key={ACCESS}"),
            format!("{section}.secret-key={secret}"),
            format!("{section}.object-prefix={prefix}"),
        ]
    }

    fn bucket(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// The file behind an object.
    pub(crate) fn file(&self, prefix: &str, hash: &DataHash) -> PathBuf {
        self.bucket().join(format!("{prefix}{}", const_hex::encode(hash.as_bytes())))
    }

    /// Puts an object there as another server would.
    pub(crate) fn place(&self, prefix: &str, hash: &DataHash, bytes: &[u8]) {
        let path = self.file(prefix, hash);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Waits for an object.
    #[track_caller]
    pub(crate) fn wait_for(&self, prefix: &str, batch: &[u8]) {
        let path = self.file(prefix, &DataHash::of(batch));
        until("the object is there", || std::fs::read(&path).is_ok_and(|found| found == batch));
    }
}

/// Far more than anything takes.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    let waited = das_testnet::custody::wait_until(Duration::from_secs(120), is_so);
    assert!(waited.is_some(), "never came: {what}");
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The bytes that a directory takes on disk.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|entry| entry.unwrap().metadata().map_or(0, |metadata| metadata.blocks() * 512)).sum()
}
