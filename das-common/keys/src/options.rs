//! Options that say where the key is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use das_common::config::{Problem, Secret};
use das_common::options;

use crate::source::{Envelope, KeySource, PasswordSource};

options! {
    /// The key that signs certificates: one of the ways to hold it, or none for a mirror.
    pub struct KeyOptions {
        /// Directory with the key files das_bls and das_bls.pub; made by dastool keygen.
        key_dir: PathBuf,
        /// The secret key itself, base64 as in das_bls. A key file is safer: arguments and environment are visible
        /// to others on the machine.
        priv_key: Secret,
        /// The key encrypted with a password.
        keystore: KeystoreOptions,
        /// The key encrypted by a key management service.
        kms: KmsOptions,
        /// The key in a process of its own.
        signer: SignerOptions,
        /// Let debuggers and other programs of the same user look into this process, and let it write core dumps,
        /// although it holds a key. For finding faults only.
        debuggable: bool = "false",
    }
}

options! {
    /// The key of das-signer: one of the ways to hold it.
    pub struct HeldKeyOptions {
        /// Directory with the key files das_bls and das_bls.pub; made by dastool keygen.
        key_dir: PathBuf,
        /// The key encrypted with a password.
        keystore: KeystoreOptions,
        /// The key encrypted by a key management service.
        kms: KmsOptions,
    }
}

options! {
    /// The key encrypted with a password.
    pub struct KeystoreOptions {
        /// Keystore of EIP-2335; made by dastool.
        file: PathBuf,
        /// File with the keystore's password; one line end after it does not belong to it.
        password_file: PathBuf,
        /// Name of the environment variable with the keystore's password.
        password_env: String,
        /// Ask for the keystore's password at the terminal.
        password_prompt: bool = "false",
    }
}

options! {
    /// The key encrypted by a key management service.
    pub struct KmsOptions {
        /// Envelope with the key encrypted by AWS KMS; made by dastool.
        envelope: PathBuf,
        /// Region of the service; empty: as AWS_REGION or the profile says.
        region: String,
        /// URL of the service; empty: Amazon's of that region.
        endpoint: String,
        /// Certificates (PEM) of the authorities that the endpoint's certificate is from; empty: those that the system
        /// trusts.
        ca: PathBuf,
        /// Longest time for the service to answer, all repetitions together.
        deadline: Duration = "30s",
    }
}

options! {
    /// The key in a process of its own.
    pub struct SignerOptions {
        /// URL of das-signer, such as https://signer.internal:9880.
        url: String,
        /// The member's public key, the file das_bls.pub: no other key's signatures are taken.
        public_key_file: PathBuf,
        /// Certificates (PEM) of the authorities that the signer's certificate is from; empty: those that the system
        /// trusts.
        ca: PathBuf,
        /// Our certificate (PEM), by which the signer knows us.
        cert: PathBuf,
        /// The secret key of our certificate (PEM).
        key: PathBuf,
        /// Longest time for one signature while the signer is away or busy; then the store fails. Keep it below the
        /// aggregator's time for a store.
        deadline: Duration = "4s",
    }
}

/// The names of the options of a key, for messages.
pub struct KeyNames {
    key_dir: &'static str,
    priv_key: &'static str,
    keystore_file: &'static str,
    password_file: &'static str,
    kms_envelope: &'static str,
    kms_deadline: &'static str,
    signer_url: &'static str,
    signer_public_key: &'static str,
    signer_cert: &'static str,
    signer_deadline: &'static str,
}

macro_rules! names {
    ($prefix:literal) => {
        KeyNames {
            key_dir: concat!($prefix, ".key-dir"),
            priv_key: concat!($prefix, ".priv-key"),
            keystore_file: concat!($prefix, ".keystore.file"),
            password_file: concat!($prefix, ".keystore.password-file"),
            kms_envelope: concat!($prefix, ".kms.envelope"),
            kms_deadline: concat!($prefix, ".kms.deadline"),
            signer_url: concat!($prefix, ".signer.url"),
            signer_public_key: concat!($prefix, ".signer.public-key-file"),
            signer_cert: concat!($prefix, ".signer.cert"),
            signer_deadline: concat!($prefix, ".signer.deadline"),
        }
    };
}

/// As das-node has them.
pub const NODE_NAMES: KeyNames = names!("data-availability.key");
/// As das-node has those of the storage key.
pub const STORAGE_NAMES: KeyNames = names!("storage-encryption");
/// As das-signer has them.
pub const SIGNER_NAMES: KeyNames = names!("key");

pub(crate) fn is_given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn given(path: &Path) -> Option<PathBuf> {
    is_given(path).then(|| path.to_path_buf())
}

pub(crate) fn problem(option: &'static str, text: impl Into<String>, cure: &'static str) -> Problem {
    Problem { option, text: text.into(), cure }
}

impl KeystoreOptions {
    /// Where its password is.
    pub fn password(&self) -> PasswordSource {
        if is_given(&self.password_file) {
            PasswordSource::File(self.password_file.clone())
        } else if !self.password_env.is_empty() {
            PasswordSource::Environment(self.password_env.clone())
        } else {
            PasswordSource::Prompt
        }
    }

