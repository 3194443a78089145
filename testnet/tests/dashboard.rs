//! The pages in a real browser, over a live committee: what an operator sees when a member dies and comes back, on a
//! wide screen and on a phone, in light and dark, with the keyboard alone, and as a screen reader is told.
//!
//! `DAS_SHOTS=DIR` keeps the pictures (those of the docs are made so).

// Helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use das_common::store_auth::StoreKey;
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{store_body, unix_now};
use das_testnet::network::{Network, Plan, Who};
use serde_json::{Value, json};

/// A browser with one page, driven by `testnet/browser/browser.mjs`.
struct Browser {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    fn open(url: &str, folder: &Path) -> Self {
        let parts = std::env::var("DAS_BROWSER_DIR").unwrap_or_else(|_| {
            let home = std::env::var("HOME").unwrap_or_default();
            format!("{home}/.cache/das/browser")
        });
        let driver = Path::new(&parts).join("node_modules/playwright-core");
        assert!(driver.exists(), "{} is missing: scripts/test installs it", driver.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/browser.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .arg(url)
            .arg(folder)
            .env("DAS_BROWSER_DIR", &parts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is needed (Debian: nodejs); scripts/test installs it");
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut browser = Self { process, orders, answers };
        assert_eq!(browser.answer(), json!("ready"), "chromium is needed (Debian: chromium)");
        browser
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the browser said {line:?}"));
        assert!(answer.get("error").is_none(), "{answer}");
        answer["ok"].clone()
    }

    /// Gives an order; see the script.
    fn order(&mut self, order: &Value) -> Value {
        writeln!(self.orders, "{order}").unwrap();
        self.answer()
    }

    /// Nothing was said on the console, nothing thrown, and nobody else asked for anything.
    fn assert_quiet(&mut self) {
        assert_eq!(self.order(&json!(["faults"])), json!({ "faults": [], "foreign": [] }));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = writeln!(self.orders, "[\"end\"]");
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where pictures go.
fn shots(dir: &Path) -> PathBuf {
    std::env::var_os("DAS_SHOTS").map_or_else(|| dir.to_owned(), PathBuf::from)
}

/// Stores small batches until told to stop, so that there is something to see.
struct Poster {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Poster {
    fn start(network: &Network) -> Self {
        let rpc = network.addresses(Who::Aggregator).unwrap().rpc;
        let key = std::fs::read_to_string(network.poster_key_file()).unwrap();
        let key = StoreKey::from_hex(key.trim()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut n, mut connection) = (0_u64, Connection::new(&rpc).unwrap());
            while !told.load(Ordering::Relaxed) {
                let batch = [&n.to_be_bytes()[..], &vec![7; 20_000 + (n as usize * 7919) % 60_000]].concat();
                let body = store_body(&key, &batch, unix_now() + 86_400);
                let answer = connection.post_json(&[&body.json]).unwrap();
                let answer: Value = serde_json::from_slice(&answer.body).unwrap();
                assert!(answer.get("result").is_some(), "{answer}");
                n += 1;
                std::thread::sleep(Duration::from_millis(150));
            }
            n
        });
        Self { stop, thread: Some(thread) }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

fn network(dir: &Path) -> Network {
    let plan = Plan { members: 4, honest: 3, shards: 2, base_port: 0 };
    let mut network = Network::open(dir, &plan).unwrap().with_aggregator_options([
        "--canary.enable",
        "--canary.interval",
        "2s",
        "--canary.retention",
        "10m",
    ]);
    network.start_all(|_, _| ()).unwrap();
    network
}

#[test]
fn the_committees_page_shows_a_member_die_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = network(dir.path());
    let poster = Poster::start(&network);
    let url = network.addresses(Who::Aggregator).unwrap().dashboard;
    let mut browser = Browser::open(&url, &shots(dir.path()));
    browser.order(&json!(["goto", "/"]));
    browser.order(&json!(["wait", "#live", "^Live"]));
    browser.order(&json!(["wait", "#members tbody tr", "member-1[^]*up[^]*good[^]*ms"]));
    browser.order(&json!(["wait", "#certificates tbody tr", "0x"]));
    browser.order(&json!(["wait", "#tiles .tile.good", "4 of 4"]));
    browser.order(&json!(["wait", "#alarms", "No alarms"]));
    // Graphs have their first points.
    browser.order(&json!(["wait", "#graphs figure", "Batches certified per minute[^]*[1-9]"]));
    browser.order(&json!(["shot", "committee-light"]));

    // A member is killed: the page says so by itself, and the alarm says what to do.
    network.kill(Who::Member(1)).unwrap();
    let took = browser.order(&json!(["wait", "#members tbody tr:nth-child(2)", "down"])).as_u64().unwrap();
    println!("a killed member was on the page after {took} ms");
    browser.order(&json!(["wait", "#alarms li", "member-2[^]*To do"]));
    browser.order(&json!(["wait", "#tiles .tile.waits", "3 of 4"]));
    browser.order(&json!(["wait", "#alarms li", "DAS-CANARY-002"]));
    browser.order(&json!(["scheme", "dark"]));
    browser.order(&json!(["shot", "committee-dark"]));
    browser.order(&json!(["scheme", "light"]));
    let title = browser.order(&json!(["title"]));
    assert!(title.as_str().unwrap().starts_with('('), "alarms are counted in the tab: {title}");

    // It comes back.
    network.start(Who::Member(1)).unwrap();
    browser.order(&json!(["wait", "#members tbody tr:nth-child(2)", "up"]));
    browser.order(&json!(["wait", "#alarms", "No alarms"]));
    browser.order(&json!(["wait", "#tiles .tile.good", "4 of 4"]));

    // A phone: nothing is wider than the screen.
    browser.order(&json!(["size", 390, 844]));
    browser.order(&json!(["wait", "#members tbody tr", "member-4"]));
    assert!(browser.order(&json!(["overflow"])).as_i64().unwrap() <= 0, "the page is wider than a phone");
    browser.order(&json!(["shot", "committee-phone"]));
    browser.order(&json!(["size", 1280, 900]));

    // With the keyboard: the first stop leads to the contents, all stops can be seen, and ranges are links.
    browser.order(&json!(["goto", "/"]));
    browser.order(&json!(["wait", "#live", "^Live"]));
    browser.order(&json!(["keys", "Tab"]));
    let first = browser.order(&json!(["focus"]));
    assert_eq!((&first["text"], &first["seen"]), (&json!("To the contents"), &json!(true)), "{first}");
    let mut stops = Vec::new();
    loop {
        browser.order(&json!(["keys", "Tab"]));
        let stop = browser.order(&json!(["focus"]));
        // After the last stop comes the browser itself.
        if stop["name"] == "body" {
            break;
        }
        assert_eq!(stop["seen"], json!(true), "{stop}");
        stops.push(stop["text"].as_str().unwrap().to_owned());
    }
    assert!((4..20).contains(&stops.len()) && stops.iter().any(|text| text == "week"), "{stops:?}");
    // What a screen reader is told.
    let tree = browser.order(&json!(["tree"])).as_str().unwrap().to_owned();
    for part in [
        "heading \"Committee\" [level=1]",
        "heading \"Members\" [level=2]",
        "rowheader \"member-3\"",
        "columnheader \"Canary\"",
        "img \"Batches certified per minute over the last hour",
    ] {
        assert!(tree.contains(part), "{part} is missing in {tree}");
    }

    // The day's graphs, and the JSON that says all of it.
    browser.order(&json!(["goto", "/?range=day"]));
    browser.order(&json!(["wait", "#graphs figure", "Members that are well"]));
    let mut connection = Connection::new(&url).unwrap();
    let status: Value = serde_json::from_slice(&connection.get("/status").unwrap().body).unwrap();
    for (pointer, wanted) in [
        ("/committee/healthyMembers", json!(4)),
        ("/members/1/state", json!("up")),
        ("/members/1/says/custody/missing", json!(0)),
        ("/canary/members/3/name", json!("member-4")),
        ("/canary/error", Value::Null),
    ] {
        assert_eq!(status.pointer(pointer), Some(&wanted), "{pointer} in {status:#}");
    }
    assert!(status["certificates"].as_array().unwrap().len() > 3, "{status:#}");
    let stored = poster.end();
    browser.assert_quiet();

    // What the graphs show survives a restart; the page says meanwhile that it hears nothing.
    browser.order(&json!(["goto", "/"]));
    browser.order(&json!(["wait", "#live", "^Live"]));
    network.stop(Who::Aggregator).unwrap();
    browser.order(&json!(["wait", "#live.stale", "No news"]));
    network.start(Who::Aggregator).unwrap();
    browser.order(&json!(["wait", "#live", "^Live"]));
    let graph = browser.order(&json!(["tree"])).as_str().unwrap().to_owned();
    let before = graph.lines().find(|line| line.contains("Batches certified per minute over")).unwrap();
    assert!(!before.contains("no numbers yet"), "{before}");
    println!("{stored} batches were stored meanwhile");
}

#[test]
fn a_nodes_page_shows_itself_and_its_peers() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = network(dir.path());
    let poster = Poster::start(&network);
    let url = network.addresses(Who::Member(0)).unwrap().dashboard;
    let mut browser = Browser::open(&url, &shots(dir.path()));
    browser.order(&json!(["goto", "/"]));
    browser.order(&json!(["wait", "h1", "member-1"]));
    browser.order(&json!(["wait", "#tiles .tile.good", "Takes stores[^]*yes"]));
    browser.order(&json!(["wait", "#tiles .tile.good", "3 of 3"]));
    browser.order(&json!(["wait", "#graphs figure", "Stores per minute[^]*signed [1-9]"]));
    browser.order(&json!(["wait", "#graphs figure", "Disk, this process"]));
    browser.order(&json!(["shot", "member-light"]));
    network.kill(Who::Member(3)).unwrap();
    browser.order(&json!(["wait", "#peers tbody tr", "member-4[^]*away"]));
    browser.order(&json!(["wait", "#tiles .tile.waits", "2 of 3"]));
    browser.order(&json!(["size", 390, 844]));
    assert!(browser.order(&json!(["overflow"])).as_i64().unwrap() <= 0, "the page is wider than a phone");
    browser.order(&json!(["scheme", "dark"]));
    browser.order(&json!(["shot", "member-phone-dark"]));
    let mut connection = Connection::new(&url).unwrap();
    let status: Value = serde_json::from_slice(&connection.get("/status").unwrap().body).unwrap();
    assert_eq!((&status["canStore"], &status["custody"]["batches"]["missing"]), (&json!(true), &json!(0)));
    poster.end();
    browser.assert_quiet();
}

#[test]
fn nobody_is_fooled_by_a_page_on_a_host_that_has_nothing_to_say() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
    let mut network = Network::open(dir.path(), &plan).unwrap();
    network.start(Who::Aggregator).unwrap();
    let url = network.addresses(Who::Aggregator).unwrap().dashboard;
    let mut connection = Connection::new(&url).unwrap();
    // No member runs: the page says so without a script, and asks for nothing from elsewhere.
    let seen = wait_until(Duration::from_secs(60), || {
        let page = connection.get("/?range=hour").unwrap();
        let text = String::from_utf8(page.body).unwrap();
        assert!(!text.contains("://cdn") && text.contains("http-equiv=\"refresh\""));
        text.contains("0 of 1") && text.contains("DAS-MEMBER-001")
    });
    assert!(seen.is_some(), "the page does not say that the member is down");
}
