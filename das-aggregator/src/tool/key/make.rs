//! `key-make`: a new key that is never on disk in the clear, unless that is asked for.

use base64_simd::STANDARD;
use das_common::bls::SecretKey;
use das_common::keystore::parts::STRONGEST_LOG_N;
use das_keys::options::HeldKeyOptions;
use das_keys::source::guard_process;
use serde_json::json;

use super::super::output::Answer;
use super::super::{args, block_on};

das_common::options! {
    /// Options of `key-make`.
    pub(crate) struct Options {
        ["Options"]
        /// How the key is to be held.
        to: HeldKeyOptions,
        /// Key of the key management service that encrypts the envelope: its ARN, id or alias.
        kms_key: String,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "key-make",
    "Makes a BLS key as files (--to.key-dir), as a keystore (--to.keystore.file, with its password from a file, the \
     environment or a prompt) or as an envelope of a key management service (--to.kms.envelope and --kms-key). The public \
     key is written beside it. Files that are there already are never overwritten."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        guard_process(false);
        let key = SecretKey::generate();
        let written = block_on(super::write(&options.to, &options.kms_key, STRONGEST_LOG_N, &key))?;
        let public_key = STANDARD.encode_to_string(key.public_key().to_bytes());
        let json = json!({
            "secretKeyFile": written.secret, "publicKeyFile": written.public, "publicKey": public_key,
        });
        let mut answer = Answer::new(options.json, format!("{public_key}\n"), &json)?;
        let (secret, public) = (written.secret.display(), written.public.display());
        answer.aside = format!("wrote {secret} (keep it, and a backup of it) and {public}\n");
        Ok(answer)
    })
}
