//! Reads from the archive: nodes without a disk, members that lost theirs, buckets that Nitro's server wrote, and
//! archives that are slow or lie.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use das_common::data_hash::{DataHash, flat_hash};
use das_testnet::process::ServerProcess;

use super::nodes::{
    alarms, assert_is, assert_serves, batch, get, get_at, get_named, member, mirror, options, reader, status,
    store,
};
use super::s3::{Mood, S3, folder, until};

#[test]
fn nodes_without_disk_and_key_serve_a_members_bucket_in_turn() {
    let (s3, data) = (S3::start(), folder());
    let mut server = member(data.path(), &s3.options("das/")).start().unwrap();
    let batches: Vec<_> = (0..30).map(|number| batch(number, 100_000)).collect();
    batches.iter().for_each(|batch| store(&server, batch));
    batches.iter().for_each(|batch| s3.wait_for("das/", batch));
    server.stop().unwrap();
    drop(data);

    let more = [s3.options("das/"), options(&["--data-availability.local-cache.max-bytes=1MiB"])].concat();
    let mut nodes: Vec<ServerProcess> = (0..3).map(|_| reader(&more).start().unwrap()).collect();
    // What a load balancer does: each request to the next.
    let turn = AtomicUsize::new(0);
    let urls: Vec<_> = nodes.iter().map(ServerProcess::rest_url).collect();
    let next = || &urls[turn.fetch_add(1, Ordering::Relaxed) % urls.len()];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    batches.iter().for_each(|batch| assert_is(&get_at(next(), &DataHash::of(batch)), batch));
                }
            });
        }
    });
    for node in &nodes {
        assert_eq!(get(node, &batch(1000, 10)).status, 404);
        let said = status(node);
        assert_eq!((&said["canServe"], &said["canStore"]), (&true.into(), &false.into()));
        assert_eq!(alarms(node), []);
    }
    // One is lost, the others go on; and what they cannot tell they do not deny.
    nodes.pop().unwrap().stop().unwrap();
    batches.iter().for_each(|batch| assert_serves(&nodes[0], batch));
    s3.mood(Mood::Down);
    let before = Instant::now();
    for number in 2000..2020 {
        assert_eq!(get(&nodes[0], &batch(number, 10)).status, 503);
    }
    assert!(before.elapsed().as_secs() < 60, "an archive that is away is soon left alone");
    s3.mood(Mood::Well);
    until("it is asked again", || get(&nodes[0], &batches[3]).status == 200);
    nodes.iter_mut().for_each(|node| node.stop().unwrap());
}

#[test]
fn a_node_with_a_wrong_bucket_does_not_say_that_there_are_no_batches() {
    let s3 = S3::start();
    let mut node = reader(&s3.options_with("elsewhere", "a-secret-of-tests", "")).start().unwrap();
    until("it is said", || super::nodes::has_alarm(&node, "DAS-ARCHIVE-002"));
    assert_eq!(get(&node, &batch(1, 10)).status, 503);
    node.stop().unwrap();
}

#[test]
fn a_bucket_that_nitro_wrote_is_read() {
    let s3 = S3::start();
    // As Nitro's server does it: the prefix, the tree hash in hex without 0x, and the bytes.
    let whole = batch(7, 70_001);
    s3.place("nitro-", &DataHash::of(&whole), &whole);
    let mut node = reader(&s3.options("nitro-")).start().unwrap();
    assert_serves(&node, &whole);
    // Certificates of version 0 name a batch by its flat hash.
    let short = batch(8, 5_000);
    s3.place("nitro-", &DataHash::of(&short), &short);
    assert_is(&get_named(&node, &DataHash::from_bytes(flat_hash(&short))), &short);
    node.stop().unwrap();
}

#[test]
fn a_member_whose_disk_was_wiped_serves_what_it_archived_and_heals_what_rotted() {
    let (s3, data) = (S3::start(), folder());
    let more = [s3.options(""), options(&["--data-availability.local-cache.max-bytes=0"])].concat();
    let mut server = member(data.path(), &more).start().unwrap();
    let batches: Vec<_> = (0..10).map(|number| batch(number, 60_000)).collect();
    batches.iter().for_each(|batch| store(&server, batch));
    batches.iter().for_each(|batch| s3.wait_for("", batch));
    server.stop().unwrap();

    let segments = data.path().join("segments");
    for entry in std::fs::read_dir(&segments).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(60_000).position(|window| window == batches[4]).unwrap();
        bytes[at + 30_000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let mut server = member(data.path(), &more).start().unwrap();
    assert_serves(&server, &batches[4]);
    assert_eq!(alarms(&server), [], "healed from the archive");
    s3.mood(Mood::Down);
    assert_serves(&server, &batches[4]);
    s3.mood(Mood::Well);
    server.stop().unwrap();

    let empty = folder();
    let mut server = member(empty.path(), &more).start().unwrap();
    batches.iter().for_each(|batch| assert_serves(&server, batch));
    server.stop().unwrap();
}

#[test]
fn an_archive_that_is_slow_or_lies_costs_time_and_nothing_else() {
    let (s3, data, mirror_data) = (S3::start(), folder(), folder());
    let mut source = member(data.path(), &[]).start().unwrap();
    let batches: Vec<_> = (0..12).map(|number| batch(number, 10_000)).collect();
    batches.iter().for_each(|batch| store(&source, batch));
    let urls = format!("--data-availability.rest-aggregator.urls={}", source.rest_url());
    let own = options(&[
        "--data-availability.rest-aggregator.enable",
        &urls,
        "--archive.read-only",
        "--archive.read-timeout=1s",
        "--data-availability.local-cache.max-bytes=0",
    ]);
    let more = [s3.options(""), own].concat();
    let mut node = mirror(mirror_data.path(), &more).start().unwrap();
    s3.place("", &DataHash::of(&batches[0]), b"other bytes");
    s3.place("", &DataHash::of(&batches[1]), &vec![1; 40 << 20]);
    s3.place("", &DataHash::of(&batches[2]), b"");
    batches[..4].iter().for_each(|batch| assert_serves(&node, batch));
    until("somebody is told", || super::nodes::has_alarm(&node, "DAS-ARCHIVE-004"));
    for (mood, range) in [(Mood::Hung, 4..8), (Mood::Refusing, 8..10), (Mood::Down, 10..12)] {
        s3.mood(mood);
        batches[range].iter().for_each(|batch| assert_serves(&node, batch));
    }
    // It only reads there.
    assert!(!s3.file("", &DataHash::of(&batches[5])).exists());
    // What it fetched is on its own disk, and nobody else is there any more.
    source.stop().unwrap();
    batches.iter().for_each(|batch| assert_serves(&node, batch));
    node.stop().unwrap();
}
