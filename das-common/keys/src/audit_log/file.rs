//! The file, written by one thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64_simd::STANDARD;
use das_common::bls::PublicKey;
use das_common::keccak::keccak256;
use rustix::fs::{FlockOperation, flock};

use super::verify::{Summary, chain, scan};
use super::{AuditError, Event, Opened, Record, SCRAP_END};

/// The file and where its chain is.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    head: [u8; 32],
    next: u64,
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> AuditError {
    move |error| AuditError::Io { what, path: path.to_path_buf(), reason: error.to_string() }
}

impl LogFile {
    pub(super) fn open(path: PathBuf, key: &PublicKey, version: &str) -> Result<(Self, Opened), AuditError> {
        let file = OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => AuditError::Held { path: path.clone() },
            error => io_error("lock", &path)(error.into()),
        })?;
        let public_key = STANDARD.encode_to_string(key.to_bytes());
        let Summary { records, head, public_key: of, torn, .. } = scan(&path, |_, _, _| Ok(()))?;
        if of.is_some_and(|of| of != public_key) {
            return Err(AuditError::OtherKey { path });
        }
        // The folder's entry of a new file must not vanish either.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        synced.map_err(io_error("sync the folder of", &path))?;
        let mut log = Self { path, file, head, next: records + 1 };
        let mut events = Vec::new();
        if let Some(left) = &torn {
            log.write(SCRAP_END)?;
            events.push(Event::Torn { bytes: left.bytes, hash: left.hash.clone() });
        }
        events.push(Event::Started { version: version.to_owned(), public_key });
        log.append(events)?;
        let torn = torn.map(|left| left.bytes);
        let opened = Opened { records, torn, head: const_hex::encode(log.head) };
        Ok((log, opened))
    }

    /// Writes records, and syncs them.
    pub(super) fn append(&mut self, events: Vec<Event>) -> Result<(), AuditError> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut lines = Vec::new();
        for event in events {
            let record = Record { number: self.next, time, event };
            let text = serde_json::to_vec(&record)
                .map_err(|error| io_error("write to", &self.path)(error.into()))?;
            self.head = chain(&self.head, &text);
            self.next += 1;
            lines.extend_from_slice(const_hex::encode(self.head).as_bytes());
            lines.push(b' ');
            lines.extend_from_slice(&text);
            lines.push(b'\n');
        }
        self.write(&lines)?;
        self.file.sync_data().map_err(io_error("sync", &self.path))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), AuditError> {
        self.file.write_all(bytes).map_err(io_error("write to", &self.path))
    }
}

/// The hash that a file begins with.
pub(super) fn beginning() -> [u8; 32] {
    keccak256(b"das signer audit log 1")
}
