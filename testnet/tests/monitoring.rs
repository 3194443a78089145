//! Metrics as an operator meets them: a real Prometheus scrapes a real testnet with a chain, the rules are checked and
//! tested by promtool, and every query of every Grafana dashboard and every rule finds data.
//!
//! The dashboards are written by this test from `monitoring/dashboards.rs` with `DAS_WRITE_DOCS=1`.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

#[path = "monitoring/dashboards.rs"]
mod dashboards;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use das_common::store_auth::StoreKey;
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{store_body, unix_now};
use das_testnet::network::{Addresses, Network, Plan, Who};
use das_testnet::process::binary;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring")
}

/// Runs promtool and expects it to be content.
fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(folder()).output();
    let output = output.expect("promtool is needed (Debian: prometheus); scripts/test installs it");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
}

#[test]
fn rules_are_sound_and_do_what_they_say() {
    promtool(&["check", "rules", "rules.yml", "alerts.yml"]);
    let page = std::fs::read_to_string(folder().join("../../docs/monitoring.md")).unwrap();
    let alerts = std::fs::read_to_string(folder().join("alerts.yml")).unwrap();
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(
            page.contains(&format!("\n| {alert} |")),
            "docs/monitoring.md does not say what to do about {alert}"
        );
    }
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"]);
    promtool(&["test", "rules", "rules-test.yml"]);
}

#[test]
fn dashboards_are_those_that_are_written_down() {
    for (name, dashboard) in dashboards::all() {
        let path = folder().join(format!("grafana/{name}.json"));
        let text = format!("{dashboard:#}\n");
        if std::env::var_os("DAS_WRITE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{} is stale; run this test with DAS_WRITE_DOCS=1", path.display());
    }
}

/// A Prometheus of its own, ended with the test.
struct Prometheus {
    process: Child,
    url: String,
}

impl Prometheus {
    fn start(dir: &Path, network: &Network) -> Self {
        let target =
            |who: Who| network.addresses(who).unwrap().metrics.trim_start_matches("http://").to_owned();
        let (mut nodes, mut aggregators) = (Vec::new(), Vec::new());
        for who in network.everyone() {
            match who {
                Who::Aggregator => aggregators.push(target(who)),
                Who::Member(_) | Who::Mirror => nodes.push(target(who)),
            }
        }
        // Faster than an operator would have it, so that there is something to see soon.
        let rules = |name: &str| {
            let text = std::fs::read_to_string(folder().join(name)).unwrap();
            let path = dir.join(name);
            std::fs::write(&path, text.replace("interval: 15s", "interval: 1s")).unwrap();
            path
        };
        let config = serde_json::json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules("rules.yml"), rules("alerts.yml")],
            "scrape_configs": [
                { "job_name": "das-aggregator", "static_configs": [{ "targets": aggregators }] },
                { "job_name": "das-node", "static_configs": [{ "targets": nodes }] },
            ],
        });
        let path = dir.join("prometheus.yml");
        // JSON is YAML.
        std::fs::write(&path, config.to_string()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("prometheus.log")).unwrap())
            .spawn()
            .expect("prometheus is needed (Debian: prometheus); scripts/test installs it");
        let prometheus = Self { process, url: format!("http://127.0.0.1:{port}") };
        let ready = wait_until(Duration::from_secs(60), || {
            Connection::new(&prometheus.url)
                .and_then(|mut connection| connection.get("/-/ready"))
                .is_ok_and(|answer| answer.status == 200)
        });
        let log = || std::fs::read_to_string(dir.join("prometheus.log")).unwrap_or_default();
        assert!(ready.is_some(), "prometheus does not start: {}", log());
        prometheus
    }

    /// How many series a query finds.
    fn finds(&self, query: &str) -> usize {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut connection = Connection::new(&self.url).unwrap();
        let answer = connection.get(&format!("/api/v1/query?query={encoded}")).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|series| series["value"][1] != "NaN")
            .count()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Stores and reads, well and badly, until told to stop: every panel is to have something to show.
