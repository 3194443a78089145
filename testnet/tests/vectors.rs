//! Every recorded case, run against this implementation. `DAS_VECTORS` names another folder of vectors.
//!
//! A file has a runner here; a case that differs on purpose is named, with the reason, in its runner.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

#[path = "vectors/certificates.rs"]
mod certificates;
#[path = "vectors/cli.rs"]
mod cli;
#[path = "vectors/daprovider_transcripts.rs"]
mod daprovider_transcripts;
#[path = "vectors/hashes.rs"]
mod hashes;
#[path = "vectors/keys.rs"]
mod keys;
#[path = "vectors/on_disk.rs"]
mod on_disk;
#[path = "vectors/options.rs"]
mod options;
#[path = "vectors/recovery.rs"]
mod recovery;
#[path = "vectors/rest_transcripts.rs"]
mod rest_transcripts;
#[path = "vectors/rpc_transcripts.rs"]
mod rpc_transcripts;
#[path = "vectors/store_auth.rs"]
mod store_auth;

use das_testnet::vectors::{files, load, run};
use serde_json::Value;

type Check<'a> = Box<dyn FnMut(&Value) -> Result<(), String> + 'a>;

macro_rules! runners {
    ($($test:ident: $file:literal => |$content:ident| $check:expr;)+) => {
        const RUN: &[&str] = &[$($file),+];

        $(#[test]
        fn $test() {
            let $content = load($file);
            let check: Check<'_> = $check;
            run($file, &$content, check);
        })+
    };
}

runners! {
    data_hash: "data_hash.json" => |_content| Box::new(hashes::check);
    bls_keys: "bls_keys.json" => |_content| Box::new(keys::check_key);
    bls_sign: "bls_sign.json" => |_content| Box::new(keys::check_signature);
    keysets: "keysets.json" => |content| { let keys = keys::list(&content); Box::new(move |case| keys::check_keyset(&keys, case)) };
    certificates: "certificates.json" => |content| Box::new(|case| certificates::check(&content, case));
    store_auth: "store_auth.json" => |_content| Box::new(store_auth::check);
    recovery: "recovery.json" => |_content| Box::new(recovery::check);
    on_disk: "on_disk.json" => |_content| Box::new(on_disk::check);
    options: "options.json" => |_content| Box::new(options::check);
    rpc_transcripts: "rpc_transcripts.json" => |content| { let mut servers = rpc_transcripts::Servers::new(&content); Box::new(move |case| servers.check(case)) };
    rest_transcripts: "rest_transcripts.json" => |content| { let mut servers = rest_transcripts::Servers::new(&content); Box::new(move |case| servers.check(case)) };
    daprovider_transcripts: "daprovider_transcripts.json" => |content| { let mut servers = daprovider_transcripts::Servers::new(&content); Box::new(move |case| servers.check(case)) };
    cli: "cli.json" => |content| { let place = cli::Place::new(&content); Box::new(move |case| place.run(case)) };
}

#[test]
fn every_file_has_a_runner() {
    let files = files();
    let left: Vec<_> = files.iter().filter(|file| !RUN.contains(&file.as_str())).collect();
    assert!(left.is_empty(), "no runner for {left:?}");
    let missing: Vec<_> = RUN.iter().filter(|file| !files.iter().any(|f| f == *file)).collect();
    assert!(missing.is_empty(), "files that are not there: {missing:?}");
}
