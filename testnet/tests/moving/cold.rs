//! Members that keep shards: out of one, and back from a backup that is older than its promises.

use std::fs;

use das_testnet::load::bodies::StoreBody;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::promises::test_seed;
use das_testnet::vectors::load;

use super::member::{dastool, export, named};
use crate::common::{bodies, custody, read_all, sharded, store, until};

const MEMBERS: usize = 4;

#[test]
fn cold_batches_are_gathered_on_the_way_out_and_a_member_from_an_old_backup_keeps_its_word() {
    let seed = test_seed();
    println!("seed {seed}");
    assert!(load("on_disk.json")["cases"].is_array());
    let dir = super::member::folder();
    let plan = Plan { members: MEMBERS, honest: 3, shards: 2, base_port: 0 };
    let options = [
        "--custody.hot-retention",
        "0s",
        "--custody.demotion-patience",
        "2s",
        "--custody.reserve-percent",
        "0",
    ];
    let mut network = Network::open(dir.path(), &plan).unwrap().with_node_options(options);
    network.start_all(|_, _| {}).unwrap();
    let mut maker = bodies(&network, seed);
    let batches: Vec<StoreBody> = (1..15).map(|number| maker.store(4_000 * number)).collect();
    batches.iter().for_each(|body| store(&network, body));
    let all_sharded =
        |network: &Network, all: usize| (0..MEMBERS).all(|member| sharded(network, member) == all as u64);
    until("shards everywhere", &network, || all_sharded(&network, batches.len()));

    let data = dir.path().join("member-2/data");
    let (out, backup) = (dir.path().join("nitro"), dir.path().join("backup"));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    dastool(&["backup", "--data-dir", &text(&data), "--to", &text(&backup)]).good();
    let checked = dastool(&["restore", "--from", &text(&backup), "--verify-only"]).good();
    assert_eq!(checked["shards"], batches.len());

    // Out of a running member: everything, gathered from the others. Out of a stopped one: what is whole there.
    let said = export(&data, &out, &[]).good();
    assert_eq!(said["exported"], batches.len());
    network.stop(Who::Member(1)).unwrap();
    let said = export(&data, &dir.path().join("nitro-2"), &[]);
    assert_eq!((said.code, named(&said.json["left"]).len()), (1, batches.len()), "{said:?}");
    assert!(said.json["left"]["named"][0]["reason"].as_str().unwrap().contains("only a shard"), "{said:?}");
    let said = export(&data, &out, &[]).good();
    assert_eq!(said["present"], batches.len(), "what was exported before needs no shard");
    network.start(Who::Member(1)).unwrap();

    // More is promised; then the disk is lost, and only the old backup is there.
    let later: Vec<StoreBody> = (1..8).map(|number| maker.store(6_000 * number)).collect();
    later.iter().for_each(|body| store(&network, body));
    let all: Vec<StoreBody> = batches.into_iter().chain(later).collect();
    until("all are shards", &network, || all_sharded(&network, all.len()));
    let storage_id = |network: &Network| custody(network, 1).map(|report| report["storageId"].clone());
    let old_id = storage_id(&network).unwrap();
    network.kill(Who::Member(1)).unwrap();
    fs::remove_dir_all(&data).unwrap();
    let said = dastool(&["restore", "--from", &text(&backup), "--data-dir", &text(&data)]).good();
    assert_eq!(said["damaged"], 0);
    network.start(Who::Member(1)).unwrap();
    // The others show it what it has signed since: it says so, and what it lacks comes from them.
    until("it knows that it was rolled back", &network, || {
        storage_id(&network).is_some_and(|id| id != old_id)
    });
    until("it holds again what it had promised", &network, || all_sharded(&network, all.len()));
    let everyone = network.everyone();
    read_all(&network, &everyone, &all);
}
