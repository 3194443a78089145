//! Payloads at rest: what can be read in the files of a member whose disk is taken, and what becomes of them when the key
//! changes, with real processes that are killed on the way.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod common;
// The helpers that moving a member needs; not all of them are used here.
#[allow(dead_code)]
#[path = "moving/member.rs"]
mod member;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use das_common::data_hash::DataHash;
use das_common::store_auth::StoreKey;
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{store_body, unix_now};
use das_testnet::network::{Network, Plan, Who};
use das_testnet::process::ServerProcess;
use das_testnet::promises::test_seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use member::{assert_serves, dastool, folder, launch, store};

const LONG: Duration = Duration::from_secs(120);
const BATCHES: usize = 40;

/// What is looked for in the files.
const WORDS: &[u8] = b"<the sequencer's own secret words>";

/// A batch that has nothing but those words and its number in it, so that every piece of it tells.
fn batch(number: usize, length: usize) -> Vec<u8> {
    let mut batch = WORDS.repeat(length.div_ceil(WORDS.len()));
    batch.truncate(length);
    batch[..8].copy_from_slice(&(number as u64).to_be_bytes());
    batch
}

/// The files below a folder in which the words stand.
fn telling_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Files come and go while a member runs.
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        if about.is_dir() {
            found.extend(telling_files(&path));
        } else if about.is_file()
            && let Ok(bytes) = fs::read(&path)
            && memchr::memmem::find(&bytes, WORDS).is_some()
        {
            found.push(path);
        }
    }
    found
}

fn status(rest: &str) -> Value {
    serde_json::from_slice(&Connection::new(rest).unwrap().get("/status").unwrap().body).unwrap()
}

fn encryption(server: &ServerProcess) -> Value {
    status(&server.rest_url())["encryption"].clone()
}

#[track_caller]
fn wait_for_the_end(server: &ServerProcess) {
    let ended = wait_until(LONG, || encryption(server)["leftBytes"] == 0);
    assert!(ended.is_some(), "never came to its end: {}\n{}", encryption(server), server.output());
}

fn make_key(path: &Path) -> String {
    let said = dastool(&["storage-key-make", "--to.key-file", path.to_str().unwrap()]).good();
    said["keyId"].as_str().unwrap().to_owned()
}

#[track_caller]
fn refused(data: &Path, options: &[&str], code: &str, words: &str) {
    let (status, text) = launch(data, options).run_to_end(LONG).unwrap();
    assert!(!status.success() && text.contains(code) && text.contains(words), "{code}, {words}: {text}");
    assert!(text.contains("--storage-encryption"), "{text}");
}

