//! Copies of files with holes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::{BackupError, Meter, failed};

/// So much is copied between two looks at whether to go on.
const PIECE: u64 = 8 << 20;

/// Copies the first `length` bytes of a file into a new one and syncs it. Holes stay holes, and file systems that can share
/// blocks between files do. Returns the length of the copy.
pub(super) fn copy_file(
    from: &Path,
    to: &Path,
    length: u64,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<u64, BackupError> {
    let source = File::open(from).map_err(failed("read", from))?;
    let target =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed("make", to))?;
    let mut at = 0;
    while at < length {
        if stop.is_cancelled() {
            return Err(BackupError::Stopped);
        }
        let (start, end) = data(&source, at, length).map_err(failed("read", from))?;
        let end = end.min(start + PIECE);
        copy_range(&source, &target, start, end).map_err(failed("copy", from))?;
        meter.add(end - at);
        at = end;
    }
    target.set_len(length).and_then(|()| target.sync_all()).map_err(failed("write", to))?;
    Ok(length)
}

/// The next range with data, from `at` on; empty at `length` when there is none.
fn data(file: &File, at: u64, length: u64) -> io::Result<(u64, u64)> {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.min(length),
        // Nothing but a hole is left.
        Err(Errno::NXIO) => length,
        Err(Errno::INVAL) => return Ok((at, length)),
        Err(error) => return Err(error.into()),
    };
    let end = if start < length { seek(file, SeekFrom::Hole(start))?.min(length) } else { length };
    Ok((start, end))
}

fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let wanted = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        match copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), wanted) {
            // The file has become shorter: what was preallocated was given back. The rest stays a hole.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {
                return copy_by_hand(source, target, read_at, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(source: &File, target: &File, mut at: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let read = source.read_at(&mut buffer[..wanted], at)?;
        if read == 0 {
            return Ok(());
        }
        target.write_all_at(&buffer[..read], at)?;
        at += read as u64;
    }
    Ok(())
}
