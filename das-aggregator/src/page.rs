//! The committee at a glance: the aggregator's own page.

use das_common::alarm::Alarm;
use das_common::telemetry::names;
use das_dashboard::View;
use das_dashboard::chart::Unit;
use das_dashboard::page::{Graphs, Section, State, bar, free_of, pill, ports, tile};
use das_dashboard::scrape::Tick;
use das_dashboard::words::{ago, bytes, clock, milliseconds, moment, number, percent, span};
use maud::{Markup, html};

use crate::api::status::{MemberStatus, Status, StatusSource};
use crate::canary::MemberRound;
use crate::post::status::PosterStatus;

/// Certificates that are shown.
const SHOWN: usize = 12;
/// A clock that is off by more than this is worth a look: the members' words on time would differ (milliseconds).
const CLOCK_OFF: i64 = 2_000;

/// What the page is made of.
pub struct Page {
    status: StatusSource,
    /// Where the explorer is, as a browser is told.
    explorer: Option<String>,
}

impl Page {
    /// Of this state; `explorer` is linked.
    pub fn new(status: StatusSource, explorer: Option<String>) -> Self {
        Self { status, explorer }
    }

    fn names(&self) -> Vec<String> {
        self.status.fan_out.members().iter().map(|member| member.name.clone()).collect()
    }

    fn graphs(&self, graphs: &Graphs<'_>) -> Markup {
        let names = self.names();
        html! {
            div.charts {
                (graphs.chart("Batches certified per minute", Unit::Count, &[("batches", "batches")]))
                (graphs.chart("Mean size of a batch", Unit::Bytes, &[("size", "batch_bytes")]))
                (graphs.chart("Time to a certificate", Unit::Milliseconds, &[("p50", "certificate/p50"), ("p99", "certificate/p99")]))
                (graphs.each("Store at a member, p99", Unit::Milliseconds, "store/p99/", &names))
                (graphs.each("Store at a member, p50", Unit::Milliseconds, "store/p50/", &names))
                (graphs.each("Failed stores per minute", Unit::Count, "store/failed/", &names))
                (graphs.chart("Reads per minute", Unit::Count, &[("answered", "reads"), ("failed", "reads/failed")]))
                (graphs.chart("Time of a read here", Unit::Milliseconds, &[("p50", "read/p50"), ("p99", "read/p99")]))
                (graphs.chart("Members that are well", Unit::Count, &[("well", "members/up"), ("needed", "members/needed")]))
                (graphs.chart("Errors answered per minute", Unit::Count, &[("errors", "errors")]))
                @if self.status.poster.is_some() {
                    (graphs.chart("Batches of the poster that are not final", Unit::Count, &[("queue", "queue")]))
                }
                (graphs.of_machine())
            }
        }
    }
}

impl View for Page {
    fn title(&self) -> String {
        "Committee".to_owned()
    }

    fn subtitle(&self) -> String {
        let keyset = self.status.fan_out.keyset();
        let (members, needed) = (self.status.fan_out.members().len(), self.status.fan_out.threshold());
        let hash = keyset.hash().to_string();
        format!(
            "{members} members, {needed} signatures make a certificate · keyset 0x{} · das-aggregator {}",
            hash.get(..16).unwrap_or(&hash),
            env!("CARGO_PKG_VERSION")
        )
    }

    fn links(&self) -> Vec<(String, String)> {
        self.explorer.iter().map(|url| ("Batch explorer".to_owned(), url.clone())).collect()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.status.alarms.list()
    }

    async fn sections(&self, graphs: &Graphs<'_>) -> Vec<Section> {
        let status = self.status.status();
        let mut sections = vec![
            Section::new("tiles", "", tiles(&status)),
            Section::new("members", "Members", members(&status)),
        ];
        if let Some(post) = &status.post {
            sections.push(Section::new("post", "Posting", posting(post, status.now)));
        }
        sections.push(Section::new("graphs", "Graphs", self.graphs(graphs)).slow());
        sections.push(Section::new("certificates", "Last certificates", certificates(&status)));
        sections.push(Section::new("clients", "Clients", ports(&status.ports)));
        sections.push(Section::new("server", "This server", server(&status)));
        sections
    }

