//! What the doctor says of a node's archive.

use std::fs;

use super::nodes::{assert_serves, batch, member, options, status, store};
use super::s3::{folder, until};
use crate::findings::{doctor, finds};

#[test]
fn an_archive_that_takes_nothing_is_named_with_what_waits_and_what_is_nowhere_else() {
    let (place, data) = (folder(), folder());
    let archive = place.path().join("archive");
    fs::create_dir(&archive).unwrap();
    let url = format!("--archive.url=file://{}", archive.display());
    let more =
        options(&[&url, "--archive.local-retention=1s", "--data-availability.local-cache.max-bytes=0"]);
    let mut server = member(data.path(), &more).start().unwrap();
    let of = |check: &str, verdict: &str| {
        format!("{} {check} {verdict}", server.rest_url().trim_start_matches("http://"))
    };
    let look = || doctor(&["--rest", &server.rest_url()]);
    let (good, found) = look();
    assert!(good, "{found:#?}");
    finds(&found, &of("archive", "good"), "was answered");
    finds(&found, &of("uploads", "good"), "none waits");

    let there: Vec<_> = (0..3).map(|number| batch(number, 5_000)).collect();
    there.iter().for_each(|batch| store(&server, batch));
    until("all are there only", || status(&server)["archive"]["onlyThereBatches"] == 3);
    let (good, found) = look();
    assert!(good, "{found:#?}");
    finds(&found, &of("only there", "good"), "3 batches (15000 bytes)");

    // Tests may run as root, whom no mode of a directory stops: a file is in its place, as where a disk is not mounted.
    let aside = place.path().join("aside");
    fs::rename(&archive, &aside).unwrap();
    fs::write(&archive, "no directory").unwrap();
    let waiting: Vec<_> = (10..12).map(|number| batch(number, 5_000)).collect();
    waiting.iter().for_each(|batch| store(&server, batch));
    until("the archive fails", || status(&server)["archive"]["lastError"].is_string());
    until("an upload has waited", || {
        status(&server)["archive"]["oldestWaitingSeconds"].as_u64().is_some_and(|seconds| seconds > 1)
    });
    let (good, found) = look();
    assert!(!good);
    finds(&found, &of("archive", "bad"), archive.to_str().unwrap());
    finds(&found, &of("archive", "bad"), "-> correct what the message names");
    finds(&found, &of("uploads", "bad"), "2 wait, the oldest for ");
    finds(&found, &of("uploads", "bad"), "-> bring the archive back");
    finds(
        &found,
        &of("only there", "bad"),
        "3 batches (15000 bytes) are in the archive and not on this node's disk",
    );
    finds(&found, &of("only there", "bad"), "-> bring the archive back; until then other members serve them");

    fs::remove_file(&archive).unwrap();
    fs::rename(&aside, &archive).unwrap();
    until("all are there only", || status(&server)["archive"]["onlyThereBatches"] == 5);
    until("all is well", || status(&server)["archive"]["lastError"].is_null());
    let (good, found) = look();
    assert!(good, "{found:#?}");
    finds(&found, &of("uploads", "good"), "none waits");
    finds(&found, &of("only there", "good"), "5 batches");
    there.iter().chain(&waiting).for_each(|batch| assert_serves(&server, batch));
    server.stop().unwrap();
}
