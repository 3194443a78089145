//! The explorer through its routes, over batches in a plain list.

mod documented;
mod fake;
mod paging;
mod safety;
mod verifying;

use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy_primitives::B256;
use das_common::data_hash::{DataHash, flat_hash};
use das_common::http::answers::{AnswerBudget, SMALL};
use das_common::sequencer_message::MIN_LIFETIME;

use super::{LinkTemplate, Links, MAX_QUESTIONS};
use crate::types::{Away, Content, Payload, Progress};
use fake::*;

fn numbers(list: &serde_json::Value) -> Vec<(u64, u64)> {
    let place =
        |batch: &serde_json::Value| (batch["era"].as_u64().unwrap(), batch["number"].as_u64().unwrap());
    list.as_array().unwrap().iter().map(place).collect()
}

fn hash_of(era: u32, number: u64) -> String {
    format!("0x{}", const_hex::encode(DataHash::of(&payload_of(era, number)).as_bytes()))
}

/// Era 1 is over and had batches 0 to 9, era 2 is in force and has 0 to 4.
fn after_a_reset() -> Site {
    let batches: Vec<_> =
        (0..10).map(|number| certified(1, number)).chain((0..5).map(|number| certified(2, number))).collect();
    let sources = Sources::with_keyset();
    for batch in &batches {
        sources.keep(&payload_of(batch.era, batch.number));
    }
    let shelf = Shelf {
        eras: vec![era(2, None), era(1, Some(START + 500))],
        progress: Progress { era: Some(2), batches: 5, ..Progress::default() },
        batches,
        ..Shelf::default()
    };
    Site::new(shelf, sources)
}

