//! A storage key as a file, in one of three forms. Which one it is, the file says itself.
//!
//! ```text
//! key file   32 bytes in hex (with or without 0x) or standard base64, white space around it apart
//! keystore   { "version": 4, "crypto": as in EIP-2335, "keyId": "0x........", ... }
//! envelope   { "version": 1, "service": "aws-kms", "key": "arn:..", "keyId": "0x........", "ciphertext": "<base64>" }
//! ```
//!
//! A keystore and an envelope name the id of their key: another key's bytes are refused, and so are those of a BLS key, whose
//! files have a public key instead. A remote signer holds no storage key: it signs, and gives nothing out.

use std::path::{Path, PathBuf};

use base64_simd::STANDARD;
use das_common::fault::{self, Coded, Fault};
use das_common::keystore::{self, KeystoreError};
use das_common::password::{Password, PasswordError};
use das_common::secret_file::{self, SecretFileError};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::kms::aws::{AwsKms, AwsSettings, NAME};
use crate::kms::{Context, KeyService, KmsError};
use crate::source::{PasswordSource, warn_of_mode};
use crate::storage_key::{KEY_BYTES, KeyId, StorageKey};

/// A longer file holds no storage key.
pub const MAX_BYTES: usize = 64 << 10;
const PURPOSE: &str = "das-storage-key";
const KEYSTORE_VERSION: u64 = 4;
const ENVELOPE_VERSION: u64 = 1;

/// Why there is no storage key.
#[derive(Debug, Error)]
pub enum StorageKeyError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// Of none of the forms.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; nothing of the file's content.
        reason: &'static str,
    },
    /// Of another form than the option says.
    #[error("{} is {got}, not {expected}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What it is.
        got: Form,
        /// What it should be.
        expected: Form,
    },
    /// The key is another than the file says.
    #[error("{} does not hold the key {expected} that it names, but {got}", path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
        /// The id that it names.
        expected: KeyId,
        /// The id of what it holds.
        got: KeyId,
    },
    /// The keystore.
    #[error("{}: {source}", path.display())]
    Keystore {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeystoreError,
    },
    /// The password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The key management service.
    #[error("{}: {source}", path.display())]
    Kms {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KmsError,
    },
    /// Opening the key was not finished.
    #[error("opening the key was broken off")]
    BrokenOff,
}

impl Coded for StorageKeyError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::File(SecretFileError::Io { .. }) => fault::KEY_MISSING,
            Self::File(_) | Self::Malformed { .. } | Self::Form { .. } | Self::BrokenOff => {
                fault::STORAGE_KEY_MALFORMED
            }
            Self::OtherKey { .. } => fault::STORAGE_KEY_MALFORMED,
            Self::Keystore { source: source @ KeystoreError::Password, .. } => source.fault(),
            Self::Keystore { .. } => fault::STORAGE_KEY_MALFORMED,
            Self::Password(error) => error.fault(),
            Self::Kms { source, .. } => source.fault(),
        }
    }
}

/// In which form a file holds a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The key in the clear.
    KeyFile,
    /// Under a password.
    Keystore,
    /// Under a key of a service.
    Envelope,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KeyFile => "a key file",
            Self::Keystore => "a keystore",
            Self::Envelope => "an envelope",
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    version: u64,
    service: String,
    key: String,
    key_id: String,
    ciphertext: String,
}

/// What a file holds; nothing is decrypted yet.
enum Content {
    Key(StorageKey),
    Keystore { crypto: Value, id: KeyId },
    Envelope { key: String, ciphertext: Vec<u8>, id: KeyId },
}

/// A file with a storage key.
pub struct StorageKeyFile {
    path: PathBuf,
    content: Content,
}

impl StorageKeyFile {
    /// Reads it, and warns of a mode that lets others read it.
    pub fn read(path: &Path) -> Result<Self, StorageKeyError> {
        let file = secret_file::read(path, MAX_BYTES)?;
        let bad = |reason| StorageKeyError::Malformed { path: path.to_path_buf(), reason };
        warn_of_mode(path, file.wide_mode);
        let text = file.bytes.trim_ascii();
        let content =
            if text.starts_with(b"{") { parse_json(text) } else { parse_key(text).map(Content::Key) };
        Ok(Self { path: path.to_path_buf(), content: content.map_err(bad)? })
    }

