//! One das-node as a process: what an operator sees when disks fill, rot or are shared, and how a mirror fills itself.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use das_common::data_hash::DataHash;
use das_testnet::http::{Answer, Connection};
use das_testnet::image::Image;
use das_testnet::process::{Launch, ServerProcess};
use serde_json::Value;
use tempfile::TempDir;

const KEY: &str = "F90HspUZooyBFBn6gJTAxtJ44QcnLQEtTbK95aDREro=";

fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn node(data: &Path, more: &[&str]) -> Launch {
    Launch::new("das-node")
        .args(["--enable-rest", "--rest-port", "0", "--data-availability.local-file-storage.enable"])
        .arg("--data-availability.local-file-storage.data-dir")
        .arg(data)
        .args(more)
}

fn member(data: &Path, more: &[&str]) -> Launch {
    node(data, more)
        .args(["--enable-rpc", "--rpc-port", "0", "--data-availability.key.priv-key", KEY])
        .arg("--data-availability.disable-signature-checking")
}

fn batch(number: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31) ^ number).collect()
}

fn store(server: &ServerProcess, batch: &[u8]) -> Value {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"das_store","params":["{}","{:#x}","0x"]}}"#,
        const_hex::encode_prefixed(batch),
        das_testnet::load::bodies::unix_now() + 3600
    );
    let answer = Connection::new(&server.rpc_url()).unwrap().post_json(&[body.as_bytes()]).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

fn get(server: &ServerProcess, batch: &[u8]) -> Answer {
    let path = format!("/get-by-hash/{}", DataHash::of(batch));
    Connection::new(&server.rest_url()).unwrap().get(&path).unwrap()
}

#[track_caller]
fn assert_serves(server: &ServerProcess, batch: &[u8]) {
    let answer = get(server, batch);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(das_common::wire::parse_get_by_hash(&answer.body).unwrap(), batch);
}

fn status(server: &ServerProcess) -> Value {
    serde_json::from_slice(&Connection::new(&server.rest_url()).unwrap().get("/status").unwrap().body)
        .unwrap()
}

fn alarms(server: &ServerProcess) -> Vec<String> {
    let status = status(server);
    status["alarms"].as_array().unwrap().iter().map(|a| a["code"].as_str().unwrap().to_owned()).collect()
}

