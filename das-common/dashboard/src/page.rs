//! The page around what a server shows.

use std::future::Future;

use das_common::alarm::Alarm;
use das_common::http::per_client::PortReport;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use parking_lot::Mutex;

use crate::chart::{Line, Unit, chart};
use crate::history::{History, Range};
use crate::machine::MachineUse;
use crate::scrape::Tick;
use crate::words::{ago, bytes, moment, percent};

/// The one stylesheet.
pub(crate) const STYLE: &str = include_str!("page/style.css");
/// The one script.
pub(crate) const SCRIPT: &str = include_str!("page/live.js");

/// How the limits of the ports that strangers reach are doing, a table.
pub fn ports(ports: &[PortReport]) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="Clients, a table" {
            table.cards {
                thead {
                    tr {
                        th scope="col" { "Port" }
                        th scope="col" { "Connections" }
                        th scope="col" { "Waiting requests" }
                        th scope="col" { "Refused since the start" }
                    }
                }
                tbody {
                    @for port in ports {
                        tr {
                            th scope="row" { (port.port) }
                            td data-name="Connections" {
                                (port.connections) " from " (port.clients) " addresses"
                                small { "at most " (port.connections_per_client) " from one" }
                            }
                            td data-name="Waiting requests" { (port.waiting) }
                            td data-name="Refused" {
                                (refusals(port))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn refusals(port: &PortReport) -> String {
    let counts = [
        (port.refused_connections, "connections beyond an address's share"),
        (port.refused_rate, "requests above the rate"),
        (port.refused_concurrent, "requests beyond an address's share"),
        (port.refused_busy, "requests, too busy"),
    ];
    let told: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

/// A part of the page that is renewed as a whole.
#[derive(Debug)]
pub struct Section {
    /// Names it on the page.
    pub id: &'static str,
    /// Its heading; none for what needs none.
    pub title: &'static str,
    /// What it shows.
    pub body: Markup,
    /// Renewed seldom: what is large and changes little.
    pub is_slow: bool,
}

impl Section {
    /// A section with a heading.
    pub fn new(id: &'static str, title: &'static str, body: Markup) -> Self {
        Self { id, title, body, is_slow: false }
    }

    /// The same, renewed seldom.
    pub fn slow(self) -> Self {
        Self { is_slow: true, ..self }
    }

    pub(crate) fn inner(&self) -> Markup {
        html! {
            @if !self.title.is_empty() { h2 { (self.title) } }
            (self.body)
        }
    }
}

/// What a server shows.
pub trait View: Send + Sync + 'static {
    /// Whose page it is: in its head and in the browser's list of tabs.
    fn title(&self) -> String;

    /// What stands beside the title.
    fn subtitle(&self) -> String;

    /// Pages elsewhere that belong to it: name and address.
    fn links(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The alarms that are raised.
    fn alarms(&self) -> Vec<Alarm>;

    /// What follows the alarms, from top to bottom.
    fn sections(&self, graphs: &Graphs<'_>) -> impl Future<Output = Vec<Section>> + Send;

    /// Numbers to remember, by series, of the time that has passed since the last were taken.
    fn samples(&self, tick: &Tick<'_>) -> Vec<(String, f64)>;

    /// Somebody is looking at the page: time to be curious.
    fn looked_at(&self) {}

    /// Everything that the page says, as JSON.
    fn status(&self) -> impl Future<Output = String> + Send;
}

/// Draws graphs of what is remembered.
pub struct Graphs<'a> {
    pub(crate) history: &'a Mutex<History>,
    pub(crate) range: Range,
    /// Unix seconds.
    pub now: u64,
}

impl Graphs<'_> {
    /// A graph of some series, each with the name it has on the page.
    pub fn chart(&self, title: &str, unit: Unit, series: &[(&str, &str)]) -> Markup {
        let history = self.history.lock();
        let line = |(name, series): &(&str, &str)| Line {
            name: (*name).to_owned(),
            values: history.values(series, self.range, self.now),
        };
        let lines: Vec<_> = series.iter().map(line).collect();
        drop(history);
        chart(title, unit, self.range, &lines)
    }

    /// A graph with a line for each series that begins with `prefix`, by the rest of its name, in the order of `names`.
    pub fn each(&self, title: &str, unit: Unit, prefix: &str, names: &[String]) -> Markup {
        let series: Vec<String> = names.iter().map(|name| format!("{prefix}{name}")).collect();
        let lines: Vec<_> = names.iter().map(String::as_str).zip(series.iter().map(String::as_str)).collect();
        self.chart(title, unit, &lines)
    }

    /// The graphs of process and machine, which all servers have. Their numbers: `machine_samples`.
    pub fn of_machine(&self) -> Markup {
        html! {
            (self.chart("Processor", Unit::Share, &[("this process", "process/cpu"), ("machine", "machine/cpu")]))
            (self.chart("Memory", Unit::Bytes, &[("this process", "process/memory"), ("machine", "machine/memory")]))
            (self.chart("Network, this process", Unit::BytesPerSecond, &[("in", "process/in"), ("out", "process/out")]))
            (self.chart("Disk, this process", Unit::BytesPerSecond, &[("read", "process/read"), ("written", "process/written")]))
            (self.chart("Network, machine", Unit::BytesPerSecond, &[("in", "machine/in"), ("out", "machine/out")]))
            (self.chart("Disk, machine", Unit::BytesPerSecond, &[("read", "machine/read"), ("written", "machine/written")]))
        }
    }
}

/// Process and machine over the time between two looks.
pub(crate) fn machine_samples(
    tick: &Tick<'_>,
    before: &MachineUse,
    after: &MachineUse,
) -> Vec<(String, f64)> {
    use das_common::telemetry::names;
    let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / tick.seconds;
    let processors = after.processors.max(1) as f64;
    let of_process = [
        ("process/cpu", tick.rate(names::PROCESS_CPU, &[]).map(|busy| busy / processors)),
        ("process/memory", tick.gauge(names::PROCESS_MEMORY, &[])),
        ("process/read", tick.rate(names::PROCESS_READ, &[])),
        ("process/written", tick.rate(names::PROCESS_WRITTEN, &[])),
        ("process/in", tick.rate(names::PROCESS_NETWORK, &[("direction", "in")])),
        ("process/out", tick.rate(names::PROCESS_NETWORK, &[("direction", "out")])),
        ("process/files", tick.gauge(names::PROCESS_FILES, &[])),
    ];
    let of_machine = [
        ("machine/cpu", (after.busy - before.busy).max(0.0) / tick.seconds / processors),
        ("machine/memory", after.memory.saturating_sub(after.available) as f64),
        ("machine/in", per_second(before.received, after.received)),
        ("machine/out", per_second(before.sent, after.sent)),
        ("machine/read", per_second(before.read, after.read)),
        ("machine/written", per_second(before.written, after.written)),
    ];
    let known = of_process.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known.chain(of_machine).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The alarms, or that there are none.
pub(crate) fn alarms(alarms: &[Alarm], now: u64) -> Section {
    let body = html! {
        @if alarms.is_empty() {
            p.calm { span.tick aria-hidden="true" { "✓" } " No alarms." }
        } @else {
            ul.alarms {
                @for alarm in alarms {
                    li {
                        p { b { (alarm.text) } }
                        p { "To do: " (alarm.cure) }
                        p.quiet { code { (alarm.code) } ", since " time title=(moment(alarm.since)) { (ago(alarm.since, now)) } }
                    }
                }
            }
        }
    };
    Section::new("alarms", if alarms.is_empty() { "" } else { "Alarms" }, body)
}

/// A tile: a word for what it is, a figure, and what more there is to say.
pub fn tile(state: State, name: &str, figure: &str, more: &str) -> Markup {
    html! {
        div.tile.(state.class()) {
            span.name { (name) }
            b { (figure) }
            span.quiet { (more) }
        }
    }
}

/// A word with a colour; the word says what the colour says.
pub fn pill(state: State, word: &str) -> Markup {
    html! { span.pill.(state.class()) { (word) } }
}

/// A share of something as a bar.
pub fn bar(share: f64, label: &str) -> Markup {
    let share = share.clamp(0.0, 1.0);
    let state = if share > 0.95 {
        State::Bad
    } else if share > 0.85 {
        State::Waits
    } else {
        State::Good
    };
    html! {
        svg.bar.(state.class()) viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={ (label) ": " (percent(share)) } {
            rect.whole width="100" height="6" rx="2" {}
            rect width=(format!("{:.1}", share * 100.0)) height="6" rx="2" {}
        }
    }
}

/// Free of all, as words.
pub fn free_of(free: u64, all: u64) -> String {
    format!("{} free of {}", bytes(free as f64), bytes(all as f64))
}

/// How something is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// Worth a look.
    Waits,
    /// Not as it should be.
    Bad,
    /// Nothing to judge.
    Plain,
}

impl State {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Waits => "waits",
            Self::Bad => "bad",
            Self::Plain => "plain",
        }
    }
}

/// What the browser's tab is called.
pub(crate) fn tab(title: &str, alarms: usize) -> String {
    if alarms == 0 { title.to_owned() } else { format!("({alarms}) {title}") }
}

pub(crate) struct Frame<'a> {
    pub(crate) title: &'a str,
    pub(crate) subtitle: &'a str,
    pub(crate) links: &'a [(String, String)],
    pub(crate) range: Range,
    pub(crate) now: u64,
    pub(crate) alarms: usize,
}

pub(crate) fn document(frame: &Frame<'_>, sections: &[(&'static str, String)]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex, nofollow";
                meta name="color-scheme" content="light dark";
                title { (tab(frame.title, frame.alarms)) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
                noscript { meta http-equiv="refresh" content="10"; }
            }
            body data-range=(frame.range.name()) data-title=(frame.title) {
                a.skip href="#main" { "To the contents" }
                header {
                    div {
                        h1 { span.mark aria-hidden="true" { i {} i {} i {} } (frame.title) }
                        p.quiet { (frame.subtitle) }
                    }
                    nav aria-label="Pages" {
                        @for (name, address) in frame.links { a href=(address) rel="noopener" { (name) } }
                        a href="status" { "JSON" }
                    }
                }
                main #main {
                    p #live .quiet role="status" { "As of " (moment(frame.now)) "." }
                    @for (id, inner) in sections {
                        @if *id == "graphs" { (ranges(frame.range)) }
                        section id=(id) { (PreEscaped(inner)) }
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn ranges(range: Range) -> Markup {
    html! {
        nav.ranges aria-label="Range of the graphs" {
            @for each in Range::ALL {
                a href={ "?range=" (each.name()) "#graphs" } aria-current=[(each == range).then_some("true")] { (each.name()) }
            }
        }
    }
}