fn use_it(aggregator: &Addresses, member: &Addresses, key: &StoreKey, stop: &AtomicBool) {
    let (mut rpc, mut rest) =
        (Connection::new(&aggregator.rpc).unwrap(), Connection::new(&aggregator.rest).unwrap());
    let (mut direct, mut own) =
        (Connection::new(&member.rpc).unwrap(), Connection::new(&member.rest).unwrap());
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let batch = [&n.to_be_bytes()[..], &[1; 5_000]].concat();
        let body = store_body(key, &batch, unix_now() + 86_400);
        rpc.post_json(&[&body.json]).unwrap();
        rest.get(&format!("/get-by-hash/{}", body.hash)).unwrap();
        own.get(&format!("/get-by-hash/{}", body.hash)).unwrap();
        own.get(&format!("/get-by-hash/{:064x}", n)).unwrap();
        own.get("/health").unwrap();
        // A stranger's store is refused.
        let strange = store_body(&StoreKey::generate(), &batch, unix_now() + 86_400);
        direct.post_json(&[&strange.json]).unwrap();
        rpc.post_json(&[&strange.json]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn post_a_batch(network: &Network) {
    let file = network.dir().join("batch");
    std::fs::write(&file, [&[0_u8][..], &[9; 3_000]].concat()).unwrap();
    let posted = Command::new(binary("dastool").unwrap())
        .args(["post", "--rpc", &network.addresses(Who::Aggregator).unwrap().rpc, "--signing-key"])
        .arg(network.poster_key_file())
        .arg("--file")
        .arg(&file)
        .output();
    let posted = posted.unwrap();
    assert!(posted.status.success(), "{}", String::from_utf8_lossy(&posted.stderr));
}

#[test]
fn every_query_of_dashboards_and_rules_finds_data_over_a_chain() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { members: 4, honest: 3, shards: 2, base_port: 0 };
    let mut network = Network::open(&dir.path().join("net"), &plan)
        .unwrap()
        .with_chain(&plan)
        .unwrap()
        .with_aggregator_options(["--canary.enable", "--canary.interval", "2s", "--canary.retention", "10m"])
        .with_node_options(["--custody.hot-retention", "1s"]);
    network.start_all(|_, _| ()).unwrap();
    let prometheus = Prometheus::start(dir.path(), &network);
    let stop = AtomicBool::new(false);
    let addresses = |who| network.addresses(who).unwrap();
    let (aggregator, member) = (addresses(Who::Aggregator), addresses(Who::Member(0)));
    let key = std::fs::read_to_string(network.poster_key_file()).unwrap();
    let key = StoreKey::from_hex(key.trim()).unwrap();
    let missing = std::thread::scope(|scope| {
        scope.spawn(|| use_it(&aggregator, &member, &key, &stop));
        post_a_batch(&network);
        let mut wanted: Vec<(String, String)> = dashboards::all()
            .iter()
            .flat_map(|(name, dashboard)| {
                dashboards::queries(dashboard)
                    .into_iter()
                    .map(|query| ((*name).to_owned(), query))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert!(wanted.len() > 50, "{}", wanted.len());
        for rule in [
            "das:certificates:rate5m",
            "das:certificate_seconds:p99_5m",
            "das:member_store_seconds:p99_5m",
            "das:member_signing:ratio5m",
            "das:store_seconds:p99_5m",
            "das:read_seconds:p99_5m",
            "das:store_errors:ratio5m",
        ] {
            wanted.push(("rules.yml".to_owned(), rule.to_owned()));
        }
        wait_until(Duration::from_secs(180), || {
            wanted.retain(|(_, query)| prometheus.finds(query) == 0);
            wanted.is_empty()
        });
        stop.store(true, Ordering::Relaxed);
        wanted
    });
    assert!(missing.is_empty(), "these find nothing: {missing:#?}");
    // An alert goes off for a member that died.
    network.kill(Who::Member(2)).unwrap();
    let fired = wait_until(Duration::from_secs(120), || {
        prometheus.finds("ALERTS{alertname=\"DasQuorumThin\",alertstate=\"firing\"}") > 0
    });
    assert!(fired.is_some(), "no alert for a member that was killed");
}
