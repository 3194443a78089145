//! The writer: one thread through which every change of the store goes.
//!
//! Stores that arrive while a sync is under way wait together for the next one (group commit). A group is written
//! and synced to a segment first and entered into the index second, so the index never names bytes that a power cut
//! could take; and since the writer is alone, no lock is held by anybody while the disk works.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use bytes::Bytes;
use das_common::data_hash::DataHash;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::StorageError;
use super::index::{BatchRecord, Change, Index, LogEnd, SegmentRecord, state};
use super::segment::{
    self, ALIGNMENT, Append, OpenSegment, Place, RecordHeader, RecordKind, SegmentHeader, StorageId,
};

/// One group takes at most about this many bytes of payload ...
const GROUP_BYTES: usize = 16 << 20;
/// ... and this many commands.
const GROUP_COMMANDS: usize = 256;
/// The index is synced after so many bytes of records: it bounds what a start after a power cut has to scan.
const INDEX_SYNC_BYTES: u64 = 64 << 20;

/// A batch to be stored.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) hash: DataHash,
    pub(super) payload: Bytes,
    pub(super) timeout: u64,
    pub(super) now: u64,
    /// The payload at this place was found damaged: write a new one.
    pub(super) heal: Option<Place>,
    pub(super) reply: oneshot::Sender<Result<(), StorageError>>,
}

/// What one step of expiry removed.
#[derive(Debug, Default)]
pub struct Expired {
    /// The batches that are gone.
    pub hashes: Vec<DataHash>,
    /// Where they were: space to be given back.
    pub(super) places: Vec<Place>,
    /// Segments in which nothing is left.
    pub(super) segments: Vec<u64>,
}

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Put(Put),
    /// Forget at most `limit` batches whose timeout is at most `until`.
    Expire {
        until: u64,
        limit: usize,
        reply: oneshot::Sender<Result<Expired, StorageError>>,
    },
    /// Sync the index and end.
    Close,
}

pub(super) type Commands = Sender<Command>;

/// The writer's own state.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) index: Arc<Index>,
    pub(super) directory: PathBuf,
    pub(super) storage: StorageId,
    pub(super) segment_bytes: u64,
    /// Stores are refused when less than this is free on the disk.
    pub(super) reserve_bytes: u64,
    /// Free bytes that the last store would have needed if it was refused for want of them, else 0. Shared with those
    /// who report health.
    pub(super) lacking: Arc<AtomicU64>,
    open: Option<OpenSegment>,
    segments: BTreeMap<u64, SegmentRecord>,
    /// Ids are never used twice: the known end of the log must not point into another segment of the same name.
    next_id: u64,
    unsynced: u64,
}

/// The index entries that a group changes. What it counts lies over the writer's own counts until the index has taken
/// it: a change that fails must leave nothing behind, or segments would seem emptier than they are.
struct Group<'a> {
    index: &'a Index,
    change: Change<'a>,
    batches: HashMap<DataHash, BatchRecord>,
    before: &'a BTreeMap<u64, SegmentRecord>,
    touched: BTreeMap<u64, SegmentRecord>,
}

impl<'a> Group<'a> {
    fn new(index: &'a Index, before: &'a BTreeMap<u64, SegmentRecord>) -> Self {
        let (batches, touched) = (HashMap::new(), BTreeMap::new());
        Self { index, change: index.change(), batches, before, touched }
    }

    fn current(&self, hash: &DataHash) -> Result<Option<BatchRecord>, StorageError> {
        match self.batches.get(hash) {
            Some(record) => Ok(Some(*record)),
            None => Ok(self.index.batch(hash)?),
        }
    }

    fn enter(&mut self, header: &RecordHeader, place: Place) -> Result<(), StorageError> {
        let before = self.current(&header.hash)?;
        let record = match (header.kind, before) {
            // Its payload expired, or was never whole: a timeout for nothing.
            (RecordKind::Extension, None) => return Ok(()),
            (RecordKind::Extension, Some(before)) if header.timeout <= before.timeout => return Ok(()),
            (RecordKind::Extension, Some(before)) => BatchRecord {
                timeout: header.timeout,
                extension: Some((place.segment, place.offset)),
                ..before
            },
            (RecordKind::Payload, before) => {
                let later = before.filter(|b| b.timeout > header.timeout);
                BatchRecord {
                    segment: place.segment,
                    offset: place.offset,
                    length: place.length,
                    timeout: later.map_or(header.timeout, |b| b.timeout),
                    stored_at: before.map_or(header.stored_at, |b| b.stored_at),
                    key_id: header.key_id,
                    extension: later.and_then(|b| b.extension),
                }
            }
        };
        record.records().for_each(|place| self.live(&place, true));
        before.iter().flat_map(BatchRecord::records).for_each(|place| self.live(&place, false));
        self.change.set_batch(&header.hash, &record, before.as_ref());
        self.batches.insert(header.hash, record);
        Ok(())
    }

