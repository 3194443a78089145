//! One member at a glance: the node's own page.

use std::sync::Arc;
use std::time::Duration;

use das_common::alarm::Alarm;
use das_common::telemetry::{names, process_use};
use das_dashboard::View;
use das_dashboard::chart::Unit;
use das_dashboard::machine::MachineUse;
use das_dashboard::page::{Graphs, Section, State, bar, free_of, pill, ports, tile};
use das_dashboard::scrape::Tick;
use das_dashboard::words::{ago, bytes, moment, span};
use maud::{Markup, html};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::custody::{Custody, CustodyReport};
use crate::health::{Health, NodeStatus};
use crate::storage::KeysReport;

/// Custody changes slowly, and asking for it costs more than the rest: a report is good for so long.
const CUSTODY_FRESH: Duration = Duration::from_secs(5);

/// What the page is made of.
pub struct Page {
    health: Arc<Health>,
    custody: Option<Custody>,
    last_custody: Mutex<Option<(Instant, CustodyReport)>>,
    /// The member's name in the committee file.
    name: Option<String>,
    explorer: Option<String>,
}

impl Page {
    /// Of this node, called `name` in the committee file if it is a member; `explorer` is linked.
    pub fn new(
        health: Arc<Health>,
        custody: Option<Custody>,
        name: Option<String>,
        explorer: Option<String>,
    ) -> Self {
        Self { health, custody, last_custody: Mutex::default(), name, explorer }
    }

    async fn custody(&self) -> Option<CustodyReport> {
        let mut last = self.last_custody.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < CUSTODY_FRESH
        {
            return Some(report.clone());
        }
        let report = self.custody.as_ref()?.report().await?;
        *last = Some((Instant::now(), report.clone()));
        Some(report)
    }
}

fn graphs(graphs: &Graphs<'_>, has_custody: bool) -> Markup {
    html! {
        div.charts {
            (graphs.chart("Stores per minute", Unit::Count, &[("signed", "stores"), ("failed", "stores/failed")]))
            (graphs.chart("Time of a store", Unit::Milliseconds, &[("p50", "store/p50"), ("p99", "store/p99")]))
            (graphs.chart("Stages of a store, p99", Unit::Milliseconds, &[("authorize", "stage/authorize"), ("hash", "stage/hash"), ("write", "stage/write"), ("sign", "stage/sign")]))
            (graphs.chart("Reads per minute", Unit::Count, &[("answered", "reads"), ("failed", "reads/failed")]))
            (graphs.chart("Time of a read", Unit::Milliseconds, &[("p50", "read/p50"), ("p99", "read/p99")]))
            (graphs.chart("Reads by where the batch was, per minute", Unit::Count, &[("memory", "from/cache"), ("disk", "from/disk"), ("elsewhere", "from/remote"), ("nowhere", "from/none")]))
            (graphs.chart("Errors answered per minute", Unit::Count, &[("errors", "errors")]))
            (graphs.chart("Free on disk", Unit::Bytes, &[("free", "disk/free")]))
            (graphs.chart("Batches", Unit::Count, &[("batches", "batches")]))
            @if has_custody {
                (graphs.chart("Peers connected", Unit::Count, &[("peers", "peers")]))
                (graphs.chart("Exchanged with peers", Unit::BytesPerSecond, &[("in", "peers/in"), ("out", "peers/out")]))
            }
            (graphs.of_machine())
        }
    }
}