    /// In which form it is.
    pub fn form(&self) -> Form {
        match self.content {
            Content::Key(_) => Form::KeyFile,
            Content::Keystore { .. } => Form::Keystore,
            Content::Envelope { .. } => Form::Envelope,
        }
    }

    /// The id of the key: of a keystore or an envelope, what it names.
    pub fn id(&self) -> KeyId {
        match &self.content {
            Content::Key(key) => key.id(),
            Content::Keystore { id, .. } | Content::Envelope { id, .. } => *id,
        }
    }

    /// Opens it. Takes a second or more with a password or a service.
    pub async fn open(
        self,
        password: Option<&PasswordSource>,
        service: &AwsSettings,
    ) -> Result<StorageKey, StorageKeyError> {
        let path = self.path;
        let (key, expected) = match self.content {
            Content::Key(key) => return Ok(key),
            Content::Keystore { crypto, id } => {
                let password = password.cloned().ok_or(StorageKeyError::Malformed {
                    path: path.clone(),
                    reason: "it is a keystore, and no option says where its password is",
                })?;
                let shown = path.clone();
                let opened = tokio::task::spawn_blocking(move || {
                    let password = password.read(&format!("Password of {}", shown.display()))?;
                    keystore::open_secret(&crypto, &password)
                        .map_err(|source| StorageKeyError::Keystore { path: shown, source })
                });
                (opened.await.map_err(|_| StorageKeyError::BrokenOff)??, id)
            }
            Content::Envelope { key, ciphertext, id } => {
                let failed = |source| StorageKeyError::Kms { path: path.clone(), source };
                let service = AwsKms::new(service).await.map_err(failed)?;
                let plain = service.decrypt(&key, &ciphertext, &context(id)).await.map_err(failed)?;
                let bytes: [u8; KEY_BYTES] =
                    plain[..].try_into().map_err(|_| StorageKeyError::Malformed {
                        path: path.clone(),
                        reason: "what the envelope holds has not 32 bytes",
                    })?;
                (Zeroizing::new(bytes), id)
            }
        };
        let key = StorageKey::new(&key);
        if key.id() != expected {
            return Err(StorageKeyError::OtherKey { path, expected, got: key.id() });
        }
        Ok(key)
    }

    /// Refuses another form than this.
    pub fn expect(self, expected: Form) -> Result<Self, StorageKeyError> {
        let got = self.form();
        if got == expected { Ok(self) } else { Err(StorageKeyError::Form { path: self.path, got, expected }) }
    }
}

fn parse_key(text: &[u8]) -> Result<StorageKey, &'static str> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    if digits.len() == 2 * KEY_BYTES && const_hex::decode_to_slice(digits, &mut *key).is_ok() {
        return Ok(StorageKey::new(&key));
    }
    match STANDARD.decode_to_vec(text).map(Zeroizing::new) {
        Ok(bytes) if bytes.len() == KEY_BYTES => {
            key.copy_from_slice(&bytes);
            Ok(StorageKey::new(&key))
        }
        _ => Err(
            "it holds no storage key: 32 bytes in hex (64 digits) or base64, or a keystore or envelope of one",
        ),
    }
}

fn parse_json(text: &[u8]) -> Result<Content, &'static str> {
    let mut whole: Value = serde_json::from_slice(text).map_err(|_| "it is no JSON")?;
    let id = whole["keyId"].as_str().and_then(KeyId::parse);
    let id = id.ok_or("its field keyId is no id of a storage key; files of BLS keys have none")?;
    if whole["crypto"].is_object() {
        if whole["version"] != KEYSTORE_VERSION {
            return Err("the keystore's version is not 4");
        }
        return Ok(Content::Keystore { crypto: whole["crypto"].take(), id });
    }
    let envelope: Envelope = serde_json::from_value(whole)
        .map_err(|_| "it is neither a keystore nor an envelope of a storage key")?;
    if envelope.version != ENVELOPE_VERSION {
        return Err("the envelope's version is not 1");
    }
    if envelope.service != NAME {
        return Err("the envelope is of another service than aws-kms");
    }
    let ciphertext =
        STANDARD.decode_to_vec(&envelope.ciphertext).map_err(|_| "the field ciphertext is no base64")?;
    Ok(Content::Envelope { key: envelope.key, ciphertext, id })
}

/// The content of a key file.
pub fn key_text(key: &StorageKey) -> Zeroizing<String> {
    Zeroizing::new(format!("{}\n", *Zeroizing::new(const_hex::encode(*key.to_bytes()))))
}