    fn samples(&self, tick: &Tick<'_>) -> Vec<(String, f64)> {
        let per_minute =
            |name: &str, labels: &[(&str, &str)]| tick.rate(name, labels).map(|rate| rate * 60.0);
        let ms = |name: &str, labels: &[(&str, &str)], q| tick.quantile(name, labels, q).map(|s| s * 1000.0);
        let (ok, failed) = ([("result", "ok")], [("result", "error")]);
        let certificates = format!("{}_count", names::CERTIFICATE_SECONDS);
        let reads = format!("{}_count", names::READ_SECONDS);
        let batches = per_minute(&certificates, &ok);
        let volume = tick.rate(names::CERTIFICATE_BYTES, &[]).map(|rate| rate * 60.0);
        let size = batches
            .zip(volume)
            .filter(|(batches, _)| *batches > 0.0)
            .map(|(batches, volume)| volume / batches);
        let health = self.status.watch.health();
        let mut samples = vec![
            ("batches".to_owned(), Some(batches.unwrap_or(0.0))),
            ("batch_bytes".to_owned(), size),
            ("certificate/p50".to_owned(), ms(names::CERTIFICATE_SECONDS, &ok, 0.5)),
            ("certificate/p99".to_owned(), ms(names::CERTIFICATE_SECONDS, &ok, 0.99)),
            ("reads".to_owned(), per_minute(&reads, &ok)),
            ("reads/failed".to_owned(), per_minute(&reads, &failed)),
            ("read/p50".to_owned(), ms(names::READ_SECONDS, &ok, 0.5)),
            ("read/p99".to_owned(), ms(names::READ_SECONDS, &ok, 0.99)),
            ("members/up".to_owned(), Some(health.healthy as f64)),
            ("members/needed".to_owned(), Some(health.needed as f64)),
            ("errors".to_owned(), Some(per_minute(names::ERRORS, &[]).unwrap_or(0.0))),
            ("queue".to_owned(), self.status.poster.as_ref().map(|poster| poster.queue().size().0 as f64)),
        ];
        for name in self.names() {
            let (good, bad) = ([("member", name.as_str()), ok[0]], [("member", name.as_str()), failed[0]]);
            let count = format!("{}_count", names::MEMBER_STORE_SECONDS);
            samples.push((format!("store/p50/{name}"), ms(names::MEMBER_STORE_SECONDS, &good, 0.5)));
            samples.push((format!("store/p99/{name}"), ms(names::MEMBER_STORE_SECONDS, &good, 0.99)));
            samples.push((format!("store/failed/{name}"), Some(per_minute(&count, &bad).unwrap_or(0.0))));
        }
        samples.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn looked_at(&self) {
        self.status.watch.glance();
    }

    async fn status(&self) -> String {
        self.status.json()
    }
}

fn tiles(status: &Status) -> Markup {
    let committee = &status.committee;
    let (well, needed, all) = (committee.healthy_members, committee.signatures_needed, committee.members);
    let (state, verdict) = match well {
        well if well < needed => (State::Bad, format!("too few: {needed} are needed")),
        well if well == all => (State::Good, format!("{needed} are needed")),
        well if well == needed => (State::Waits, format!("{needed} are needed: none may fail")),
        _ => (State::Waits, format!("{needed} are needed")),
    };
    let last = status.certificates.first();
    let last = last.map_or_else(|| "none since the start".to_owned(), |made| ago(made.at, status.now));
    let mut took: Vec<f64> = status.certificates.iter().map(|made| made.took_ms).collect();
    took.sort_unstable_by(f64::total_cmp);
    let median = took.get(took.len() / 2).map_or_else(|| "–".to_owned(), |ms| milliseconds(*ms));
    let slowest = took.last().map_or_else(
        || "no certificates yet".to_owned(),
        |ms| format!("slowest of {} {}", took.len(), milliseconds(*ms)),
    );
    html! {
        div.tiles {
            (tile(state, "Members that are well", &format!("{well} of {all}"), &verdict))
            (tile(State::Plain, "Batches in the last minute", &status.certificates_last_minute.to_string(), &format!("last: {last}")))
            (tile(State::Plain, "Time to a certificate", &median, &slowest))
            @if let Some(canary) = &status.canary { (canary_tile(&canary.members, canary.error.as_deref(), canary.at, status.now)) }
            @if let Some(post) = &status.post { (post_tile(post, status.now)) }
            (tile(
                if status.late.batches == 0 { State::Good } else { State::Waits },
                "Owed to late members",
                &status.late.batches.to_string(),
                &if status.late.batches == 0 { "nobody lacks a batch".to_owned() } else { bytes(status.late.bytes as f64) },
            ))
            (tile(
                if status.alarms.is_empty() { State::Good } else { State::Bad },
                "Alarms",
                &status.alarms.len().to_string(),
                if status.alarms.is_empty() { "nothing to do" } else { "see below what to do" },
            ))
        }
    }
}

fn canary_tile(members: &[MemberRound], error: Option<&str>, at: u64, now: u64) -> Markup {
    let good = members.iter().filter(|member| member.error.is_none()).count();
    let state = if error.is_some() {
        State::Bad
    } else if good < members.len() {
        State::Waits
    } else {
        State::Good
    };
    tile(state, "Canary: stored, signed, read back", &format!("{good} of {}", members.len()), &ago(at, now))
}

fn post_tile(post: &PosterStatus, now: u64) -> Markup {
    let waiting: usize = post.queue.values().sum();
    let (state, more) = match (&post.hold, post.oldest_waiting_since) {
        (Some(_), _) => (State::Bad, "posting is on hold".to_owned()),
        (None, Some(since)) => {
            let age = now.saturating_sub(since);
            (
                if age > 300 { State::Waits } else { State::Good },
                format!("the oldest waits for {}", span(age)),
            )
        }
        (None, None) => (State::Good, "all are in blocks".to_owned()),
    };
    tile(state, "Not final on the chain", &waiting.to_string(), &more)
}

fn members(status: &Status) -> Markup {
    let canary = |index: usize| status.canary.as_ref().and_then(|round| round.members.get(index));
    html! {
        div.wide tabindex="0" role="region" aria-label="Members, a table" {
            table.cards {
                thead {
                    tr {
                        th scope="col" { "Member" }
                        th scope="col" { "State" }
                        th scope="col" { "Signs" }
                        th scope="col" { "Store" }
                        th scope="col" { "Read" }
                        @if status.canary.is_some() { th scope="col" { "Canary" } }
                        th scope="col" { "Disk" }
                        th scope="col" { "Clock" }
                        th scope="col" { "Custody" }
                        th scope="col" { "Audits" }
                        th scope="col" { "Version" }
                    }
                }
                tbody {
                    @for member in &status.members { (row(member, status.canary.is_some(), canary(member.index), status.now)) }
                }
            }
        }
    }
}

fn row(member: &MemberStatus, has_canary: bool, canary: Option<&MemberRound>, now: u64) -> Markup {
    let (state, word) = match member.state {
        "up" => (State::Good, "up"),
        "unknown" => (State::Plain, "not asked yet"),
        "refuses" => (State::Bad, "refuses stores"),
        "wrong" => (State::Bad, "signs wrongly"),
        _ => (State::Bad, "down"),
    };
    let health = &member.health;
    let trouble = match member.state {
        "up" | "unknown" => None,
        "down" => health.probe_error.as_ref().or(health.last_failure.as_ref()),
        _ => health.last_failure.as_ref(),
    };
    let none = || html! { span.quiet { "–" } };
    html! {
        tr {
            th scope="row" { (member.name) }
            td data-name="State" {
                (pill(state, word))
                @if let Some(reason) = trouble { small.bad { (reason) } }
                @if let Some(at) = health.last_success_at.filter(|_| trouble.is_some()) { small { "last signed " (ago(at, now)) } }
                @for alarm in member.says.iter().flat_map(|says| &says.alarms) { small { (alarm.code) ": " (alarm.text) } }
            }
            td data-name="Signs" {
                @match health.signing_rate {
                    Some(rate) => { (percent(rate)) small { (health.stored) " signed, " (health.failed) " not" } }
                    None => (none())
                }
            }
            td data-name="Store" {
                @match (health.p50_ms, health.p99_ms) {
                    (Some(p50), Some(p99)) => { (milliseconds(p50)) small { "p99 " (milliseconds(p99)) } }
                    _ => (none())
                }
            }
            td data-name="Read" {
                @match member.reads.as_ref().and_then(|reads| Some((reads.mean_latency_ms?, reads.success_ratio?))) {
                    Some((mean, good)) => { (milliseconds(mean)) small { (percent(good)) " answered" } }
                    None => (none())
                }
            }
            @if has_canary {
                td data-name="Canary" {
                    @match canary {
                        Some(MemberRound { error: Some(error), .. }) => { (pill(State::Bad, "failed")) small.bad { (error) } }
                        Some(round) => {
                            (pill(State::Good, "good"))
                            @if let Some(ms) = round.store_ms { small { "store " (milliseconds(ms)) } }
                            @if let Some(ms) = round.read_ms { small { "read " (milliseconds(ms)) } }
                        }
                        None => (none())
                    }
                }
            }
            (said(member, now))
        }
    }
}

/// The columns of what a member says of itself.
fn said(member: &MemberStatus, now: u64) -> Markup {
    let none = || html! { span.quiet { "–" } };
    let says = member.says.as_ref();
    let custody = says.and_then(|says| says.custody.as_ref());
    html! {
        td data-name="Disk" {
            @match says.and_then(|says| Some((says.disk_free_bytes?, says.disk_total_bytes?))) {
                Some((free, all)) if all > 0 => {
                    (bytes(free as f64)) " free"
                    (bar(1.0 - free as f64 / all as f64, "Disk used"))
                }
                _ => (none())
            }
        }
        td data-name="Clock" {
            @match says.and_then(|says| says.clock_ahead_ms) {
                Some(ahead) if ahead.abs() > CLOCK_OFF => (pill(State::Waits, &format!("{:+.1} s", ahead as f64 / 1000.0))),
                Some(ahead) => (format!("{ahead:+} ms")),
                None => (none())
            }
        }
        td data-name="Custody" {
            @match custody {
                Some(custody) => {
                    @if custody.missing > 0 { (pill(State::Waits, &format!("{} missing", custody.missing))) }
                    @else if custody.under_replicated > 0 { (pill(State::Waits, &format!("{} thin", custody.under_replicated))) }
                    @else { (pill(State::Good, "covered")) }
                    small { (custody.whole) " whole, " (custody.covered) " as shards" }
                }
                None => @match says.and_then(|says| says.batches) {
                    Some(batches) => { (batches) " batches" }
                    None => (none())
                }
            }
        }
        td data-name="Audits" {
            @match member.audits {
                Some(sum) => {
                    @if sum.wrong > 0 { (pill(State::Bad, &format!("{} wrong", sum.wrong))) }
                    @else { (pill(State::Good, "right")) }
                    small { (sum.right) " right, " (sum.silent) " silent" }
                }
                None => (none())
            }
        }
        td data-name="Version" {
            @match says {
                Some(says) => {
                    (says.version)
                    @if now.saturating_sub(says.at) > 30 { small { "said " (ago(says.at, now)) } }
                }
                None => (none())
            }
        }
    }
}

fn posting(post: &PosterStatus, now: u64) -> Markup {
    let ether = |wei: &str| {
        wei.parse::<f64>().map_or_else(|_| wei.to_owned(), |wei| format!("{} ether", number(wei / 1e18)))
    };
    html! {
        @if let Some(hold) = &post.hold { p { (pill(State::Bad, "on hold")) " " (hold) } }
        div.beside {
            dl {
                dt { "Queue" }
                dd {
                    @if post.queue.is_empty() { "empty" }
                    @for (n, (stage, count)) in post.queue.iter().enumerate() {
                        @if n > 0 { ", " }
                        (count) " " (stage)
                    }
                    @if post.queue_bytes > 0 { " (" (bytes(post.queue_bytes as f64)) ")" }
                }
                dt { "Oldest in no block" }
                dd { @match post.oldest_waiting_since { Some(since) => (span(now.saturating_sub(since))), None => "none" } }
                dt { "Batches on the chain" }
                dd { @match post.batches_on_chain { Some(count) => (count), None => "not known yet" } }
            }
            dl {
                dt { "Account" }
                dd { code { (post.account) } }
                dt { "Balance" }
                dd { @match &post.balance_wei { Some(wei) => (ether(wei)), None => "not known yet" } }
                dt { "Keyset at the contract" }
                dd {
                    @match post.keyset_valid {
                        Some(true) => (pill(State::Good, "valid")),
                        Some(false) => (pill(State::Bad, "not valid")),
                        None => "not known yet"
                    }
                }
            }
        }
    }
}

fn certificates(status: &Status) -> Markup {
    if status.certificates.is_empty() {
        return html! { p.quiet { "None since the start." } };
    }
    html! {
        div.wide tabindex="0" role="region" aria-label="Last certificates, a table" {
            table {
                thead {
                    tr {
                        th scope="col" { "Made" }
                        th scope="col" { "Batch" }
                        th.number scope="col" { "Size" }
                        th.number scope="col" { "Took" }
                        th scope="col" { "Signed by" }
                        th scope="col" { "Kept until" }
                    }
                }
                tbody {
                    @for made in status.certificates.iter().take(SHOWN) {
                        tr {
                            td { time title=(moment(made.at)) { (clock(made.at)) } }
                            td { code title=(made.data_hash) { (made.data_hash.get(..18).unwrap_or(&made.data_hash)) "…" } }
                            td.number { (bytes(made.length as f64)) }
                            td.number { (milliseconds(made.took_ms)) }
                            td { (signers(status, made.signers_mask)) }
                            td { (moment(made.kept_until)) }
                        }
                    }
                }
            }
        }
        p.quiet { "A certificate is made of the first signatures that are enough; the other members have the batch all the same." }
    }
}

fn signers(status: &Status, mask: u64) -> Markup {
    let signed = |index: usize| {
        u32::try_from(index).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|rest| rest & 1 == 1))
    };
    let names: Vec<&str> =
        status.members.iter().filter(|m| signed(m.index)).map(|m| m.name.as_str()).collect();
    html! {
        span.dots role="img" aria-label=(names.join(", ")) title=(names.join(", ")) {
            @for member in &status.members { i.on[signed(member.index)] {} }
        }
    }
}

