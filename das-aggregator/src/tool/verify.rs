//! `verify-cert`: is a certificate valid under a keyset, and who signed it?

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use das_common::certificate::{Certificate, CertificateError};
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use das_common::keyset::NitroKeyset;
use serde_json::json;

use super::args;
use super::keyset::CommitteeFile;
use super::output::Answer;
use super::show::{self, row};

das_common::options! {
    /// Options of `verify-cert`.
    pub(crate) struct Options {
        ["Options"]
        /// The committee that should have signed.
        committee: CommitteeFile,
        /// Or its keyset in hex, as dump-keyset prints it.
        keyset: String,
        /// Check also that the certificate is for the content of this file.
        file: PathBuf,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "verify-cert",
    "Checks a certificate as every reader of the chain does, and as strictly as we do: `dastool verify-cert HEX`, with \
     --committee.file or --keyset. Exit code 1 when it is not valid."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 1..=1, |options: Options, words| {
        let bytes = const_hex::decode(words[0].trim()).context("the certificate is not hex")?;
        let (keyset, committee) = keyset(&options)?;
        let certificate = match Certificate::parse_as_nitro(&bytes) {
            Ok(certificate) => certificate,
            Err(error) => return no_certificate(options.json, &error),
        };

        let mut problems = Vec::new();
        if certificate.keyset_hash != keyset.hash() {
            problems.push(format!(
                "it names keyset 0x{}, the one given is 0x{}",
                certificate.keyset_hash,
                keyset.hash()
            ));
        }
        let as_nitro = certificate.verify_as_nitro(&keyset);
        if let Err(error) = &as_nitro {
            problems.push(error.to_string());
        }
        // What readers accept is a problem of ours if we would not post it.
        let strict = match &committee {
            Some(committee) => {
                Certificate::parse_strict(&bytes).map_err(|error| error.to_string()).and_then(|certificate| {
                    certificate.verify(committee.keyset()).map_err(|error| error.to_string())
                })
            }
            None => Certificate::parse_strict(&bytes).map(|_| ()).map_err(|error| error.to_string()),
        };
        if let (Ok(()), Err(error)) = (&as_nitro, &strict) {
            problems.push(format!("readers of the chain accept it, but we would not post it: {error}"));
        }
        if certificate.timeout <= super::now() {
            problems.push("its timeout is over: nobody has to keep the batch any more".to_owned());
        }
        if !options.file.as_os_str().is_empty() {
            let message = std::fs::read(&options.file)
                .with_context(|| format!("reading {}", options.file.display()))?;
            if DataHash::of(&message) != certificate.data_hash {
                problems.push(format!("it is not for the content of {}", options.file.display()));
            }
        }

        let shown = show::certificate(&certificate);
        let mut text = shown.text;
        let names = committee.as_ref().map(|committee| signer_names(committee, certificate.signers_mask));
        if let Some(names) = &names {
            row(&mut text, "signed by", names.join(", "));
        }
        row(&mut text, "valid", if problems.is_empty() { "yes" } else { "no" });
        for problem in &problems {
            row(&mut text, "", problem);
        }
        let json = json!({
            "valid": problems.is_empty(),
            "problems": problems,
            "signedBy": names,
            "certificate": shown.json,
        });
        let mut answer = Answer::new(options.json, text, &json)?;
        answer.good = problems.is_empty();
        Ok(answer)
    })
}

/// Bytes that are no certificate are one that is not valid: whoever asks wants to know just that.
fn no_certificate(as_json: bool, error: &CertificateError) -> anyhow::Result<Answer> {
    let problem = format!("this is no certificate: {error}");
    let mut text = String::new();
    row(&mut text, "valid", "no");
    row(&mut text, "", &problem);
    let mut answer = Answer::new(as_json, text, &json!({ "valid": false, "problems": [problem] }))?;
    answer.good = false;
    Ok(answer)
}

fn keyset(options: &Options) -> anyhow::Result<(NitroKeyset, Option<Committee>)> {
    match (options.committee.file.is_empty(), options.keyset.is_empty()) {
        (false, true) => {
            let committee = Committee::load(&options.committee.file)?;
            Ok((NitroKeyset::parse(&committee.keyset().to_bytes())?, Some(committee)))
        }
        (true, false) => {
            let bytes = const_hex::decode(options.keyset.trim()).context("--keyset is not hex")?;
            Ok((NitroKeyset::parse(&bytes).context("--keyset")?, None))
        }
        _ => bail!("say whose certificate it is, with either --committee.file or --keyset"),
    }
}

fn signer_names(committee: &Committee, mask: u64) -> Vec<&str> {
    let members = committee.members().iter().enumerate();
    members.filter(|(i, _)| mask >> i & 1 == 1).map(|(_, member)| member.name.as_str()).collect()
}
