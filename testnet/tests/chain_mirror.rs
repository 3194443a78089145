//! A mirror that knows the contract's address and one server to read from, and ends with everything that was posted.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod poster;

use das_common::data_hash::DataHash;
use das_common::wire::parse_get_by_hash;
use das_testnet::http::Connection;
use das_testnet::network::Who;
use das_testnet::process::{Launch, ServerProcess};
use serde_json::Value;

use poster::{World, give_ether};

fn mirror(world: &World, sources: &str, more: &[&str]) -> Launch {
    let data = world.home.path().join("mirror");
    std::fs::create_dir_all(&data).unwrap();
    Launch::new("das-node")
        .args(["--enable-rest", "--rest-port", "0", "--explorer.enable", "--explorer.port", "0"])
        .args(["--data-availability.local-file-storage.enable"])
        .arg("--data-availability.local-file-storage.data-dir")
        .arg(data)
        .args([
            "--data-availability.rest-aggregator.enable",
            "--data-availability.rest-aggregator.urls",
            sources,
        ])
        .args(["--data-availability.rest-aggregator.sync-to-storage.eager"])
        .args(["--parent-chain.node-url", world.chain.url(), "--parent-chain.poll-interval", "100ms"])
        .args(["--parent-chain.sequencer-inbox-address", &world.chain.inbox().to_string()])
        .args(more)
}

fn read(server: &ServerProcess, hash: &DataHash) -> Option<Vec<u8>> {
    let answer = Connection::new(&server.rest_url()).unwrap().get(&format!("/get-by-hash/{hash}")).unwrap();
    (answer.status == 200).then(|| parse_get_by_hash(&answer.body).unwrap())
}

fn shown(server: &ServerProcess, path: &str) -> Value {
    let answer = Connection::new(server.ready().url("explorer").unwrap()).unwrap().get(path).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

fn states(server: &ServerProcess) -> Vec<String> {
    let list = shown(server, "/api/batches?limit=200");
    let batches = list["batches"].as_array().unwrap().iter().rev();
    batches.map(|batch| batch["payload"]["state"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_all_that_was_posted_although_it_came_late_and_some_of_it_is_of_no_use() {
    let mut world = World::new(9, &[]).await;
    for size in [1, 300, 70_000, 400_000] {
        world.post(size);
    }
    world.all_is_on_the_chain().await;
    // Batches that are none of the committee's business, one whose certificate is not valid, and one that nobody has.
    let (poster, inbox) = (world.chain.poster(), world.chain.inbox());
    let status = world.status(world.taken[0].id);
    let good = const_hex::decode(status["certificate"].as_str().unwrap()).unwrap();
    let mut forged = good.clone();
    forged[150] ^= 1;
    for (number, data) in [(4_u64, vec![0, 1, 2]), (5, forged)] {
        world.chain.send(poster, Some(inbox), poster::post_call(number, data)).await.unwrap();
    }

    let source = world.aggregator.as_ref().unwrap().rest_url();
    let server = mirror(&world, &source, &[]).start().unwrap();
    let expected = ["fetched", "fetched", "fetched", "fetched", "none", "ignored"];
    world.until("all is fetched or known to be of no use", || states(&server) == expected);

    // Everybody else is gone: it has them itself. Nothing that comes later is lost by a restart in between.
    let id = world.post(5_000);
    world.until("a further batch is on the chain", || world.stage(id) == "included");
    world.until("it is fetched too", || states(&server).last().is_some_and(|state| state == "fetched"));
    let id = world.post(6_000);
    world.until("it is in a block", || world.stage(id) == "included");
    drop(server);
    world.chain.reorg(2, &[]).await.unwrap();
    world.until("both are posted again", || {
        world
            .taken
            .iter()
            .rev()
            .take(2)
            .all(|it| ["included", "final"].contains(&world.stage(it.id).as_str()))
    });
    let mut server = mirror(&world, &source, &[]).start().unwrap();
    world.until("all of it again", || {
        let states = states(&server);
        states.len() == 8 && states[..4].iter().chain(&states[6..]).all(|state| state == "fetched")
    });
    for taken in &world.taken {
        assert_eq!(read(&server, &taken.hash).as_deref(), Some(&taken.request.message[..]));
    }
    world.kill_aggregator();
    for member in 0..3 {
        world.network.stop(Who::Member(member)).unwrap();
    }
    server.stop().unwrap();
    let server = mirror(&world, &source, &[]).start().unwrap();
    for taken in &world.taken {
        assert_eq!(read(&server, &taken.hash).as_deref(), Some(&taken.request.message[..]));
    }

    // The chain begins anew: what was kept stays, and what comes is followed.
    world.chain.reset().await.unwrap();
    world.chain.deploy().await.unwrap();
    give_ether(&world.chain, world.account(), 5).await;
    world.chain.post_batch(0, vec![0, 1].into()).await.unwrap();
    let begun = das_testnet::custody::wait_until(poster::PATIENCE, || states(&server) == ["none"]);
    assert!(begun.is_some(), "{:?}", states(&server));
    assert_eq!(read(&server, &world.taken[2].hash).as_deref(), Some(&world.taken[2].request.message[..]));
}
