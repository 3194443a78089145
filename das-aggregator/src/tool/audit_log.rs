//! `audit-log`: whether the log of a signer is whole.

use std::path::Path;

use anyhow::{Context as _, bail};
use das_common::fault::Coded as _;
use das_keys::audit_log::{AuditError, verify};
use serde_json::json;

use super::args;
use super::output::Answer;

das_common::options! {
    /// Options of `audit-log`.
    pub(crate) struct Options {
        ["Options"]
        /// Hash of the last record as it was noted elsewhere; it must be in the file.
        head: String,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "audit-log",
    "Checks the audit log of das-signer: `dastool audit-log verify FILE`. Every record must follow from the one before, and \
     every signature must be of what its record says. Prints the last hash: noted elsewhere and given again as --head, it \
     shows that nothing was cut off at the end."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 2..=2, |options: Options, words| {
        if words[0] != "verify" {
            bail!("audit-log {}: there is `audit-log verify FILE`", words[0]);
        }
        let found = match verify(Path::new(&words[1]), &options.head) {
            Ok(found) => found,
            Err(error @ (AuditError::Damaged { .. } | AuditError::OtherKey { .. })) => {
                let json = json!({ "good": false, "code": error.fault().code, "error": error.to_string() });
                let text = format!("damaged: {error} ({})\n", error.fault().code);
                let mut answer = Answer::new(options.json, text, &json)?;
                answer.good = false;
                return Ok(answer);
            }
            Err(error) => return Err(error).context("reading the log"),
        };
        let head = const_hex::encode(found.summary.head);
        let torn = found.summary.torn.as_ref().map(|torn| torn.bytes);
        let mut text = format!(
            "records       {}\nsignatures    {}\ncut short     {} times, recognised\nlast hash     {head}\n",
            found.summary.records, found.summary.signatures, found.summary.repaired
        );
        if let Some(bytes) = torn {
            text += &format!("at the end    {bytes} bytes of a write that was cut short\n");
        }
        if !options.head.is_empty() {
            let there =
                if found.has_head { "is in the file" } else { "IS NOT IN THE FILE: records were cut off" };
            text += &format!("--head        {there}\n");
        }
        let good = options.head.is_empty() || found.has_head;
        let json = json!({
            "good": good,
            "records": found.summary.records,
            "signatures": found.summary.signatures,
            "repaired": found.summary.repaired,
            "tornBytes": torn,
            "publicKey": found.summary.public_key,
            "head": head,
        });
        let mut answer = Answer::new(options.json, text, &json)?;
        answer.good = good;
        Ok(answer)
    })
}
