//! What is stored comes to the archive, whatever happens between; and a store waits for it only where it must.

use std::time::Instant;

use das_common::data_hash::DataHash;

use super::nodes::{alarms, assert_serves, batch, has_alarm, member, options, status, store, try_store};
use super::s3::{Mood, S3, folder, until};

#[test]
fn an_archive_has_every_batch_under_nitros_name_also_those_from_before() {
    let (s3, data) = (S3::start(), folder());
    let mut server = member(data.path(), &[]).start().unwrap();
    let before = batch(0, 1000);
    store(&server, &before);
    server.stop().unwrap();

    let mut server = member(data.path(), &s3.options("das/v1-")).start().unwrap();
    let batches: Vec<_> = (1..20).map(|number| batch(number, 1 + 7000 * number as usize)).collect();
    batches.iter().for_each(|batch| store(&server, batch));
    for batch in batches.iter().chain([&before]) {
        s3.wait_for("das/v1-", batch);
    }
    until("nothing waits", || status(&server)["archive"]["waitingForUpload"] == 0);
    assert_eq!(alarms(&server), []);
    server.stop().unwrap();
}

#[test]
fn a_kill_between_store_and_upload_delays_the_upload_only() {
    let (s3, data) = (S3::start(), folder());
    for (mood, number) in [(Mood::Hung, 1), (Mood::Down, 2), (Mood::Refusing, 3)] {
        s3.mood(mood);
        let mut server = member(data.path(), &s3.options("")).start().unwrap();
        let batches: Vec<_> = (0..10).map(|i| batch(100 * number + i, 50_000)).collect();
        batches.iter().for_each(|batch| store(&server, batch));
        batches.iter().for_each(|batch| assert_serves(&server, batch));
        server.kill().unwrap();
        assert!(!s3.file("", &DataHash::of(&batches[0])).exists());
        s3.mood(Mood::Well);
        let mut server = member(data.path(), &s3.options("")).start().unwrap();
        batches.iter().for_each(|batch| s3.wait_for("", batch));
        server.stop().unwrap();
    }
}

#[test]
fn an_archive_that_is_away_holds_up_nothing_says_so_and_is_made_up_for() {
    let (s3, data) = (S3::start(), folder());
    let more =
        [s3.options("x/"), options(&["--archive.alarm-after=1s", "--archive.read-timeout=1s"])].concat();
    let mut server = member(data.path(), &more).start().unwrap();
    store(&server, &batch(1, 100));
    s3.wait_for("x/", &batch(1, 100));
    for (mood, from) in [(Mood::Down, 10), (Mood::Refusing, 20), (Mood::Hung, 30)] {
        s3.mood(mood);
        let batches: Vec<_> = (from..from + 10).map(|number| batch(number, 20_000)).collect();
        batches.iter().for_each(|batch| store(&server, batch));
        batches.iter().for_each(|batch| assert_serves(&server, batch));
        until("uploads are behind", || has_alarm(&server, "DAS-ARCHIVE-003"));
        if mood != Mood::Hung {
            // One that hangs takes an upload's whole time limit to be known for that.
            until("the archive is away", || has_alarm(&server, "DAS-ARCHIVE-001"));
        }
        s3.mood(Mood::Well);
        if mood == Mood::Hung {
            server.stop().unwrap();
            server = member(data.path(), &more).start().unwrap();
        }
        batches.iter().for_each(|batch| s3.wait_for("x/", batch));
        until("all is well", || alarms(&server).is_empty());
    }
    server.stop().unwrap();
}

#[test]
fn where_the_archive_is_required_nothing_is_signed_for_that_is_not_there() {
    let (s3, data) = (S3::start(), folder());
    let more = [s3.options(""), options(&["--archive.required", "--archive.required-timeout=2s"])].concat();
    let mut server = member(data.path(), &more).start().unwrap();
    let first = batch(1, 30_000);
    store(&server, &first);
    assert_eq!(
        std::fs::read(s3.file("", &DataHash::of(&first))).unwrap(),
        first,
        "there before the signature"
    );
    let mut late = Vec::new();
    for (mood, number) in [(Mood::Refusing, 2), (Mood::Down, 3)] {
        s3.mood(mood);
        let one = batch(number, 30_000);
        let begun = Instant::now();
        let answer = try_store(&server, &one, 3600);
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains("was not in the archive within 2s") && said.contains("not signed"), "{said}");
        assert!(begun.elapsed().as_secs() < 60, "the store's own limit, not the archive's");
        // What is there already is signed for again.
        store(&server, &first);
        late.push(one);
    }
    s3.mood(Mood::Well);
    // What was not signed for is on disk all the same, and is signed for when asked again.
    for one in &late {
        assert_serves(&server, one);
        store(&server, one);
        assert_eq!(&std::fs::read(s3.file("", &DataHash::of(one))).unwrap(), one);
    }
    server.stop().unwrap();
}

#[test]
fn wrong_credentials_are_said_with_the_option_and_end_nothing() {
    let (s3, data) = (S3::start(), folder());
    let mut server = member(data.path(), &s3.options_with("batches", "wrong-secret", "")).start().unwrap();
    store(&server, &batch(1, 100));
    until("it is said", || has_alarm(&server, "DAS-ARCHIVE-002"));
    let (_, text) = alarms(&server).into_iter().find(|(code, _)| code == "DAS-ARCHIVE-002").unwrap();
    assert!(text.contains("--data-availability.s3-storage.bucket"), "{text}");
    let said = format!("{text}{}", server.output());
    assert!(!said.contains("wrong-secret"), "{said}");
    server.stop().unwrap();
    let mut server = member(data.path(), &s3.options("")).start().unwrap();
    s3.wait_for("", &batch(1, 100));
    until("all is well", || alarms(&server).is_empty());
    server.stop().unwrap();
}

#[test]
fn objects_go_when_their_batches_have_expired_and_only_then() {
    let (s3, data) = (S3::start(), folder());
    let more = [
        s3.options(""),
        options(&[
            "--data-availability.s3-storage.discard-after-timeout",
            "--data-availability.local-file-storage.enable-expiry",
            "--data-availability.local-file-storage.expiry-interval=1s",
        ]),
    ]
    .concat();
    let mut server = member(data.path(), &more).start().unwrap();
    let (stays, again) = (batch(1, 1000), batch(2, 1000));
    store(&server, &stays);
    // It is over since two hours, which is more than the hour of grace.
    let past = "0x1";
    let gone = batch(3, 1000);
    for one in [&gone, &again] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"das_store","params":["{}","{past}","0x"]}}"#,
            const_hex::encode_prefixed(one)
        );
        let mut connection = das_testnet::http::Connection::new(&server.rpc_url()).unwrap();
        assert_eq!(connection.post_json(&[body.as_bytes()]).unwrap().status, 200);
    }
    store(&server, &again);
    let expired = |batch: &[u8]| !s3.file("", &DataHash::of(batch)).exists();
    s3.wait_for("", &stays);
    until("it is known nowhere", || expired(&gone) && super::nodes::get(&server, &gone).status == 404);
    s3.wait_for("", &again);
    assert_serves(&server, &again);
    assert!(!expired(&stays) && !expired(&again));
    server.stop().unwrap();
}
