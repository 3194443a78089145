//! `storage`: what members hold on disk, by form, against the same data kept whole.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use das_common::committee::Committee;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::tls::OutgoingTlsOptions;
use futures::future::join_all;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::args;
use super::keyset::CommitteeFile;
use super::output::Answer;

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;

das_common::options! {
    /// Options of `storage`.
    pub(crate) struct Options {
        ["Options"]
        /// REST URL of a member; several are separated by commas.
        url: Vec<String>,
        /// Ask the members of this committee.
        committee: CommitteeFile,
        /// How long to wait for each member.
        timeout: Duration = "10s",
        /// Servers with https URLs: whom to trust, and who we are.
        tls: OutgoingTlsOptions,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "storage",
    "Prints what members hold: batches and bytes by form, dead space, and what shards save against the same data kept whole. \
     Of some members (--url) or of all of a committee (--committee.file). Exit code 1 when a member cannot say, or lacks \
     batches that it should hold."
);

/// Of the answer at `/custody`, what is counted here.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Held {
    batches: Batches,
    bytes: Bytes,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Batches {
    hot: u64,
    waiting: u64,
    sharded: u64,
    whole: u64,
    missing: u64,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bytes {
    whole: u64,
    shards: u64,
    sharded_would_take: u64,
    dead: u64,
    index: u64,
}

impl Held {
    fn add(&mut self, other: &Self) {
        let (batches, more) = (&mut self.batches, &other.batches);
        batches.hot += more.hot;
        batches.waiting += more.waiting;
        batches.sharded += more.sharded;
        batches.whole += more.whole;
        batches.missing += more.missing;
        let (bytes, more) = (&mut self.bytes, &other.bytes);
        bytes.whole += more.whole;
        bytes.shards += more.shards;
        bytes.sharded_would_take += more.sharded_would_take;
        bytes.dead += more.dead;
        bytes.index += more.index;
    }

    /// What the data would take if all of it were whole.
    fn kept_whole(&self) -> u64 {
        self.bytes.whole + self.bytes.sharded_would_take
    }

    /// Bytes less than kept whole; below 0 while shards lie beside whole copies.
    fn saved(&self) -> i128 {
        i128::from(self.kept_whole()) - i128::from(self.bytes.whole) - i128::from(self.bytes.shards)
    }
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        let members = members(&options)?;
        let timeout = options.timeout;
        let found = super::block_on(async {
            let client = super::http(&options.tls)?;
            let asked = members.iter().map(|(_, endpoint)| ask(&client, endpoint, timeout));
            Ok(join_all(asked).await)
        })?;
        let (mut text, mut rows, mut total) = (header(), Vec::new(), Held::default());
        let mut good = true;
        for ((name, _), held) in members.iter().zip(&found) {
            match held {
                Ok((held, raw)) => {
                    total.add(held);
                    good &= held.batches.missing == 0;
                    text += &row(name, held);
                    rows.push(json!({ "name": name, "saved": saved(held), "custody": raw }));
                }
                Err(error) => {
                    good = false;
                    let _ = writeln!(text, "{name:<16}{error:#}");
                    rows.push(json!({ "name": name, "error": format!("{error:#}") }));
                }
            }
        }
        text += &row("together", &total);
        text += &summary(&total);
        let json = json!({
            "members": rows,
            "keptWholeBytes": total.kept_whole(),
            "heldBytes": total.bytes.whole + total.bytes.shards,
            "deadBytes": total.bytes.dead,
            "indexBytes": total.bytes.index,
            "saved": saved(&total),
        });
        let mut answer = Answer::new(options.json, text, &json)?;
        answer.good = good;
        Ok(answer)
    })
}

/// Whom to ask, by name.
fn members(options: &Options) -> anyhow::Result<Vec<(String, Endpoint)>> {
    let mut members = Vec::new();
    for url in &options.url {
        members.push((url.clone(), Endpoint::parse(url).context("--url")?));
    }
    if !options.committee.file.is_empty() {
        for member in Committee::load(&options.committee.file)?.members() {
            let Some(rest) = &member.rest else {
                bail!("the committee file has no REST URL for {}; use --url", member.name)
            };
            members.push((member.name.clone(), Endpoint::parse(rest.as_str())?));
        }
    }
    ensure!(!members.is_empty(), "say whom to ask with --url or --committee.file");
    Ok(members)
}