impl View for Page {
    fn title(&self) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| if self.health.is_member() { "Member" } else { "Read node" }.to_owned())
    }

    fn subtitle(&self) -> String {
        let role = if self.health.is_member() { "committee member" } else { "no key, serves reads" };
        format!("{role} · das-node {}", env!("CARGO_PKG_VERSION"))
    }

    fn links(&self) -> Vec<(String, String)> {
        self.explorer.iter().map(|url| ("Batch explorer".to_owned(), url.clone())).collect()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.health.alarms()
    }

    async fn sections(&self, drawn: &Graphs<'_>) -> Vec<Section> {
        let (status, custody) = (self.health.status().await, self.custody().await);
        let mut sections = vec![Section::new("tiles", "", tiles(&status, custody.as_ref()))];
        if let Some(custody) = &custody {
            sections.push(Section::new("custody", "Custody", of_custody(custody)));
            sections.push(Section::new("peers", "Peers", peers(custody, drawn.now)));
        }
        sections.push(Section::new("graphs", "Graphs", graphs(drawn, custody.is_some())).slow());
        sections.push(Section::new("clients", "Clients", ports(&status.ports)));
        sections.push(Section::new("server", "This server", server(&status)));
        sections
    }

    fn samples(&self, tick: &Tick<'_>) -> Vec<(String, f64)> {
        let per_minute =
            |name: &str, labels: &[(&str, &str)]| tick.rate(name, labels).map(|rate| rate * 60.0);
        let ms = |name: &str, labels: &[(&str, &str)], q| tick.quantile(name, labels, q).map(|s| s * 1000.0);
        let (ok, failed) = ([("result", "ok")], [("result", "error")]);
        let count = |name: &str| format!("{name}_count");
        let (stores, reads) = (count(names::STORE_SECONDS), count(names::READ_SECONDS));
        let mut samples = vec![
            ("stores", per_minute(&stores, &ok)),
            ("stores/failed", per_minute(&stores, &failed)),
            ("store/p50", ms(names::STORE_SECONDS, &ok, 0.5)),
            ("store/p99", ms(names::STORE_SECONDS, &ok, 0.99)),
            ("reads", per_minute(&reads, &ok)),
            ("reads/failed", per_minute(&reads, &failed)),
            ("read/p50", ms(names::READ_SECONDS, &ok, 0.5)),
            ("read/p99", ms(names::READ_SECONDS, &ok, 0.99)),
            ("errors", Some(per_minute(names::ERRORS, &[]).unwrap_or(0.0))),
            ("disk/free", tick.gauge(names::DISK_FREE_BYTES, &[])),
            ("batches", tick.gauge(names::STORED_BATCHES, &[])),
            ("peers", tick.gauge(names::PEER_CONNECTED, &[])),
            ("peers/in", tick.rate(names::PEER_BYTES, &[("direction", "in")])),
            ("peers/out", tick.rate(names::PEER_BYTES, &[("direction", "out")])),
        ];
        for (series, stage) in [
            ("stage/authorize", "authorize"),
            ("stage/hash", "hash"),
            ("stage/write", "write"),
            ("stage/sign", "sign"),
        ] {
            samples.push((series, ms(names::STORE_STAGE_SECONDS, &[("stage", stage)], 0.99)));
        }
        for (series, source) in
            [("from/cache", "cache"), ("from/disk", "disk"), ("from/remote", "remote"), ("from/none", "none")]
        {
            samples.push((series, per_minute(names::READ_SOURCE, &[("source", source)])));
        }
        samples.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    async fn status(&self) -> String {
        let custody = self.custody().await;
        let mut status = serde_json::to_value(self.health.status().await).unwrap_or_default();
        status["custody"] = serde_json::to_value(custody).unwrap_or_default();
        status.to_string()
    }
}

fn tiles(status: &NodeStatus, custody: Option<&CustodyReport>) -> Markup {
    let can = |can: bool, yes: &'static str, no: &'static str| match can {
        true => (State::Good, yes),
        false => (State::Bad, no),
    };
    let (stores, stores_word) = can(status.can_store, "yes", "no");
    let (serves, serves_word) = can(status.can_serve, "yes", "no");
    let reasons = status.reasons.join("; ");
    let is_member = status.role == "member";
    html! {
        div.tiles {
            @if is_member {
                (tile(stores, "Takes stores", stores_word, if status.can_store { "disk and key answer" } else { &reasons }))
            }
            (tile(serves, "Serves reads", serves_word, if status.can_serve { "the index answers" } else { &reasons }))
            @if let Some(batches) = status.batches { (tile(State::Plain, "Batches", &batches.to_string(), status.expiration_policy)) }
            @if let (Some(free), Some(all)) = (status.disk_free_bytes, status.disk_total_bytes) {
                @let state = if free < status.disk_reserve_bytes { State::Bad } else if free < all / 10 { State::Waits } else { State::Good };
                (tile(state, "Free on disk", &bytes(free as f64), &format!("of {}, {} are a reserve", bytes(all as f64), bytes(status.disk_reserve_bytes as f64))))
            }
            @if let Some(custody) = custody {
                @let (state, figure, more) = coverage(custody);
                (tile(state, "Custody", figure, &more))
                @let connected = custody.peers.iter().filter(|peer| peer.status.connected).count();
                @let state = if connected == custody.peers.len() { State::Good } else { State::Waits };
                (tile(state, "Peers", &format!("{connected} of {}", custody.peers.len()), "connected"))
            }
            (tile(
                if status.alarms.is_empty() { State::Good } else { State::Bad },
                "Alarms",
                &status.alarms.len().to_string(),
                if status.alarms.is_empty() { "nothing to do" } else { "see below what to do" },
            ))
        }
    }
}

fn coverage(custody: &CustodyReport) -> (State, &'static str, String) {
    let coverage = &custody.coverage;
    if coverage.unreadable.batches > 0 {
        (State::Bad, "not enough shards", format!("of {} batches", coverage.unreadable.batches))
    } else if coverage.missing.batches > 0 {
        (State::Waits, "gathering", format!("{} batches are missing here", coverage.missing.batches))
    } else if coverage.under_replicated.batches > 0 {
        (State::Waits, "thin", format!("{} batches are made whole again", coverage.under_replicated.batches))
    } else {
        (State::Good, "covered", "every batch is whole or covered".to_owned())
    }
}

