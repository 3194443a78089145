//! Posting batches to the real contract: what goes well, and everything that can be in the way.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod poster;

use std::time::Duration;

use alloy_primitives::{B256, U64};
use alloy_sol_types::SolCall;
use das_chain::contract::SequencerInbox as Inbox;
use das_common::certificate::Certificate;
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use das_common::store_auth::StoreKey;
use das_common::wire::parse_get_by_hash;
use das_testnet::chain::{Behaviour, Proxy};
use das_testnet::http::Connection;
use das_testnet::network::Who;
use das_testnet::promises::test_seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use poster::{PATIENCE, World, give_ether, post_call, posted, set_automine, transactions_of};

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_certified_posted_and_final_in_order() {
    let mut world = World::new(1, &[]).await;
    for size in [1, 200, 100_000, 500_000] {
        world.post(size);
    }
    world.all_is_on_the_chain().await;

    // A request that comes again is the same batch, also when it is final; nobody else's is taken.
    let again = world.hand(&world.taken[1].request, &world.key).unwrap();
    assert_eq!((again["id"].as_u64(), again["stage"].as_str()), (Some(world.taken[1].id), Some("final")));
    let request = world.next_request(10);
    let stranger = StoreKey::from_hex(&"07".repeat(32)).unwrap();
    assert_eq!(world.hand(&request, &stranger), Err("request not properly signed".into()));
    let mut other = request.clone();
    other.prev_count += 1;
    let gap = world.hand(&other, &world.key).unwrap_err();
    assert!(gap.contains("prevMessageCount"), "{gap}");
    let status = world.hand(&request, &world.key.clone()).unwrap();
    world.note(request, &status);
    world.all_is_on_the_chain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_contract_refuses_costs_nothing_is_named_and_passes() {
    let mut world = World::new(2, &[]).await;
    let account = world.account();
    world.post(1000);
    world.all_is_on_the_chain().await;

    world.chain.set_batch_poster(account, false).await.unwrap();
    let before = spent(&world).await;
    let id = world.post(1000);
    world.until("it is told that we may not post", || {
        world.has_alarm("DAS-POST-009") && world.status(id)["problem"].to_string().contains("NotBatchPoster")
    });
    world.chain.set_batch_poster(account, true).await.unwrap();
    world.until("it is posted all the same", || world.stage(id) == "included");

    let keyset = Committee::load(world.network.committee_file()).unwrap().keyset().clone();
    let hash = B256::from(*keyset.hash().as_bytes());
    world.chain.invalidate_keyset(hash).await.unwrap();
    let id = world.post(1000);
    world.until("the keyset is told", || world.has_alarm("DAS-POST-005"));
    assert_eq!(world.stage(id), "certified");
    // One transaction in all this time: what would have been refused was not paid for.
    assert_eq!(spent(&world).await, before + 1);
    world.kill_aggregator();
    let (status, output) = world.launch(&[]).run_to_end(PATIENCE).unwrap();
    assert!(
        !status.success() && output.contains("DAS-CHAIN-013") && output.contains("keyset-tx"),
        "{output}"
    );
    world.start_aggregator(&["--keyset-check", "warn"]);
    world.until("it is told from the start", || world.has_alarm("DAS-CHAIN-013"));
    world.chain.set_keyset(keyset.to_bytes()).await.unwrap();
    world.until("it is posted under the keyset set again", || world.stage(id) == "included");

    give_ether(&world.chain, account, 0).await;
    let id = world.post(1000);
    world.until("the empty account is told", || {
        world.has_alarm("DAS-POST-007") && world.has_alarm("DAS-POST-008")
    });
    give_ether(&world.chain, account, 5).await;
    world.until("it is posted when there is ether", || world.stage(id) == "included");
    world.until("no alarm is left", || world.alarms().iter().all(|code| !code.starts_with("DAS-POST")));
    world.all_is_on_the_chain().await;

    // Another poster takes a number; ours come after it, each once.
    let (poster, inbox) = (world.chain.poster(), world.chain.inbox());
    let other = post_call(world.taken.len() as u64, vec![0, 1, 2]);
    world.chain.send(poster, Some(inbox), other).await.unwrap();
    let id = world.post(1000);
    world.until("it comes after the other one's", || world.stage(id) == "included");
    assert_eq!(world.status(id)["sequenceNumber"], world.taken.len());
}

/// Transactions of the account that are in a block.
async fn spent(world: &World) -> u64 {
    let count: U64 =
        world.chain.rpc().call("eth_getTransactionCount", json!([world.account(), "latest"])).await.unwrap();
    count.to()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_transaction_is_replaced_and_a_second_poster_with_the_key_is_noticed() {
    let mut world = World::new(3, &[]).await;
    set_automine(&world, false).await;
    let ids: Vec<u64> = (0..3).map(|_| world.post(500)).collect();
    world
        .until("all are replaced", || ids.iter().all(|id| world.status(*id)["attempts"].as_u64() >= Some(2)));
    set_automine(&world, true).await;
    world.chain.mine(1).await.unwrap();
    world.all_is_on_the_chain().await;

    // A second process cannot even open the queue.
    let (status, output) = world
        .launch(&["--rpc-port", "0", "--rest-port", "0", "--metrics-server.port", "0"])
        .run_to_end(PATIENCE)
        .unwrap();
    assert!(
        !status.success() && output.contains("DAS-POST-001") && output.contains("--data-dir"),
        "{output}"
    );

    // One with another queue takes a nonce from under us.
    set_automine(&world, false).await;
    let id = world.post(500);
    world.until("it is sent", || world.stage(id) == "submitted");
    let account = world.account();
    world.chain.rpc().call::<Value>("anvil_impersonateAccount", json!([account])).await.unwrap();
    let transfer = json!({ "from": account, "to": account, "value": "0x1", "nonce": world.status(id)["nonce"],
        "maxFeePerGas": "0xe8d4a51000", "maxPriorityFeePerGas": "0xe8d4a51000" });
    world.chain.rpc().call::<Value>("eth_sendTransaction", json!([transfer])).await.unwrap();
    world.chain.mine(1).await.unwrap();
    set_automine(&world, true).await;
    world.until("it is told", || world.has_alarm("DAS-POST-002"));
    let last = spent(&world).await;
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((spent(&world).await, world.stage(id).as_str()), (last, "submitted"), "nothing more is sent");

    let shown = world.status_page()["post"].clone();
    assert_eq!((&shown["nonce"], &shown["queue"]), (&json!(last), &json!({ "submitted": 1 })), "{shown}");
    assert_eq!(shown["account"], account.to_string());
    assert_eq!(shown["batchesOnChain"], world.taken.len() - 1);
    assert_eq!(shown["oldestWaitingSince"], world.status(id)["receivedAt"]);
    assert!(shown["hold"].as_str().unwrap().contains("nonce") && shown["balanceWei"].is_string(), "{shown}");

    // The operator names the nonce. As long as the other transaction may vanish, ours may still come: it goes on after that.
    let nonce = world.status(id)["nonce"].as_u64().unwrap();
    world.kill_aggregator();
    world.start_aggregator(&["--post.accept-nonces-below", &nonce.to_string()]);
    world.chain.mine(70).await.unwrap();
    world.until("another nonce than the one named stays told", || world.has_alarm("DAS-POST-002"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.stage(id), "submitted");
    world.kill_aggregator();
    world.start_aggregator(&["--post.accept-nonces-below", &(nonce + 1).to_string()]);
    world.all_is_on_the_chain().await;
    assert!(!world.has_alarm("DAS-POST-002"));

    // The same, not final yet.
    set_automine(&world, false).await;
    let id = world.post(500);
    world.until("it is sent", || world.stage(id) == "submitted");
    let nonce = world.status(id)["nonce"].as_u64().unwrap();
    let transfer = json!({ "from": account, "to": account, "value": "0x1", "nonce": format!("{nonce:#x}"),
        "maxFeePerGas": "0xe8d4a51000", "maxPriorityFeePerGas": "0xe8d4a51000" });
    world.chain.rpc().call::<Value>("eth_sendTransaction", json!([transfer])).await.unwrap();
    world.chain.mine(1).await.unwrap();
    set_automine(&world, true).await;
    world.kill_aggregator();
    world.start_aggregator(&["--post.accept-nonces-below", &(nonce + 1).to_string()]);
    world.until("it is told", || world.has_alarm("DAS-POST-002"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.stage(id), "submitted", "not before it is final");
    world.chain.mine(70).await.unwrap();
    world.all_is_on_the_chain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_posters_batch_holds_posting_until_it_is_accepted() {
    let mut world = World::new(8, &[]).await;
    world.post(500);
    world.all_is_on_the_chain().await;
    set_automine(&world, false).await;
    let ids = [world.post(500), world.post(500)];
    world.until("they are sent", || ids.iter().all(|id| world.stage(*id) == "submitted"));
    // Ours are lost, and another account that may post takes the number.
    world.aggregator.as_mut().unwrap().pause().unwrap();
    world.chain.rpc().call::<Value>("anvil_dropAllTransactions", json!([])).await.unwrap();
    set_automine(&world, true).await;
    let (poster, inbox) = (world.chain.poster(), world.chain.inbox());
    world.chain.send(poster, Some(inbox), post_call(1, vec![0, 1, 2])).await.unwrap();
    world.aggregator.as_mut().unwrap().resume().unwrap();
    world.until("it is told", || world.has_alarm("DAS-POST-003"));
    let nonces: Vec<Value> = ids.iter().map(|id| world.status(*id)["nonce"].clone()).collect();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(posted(&world.chain).await.len(), 2, "nothing more is posted");
    assert!(ids.iter().all(|id| world.stage(*id) == "submitted"));

    world.kill_aggregator();
    world.start_aggregator(&["--post.accept-batches-below", "2"]);
    world.until("they come after it", || ids.iter().all(|id| world.stage(*id) == "included"));
    let hashes: Vec<_> = world.taken.iter().map(|taken| taken.hash).collect();
    let on_chain: Vec<_> = posted(&world.chain).await.into_iter().map(|(_, hash)| hash).collect();
    assert_eq!((on_chain.len(), on_chain[0], &on_chain[2..]), (4, hashes[0], &hashes[1..]));
    // Under the nonces they had: at most one of all transactions of a batch is ever taken.
    assert_eq!(ids.iter().map(|id| world.status(*id)["nonce"].clone()).collect::<Vec<_>>(), nonces);
    assert!(!world.has_alarm("DAS-POST-003"));
}

/// The certificate of a batch as it is on the chain.
async fn certificate_on_chain(world: &World, id: u64) -> Certificate {
    let transaction: Value = world
        .chain
        .rpc()
        .call("eth_getTransactionByHash", json!([world.status(id)["transaction"]]))
        .await
        .unwrap();
    let input = const_hex::decode(transaction["input"].as_str().unwrap()).unwrap();
    let call = Inbox::addSequencerL2BatchFromOriginCall::abi_decode(&input).unwrap();
    Certificate::parse_as_nitro(&call.data).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyset_changes_while_batches_are_posted() {
    let mut world = World::new(10, &[]).await;
    let old = Committee::load(world.network.committee_file()).unwrap().keyset().clone();
    let (file, new) = world.turned_committee();
    assert_ne!(old.hash(), new.hash());
    let with_new = ["--committee.file", file.to_str().unwrap()];

    let mut under_old: Vec<u64> = (0..3).map(|_| world.post(300)).collect();
    world.chain.set_keyset(new.to_bytes()).await.unwrap();
    under_old.extend([world.post(300), world.post(300)]);
    world.all_is_on_the_chain().await;

    // Four are sent, two are certified, all under the old keyset; none of it reaches a block before that is over.
    set_automine(&world, false).await;
    let mut under_new: Vec<u64> = (0..6).map(|_| world.post(300)).collect();
    world.until("sent and certified", || {
        under_new.iter().all(|id| ["submitted", "certified"].contains(&world.stage(*id).as_str()))
            && world.stage(under_new[3]) == "submitted"
    });
    world.kill_aggregator();
    world.chain.rpc().call::<Value>("anvil_dropAllTransactions", json!([])).await.unwrap();
    set_automine(&world, true).await;
    world.chain.invalidate_keyset(B256::from(*old.hash().as_bytes())).await.unwrap();
    world.start_aggregator(&with_new);
    under_new.push(world.post(300));
    world.all_is_on_the_chain().await;

    // It is invalidated in the block in which a batch under it is: that is refused there, and waits for the next keyset.
    set_automine(&world, false).await;
    let last = world.post(300);
    world.until("it is sent", || world.stage(last) == "submitted");
    let call = Inbox::invalidateKeysetHashCall { keyset: B256::from(*new.hash().as_bytes()) };
    let first_in_block = json!({ "from": world.chain.owner(), "to": world.chain.inbox(),
        "data": const_hex::encode_prefixed(call.abi_encode()), "gas": "0x7a120",
        "maxFeePerGas": "0xe8d4a51000", "maxPriorityFeePerGas": "0xe8d4a51000" });
    world.chain.rpc().call::<Value>("eth_sendTransaction", json!([first_in_block])).await.unwrap();
    world.chain.mine(1).await.unwrap();
    set_automine(&world, true).await;
    world.until("the keyset is told", || world.has_alarm("DAS-POST-005") && world.stage(last) == "certified");
    world.chain.set_keyset(old.to_bytes()).await.unwrap();
    world.kill_aggregator();
    world.start_aggregator(&[]);
    world.all_is_on_the_chain().await;

    under_old.push(last);
    let rest = world.aggregator.as_ref().unwrap().rest_url();
    for (ids, keyset) in [(under_old, &old), (under_new, &new)] {
        for id in ids {
            let certificate = certificate_on_chain(&world, id).await;
            assert_eq!(certificate.verify(keyset), Ok(()), "batch {id}");
            let answer =
                Connection::new(&rest).unwrap().get(&format!("/get-by-hash/{}", certificate.data_hash));
            assert_eq!(
                DataHash::of(&parse_get_by_hash(&answer.unwrap().body).unwrap()),
                certificate.data_hash
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_too_few_sign_wait_or_are_posted_themselves() {
    let mut world = World::new(4, &["--data-availability.request-timeout", "500ms"]).await;
    world.network.stop(Who::Member(0)).unwrap();
    world.network.stop(Who::Member(1)).unwrap();
    let id = world.post(1000);
    world.until("the missing signatures are told", || world.has_alarm("DAS-POST-012"));
    assert_eq!(world.stage(id), "received");
    world.network.start(Who::Member(1)).unwrap();
    world.until("it is posted when they sign", || world.stage(id) == "included");
    assert_eq!(world.status(id)["postedAs"], "certificate");
    world.all_is_on_the_chain().await;

    world.kill_aggregator();
    world.network.stop(Who::Member(1)).unwrap();
    world.start_aggregator(&["--post.fallback", "calldata", "--post.fallback-after", "1s"]);
    let mut wrong = world.next_request(1000);
    let mut message = wrong.message.to_vec();
    message[0] = 0x88;
    wrong.message = message.into();
    let refused = world.hand(&wrong, &world.key).unwrap_err();
    assert!(refused.contains("0x88") && refused.contains("calldata"), "{refused}");
    let ids = [world.post(1000), world.post(100_000)];
    world.until("they are posted themselves", || ids.iter().all(|id| world.stage(*id) == "included"));
    assert_eq!(world.status(ids[1])["postedAs"], "calldata");
    world.network.start(Who::Member(1)).unwrap();
    let id = world.post(1000);
    world.until("certificates again", || world.stage(id) == "included");
    assert_eq!(world.status(id)["postedAs"], "certificate");
    world.all_is_on_the_chain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reorganizations_of_every_depth_leave_each_batch_once_and_in_order() {
    let mut world = World::new(5, &[]).await;
    let (mut pending, mut posted_at) = (false, Vec::new());
    for depth in 1..=20_u64 {
        // The account pays for everything again and again, and a reorganization gives nothing back that was set by hand.
        for _ in 0..2 {
            let id = world.post(300);
            posted_at.push(id);
            world.until("it is in a block", || world.stage(id) == "included");
        }
        if pending {
            set_automine(&world, false).await;
            let id = world.post(300);
            world.until("it is under way", || world.stage(id) == "submitted");
        }
        let again = if depth % 3 == 0 { transactions_of(&world.chain, depth).await } else { Vec::new() };
        // In part or not at all: what comes again may be in another order than it was.
        let keep: Vec<_> = again.into_iter().take(depth as usize / 2).collect();
        world.chain.reorg(depth, &keep).await.unwrap();
        if pending {
            set_automine(&world, true).await;
            world.chain.mine(1).await.unwrap();
        }
        pending = !pending;
    }
    world.all_is_on_the_chain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_began_anew_is_not_taken_for_the_old_one() {
    let mut world = World::new(6, &[]).await;
    world.post(300);
    world.all_is_on_the_chain().await;
    world.chain.reset().await.unwrap();
    let id = world.post(300);
    world.until("the reset is told", || world.has_alarm("DAS-CHAIN-007"));
    world.chain.deploy().await.unwrap();
    world.chain.set_batch_poster(world.account(), true).await.unwrap();
    give_ether(&world.chain, world.account(), 5).await;
    world.until("fewer batches than before are told", || world.has_alarm("DAS-POST-004"));
    assert!(["received", "certified"].contains(&world.stage(id).as_str()));
    assert!(posted(&world.chain).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_fail_or_lie_delay_posting_and_nothing_else() {
    let mut world = World::new(7, &[]).await;
    let proxy = Proxy::start(world.chain.url()).await.unwrap();
    world.kill_aggregator();
    let chain_id = world.chain.chain_id().to_string();
    world.node_url = proxy.url().to_owned();
    world.start_aggregator(&["--parent-chain.chain-id", &chain_id]);
    for behaviour in [
        Behaviour::Silent,
        Behaviour::Status(500),
        Behaviour::Body(b"{".to_vec()),
        Behaviour::Status(429),
        Behaviour::ChainId(5),
    ] {
        proxy.behave(behaviour.clone());
        if behaviour == Behaviour::ChainId(5) {
            // The chain's id is looked at from the start on, and then twice a minute.
            world.kill_aggregator();
            world.start_aggregator(&["--parent-chain.chain-id", &chain_id]);
        }
        let id = world.post(300);
        world.until("it is certified without the chain", || world.stage(id) == "certified");
        if behaviour == Behaviour::ChainId(5) {
            world.until("the wrong chain is told", || world.has_alarm("DAS-CHAIN-002"));
        }
        assert_eq!(world.stage(id), "certified", "{behaviour:?}");
        proxy.behave(Behaviour::Honest);
        world.until("it is posted", || world.stage(id) == "included");
    }
    proxy.behave(Behaviour::LogRange(10));
    world.post(300);
    world.all_is_on_the_chain().await;
}

/// Kills, reorganizations, outages and batches at random, several times over.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_each_batch_is_posted_once_and_in_order() {
    let seed = test_seed();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, &[]).await;
    world.chain.mine(40).await.unwrap();
    let mut handed: Option<poster::PostRequest> = None;
    for step in 0..120 {
        match random.random_range(0..12) {
            0..5 => {
                // A request whose answer was lost is sent again as it was.
                let request = handed.take().unwrap_or_else(|| world.next_request(300));
                match world.hand(&request, &world.key) {
                    Ok(status) => drop(world.note(request, &status)),
                    Err(_) => handed = Some(request),
                }
            }
            5 | 6 => {
                world.kill_aggregator();
                world.start_aggregator(&[]);
            }
            7 => set_automine(&world, random.random()).await,
            8 | 9 => world.chain.mine(random.random_range(1..3)).await.unwrap(),
            10 => {
                let depth = random.random_range(1..20);
                let all = transactions_of(&world.chain, depth).await;
                let keep = random.random_range(0..=all.len());
                println!("step {step}: reorganization of {depth} blocks, {keep} of {} again", all.len());
                world.chain.reorg(depth, &all[..keep]).await.unwrap();
            }
            _ => std::thread::sleep(Duration::from_millis(random.random_range(0..1500))),
        }
    }
    if let Some(request) = handed {
        let status = world.hand(&request, &world.key).unwrap();
        world.note(request, &status);
    }
    set_automine(&world, true).await;
    world.chain.mine(1).await.unwrap();
    println!("{} batches", world.taken.len());
    world.all_is_on_the_chain().await;
}
