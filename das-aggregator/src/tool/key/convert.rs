//! `key-convert`: the same key, held in another way.

use anyhow::{Context as _, bail};
use base64_simd::STANDARD;
use das_common::keystore::parts::STRONGEST_LOG_N;
use das_keys::options::HeldKeyOptions;
use das_keys::source::guard_process;
use serde_json::json;

use super::super::output::Answer;
use super::super::{args, block_on};
use super::coded;

das_common::options! {
    /// Options of `key-convert`.
    pub(crate) struct Options {
        ["Options"]
        /// How the key is held.
        from: HeldKeyOptions,
        /// How the key is to be held.
        to: HeldKeyOptions,
        /// Key of the key management service that encrypts the new envelope: its ARN, id or alias.
        kms_key: String,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "key-convert",
    "Writes a member's key in another way: from --from.key-dir, --from.keystore.file or --from.kms.envelope to --to.key-dir, \
     --to.keystore.file or --to.kms.envelope. From envelope to envelope, the key is encrypted anew under --kms-key. What it \
     is read from stays; files that are there already are never overwritten."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        guard_process(false);
        let Some(source) = options.from.source() else {
            bail!(
                "say where the key is by one of --from.key-dir, --from.keystore.file and --from.kms.envelope"
            );
        };
        let (key, written) = block_on(async {
            let key = source.open().await.map_err(coded).context("reading the key")?;
            let written = super::write(&options.to, &options.kms_key, STRONGEST_LOG_N, &key).await?;
            Ok((key, written))
        })?;
        let public_key = STANDARD.encode_to_string(key.public_key().to_bytes());
        let json = json!({
            "secretKeyFile": written.secret, "publicKeyFile": written.public, "publicKey": public_key,
        });
        let mut answer = Answer::new(options.json, format!("{public_key}\n"), &json)?;
        answer.aside = format!(
            "wrote {} and {}; what the key was read from is still there\n",
            written.secret.display(),
            written.public.display()
        );
        Ok(answer)
    })
}
