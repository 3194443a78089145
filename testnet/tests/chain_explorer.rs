//! The batch explorer of an aggregator, over batches that it posted to the real contract itself.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod poster;

use das_common::data_hash::DataHash;
use das_testnet::http::{Answer, Connection};
use das_testnet::network::Who;
use serde_json::Value;

use poster::{World, give_ether};

fn get(world: &World, path: &str) -> Answer {
    let url = world.aggregator.as_ref().unwrap().ready().url("explorer").unwrap().to_owned();
    Connection::new(&url).unwrap().get(path).unwrap()
}

fn json(world: &World, path: &str) -> Value {
    let answer = get(world, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// Numbers and data hashes of a listing, the oldest first.
fn listed(world: &World) -> Vec<(u64, String)> {
    let list = json(world, "/api/batches?limit=200");
    let of = |batch: &Value| {
        let hash = batch["certificate"]["dataHash"].as_str().unwrap().to_owned();
        (batch["number"].as_u64().unwrap(), hash)
    };
    list["batches"].as_array().unwrap().iter().rev().map(of).collect()
}

/// The hash of the newest batch's block.
fn block_of_last(world: &World) -> Value {
    json(world, "/api/batches?limit=1")["batches"][0]["block"]["hash"].clone()
}

fn expected(world: &World, from: usize) -> Vec<(u64, String)> {
    let taken = world.taken[from..].iter().enumerate();
    taken.map(|(place, taken)| (place as u64, format!("0x{}", taken.hash))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_is_found_verified_and_stays_right_through_reorganizations_and_a_reset() {
    let mut world = World::new(8, &["--explorer.enable", "--explorer.port", "0"]).await;
    for size in [100, 5_000, 200_000] {
        let id = world.post(size);
        world.until("it is in a block", || world.stage(id) == "included");
    }
    world.until("all are listed and fetched", || {
        listed(&world) == expected(&world, 0)
            && (0..3).all(|number| {
                json(&world, &format!("/api/batches/{number}"))["payload"]["state"] == "fetched"
            })
    });
    let status = world.status(world.taken[2].id);
    let batch = json(&world, "/api/batches/2?availability=true");
    assert_eq!(batch["transaction"], status["transaction"]);
    assert_eq!(batch["block"]["hash"], status["block"]["hash"]);
    assert_eq!(batch["content"]["bytes"], status["certificate"]);
    assert_eq!(batch["payload"]["length"], 200_000);
    assert_eq!(batch["availability"]["state"], "elsewhere");
    let signers = batch["certificate"]["signers"].as_array().unwrap();
    let names: Vec<&str> = signers.iter().map(|signer| signer["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["member-1", "member-2", "member-3"]);
    assert!(signers.iter().filter(|signer| signer["signed"] == true).count() >= 2);
    assert_eq!(json(&world, "/api/batches/2/verify")["verdict"], "valid");
    let payload = get(&world, "/api/batches/2/payload");
    assert_eq!(DataHash::of(&payload.body), world.taken[2].hash);
    let hash = world.taken[1].hash;
    assert_eq!(json(&world, &format!("/api/batches/by-hash/0x{hash}"))["batches"][0]["number"], 1);
    let page = get(&world, "/batch/1");
    assert!(
        page.status == 200 && page.text().contains(&hash.to_string()) && page.text().contains("member-2")
    );
    assert!(get(&world, "/").text().contains("/batch/2"));

    // Reorganized away, posted again, in another block: the explorer goes along. Also while it is down.
    let before = block_of_last(&world);
    world.chain.reorg(3, &[]).await.unwrap();
    world.until("the batches are listed where they are now", || {
        block_of_last(&world) != before && listed(&world) == expected(&world, 0)
    });
    let before = block_of_last(&world);
    world.kill_aggregator();
    world.chain.reorg(2, &[]).await.unwrap();
    world.start_aggregator(&[]);
    world.until("all of them again", || {
        block_of_last(&world) != before && listed(&world) == expected(&world, 0)
    });

    // What nobody holds any more is said to be missing, and still listed.
    for member in 0..3 {
        world.network.stop(Who::Member(member)).unwrap();
    }
    world.kill_aggregator();
    world.start_aggregator(&[]);
    assert_eq!(listed(&world).len(), 3);
    let verdict = json(&world, "/api/batches/0/verify");
    assert_ne!(verdict["verdict"], "valid", "{verdict}");
    for member in 0..3 {
        world.network.start(Who::Member(member)).unwrap();
    }

    // Another chain behind the same URL is another era; the old one stays readable.
    let era = json(&world, "/api/batches/0")["era"].clone();
    world.chain.reset().await.unwrap();
    world.chain.deploy().await.unwrap();
    give_ether(&world.chain, world.account(), 5).await;
    world.chain.post_batch(0, vec![0, 1, 2, 3].into()).await.unwrap();
    world.until("the new era has its batch", || {
        let list = json(&world, "/api/batches");
        list["era"] != era && list["batches"][0]["content"]["kind"] == "data"
    });
    assert_eq!(json(&world, &format!("/api/batches/2?era={era}"))["payload"]["length"], 200_000);
    assert_eq!(json(&world, "/api/eras")["eras"].as_array().unwrap().len(), 2);
}
