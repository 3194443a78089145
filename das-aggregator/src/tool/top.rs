//! `top`: a committee or a member, live in a terminal, from `/status`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use das_common::http::client::{Endpoint, HttpClient};
use das_common::tls::OutgoingTlsOptions;
use das_dashboard::words::{ago, bytes, clock, milliseconds, percent, span};
use http::StatusCode;
use serde_json::Value;

use super::args;
use super::output::Answer;

/// The longest answer that is read.
const MAX_ANSWER: usize = 4 << 20;
/// What is not told.
const NONE: &str = "-";

das_common::options! {
    /// Options of `top`.
    pub(crate) struct Options {
        ["Options"]
        /// URL of a dashboard, a REST port or a metrics port.
        url: String = "http://127.0.0.1:9790",
        /// Time between two looks.
        interval: Duration = "2s",
        /// Print one look and end.
        once: bool = "false",
        /// Print JSON, once.
        json: bool = "false",
        ["TLS"]
        /// Whom to trust and who we are, for https URLs.
        tls: OutgoingTlsOptions,
    }
}

args::command!(
    Options,
    "top",
    "Shows what /status of an aggregator or a node says, again and again, until Ctrl-C: `dastool top --url URL`."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        let url = options.url.trim_end_matches('/').trim_end_matches("/status");
        let endpoint = Endpoint::parse(url).with_context(|| format!("--url {url}"))?;
        let http = super::http(&options.tls)?;
        let once = options.once || options.json || !std::io::stdout().is_terminal();
        super::block_on(async move {
            if once {
                let status = look(&http, &endpoint).await?;
                return Answer::new(options.json, shown(&status, &Paint { colours: false }), &status);
            }
            let watching = watch(&http, &endpoint, options.interval.max(Duration::from_millis(200)));
            tokio::select! {
                ended = watching => ended.map(|()| Answer::text("")),
                _ = tokio::signal::ctrl_c() => Ok(Answer::text("")),
            }
        })
    })
}

async fn look(http: &HttpClient, endpoint: &Endpoint) -> anyhow::Result<Value> {
    let answer = http.get(endpoint, "/status", Duration::from_secs(5), MAX_ANSWER).await?;
    ensure!(answer.status == StatusCode::OK, "{endpoint}/status: HTTP status {}", answer.status);
    serde_json::from_slice(&answer.body).with_context(|| format!("{endpoint}/status is no JSON"))
}

async fn watch(http: &HttpClient, endpoint: &Endpoint, interval: Duration) -> anyhow::Result<()> {
    let paint = Paint { colours: std::env::var_os("NO_COLOR").is_none() };
    let mut last = None;
    loop {
        let screen = match look(http, endpoint).await {
            Ok(status) => {
                let screen = shown(&status, &paint);
                last = Some(screen.clone());
                screen
            }
            Err(error) => {
                let said = paint.bad(&format!("{error:#}"));
                format!("{said}\n\n{}", last.as_deref().unwrap_or_default())
            }
        };
        let (rows, columns) = size();
        let mut out = std::io::stdout().lock();
        // To the top, each line cleared behind what it says, and all below: nothing flickers.
        let lines = screen.lines().take(rows).map(|line| format!("{}\x1b[K\r\n", cut(line, columns)));
        write!(out, "\x1b[H{}\x1b[J", lines.collect::<String>().trim_end_matches("\r\n"))?;
        out.flush()?;
        drop(out);
        tokio::time::sleep(interval).await;
    }
}

/// Rows and columns of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => (24, 80),
    }
}

/// The line as far as the terminal is wide. What colours it takes no room.
fn cut(line: &str, columns: usize) -> String {
    let (mut out, mut room, mut in_colour) = (String::new(), columns, false);
    for c in line.chars() {
        if c == '\x1b' {
            in_colour = true;
        }
        if in_colour {
            out.push(c);
            in_colour = c != 'm';
        } else if room > 0 {
            out.push(c);
            room -= 1;
        }
    }
    out
}

struct Paint {
    colours: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn head(&self, text: &str) -> String {
        self.with("1", text)
    }
}

