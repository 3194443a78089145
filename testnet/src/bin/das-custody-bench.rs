//! Measures what custody costs and gains, over real processes, beside what is promised.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use das_common::data_hash::DataHash;
use das_common::store_auth::StoreKey;
use das_testnet::args::Args;
use das_testnet::custody;
use das_testnet::http::Connection;
use das_testnet::link::Links;
use das_testnet::load::bodies::{BodyMaker, StoreBody};
use das_testnet::network::{Network, Plan, Who};

const HELP: &str = "\
das-custody-bench: what shards cost and gain, six members as processes of this machine

  --dir DIR      where they keep their data meanwhile: a real file system, not tmpfs (default: the temporary directory)
  --quick        a tenth of it, for a look
  --only WHAT    gather, hang, demotion or stores; may be repeated (default: all)
  --seed N       of the batches (default random, printed)

gather     a batch as shards of two other members, and whole from one, with 100 Mbit/s between each two and without bound
hang       p99 of gathers while one member hangs
demotion   processor time of each member for 3 600 batches of 100 KB
stores     p99 of stores at one member while it turns batches into shards, and while it does not, in turns
";

const PLAN: Plan = Plan { members: 6, honest: 4, shards: 3, base_port: 0 };
const MEMBERS: [usize; 6] = [0, 1, 2, 3, 4, 5];
/// 100 Mbit/s.
const RATE: u64 = 12_500_000;
/// Longer than any measurement: nothing becomes a shard.
const NEVER: &str = "1000h";
const AT_ONCE: &str = "0s";
const PATIENCE: Duration = Duration::from_secs(600);

struct Bench {
    dir: PathBuf,
    quick: bool,
    seed: u64,
    missed: usize,
}

