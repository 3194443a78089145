//! The shared cache: a Redis that several nodes read from.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use das_common::data_hash::DataHash;

use super::nodes::{
    alarms, assert_is, assert_serves, batch, get, get_at, has_alarm, member, options, reader, store, store_at,
};
use super::redis::{KEY, Redis};
use super::s3::{Mood, S3, folder, until};

fn no_memory(more: Vec<String>) -> Vec<String> {
    [more, options(&["--data-availability.local-cache.max-bytes=0", "--archive.read-timeout=2s"])].concat()
}

#[test]
fn what_one_node_read_or_stored_the_next_finds_and_what_was_tampered_with_nobody_uses() {
    let (s3, redis, data) = (S3::start(), Redis::start(), folder());
    let both = no_memory([s3.options(""), redis.options(KEY)].concat());
    let mut server = member(data.path(), &both).start().unwrap();
    let (stored, read) = (batch(1, 80_000), batch(2, 90_000));
    store(&server, &stored);
    s3.place("", &DataHash::of(&read), &read);
    let mut first = reader(&both).start().unwrap();
    assert_serves(&first, &read);
    let entry = |batch: &[u8]| redis.command(&[b"GET", DataHash::of(batch).as_bytes()]);
    // Nitro's form: the batch, then 32 bytes of tag, under the 32 bytes of the hash.
    for batch in [&stored, &read] {
        until("it is in the cache", || entry(batch).is_some());
        let found = entry(batch).unwrap();
        assert_eq!((&found[..batch.len()], found.len()), (&batch[..], batch.len() + 32));
    }
    server.stop().unwrap();
    s3.mood(Mood::Down);
    let mut second = reader(&both).start().unwrap();
    assert_serves(&second, &stored);
    assert_serves(&second, &read);

    // A flipped bit; the entry of another batch, whose tag is right; and what is no entry at all.
    let (good, other) = (entry(&read).unwrap(), entry(&stored).unwrap());
    let mut flipped = good.clone();
    flipped[1000] ^= 1;
    for wrong in [&flipped[..], &other, b"short", b""] {
        redis.command(&[b"SET", DataHash::of(&read).as_bytes(), wrong]);
        assert_ne!(get(&second, &read).status, 200);
    }
    until("somebody is told", || has_alarm(&second, "DAS-CACHE-002"));
    redis.command(&[b"SET", DataHash::of(&read).as_bytes(), &good]);
    assert_serves(&second, &read);

    // A node with another key neither uses these entries nor breaks anything.
    let stranger = no_memory([s3.options(""), redis.options(&"7".repeat(64))].concat());
    let mut stranger = reader(&stranger).start().unwrap();
    assert_ne!(get(&stranger, &read).status, 200);
    s3.mood(Mood::Well);
    until("it is read from the archive", || get(&stranger, &read).status == 200);
    assert_serves(&first, &read);
    for node in [&mut first, &mut second, &mut stranger] {
        node.stop().unwrap();
    }
}

#[test]
fn a_redis_that_is_killed_or_hangs_in_mid_traffic_costs_hits_only() {
    let (s3, mut redis, data) = (S3::start(), Redis::start(), folder());
    let both = no_memory([s3.options(""), redis.options(KEY)].concat());
    let mut server = member(data.path(), &both).start().unwrap();
    let mut node = reader(&both).start().unwrap();
    let batches: Vec<_> = (0..20).map(|number| batch(number, 50_000)).collect();
    for batch in &batches {
        store(&server, batch);
        s3.wait_for("", batch);
    }
    let ending = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = |what: &'static str| {
            let (ending, batches, rpc, rest) = (&ending, &batches, server.rpc_url(), node.rest_url());
            scope.spawn(move || {
                let mut done = 0;
                while !ending.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    match what {
                        "reads" => {
                            let batch = &batches[done % batches.len()];
                            assert_is(&get_at(&rest, &DataHash::of(batch)), batch);
                        }
                        _ => {
                            let answer =
                                store_at(&rpc, &batch(u32::try_from(100 + done).unwrap(), 5_000), 3600);
                            assert!(answer["result"]["sig"].is_string(), "{answer}");
                        }
                    }
                    assert!(begun.elapsed() < Duration::from_secs(30), "{what} went on");
                    done += 1;
                }
                done
            })
        };
        let workers = [worker("reads"), worker("stores")];
        redis.hang(true);
        until("the hanging is noticed", || has_alarm(&node, "DAS-CACHE-001"));
        redis.hang(false);
        until("and that it is over", || alarms(&node).is_empty() && alarms(&server).is_empty());
        redis.end();
        until("the killing is noticed", || {
            has_alarm(&node, "DAS-CACHE-001") && has_alarm(&server, "DAS-CACHE-001")
        });
        redis.begin();
        until("and that it is back", || alarms(&node).is_empty() && alarms(&server).is_empty());
        ending.store(true, Ordering::Relaxed);
        for worker in workers {
            assert!(worker.join().unwrap() > 0);
        }
    });
    let fresh = batch(5000, 1000);
    store(&server, &fresh);
    until("stores go there again", || redis.command(&[b"GET", DataHash::of(&fresh).as_bytes()]).is_some());
    server.stop().unwrap();
    node.stop().unwrap();
}

#[test]
fn the_password_is_in_no_text_and_a_wrong_one_stops_nothing() {
    let (redis, data) = (Redis::start(), folder());
    let wrong: Vec<_> =
        redis.options(KEY).into_iter().map(|option| option.replace("a-password", "not-that-one")).collect();
    let mut server = member(data.path(), &wrong).start().unwrap();
    store(&server, &batch(1, 100));
    until("it is said", || has_alarm(&server, "DAS-CACHE-001"));
    let said = format!("{:?}{}", alarms(&server), server.output());
    assert!(!said.contains("not-that-one") && !said.contains("0001020304"), "{said}");
    assert_serves(&server, &batch(1, 100));
    server.stop().unwrap();
}
