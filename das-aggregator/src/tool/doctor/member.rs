//! The examination of one server.

use std::time::{Duration, Instant, SystemTime};

use das_common::bls::{PublicKey, Signature};
use das_common::certificate::signed_bytes_v1;
use das_common::data_hash::DataHash;
use das_common::http::client::{Endpoint, HttpClient, HttpError};
use das_common::keyset::Keyset;
use das_common::rpc_client::{CallError, MemberClient};
use das_common::wire::{ExpirationPolicy, StoreResult};
use http::StatusCode;
use serde::Deserialize;

use super::Finding;
use super::archive::Archive;
use super::clock::Offset;
use super::probe::Probe;
use crate::tool::{get, show, store};

/// Longest `/status` that is read.
const MAX_STATUS: usize = 1 << 20;

/// Whom the doctor examines.
pub(super) struct Patient {
    pub(super) name: String,
    pub(super) rpc: Option<Endpoint>,
    pub(super) rest: Option<Endpoint>,
    pub(super) signs: Signs,
}

/// What its signature should be.
pub(super) enum Signs {
    /// A member's, under this key.
    As(Box<PublicKey>),
    /// A certificate of the committee with this keyset.
    ForCommittee(Box<Keyset>),
    /// Whatever it is.
    Unknown,
}

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Examined {
    pub(super) findings: Vec<Finding>,
    pub(super) clock: Option<Offset>,
    /// It signed the probe as it should.
    pub(super) signed: bool,
    /// It served the probe.
    pub(super) served: bool,
}

pub(super) async fn examine(
    http: &HttpClient,
    patient: &Patient,
    probe: Option<&Probe>,
    timeout: Duration,
) -> Examined {
    let mut examined = Examined::default();
    let Patient { name, rpc, rest, .. } = patient;
    let mut stored = false;
    if let Some(rpc) = rpc {
        if let Some(clock) = clock_of(http, rpc, timeout).await {
            examined.clock = Some(clock);
        }
        let client = MemberClient::new(rpc.clone(), http.clone());
        let answers = health(&client, name, timeout, &mut examined.findings).await;
        match probe {
            Some(probe) if answers => {
                let findings = store_probe(&client, patient, probe, timeout).await;
                stored = findings.0;
                examined.signed = findings.1;
                examined.findings.extend(findings.2);
            }
            Some(_) => {}
            None => examined.findings.push(Finding::not_checked(
                name,
                "store",
                "no probe batch was stored; give --signing-key of a key that may store, or --unsigned",
            )),
        }
    }
    if let Some(rest) = rest {
        examined.findings.push(rest_health(http, rest, name, timeout).await);
        examined.findings.extend(status(http, rest, name, timeout).await);
        if let Some(probe) = probe.filter(|_| stored) {
            let read = get::read(http, rest, &probe.hash, timeout).await;
            examined.served = read.is_ok();
            examined.findings.push(match read {
                Ok(_) => Finding::good(name, "read", "the probe batch was read back"),
                Err(error) => Finding::bad(
                    name,
                    "read",
                    format!("the probe batch was stored but cannot be read: {error:#}"),
                    "see that the REST URL is this server's and not another's, and look at its log and /status",
                ),
            });
        }
    }
    examined
}

/// Load balancers ask in this way too, so every server answers it.
async fn clock_of(http: &HttpClient, rpc: &Endpoint, timeout: Duration) -> Option<Offset> {
    let sent = SystemTime::now();
    let response = http.get(rpc, "", timeout, 1 << 16).await.ok()?;
    Offset::of(&response.headers, sent, SystemTime::now())
}

