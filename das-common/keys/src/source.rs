//! From where a key is to the signer that uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64_simd::STANDARD;
use das_common::bls::{
    KeyFileError, PUBLIC_FILE, PublicKey, SECRET_FILE, SecretKey, SecretKeyError, read_public_key_file,
    read_secret_key_file,
};
use das_common::config::Secret;
use das_common::fault::{self, Coded, Fault};
use das_common::http::client::ClientIdentity;
use das_common::keystore::{self, Keystore, KeystoreError};
use das_common::password::{Password, PasswordError};
use das_common::secret_file::{self, SecretFile, SecretFileError};
use das_common::secret_memory;
use das_common::signer::{LocalSigner, Message, SignError, Signer};
use thiserror::Error;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::envelope::{self, EnvelopeError};
use crate::kms::KmsError;
use crate::kms::aws::{AwsKms, AwsSettings};
use crate::options::KeyOptions;
use crate::remote::{RemoteError, RemoteSettings, RemoteSigner};

/// Why there is no key to sign with.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The two key files are of different keys.
    #[error("{} is not the public key of {}", public.display(), secret.display())]
    Mismatch {
        /// The secret key's file.
        secret: PathBuf,
        /// The public key's file.
        public: PathBuf,
    },
    /// The key given as an option is no base64.
    #[error("the option priv-key is not standard base64 (the content of a das_bls file)")]
    BareEncoding,
    /// The key given as an option is none.
    #[error("the option priv-key: {0}")]
    Bare(#[from] SecretKeyError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A keystore.
    #[error("{}: {source}", path.display())]
    Keystore {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeystoreError,
    },
    /// A password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// An envelope.
    #[error("{}: {source}", path.display())]
    Envelope {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EnvelopeError,
    },
    /// The key management service.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// The remote signer's settings.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The remote signer answered, and not as it should.
    #[error(transparent)]
    Signer(#[from] SignError),
    /// Opening the key was not finished.
    #[error("opening the key was broken off")]
    BrokenOff,
}

impl Coded for KeyError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::KeyFile(KeyFileError::Io { .. }) | Self::File(SecretFileError::Io { .. }) => {
                fault::KEY_MISSING
            }
            Self::Mismatch { .. } => fault::KEY_MISMATCH,
            Self::KeyFile(_) | Self::BareEncoding | Self::Bare(_) | Self::File(_) | Self::BrokenOff => {
                fault::KEY_MALFORMED
            }
            Self::Keystore { source, .. } => source.fault(),
            Self::Password(error) => error.fault(),
            Self::Envelope { source, .. } => source.fault(),
            Self::Kms(error) => error.fault(),
            Self::Remote(error) => error.fault(),
            Self::Signer(error) => error.fault(),
        }
    }
}

/// Where a keystore's password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// In a file.
    File(PathBuf),
    /// In an environment variable of this name.
    Environment(String),
    /// In somebody's head.
    Prompt,
}

/// Where an envelope is, and who opens it.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The file.
    pub file: PathBuf,
    /// The service.
    pub service: AwsSettings,
}

/// Where a key is that is to be in this process.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// Nitro's key files in this directory.
    Files(PathBuf),
    /// Given as an option, base64.
    Bare(Secret),
    /// A keystore.
    Keystore {
        /// The file.
        file: PathBuf,
        /// Its password.
        password: PasswordSource,
    },
    /// An envelope.
    Envelope(Envelope),
}

impl PasswordSource {
    /// Reads the password, or asks for it.
    pub fn read(&self, question: &str) -> Result<Password, PasswordError> {
        match self {
            Self::File(path) => {
                let (password, wide) = Password::from_file(path)?;
                warn_of_mode(path, wide);
                Ok(password)
            }
            Self::Environment(name) => Password::from_environment(name),
            Self::Prompt => Password::from_prompt(question),
        }
    }
}

impl KeySource {
    /// Reads the key, asking whoever has to be asked. Takes seconds where a password or a service is in between.
    pub async fn open(&self) -> Result<SecretKey, KeyError> {
        match self {
            Self::Files(directory) => read_key_files(directory),
            Self::Bare(text) => {
                let bytes =
                    STANDARD.decode_to_vec(text.expose().trim()).map_err(|_| KeyError::BareEncoding)?;
                Ok(SecretKey::from_bytes(&Zeroizing::new(bytes))?)
            }
            Self::Keystore { file, password } => {
                let (file, password) = (file.clone(), password.clone());
                let opened = tokio::task::spawn_blocking(move || {
                    let password = password.read(&format!("Password of {}", file.display()))?;
                    open_keystore(&file, &password)
                });
                opened.await.map_err(|_| KeyError::BrokenOff)?
            }
            Self::Envelope(envelope) => {
                let text = secret_file::read(&envelope.file, envelope::MAX_BYTES)?;
                let wrong = |source| KeyError::Envelope { path: envelope.file.clone(), source };
                let sealed = envelope::Envelope::parse(&text.bytes).map_err(wrong)?;
                let service = AwsKms::new(&envelope.service).await?;
                sealed.open(&service).await.map_err(wrong)
            }
        }
    }
}

/// Opens a keystore. Takes a second or more.
pub fn open_keystore(path: &Path, password: &Password) -> Result<SecretKey, KeyError> {
    let text = secret_file::read(path, keystore::MAX_BYTES)?;
    let opened = Keystore::parse(&text.bytes).and_then(|keystore| keystore.open(password));
    opened.map_err(|source| KeyError::Keystore { path: path.to_path_buf(), source })
}