#[tokio::test]
async fn a_batch_is_found_by_number_hash_transaction_and_time_and_old_eras_stay() {
    let site = after_a_reset();
    let one = site.json("/api/batches/3").await;
    assert_eq!((one["era"].as_u64(), one["number"].as_u64()), (Some(2), Some(3)));
    assert_eq!(one["certificate"]["dataHash"], hash_of(2, 3));
    assert_eq!(one["certificate"]["signersMask"], "0x5");
    assert_eq!(one["payload"]["state"], "fetched");
    assert!(one.get("availability").is_none(), "asked without being asked to");
    let signers = one["certificate"]["signers"].as_array().unwrap();
    let signed: Vec<_> = signers.iter().map(|signer| signer["signed"].as_bool().unwrap()).collect();
    assert_eq!(signed, [true, false, true]);
    let keyset = const_hex::encode_prefixed(keyset().hash().as_bytes());
    assert_eq!(signers[1]["name"], format!("member 1 of keyset {}…", &keyset[..6]));

    assert_eq!(site.json("/api/batches/7?era=1").await["certificate"]["dataHash"], hash_of(1, 7));
    let missing = site.get("/api/batches/7").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["error"], "batch 7 is not known in era 2: the newest there is 4");
    assert_eq!(site.get("/api/batches/7?era=3").await.status, 404);

    let by_hash = site.json(&format!("/api/batches/by-hash/{}", hash_of(1, 8))).await;
    assert_eq!(numbers(&by_hash["batches"]), [(1, 8)]);
    assert_eq!(by_hash["more"], false);
    let transaction = one["transaction"].as_str().unwrap();
    let by_transaction = site.json(&format!("/api/batches/by-transaction/{transaction}")).await;
    assert_eq!(numbers(&by_transaction["batches"]), [(2, 3)]);
    for unknown in ["by-hash", "by-transaction"] {
        let path = format!("/api/batches/{unknown}/{}", B256::repeat_byte(9));
        assert_eq!(site.get(&path).await.status, 404, "{path}");
    }

    // Blocks are at START, +12, +24, ...: in between, the one before counts.
    for (time, number) in [(START + 35, 2), (START + 36, 3), (START + 100_000, 4)] {
        assert_eq!(site.json(&format!("/api/batches/at/{time}")).await["number"], number, "{time}");
    }
    assert_eq!(site.json("/api/batches/at/2026-09-21T14:14:00Z").await["number"], 3, "START is 14:13:20");
    assert_eq!(site.json("/api/batches/at/2026-09-21T16:14:00%2B02:00").await["number"], 3);
    assert_eq!(site.get("/api/batches/at/1").await.status, 404);

    let eras = site.json("/api/eras").await;
    let ids: Vec<_> =
        eras["eras"].as_array().unwrap().iter().map(|era| era["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [2, 1]);
    assert_eq!(site.json("/api/progress").await["era"], 2);
    let old = site.get("/?era=1").await.text();
    assert!(old.contains("This is era 1, which is over."), "{old}");
    assert!(old.contains("/batch/9?era=1"));
    let old = site.get("/batch/9?era=1").await.text();
    assert!(old.contains("/batch/9/verify?era=1") && old.contains("/batch/8?era=1"), "{old}");
}

#[tokio::test]
async fn a_search_tells_in_which_sense_something_was_found() {
    let site = after_a_reset();
    let by = |answer: &serde_json::Value| -> Vec<(String, u64, u64)> {
        let place = |found: &serde_json::Value| {
            let batch = &found["batch"];
            let number = |field: &str| batch[field].as_u64().unwrap();
            (found["by"].as_str().unwrap().to_owned(), number("era"), number("number"))
        };
        answer["matches"].as_array().unwrap().iter().map(place).collect()
    };
    let transaction = site.json("/api/batches/1?era=1").await["transaction"].as_str().unwrap().to_owned();
    let searches = [
        ("3", vec![("number", 2, 3), ("number", 1, 3)]),
        ("%209 ", vec![("number", 1, 9)]),
        (&*hash_of(1, 2), vec![("dataHash", 1, 2)]),
        (&*transaction, vec![("transaction", 1, 1)]),
        ("1790000024", vec![("time", 2, 2)]),
        ("2026-09-21T14:13:44Z", vec![("time", 2, 2)]),
        ("2026-09-21+14:13:44+UTC", vec![("time", 2, 2)]),
        ("2026-09-21+16:13:44%2B02:00", vec![("time", 2, 2)]),
        ("2026-09-21T16:13:44+02:00", vec![("time", 2, 2)]),
        ("2026-09-22", vec![("time", 2, 4)]),
        ("2020-01-01", vec![]),
        ("77", vec![]),
    ];
    for (text, expected) in searches {
        let path = format!("/api/search?q={}", text.trim_end());
        let expected: Vec<_> = expected.into_iter().map(|(by, era, n)| (by.to_owned(), era, n)).collect();
        assert_eq!(by(&site.json(&path).await), expected, "{text}");
        let page = site.get(&path.replace("/api", "")).await;
        match &*expected {
            [] => assert_eq!(page.status, 404, "{text}"),
            [(_, 2, number)] => assert_eq!(page.header("location"), format!("/batch/{number}"), "{text}"),
            [(_, era, number)] => {
                assert_eq!(page.header("location"), format!("/batch/{number}?era={era}"), "{text}");
            }
            _ => assert_eq!(page.status, 200, "{text}"),
        }
    }
}

#[tokio::test]
async fn a_payload_is_sent_only_with_the_hash_that_its_certificate_names() {
    let mut flat = certified(1, 3);
    let old = certificate(0, b"of version 0", START + 2 * MIN_LIFETIME);
    flat.content = Content::Certificate(old.to_bytes());
    let site = Site::of(vec![certified(1, 0), certified(1, 1), certified(1, 2), flat, plain(1, 4)]);
    let right = site.get("/api/batches/0/payload").await;
    assert_eq!((right.status.as_u16(), &*right.body), (200, &*payload_of(1, 0)));
    assert_eq!(right.header("content-disposition"), "attachment; filename=\"batch-1-0.bin\"");
    assert_eq!(right.header("content-type"), "application/octet-stream");
    assert_eq!(right.header("cache-control"), "no-store", "a number may come to name another batch");
    let pinned = site.get(&format!("/api/batches/0/payload?era=1&hash={}", hash_of(1, 0))).await;
    assert_eq!((pinned.status.as_u16(), &*pinned.body), (200, &*payload_of(1, 0)));
    assert!(pinned.header("cache-control").contains("immutable"));
    let other = site.get(&format!("/api/batches/0/payload?hash={}", hash_of(1, 1))).await;
    assert_eq!(other.status, 404, "{}", other.text());

    let hash: DataHash = hash_of(1, 1).parse().unwrap();
    site.sources.payloads.lock().insert(hash, "something else".into());
    let wrong = site.get(&format!("/api/batches/1/payload?hash={}", hash_of(1, 1))).await;
    assert_eq!((wrong.status.as_u16(), wrong.header("cache-control")), (502, "no-store"));
    assert!(wrong.json()["error"].as_str().unwrap().contains(&hash_of(1, 1)), "{}", wrong.text());
    site.sources.payloads.lock().remove(&hash);
    assert_eq!(site.get("/api/batches/1/payload").await.status, 404);
    assert_eq!(site.get("/api/batches/4/payload").await.status, 404, "no certificate");

    // Of version 0: under the tree form of the flat hash, or, at old servers, under that itself.
    for name in [DataHash::of_flat(flat_hash(b"of version 0")), old.data_hash] {
        site.sources.payloads.lock().clear();
        assert_eq!(site.get("/api/batches/3/payload").await.status, 404);
        site.sources.payloads.lock().insert(name, "of version 0".into());
        let found = site.get("/api/batches/3/payload").await;
        assert_eq!((found.status.as_u16(), &*found.body), (200, &b"of version 0"[..]));
    }
}

#[tokio::test]
async fn availability_is_asked_only_where_it_is_wanted_and_few_at_once() {
    let batches = (0..60).map(|number| certified(1, number)).collect();
    let mut sources = Sources::with_keyset();
    sources.slow = true;
    sources.keep(&payload_of(1, 59));
    let site = Site::new(Shelf::of(batches), sources);
    for path in ["/", "/api/batches", "/api/batches/59", "/api/search?q=59", "/api/batches/59/verify"] {
        assert_eq!(site.get(path).await.status, 200, "{path}");
    }
    assert_eq!(site.sources.asked.load(Ordering::SeqCst), 0);
    let page = site.get("/batch/59").await.text();
    assert!(page.contains("held here, whole"), "{page}");
    assert_eq!(site.sources.asked.load(Ordering::SeqCst), 1);

    let listing = site.json("/api/batches?availability=true").await;
    let states: Vec<_> =
        listing["batches"].as_array().unwrap().iter().map(|batch| &batch["availability"]["state"]).collect();
    assert_eq!(states.len(), 25);
    assert!(states[0] == "whole" && states[1..].iter().all(|state| *state == "notFound"), "{states:?}");
    let many = (0..20).map(|_| site.get("/api/batches?availability=true"));
    assert!(futures::future::join_all(many).await.iter().all(|answer| answer.status == 200));
    let most = site.sources.most.load(Ordering::SeqCst);
    assert!(most <= MAX_QUESTIONS, "{most} at once");
    assert_eq!(site.get("/api/batches?availability=true&limit=26").await.status, 400);
}

#[tokio::test]
async fn hashes_are_links_only_to_where_the_operator_says() {
    let page = |links| async move {
        let site = Site::with_links(Shelf::of(vec![certified(1, 0)]), Sources::with_keyset(), links);
        site.get("/batch/0").await.text() + &site.get("/").await.text()
    };
    assert!(!page(Links::default()).await.contains("://"), "names another site");
    let links = Links {
        transaction: Some("https://explorer.example/tx/{}?a=1&b=2".parse().unwrap()),
        block: Some("http://explorer.example/block/{}".parse().unwrap()),
    };
    let linked = page(links).await;
    let batch = certified(1, 0);
    let link = format!("href=\"https://explorer.example/tx/{}?a=1&amp;b=2\"", batch.transaction);
    assert_eq!(linked.matches(&link).count(), 2, "{linked}");
    assert!(linked.contains(&format!("href=\"http://explorer.example/block/{}\"", batch.block.hash)));
    for bad in
        ["", "https://a.example/", "https://a.example/{}/{}", "javascript:alert({})", "https://{}/", "/tx/{}"]
    {
        assert!(bad.parse::<LinkTemplate>().is_err(), "{bad}");
    }
}

#[tokio::test]
async fn before_the_first_block_was_read_pages_say_so() {
    let site = Site::new(Shelf::default(), Sources::default());
    assert!(site.get("/").await.text().contains("Nothing was read from the parent chain yet."));
    let empty = site.json("/api/batches").await;
    assert_eq!(empty, serde_json::json!({ "era": null, "batches": [], "next": null }));
    assert_eq!(site.get("/api/batches/0").await.status, 404);
    assert_eq!(site.get("/batch/0").await.status, 404);
    assert_eq!(site.get("/search?q=0").await.status, 404);
    assert_eq!(site.json("/api/eras").await, serde_json::json!({ "eras": [], "more": false }));
}

#[test]
fn every_content_has_its_shape() {
    let posted = [
        (Content::Data { header: Some(0x88), length: 5 }, r#"{"kind":"data","header":136,"length":5}"#),
        (Content::Data { header: None, length: 0 }, r#"{"kind":"data","header":null,"length":0}"#),
        (Content::Nothing, r#"{"kind":"nothing"}"#),
        (Content::Blobs, r#"{"kind":"blobs"}"#),
        (Content::Unreadable("why".into()), r#"{"kind":"unreadable","why":"why"}"#),
        (
            Content::Certificate(vec![0x88]),
            r#"{"kind":"certificate","bytes":"0x88","error":"a certificate with this header is 178 bytes long, not 1"}"#,
        ),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let waiting = || Payload::Waiting { attempts: 2, retry_at: 9, why: None };
    let batches: Vec<_> =
        (0..).zip(&posted).map(|(n, (content, _))| batch(1, n, content.clone(), waiting())).collect();
    let site = Site::new(Shelf::of(batches), Sources::with_keyset());
    for (number, (_, expected)) in posted.iter().enumerate() {
        let shape = runtime.block_on(site.json(&format!("/api/batches/{number}")));
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(shape["content"], expected);
        assert!(shape["certificate"].is_null());
        assert_eq!(
            shape["payload"],
            serde_json::json!({"state":"waiting","attempts":2,"retryAt":9,"why":null})
        );
        let page = runtime.block_on(site.get(&format!("/batch/{number}")));
        assert_eq!(page.status, 200);
    }
}

#[tokio::test]
async fn pages_warn_of_a_chain_that_is_away_or_was_reset() {
    let site = after_a_reset();
    let now = super::clock::now();
    let calm = site.get("/").await.text();
    assert!(!calm.contains("class=\"banner"), "the reset is long ago: {calm}");
    assert!(calm.contains("starting"), "no block was read yet");
    {
        let mut shelf = site.fake.0.lock();
        shelf.eras[0].began = now - 7200;
        shelf.progress.at = Some(shelf.batches[14].block);
        shelf.progress.head = Some(1_004 + 2);
    }
    let page = site.get("/").await.text();
    assert!(page.contains("The chain was reset") && page.contains("href=\"/?era=1\""), "{page}");
    assert!(page.contains("2 blocks behind the head"), "{page}");
    site.fake.0.lock().away = Some(Away { since: now - 60, why: "connection refused".into() });
    let page = site.get("/batch/3").await.text();
    assert!(
        page.contains("The parent chain cannot be read.") && page.contains("connection refused"),
        "{page}"
    );
    assert!(site.get("/").await.text().contains("chain away"));
    let progress = site.json("/api/progress").await;
    assert_eq!(progress["away"], serde_json::json!({ "since": now - 60, "why": "connection refused" }));
    assert_eq!((&progress["behind"], &progress["head"]), (&2.into(), &1_006.into()));
}

#[tokio::test]
async fn large_answers_share_a_bounded_memory() {
    // Of 200 batches, more than what counts as small.
    let site = Site::of((0..200).map(|number| certified(1, number)).collect());
    let kept: Vec<_> = futures::future::join_all((0..3).map(|_| site.get("/api/batches?limit=200"))).await;
    assert!(kept.iter().all(|answer| answer.status == 200 && answer.body.len() > 2 * SMALL));
    let room = Site::with_answers(site.shelf(), AnswerBudget::new(SMALL, Duration::ZERO));
    let first = room.open("/api/batches?limit=200").await;
    let refused = room.get("/api/batches?limit=200").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.json()["error"].is_string());
    assert_eq!(room.get("/api/batches?limit=2").await.status, 200);
    drop(first);
    assert_eq!(room.get("/api/batches?limit=200").await.status, 200);
}

#[tokio::test]
async fn who_never_answers_holds_nothing_up_for_ever() {
    let sources = Sources { silent: true, ..Sources::with_keyset() };
    let site = Site::new(Shelf::of(vec![certified(1, 0)]), sources);
    let (page, listing, batch) =
        tokio::join!(site.get("/batch/0"), site.get("/"), site.json("/api/batches/0?availability=true"));
    assert!(page.text().contains("cannot be told") && page.text().contains("cannot be had now"));
    assert_eq!(listing.status, 200);
    assert_eq!(batch["availability"]["state"], "unknown");
    assert!(batch["certificate"]["signers"].is_null() && batch["certificate"]["assumedHonest"].is_null());
}
