//! Custody when the committee changes, and for those who are not in it: members that leave and join, and mirrors.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::path::Path;

use das_testnet::custody::connected;
use das_testnet::load::bodies::StoreBody;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::process::Launch;
use das_testnet::promises::test_seed;

use common::{bodies, custody, read, read_from, sharded, store, until};

const OPTIONS: [&str; 6] =
    ["--custody.hot-retention", "0s", "--custody.demotion-patience", "2s", "--custody.reserve-percent", "0"];

fn seven_keys(dir: &Path) -> Network {
    let plan = Plan { members: 7, honest: 4, shards: 3, base_port: 0 };
    Network::open(dir, &plan).unwrap().with_node_options(OPTIONS)
}

/// Writes a committee file of these members in this order.
fn write_committee(network: &Network, all: &str, order: &[usize], honest: usize, shards: usize) {
    let entries: Vec<&str> = all.split("[[member]]").skip(1).collect();
    let mut text = format!("honest-members = {honest}\ndata-shards = {shards}\n");
    for member in order {
        text += "\n[[member]]";
        text += entries[*member];
    }
    std::fs::write(network.committee_file(), text).unwrap();
}

/// Batches as shards of the coding in force, and all others that should be.
fn forms(report: &serde_json::Value) -> (u64, u64) {
    let count = |form: &str| report["batches"][form].as_u64().unwrap();
    let earlier = report["coverage"]["earlierCoding"]["batches"].as_u64().unwrap();
    let others = count("hot") + count("waiting") + count("missing") + count("whole");
    (count("sharded") - earlier, others + earlier)
}

/// One member leaves, one joins, the others change places, and k falls: what was stored under the old file is coded anew,
/// the leaver is told when it may go, and then nothing of the old committee is needed.
#[test]
fn a_member_leaves_and_another_joins_and_old_batches_are_coded_anew() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut network = seven_keys(dir.path());
    let all_members = std::fs::read_to_string(network.committee_file()).unwrap();
    let (old, new) = ([0, 1, 2, 3, 4, 5], [3, 6, 1, 2, 5, 4]);
    write_committee(&network, &all_members, &old, 4, 3);
    for member in old {
        network.start(Who::Member(member)).unwrap();
    }
    network.start(Who::Aggregator).unwrap();
    let mut maker = bodies(&network, seed);
    let batches: Vec<StoreBody> = (0..15).map(|number| maker.store(9_000 * number)).collect();
    batches.iter().for_each(|body| store(&network, body));
    let stored = batches.len() as u64;
    until("shards under the old file", &network, || {
        old.iter().all(|member| sharded(&network, *member) == stored)
    });
    let before = custody(&network, 1).unwrap()["codingId"].clone();

    write_committee(&network, &all_members, &new, 4, 2);
    // One after the other, as an operator would; the one that leaves takes the new file too.
    for member in old {
        network.stop(Who::Member(member)).unwrap();
        network.start(Who::Member(member)).unwrap();
        batches.iter().step_by(5).for_each(|body| {
            // Two members of six are down or new to the others at worst: the four others have enough.
            let got = read(&network, Who::Member((member + 3) % 6), &body.hash);
            assert!(got == Ok(body.hash) || got.is_err_and(|error| error.contains("503")));
        });
    }
    network.start(Who::Member(6)).unwrap();
    network.stop(Who::Aggregator).unwrap();
    network.start(Who::Aggregator).unwrap();
    let took = until("all is coded anew, at the one that joined too", &network, || {
        new.iter()
            .all(|member| custody(&network, *member).is_some_and(|report| forms(&report) == (stored, 0)))
    });
    println!("{stored} batches coded anew after {took:?}");
    assert_ne!(custody(&network, 1).unwrap()["codingId"], before);
    let took = until("the leaver may go", &network, || {
        custody(&network, 0).is_some_and(|report| report["freeToGo"] == true)
    });
    println!("free to go after {took:?}");
    assert!(custody(&network, 1).unwrap()["freeToGo"].is_null(), "who stays is not asked to go");

    // Any two of the new six are enough, with empty caches.
    for who in network.everyone().into_iter().rev() {
        network.stop(who).unwrap();
    }
    for left in [[6, 1], [3, 5], [4, 2]] {
        for member in left {
            network.start(Who::Member(member)).unwrap();
        }
        for member in left {
            until("the two left are connected", &network, || connected(&network, member) == 1);
            for body in &batches {
                assert_eq!(read(&network, Who::Member(member), &body.hash), Ok(body.hash), "member {member}");
            }
        }
        for member in left {
            network.stop(Who::Member(member)).unwrap();
        }
    }
}

/// A mirror that the committee file names gathers over libp2p: it needs no REST endpoint of anybody.
#[test]
fn a_mirror_that_the_committee_file_names_gathers_from_the_members() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { members: 6, honest: 4, shards: 3, base_port: 0 };
    let mut network = Network::open(dir.path(), &plan).unwrap().with_node_options(OPTIONS);
    let committee = network.committee_file();
    let home = dir.path().join("mirror");
    let mirror = || {
        Launch::new("das-node")
            .args(["--enable-rest", "--rest-addr", "127.0.0.1", "--rest-port", "0"])
            .args(["--data-availability.enable", "--data-availability.local-file-storage.enable"])
            .args(["--peer.listen", "/ip4/127.0.0.1/tcp/0", "--committee.file"])
            .arg(&committee)
            .arg("--data-availability.local-file-storage.data-dir")
            .arg(home.join("data"))
            .args(["--parent-chain.sequencer-inbox-address", "none"])
    };
    std::fs::create_dir_all(home.join("data")).unwrap();
    let stranger = mirror().start().unwrap();
    let said = stranger.output();
    let id: String =
        said.split("12D3KooW").nth(1).unwrap().chars().take_while(char::is_ascii_alphanumeric).collect();
    drop(stranger);
    let named = std::fs::read_to_string(&committee).unwrap();
    std::fs::write(
        &committee,
        format!("{named}\n[[mirror]]\nname = \"reader\"\npeer-id = \"12D3KooW{id}\"\n"),
    )
    .unwrap();

    network.start_all(|_, _| {}).unwrap();
    let mut maker = bodies(&network, seed);
    let batches: Vec<StoreBody> = (0..8).map(|number| maker.store(25_000 * number)).collect();
    batches.iter().for_each(|body| store(&network, body));
    let stored = batches.len() as u64;
    until("shards everywhere", &network, || (0..6).all(|member| sharded(&network, member) == stored));
    let reader = mirror().start().unwrap();
    let get = |body: &StoreBody| read_from(&reader.rest_url(), &body.hash);
    until("the mirror reads", &network, || get(&batches[3]).is_ok());
    for body in &batches {
        assert_eq!(get(body), Ok(body.hash));
    }
    let seen = custody(&network, 0).unwrap();
    let peer = seen["peers"].as_array().unwrap().iter().find(|peer| peer["name"] == "reader").unwrap();
    assert_eq!((&peer["mirror"], &peer["connected"]), (&true.into(), &true.into()));
    // What the mirror took up it has by itself now.
    assert!(network.stop_all().is_empty());
    for body in &batches {
        assert_eq!(get(body), Ok(body.hash));
    }
}
