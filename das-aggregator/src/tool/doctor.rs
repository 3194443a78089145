//! `doctor`: finds out what is wrong with a member or a whole committee, and says what to do.
//!
//! Members are asked at the same time, each within a time limit, so that one that hangs costs nothing but its own check.
//! Findings of one kind have one shape: where, what, and the cure; whoever is well is told so too.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use das_common::committee::Committee;
use das_common::config::Secret;
use das_common::config::sections::ParentChainOptions;
use das_common::data_hash::DataHash;
use das_common::http::client::Endpoint;
use das_common::tls::OutgoingTlsOptions;
use futures::future::join_all;
use serde::Serialize;
use serde_json::json;

use super::args;
use super::keyset::CommitteeFile;
use super::output::Answer;
use super::show::row;
use super::store::read_key;

mod archive;
mod chain;
mod clock;
mod member;
mod probe;

use member::{Examined, Patient};
use probe::Probe;

das_common::options! {
    /// The aggregator of a committee.
    pub(crate) struct AggregatorUrls {
        /// Its JSON-RPC URL.
        rpc: String,
        /// Its REST URL.
        rest: String,
    }
}

das_common::options! {
    /// Options of `doctor`.
    pub(crate) struct Options {
        ["Options"]
        /// Examine every member of this committee.
        committee: CommitteeFile,
        /// Examine the committee's aggregator too.
        aggregator: AggregatorUrls,
        /// Examine one server: its JSON-RPC URL.
        rpc: String,
        /// Examine one server: its REST URL.
        rest: String,
        /// The public key that this server should sign with, in base64 as in its das_bls.pub.
        public_key: String,
        /// The keyset hash on the parent chain, to compare with the committee's.
        keyset_hash: String,
        /// Examine the parent chain: its nodes, the contract, and what it knows of the committee and of --signing-key.
        parent_chain: ParentChainOptions,
        /// Account that posts: whether the contract takes it, and what it has.
        poster: String,
        /// secp256k1 key that may store (hex with 0x, or a file): a probe batch of
        /// 1000 bytes is stored for the retention asked for, and read back.
        signing_key: Secret,
        /// Store the probe unsigned, for servers that check no signatures.
        unsigned: bool = "false",
        /// How long members must be able to keep a batch; the batch poster asks for 15 days.
        retention: Duration = "360h0m0s",
        /// How far clocks may differ.
        max_clock_difference: Duration = "10s",
        /// How long to wait for each answer.
        timeout: Duration = "10s",
        /// Servers with https URLs: whom to trust, and who we are.
        tls: OutgoingTlsOptions,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "doctor",
    "Checks that URLs answer, keys match, clocks agree, retention is long enough, and that a probe batch can be stored and \
     read: of a committee (--committee.file, with --signing-key to store the probe) or of one server (--rpc, --rest). Exit \
     code 1 when something is wrong."
);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    Good,
    Bad,
    /// It could not be made; not by itself a sign of anything wrong.
    NotChecked,
}

/// The result of one check.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    /// A member's name, or `committee`.
    subject: String,
    /// What was checked.
    check: &'static str,
    verdict: Verdict,
    /// What was found.
    text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Finding {
    fn good(subject: &str, check: &'static str, text: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), check, verdict: Verdict::Good, text: text.into(), cure: None }
    }

    fn bad(subject: &str, check: &'static str, text: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, cure: Some(cure.into()), ..Self::good(subject, check, text) }
    }

    fn not_checked(subject: &str, check: &'static str, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::NotChecked, ..Self::good(subject, check, text) }
    }
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        let file = &options.committee.file;
        let committee = (!file.is_empty()).then(|| Committee::load(file)).transpose()?;
        let patients = patients(&options, committee.as_ref())?;
        let key = read_key(&options.signing_key)?;
        let probe = (key.is_some() || options.unsigned).then(|| Probe::new(key.as_ref(), options.retention));

        let http = super::http(&options.tls)?;
        let examined = super::block_on(async {
            let examine = |patient| member::examine(&http, patient, probe.as_ref(), options.timeout);
            Ok(join_all(patients.iter().map(examine)).await)
        })?;
        let mut findings =
            committee_findings(&options, committee.as_ref(), &patients, &examined, probe.is_some())?;
        if options.parent_chain.is_given() {
            let subjects = chain::Subjects {
                committee: committee.as_ref(),
                key: key.as_ref(),
                poster: chain::poster(&options.poster)?,
            };
            let examine = chain::examine(&options.parent_chain, &subjects, options.timeout);
            findings.extend(super::block_on(examine)?);
        }
        findings.extend(clock::compare(&patients, &examined, options.max_clock_difference));
        findings.extend(examined.into_iter().flat_map(|examined| examined.findings));
        report(options.json, &findings)
    })
}