/// Flips one bit of every copy of `batch` in the segments of a data directory.
fn rot(data: &Path, batch: &[u8]) {
    let mut found = 0;
    for entry in std::fs::read_dir(data.join("segments")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        while let Some(at) = bytes.windows(batch.len()).position(|window| window == batch) {
            bytes[at + batch.len() / 2] ^= 1;
            found += 1;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(found > 0, "the batch is in no segment");
}

#[test]
fn a_mirror_fills_itself_with_what_is_asked_for_and_heals_from_others() {
    let (member_data, mirror_data) = (folder(), folder());
    let mut source = member(member_data.path(), &[]).start().unwrap();
    let whole = batch(1, 100_000);
    assert!(store(&source, &whole)["result"]["sig"].is_string());

    // A port where nobody listens, and the member.
    let urls = format!("http://127.0.0.1:1,{}", source.rest_url());
    let options = [
        "--data-availability.rest-aggregator.enable",
        "--data-availability.rest-aggregator.urls",
        &urls,
        "--data-availability.local-cache.max-bytes",
        "0",
    ];
    let mut mirror = node(mirror_data.path(), &options).start().unwrap();
    assert_eq!(get(&mirror, &batch(2, 10)).status, 503, "one endpoint could not be asked");
    assert_serves(&mirror, &whole);
    mirror.stop().unwrap();

    rot(mirror_data.path(), &whole);
    let mut mirror = node(mirror_data.path(), &options).start().unwrap();
    assert_serves(&mirror, &whole);
    assert_eq!(alarms(&mirror), [""; 0], "healed from the member");
    let said = status(&mirror);
    assert_eq!(said["canStore"], false, "a mirror has no key");
    assert!(said["reasons"][0].as_str().unwrap().contains("no key"), "{said}");
    source.stop().unwrap();
    assert_serves(&mirror, &whole);
    mirror.stop().unwrap();
    let mut alone = node(mirror_data.path(), &[]).start().unwrap();
    assert_serves(&alone, &whole);
    assert_eq!(get(&alone, &batch(2, 10)).status, 404);
    alone.stop().unwrap();
}

#[test]
fn a_member_without_others_says_that_a_batch_is_damaged_and_is_healed_by_a_store() {
    let data = folder();
    let mut server = member(data.path(), &[]).start().unwrap();
    let whole = batch(3, 70_000);
    store(&server, &whole);
    server.stop().unwrap();
    rot(data.path(), &whole);
    let mut server = member(data.path(), &[]).start().unwrap();
    assert_eq!(get(&server, &whole).status, 503, "not 404: the batch is known");
    assert_eq!(alarms(&server), ["DAS-READ-002"], "rot is not kept quiet");
    assert!(store(&server, &whole)["result"]["sig"].is_string());
    assert_serves(&server, &whole);
    assert_eq!(alarms(&server), [""; 0], "healed by the store");
    server.stop().unwrap();
}

#[test]
fn a_full_disk_refuses_stores_serves_reads_and_recovers_by_itself() {
    let place = folder();
    let image = Image::create(&place.path().join("disk"), 192 << 20).unwrap();
    let data = image.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let filler = image.path().join("filler");
    for reserve in ["64MiB", "0"] {
        let options = ["--data-availability.local-file-storage.min-free", reserve];
        let mut server = member(&data, &options).start().unwrap();
        let kept = batch(4, 50_000);
        assert!(store(&server, &kept)["result"]["sig"].is_string());

        // Others fill the disk to the last block.
        let mut file = std::fs::File::create(&filler).unwrap();
        let chunk = vec![7; 1 << 20];
        while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
        drop(file);
        let mut refused = 0;
        // What is preallocated may still take some batches when nothing is kept in reserve.
        for number in 0..200 {
            let answer = store(&server, &batch(number, 1_000_000));
            if let Some(message) = answer["error"]["message"].as_str() {
                assert!(message.contains("disk is full") || message.contains("No space left"), "{message}");
                refused += 1;
                break;
            }
        }
        assert_eq!(refused, 1, "min-free {reserve}: a full disk took everything");
        assert_serves(&server, &kept);
        if reserve != "0" {
            assert_eq!(alarms(&server), ["DAS-STORE-005"]);
            assert_eq!(status(&server)["canStore"], false);
        }

        std::fs::remove_file(&filler).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let new = batch(5, 60_000);
        while store(&server, &new)["result"]["sig"].is_null() {
            assert!(Instant::now() < deadline, "min-free {reserve}: stores do not begin again");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_serves(&server, &new);
        server.stop().unwrap();
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
    }
    image.discard().unwrap();
}

#[test]
fn starts_that_cannot_work_say_why_and_what_to_do() {
    let data = folder();
    let mut first = member(data.path(), &[]).start().unwrap();
    let within = Duration::from_secs(30);
    let (status, text) = member(data.path(), &[]).run_to_end(within).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("DAS-DB-002") && text.contains("data-dir"), "{text}");
    let port = first.rest_url().rsplit(':').next().unwrap().to_owned();
    let other = folder();
    let (status, text) = member(other.path(), &["--rest-port", &port]).run_to_end(within).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("DAS-NET-001") && text.contains("--rest-port"), "{text}");
    store(&first, &batch(6, 100));
    first.stop().unwrap();

    for entry in std::fs::read_dir(data.path().join("index")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("MANIFEST") {
            std::fs::write(path, b"rot").unwrap();
        }
    }
    let (status, text) = member(data.path(), &[]).run_to_end(within).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("DAS-DB-003") && text.contains("index"), "{text}");
    // The cure that is named: without the index it is built anew from the segments.
    std::fs::rename(data.path().join("index"), data.path().join("index.damaged")).unwrap();
    let mut again = member(data.path(), &[]).start().unwrap();
    assert_serves(&again, &batch(6, 100));
    again.stop().unwrap();
}