fn shown(status: &Value, paint: &Paint) -> String {
    let now = status["now"].as_u64().unwrap_or_default();
    let mut text = String::new();
    if status.get("committee").is_some() {
        of_committee(&mut text, status, now, paint);
    } else {
        of_node(&mut text, status, now, paint);
    }
    let alarms = list(&status["alarms"]);
    if alarms.is_empty() {
        line(&mut text, &paint.good("no alarms"));
    }
    for alarm in alarms {
        let since =
            alarm["since"].as_u64().map_or_else(String::new, |since| format!(", {}", ago(since, now)));
        line(&mut text, &paint.bad(&format!("{}: {}{since}", word(&alarm["code"]), word(&alarm["text"]))));
        line(&mut text, &format!("    to do: {}", word(&alarm["cure"])));
    }
    text
}

fn of_committee(text: &mut String, status: &Value, now: u64, paint: &Paint) {
    let committee = &status["committee"];
    let (well, all, needed) = (
        number(&committee["healthyMembers"]),
        number(&committee["members"]),
        number(&committee["signaturesNeeded"]),
    );
    let verdict = format!("{well} of {all} members are well, {needed} are needed");
    let verdict = if well == all { paint.good(&verdict) } else { paint.bad(&verdict) };
    line(text, &format!("{}   {verdict}   {}", paint.head(&head(status, "das-aggregator")), clock(now)));
    let mut facts = format!("{} certificates in the last minute", number(&status["certificatesLastMinute"]));
    if let Some(last) = list(&status["certificates"]).first() {
        let took = last["tookMs"].as_f64().map_or_else(|| NONE.to_owned(), milliseconds);
        let _ = write!(facts, ", the last {} in {took}", ago(last["at"].as_u64().unwrap_or(now), now));
    }
    let _ = write!(facts, "; {} owed to late members", number(&status["late"]["batches"]));
    if let Some(queue) = status["post"]["queue"].as_object() {
        let waiting: u64 = queue.values().filter_map(Value::as_u64).sum();
        let _ = write!(facts, "; {waiting} not final on the chain");
    }
    line(text, &facts);
    line(text, "");
    let mut table = vec![
        ["member", "state", "signs", "p50", "p99", "read", "canary", "free", "clock", "missing", "version"]
            .map(str::to_owned),
    ];
    let canary = list(&status["canary"]["members"]);
    for (index, member) in list(&status["members"]).iter().enumerate() {
        let says = &member["says"];
        let tried =
            canary.get(index).map_or(NONE, |round| if round["error"].is_null() { "good" } else { "failed" });
        table.push([
            word(&member["name"]),
            word(&member["state"]),
            member["signingRate"].as_f64().map_or_else(none, percent),
            member["p50Ms"].as_f64().map_or_else(none, milliseconds),
            member["p99Ms"].as_f64().map_or_else(none, milliseconds),
            member["reads"]["meanLatencyMs"].as_f64().map_or_else(none, milliseconds),
            tried.to_owned(),
            says["diskFreeBytes"].as_f64().map_or_else(none, bytes),
            says["clockAheadMs"].as_i64().map_or_else(none, |ms| format!("{ms:+} ms")),
            says["custody"]["missing"].as_u64().map_or_else(none, |n| n.to_string()),
            says["version"].as_str().unwrap_or(NONE).to_owned(),
        ]);
    }
    columns(text, &table, paint);
}