/// Whether the RPC port answers, healthy or not.
async fn health(client: &MemberClient, name: &str, timeout: Duration, findings: &mut Vec<Finding>) -> bool {
    const CHECK: &str = "rpc";
    let start = Instant::now();
    match client.health_check(timeout).await {
        Ok(()) => {
            let text = format!("{} answers in {} ms", client.endpoint(), start.elapsed().as_millis());
            findings.push(Finding::good(name, CHECK, text));
        }
        Err(CallError::Rpc { message, .. }) => findings.push(Finding::bad(
            name,
            CHECK,
            format!("{} is not healthy: {message}", client.endpoint()),
            "look at its /status and log; a full disk and a missing key are the usual causes",
        )),
        Err(error) => {
            findings.push(Finding::bad(name, CHECK, error.to_string(), unreachable(&error)));
            return false;
        }
    }
    const POLICY: &str = "retention";
    match client.expiration_policy(timeout).await {
        Ok(ExpirationPolicy::DiscardImmediately) => findings.push(Finding::bad(
            name,
            POLICY,
            "keeps nothing (DiscardImmediately)",
            "turn on a storage: data-availability.local-file-storage.enable",
        )),
        Ok(policy) => findings.push(Finding::good(name, POLICY, policy.name())),
        Err(error) => findings.push(Finding::not_checked(name, POLICY, error.to_string())),
    }
    true
}

fn unreachable(error: &CallError) -> &'static str {
    match error {
        CallError::Http(HttpError::Connect { .. }) => {
            "see that the server runs and listens on this address (rpc-addr, rpc-port, enable-rpc), and that no firewall is \
             in between"
        }
        CallError::Http(HttpError::Timeout { .. }) | CallError::Deadline { .. } => {
            "the server or the network is overloaded or blocked; look at its log and at the firewall"
        }
        _ => {
            "see that the URL is that of a JSON-RPC port (by default 9876) and that no proxy changes requests"
        }
    }
}

/// Whether the probe was stored, whether it was signed as it should be, and what was found.
async fn store_probe(
    client: &MemberClient,
    patient: &Patient,
    probe: &Probe,
    timeout: Duration,
) -> (bool, bool, Vec<Finding>) {
    const CHECK: &str = "store";
    let name = &patient.name;
    let answer = match client.store_prepared(probe.request.clone(), timeout).await {
        Ok(answer) => answer,
        Err(error) => return (false, false, vec![refused(name, &error)]),
    };
    let mut findings = Vec::new();
    if answer.data_hash != *probe.hash.as_bytes() {
        let text = format!(
            "signed data hash 0x{}, the batch's is 0x{}",
            const_hex::encode(answer.data_hash),
            probe.hash
        );
        let cure = "do not trust this server; compare its version with the others'";
        return (false, false, vec![Finding::bad(name, CHECK, text, cure)]);
    }
    if answer.timeout < probe.timeout {
        findings.push(Finding::bad(
            name,
            CHECK,
            format!("promises to keep the batch until {}, asked for {}", answer.timeout, probe.timeout),
            "raise data-availability.local-file-storage.max-retention",
        ));
    }
    let key = signature_finding(patient, &answer);
    let signed = key.verdict != super::Verdict::Bad && findings.is_empty();
    if findings.is_empty() {
        let until = show::time(answer.timeout);
        findings.push(Finding::good(
            name,
            CHECK,
            format!("the probe batch was stored, to be kept until {until}"),
        ));
    }
    findings.push(key);
    (true, signed, findings)
}

fn signature_finding(patient: &Patient, answer: &StoreResult) -> Finding {
    const CHECK: &str = "key";
    let name = &patient.name;
    match &patient.signs {
        Signs::Unknown => Finding::not_checked(name, CHECK, "give --public-key to check the signature"),
        Signs::As(key) => {
            let signed = signed_bytes_v1(&DataHash::from_bytes(answer.data_hash), answer.timeout);
            match Signature::parse(&answer.sig) {
                Ok(signature) if answer.version == 1 && key.verify(&signed, &signature) => {
                    Finding::good(name, CHECK, "signs with the key of the keyset")
                }
                Ok(_) => Finding::bad(
                    name,
                    CHECK,
                    "signs with another key than the one given for it",
                    "see that its key directory holds the right das_bls, that its URL is not another member's, and that \
                     public-key in the committee file is its das_bls.pub",
                ),
                Err(error) => Finding::bad(
                    name,
                    CHECK,
                    format!("its signature is none: {error}"),
                    "see that the URL is that of a member, and compare its version with the others'",
                ),
            }
        }
        Signs::ForCommittee(keyset) => {
            let checked = store::certificate(answer)
                .and_then(|certificate| certificate.verify(keyset).map_err(anyhow::Error::from));
            match checked {
                Ok(()) => Finding::good(name, CHECK, "its certificate is valid under the committee's keyset"),
                Err(error) => Finding::bad(
                    name,
                    CHECK,
                    format!("its certificate is not valid under the committee's keyset: {error:#}"),
                    "start the aggregator with this committee file",
                ),
            }
        }
    }
}

