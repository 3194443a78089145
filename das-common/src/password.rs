//! What a keystore is opened with: from a file, the environment, or a person at a terminal.
//!
//! **Guarantee.** A password appears in no debug output and no error, and its memory is overwritten when it is dropped.

use std::fmt;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::fault::{self, Coded, Fault};
use crate::secret_file::{self, SecretFile, SecretFileError};

const MAX_BYTES: usize = 1024;

/// Why there is no password.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("the password's file: {0}")]
    File(#[from] SecretFileError),
    /// The variable that should hold it is not there, or no text.
    #[error("the environment variable {name} with the keystore's password is not set, or is no UTF-8")]
    Variable {
        /// Its name.
        name: String,
    },
    /// Longer than any password.
    #[error("the password from {from} is {bytes} bytes long; at most {MAX_BYTES} are possible")]
    TooLong {
        /// Where it comes from.
        from: String,
        /// Its length.
        bytes: usize,
    },
    /// Nobody can be asked.
    #[error("there is no terminal to ask for the password at; give a file or an environment variable")]
    NoTerminal,
    /// The terminal.
    #[error("the password cannot be read from the terminal: {source}")]
    Terminal {
        /// The system's report.
        source: io::Error,
    },
    /// A new password was typed in two ways.
    #[error("the two passwords typed are different")]
    Different,
}

impl Coded for PasswordError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::File(_) | Self::Variable { .. } | Self::NoTerminal | Self::Terminal { .. } => {
                fault::KEY_PASSWORD_MISSING
            }
            Self::TooLong { .. } | Self::Different => fault::KEY_MALFORMED,
        }
    }
}

/// A password. Never printed.
pub struct Password(Zeroizing<Vec<u8>>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Password {
    /// Takes a password as it is.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }

    /// Reads a file; a line end after the password does not belong to it. The second value is the mode of a file with
    /// which others than its owner may do something: worth a warning.
    pub fn from_file(path: &Path) -> Result<(Self, Option<u32>), PasswordError> {
        let SecretFile { mut bytes, wide_mode } = secret_file::read(path, MAX_BYTES)?;
        let end = [&b"\r\n"[..], b"\n"].into_iter().find(|end| bytes.ends_with(end));
        let length = bytes.len() - end.map_or(0, <[u8]>::len);
        bytes[length..].zeroize();
        bytes.truncate(length);
        Ok((Self(bytes), wide_mode))
    }

    /// Reads an environment variable.
    pub fn from_environment(name: &str) -> Result<Self, PasswordError> {
        let text = std::env::var(name).map(Zeroizing::new);
        let text = text.map_err(|_| PasswordError::Variable { name: name.to_owned() })?;
        if text.len() > MAX_BYTES {
            let from = format!("the environment variable {name}");
            return Err(PasswordError::TooLong { from, bytes: text.len() });
        }
        Ok(Self::new(&text))
    }

    /// Asks the person at the terminal, without showing what is typed.
    pub fn from_prompt(question: &str) -> Result<Self, PasswordError> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Err(PasswordError::NoTerminal);
        }
        let terminal = |source: io::Error| PasswordError::Terminal { source };
        let mut error = io::stderr();
        write!(error, "{question}: ").and_then(|()| error.flush()).map_err(terminal)?;
        let hidden = HiddenInput::begin().map_err(terminal)?;
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
        let mut byte = Zeroizing::new([0]);
        // Byte by byte: a buffered reader would keep a copy.
        let ended = loop {
            match stdin.lock().read(&mut *byte) {
                Ok(1..) if byte[0] != b'\n' && text.len() <= MAX_BYTES => text.push(byte[0]),
                Ok(_) => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        drop(hidden);
        // The line end that was typed was not shown either. Where the terminal is gone, nobody misses it.
        let _ = writeln!(error);
        ended.map_err(terminal)?;
        if text.len() > MAX_BYTES {
            return Err(PasswordError::TooLong { from: "the terminal".into(), bytes: text.len() });
        }
        Ok(Self(text))
    }

    /// Asks for a new password, twice.
    pub fn from_new_prompt(question: &str) -> Result<Self, PasswordError> {
        let first = Self::from_prompt(question)?;
        let second = Self::from_prompt(&format!("{question}, again"))?;
        if first.0 == second.0 { Ok(first) } else { Err(PasswordError::Different) }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The terminal shows nothing of what is typed until this is dropped.
struct HiddenInput(rustix::termios::Termios);

impl HiddenInput {
    fn begin() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // A terminal that is gone has nothing to restore.
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}
