//! Every step of a batch on its way to the chain: killed there, with the newest blocks replaced, with and without what was in
//! them; told to whoever listens; and a chain that answers slowly or knows the keyset not yet.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod poster;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use das_testnet::chain::{Behaviour, Proxy};
use das_testnet::network::Who;
use serde_json::Value;

use poster::{World, set_automine, transactions_of};

/// Two of three members, so that no batch is certified.
fn hang(world: &mut World, hangs: bool) {
    for member in [0, 1] {
        let process = world.network.process(Who::Member(member)).unwrap().unwrap();
        if hangs { process.pause().unwrap() } else { process.resume().unwrap() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_with_blocks_replaced_each_batch_is_posted_once_and_in_order() {
    let mut world = World::new(30, &["--data-availability.request-timeout", "1s"]).await;
    let proxy = Proxy::start(world.chain.url()).await.unwrap();
    world.kill_aggregator();
    world.node_url = proxy.url().to_owned();
    let chain_id = world.chain.chain_id().to_string();
    // So it starts while the chain is away.
    let options = ["--parent-chain.chain-id", &chain_id];
    world.start_aggregator(&options);
    for again in [true, false] {
        for step in ["received", "certified", "submitted", "included", "final"] {
            // Something that is there already, and may vanish with the rest.
            let before = world.post(300);
            world.until("the one before is in a block", || world.stage(before) == "included");
            match step {
                "received" => hang(&mut world, true),
                "certified" => proxy.behave(Behaviour::Silent),
                "submitted" => set_automine(&world, false).await,
                _ => {}
            }
            let id = world.post(300);
            if step == "final" {
                world.until("it is in a block", || world.stage(id) == "included");
                world.chain.mine(70).await.unwrap();
            }
            world.until(step, || world.stage(id) == step);
            world.kill_aggregator();
            if step != "final" {
                let all = transactions_of(&world.chain, 3).await;
                world.chain.reorg(3, if again { &all } else { &[] }).await.unwrap();
            }
            match step {
                "received" => hang(&mut world, false),
                "certified" => proxy.behave(Behaviour::Honest),
                "submitted" => {
                    set_automine(&world, true).await;
                    world.chain.mine(1).await.unwrap();
                }
                _ => {}
            }
            world.start_aggregator(&options);
            world.until("both are in a block", || {
                [before, id].iter().all(|id| ["included", "final"].contains(&world.stage(*id).as_str()))
            });
        }
    }
    world.all_is_on_the_chain().await;
}

/// Reads server-sent events until one is as wanted; all of them, as (event, id, data).
fn listen(url: &str, mut until: impl FnMut(&[(String, u64, Value)]) -> bool) -> Vec<(String, u64, Value)> {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(poster::PATIENCE)).unwrap();
    write!(stream, "GET /batches/events HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n")
        .unwrap();
    let (mut found, mut event, mut id) = (Vec::new(), String::new(), 0);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let field = |name: &str| line.strip_prefix(name).map(|rest| rest.trim().to_owned());
        if let Some(name) = field("event:") {
            event = name;
        } else if let Some(number) = field("id:") {
            id = number.parse().unwrap();
        } else if let Some(data) = field("data:") {
            found.push((event.clone(), id, serde_json::from_str(&data).unwrap()));
            if until(&found) {
                return found;
            }
        }
    }
    panic!("the stream ended after {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_hears_of_every_step_in_order_and_who_comes_late_of_all_that_is_not_final() {
    let mut world = World::new(31, &[]).await;
    let url = world.aggregator.as_ref().unwrap().rpc_url();
    let early = std::thread::spawn({
        let url = url.clone();
        move || {
            listen(&url, |all| {
                all.iter().filter(|(_, _, data)| data["stage"] == "final").map(|(_, id, _)| *id).max()
                    == Some(1)
            })
        }
    });
    let ids = [world.post(500), world.post(600)];
    world.until("both are in a block", || ids.iter().all(|id| world.stage(*id) == "included"));

    // Who comes late begins with how it is now, and asks das_batchStatus for what is final.
    let late = listen(&url, |all| all.len() == 2);
    let seen: Vec<_> = late.iter().map(|(event, id, data)| (event.as_str(), *id, data.clone())).collect();
    assert_eq!(seen, ids.map(|id| ("batch", id, world.status(id))));

    world.all_is_on_the_chain().await;
    let heard = early.join().unwrap();
    for id in ids {
        let mut stages: Vec<String> = heard
            .iter()
            .filter(|(event, of, _)| event == "batch" && *of == id)
            .map(|(_, _, data)| data["stage"].as_str().unwrap().to_owned())
            .collect();
        // One change may be told twice.
        stages.dedup();
        let expected = ["received", "certified", "submitted", "included", "final"];
        // Nothing but the first may have been over before it was listened.
        let first = expected.iter().position(|stage| *stage == stages[0]).unwrap();
        assert!(first <= 1, "{stages:?}");
        assert_eq!(stages, expected[first..], "batch {id}");
    }
    let now = listen(&url, {
        let next = world.post(700);
        move |all| all.iter().any(|(_, id, _)| *id == next)
    });
    assert!(now.iter().all(|(_, id, _)| !ids.contains(id)), "what is final is over: {now:?}");
    world.all_is_on_the_chain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_chain_delays_posting_and_a_keyset_that_was_never_set_costs_nothing() {
    let mut world = World::new(32, &[]).await;
    let proxy = Proxy::start(world.chain.url()).await.unwrap();
    world.kill_aggregator();
    world.node_url = proxy.url().to_owned();
    // Within the time of one request, which is two seconds here.
    proxy.behave(Behaviour::Slow(Duration::from_millis(600)));
    world.start_aggregator(&[]);
    let id = world.post(300);
    world.until("it is posted all the same", || world.stage(id) == "included");
    proxy.behave(Behaviour::Honest);

    // Another committee, with a keyset that the contract has not heard of.
    let (file, keyset) = world.turned_committee();
    world.kill_aggregator();
    let options = ["--committee.file", file.to_str().unwrap()];
    let (status, output) = world.launch(&options).run_to_end(poster::PATIENCE).unwrap();
    assert!(!status.success() && output.contains("was never set"), "{output}");
    world.start_aggregator(&[&options[..], &["--keyset-check", "warn"]].concat());
    let id = world.post(300);
    world.until("it is told", || world.has_alarm("DAS-POST-005") && world.has_alarm("DAS-CHAIN-013"));
    assert_eq!((world.stage(id).as_str(), world.status(id)["attempts"].as_u64()), ("certified", Some(0)));
    world.chain.set_keyset(keyset.to_bytes()).await.unwrap();
    world.all_is_on_the_chain().await;
}
