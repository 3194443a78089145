//! `storage-key-make` and `storage-key-check` are in [`storage`];
//! `key-make`, `key-convert`, `key-password` and `key-check`: a member's BLS key in the ways that it can be held.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64_simd::STANDARD;
use das_common::bls::{SecretKey, write_key_files};
use das_common::fault::Coded;
use das_common::keystore::Keystore;
use das_common::password::Password;
use das_keys::envelope::Envelope;
use das_keys::kms::aws::AwsKms;
use das_keys::options::{HeldKeyOptions, KeystoreOptions};
use das_keys::source::PasswordSource;

use super::keygen::write_new;

pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod make;
pub(crate) mod password;
pub(crate) mod storage;

/// What the file of a public key beside a keystore or an envelope is called.
const PUBLIC_SUFFIX: &str = "pub";

/// An error with the code under which the registry has it.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err calls")]
fn coded<E: Coded>(error: E) -> anyhow::Error {
    // Its words say their cause already; a chain of errors would say it twice.
    anyhow::anyhow!("{}: {error}", error.fault().code)
}

/// The password for a keystore that is to be written.
fn new_password(options: &KeystoreOptions) -> anyhow::Result<Password> {
    let question = format!("New password of {}", options.file.display());
    let source = if !options.password_file.as_os_str().is_empty() {
        PasswordSource::File(options.password_file.clone())
    } else if !options.password_env.is_empty() {
        PasswordSource::Environment(options.password_env.clone())
    } else {
        return Password::from_new_prompt(&question).map_err(coded);
    };
    source.read(&question).map_err(coded)
}

/// What was written.
struct Written {
    secret: PathBuf,
    public: PathBuf,
}

/// Writes a key in the way that the options say: new files, readable by their owner only, synced.
async fn write(to: &HeldKeyOptions, kms_key: &str, log_n: u8, key: &SecretKey) -> anyhow::Result<Written> {
    let (keystore, envelope) = (&to.keystore.file, &to.kms.envelope);
    let given = [&to.key_dir, keystore, envelope].map(|path| !path.as_os_str().is_empty());
    match given {
        [true, false, false] => {
            let files = write_key_files(&to.key_dir, key)?;
            Ok(Written { secret: files.secret, public: files.public })
        }
        [false, true, false] => {
            let text = Keystore::write(key, &new_password(&to.keystore)?, log_n).map_err(coded)?;
            write_beside(keystore, &text, key)
        }
        [false, false, true] => {
            if kms_key.is_empty() {
                bail!("--kms-key must name the service's key (its ARN, id or alias) that encrypts");
            }
            let service = AwsKms::new(&to.kms.service()).await.map_err(coded)?;
            let sealed = Envelope::seal(&service, kms_key, key).await.map_err(coded)?;
            // What cannot be opened again is no copy of a key.
            let opened = sealed.open(&service).await.map_err(coded);
            opened.context("the envelope was made, but the service does not open it again")?;
            write_beside(envelope, &sealed.to_text(), key)
        }
        _ => bail!("say where the key goes by one of --to.key-dir, --to.keystore.file and --to.kms.envelope"),
    }
}

/// Writes a file, and the public key beside it.
fn write_beside(path: &Path, text: &str, key: &SecretKey) -> anyhow::Result<Written> {
    let mut public = path.as_os_str().to_owned();
    public.push(".");
    public.push(PUBLIC_SUFFIX);
    let public = PathBuf::from(public);
    if public.exists() {
        bail!("{} is there already; move it away first", public.display());
    }
    write_new(path, text.as_bytes())?;
    write_new(&public, STANDARD.encode_to_string(key.public_key().to_bytes()).as_bytes())?;
    sync_folder(path)?;
    Ok(Written { secret: path.to_path_buf(), public })
}

fn sync_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("syncing {}", folder.display()))
}
