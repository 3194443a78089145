//! A gather against a raw whole copy from one member, over links of 100 Mbit/s and over bare loopback; with and without
//! a peer that hangs.
//!
//! Prints tables; asserts nothing. `cargo bench -p das-node --bench gather`, optionally with the names of tables: `links`,
//! `hanging`, `loopback`. The links are loopback TCP in this process; each pair of members has its own, which lets so many
//! bytes per second through.

#![allow(clippy::print_stdout, reason = "tables are what it is for")]

mod links;

use std::sync::Arc;
use std::time::{Duration, Instant};

use das_common::batch::VerifiedBatch;
use das_common::committee::CodingId;
use das_common::erasure::Code;
use das_node::gather::{Gather, GatherFrom, GatherLimits, GatherMemory, GatherParts, Offence, ShardSource};
use rustix::time::{ClockId, clock_gettime};

use self::links::{Batch, Links};

const MEGABYTE: usize = 1_000_000;
/// 100 Mbit/s.
const BYTES_PER_SECOND: f64 = 12.5e6;
const MEMBERS: usize = 6;
const DATA_SHARDS: u64 = 3;
/// The one who reads.
const OWN: usize = 0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<&str> = arguments.iter().map(String::as_str).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name| named.is_empty() || named.contains(&name);
    // Under `cargo test` it only shows that it runs.
    let full = arguments.iter().any(|argument| argument == "--bench");
    println!("{DATA_SHARDS} of {MEMBERS}, the reader has its own shard; times in ms");
    if wanted("links") {
        links_of_100_mbit(full).await;
    }
    if wanted("hanging") {
        a_hanging_peer(full).await;
    }
    if wanted("loopback") {
        bare_loopback(full).await;
    }
}

/// The members, what they hold, and a gather that knows nothing of them yet.
struct Committee {
    links: Arc<Links>,
    batches: Vec<Batch>,
    gather: Gather<Links>,
}

impl Committee {
    async fn new(length: usize, batches: usize, bytes_per_second: Option<f64>) -> Self {
        let code = Code::new(DATA_SHARDS, MEMBERS as u64).expect("a code");
        let batches: Vec<Batch> = (0..batches).map(|seed| Batch::new(&code, length, seed)).collect();
        let links = Arc::new(Links::new(MEMBERS, &batches, bytes_per_second).await);
        let gather = gather_over(&links, code);
        Self { links, batches, gather }
    }

    /// Another batch every time, as far as there are any.
    fn batch(&self, turn: usize) -> &Batch {
        &self.batches[turn % self.batches.len()]
    }

    async fn gather(&self, turn: usize) -> Duration {
        let batch = self.batch(turn);
        let from = GatherFrom { root: None, own_shard: Some(batch.shards[OWN].clone()) };
        let start = Instant::now();
        let found = self.gather.gather(batch.hash, from).await.expect("a committee that has it");
        let took = start.elapsed();
        assert_eq!(found.bytes().len(), batch.data.len());
        took
    }

    /// Without a look at what came.
    async fn raw_copy(&self, turn: usize) -> Duration {
        let (batch, member) = (self.batch(turn), 1 + turn % (MEMBERS - 1));
        let start = Instant::now();
        let bytes = self.links.whole(member, batch.hash).await.expect("a member that has it");
        let took = start.elapsed();
        assert_eq!(bytes.len(), batch.data.len());
        took
    }

    async fn checked_copy(&self, turn: usize) -> Duration {
        let (batch, member) = (self.batch(turn), 1 + turn % (MEMBERS - 1));
        let start = Instant::now();
        let bytes = self.links.whole(member, batch.hash).await.expect("a member that has it");
        VerifiedBatch::check(bytes, &batch.hash).expect("the batch");
        start.elapsed()
    }
}

fn gather_over(links: &Arc<Links>, code: Code) -> Gather<Links> {
    let parts = GatherParts {
        source: links.clone(),
        code,
        coding: CodingId::from_bytes([0; 32]),
        own: Some(OWN),
        memory: GatherMemory::new(1 << 30),
        offences: Arc::new(|offence: Offence| panic!("an honest committee: {offence:?}")),
    };
    Gather::new(parts, GatherLimits::default())
}

