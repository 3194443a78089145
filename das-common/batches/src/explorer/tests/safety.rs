//! What strangers can do to the explorer, and to those who look at its pages.

use rand::Rng as _;

use super::fake::*;
use super::hash_of;
use crate::types::{Away, Content, Payload, Progress};

const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=y>&amp;";

#[tokio::test]
async fn what_comes_from_outside_is_never_markup() {
    let mut sources = Sources::with_keyset();
    let key = secrets()[1].public_key().point_bytes().to_vec();
    sources.names = vec![(key, HOSTILE.into())];
    sources.payloads_away = true;
    let mut ignored = certified(1, 1);
    ignored.payload = Payload::Ignored { why: HOSTILE.into() };
    let mut waiting = certified(1, 2);
    waiting.payload = Payload::Waiting { attempts: 3, retry_at: 0, why: Some(HOSTILE.into()) };
    let unreadable = batch(1, 3, Content::Unreadable(HOSTILE.into()), Payload::None);
    let mut shelf = Shelf::of(vec![certified(1, 0), ignored, waiting, unreadable]);
    shelf.away = Some(Away { since: START, why: HOSTILE.into() });
    let site = Site::new(shelf, sources);
    let encoded: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    let paths = [
        "/".to_owned(),
        "/batch/1".into(),
        "/batch/2".into(),
        "/batch/3".into(),
        "/batch/0/verify".into(),
        format!("/search?q={encoded}"),
        format!("/?before={encoded}"),
        format!("/?{encoded}=1"),
        format!("/batch/{}", encoded.replace('+', "%20")),
        format!("/{}", encoded.replace('+', "%20")),
    ];
    for path in paths {
        let answer = site.get(&path).await;
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{path}");
        let page = answer.text();
        for raw in ["<script", "<img", "onerror=y>", "'>\"", "javascript:"] {
            assert!(!page.to_lowercase().contains(raw), "{path} has {raw}: {page}");
        }
        // The quote of the hostile string would end an attribute.
        assert!(!page.contains("\"'"), "{path}: {page}");
    }
    let listed = site.get("/batch/1").await.text();
    assert!(listed.matches("&lt;script&gt;").count() >= 3, "name, reason and banner are shown: {listed}");
    assert!(listed.contains("&amp;amp;"), "shown as it is: {listed}");
}

#[tokio::test]
async fn every_answer_has_its_headers_and_pages_load_nothing() {
    let site = Site::of(vec![certified(1, 0)]);
    let pinned = format!("/api/batches/0/payload?hash={}", hash_of(1, 0));
    let paths = [
        "/",
        "/batch/0",
        "/batch/0/verify",
        "/search?q=9",
        "/nothing",
        "/api/batches",
        "/api/nothing",
        &pinned,
    ];
    for path in paths {
        let answer = site.get(path).await;
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'sha256-"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let cached = if path == pinned { "public, max-age=31536000, immutable" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), cached, "{path}");
        if answer.header("content-type").starts_with("text/html") {
            let page = answer.text();
            for outside in ["://", "src=", "<link", "@import", "url("] {
                assert!(!page.contains(outside), "{path} has {outside}");
            }
            assert!(
                page.contains("<label") && page.contains("<html lang=\"en\">") && page.contains("<h1>"),
                "{path}"
            );
        }
        let head = site.send("HEAD", path).await;
        assert_eq!((head.status, head.body.len()), (answer.status, 0), "{path}");
    }
    // The policy lets exactly this stylesheet through.
    let page = site.get("/").await.text();
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert_eq!(style, crate::explorer::pages::STYLE);
    for method in ["POST", "PUT", "DELETE"] {
        for path in ["/", "/batch/0", "/api/batches"] {
            let answer = site.send(method, path).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("allow")),
                (405, "GET, HEAD"),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_bad_parameter_is_refused_by_name_limit_and_value() {
    let site = Site::of(vec![certified(1, 0), plain(1, 1)]);
    let long = "9".repeat(129);
    let refusals = [
        ("/api/batches?limit=0", "limit must be a whole number from 1 to 200, not \"0\""),
        ("/api/batches?limit=201", "limit must be a whole number from 1 to 200, not \"201\""),
        ("/api/batches?limit=-1", "limit must be a whole number from 1 to 200, not \"-1\""),
        ("/api/batches?limit=+1x", "not \"1x\""),
        ("/api/batches?limit=26&availability=true", "from 1 to 25, not \"26\""),
        ("/api/batches?availability=yes", "availability must be true or false, not \"yes\""),
        ("/api/batches?era=4294967296", "era must be a whole number from 0 to 4294967295"),
        ("/api/batches?era=one", "not \"one\""),
        ("/api/batches?before=-5", "before must be a batch number, or ERA.NUMBER"),
        ("/api/batches?before=1.2.3", "not \"1.2.3\""),
        ("/api/batches?before=1.18446744073709551616", "not \"1.18446744073709551616\""),
        ("/api/batches?before=1.", "not \"1.\""),
        ("/api/batches?before=2.5&era=1", "before is of era 2, but era is 1"),
        ("/api/batches?since=yesterday", "since must be unix seconds or a time"),
        ("/api/batches?until=1969-12-31", "until must be unix seconds or a time"),
        ("/api/batches?since=2&until=1", "since (2) must not be after until (1)"),
        ("/api/batches?limit=1&limit=2", "limit is given twice"),
        ("/api/batches?page=2", "there is no parameter \"page\" here, only era, before, limit, since, until"),
        ("/api/batches/x", "number must be a whole number from 0 to 18446744073709551615, not \"x\""),
        ("/api/batches/18446744073709551616", "not \"18446744073709551616\""),
        ("/api/batches/%ff", "number is no text"),
        ("/api/batches/0?q=1", "there is no parameter \"q\" here, only era, availability"),
        ("/api/batches/by-hash/0x12", "hash must be 64 hex digits with 0x, not \"0x12\""),
        ("/api/batches/by-transaction/zz", "not \"zz\""),
        ("/api/batches/at/noon", "time must be unix seconds or a time"),
        ("/api/batches/0/payload?hash=0", "hash must be 64 hex digits"),
        ("/api/batches/-1/verify", "not \"-1\""),
        ("/api/eras?era=1", "there is no parameter \"era\" here, only limit"),
        ("/api/progress?x", "there is no parameter \"x\""),
        ("/api/search", "q is missing"),
        ("/api/search?q=%20", "q is missing"),
        ("/api/search?q=what", "q must be a batch number, a hash of 64 hex digits with 0x, or a time"),
    ];
    for (path, expected) in refusals {
        let answer = site.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (400, "application/json"),
            "{path}"
        );
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(expected), "{path}: {error}");
    }
    let tired = site.get(&format!("/api/search?q={long}")).await;
    assert_eq!(tired.json()["error"], "q is 129 characters long; at most 128 are taken");
    for path in
        ["/?era=x", "/?before=x", "/?limit=5", "/batch/x", "/batch/0/verify?a=b", "/search", "/search?q=x"]
    {
        let answer = site.get(path).await;
        let kind = answer.header("content-type");
        assert_eq!((answer.status.as_u16(), kind), (400, "text/html; charset=utf-8"), "{path}");
    }
    let missing = [
        "/x",
        "/batch/2",
        "/?era=9",
        "/batch/0?era=9",
        "/batch/1/verify",
        "/batch/18446744073709551615",
        "/search?q=8",
        "/favicon.ico",
    ];
    for path in missing {
        let answer = site.get(path).await;
        let kind = answer.header("content-type");
        assert_eq!((answer.status.as_u16(), kind), (404, "text/html; charset=utf-8"), "{path}");
    }
    assert_eq!(site.get("/api/batches/1/verify").await.status, 404);
    assert_eq!(site.get("/?era=&before=").await.status, 200, "an empty field of a form was left out");
    site.fake.0.lock().broken = true;
    let failed = site.get("/api/batches").await;
    assert_eq!(failed.status, 500);
    assert!(!failed.text().contains("/secret/place"), "{}", failed.text());
}

