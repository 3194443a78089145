//! What is made of files, and made anew when they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use ring::digest::{Context, SHA256};

use super::files::{MAX_FILE_BYTES, TlsError};
use crate::secret_file;

/// How often files are looked at. What is in them is compared, not their times, which a copy may keep.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

type Fingerprint = [u8; 32];
type Make<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// What is in use, and the files that it was made of.
pub(crate) struct Reloaded<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    current: RwLock<Arc<T>>,
    state: Mutex<State>,
}

struct State {
    /// Of what is in use.
    taken: Fingerprint,
    /// Of what could not be used at the last look.
    refused: Option<Fingerprint>,
}

/// What a look found.
pub(crate) enum Look {
    /// The files that are in use.
    Same,
    /// Others, in use from now on.
    Replaced,
    /// Others that cannot be used, or not yet: they were not there a look ago, and may be half written.
    Unsettled,
    /// Others that cannot be used, and stay so.
    Refused(TlsError),
}

impl<T> Reloaded<T> {
    /// Makes it for the first time; `make` reads `files` each time it is called.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Before it is read: what is written in between is a change.
        let taken = fingerprint(&files);
        let current = RwLock::new(Arc::new(make()?));
        let state = Mutex::new(State { taken, refused: None });
        Ok(Self { files, make: Box::new(make), current, state })
    }

    /// What is in use.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    /// Reads the files, and takes what is in them if it is new and can be used.
    pub(crate) fn look(&self) -> Look {
        if self.files.is_empty() {
            return Look::Same;
        }
        let mut state = self.state.lock();
        let seen = fingerprint(&self.files);
        if seen == state.taken {
            state.refused = None;
            return Look::Same;
        }
        match (self.make)() {
            Ok(made) => {
                *self.current.write() = Arc::new(made);
                *state = State { taken: seen, refused: None };
                Look::Replaced
            }
            Err(error) if state.refused == Some(seen) => Look::Refused(error),
            Err(_) => {
                state.refused = Some(seen);
                Look::Unsettled
            }
        }
    }
}

/// Tells contents apart. Of a file that cannot be read it is that it cannot.
fn fingerprint(files: &[PathBuf]) -> Fingerprint {
    let mut whole = Context::new(&SHA256);
    for path in files {
        match secret_file::read(path, MAX_FILE_BYTES) {
            Ok(file) => {
                whole.update(&[1]);
                whole.update(&file.bytes.len().to_le_bytes());
                whole.update(&file.bytes);
            }
            Err(_) => whole.update(&[0]),
        }
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(whole.finish().as_ref());
    fingerprint
}
