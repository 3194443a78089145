//! What a committee of six that codes three of six takes on disk, and that any three of its members have everything.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use das_common::data_hash::DataHash;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::rpc_client::{DEFAULT_BODY_LIMIT, MemberClient};
use das_common::store_auth::StoreKey;
use das_testnet::custody::{choices, connected, disk_of_members};
use das_testnet::http::Connection;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::promises::test_seed;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use common::{bodies, custody, read_from, sharded, until};

const BATCHES: usize = 2000;
const READERS: usize = 4;
/// How often a read that comes to nothing in time is repeated.
const AGAIN: usize = 10;
/// Above it a batch goes in chunks: as text it is twice as long, and a request is at most 5 MiB by default.
const LARGEST_PLAIN: usize = 2_000_000;

/// Sizes from nothing to 10 MB, of every order of magnitude alike, and a few of the largest; about 135 KB in the mean.
fn sizes(random: &mut StdRng) -> Vec<usize> {
    let mut sizes = vec![0, 1, 2, 3, 4, 10_000_000, 9_999_999, 5_000_000];
    let largest = 1_800_000_f64.ln();
    sizes.resize_with(BATCHES, || random.random_range(0.0..largest).exp() as usize);
    sizes
}

/// Stores a batch that no request may hold as a whole.
fn store_chunked(network: &Network, size: usize, seed: u64) -> DataHash {
    let mut bytes = vec![0; size];
    StdRng::seed_from_u64(seed ^ size as u64).fill_bytes(&mut bytes);
    let message = Bytes::from(bytes);
    let key = std::fs::read_to_string(network.poster_key_file()).unwrap();
    let key = StoreKey::from_hex(key.trim()).unwrap();
    let rpc = Endpoint::parse(&network.addresses(Who::Aggregator).unwrap().rpc).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = MemberClient::new(rpc, HttpClient::default());
        let timeout = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 86_400;
        let stored =
            client.store_chunked(&message, timeout, &key, DEFAULT_BODY_LIMIT, Duration::from_secs(60)).await;
        assert_eq!(stored.unwrap().data_hash, *DataHash::of(&message).as_bytes());
    });
    DataHash::of(&message)
}

/// Reads each batch from the address that is given for its place, several at once.
fn read_each(hashes: &[DataHash], from: impl Fn(usize) -> String + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(hash) = hashes.get(place) else { return };
                    let rest = from(place);
                    // Four readers can ask faster than a peer answers one member: then it refuses for now, and the gather, which
                    // gives up at once instead of waiting for it, becomes a 503.
                    let mut got = read_from(&rest, hash);
                    for _ in 0..AGAIN {
                        if got != Err("status 503".into()) {
                            break;
                        }
                        println!("batch {place} from {rest}: 503, once more");
                        std::thread::sleep(Duration::from_secs(1));
                        got = read_from(&rest, hash);
                    }
                    assert_eq!(got, Ok(*hash), "batch {place} from {rest}");
                }
            });
        }
    });
}

#[test]
fn six_members_take_twice_the_payload_and_any_three_have_all_of_it() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let plan = Plan { members: 6, honest: 4, shards: 3, base_port: 0 };
    // Without caches every read goes to the disks.
    let options = [
        ["--custody.hot-retention", "0s"],
        ["--custody.demotion-patience", "2s"],
        ["--custody.reserve-percent", "0"],
        ["--data-availability.local-cache.max-bytes", "0"],
        ["--peer.max-backoff", "1s"],
        // Low enough for peers to refuse now and then while all is read; nobody who reads may notice.
        ["--peer.request-rate", "200"],
    ];
    let mut network = Network::open(dir.path(), &plan).unwrap().with_node_options(options.concat());
    network.start_all(|_, _| {}).unwrap();
    let mut maker = bodies(&network, seed);
    let sizes = sizes(&mut StdRng::seed_from_u64(seed));
    let payload: usize = sizes.iter().sum();
    assert!(payload >= BATCHES * 100_000);

    let began = Instant::now();
    let rpc = network.addresses(Who::Aggregator).unwrap().rpc;
    let mut connection = Connection::new(&rpc).unwrap();
    let mut hashes = Vec::new();
    for size in sizes {
        if size > LARGEST_PLAIN {
            hashes.push(store_chunked(&network, size, seed));
            continue;
        }
        let body = maker.store(size);
        let answer = connection.post_json(&[&body.json]).unwrap();
        assert!(answer.text().contains("\"sig\""), "{}", answer.text());
        hashes.push(body.hash);
    }
    println!("{BATCHES} batches, {payload} bytes, stored in {:?}", began.elapsed());
    // The empty batch may have come by chance too.
    let distinct = hashes.iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
    let took = until("every member has every batch as its shard only", &network, || {
        (0..6).all(|member| sharded(&network, member) == distinct)
    });
    println!("all of them shards only after {took:?}");

    let taken = || disk_of_members(&network);
    let factor = || taken() as f64 / payload as f64;
    let took = until("the space of the whole copies is given back", &network, || factor() <= 2.1);
    println!("six members take {} bytes, {:.3} times the payload, {took:?} later", taken(), factor());
    for member in 0..6 {
        println!("member {}: {}", member + 1, custody(&network, member).unwrap()["bytes"]);
    }

    let began = Instant::now();
    for who in network.everyone() {
        let rest = network.addresses(who).unwrap().rest;
        read_each(&hashes, |_| rest.clone());
    }
    println!("every batch from each member and the aggregator in {:?}", began.elapsed());
    network.stop(Who::Aggregator).unwrap();

    let began = Instant::now();
    let combinations = choices(6, 3);
    assert_eq!(combinations.len(), 20);
    for left in combinations {
        for member in 0..6 {
            let who = Who::Member(member);
            if left.contains(&member) { network.start(who).map(drop) } else { network.stop(who) }.unwrap();
        }
        until("the three are connected", &network, || {
            left.iter().all(|member| connected(&network, *member) == 2)
        });
        let rest: Vec<String> =
            left.iter().map(|member| network.addresses(Who::Member(*member)).unwrap().rest).collect();
        read_each(&hashes, |place| rest[place % 3].clone());
    }
    println!("every batch from every three of six in {:?}", began.elapsed());
}
