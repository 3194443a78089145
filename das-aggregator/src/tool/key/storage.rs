//! `storage-key-make` and `storage-key-check`: the key that a member's payloads are encrypted with on its disk.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use das_common::keystore::parts::STRONGEST_LOG_N;
use das_keys::kms::aws::AwsKms;
use das_keys::options::{KeystoreOptions, KmsOptions};
use das_keys::source::guard_process;
use das_keys::storage_file::{StorageKeyFile, envelope_text, key_text, keystore_text};
use das_keys::storage_key::StorageKey;
use serde_json::json;

use super::super::keygen::write_new;
use super::super::output::Answer;
use super::super::{args, block_on};
use super::{coded, new_password, sync_folder};

das_common::options! {
    /// How a storage key is to be held.
    pub(crate) struct Target {
        /// The key in the clear, in hex.
        key_file: PathBuf,
        /// The key encrypted with a password.
        keystore: KeystoreOptions,
        /// The key encrypted by a key management service.
        kms: KmsOptions,
    }
}

das_common::options! {
    /// Options of `storage-key-make`.
    pub(crate) struct MakeOptions {
        ["Options"]
        /// How the key is to be held.
        to: Target,
        /// Key of the key management service that encrypts the envelope: its ARN, id or alias.
        kms_key: String,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    MakeOptions,
    "storage-key-make",
    "Makes a key for payloads at rest (das-node's storage-encryption.*) as a file (--to.key-file), as a keystore \
     (--to.keystore.file, with its password from a file, the environment or a prompt) or as an envelope of a key management \
     service (--to.kms.envelope and --kms-key), and prints its id. A file that is there already is never overwritten."
);

das_common::options! {
    /// Options of `storage-key-check`.
    pub(crate) struct CheckOptions {
        ["Options"]
        /// Open the key, not only say which id its file names: a keystore needs its password, an envelope its service.
        open: bool = "false",
        /// Where a keystore's password is.
        keystore: KeystoreOptions,
        /// The service of an envelope.
        kms: KmsOptions,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    CheckOptions,
    "storage-key-check",
    "Says the id of a storage key, as /status and error messages have it: `dastool storage-key-check FILE`. Of a key file it is \
     computed; a keystore and an envelope name it, and with --open they are opened and it is compared."
);

pub(crate) fn make(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: MakeOptions, _| {
        guard_process(false);
        let key = StorageKey::generate();
        let path = block_on(write(&options, &key))?;
        let id = key.id().to_string();
        let json = json!({ "file": path, "keyId": id });
        let mut answer = Answer::new(options.json, format!("{id}\n"), &json)?;
        answer.aside = format!(
            "wrote {}: keep it, and a backup of it apart from those of the batches. Without it they cannot be read\n",
            path.display()
        );
        Ok(answer)
    })
}

async fn write(options: &MakeOptions, key: &StorageKey) -> anyhow::Result<PathBuf> {
    let Target { key_file, keystore, kms } = &options.to;
    let given = [key_file, &keystore.file, &kms.envelope].map(|path| !path.as_os_str().is_empty());
    let path = match given {
        [true, false, false] => {
            write_new(key_file, key_text(key).as_bytes())?;
            key_file
        }
        [false, true, false] => {
            let password = new_password(keystore)?;
            let text = keystore_text(key, &password, STRONGEST_LOG_N).map_err(coded)?;
            write_new(&keystore.file, text.as_bytes())?;
            &keystore.file
        }
        [false, false, true] => {
            if options.kms_key.is_empty() {
                bail!("--kms-key must name the service's key (its ARN, id or alias) that encrypts");
            }
            let service = AwsKms::new(&kms.service()).await.map_err(coded)?;
            let text = envelope_text(key, &options.kms_key, &service).await.map_err(coded)?;
            write_new(&kms.envelope, text.as_bytes())?;
            // What cannot be opened again is no copy of a key.
            let file = StorageKeyFile::read(&kms.envelope).map_err(coded)?;
            let opened = file.open(None, &kms.service()).await.map_err(coded);
            opened.context("the envelope was made, but the service does not open it again")?;
            &kms.envelope
        }
        _ => {
            bail!("say where the key goes by one of --to.key-file, --to.keystore.file and --to.kms.envelope")
        }
    };
    sync_folder(path)?;
    Ok(path.clone())
}

pub(crate) fn check(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 1..=1, |options: CheckOptions, words| {
        guard_process(false);
        let file = StorageKeyFile::read(Path::new(&words[0])).map_err(coded)?;
        let (id, form) = (file.id().to_string(), file.form().to_string());
        if options.open {
            let password = options.keystore.password();
            block_on(async { file.open(Some(&password), &options.kms.service()).await.map_err(coded) })?;
        }
        let json = json!({ "keyId": id, "form": form, "opened": options.open });
        Answer::new(options.json, format!("{id}\n"), &json)
    })
}