/// A keystore of this key.
pub fn keystore_text(key: &StorageKey, password: &Password, log_n: u8) -> Result<String, KeystoreError> {
    let crypto = keystore::seal_secret(key.to_bytes(), password, log_n)?;
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    let keystore = json!({
        "crypto": crypto,
        "description": "key for payloads at rest of a data availability committee's member",
        "keyId": key.id().to_string(),
        "path": "",
        "uuid": keystore::parts::uuid(id),
        "version": KEYSTORE_VERSION,
    });
    Ok(format!("{keystore:#}\n"))
}

/// An envelope of this key, encrypted by the service's key of that name.
pub async fn envelope_text(
    key: &StorageKey,
    service_key: &str,
    service: &dyn KeyService,
) -> Result<String, KmsError> {
    let ciphertext = service.encrypt(service_key, &*key.to_bytes(), &context(key.id())).await?;
    let envelope = Envelope {
        version: ENVELOPE_VERSION,
        service: service.name().to_owned(),
        key: service_key.to_owned(),
        key_id: key.id().to_string(),
        ciphertext: STANDARD.encode_to_string(&ciphertext),
    };
    Ok(format!("{:#}\n", json!(envelope)))
}

fn context(id: KeyId) -> Context {
    Context::from([("purpose", PURPOSE.to_owned()), ("key-id", id.to_string())])
}

#[cfg(test)]
mod tests {
    use das_common::bls::SecretKey;
    use das_common::keystore::Keystore;
    use das_common::keystore::parts::WEAKEST_LOG_N;

    use super::*;

    fn read(text: &str) -> Result<StorageKeyFile, StorageKeyError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, text).unwrap();
        StorageKeyFile::read(&path)
    }

    fn refused(text: &str) -> String {
        let error = read(text).err().expect("it is no key");
        assert_eq!(error.fault(), fault::STORAGE_KEY_MALFORMED);
        error.to_string()
    }

    #[tokio::test]
    async fn a_key_is_the_same_in_each_form_and_a_bls_key_is_none() {
        let key = StorageKey::generate();
        let (text, password) = (key_text(&key), Password::new("correct horse"));
        let service = AwsSettings {
            region: None,
            endpoint: None,
            authorities: None,
            deadline: std::time::Duration::from_secs(1),
        };
        let base64 = STANDARD.encode_to_string(*key.to_bytes());
        for text in [text.as_str(), &format!("0x{}", text.trim()), &base64] {
            let file = read(text).unwrap();
            assert_eq!((file.form(), file.id()), (Form::KeyFile, key.id()));
            assert_eq!(file.open(None, &service).await.unwrap(), key);
        }
        let keystore = keystore_text(&key, &password, WEAKEST_LOG_N).unwrap();
        assert!(!keystore.contains(text.trim()));
        let folder = tempfile::tempdir().unwrap();
        let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
        std::fs::write(&right, "correct horse").unwrap();
        std::fs::write(&wrong, "battery staple").unwrap();
        let open = async |text: &str, from: &Path| {
            let file = read(text).unwrap().expect(Form::Keystore).unwrap();
            file.open(Some(&PasswordSource::File(from.to_path_buf())), &service).await
        };
        assert_eq!(open(&keystore, &right).await.unwrap(), key);
        assert_eq!(open(&keystore, &wrong).await.unwrap_err().fault(), fault::KEY_PASSWORD);
        let other = keystore.replace(&key.id().to_string(), &StorageKey::new(&[1; 32]).id().to_string());
        assert!(matches!(open(&other, &right).await, Err(StorageKeyError::OtherKey { .. })));
        let error = read(&keystore).unwrap().open(None, &service).await.unwrap_err();
        assert!(error.to_string().contains("password"), "{error}");
        assert!(matches!(read(&base64).unwrap().expect(Form::Keystore), Err(StorageKeyError::Form { .. })));

        let bls = SecretKey::from_bytes(&[7]).unwrap();
        let of_bls = Keystore::write(&bls, &password, WEAKEST_LOG_N).unwrap();
        assert!(refused(&of_bls).contains("keyId"));
        assert!(Keystore::parse(keystore.as_bytes()).is_err(), "nor the other way round");
        for text in ["", "00", "{}", r#"{"keyId":"0x00000001"}"#, &text[..63], &base64[4..]] {
            let said = refused(text);
            assert!(text.len() < 20 || !said.contains(text), "{said}");
        }
    }
}
