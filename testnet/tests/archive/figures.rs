//! Figures: what write-through costs stores, and what nodes without a disk serve. Run with `--ignored --no-capture`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use das_common::data_hash::DataHash;
use das_testnet::http::Connection;
use das_testnet::process::ServerProcess;

use super::nodes::{batch, member, options, reader, store};
use super::redis::{KEY, Redis};
use super::s3::{S3, folder};

const STORES: u32 = 600;
const LENGTH: usize = 100_000;
const READING: Duration = Duration::from_secs(10);

fn stores(what: &str, more: &[String]) {
    let data = folder();
    let mut server = member(data.path(), more).start().unwrap();
    for number in 0..50 {
        store(&server, &batch(10_000 + number, LENGTH));
    }
    let mut times: Vec<_> = (0..STORES)
        .map(|number| {
            let whole = batch(number, LENGTH);
            let begun = Instant::now();
            store(&server, &whole);
            begun.elapsed()
        })
        .collect();
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e3;
    println!("stores of {LENGTH} bytes, {what}: p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
    server.stop().unwrap();
}

fn reads(what: &str, node: &ServerProcess, batches: &[Vec<u8>]) {
    let (done, end) = (AtomicUsize::new(0), Instant::now() + READING);
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let (done, rest) = (&done, node.rest_url());
            scope.spawn(move || {
                let mut connection = Connection::new(&rest).unwrap();
                for batch in batches.iter().cycle().skip(reader * 37) {
                    if Instant::now() > end {
                        return;
                    }
                    let path = format!("/get-by-hash/{}", DataHash::of(batch));
                    assert_eq!(connection.get(&path).unwrap().status, 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let rate = done.into_inner() as f64 / READING.as_secs_f64();
    println!("reads of {LENGTH} bytes, {what}: {rate:.0} a second");
}

#[test]
#[ignore = "it measures, and takes a minute"]
fn figures() {
    let s3 = S3::start();
    stores("no archive", &[]);
    stores("write-through", &s3.options("a/"));
    stores("write-through, archive.required", &[s3.options("b/"), options(&["--archive.required"])].concat());
    stores("no archive", &[]);
    stores("write-through", &s3.options("c/"));

    let batches: Vec<_> = (0..300).map(|number| batch(number, LENGTH)).collect();
    batches.iter().for_each(|batch| s3.place("r/", &DataHash::of(batch), batch));
    let none = options(&["--data-availability.local-cache.max-bytes=0"]);
    let mut node = reader(&[s3.options("r/"), none.clone()].concat()).start().unwrap();
    reads("from the bucket", &node, &batches);
    node.stop().unwrap();
    let redis = Redis::start();
    let mut node = reader(&[s3.options("r/"), redis.options(KEY), none].concat()).start().unwrap();
    reads("with the shared cache, first", &node, &batches);
    reads("with the shared cache, filled", &node, &batches);
    node.stop().unwrap();
    let mut node = reader(&s3.options("r/")).start().unwrap();
    reads("from the bucket and 64 MiB of memory, which hold all", &node, &batches);
    node.stop().unwrap();
}
