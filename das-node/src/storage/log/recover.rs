//! The start: the index is brought up to the end of the log.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use super::group::Group;
use super::sweep::Sweeper;
use super::{GROUP_COMMANDS, Writer};
use crate::storage::index::{Index, LogEnd, Totals, state};
use crate::storage::sealing::{Sealer, UnknownKey};
use crate::storage::segment::{self, Found, SegmentHeader, forget_cached};
use crate::storage::{StorageError, StorageOptions, copy_of};

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path: PathBuf = path.to_path_buf();
    move |source| StorageError::open(what, path, source)
}

impl Writer {
    /// Brings the index up to the end of the log, removes segments in which nothing is left, and gives back what an
    /// earlier run had no time to. Without a known end (a new or lost index) every segment is read.
    pub(in crate::storage) fn recover(
        index: Arc<Index>,
        directory: PathBuf,
        sealer: Sealer,
        options: &StorageOptions,
        sweeper: &Sweeper,
    ) -> Result<Self, StorageError> {
        let segments = index.segments()?.into_iter().collect();
        let totals: Totals = index.state(state::TOTALS)?.unwrap_or_default();
        let mut writer = Self {
            index,
            directory,
            sealer,
            segment_bytes: options.segment_bytes,
            reserve_bytes: options.reserve_bytes,
            lacking: Arc::default(),
            sweeps: None,
            open: None,
            open_in_reserve: false,
            segments,
            totals,
            next_id: 0,
            unsynced: 0,
        };
        let known: Option<LogEnd> = writer.index.state(state::LOG_END)?;
        let ids = segment::list(&writer.directory).map_err(failed("list", &writer.directory))?;
        if known.is_none() && !ids.is_empty() {
            warn!(
                segments = ids.len(),
                "the index is new but there are segments: building the index from them"
            );
        }
        writer.next_id = ids.last().copied().max(known.map(|end| end.segment)).map_or(0, |id| id + 1);
        for &id in &ids {
            let from = match known {
                Some(end) if id < end.segment => continue,
                Some(end) if id == end.segment => end.offset,
                _ => 0,
            };
            writer.recover_segment(id, from)?;
        }
        // The index must not fall back to before a segment or a page that is gone.
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
                writer.forget_segment(id)?;
            }
        }
        sweeper.catch_up()?;
        Ok(writer)
    }

    fn recover_segment(&mut self, id: u64, from: u64) -> Result<(), StorageError> {
        let path = segment::path(&self.directory, id);
        match segment::read_header(&self.directory, id).map_err(failed("read", &path))? {
            SegmentHeader::Valid(found) if found == self.sealer.storage => {}
            SegmentHeader::Valid(_) | SegmentHeader::Invalid => {
                return Err(StorageError::ForeignSegment { path });
            }
            SegmentHeader::Blank => {
                return std::fs::remove_file(&path).map_err(failed("remove", &path));
            }
        }
        // A sync that failed is reported to one caller only, and what the page cache holds need not be on the disk:
        // before anything here is trusted, it is synced, and read from the disk.
        let file = File::options().write(true).open(&path).map_err(failed("open", &path))?;
        file.sync_all().map_err(failed("sync", &path))?;
        forget_cached(&file, 0, 0);
        let (end, found) = self.index_segment(id, from).map_err(|error| match error {
            StorageError::Write { source } => StorageError::open("scan", path.clone(), copy_of(&source)),
            other => other,
        })?;
        file.set_len(end).and_then(|()| file.sync_all()).map_err(failed("truncate", &path))?;
        if found > 0 {
            info!(segment = id, records = found, "records found behind the known end of the log");
        }
        Ok(())
    }

    fn index_segment(&mut self, id: u64, from: u64) -> Result<(u64, usize), StorageError> {
        let Self { index, segments, totals, directory, sealer, .. } = self;
        let mut found: Vec<Found> = Vec::new();
        let mut count = 0;
        let mut enter = |found: &mut Vec<Found>| -> Result<(), StorageError> {
            let mut group = Group::new(index, segments, *totals);
            found.drain(..).try_for_each(|record| group.enter(&record))?;
            let applied = group.apply(None, false)?;
            segments.extend(applied.touched);
            *totals = applied.totals;
            Ok(())
        };
        let end = segment::scan(directory, id, sealer, from, |record| {
            count += 1;
            found.push(record);
            if found.len() == GROUP_COMMANDS { enter(&mut found).map_err(io::Error::other) } else { Ok(()) }
        })
        .map_err(|error| {
            let unknown = error.get_ref().and_then(|inner| inner.downcast_ref::<UnknownKey>());
            match unknown {
                Some(unknown) => (*unknown).into(),
                None => StorageError::write(error),
            }
        })?;
        enter(&mut found)?;
        let mut change = index.change();
        change.set_state(state::LOG_END, &LogEnd { segment: id, offset: end });
        change.apply(false)?;
        Ok((end, count))
    }
}