fn of_custody(custody: &CustodyReport) -> Markup {
    let (batches, size, scrub) = (&custody.batches, &custody.bytes, &custody.scrub);
    let saved = size.sharded_would_take.saturating_sub(size.shards);
    html! {
        div.beside {
            dl {
                dt { "Whole" } dd { (batches.hot) " hot or waiting to be coded, " (batches.waiting) " waiting for others, " (batches.whole) " to stay" }
                dt { "As shards" } dd { (batches.sharded) }
                dt { "Missing here" } dd { (batches.missing) }
                dt { "Stated by others only" } dd { (batches.elsewhere) }
                dt { "Oldest waiting to become a shard" }
                dd { @match custody.coverage.oldest_demotion { Some(seconds) => { (span(seconds)) " beyond its hot window" }, None => "none" } }
                dt { "Repairing without a pause for" }
                dd { @match custody.coverage.oldest_repair { Some(seconds) => (span(seconds)), None => "nothing to repair" } }
            }
            dl {
                dt { "Bytes whole" } dd { (bytes(size.whole as f64)) }
                dt { "Bytes in shards" } dd { (bytes(size.shards as f64)) ", " (bytes(saved as f64)) " less than whole" }
                dt { "Bytes to be freed" } dd { (bytes(size.dead as f64)) }
                dt { "Index" } dd { (bytes(size.index as f64)) }
                dt { "Disk lasts" }
                dd { @match custody.disk.lasts { Some(seconds) => { (span(seconds)) " at the rate of the last day, were all kept whole" }, None => "no rate yet" } }
                dt { "Scrub" } dd { (scrub.passes) " passes, " (scrub.found) " damaged, " (scrub.mended) " mended, " (scrub.waiting) " waiting" }
                dt { "Evidence against others" } dd { (custody.evidence) }
            }
        }
    }
}

fn peers(custody: &CustodyReport, now: u64) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="Peers, a table" {
            table.cards {
                thead {
                    tr {
                        th scope="col" { "Peer" }
                        th scope="col" { "Connection" }
                        th scope="col" { "Clock" }
                        th scope="col" { "Counts" }
                        th scope="col" { "Audits" }
                        th scope="col" { "Address" }
                    }
                }
                tbody {
                    @for peer in &custody.peers {
                        tr {
                            th scope="row" { (peer.status.name) @if peer.status.mirror { " " span.quiet { "mirror" } } }
                            td data-name="Connection" {
                                @if peer.status.connected { (pill(State::Good, "connected")) } @else { (pill(State::Bad, "away")) }
                                @if let Some(since) = peer.status.since { small { (ago(since, now)) } }
                            }
                            td data-name="Clock" {
                                @match peer.status.clock_ahead_ms { Some(ms) => { (format!("{ms:+} ms")) }, None => span.quiet { "–" } }
                            }
                            td data-name="Counts" {
                                @if peer.silent { (pill(State::Bad, "silent for too long")) small { (span(peer.silent_for)) } }
                                @else { (pill(State::Good, "yes")) }
                            }
                            td data-name="Audits" {
                                @if peer.audits.wrong > 0 { (pill(State::Bad, &format!("{} wrong", peer.audits.wrong))) }
                                @else { (peer.audits.right) " right" }
                                @if peer.audits.silent > 0 { small { (peer.audits.silent) " silent" } }
                            }
                            td data-name="Address" { code { (peer.status.address.as_deref().unwrap_or("unknown")) } }
                        }
                    }
                }
            }
        }
    }
}

fn encryption(keys: &KeysReport) -> Markup {
    let left = keys.left_bytes as f64;
    html! {
        @if keys.active == "plain" { "switched off" } @else { "key " code { (keys.active) } }
        @if keys.left_bytes > 0 { "; " (bytes(left)) " are still to be written anew" } @else { "; everything is under it" }
    }
}

fn server(status: &NodeStatus) -> Markup {
    let (used, machine) = (process_use(), MachineUse::now());
    html! {
        div.beside {
            dl {
                dt { "Runs since" } dd { (moment(status.started_at)) }
                dt { "Processor time" } dd { (span(used.cpu.as_secs())) ", of " (machine.processors) " processors" }
                dt { "Memory" } dd { (bytes(used.memory as f64)) "; machine: " (free_of(machine.available, machine.memory)) }
                dt { "Open files, threads" } dd { (used.files) ", " (used.threads) }
            }
            dl {
                @if let Some(key) = &status.public_key { dt { "Public key" } dd { code { (key.get(..48).unwrap_or(key)) "…" } } }
                @if let Some(hash) = &status.keyset_hash { dt { "Keyset of itself alone" } dd { code { (hash) } } }
                @if let Some(keys) = &status.encryption { dt { "Encryption at rest" } dd { (encryption(keys)) } }
                dt { "Longest retention" } dd { (span(status.max_retention_seconds)) }
                @if let (Some(free), Some(all)) = (status.disk_free_bytes, status.disk_total_bytes) {
                    dt { "Disk" } dd { (free_of(free, all)) (bar(1.0 - free as f64 / all.max(1) as f64, "Disk used")) }
                }
            }
        }
    }
}
