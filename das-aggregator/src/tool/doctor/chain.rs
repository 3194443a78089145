//! The examination of the parent chain: its nodes, the contract, and what the contract knows of the committee.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use anyhow::Context as _;
use das_chain::contract::SequencerInbox as Inbox;
use das_chain::endpoints::{Endpoints, Settings};
use das_chain::poster_rpc::PosterRpc;
use das_chain::reader::{At, Limits, Reader};
use das_common::alarm::Alarms;
use das_common::committee::Committee;
use das_common::config::sections::{ParentChainOptions, given};
use das_common::store_auth::StoreKey;

use super::Finding;

/// With less, a few batches may still be posted.
const LITTLE_ETHER: f64 = 0.1;

/// What the contract is asked about.
pub(super) struct Subjects<'a> {
    pub(super) committee: Option<&'a Committee>,
    /// Signs stores.
    pub(super) key: Option<&'a StoreKey>,
    /// Sends transactions.
    pub(super) poster: Option<Address>,
}

/// The account of `--poster`, if it is given.
pub(super) fn poster(text: &str) -> anyhow::Result<Option<Address>> {
    let given = (!text.is_empty()).then(|| Address::from_str(text));
    given.transpose().with_context(|| format!("--poster {text:?} is no address"))
}

pub(super) async fn examine(
    options: &ParentChainOptions,
    subjects: &Subjects<'_>,
    timeout: Duration,
) -> anyhow::Result<Vec<Finding>> {
    let settings = |urls, chain_id| {
        let mut settings = Settings { request_timeout: timeout, ..Settings::new(urls, chain_id) };
        settings.tls.authorities = given(&options.ca).map(Path::to_path_buf);
        settings
    };
    let mut findings = Vec::new();
    let mut chain_id = options.chain_id;
    let mut good = Vec::new();
    for url in options.urls() {
        let settings = settings(vec![url.clone()], chain_id);
        let found = Endpoints::find_chain_id(settings).await.context("--parent-chain.node-url")?;
        // Paths of such URLs are often secrets.
        let name = url.split('/').nth(2).unwrap_or(&url).rsplit('@').next().unwrap_or_default().to_owned();
        findings.push(match found {
            Ok(found) if chain_id == 0 || chain_id == found => {
                chain_id = found;
                good.push(url);
                Finding::good(&name, "node", format!("answers, and is of chain {found}"))
            }
            Ok(found) => Finding::bad(
                &name,
                "node",
                format!("is of chain {found}, not {chain_id} like those before it"),
                "take it out of parent-chain.node-url, or correct parent-chain.chain-id",
            ),
            Err(error) => Finding::bad(
                &name,
                "node",
                error.to_string(),
                "see that the node runs and that the URL is that of its JSON-RPC over http",
            ),
        });
    }
    if good.is_empty() {
        findings.push(Finding::not_checked("contract", "contract", "no node of the parent chain answers"));
        return Ok(findings);
    }
    let inbox = &options.sequencer_inbox_address;
    let inbox = Address::from_str(inbox)
        .with_context(|| format!("--parent-chain.sequencer-inbox-address {inbox:?} is no address"))?;
    let endpoints = Endpoints::new(settings(good, chain_id), Alarms::new())?;
    let chain = Chain { reader: Reader::new(endpoints.clone(), Limits::default()), inbox };
    findings.extend(chain.examine(subjects, &PosterRpc::new(endpoints)).await);
    Ok(findings)
}

struct Chain {
    reader: Reader,
    inbox: Address,
}

impl Chain {
    async fn examine(&self, subjects: &Subjects<'_>, rpc: &PosterRpc) -> Vec<Finding> {
        const SUBJECT: &str = "contract";
        let mut findings = Vec::new();
        match self.reader.call(self.inbox, &Inbox::batchCountCall {}, At::Latest).await {
            Ok(batches) => {
                let text = format!("{} has {batches} batches", self.inbox);
                findings.push(Finding::good(SUBJECT, "contract", text));
            }
            Err(error) => {
                findings.push(Finding::bad(
                    SUBJECT,
                    "contract",
                    format!("{} does not answer as a SequencerInbox: {error}", self.inbox),
                    "correct parent-chain.sequencer-inbox-address; it is the proxy's address, on this chain",
                ));
                return findings;
            }
        }
        if let Some(committee) = subjects.committee {
            findings.push(self.keyset(committee).await);
        }
        if let Some(key) = subjects.key {
            let account = Address::from(*key.address().as_bytes());
            findings.push(self.may("store key", account, true).await);
        }
        if let Some(poster) = subjects.poster {
            findings.push(self.may("poster", poster, false).await);
            findings.push(match rpc.balance(poster).await {
                Ok(balance) => {
                    let ether = f64::from(balance) / 1e18;
                    let text = format!("{poster} has {ether:.4} ether");
                    match ether < LITTLE_ETHER {
                        true => Finding::bad("poster", "balance", text, "send it ether"),
                        false => Finding::good("poster", "balance", text),
                    }
                }
                Err(error) => Finding::not_checked("poster", "balance", error.to_string()),
            });
        }
        findings
    }

    async fn keyset(&self, committee: &Committee) -> Finding {
        const CHECK: &str = "keyset";
        let hash = committee.keyset().hash();
        let keyset = B256::from(*hash.as_bytes());
        match self.reader.call(self.inbox, &Inbox::isValidKeysetHashCall { keyset }, At::Latest).await {
            Ok(true) => Finding::good("contract", CHECK, format!("it takes keyset 0x{hash}")),
            Ok(false) => {
                let created = Inbox::getKeysetCreationBlockCall { ksHash: keyset };
                let was = match self.reader.call(self.inbox, &created, At::Latest).await {
                    Ok(block) if block > U256::ZERO => "was invalidated",
                    _ => "was never set",
                };
                Finding::bad(
                    "contract",
                    CHECK,
                    format!("the committee's keyset 0x{hash} {was}: no certificate under it can be posted"),
                    "the rollup's owner sends what dastool keyset-tx --committee.file FILE prints; if another keyset is \
                     meant, correct the committee file",
                )
            }
            Err(error) => Finding::not_checked("contract", CHECK, error.to_string()),
        }
    }

    /// Whether the contract lets an account post, or (`or_sequence`) store, which the sequencer may, too.
    async fn may(&self, subject: &str, account: Address, or_sequence: bool) -> Finding {
        const CHECK: &str = "right";
        let call = Inbox::isBatchPosterCall { poster: account };
        let posts = self.reader.call(self.inbox, &call, At::Latest).await;
        let sequences = match posts {
            Ok(false) if or_sequence => {
                self.reader.call(self.inbox, &Inbox::isSequencerCall { sequencer: account }, At::Latest).await
            }
            _ => Ok(false),
        };
        match (posts, sequences) {
            (Ok(true), _) => Finding::good(subject, CHECK, format!("{account} is a batch poster")),
            (_, Ok(true)) => Finding::good(subject, CHECK, format!("{account} is the sequencer")),
            (Ok(false), Ok(false)) => Finding::bad(
                subject,
                CHECK,
                format!("{account} is no batch poster of the contract"),
                "the rollup's owner makes it one (setIsBatchPoster); for storing only, members may name it in \
                 data-availability.allowed-signers instead",
            ),
            (Err(error), _) | (_, Err(error)) => Finding::not_checked(subject, CHECK, error.to_string()),
        }
    }
}