    fn live(&mut self, place: &Place, more: bool) {
        let before = || self.before.get(&place.segment).copied().unwrap_or_default();
        let record = self.touched.entry(place.segment).or_insert_with(before);
        let count = |of: u64, by: u64| if more { of.saturating_add(by) } else { of.saturating_sub(by) };
        record.live_records = count(record.live_records, 1);
        record.live_bytes = count(record.live_bytes, place.disk_bytes());
    }

    /// Enters everything into the index. Returns how full the touched segments are now.
    fn apply(
        mut self,
        end: Option<LogEnd>,
        synced: bool,
    ) -> Result<BTreeMap<u64, SegmentRecord>, StorageError> {
        for (id, record) in &self.touched {
            self.change.set_segment(*id, Some(record));
        }
        if let Some(end) = end {
            self.change.set_state(state::LOG_END, &end);
        }
        self.change.apply(synced)?;
        Ok(self.touched)
    }
}

impl Writer {
    /// Brings the index up to the end of the log and removes segments in which nothing is left. Without a known end
    /// (a new or lost index) every segment is read.
    pub(super) fn recover(
        index: Arc<Index>,
        directory: PathBuf,
        storage: StorageId,
        segment_bytes: u64,
        reserve_bytes: u64,
    ) -> Result<Self, StorageError> {
        let segments = index.segments()?.into_iter().collect();
        let (open, next_id, unsynced, lacking) = (None, 0, 0, Arc::default());
        let mut writer = Self {
            index,
            directory,
            storage,
            segment_bytes,
            reserve_bytes,
            lacking,
            open,
            segments,
            next_id,
            unsynced,
        };
        let known: Option<LogEnd> = writer.index.state(state::LOG_END)?;
        let failed = |what: &'static str, path: PathBuf| {
            move |source: io::Error| StorageError::open(what, path, source)
        };
        let ids = segment::list(&writer.directory).map_err(failed("list", writer.directory.clone()))?;
        if known.is_none() && !ids.is_empty() {
            warn!(
                segments = ids.len(),
                "the index is new but there are segments: building the index from them"
            );
        }
        writer.next_id = ids.last().copied().max(known.map(|end| end.segment)).map_or(0, |id| id + 1);
        for &id in &ids {
            let path = segment::path(&writer.directory, id);
            let from = match known {
                Some(end) if id < end.segment => continue,
                Some(end) if id == end.segment => end.offset,
                _ => 0,
            };
            match segment::read_header(&writer.directory, id).map_err(failed("read", path.clone()))? {
                SegmentHeader::Valid(found) if found == storage => {}
                SegmentHeader::Valid(_) | SegmentHeader::Invalid => {
                    return Err(StorageError::ForeignSegment { path });
                }
                SegmentHeader::Blank => {
                    std::fs::remove_file(&path).map_err(failed("remove", path))?;
                    continue;
                }
            }
            // A sync that failed is reported to one caller only, and what the page cache holds need not be on the disk:
            // before anything here is trusted, it is synced, and read from the disk.
            let file = File::options().write(true).open(&path).map_err(failed("open", path.clone()))?;
            file.sync_all().map_err(failed("sync", path.clone()))?;
            forget_cached(&file);
            let (end, found) = writer.index_segment(id, from).map_err(|e| match e {
                StorageError::Write { source } => StorageError::open("scan", path.clone(), copy_of(&source)),
                other => other,
            })?;
            file.set_len(end).and_then(|()| file.sync_all()).map_err(failed("truncate", path))?;
            if found > 0 {
                info!(segment = id, records = found, "records found behind the known end of the log");
            }
        }
        // The index must not fall back to before a segment that is gone.
        writer.index.sync()?;
        for id in ids {
            if writer.segments.get(&id).is_none_or(|s| s.live_records == 0) {
                let path = segment::path(&writer.directory, id);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StorageError::open("remove", path, error));
                    }
                    _ => {}
                }
                let mut change = writer.index.change();
                change.set_segment(id, None);
                change.apply(false)?;
                writer.segments.remove(&id);
            }
        }
        Ok(writer)
    }

    fn index_segment(&mut self, id: u64, from: u64) -> Result<(u64, usize), StorageError> {
        let Self { index, segments, directory, storage, .. } = self;
        let mut found = Vec::new();
        let mut count = 0;
        let mut enter = |found: &mut Vec<segment::Found>| -> Result<(), StorageError> {
            let mut group = Group::new(index, segments);
            for record in found.drain(..) {
                group.enter(&record.header, record.place)?;
            }
            let touched = group.apply(None, false)?;
            segments.extend(touched);
            Ok(())
        };
        let end = segment::scan(directory, id, storage, from, |record| {
            count += 1;
            found.push(record);
            if found.len() == GROUP_COMMANDS { enter(&mut found).map_err(io::Error::other) } else { Ok(()) }
        })
        .map_err(StorageError::write)?;
        enter(&mut found)?;
        let mut change = index.change();
        change.set_state(state::LOG_END, &LogEnd { segment: id, offset: end });
        change.apply(false)?;
        Ok((end, count))
    }

    /// Works until it is told to close or nobody can ask any more.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut closing = false;
        while !closing {
            let Ok(first) = commands.recv() else { break };
            let mut puts = Vec::new();
            let mut expiries = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Put(put) => {
                        bytes += put.payload.len();
                        puts.push(put);
                    }
                    Command::Expire { until, limit, reply } => expiries.push((until, limit, reply)),
                    Command::Close => {
                        closing = true;
                        break;
                    }
                }
                if bytes >= GROUP_BYTES || puts.len() >= GROUP_COMMANDS {
                    break;
                }
                next = commands.try_recv().ok();
            }
            if !puts.is_empty() {
                self.put_group(puts);
            }
            for (until, limit, reply) in expiries {
                let _ = reply.send(self.expire(until, limit));
            }
        }
        if let Some(open) = self.open.take()
            && let Err(error) = open.seal()
        {
            warn!(%error, "the last segment could not be trimmed; the next start does it");
        }
        if let Err(error) = self.index.sync() {
            error!(%error, "the index could not be synced at the end; the next start scans the log instead");
        }
    }

    fn put_group(&mut self, puts: Vec<Put>) {
        let result = self.try_put_group(&puts);
        if let Err(error) = &result {
            error!(%error, stores = puts.len(), "stores refused");
        }
        for put in puts {
            let _ = put.reply.send(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(error.copy()),
            });
        }
    }

    fn try_put_group(&mut self, puts: &[Put]) -> Result<(), StorageError> {
        let records = self.decide(puts)?;
        if records.is_empty() {
            return Ok(());
        }
        let bytes: u64 = records.iter().map(|r| segment::record_size(r.payload.len() as u64)).sum();
        let mut open = self.segment_with_room(bytes)?;
        let places = match open.append(&records) {
            Ok(places) => places,
            Err(error) => {
                // Nobody knows what a failed write or sync left: this segment ends here, the next group gets a new
                // one. The scan of the next start sorts out whole records.
                let _ = open.seal();
                return Err(StorageError::write(error));
            }
        };
        let end = LogEnd { segment: open.id(), offset: open.end() };
        self.open = Some(open);
        let mut group = Group::new(&self.index, &self.segments);
        for (record, place) in records.iter().zip(places) {
            group.enter(&record.header, place)?;
        }
        let touched = group.apply(Some(end), false)?;
        self.segments.extend(touched);
        self.unsynced += bytes;
        if self.unsynced >= INDEX_SYNC_BYTES {
            self.index.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// The records that these stores need: a payload for what is new or damaged, an extension for a later timeout.
    fn decide(&self, puts: &[Put]) -> Result<Vec<Append>, StorageError> {
        let mut records = Vec::with_capacity(puts.len());
        let mut latest: HashMap<DataHash, u64> = HashMap::new();
        for put in puts {
            let in_group = latest.get(&put.hash).copied();
            let indexed = if in_group.is_none() { self.index.batch(&put.hash)? } else { None };
            let promised = in_group.or(indexed.map(|record| record.timeout));
            let damaged = indexed.is_some_and(|record| put.heal == Some(record.place()));
            // A new payload takes over what the damaged one promised.
            let timeout = promised.map_or(put.timeout, |p| p.max(put.timeout));
            let (kind, payload) = match promised {
                Some(promised) if !damaged && put.timeout <= promised => continue,
                Some(_) if !damaged => (RecordKind::Extension, Bytes::new()),
                _ => (RecordKind::Payload, put.payload.clone()),
            };
            latest.insert(put.hash, timeout);
            let header = RecordHeader {
                kind,
                key_id: 0,
                length: payload.len() as u64,
                hash: put.hash,
                timeout,
                stored_at: put.now,
            };
            records.push(Append { header, payload });
        }
        Ok(records)
    }

    fn segment_with_room(&mut self, bytes: u64) -> Result<OpenSegment, StorageError> {
        let mut free = super::free_bytes(&self.directory).map_err(StorageError::write)?;
        if let Some(open) = self.open.take() {
            if open.has_room(bytes) {
                if free < self.reserve_bytes / 2 {
                    // Others fill the disk: the index still needs a little.
                    self.lacking.store(self.reserve_bytes / 2, Ordering::Relaxed);
                    self.open = Some(open);
                    return Err(StorageError::DiskFull { free, reserve: self.reserve_bytes });
                }
                self.lacking.store(0, Ordering::Relaxed);
                return Ok(open);
            }
            self.close_segment(open)?;
            // What it had not used is free now.
            free = super::free_bytes(&self.directory).map_err(StorageError::write)?;
        }
        let least = bytes + ALIGNMENT;
        let spare = free.saturating_sub(self.reserve_bytes);
        if spare < least {
            self.lacking.store(self.reserve_bytes.saturating_add(least), Ordering::Relaxed);
            return Err(StorageError::DiskFull { free, reserve: self.reserve_bytes });
        }
        self.lacking.store(0, Ordering::Relaxed);
        // On a nearly full disk a smaller segment: never more than a quarter of what is left.
        let capacity = self.segment_bytes.min(spare / 4).max(least).next_multiple_of(ALIGNMENT);
        let id = self.next_id;
        self.next_id += 1;
        OpenSegment::create(&self.directory, id, self.storage, capacity).map_err(StorageError::write)
    }

    fn close_segment(&mut self, open: OpenSegment) -> Result<(), StorageError> {
        let id = open.id();
        open.seal().map_err(StorageError::write)?;
        if self.segments.get(&id).is_some_and(|s| s.live_records == 0) {
            self.forget_segment(id)?;
            self.index.sync()?;
            let path = segment::path(&self.directory, id);
            std::fs::remove_file(path).map_err(StorageError::write)?;
        }
        Ok(())
    }

    fn forget_segment(&mut self, id: u64) -> Result<(), StorageError> {
        self.segments.remove(&id);
        let mut change = self.index.change();
        change.set_segment(id, None);
        Ok(change.apply(false)?)
    }

    fn expire(&mut self, until: u64, limit: usize) -> Result<Expired, StorageError> {
        let due = self.index.expiring(until, limit)?;
        let mut expired = Expired::default();
        if due.is_empty() {
            return Ok(expired);
        }
        let open = self.open.as_ref().map(OpenSegment::id);
        let mut group = Group::new(&self.index, &self.segments);
        for (timeout, hash) in due {
            match group.index.batch(&hash)? {
                Some(record) if record.timeout == timeout => {
                    group.change.delete_batch(&hash, &record);
                    record.records().for_each(|place| group.live(&place, false));
                    expired.places.extend(record.records());
                    expired.hashes.push(hash);
                }
                _ => group.change.delete_expiry(timeout, &hash),
            }
        }
        // Synced: the bytes are given back to the file system next, and an index that a power cut took back to
        // before this must not name them.
        let touched = group.apply(None, true)?;
        self.segments.extend(touched.iter().map(|(id, record)| (*id, *record)));
        for (id, record) in touched {
            if Some(id) != open && record.live_records == 0 {
                self.forget_segment(id)?;
                expired.segments.push(id);
            }
        }
        Ok(expired)
    }
}

/// Lets the next reads of a file come from the disk. Only advice: a kernel that does not take it reads as before.
fn forget_cached(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

fn copy_of(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}
