//! Options that say which keys payloads at rest are encrypted with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use das_common::config::{ByteSize, Problem};
use das_common::options;
use tracing::warn;

use crate::options::{KeystoreOptions, KmsOptions, STORAGE_NAMES, is_given, problem};
use crate::source::{PasswordSource, guard_process};
use crate::storage_file::{Form, StorageKeyError, StorageKeyFile};
use crate::storage_key::StorageKey;

options! {
    /// Payloads at rest encrypted: with no key given, they are not.
    pub struct StorageKeyOptions {
        /// File with the storage key, 32 bytes in hex or base64; made by dastool storage-key-make.
        key_file: PathBuf,
        /// The storage key encrypted with a password.
        keystore: KeystoreOptions,
        /// The storage key encrypted by a key management service.
        kms: KmsOptions,
        /// Files with former storage keys, separated by commas: key files, keystores or envelopes. What they encrypted is
        /// read with them, until it was written anew under the key that is active now.
        former_keys: Vec<String>,
        /// File with the password of former keys that are keystores; none: that of the active keystore.
        former_keys_password_file: PathBuf,
        /// Name of the environment variable with the password of former keys that are keystores.
        former_keys_password_env: String,
    }
}

options! {
    /// Payloads at rest encrypted, and how fast what is under another key is written anew.
    pub struct StorageEncryptionOptions {
        /// File with the storage key, 32 bytes in hex or base64; made by dastool storage-key-make. With none of the three
        /// ways to give a key, payloads on the disk are not encrypted.
        key_file: PathBuf,
        /// The storage key encrypted with a password.
        keystore: KeystoreOptions,
        /// The storage key encrypted by a key management service.
        kms: KmsOptions,
        /// Files with former storage keys, separated by commas: key files, keystores or envelopes. What they encrypted is
        /// read with them, until it was written anew under the key that is active now.
        former_keys: Vec<String>,
        /// File with the password of former keys that are keystores; none: that of the active keystore.
        former_keys_password_file: PathBuf,
        /// Name of the environment variable with the password of former keys that are keystores.
        former_keys_password_env: String,
        /// Bytes a second at most that are written anew in the background because they are plain or under a former key; 0:
        /// they stay as they are.
        rotation_speed: ByteSize = "8MiB",
    }
}

/// The keys that the options name.
#[derive(Debug, Default)]
pub struct StorageKeys {
    /// What is stored is encrypted with it.
    pub active: Option<StorageKey>,
    /// What was stored may be.
    pub former: Vec<StorageKey>,
}

impl StorageEncryptionOptions {
    /// The keys alone.
    pub fn keys(&self) -> StorageKeyOptions {
        StorageKeyOptions {
            key_file: self.key_file.clone(),
            keystore: self.keystore.clone(),
            kms: self.kms.clone(),
            former_keys: self.former_keys.clone(),
            former_keys_password_file: self.former_keys_password_file.clone(),
            former_keys_password_env: self.former_keys_password_env.clone(),
        }
    }
}

impl StorageKeyOptions {
    /// Whether any key is given.
    pub fn is_given(&self) -> bool {
        self.active().is_some() || !self.former_keys.is_empty()
    }

    fn active(&self) -> Option<(&Path, Form)> {
        [
            (&self.key_file, Form::KeyFile),
            (&self.keystore.file, Form::Keystore),
            (&self.kms.envelope, Form::Envelope),
        ]
        .into_iter()
        .find(|(path, _)| is_given(path))
        .map(|(path, form)| (path.as_path(), form))
    }

    fn former_password(&self) -> Option<PasswordSource> {
        if is_given(&self.former_keys_password_file) {
            Some(PasswordSource::File(self.former_keys_password_file.clone()))
        } else if !self.former_keys_password_env.is_empty() {
            Some(PasswordSource::Environment(self.former_keys_password_env.clone()))
        } else {
            is_given(&self.keystore.file).then(|| self.keystore.password())
        }
    }

    /// Combinations that cannot work.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let ways = [
            ("storage-encryption.key-file", is_given(&self.key_file)),
            ("storage-encryption.keystore.file", is_given(&self.keystore.file)),
            ("storage-encryption.kms.envelope", is_given(&self.kms.envelope)),
        ];
        let mut given = ways.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            let text = format!("--{first} is given too, and one key is active");
            let cure = "leave out one of the two; former keys are in storage-encryption.former-keys";
            found.push(problem(second, text, cure));
        }
        if is_given(&self.former_keys_password_file) && !self.former_keys_password_env.is_empty() {
            found.push(problem(
                "storage-encryption.former-keys-password-env",
                "there is a file with the password too",
                "leave out one of the two",
            ));
        }
        self.keystore.problems(&STORAGE_NAMES, &mut found);
        self.kms.problems(&STORAGE_NAMES, &mut found);
        found
    }

    /// Opens the keys, asking whoever has to be asked. Nothing is asked, and the process stays as it is, when none is given.
    pub async fn open(&self, debuggable: bool) -> Result<StorageKeys, StorageKeyError> {
        let mut keys = StorageKeys::default();
        if !self.is_given() {
            return Ok(keys);
        }
        guard_process(debuggable);
        let service = self.kms.service();
        if let Some((path, form)) = self.active() {
            let file = StorageKeyFile::read(path)?.expect(form)?;
            keys.active = Some(file.open(Some(&self.keystore.password()), &service).await?);
        }
        let password = self.former_password();
        for path in &self.former_keys {
            let file = StorageKeyFile::read(Path::new(path))?;
            keys.former.push(file.open(password.as_ref(), &service).await?);
        }
        if keys.active.iter().chain(&keys.former).any(|key| !key.is_locked()) {
            warn!("the memory of storage keys cannot be locked (RLIMIT_MEMLOCK): it may reach swap space");
        }
        Ok(keys)
    }

    /// The same options as arguments of another program.
    pub fn to_args(&self) -> Vec<OsString> {
        let paths = [
            ("key-file", &self.key_file),
            ("keystore.file", &self.keystore.file),
            ("keystore.password-file", &self.keystore.password_file),
            ("kms.envelope", &self.kms.envelope),
            ("kms.ca", &self.kms.ca),
            ("former-keys-password-file", &self.former_keys_password_file),
        ];
        let texts = [
            ("keystore.password-env", self.keystore.password_env.clone()),
            ("kms.region", self.kms.region.clone()),
            ("kms.endpoint", self.kms.endpoint.clone()),
            ("former-keys", self.former_keys.join(",")),
            ("former-keys-password-env", self.former_keys_password_env.clone()),
        ];
        let mut args = Vec::new();
        let mut add = |name: &str, value: OsString| {
            if !value.is_empty() {
                let mut arg = OsString::from(format!("--storage-encryption.{name}="));
                arg.push(value);
                args.push(arg);
            }
        };
        paths.into_iter().for_each(|(name, path)| add(name, path.as_os_str().to_owned()));
        texts.into_iter().for_each(|(name, text)| add(name, text.into()));
        add("kms.deadline", format!("{}ms", self.kms.deadline.as_millis()).into());
        if self.keystore.password_prompt {
            add("keystore.password-prompt", "true".into());
        }
        args
    }
}