/// Reads das_bls, and das_bls.pub where it is there: then it must be of the same key.
pub fn read_key_files(directory: &Path) -> Result<SecretKey, KeyError> {
    let (secret, public) = (directory.join(SECRET_FILE), directory.join(PUBLIC_FILE));
    let (key, wide) = read_secret_key_file(&secret)?;
    warn_of_mode(&secret, wide);
    if public.exists() && read_public_key_file(&public)? != key.public_key() {
        return Err(KeyError::Mismatch { secret, public });
    }
    Ok(key)
}

/// Warns of a file with a secret that others than its owner may read.
pub(crate) fn warn_of_mode(path: &Path, wide: Option<u32>) {
    if let Some(mode) = wide {
        let (code, file) = (fault::KEY_MODE.code, path.display());
        warn!(code, %file, mode = format!("{mode:03o}"), "{}", fault::KEY_MODE);
    }
}

/// Makes the process one that holds a key, unless it is to be looked into.
pub fn guard_process(debuggable: bool) {
    if debuggable {
        warn!("this process holds a key and may be debugged and write core dumps: for finding faults only");
    } else if let Err(error) = secret_memory::keep_others_out() {
        warn!(%error, "this process holds a key, and its memory cannot be closed to others");
    }
}

/// Opens a key that is to be in this process.
pub async fn open_local(source: &KeySource) -> Result<LocalSigner, KeyError> {
    let signer = LocalSigner::new(source.open().await?);
    if !signer.is_locked() {
        warn!("the key's memory cannot be locked (RLIMIT_MEMLOCK): it may reach swap space");
    }
    Ok(signer)
}

/// The signer that the options say, if they say one.
pub async fn open(options: &KeyOptions) -> Result<Option<Arc<dyn Signer>>, KeyError> {
    if let Some(source) = options.held() {
        guard_process(options.debuggable);
        return Ok(Some(Arc::new(open_local(&source).await?)));
    }
    if options.signer.url.is_empty() {
        return Ok(None);
    }
    let (signer, from) = (open_remote(options)?, &options.signer.url);
    // A signer that is away now may be back when it is needed; one that has another key never gives a signature.
    match signer.sign(Message::possession()).await {
        Ok(_) => info!(signer = %from, "the signer has this member's key"),
        Err(away @ SignError::Away { .. }) => {
            let fault = away.fault();
            error!(code = fault.code, cure = fault.cure, "{away}; starting without it");
        }
        Err(other) => return Err(other.into()),
    }
    Ok(Some(Arc::new(signer)))
}

/// The client of the signer that the options name; nothing is sent.
pub fn open_remote(options: &KeyOptions) -> Result<RemoteSigner, KeyError> {
    let signer = &options.signer;
    let given = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_path_buf());
    Ok(RemoteSigner::new(RemoteSettings {
        url: signer.url.clone(),
        public_key: read_public_key(&signer.public_key_file)?,
        authorities: given(&signer.ca),
        identity: ClientIdentity { certificate: signer.cert.clone(), key: signer.key.clone() },
        deadline: signer.deadline,
    })?)
}

/// The public key of a keystore, an envelope, or a das_bls.pub, without opening anything.
pub fn read_public_key(path: &Path) -> Result<PublicKey, KeyError> {
    let SecretFile { bytes, .. } = secret_file::read(path, keystore::MAX_BYTES)?;
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(read_public_key_file(path)?);
    }
    let path = path.to_path_buf();
    if let Ok(envelope) = envelope::Envelope::parse(&bytes) {
        return Ok(envelope.public_key().clone());
    }
    let keystore = Keystore::parse(&bytes).map_err(|source| KeyError::Keystore { path, source })?;
    Ok(keystore.public_key().clone())
}

#[cfg(test)]
mod tests {
    use das_common::config::{Inputs, Outcome, Problem, Program, Replaced, load};

    use super::*;

    das_common::options! {
        /// The options of a key alone.
        struct Whole {
            /// The key.
            key: KeyOptions,
        }
    }

    impl Program for Whole {
        const NAME: &'static str = "test";
        const ABOUT: &'static str = "A key.";
        const VERSION: &'static str = "0";
        const REPLACED: &'static [Replaced] = &[];

        fn check(&self) -> Vec<Problem> {
            self.key.problems(&crate::options::SIGNER_NAMES)
        }
    }

    /// What `{:?}` shows is what ends in the text of a panic.
    #[test]
    fn nothing_that_holds_a_secret_shows_it() {
        let secret = SecretKey::from_bytes(&[0xa7; 32]).unwrap();
        let text = STANDARD.encode_to_string(secret.to_be_bytes());
        let args = ["--key.priv-key", &text];
        let Ok(Outcome::Run(loaded)) = load::<Whole>(&Inputs::of_args(args)) else {
            panic!("a key is enough")
        };
        let source = loaded.options.key.held().unwrap();
        let shown = [
            format!("{:?}", loaded.options),
            format!("{source:?}"),
            format!("{secret:?}"),
            format!("{:?}", Password::new(&text)),
        ];
        let panic = std::panic::catch_unwind(|| panic!("{secret:?}"));
        let panic = panic.unwrap_err().downcast::<String>().unwrap();
        let (hex, list) = (const_hex::encode(*secret.to_be_bytes()), format!("{:?}", *secret.to_be_bytes()));
        for shown in shown.iter().chain([&*panic]) {
            for form in [&text, &hex, &list] {
                assert!(!shown.contains(form.as_str()), "{shown}");
            }
        }
        assert!(panic.contains("SecretKey(..)"), "{panic}");
    }
}
