//! `key-password`: another password for a keystore.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use base64_simd::STANDARD;
use das_common::keystore::Keystore;
use das_common::keystore::parts::STRONGEST_LOG_N;
use das_keys::options::KeystoreOptions;
use das_keys::source::{KeySource, PasswordSource, guard_process, open_keystore};
use serde_json::json;

use super::super::keygen::write_new;
use super::super::output::Answer;
use super::super::{args, block_on};
use super::{coded, new_password, sync_folder};

das_common::options! {
    /// Options of `key-password`.
    pub(crate) struct Options {
        ["Options"]
        /// File with the keystore's password now.
        password_file: PathBuf,
        /// Name of the environment variable with the keystore's password now.
        password_env: String,
        /// File with the keystore's new password.
        new_password_file: PathBuf,
        /// Name of the environment variable with the keystore's new password.
        new_password_env: String,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "key-password",
    "Gives a keystore another password: `dastool key-password KEYSTORE`. The file is replaced as a whole, after the new one \
     was read back. Passwords that are not in a file or the environment are asked for. Copies of the file keep their old \
     password."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 1..=1, |options: Options, words| {
        guard_process(false);
        let file = PathBuf::from(&words[0]);
        let password = if !options.password_file.as_os_str().is_empty() {
            PasswordSource::File(options.password_file.clone())
        } else if !options.password_env.is_empty() {
            PasswordSource::Environment(options.password_env.clone())
        } else {
            PasswordSource::Prompt
        };
        let key = block_on(async {
            KeySource::Keystore { file: file.clone(), password }.open().await.map_err(coded)
        })?;
        let new = KeystoreOptions {
            file: file.clone(),
            password_file: options.new_password_file,
            password_env: options.new_password_env,
            password_prompt: false,
        };
        let password = new_password(&new)?;
        let text = Keystore::write(&key, &password, STRONGEST_LOG_N).map_err(coded)?;
        let mut beside = file.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        write_new(&beside, text.as_bytes())?;
        let read = open_keystore(&beside, &password).map_err(coded)?;
        if read.public_key() != key.public_key() {
            bail!("{} holds another key than it was given; nothing was replaced", beside.display());
        }
        std::fs::rename(&beside, &file).with_context(|| format!("replacing {}", file.display()))?;
        sync_folder(&file)?;
        let public_key = STANDARD.encode_to_string(key.public_key().to_bytes());
        let json = json!({ "secretKeyFile": file, "publicKey": public_key });
        let mut answer = Answer::new(options.json, "", &json)?;
        answer.aside = format!("{} has the new password\n", file.display());
        Ok(answer)
    })
}