    fn source(&self) -> KeySource {
        KeySource::Keystore { file: self.file.clone(), password: self.password() }
    }

    pub(crate) fn problems(&self, names: &KeyNames, found: &mut Vec<Problem>) {
        let ways = [is_given(&self.password_file), !self.password_env.is_empty(), self.password_prompt];
        let ways = ways.iter().filter(|way| **way).count();
        if is_given(&self.file) && ways != 1 {
            found.push(problem(
                names.password_file,
                format!("the keystore needs one source of its password, and {ways} are given"),
                "give one of .keystore.password-file, .keystore.password-env and .keystore.password-prompt",
            ));
        }
    }
}

impl KmsOptions {
    fn source(&self) -> KeySource {
        KeySource::Envelope(Envelope { file: self.envelope.clone(), service: self.service() })
    }

    /// The service.
    pub fn service(&self) -> crate::kms::aws::AwsSettings {
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        crate::kms::aws::AwsSettings {
            region: text(&self.region),
            endpoint: text(&self.endpoint),
            authorities: given(&self.ca),
            deadline: self.deadline,
        }
    }

    pub(crate) fn problems(&self, names: &KeyNames, found: &mut Vec<Problem>) {
        if is_given(&self.envelope) && self.deadline.is_zero() {
            found.push(problem(names.kms_deadline, "it is 0", "give at least 1s"));
        }
    }
}

fn one_way(ways: &[(&'static str, bool)], found: &mut Vec<Problem>) {
    let mut given = ways.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        let text = format!("--{first} is given too, and a member has one key");
        found.push(problem(second, text, "leave out one of the two"));
    }
}

impl KeyOptions {
    /// Whether there is a key to sign with.
    pub fn is_given(&self) -> bool {
        self.is_held() || !self.signer.url.is_empty()
    }

    /// Whether the key is to be in this process.
    pub fn is_held(&self) -> bool {
        !self.priv_key.is_empty()
            || is_given(&self.key_dir)
            || is_given(&self.keystore.file)
            || is_given(&self.kms.envelope)
    }

    /// Where the key is, if it is to be in this process.
    pub fn held(&self) -> Option<KeySource> {
        if self.priv_key.is_empty() {
            held(&self.key_dir, &self.keystore, &self.kms)
        } else {
            Some(KeySource::Bare(self.priv_key.clone()))
        }
    }

    /// Combinations that cannot work.
    pub fn problems(&self, names: &KeyNames) -> Vec<Problem> {
        let mut found = Vec::new();
        let ways = [
            (names.key_dir, is_given(&self.key_dir)),
            (names.priv_key, !self.priv_key.is_empty()),
            (names.keystore_file, is_given(&self.keystore.file)),
            (names.kms_envelope, is_given(&self.kms.envelope)),
            (names.signer_url, !self.signer.url.is_empty()),
        ];
        one_way(&ways, &mut found);
        self.keystore.problems(names, &mut found);
        self.kms.problems(names, &mut found);
        let signer = &self.signer;
        if !signer.url.is_empty() {
            if !is_given(&signer.public_key_file) {
                found.push(problem(
                    names.signer_public_key,
                    "it is not given, so any key's signatures would have to do",
                    "give the member's das_bls.pub",
                ));
            }
            if !is_given(&signer.cert) || !is_given(&signer.key) {
                found.push(problem(
                    names.signer_cert,
                    "the signer knows us by a certificate, and there is none",
                    "give .signer.cert and .signer.key",
                ));
            }
            if signer.deadline.is_zero() {
                found.push(problem(names.signer_deadline, "it is 0", "give at least 1s"));
            }
        }
        found
    }
}

impl HeldKeyOptions {
    /// Where the key is.
    pub fn source(&self) -> Option<KeySource> {
        held(&self.key_dir, &self.keystore, &self.kms)
    }

    /// Combinations that cannot work.
    pub fn problems(&self, names: &KeyNames) -> Vec<Problem> {
        let mut found = Vec::new();
        let ways = [
            (names.key_dir, is_given(&self.key_dir)),
            (names.keystore_file, is_given(&self.keystore.file)),
            (names.kms_envelope, is_given(&self.kms.envelope)),
        ];
        if ways.iter().all(|(_, given)| !given) {
            found.push(problem(
                names.key_dir,
                "there is no key to sign with",
                "give --key.key-dir, --key.keystore.file or --key.kms.envelope",
            ));
        }
        one_way(&ways, &mut found);
        self.keystore.problems(names, &mut found);
        self.kms.problems(names, &mut found);
        found
    }
}

fn held(directory: &Path, keystore: &KeystoreOptions, kms: &KmsOptions) -> Option<KeySource> {
    if is_given(directory) {
        Some(KeySource::Files(directory.to_path_buf()))
    } else if is_given(&keystore.file) {
        Some(keystore.source())
    } else if is_given(&kms.envelope) {
        Some(kms.source())
    } else {
        None
    }
}