fn server(status: &Status) -> Markup {
    let reads = &status.reads;
    let machine = das_dashboard::machine::MachineUse::now();
    html! {
        div.beside {
            dl {
                dt { "Runs since" } dd { (moment(status.started_at)) }
                dt { "Processor time" } dd { (span(status.process.cpu_seconds as u64)) ", of " (machine.processors) " processors" }
                dt { "Memory" } dd { (bytes(status.process.memory_bytes as f64)) "; machine: " (free_of(machine.available, machine.memory)) }
                dt { "Open files, threads" } dd { (status.process.open_files) ", " (status.process.threads) }
            }
            dl {
                dt { "Batches in memory" } dd { (reads.cached_batches) " (" (bytes(reads.cached_bytes as f64)) ")" }
                dt { "Members keep batches" } dd { (status.committee.expiration_policy) }
                @for endpoint in &reads.endpoints {
                    dt { "Reads from" }
                    dd {
                        code { (endpoint.url) } " "
                        span.quiet {
                            @match (endpoint.mean_latency_ms, endpoint.success_ratio) {
                                (Some(mean), Some(good)) => { (milliseconds(mean)) ", " (percent(good)) " answered" }
                                _ => "not asked yet"
                            }
                        }
                    }
                }
            }
        }
    }
}