#[test]
fn a_store_is_encrypted_rotated_under_kill_and_decrypted_again() {
    let seed = test_seed();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    let (data, keep) = (at("data"), unix_now() + 7200);
    let batches: Vec<_> =
        (0..BATCHES).map(|number| batch(number, random.random_range(100..200_000))).collect();
    let small =
        ["--data-availability.local-file-storage.segment-size", "1MiB", "--limits.max-message-size", "1MiB"];
    let no_cache = ["--data-availability.local-cache.max-bytes", "0"];
    let with = |more: &[&str]| launch(&data, &[&small[..], &no_cache, more].concat());
    let serves_all = |server: &ServerProcess| {
        batches.iter().for_each(|batch| assert_serves(&server.rest_url(), batch));
    };

    // Without the option everything can be read: the search finds what there is to find.
    let mut server = with(&[]).start().unwrap();
    batches.iter().for_each(|batch| store(&server.rpc_url(), batch, keep).unwrap());
    assert_eq!(encryption(&server), Value::Null);
    server.stop().unwrap();
    assert!(!telling_files(&data).is_empty());

    // Switched on.
    let (a, b) = (make_key(&at("a")), make_key(&at("b")));
    let (key_a, key_b) = (text("a"), text("b"));
    assert_eq!(dastool(&["storage-key-check", &key_a]).good()["keyId"], a.as_str());
    let mut server = with(&["--storage-encryption.key-file", &key_a]).start().unwrap();
    let late = batch(1000, 50_000);
    store(&server.rpc_url(), &late, keep).unwrap();
    wait_for_the_end(&server);
    serves_all(&server);
    let gone = wait_until(LONG, || telling_files(&data).is_empty());
    assert!(gone.is_some(), "plaintext is left in {:?}", telling_files(&data));
    let said = encryption(&server);
    assert!(said["active"] == a.as_str() && said["plainBytes"] == 0, "{said}");
    server.stop().unwrap();

    // What does not start, and why.
    let former = "--storage-encryption.former-keys";
    refused(&data, &[], "DAS-KEY-022", &a);
    refused(&data, &["--storage-encryption.key-file", &key_b], "DAS-KEY-022", former);
    refused(&data, &["--storage-encryption.key-file", &text("none")], "DAS-KEY-001", "none");
    fs::write(at("short"), "00112233").unwrap();
    refused(&data, &["--storage-encryption.key-file", &text("short")], "DAS-KEY-023", "short");
    let made =
        ["storage-key-make", "--to.keystore.file", &text("c"), "--to.keystore.password-file", &text("right")];
    fs::write(at("right"), "correct horse\n").unwrap();
    fs::write(at("wrong"), "battery staple\n").unwrap();
    dastool(&made).good();
    let keystore = |password: &str| {
        [
            "--storage-encryption.keystore.file",
            &text("c"),
            "--storage-encryption.keystore.password-file",
            &text(password),
        ]
        .map(str::to_owned)
    };
    let wrong = keystore("wrong");
    refused(&data, &wrong.each_ref().map(String::as_str), "DAS-KEY-006", "password");

    // To another key, slowly, with an end of the process now and then.
    fs::set_permissions(at("b"), fs::Permissions::from_mode(0o644)).unwrap();
    let both = ["--storage-encryption.key-file", &key_b, former, &key_a];
    let slow = [&both[..], &["--storage-encryption.rotation-speed", "300KiB"]].concat();
    for round in 0..5 {
        let mut server = with(&slow).start().unwrap();
        assert!(server.output().contains("DAS-KEY-004"), "{}", server.output());
        std::thread::sleep(Duration::from_millis(random.random_range(0..1500)));
        let said = encryption(&server);
        println!("round {round}: {said}");
        assert!(said["leftBytes"].as_u64().unwrap() > 0, "it is still in the middle: {said}");
        server.kill().unwrap();
        let mut server =
            with(&[&both[..], &["--storage-encryption.rotation-speed", "0"]].concat()).start().unwrap();
        serves_all(&server);
        server.kill().unwrap();
    }
    let mut server = with(&both).start().unwrap();
    wait_for_the_end(&server);
    server.kill().unwrap();
    let mut server = with(&["--storage-encryption.key-file", &key_b]).start().unwrap();
    serves_all(&server);
    assert_serves(&server.rest_url(), &late);
    assert_eq!(encryption(&server)["keys"][0]["id"], b.as_str());
    server.stop().unwrap();
    assert_eq!(telling_files(&data), Vec::<PathBuf>::new());

    // A flipped byte is noticed, and healed by the next store.
    let mut flipped = None;
    for entry in fs::read_dir(data.join("segments")).unwrap() {
        let path = entry.unwrap().path();
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        let hash = *DataHash::of(&batches[7]).as_bytes();
        if let Some(header) = memchr::memmem::find(&fs::read(&path).unwrap(), &hash) {
            let at = header as u64 + 64 + 24 + 3;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
            flipped = Some(path);
        }
    }
    assert!(flipped.is_some());
    let mut server = with(&["--storage-encryption.key-file", &key_b]).start().unwrap();
    let read = Connection::new(&server.rest_url()).unwrap();
    let answer = { read }.get(&format!("/get-by-hash/{}", DataHash::of(&batches[7]))).unwrap();
    assert_ne!(answer.status, 200);
    assert!(status(&server.rest_url())["alarms"].to_string().contains("DAS-READ-002"));
    store(&server.rpc_url(), &batches[7], keep).unwrap();
    serves_all(&server);
    server.stop().unwrap();

    // A backup holds what the disk does; it is checked with the key and says what it could not read without.
    let (backup, key) = (text("backup"), ["--storage-encryption.key-file", key_b.as_str()]);
    let data_text = text("data");
    dastool(&[&["backup", "--data-dir", &data_text, "--to", &backup][..], &key].concat()).good();
    dastool(&["backup", "--data-dir", &data_text, "--to", &text("other")]).fails_with("DAS-KEY-022");
    let verify = ["restore", "--from", &backup, "--verify-only"];
    let said = dastool(&[&verify[..], &key].concat()).good();
    assert_eq!(
        (said["whole"].as_u64(), said["locked"].as_u64()),
        (Some(BATCHES as u64 + 1), Some(0)),
        "{said}"
    );
    let said = dastool(&verify).good();
    assert_eq!((said["whole"].as_u64(), said["lockedBy"][0].as_str()), (Some(0), Some(b.as_str())), "{said}");
    assert_eq!(telling_files(&at("backup")), Vec::<PathBuf>::new());
    // An export is for Nitro's server, and in the clear.
    let export = ["export", "--data-dir", &data_text, "--to", &text("nitro")];
    dastool(&[&export[..], &key].concat()).good();
    assert!(telling_files(&at("nitro")).len() > BATCHES);

    // Under a keystore's key, and at last switched off.
    let keys = keystore("right");
    let keys = [&keys.each_ref().map(String::as_str)[..], &[former, &key_b]].concat();
    let mut server = with(&keys).start().unwrap();
    wait_for_the_end(&server);
    server.stop().unwrap();
    let off = [former, &text("c"), "--storage-encryption.former-keys-password-file", &text("right")];
    let mut server = with(&off).start().unwrap();
    wait_for_the_end(&server);
    server.stop().unwrap();
    let mut server = with(&[]).start().unwrap();
    serves_all(&server);
    assert_eq!(encryption(&server), Value::Null);
    server.stop().unwrap();
    assert!(!telling_files(&data).is_empty());
}