fn of_node(text: &mut String, status: &Value, now: u64, paint: &Paint) {
    line(
        text,
        &format!("{}   {}   {}", paint.head(&head(status, "das-node")), word(&status["role"]), clock(now)),
    );
    let can = |what: &str, key: &str| match status[key].as_bool() {
        Some(true) => paint.good(&format!("{what}: yes")),
        _ => paint.bad(&format!("{what}: no")),
    };
    line(
        text,
        &format!(
            "{}   {}   {}",
            can("takes stores", "canStore"),
            can("serves reads", "canServe"),
            reasons(status)
        ),
    );
    let free = status["diskFreeBytes"].as_f64().map_or_else(none, bytes);
    let all = status["diskTotalBytes"].as_f64().map_or_else(none, bytes);
    line(text, &format!("{} batches, {free} free of {all}", number(&status["batches"])));
    let custody = &status["custody"];
    if custody.is_object() {
        let of = |key: &str| number(&custody["batches"][key]);
        let forms = format!(
            "{} hot, {} waiting, {} as shards, {} missing",
            of("hot"),
            of("waiting"),
            of("sharded"),
            of("missing")
        );
        line(text, &format!("custody: {forms}"));
        line(text, "");
        let mut table = vec![["peer", "connection", "clock", "right", "wrong", "silent"].map(str::to_owned)];
        for peer in list(&custody["peers"]) {
            let audits = |key: &str| number(&peer["audits"][key]).to_string();
            table.push([
                word(&peer["name"]),
                if peer["connected"].as_bool() == Some(true) { "connected" } else { "away" }.to_owned(),
                peer["clockAheadMs"].as_i64().map_or_else(none, |ms| format!("{ms:+} ms")),
                audits("right"),
                audits("wrong"),
                audits("silent"),
            ]);
        }
        columns(text, &table, paint);
    }
}

fn head(status: &Value, program: &str) -> String {
    let up = number(&status["now"]).saturating_sub(number(&status["startedAt"]));
    format!("{program} {}, up {}", word(&status["version"]), span(up))
}

fn reasons(status: &Value) -> String {
    list(&status["reasons"]).iter().map(word).collect::<Vec<_>>().join("; ")
}

fn columns<const N: usize>(text: &mut String, table: &[[String; N]], paint: &Paint) {
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for (n, row) in table.iter().enumerate() {
        let cells = row.iter().zip(widths).map(|(cell, width)| {
            let padded = format!("{cell:<width$}");
            match cell.as_str() {
                _ if n == 0 => paint.head(&padded),
                "up" | "good" | "connected" => paint.good(&padded),
                "down" | "failed" | "refuses" | "wrong" | "away" => paint.bad(&padded),
                _ => padded,
            }
        });
        line(text, cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    line(text, "");
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn none() -> String {
    NONE.to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// A text of the server's. What would move the cursor is left out.
fn word(value: &Value) -> String {
    value.as_str().unwrap_or(NONE).chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_committee_and_a_node_are_shown_and_cannot_take_the_terminal_over() {
        let status = json!({
            "version": "1", "now": 1_000, "startedAt": 400, "certificatesLastMinute": 7,
            "committee": { "members": 2, "healthyMembers": 1, "signaturesNeeded": 1 },
            "certificates": [{ "at": 998, "tookMs": 12.0 }], "late": { "batches": 3 },
            "members": [
                { "name": "alice\x1b[2J", "state": "up", "signingRate": 1.0, "p50Ms": 2.0, "says": { "version": "1", "clockAheadMs": -4 } },
                { "name": "bob", "state": "down" },
            ],
            "canary": { "members": [{ "error": null }, { "error": "store: no answer" }] },
            "alarms": [{ "code": "DAS-MEMBER-001", "text": "bob: no answer", "cure": "call him", "since": 990 }],
        });
        let text = shown(&status, &Paint { colours: false });
        for part in [
            "1 of 2 members are well",
            "7 certificates",
            "12 ms",
            "3 owed",
            "alice[2J",
            "-4 ms",
            "failed",
            "DAS-MEMBER-001: bob: no answer, 10 s ago",
            "to do: call him",
            "up 10 min",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains('\x1b'));
        assert!(shown(&status, &Paint { colours: true }).contains("\x1b[1;31mdown"));
        let node = json!({ "version": "1", "now": 5, "role": "member", "canStore": true, "canServe": false, "reasons": ["the index"], "alarms": [],
            "custody": { "batches": { "sharded": 9 }, "peers": [{ "name": "carol", "connected": false, "audits": { "wrong": 2 } }] } });
        let text = shown(&node, &Paint { colours: false });
        for part in [
            "takes stores: yes",
            "serves reads: no",
            "the index",
            "9 as shards",
            "carol",
            "away",
            "no alarms",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!shown(&json!({}), &Paint { colours: false }).is_empty(), "whatever answers, nothing panics");
    }

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_its_colours_are_not() {
        assert_eq!(cut("\x1b[1mabcdef\x1b[0m", 3), "\x1b[1mabc\x1b[0m");
    }
}