/// Nitro and we use the same words for these.
fn refused(name: &str, error: &CallError) -> Finding {
    let text = error.to_string();
    let says = |words: &str| text.to_ascii_lowercase().contains(words);
    let cure = if says("not properly signed") {
        "give a --signing-key that this server accepts (its data-availability.extra-signature-checking-public-key or the \
         chain's batch posters), or add this one's public key to it"
    } else if says("no signature verification method") {
        "configure who may store: data-availability.extra-signature-checking-public-key or the sequencer inbox's address"
    } else if says("retention") {
        "raise data-availability.local-file-storage.max-retention above what the batch poster asks for (15 days)"
    } else if says("no space") || says("disk") {
        "free disk space, or move the data directory to a larger disk"
    } else if says("unable to batch to das") {
        "too few members signed: examine them with --committee.file"
    } else {
        "look at the server's log for this request"
    };
    Finding::bad(name, "store", format!("the probe batch was refused: {text}"), cure)
}

/// The alarms that a server of ours raises at its `/status`; Nitro's has none.
/// What it says of itself: its alarms, and its archive. Servers of other makers say nothing here.
async fn status(http: &HttpClient, rest: &Endpoint, name: &str, timeout: Duration) -> Vec<Finding> {
    const CHECK: &str = "alarms";
    #[derive(Deserialize)]
    struct Alarm {
        code: String,
        text: String,
        cure: String,
    }
    #[derive(Deserialize)]
    struct Status {
        alarms: Vec<Alarm>,
        archive: Option<Archive>,
    }
    let answer = http.get(rest, "/status", timeout, MAX_STATUS).await;
    let Some(answer) = answer.ok().filter(|answer| answer.status == StatusCode::OK) else {
        return Vec::new();
    };
    let status: Status = match serde_json::from_slice(&answer.body) {
        Ok(status) => status,
        Err(error) => {
            return vec![Finding::not_checked(name, CHECK, format!("/status does not parse: {error}"))];
        }
    };
    let finding =
        |alarm: Alarm| Finding::bad(name, CHECK, format!("{}: {}", alarm.code, alarm.text), alarm.cure);
    let mut findings: Vec<_> = status.alarms.into_iter().map(finding).collect();
    if findings.is_empty() {
        findings.push(Finding::good(name, CHECK, "none"));
    }
    findings.extend(status.archive.iter().flat_map(|archive| archive.findings(name)));
    findings
}

async fn rest_health(http: &HttpClient, rest: &Endpoint, name: &str, timeout: Duration) -> Finding {
    const CHECK: &str = "rest";
    let start = Instant::now();
    match http.get(rest, "/health/", timeout, 1 << 16).await {
        Ok(response) if response.status == StatusCode::OK => {
            let text = format!("{rest} answers in {} ms", start.elapsed().as_millis());
            Finding::good(name, CHECK, text)
        }
        Ok(response) => Finding::bad(
            name,
            CHECK,
            format!("{rest} answers /health/ with HTTP status {}", response.status),
            "503: look at its /status and log; anything else: see that this is a REST port (by default 9877)",
        ),
        Err(error) => Finding::bad(
            name,
            CHECK,
            error.to_string(),
            "see that the server runs and listens on this address (rest-addr, rest-port, enable-rest)",
        ),
    }
}
