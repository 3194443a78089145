//! What is wrong between a committee and its parent chain: the doctor names it with its cure, and so does the aggregator's
//! alarm about a key that members do not admit.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod findings;

use std::time::Duration;

use das_common::committee::Committee;
use das_testnet::chain::{Behaviour, DevChain, Proxy};
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::network::{Network, Plan, Who};

use findings::{doctor, finds};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_the_contract_lacks_is_named_with_its_cure() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let network =
        Network::open(dir.path(), &Plan { members: 3, honest: 2, shards: 1, base_port: 0 }).unwrap();
    let (file, key) = (network.committee_file(), network.poster_key_file());
    let committee = Committee::load(&file).unwrap();
    let key =
        das_common::store_auth::StoreKey::from_hex(std::fs::read_to_string(key).unwrap().trim()).unwrap();
    let account = alloy_primitives::Address::from(*key.address().as_bytes());
    let chain = DevChain::start().await.unwrap();
    let (inbox, poster) = (chain.inbox().to_string(), account.to_string());
    // The members do not run: nothing but the chain is looked at here.
    let key_file = network.poster_key_file();
    let look = |url: &str, inbox: &str| {
        doctor(&[
            "--timeout=2s",
            "--committee.file",
            file.to_str().unwrap(),
            "--signing-key",
            key_file.to_str().unwrap(),
            "--parent-chain.node-url",
            url,
            "--parent-chain.sequencer-inbox-address",
            inbox,
            "--poster",
            &poster,
        ])
        .1
    };
    let found = look(chain.url(), &inbox);
    finds(&found, "contract contract good", "has 0 batches");
    finds(&found, "contract keyset bad", "was never set: no certificate under it can be posted");
    finds(&found, "contract keyset bad", "dastool keyset-tx");
    finds(&found, "store key right bad", "is no batch poster of the contract");
    finds(&found, "poster right bad", "setIsBatchPoster");
    finds(&found, "poster balance bad", "0.0000 ether -> send it ether");

    chain.set_keyset(committee.keyset().to_bytes()).await.unwrap();
    chain.set_sequencer(account, true).await.unwrap();
    let found = look(chain.url(), &inbox);
    finds(&found, "contract keyset good", "it takes keyset");
    finds(&found, "store key right good", "is the sequencer");
    finds(&found, "poster right bad", "is no batch poster");

    chain.set_batch_poster(account, true).await.unwrap();
    chain.set_ether(account, 3).await.unwrap();
    let found = look(chain.url(), &inbox);
    finds(&found, "poster right good", "is a batch poster");
    finds(&found, "poster balance good", "3.0000 ether");

    let hash = alloy_primitives::B256::from(*committee.keyset().hash().as_bytes());
    chain.invalidate_keyset(hash).await.unwrap();
    let other = DevChain::start_bare(5).await.unwrap();
    let silent = Proxy::start(chain.url()).await.unwrap();
    silent.behave(Behaviour::Silent);
    let urls = [chain.url(), other.url(), silent.url()].join(",");
    let found = look(&urls, &inbox);
    finds(&found, "contract keyset bad", "was invalidated");
    let name = |url: &str| url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    finds(&found, &format!("{} node good", name(chain.url())), "is of chain 412346");
    finds(&found, &format!("{} node bad", name(other.url())), "is of chain 5, not 412346");
    finds(&found, &format!("{} node bad", name(silent.url())), "see that the node runs");
    let found = look(chain.url(), &account.to_string());
    finds(&found, "contract contract bad", "does not answer as a SequencerInbox");
    let found = look(silent.url(), &inbox);
    finds(&found, "contract contract notChecked", "no node of the parent chain answers");
}

#[test]
fn members_that_do_not_admit_the_aggregators_key_raise_an_alarm_until_they_do() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut network =
        Network::open(dir.path(), &Plan { members: 3, honest: 2, shards: 1, base_port: 0 }).unwrap();
    let key = network.poster_key_file();
    let stranger = das_common::store_auth::StoreKey::generate();
    std::fs::write(dir.path().join("other-key"), stranger.to_hex()).unwrap();
    // The second member knows nobody but a stranger.
    network = network
        .with_member_options(
            1,
            [
                "--data-availability.extra-signature-checking-public-key".to_owned(),
                const_hex::encode_prefixed(stranger.public_key()),
            ],
        )
        .unwrap();
    network.start_all(|_, _| {}).unwrap();
    let rest = network.addresses(Who::Aggregator).unwrap().rest;
    let alarm = || -> Option<String> {
        let answer = Connection::new(&rest).unwrap().get("/status").unwrap();
        let status: Value = serde_json::from_slice(&answer.body).unwrap();
        let alarms = status["alarms"].as_array().unwrap().iter();
        let mut named = alarms.filter(|alarm| alarm["code"] == "DAS-MEMBER-005");
        named.next().map(|alarm| alarm["text"].as_str().unwrap().to_owned())
    };
    assert!(wait_until(PATIENCE, || alarm().is_some()).is_some(), "no alarm");
    let text = alarm().unwrap();
    assert!(text.contains("member-2") && !text.contains("member-1") && !text.contains("member-3"), "{text}");
    // The doctor repeats it.
    let rpc = network.addresses(Who::Aggregator).unwrap().rpc;
    let (good, found) = doctor(&[
        "--committee.file",
        network.committee_file().to_str().unwrap(),
        "--aggregator.rpc",
        &rpc,
        "--aggregator.rest",
        &rest,
        "--signing-key",
        key.to_str().unwrap(),
    ]);
    assert!(!good);
    finds(&found, "aggregator alarms bad", "DAS-MEMBER-005");
    finds(&found, "aggregator alarms bad", "data-availability.allowed-signers");
    finds(&found, "member-1 alarms good", "none");

    // Told on, its operator names the key; the command line wins over what was there.
    network.stop(Who::Member(1)).unwrap();
    let public = std::fs::read_to_string(dir.path().join("poster-key.pub")).unwrap();
    network = network
        .with_member_options(
            1,
            [
                "--data-availability.extra-signature-checking-public-key".to_owned(),
                format!("0x{}", public.trim()),
            ],
        )
        .unwrap();
    network.start(Who::Member(1)).unwrap();
    assert!(wait_until(PATIENCE, || alarm().is_none()).is_some(), "{:?}", alarm());
}