async fn links_of_100_mbit(full: bool) {
    println!("\neach pair joined by its own 100 Mbit/s; alternating, another batch every time");
    heading();
    for (length, turns) in [(MEGABYTE / 10, 100), (MEGABYTE, 100), (3 * MEGABYTE, 40), (10 * MEGABYTE, 15)] {
        let turns = if full { turns } else { 2 };
        let committee = Committee::new(length, 4, Some(BYTES_PER_SECOND)).await;
        let (mut raw, mut gathered) = (Times::default(), Times::default());
        for turn in 0..turns {
            raw.add(committee.raw_copy(turn).await);
            gathered.add(committee.gather(turn).await);
        }
        let of = format!("{:.1} MB", length as f64 / MEGABYTE as f64);
        raw.print(&format!("{of} raw copy"));
        gathered.print(&format!("{of} gather"));
        println!("{:28} {:>8.2} times as fast (medians)", "", raw.median() / gathered.median());
    }
}

async fn a_hanging_peer(full: bool) {
    let turns = if full { 300 } else { 4 };
    println!("\n1 MB over the same links; one of the five peers hangs from the start, or after 50 gathers");
    heading();
    let length = MEGABYTE;
    for (name, warm, hang) in
        [("none hangs", 0, false), ("one hangs at once", 0, true), ("one begins to hang", 50, true)]
    {
        let committee = Committee::new(length, 4, Some(BYTES_PER_SECOND)).await;
        for turn in 0..warm {
            committee.gather(turn).await;
        }
        let mut times = Times::default();
        for turn in 0..turns {
            // Whoever is first in the others' order: the reader would ask it.
            committee.links.hang(if hang { Some(1) } else { None });
            times.add(committee.gather(turn).await);
        }
        times.print(name);
    }
}

async fn bare_loopback(full: bool) {
    println!("\nbare loopback; CPU is that of this process, the answering members in it");
    heading();
    for (length, turns) in [(MEGABYTE / 10, 1000), (MEGABYTE, 300), (10 * MEGABYTE, 40)] {
        let turns = if full { turns } else { 2 };
        let committee = Committee::new(length, 4, None).await;
        let of = format!("{:.1} MB", length as f64 / MEGABYTE as f64);
        let (mut copies, mut gathers) = (Times::default(), Times::default());
        let (mut copying, mut gathering) = (0.0, 0.0);
        for turn in 0..turns {
            let begin = cpu_seconds();
            copies.add(committee.checked_copy(turn).await);
            let middle = cpu_seconds();
            gathers.add(committee.gather(turn).await);
            copying += middle - begin;
            gathering += cpu_seconds() - middle;
        }
        let milliseconds_per_mb = |seconds: f64| seconds * 1e3 * MEGABYTE as f64 / (turns * length) as f64;
        copies.print(&format!("{of} copy, hash checked"));
        gathers.print(&format!("{of} gather"));
        println!(
            "{:28} CPU ms per MB: {:.2} copy, {:.2} gather",
            "",
            milliseconds_per_mb(copying),
            milliseconds_per_mb(gathering)
        );
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn heading() {
    println!("{:28} {:>8} {:>8} {:>8} {:>8} {:>6}", "", "median", "p99", "least", "most", "runs");
}

/// Milliseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e3);
        self.0.sort_by(f64::total_cmp);
    }

    fn quantile(&self, per_cent: usize) -> f64 {
        let rank = (self.0.len() * per_cent).div_ceil(100).max(1) - 1;
        self.0.get(rank).copied().unwrap_or(f64::NAN)
    }

    fn median(&self) -> f64 {
        self.quantile(50)
    }

    fn print(&self, name: &str) {
        println!(
            "{name:28} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>6}",
            self.median(),
            self.quantile(99),
            self.quantile(0),
            self.quantile(100),
            self.0.len()
        );
    }
}
