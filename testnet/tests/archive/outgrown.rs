//! A member that keeps payloads in the archive, and on its disk only what was stored a moment ago.

use das_common::data_hash::DataHash;

use super::nodes::{alarms, assert_serves, batch, get, has_alarm, member, options, status, store};
use super::s3::{Mood, S3, disk_bytes, folder, until};

fn small(s3: &S3) -> Vec<String> {
    let own = options(&[
        "--archive.local-retention=1s",
        "--archive.read-timeout=2s",
        "--archive.alarm-after=1s",
        "--data-availability.local-cache.max-bytes=0",
        "--data-availability.local-file-storage.segment-size=32MiB",
    ]);
    [s3.options("m1/"), own].concat()
}

#[test]
fn payloads_leave_the_disk_when_they_were_read_back_and_everything_is_served() {
    let (s3, data) = (S3::start(), folder());
    let mut server = member(data.path(), &small(&s3)).start().unwrap();
    let batches: Vec<_> = (0..100).map(|number| batch(number, 500_000)).collect();
    batches.iter().for_each(|batch| store(&server, batch));
    until("all are there only", || status(&server)["archive"]["onlyThereBatches"] == 100);
    // 50 MB were stored; segments are given back when their last record has gone.
    let segments = data.path().join("segments");
    until("the disk is free", || disk_bytes(&segments) < 36 << 20);
    batches.iter().for_each(|batch| assert_serves(&server, batch));

    // A kill changes nothing, and what is stored again is here again, until it leaves again.
    server.kill().unwrap();
    let mut server = member(data.path(), &small(&s3)).start().unwrap();
    batches.iter().for_each(|batch| assert_serves(&server, batch));
    s3.mood(Mood::Down);
    assert_eq!(get(&server, &batches[0]).status, 503, "not 404: it is known");
    store(&server, &batches[0]);
    assert_serves(&server, &batches[0]);
    assert_eq!(status(&server)["archive"]["onlyThereBatches"], 99);
    until("the archive is away", || has_alarm(&server, "DAS-ARCHIVE-001"));
    s3.mood(Mood::Well);
    until("it leaves again", || status(&server)["archive"]["onlyThereBatches"] == 100);
    assert_serves(&server, &batches[0]);
    server.stop().unwrap();

    // Without the archive, or with another one, this member must not start as if nothing were missing.
    let (ended, said) = member(data.path(), &[]).run_to_end(std::time::Duration::from_secs(60)).unwrap();
    assert!(
        !ended.success()
            && said.contains("DAS-ARCHIVE-007")
            && said.contains("100 batches are in s3://batches/m1/"),
        "{said}"
    );
    let (ended, said) =
        member(data.path(), &s3.options("m2/")).run_to_end(std::time::Duration::from_secs(60)).unwrap();
    assert!(!ended.success() && said.contains("--archive.accept-move"), "{said}");
}

#[test]
fn what_the_archive_changed_or_lost_does_not_leave_and_is_brought_there_again() {
    let (s3, data) = (S3::start(), folder());
    let whole = batch(1, 40_000);
    let hash = DataHash::of(&whole);
    let long = [s3.options("m1/"), options(&["--data-availability.local-cache.max-bytes=0"])].concat();
    let mut server = member(data.path(), &long).start().unwrap();
    store(&server, &whole);
    s3.wait_for("m1/", &whole);
    until("nothing waits", || status(&server)["archive"]["waitingForUpload"] == 0);
    server.stop().unwrap();

    s3.place("m1/", &hash, b"something else");
    let mut server = member(data.path(), &small(&s3)).start().unwrap();
    s3.wait_for("m1/", &whole);
    until("it left after that", || status(&server)["archive"]["onlyThereBatches"] == 1);
    assert_serves(&server, &whole);

    // Now it is nowhere else: what is wrong is not served, and what is lost is not said never to have been.
    s3.place("m1/", &hash, &whole[1..]);
    assert_eq!(get(&server, &whole).status, 503);
    until("it is said", || has_alarm(&server, "DAS-ARCHIVE-004"));
    std::fs::remove_file(s3.file("m1/", &hash)).unwrap();
    assert_eq!(get(&server, &whole).status, 503);
    until("it is said", || has_alarm(&server, "DAS-ARCHIVE-005"));
    assert!(alarms(&server).iter().all(|(_, text)| text.contains(&hash.to_string())));
    s3.place("m1/", &hash, &whole);
    assert_serves(&server, &whole);
    until("all is well", || alarms(&server).is_empty());
    server.stop().unwrap();
}

#[test]
fn what_the_archive_lost_comes_back_from_another_server() {
    let (s3, data, other_data) = (S3::start(), folder(), folder());
    let whole = batch(1, 40_000);
    let mut other = member(other_data.path(), &[]).start().unwrap();
    store(&other, &whole);
    let urls = format!("--data-availability.rest-aggregator.urls={}", other.rest_url());
    let more = [small(&s3), options(&["--data-availability.rest-aggregator.enable", &urls])].concat();
    let mut server = member(data.path(), &more).start().unwrap();
    store(&server, &whole);
    until("it is there only", || status(&server)["archive"]["onlyThereBatches"] == 1);
    std::fs::remove_file(s3.file("m1/", &DataHash::of(&whole))).unwrap();
    assert_serves(&server, &whole);
    s3.wait_for("m1/", &whole);
    other.stop().unwrap();
    until("it left again", || status(&server)["archive"]["onlyThereBatches"] == 1);
    assert_serves(&server, &whole);
    server.stop().unwrap();
}