#[tokio::test]
async fn no_request_makes_it_fail() {
    let mut rng = seeded();
    let mut extreme = certified(1, 1);
    extreme.number = u64::MAX;
    extreme.timestamp = u64::MAX;
    extreme.bounds.max_timestamp = u64::MAX;
    extreme.payload = Payload::Waiting { attempts: u32::MAX, retry_at: u64::MAX, why: None };
    let mut shelf = Shelf::of(vec![certified(1, 0), extreme]);
    shelf.progress =
        Progress { head: Some(0), at: Some(shelf.batches[1].block), batches: u64::MAX, ..shelf.progress };
    let site = Site::new(shelf, Sources::with_keyset());
    let routes = [
        "/",
        "/batch/",
        "/batch/0/verify",
        "/search",
        "/api/batches",
        "/api/batches/",
        "/api/batches/0/payload",
        "/api/batches/by-hash/",
        "/api/batches/by-transaction/",
        "/api/batches/at/",
        "/api/search",
        "/api/eras",
    ];
    let words = [
        "0",
        "1",
        "18446744073709551615",
        "4294967295",
        "1.18446744073709551615",
        "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "2026-02-30",
        "-",
        ".",
        "%00",
        "%ff",
        "\u{fffd}",
        "true",
        "253402300800",
        "",
        "9223372036854775808",
        "2026-11-23 10:00:00 01:00",
    ];
    let fields = ["era", "before", "limit", "since", "until", "availability", "hash", "q", ""];
    for _ in 0..3000 {
        let mut path = routes[rng.random_range(0..routes.len())].to_owned();
        let mut word = || {
            let word = words[rng.random_range(0..words.len())];
            let word = word.replace(' ', "+").replace('\u{fffd}', "%EF%BF%BD");
            match rng.random_bool(0.3) {
                true => format!("%{:02x}{word}", rng.random::<u8>()),
                false => word,
            }
        };
        if path.ends_with('/') && path.len() > 1 {
            path += &word();
        }
        let values = [word(), word()];
        for (value, mark) in values.iter().zip(['?', '&']) {
            if rng.random_bool(0.7) {
                let mark = if path.contains('?') { '&' } else { mark.min('?') };
                path += &format!("{mark}{}={value}", fields[rng.random_range(0..fields.len())]);
            }
        }
        let answer = site.get(&path).await;
        assert!(
            [200, 303, 400, 404].contains(&answer.status.as_u16()),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        if path.starts_with("/api/") && answer.status != 200 {
            assert!(answer.json()["error"].is_string(), "{path}");
        }
    }
    for path in [
        "/",
        "/batch/18446744073709551615",
        "/batch/18446744073709551615/verify",
        "/?before=18446744073709551615",
    ] {
        assert_eq!(site.get(path).await.status, 200, "{path}");
    }
}