/// Stores until every member has shards only, and gives the files in which the words stand.
fn as_shards(key: Option<&Path>) -> Vec<PathBuf> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let plan = Plan { members: 3, honest: 2, shards: 2, base_port: 0 };
    let mut options: Vec<String> = [
        ["--custody.hot-retention", "0s"],
        ["--custody.demotion-patience", "2s"],
        ["--custody.reserve-percent", "0"],
        ["--data-availability.local-cache.max-bytes", "0"],
        ["--peer.max-backoff", "1s"],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect();
    if let Some(key) = key {
        options.extend(["--storage-encryption.key-file".to_owned(), key.to_str().unwrap().to_owned()]);
    }
    let mut network = Network::open(dir.path(), &plan).unwrap().with_node_options(options);
    network.start_all(|_, _| {}).unwrap();
    let poster = fs::read_to_string(network.poster_key_file()).unwrap();
    let poster = StoreKey::from_hex(poster.trim()).unwrap();
    let mut hashes = Vec::new();
    for number in 0..12 {
        let body = store_body(&poster, &batch(number, 60_000), unix_now() + 86_400 + number as u64);
        common::store(&network, &body);
        hashes.push(body.hash);
    }
    common::until("every member has shards only", &network, || {
        (0..3).all(|member| common::sharded(&network, member) == 12)
    });
    for member in 0..3 {
        for hash in &hashes {
            assert_eq!(common::read(&network, Who::Member(member), hash), Ok(*hash));
        }
    }
    // What freed the whole copies punches them a moment later.
    let mut told = Vec::new();
    wait_until(Duration::from_secs(if key.is_some() { 60 } else { 1 }), || {
        told = (0..3)
            .flat_map(|member| telling_files(&network.dir().join(Who::Member(member).to_string())))
            .collect();
        told.is_empty()
    });
    drop(network);
    told
}

#[test]
fn cold_shards_of_a_committee_are_encrypted_and_gathered_all_the_same() {
    assert!(!as_shards(None).is_empty(), "plain shards are found");
    let folder = folder();
    make_key(&folder.path().join("key"));
    assert_eq!(as_shards(Some(&folder.path().join("key"))), Vec::<PathBuf>::new());
}
