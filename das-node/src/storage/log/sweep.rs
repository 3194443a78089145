//! Space that nothing needs goes back to the file system: holes are punched, empty segments removed.
//!
//! The index remembers each hole until it was punched and the file synced. So what a crash or a power cut left
//! unpunched is punched by the next start, and nothing has to be looked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;
use tracing::warn;

use crate::storage::Files;
use crate::storage::index::{Index, IndexError};
use crate::storage::segment::{self, Hole};

/// Space to be given back.
#[derive(Debug, Default)]
pub(in crate::storage) struct Freed {
    pub(in crate::storage) holes: Vec<Hole>,
    /// Segments in which nothing is left.
    pub(in crate::storage) segments: Vec<u64>,
}

/// Space to be given back, and who hears of it.
pub(in crate::storage) struct Sweep {
    pub(in crate::storage) freed: Freed,
    pub(in crate::storage) done: Box<dyn FnOnce() + Send>,
}

/// Gives space back.
#[derive(Debug, Clone)]
pub(in crate::storage) struct Sweeper {
    pub(in crate::storage) index: Arc<Index>,
    pub(in crate::storage) directory: PathBuf,
    pub(in crate::storage) files: Files,
    /// While it is true, nothing is punched: a backup reads the segments. Held while something is.
    pub(in crate::storage) paused: Arc<Mutex<bool>>,
}

impl Sweeper {
    /// Works until nobody can ask any more; what came meanwhile is done together.
    pub(in crate::storage) fn run(self, sweeps: &Receiver<Sweep>) {
        while let Ok(first) = sweeps.recv() {
            let mut freed = Freed::default();
            let mut done = Vec::new();
            for sweep in std::iter::once(first).chain(sweeps.try_iter()) {
                freed.holes.extend(sweep.freed.holes);
                freed.segments.extend(sweep.freed.segments);
                done.push(sweep.done);
            }
            self.give_back(freed);
            done.into_iter().for_each(|done| done());
        }
    }

    pub(in crate::storage) fn give_back(&self, freed: Freed) {
        #[cfg(test)]
        if self.index.keep_holes.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        for id in &freed.segments {
            self.files.invalidate(id);
            match std::fs::remove_file(segment::path(&self.directory, *id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(%error, segment = id, "an empty segment could not be removed; the next start tries again");
                }
                _ => {}
            }
        }
        let paused = self.paused.lock();
        if *paused {
            // The index remembers the holes; whoever paused punches them at his end.
            return;
        }
        let mut by_segment: BTreeMap<u64, Vec<Hole>> = BTreeMap::new();
        for hole in freed.holes {
            by_segment.entry(hole.segment).or_default().push(hole);
        }
        let mut change = self.index.change();
        for (id, holes) in &mut by_segment {
            let punched = if freed.segments.contains(id) { Ok(()) } else { self.punch(*id, holes) };
            match punched {
                Ok(()) => holes.iter().for_each(|hole| change.delete_hole(hole)),
                Err(error) => {
                    warn!(%error, segment = id, "space could not be given back; the next start tries again");
                }
            }
        }
        drop(paused);
        if let Err(error) = change.apply(false) {
            warn!(%error, "holes could not be struck off the list; the next start punches them again");
        }
    }

    fn punch(&self, id: u64, holes: &mut [Hole]) -> io::Result<()> {
        let path = segment::path(&self.directory, id);
        let file = match File::options().write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for hole in joined(holes) {
            segment::punch(&file, &hole)?;
        }
        rustix::fs::fdatasync(&file)?;
        Ok(())
    }

    /// Punches what an earlier run left.
    pub(in crate::storage) fn catch_up(&self) -> Result<(), IndexError> {
        let holes = self.index.holes()?;
        if !holes.is_empty() {
            self.give_back(Freed { holes, segments: Vec::new() });
        }
        Ok(())
    }
}

/// Neighbours as one, so that pages that two of them share are free too.
fn joined(holes: &mut [Hole]) -> Vec<Hole> {
    holes.sort_unstable();
    let mut joined: Vec<Hole> = Vec::with_capacity(holes.len());
    for hole in holes {
        match joined.last_mut() {
            Some(last) if hole.offset <= last.offset + last.length => {
                last.length = last.length.max(hole.offset + hole.length - last.offset);
            }
            _ => joined.push(*hole),
        }
    }
    joined
}