async fn ask(client: &HttpClient, endpoint: &Endpoint, timeout: Duration) -> anyhow::Result<(Held, Value)> {
    let response = client.get(endpoint, "/custody", timeout, MAX_ANSWER_BYTES).await?;
    match response.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => bail!("{endpoint} keeps whole copies only: no custody runs there"),
        status => bail!("{endpoint} answers HTTP status {status}"),
    }
    let raw: Value =
        serde_json::from_slice(&response.body).with_context(|| format!("the answer of {endpoint}"))?;
    let held = Held::deserialize(&raw).with_context(|| format!("the answer of {endpoint}"))?;
    Ok((held, raw))
}

fn header() -> String {
    format!(
        "{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}{:>12}{:>12}{:>12}{:>12}\n",
        "batches, bytes", "hot", "waiting", "sharded", "whole", "missing", "whole", "shards", "dead", "index"
    )
}

fn row(name: &str, held: &Held) -> String {
    let (batches, bytes) = (held.batches, held.bytes);
    format!(
        "{name:<16}{:>9}{:>9}{:>9}{:>9}{:>9}{:>12}{:>12}{:>12}{:>12}\n",
        batches.hot,
        batches.waiting,
        batches.sharded,
        batches.whole,
        batches.missing,
        size(bytes.whole),
        size(bytes.shards),
        size(bytes.dead),
        size(bytes.index),
    )
}

fn summary(total: &Held) -> String {
    let held = total.bytes.whole + total.bytes.shards;
    let mut text = format!("\nkept whole this would be {}; it is {}", size(total.kept_whole()), size(held));
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let share = total.saved() as f64 / total.kept_whole().max(1) as f64 * 100.0;
    match total.saved() {
        0.. => {
            let _ = writeln!(text, ": {share:.0} % saved");
        }
        _ => text += ": nothing saved yet, shards lie beside whole copies\n",
    }
    text
}

/// In JSON, where numbers of this size are exact.
fn saved(held: &Held) -> i64 {
    i64::try_from(held.saved()).unwrap_or(i64::MAX)
}

/// Bytes with a unit of 1000.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(whole: u64, shards: u64, sharded_would_take: u64) -> Held {
        let bytes = Bytes { whole, shards, sharded_would_take, dead: 1, index: 2 };
        Held { batches: Batches { sharded: 3, ..Batches::default() }, bytes }
    }

    #[test]
    fn what_shards_save_is_counted_against_whole_copies() {
        let mut total = held(0, 34_000, 100_000);
        assert_eq!((total.kept_whole(), total.saved()), (100_000, 66_000));
        total.add(&held(0, 34_000, 100_000));
        assert_eq!((total.batches.sharded, total.saved()), (6, 132_000));
        assert!(
            summary(&total).contains("would be 200.0 kB; it is 68.0 kB: 66 % saved"),
            "{}",
            summary(&total)
        );
        // Shards beside whole copies cost and save nothing.
        assert_eq!(held(100, 40, 0).saved(), -40);
        assert!(summary(&held(100, 40, 0)).contains("nothing saved yet"));
        assert!(summary(&Held::default()).contains("0 % saved"));
    }

    #[test]
    fn sizes_are_short() {
        let shown = [0, 999, 1000, 999_949, 999_950, 1 << 40, u64::MAX].map(size);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "1.1 TB", "18446.7 PB"]);
    }

    #[test]
    fn an_answer_of_a_member_is_read_whatever_else_is_in_it() {
        let raw = json!({
            "storageId": "00", "codingId": null, "peers": [], "later": 1,
            "batches": { "hot": 1, "waiting": 2, "sharded": 3, "whole": 4, "missing": 5, "elsewhere": 6 },
            "bytes": { "whole": 7, "shards": 8, "shardedWouldTake": 9, "dead": 10, "index": 11 },
        });
        let held = Held::deserialize(&raw).unwrap();
        assert_eq!((held.batches.missing, held.kept_whole(), held.bytes.index), (5, 16, 11));
    }
}