fn main() -> ExitCode {
    match run(Args::from_env()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "das-custody-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn run(mut args: Args) -> anyhow::Result<usize> {
    if args.switch("help") {
        say(HELP);
        return Ok(0);
    }
    let mut bench = Bench {
        dir: args.value_or("dir", std::env::temp_dir())?,
        quick: args.switch("quick"),
        seed: args.value_or("seed", rand::random())?,
        missed: 0,
    };
    let only: Vec<String> = args.values("only")?;
    args.finish()?;
    let wanted = |what: &str| only.is_empty() || only.iter().any(|one| one == what);
    std::fs::create_dir_all(&bench.dir)?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    say(&format!("six members on {cores} cores; seed {}", bench.seed));
    if bench.quick {
        say("QUICK: a tenth of the data, not for a claim");
    }
    if wanted("gather") {
        bench.gather(RATE)?;
        bench.gather(0)?;
    }
    if wanted("hang") {
        bench.hang()?;
    }
    if wanted("demotion") {
        bench.demotion()?;
    }
    if wanted("stores") {
        bench.stores()?;
    }
    Ok(bench.missed)
}

/// A committee without caches for reads, with links between its members.
struct Committee {
    network: Network,
    links: Links,
    maker: BodyMaker,
    _dir: tempfile::TempDir,
}

impl Committee {
    fn start(bench: &Bench, hot: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("das-custody-").tempdir_in(&bench.dir)?;
        let network = Network::open(dir.path(), &PLAN)?.with_node_options([
            "--data-availability.local-cache.max-bytes",
            "0",
            "--custody.demotion-patience",
            "1s",
            "--peer.max-backoff",
            "1s",
        ]);
        let key = std::fs::read_to_string(network.poster_key_file())?;
        let maker = BodyMaker::new(StoreKey::from_hex(key.trim())?.into(), bench.seed);
        let (links, network) = Links::between_members(network)?;
        let mut committee = Self { network, links, maker, _dir: dir };
        committee.restart(&MEMBERS, hot)?;
        committee.network.start(Who::Aggregator)?;
        committee.met()?;
        Ok(committee)
    }

    /// Ends members and starts them with another time for which batches stay whole.
    fn restart(&mut self, members: &[usize], hot: &str) -> anyhow::Result<()> {
        for member in members {
            self.network.stop(Who::Member(*member))?;
            custody::set_hot_retention(&self.network, *member, hot)?;
        }
        for member in members {
            self.network.start(Who::Member(*member))?;
        }
        Ok(())
    }

    fn met(&self) -> anyhow::Result<()> {
        let all = || MEMBERS.iter().all(|member| custody::connected(&self.network, *member) == 5);
        custody::wait_until(PATIENCE, all).map(drop).context("the members do not meet")
    }

    fn rpc(&self, who: Who) -> anyhow::Result<Connection> {
        Ok(Connection::new(&self.network.addresses(who)?.rpc)?)
    }

    fn store(&mut self, who: Who, count: usize, size: usize) -> anyhow::Result<Vec<DataHash>> {
        let mut rpc = self.rpc(who)?;
        let mut one = || custody::store_next(&mut rpc, &mut self.maker, size);
        Ok((0..count).map(|_| one()).collect::<Result<_, _>>()?)
    }

    fn sharded(&self, members: &[usize], count: usize) -> anyhow::Result<Duration> {
        custody::wait_until(PATIENCE, || custody::all_sharded(&self.network, members, count as u64))
            .context("batches stay whole")
    }

    /// How long each read at a member takes, without what the system's cache has of any member's files.
    fn time_reads(&self, member: usize, hashes: &[DataHash]) -> anyhow::Result<Vec<Duration>> {
        forget(self.network.dir())?;
        let mut rest = Connection::new(&self.network.addresses(Who::Member(member))?.rest)?;
        let mut time = |hash: &DataHash| {
            let begun = Instant::now();
            custody::read(&mut rest, hash).map(|_| begun.elapsed())
        };
        Ok(hashes.iter().map(&mut time).collect::<Result<_, _>>()?)
    }
}

/// Drops what the system's cache has of the files below a directory.
fn forget(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else if let Ok(file) = File::open(&path) {
            // A file that goes meanwhile has nothing to forget.
            let _ = file.sync_all();
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }
    Ok(())
}

fn quantile(times: &[Duration], of: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = ((sorted.len() as f64 * of).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Bench {
    fn count(&self, full: usize) -> usize {
        if self.quick { (full / 10).max(3) } else { full }
    }

    fn verdict(&mut self, what: &str, got: f64, limit: f64, within: bool) {
        if !within {
            self.missed += 1;
        }
        let word = if within { "" } else { "  MISSED" };
        say(&format!("{what:<58} {got:>9.3}  limit {limit:.3}{word}"));
    }

    /// Whole from one member that alone has it, asked for by another over their link; and the same sizes as shards.
    fn gather(&mut self, rate: u64) -> anyhow::Result<()> {
        let name = if rate == 0 { "loopback" } else { "100 Mbit/s a pair" };
        say(&format!("\ngather, {name}: median of reads, ms"));
        let count = self.count(20);
        let sizes = [1_000_000, 2_000_000, 5_000_000, 10_000_000];
        let mut whole = Vec::new();
        {
            let mut committee = Committee::start(self, NEVER)?;
            committee.links.set_all(|conditions| conditions.rate = rate);
            for size in sizes {
                let hashes = committee.store(Who::Member(0), count, size)?;
                whole.push(quantile(&committee.time_reads(1, &hashes)?, 0.5));
            }
        }
        let mut committee = Committee::start(self, AT_ONCE)?;
        let mut stored = Vec::new();
        for size in sizes {
            stored.push(committee.store(Who::Aggregator, count, size)?);
        }
        committee.sharded(&MEMBERS, count * sizes.len())?;
        committee.links.set_all(|conditions| conditions.rate = rate);
        for ((size, hashes), whole) in sizes.into_iter().zip(&stored).zip(whole) {
            let gather = quantile(&committee.time_reads(1, hashes)?, 0.5);
            let faster = whole.as_secs_f64() / gather.as_secs_f64();
            let row = format!(
                "{:>3} MB: whole {:.1}, gather {:.1}; times as fast",
                size / 1_000_000,
                ms(whole),
                ms(gather)
            );
            if rate == 0 {
                say(&format!("{row:<58} {faster:>9.3}"));
            } else {
                self.verdict(&row, faster, 1.5, faster >= 1.5);
            }
        }
        Ok(())
    }

    /// Reads while one of the members that are asked hangs with its connections open.
    fn hang(&mut self) -> anyhow::Result<()> {
        say("\ngathers of 1 MB, one member hanging: p99, ms");
        let count = self.count(600);
        let mut committee = Committee::start(self, AT_ONCE)?;
        let hashes = committee.store(Who::Aggregator, count, 1_000_000)?;
        committee.sharded(&MEMBERS, count)?;
        committee.links.set_all(|conditions| conditions.rate = RATE);
        let usual = quantile(&committee.time_reads(1, &hashes)?, 0.99);
        // The one that is asked first is not known: the fastest. Each of the others hangs once; the worst counts.
        let mut worst = Duration::ZERO;
        for hanging in [0, 2, 3, 4, 5] {
            let process = committee.network.process(Who::Member(hanging))?;
            process.context("it was started")?.pause()?;
            let times = committee.time_reads(1, &hashes)?;
            worst = worst.max(quantile(&times, 0.99));
            let process = committee.network.process(Who::Member(hanging))?;
            process.context("it was started")?.resume()?;
            committee.met()?;
        }
        let row = format!("without {:.1}, with {:.1} (worst of five); times", ms(usual), ms(worst));
        let times = worst.as_secs_f64() / usual.as_secs_f64();
        self.verdict(&row, times, 1.5, times <= 1.5);
        Ok(())
    }

    /// All members begin to turn the same hour's batches into shards.
    fn demotion(&mut self) -> anyhow::Result<()> {
        let count = self.count(3600);
        say(&format!(
            "\ndemotion of {count} batches of 100 KB: processor time of a member from its start, s"
        ));
        let mut committee = Committee::start(self, NEVER)?;
        committee.store(Who::Aggregator, count, 100_000)?;
        committee.restart(&MEMBERS, AT_ONCE)?;
        let took = committee.sharded(&MEMBERS, count)?;
        let mut most = Duration::ZERO;
        for member in MEMBERS {
            let process = committee.network.process(Who::Member(member))?;
            let cpu = process.context("it was started")?.usage()?.cpu();
            say(&format!("  {}: {:.2}", Who::Member(member), cpu.as_secs_f64()));
            most = most.max(cpu);
        }
        let limit = if self.quick { 6.0 } else { 60.0 };
        let row = format!("all six done after {:.1} s; most", took.as_secs_f64());
        self.verdict(&row, most.as_secs_f64(), limit, most.as_secs_f64() <= limit);
        Ok(())
    }

    /// The others are done; one member stores, with and without batches of its own to turn into shards.
    fn stores(&mut self) -> anyhow::Result<()> {
        const RUNS: usize = 10;
        let (backlog, stores) = (self.count(2500), self.count(1500));
        say(&format!(
            "\np99 of {stores} stores of 100 KB at one member, without and with demotion, in turns, ms"
        ));
        let mut committee = Committee::start(self, AT_ONCE)?;
        let mut cold = 0;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for run in 0..RUNS {
            committee.restart(&[0], NEVER)?;
            committee.met()?;
            committee.store(Who::Aggregator, backlog, 100_000)?;
            cold += backlog;
            committee.sharded(&MEMBERS[1..], cold)?;
            // Both are timed at a member that was started not long ago.
            committee.restart(&[0], NEVER)?;
            committee.met()?;
            let off = self.p99_of_stores(&mut committee, stores)?;
            committee.restart(&[0], AT_ONCE)?;
            committee.met()?;
            // Without a shard of their own.
            let uncoded = |committee: &Committee| custody::batches(&committee.network, 0, "hot");
            let first = custody::wait_until(PATIENCE, || uncoded(&committee) > 0).and_then(|_| {
                let at_first = uncoded(&committee);
                custody::wait_until(PATIENCE, || uncoded(&committee) < at_first)
            });
            first.context("demotion did not begin")?;
            let before = uncoded(&committee) + stores as u64;
            let on = self.p99_of_stores(&mut committee, stores)?;
            let after = uncoded(&committee);
            say(&format!(
                "  run {}: {:.2} and {:.2}; meanwhile {} of {backlog} became shards",
                run + 1,
                ms(off),
                ms(on),
                before.saturating_sub(after)
            ));
            if after <= stores as u64 {
                bail!("demotion was over before the stores: {cold} batches are too few");
            }
            committee.sharded(&[0], cold)?;
            without.push(off);
            with.push(on);
        }
        let spread = |times: &[Duration]| {
            let at = |of| ms(quantile(times, of));
            format!("{:.2} ({:.2} to {:.2})", at(0.5), at(0.0), at(1.0))
        };
        let row = format!("without {}, with {}; times", spread(&without), spread(&with));
        let times = quantile(&with, 0.5).as_secs_f64() / quantile(&without, 0.5).as_secs_f64();
        self.verdict(&row, times, 1.2, times < 1.2);
        Ok(())
    }

    fn p99_of_stores(&self, committee: &mut Committee, stores: usize) -> anyhow::Result<Duration> {
        let mut rpc = committee.rpc(Who::Member(0))?;
        let bodies: Vec<StoreBody> = (0..stores).map(|_| committee.maker.store(100_000)).collect();
        let mut time = |body: &StoreBody| {
            let begun = Instant::now();
            custody::store(&mut rpc, body).map(|()| begun.elapsed())
        };
        let times = bodies.iter().map(&mut time).collect::<Result<Vec<_>, _>>()?;
        Ok(quantile(&times, 0.99))
    }
}
