//! A member whose disk fills up: it signs nothing that it could not write, says what is wrong, serves what it has, and
//! stores again when there is room.
//!
//! Needs root, loop devices and ext4.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use das_common::bls::read_public_key_file;
use das_common::store_auth::StoreKey;
use das_testnet::http::Connection;
use das_testnet::image::Image;
use das_testnet::load::bodies::{store_body, unix_now};
use das_testnet::network::{Network, Plan, Who};
use das_testnet::promises::{Ledger, Promise, Recipe, check};
use serde_json::Value;

const MEMBER: Who = Who::Member(0);

const MIB: u64 = 1 << 20;

/// Large enough for a member to start on, small enough to be filled in a moment.
const IMAGE_BYTES: u64 = 400 * MIB;

const BATCH: usize = 500_000;

struct Member {
    network: Network,
    rpc: Connection,
    rest: String,
    poster: Arc<StoreKey>,
    ledger: Ledger,
    stored: u64,
}

impl Member {
    fn start(image: &Image, dir: &std::path::Path, min_free: &str) -> Self {
        let data = image.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
        let mut network = Network::open(dir, &plan).unwrap().with_node_options([
            format!("--data-availability.local-file-storage.data-dir={}", data.display()),
            format!("--data-availability.local-file-storage.min-free={min_free}"),
            "--data-availability.local-file-storage.segment-size=32MiB".to_owned(),
        ]);
        network.start(MEMBER).unwrap();
        let addresses = network.addresses(MEMBER).unwrap();
        let poster = std::fs::read_to_string(network.poster_key_file()).unwrap();
        let poster = Arc::new(StoreKey::from_hex(poster.trim()).unwrap());
        let rpc = Connection::new(&addresses.rpc).unwrap();
        Self { network, rpc, rest: addresses.rest, poster, ledger: Ledger::default(), stored: 0 }
    }

    /// Stores one more batch; the error's text if it is refused.
    fn store(&mut self) -> Result<(), String> {
        let recipe = Recipe { seed: self.stored, size: BATCH };
        let timeout = unix_now() + 3600;
        let body = store_body(&self.poster, &recipe.batch(), timeout);
        let answer = self.rpc.post_json(&[&body.json]).unwrap();
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        match json.pointer("/result/sig").and_then(Value::as_str) {
            Some(signature) => {
                self.stored += 1;
                let signature = const_hex::decode(signature).unwrap();
                self.ledger.promised(body.hash, Promise { recipe, timeout, signature });
                Ok(())
            }
            None => Err(json["error"]["message"].as_str().unwrap().to_owned()),
        }
    }

    fn store_until_refused(&mut self) -> String {
        // More than the image holds.
        let most = IMAGE_BYTES / BATCH as u64 + 100;
        (0..most).find_map(|_| self.store().err()).expect("the disk is full before that")
    }

    /// The words of `das_healthCheck`, if it cannot store.
    fn complaint(&mut self) -> Option<String> {
        let request = br#"{"jsonrpc":"2.0","id":1,"method":"das_healthCheck","params":[]}"#;
        let answer = self.rpc.post_json(&[request]).unwrap();
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        Some(json.pointer("/error/message")?.as_str().unwrap().to_owned())
    }

    /// What it found out about its disk is good for some seconds, so its health follows a little later.
    fn says_soon_that_it_can_store(&mut self, expected: bool) {
        let soon = (0..300).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            self.complaint().is_none() == expected
        });
        assert!(soon, "its health says: {:?}", self.complaint());
    }

    fn serves(&self) -> bool {
        Connection::new(&self.rest).unwrap().get("/health").unwrap().status == 200
    }

    fn everything_signed_is_served(&self, dir: &std::path::Path) {
        let key = read_public_key_file(&dir.join("member-1/keys/das_bls.pub")).unwrap();
        let all = self.ledger.promises_from(0);
        assert!(!all.is_empty());
        let broken = check(&self.rest, &key, &all);
        assert!(broken.is_empty(), "{} of {} promises broken: {broken:#?}", broken.len(), all.len());
    }
}

/// With a reserve the member stops in time; without one it meets the end of the disk itself.
fn a_full_disk(min_free: &str) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = Image::create(&dir.path().join("disk"), IMAGE_BYTES).unwrap();
    // What somebody else left on the disk: removing it makes room.
    let filler = image.path().join("filler");
    std::fs::write(&filler, vec![7; 100 * MIB as usize]).unwrap();
    let mut member = Member::start(&image, dir.path(), min_free);
    assert_eq!((member.complaint(), member.serves()), (None, true));

    let text = member.store_until_refused();
    assert!(text.contains("full") || text.contains("space"), "{text}");
    member.everything_signed_is_served(dir.path());
    member.says_soon_that_it_can_store(false);
    assert!(member.serves(), "reads go on");
    let status = Connection::new(&member.rest).unwrap().get("/status").unwrap().text();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_ne!(status["alarms"], serde_json::json!([]), "{status}");
    assert!(member.store().is_err(), "it was full a moment ago");

    std::fs::remove_file(&filler).unwrap();
    // The alarm may need a moment to see the room.
    let stores_again = (0..200).any(|_| {
        let stored = member.store().is_ok();
        if !stored {
            std::thread::sleep(Duration::from_millis(100));
        }
        stored
    });
    assert!(stores_again, "there is room and it does not store: {:?}", member.store());
    member.everything_signed_is_served(dir.path());
    member.says_soon_that_it_can_store(true);

    // And after a restart everything is still there.
    member.network.stop(MEMBER).unwrap();
    member.network.start(MEMBER).unwrap();
    member.everything_signed_is_served(dir.path());
    member.network.stop(MEMBER).unwrap();
    image.discard().unwrap();
}

#[test]
fn a_member_stops_storing_before_its_reserve_is_touched() {
    a_full_disk("64MiB");
}

#[test]
fn a_member_without_a_reserve_survives_the_end_of_the_disk() {
    a_full_disk("0");
}