fn patients(options: &Options, committee: Option<&Committee>) -> anyhow::Result<Vec<Patient>> {
    let endpoint = |url: &str| (!url.is_empty()).then(|| Endpoint::parse(url)).transpose();
    let mut patients = Vec::new();
    for member in committee.iter().flat_map(|committee| committee.members()) {
        patients.push(Patient {
            name: member.name.clone(),
            rpc: Some(Endpoint::parse(member.rpc.as_str())?),
            rest: member.rest.as_ref().map(|url| Endpoint::parse(url.as_str())).transpose()?,
            signs: member::Signs::As(Box::new(member.public_key.clone())),
        });
    }
    let AggregatorUrls { rpc, rest } = &options.aggregator;
    if !(rpc.is_empty() && rest.is_empty()) {
        let committee = committee.context("--aggregator.* needs --committee.file to check certificates")?;
        patients.push(Patient {
            name: "aggregator".to_owned(),
            rpc: endpoint(rpc)?,
            rest: endpoint(rest)?,
            signs: member::Signs::ForCommittee(Box::new(committee.keyset().clone())),
        });
    }
    if !(options.rpc.is_empty() && options.rest.is_empty()) {
        let signs = if options.public_key.is_empty() {
            member::Signs::Unknown
        } else {
            let bytes = base64_simd::STANDARD.decode_to_vec(options.public_key.trim()).ok();
            let bytes = bytes.context("--public-key is not base64")?;
            member::Signs::As(Box::new(das_common::bls::PublicKey::parse(&bytes).context("--public-key")?))
        };
        let (rpc, rest) = (endpoint(&options.rpc)?, endpoint(&options.rest)?);
        let name = rpc.as_ref().or(rest.as_ref()).map_or("", Endpoint::authority).to_owned();
        patients.push(Patient { name, rpc, rest, signs });
    }
    ensure!(
        !patients.is_empty() || options.parent_chain.is_given(),
        "say whom to examine: --committee.file, --rpc and --rest of one server, or --parent-chain.node-url and \
         --parent-chain.sequencer-inbox-address"
    );
    Ok(patients)
}

/// What only shows when the committee is looked at as a whole.
fn committee_findings(
    options: &Options,
    committee: Option<&Committee>,
    patients: &[Patient],
    examined: &[Examined],
    probed: bool,
) -> anyhow::Result<Vec<Finding>> {
    const SUBJECT: &str = "committee";
    let mut findings = Vec::new();
    let Some(committee) = committee else {
        ensure!(options.keyset_hash.is_empty(), "--keyset-hash needs --committee.file to compare with");
        return Ok(findings);
    };
    if !options.keyset_hash.is_empty() {
        let on_chain: DataHash = options.keyset_hash.parse().context("--keyset-hash")?;
        let ours = committee.keyset().hash();
        findings.push(if on_chain == ours {
            Finding::good(SUBJECT, "keyset", format!("the keyset hash is 0x{ours}"))
        } else {
            Finding::bad(
                SUBJECT,
                "keyset",
                format!("the committee file gives keyset 0x{ours}, the parent chain has 0x{on_chain}"),
                "correct the file (keys, their order, honest-members, data-shards), or post the keyset that \
                 dastool dump-keyset prints",
            )
        });
    }
    let members =
        patients.iter().zip(examined).filter(|(patient, _)| matches!(patient.signs, member::Signs::As(_)));
    let signing = members.clone().filter(|(_, examined)| examined.signed).count() as u64;
    let serving = members.filter(|(_, examined)| examined.served).count() as u64;
    let (n, threshold) = (committee.policy().members(), committee.threshold());
    findings.push(match signing {
        _ if !probed => Finding::not_checked(
            SUBJECT,
            "quorum",
            "no probe batch was stored; give --signing-key to store one",
        ),
        signing if signing >= threshold => {
            let spare = signing - threshold;
            let text = format!("{signing} of {n} members sign, {threshold} are needed; {spare} to spare");
            Finding::good(SUBJECT, "quorum", text)
        }
        signing => Finding::bad(
            SUBJECT,
            "quorum",
            format!("{signing} of {n} members sign, but {threshold} are needed: no batch can be certified"),
            format!("bring back at least {} of the members named below", threshold - signing),
        ),
    });
    if probed && serving == 0 {
        let cure = "see the members below; until one serves, batches can be certified but not read";
        findings.push(Finding::bad(SUBJECT, "reads", "no member served the probe batch", cure));
    }
    Ok(findings)
}

fn report(as_json: bool, findings: &[Finding]) -> anyhow::Result<Answer> {
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    let mut text = String::new();
    let width = findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok  ",
            Verdict::Bad => "BAD ",
            Verdict::NotChecked => "-   ",
        };
        let _ = writeln!(text, "{mark} {:<width$}  {:<11} {}", finding.subject, finding.check, finding.text);
        if let Some(cure) = &finding.cure {
            let _ = writeln!(text, "     {:<width$}  {:<11} -> {cure}", "", "");
        }
    }
    text.push('\n');
    row(
        &mut text,
        "result",
        match bad {
            0 => "all is well".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            bad => format!("{bad} things are wrong"),
        },
    );
    let mut answer = Answer::new(as_json, text, &json!({ "good": bad == 0, "findings": findings }))?;
    answer.good = bad == 0;
    Ok(answer)
}
