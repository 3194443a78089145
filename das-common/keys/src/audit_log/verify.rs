//! Reading a log from its beginning.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use base64_simd::STANDARD;
use das_common::bls::PublicKey;
use das_common::keccak::keccak256;

use super::file::beginning;
use super::{AuditError, Event, MAX_LINE_BYTES, MAX_TORN_BYTES, Record, SCRAP_END};
use crate::wire::parse_signature;

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Records.
    pub records: u64,
    /// Of these, signatures.
    pub signatures: u64,
    /// Writes that were cut short, and recognised when the signer started again.
    pub repaired: u64,
    /// The public key (base64), if there is a record.
    pub public_key: Option<String>,
    /// The hash of the last record.
    pub head: [u8; 32],
    /// What a write left at the end which was cut short.
    pub torn: Option<Torn>,
}

/// What a write left which was cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Bytes.
    pub bytes: u64,
    /// Their Keccak-256 in hex.
    pub hash: String,
}

/// The hash of a line.
pub(super) fn chain(before: &[u8; 32], record: &[u8]) -> [u8; 32] {
    keccak256(&[before.as_slice(), record].concat())
}

/// A log that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it holds.
    pub summary: Summary,
    /// Whether a record has the hash that was asked for.
    pub has_head: bool,
}

/// Checks the chain of a whole file, and of each signature that it is one of the file's key. `head` is the hash of a record
/// that was noted elsewhere, in hex, or empty.
pub fn verify(path: &Path, head: &str) -> Result<Verified, AuditError> {
    let (mut key, mut has_head) = (None, false);
    let summary = scan(path, |public_key, hash, record| {
        has_head |= const_hex::encode(hash) == head;
        let Event::Signed { request, signature, .. } = &record.event else { return Ok(()) };
        if key.is_none() {
            let bytes = public_key.and_then(|text| STANDARD.decode_to_vec(text).ok());
            key = bytes.and_then(|bytes| PublicKey::parse(&bytes).ok());
        }
        let key = key.as_ref().ok_or("the file's public key is none")?;
        let message = request.message().map_err(|error| error.to_string())?;
        let signature = parse_signature(signature).ok_or("the signature is none")?;
        if !message.is_signed_by(key, &signature) {
            return Err("the signature is not of this request and key".to_owned());
        }
        Ok(())
    })?;
    Ok(Verified { summary, has_head })
}

/// Reads a file line by line; `each` sees the file's public key, and every record with its hash.
pub(super) fn scan(
    path: &Path,
    mut each: impl FnMut(Option<&str>, &[u8; 32], &Record) -> Result<(), String>,
) -> Result<Summary, AuditError> {
    let io = |error: io::Error| AuditError::Io {
        what: "read",
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut found =
        Summary { records: 0, signatures: 0, repaired: 0, public_key: None, head: beginning(), torn: None };
    // Bytes that are no record of this chain, since the last one that was.
    let mut scrap: Vec<u8> = Vec::new();
    let mut number = 0;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        reader.by_ref().take(MAX_TORN_BYTES).read_until(b'\n', &mut bytes).map_err(io)?;
        if bytes.is_empty() {
            break;
        }
        number += 1;
        let damaged = |reason: &str| AuditError::Damaged {
            path: path.to_path_buf(),
            line: number,
            reason: reason.to_owned(),
        };
        let line = bytes.strip_suffix(b"\n").and_then(Line::parse);
        match line {
            Some(line) if line.hash == chain(&found.head, line.text) => {
                let Some(record) = line.record else { return Err(damaged("no record of a known form")) };
                match (&record.event, scrap.strip_suffix(SCRAP_END)) {
                    _ if scrap.is_empty() => {}
                    (Event::Torn { bytes, hash }, Some(left))
                        if *bytes == left.len() as u64 && *hash == const_hex::encode(keccak256(left)) =>
                    {
                        found.repaired += 1;
                        scrap.clear();
                    }
                    _ => return Err(damaged("bytes before it belong to no record")),
                }
                found.take(&record).map_err(|reason| damaged(&reason))?;
                each(found.public_key.as_deref(), &line.hash, &record).map_err(|reason| damaged(&reason))?;
                found.head = line.hash;
            }
            // A whole line in the form of a record is not what a write leaves that was cut short.
            Some(_) => return Err(damaged("its hash does not follow from the line before")),
            None if scrap.len() as u64 + bytes.len() as u64 > MAX_TORN_BYTES => {
                return Err(damaged("too much that belongs to no record"));
            }
            None => scrap.extend_from_slice(&bytes),
        }
    }
    if !scrap.is_empty() {
        let hash = const_hex::encode(keccak256(&scrap));
        found.torn = Some(Torn { bytes: scrap.len() as u64, hash });
    }
    Ok(found)
}

/// A line in the form of a record.
struct Line<'a> {
    hash: [u8; 32],
    text: &'a [u8],
    record: Option<Record>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let (digits, rest) = line.split_at_checked(64)?;
        let text = rest.strip_prefix(b" ").filter(|text| text.len() <= MAX_LINE_BYTES)?;
        let mut hash = [0; 32];
        // Hex has two forms, a line has one.
        if digits.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        const_hex::decode_to_slice(digits, &mut hash).ok()?;
        // What is no JSON was cut short, or is damage that the hash shows.
        serde_json::from_slice::<serde::de::IgnoredAny>(text).ok()?;
        Some(Self { hash, text, record: serde_json::from_slice(text).ok() })
    }
}

impl Summary {
    fn take(&mut self, record: &Record) -> Result<(), String> {
        if record.number != self.records + 1 {
            return Err(format!("it has number {}, expected {}", record.number, self.records + 1));
        }
        self.records = record.number;
        match &record.event {
            Event::Started { public_key, .. } => match &self.public_key {
                Some(before) if before != public_key => return Err("it is of another key".to_owned()),
                _ => self.public_key = Some(public_key.clone()),
            },
            Event::Signed { .. } if self.public_key.is_none() => {
                return Err("a signature before the signer started".to_owned());
            }
            Event::Signed { .. } => self.signatures += 1,
            Event::Torn { .. } => {}
        }
        Ok(())
    }
}
