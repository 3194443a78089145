//! Measures how fast a fresh mirror fetches what was posted: real servers, a real chain with the real contract.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::{U64, U256};
use alloy_sol_types::SolCall;
use anyhow::{Context, bail, ensure};
use das_chain::contract::SequencerInbox as Inbox;
use das_common::certificate::Certificate;
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use das_common::keyset::Keyset;
use das_common::store_auth::StoreKey;
use das_common::wire::StoreResult;
use das_testnet::args::Args;
use das_testnet::chain::DevChain;
use das_testnet::custody;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{BodyMaker, store_body, unix_now};
use das_testnet::network::{Network, Plan, Who};
use das_testnet::process::{Launch, ServerProcess};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const HELP: &str = "\
das-chain-bench: a fresh mirror fetches everything that was posted to a dev chain with the real contract

  --count N      batches (default 10000)
  --size BYTES   bytes of each (default 50000)
  --late TIME    the second mirror's REST endpoint answers so many milliseconds late (default 50)
  --dir DIR      where the servers keep their data meanwhile: a real file system, not tmpfs (default: the temporary directory)
  --seed N       of the batches (default random, printed)

The mirror knows the contract, the chain's node and one REST URL. Every payload is read back from it and checked.
";

const PLAN: Plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
/// Batches are kept for so long: nodes want a week beyond the last time that a batch can name.
const KEEP: u64 = 15 * 24 * 3600;
/// Clients that store, and that read back.
const CLIENTS: usize = 4;
/// Transactions under way to anvil.
const SENT_AT_ONCE: usize = 16;
/// Posts in a block, with the gas that each may use.
const PER_BLOCK: usize = 50;
const POST_GAS: u64 = 500_000;
const PATIENCE: Duration = Duration::from_secs(1800);
/// What there must be at least, by the requirement.
const LEAST_IN_FLIGHT: usize = 16;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::from_env()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "das-chain-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// What is measured with.
struct Bench {
    count: usize,
    size: usize,
    seed: u64,
    dir: PathBuf,
    network: Network,
    chain: DevChain,
}

/// A batch that is stored, and what is posted of it.
struct Stored {
    hash: DataHash,
    certificate: Vec<u8>,
}

/// A line of the table.
struct Row {
    time: Duration,
    peak: u64,
    cpu: Duration,
    most: usize,
    questions: u64,
}

async fn run(mut args: Args) -> anyhow::Result<bool> {
    if args.switch("help") {
        say(HELP);
        return Ok(true);
    }
    let count = args.value_or("count", 10_000_usize)?;
    let size = args.value_or("size", 50_000_usize)?;
    let late = Duration::from_millis(args.value_or("late", 50_u64)?);
    let parent = args.value_or("dir", std::env::temp_dir())?;
    let seed = args.value_or("seed", rand::random())?;
    args.finish()?;
    ensure!(count > 0 && (8..=2_000_000).contains(&size), "--count from 1, --size from 8 to 2000000");
    std::fs::create_dir_all(&parent)?;
    let dir = tempfile::Builder::new().prefix("das-chain-").tempdir_in(&parent)?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    say(&format!("{count} batches of {size} bytes; {cores} cores; seed {seed}"));

    let mut network = Network::open(&dir.path().join("network"), &PLAN)?;
    network.start(Who::Member(0))?;
    let chain = DevChain::start().await?;
    let bench = Bench { count, size, seed, dir: dir.path().to_owned(), network, chain };
    let begun = Instant::now();
    let stored = bench.store()?;
    say(&format!("stored in {:.1} s", begun.elapsed().as_secs_f64()));
    let begun = Instant::now();
    let blocks = bench.post(&stored).await?;
    say(&format!("posted in {:.1} s, {blocks} blocks", begun.elapsed().as_secs_f64()));

    say("");
    say(
        "REST endpoint   time s  batches/s     MB/s  expected s  memory MB  cpu s  in flight  requests to the chain",
    );
    let mut is_well = true;
    for (place, delay) in [Duration::ZERO, late].into_iter().enumerate() {
        let row = bench.sync(place, delay, &stored).await?;
        let seconds = row.time.as_secs_f64();
        let expected = match delay.is_zero() {
            true => "-".to_owned(),
            // So long it takes when this many requests are always waiting for the endpoint, and nothing else costs time.
            false => format!("{:.1}", count as f64 * delay.as_secs_f64() / row.most.max(1) as f64),
        };
        let name = format!("{} ms late", delay.as_millis());
        say(&format!(
            "{name:<14} {seconds:>7.1} {:>10.0} {:>8.1} {expected:>11} {:>10.0} {:>6.1} {:>10} {:>22}",
            count as f64 / seconds,
            (count * size) as f64 / seconds / 1e6,
            row.peak as f64 / 1e6,
            row.cpu.as_secs_f64(),
            row.most,
            row.questions,
        ));
        is_well &= delay.is_zero() || row.most >= LEAST_IN_FLIGHT.min(count);
    }
    say(
        "every payload was read back from each mirror and is the one that was posted; the position is the chain's head",
    );
    if !is_well {
        say(&format!("MISSED: fewer than {LEAST_IN_FLIGHT} requests in flight"));
    }
    Ok(is_well)
}

impl Bench {
    /// Stores all batches at the one member, whose signature alone makes a certificate.
    fn store(&self) -> anyhow::Result<Vec<Stored>> {
        let key = std::fs::read_to_string(self.network.poster_key_file())?;
        let key = Arc::new(StoreKey::from_hex(key.trim())?);
        let url = self.network.addresses(Who::Member(0))?.rpc;
        let (timeout, seed, count, size) = (unix_now() + KEEP, self.seed, self.count, self.size);
        let store = |client: usize| -> anyhow::Result<Vec<Stored>> {
            let mut maker = BodyMaker::new(Arc::clone(&key), seed.wrapping_add(client as u64));
            let mut rpc = Connection::new(&url)?;
            let mut own = Vec::new();
            for _ in (client..count).step_by(CLIENTS) {
                let body = store_body(&key, &maker.batch(size), timeout);
                let answer = rpc.post_json(&[&body.json])?;
                let mut answer: Value = serde_json::from_slice(&answer.body)?;
                let result = serde_json::from_value(answer["result"].take());
                let result: StoreResult = result.with_context(|| answer["error"].to_string())?;
                own.push(Stored { hash: body.hash, certificate: certificate(&result)? });
            }
            Ok(own)
        };
        let parts = on_threads(store)?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Posts them all, many to a block; how many blocks there are then.
    async fn post(&self, stored: &[Stored]) -> anyhow::Result<u64> {
        let (chain, poster) = (&self.chain, self.chain.poster());
        let committee = Committee::load(self.network.committee_file())?;
        let member = committee.members().first().context("a committee has members")?;
        chain.set_keyset(Keyset::single(member.public_key.clone()).to_bytes()).await?;
        let first: U64 = chain.rpc().call("eth_getTransactionCount", json!([poster, "latest"])).await?;
        chain.rpc().call::<Value>("evm_setAutomine", json!([false])).await?;
        for (block, posts) in stored.chunks(PER_BLOCK).enumerate() {
            let sends = posts.iter().enumerate().map(|(place, one)| {
                let number = (block * PER_BLOCK + place) as u64;
                let call = Inbox::addSequencerL2BatchFromOriginCall {
                    sequenceNumber: U256::from(number),
                    data: one.certificate.clone().into(),
                    afterDelayedMessagesRead: U256::ZERO,
                    gasRefunder: alloy_primitives::Address::ZERO,
                    prevMessageCount: U256::ZERO,
                    newMessageCount: U256::ZERO,
                };
                let transaction = json!([{
                    "from": poster, "to": chain.inbox(), "data": alloy_primitives::Bytes::from(call.abi_encode()),
                    "nonce": format!("{:#x}", first.to::<u64>() + number), "gas": format!("{POST_GAS:#x}"),
                }]);
                async move { chain.rpc().call::<Value>("eth_sendTransaction", transaction).await }
            });
            // Collected first: a stream of borrowing closures is not `Send`.
            let sends: Vec<_> = sends.collect();
            stream::iter(sends).buffer_unordered(SENT_AT_ONCE).try_collect::<Vec<_>>().await?;
            chain.mine(1).await?;
        }
        chain.rpc().call::<Value>("evm_setAutomine", json!([true])).await?;
        let asked = json!([{ "to": chain.inbox(), "data": alloy_primitives::Bytes::from(Inbox::batchCountCall {}.abi_encode()) }, "latest"]);
        let posted: U256 = chain.rpc().call("eth_call", asked).await?;
        ensure!(posted == U256::from(stored.len()), "{posted} of {} batches are on the chain", stored.len());
        Ok(chain.head().await?)
    }

    /// A fresh mirror fetches everything, and is then asked for it.
    async fn sync(&self, place: usize, delay: Duration, stored: &[Stored]) -> anyhow::Result<Row> {
        let rest = self.network.addresses(Who::Member(0))?.rest;
        let late = Late::start(&rest, delay).await?;
        let data = self.dir.join(format!("mirror-{place}"));
        std::fs::create_dir_all(&data)?;
        let begun = Instant::now();
        let mirror = Launch::new("das-node")
            .args(["--enable-rest", "--rest-port", "0", "--metrics", "--metrics-server.port", "0"])
            .args(["--metrics-server.update-interval", "100ms"])
            .args(["--data-availability.local-file-storage.enable"])
            .arg("--data-availability.local-file-storage.data-dir")
            .arg(data)
            .args(["--data-availability.rest-aggregator.enable", "--data-availability.rest-aggregator.urls"])
            .args([&late.url, "--data-availability.rest-aggregator.sync-to-storage.eager"])
            .args(["--parent-chain.node-url", self.chain.url(), "--parent-chain.poll-interval", "100ms"])
            .args(["--parent-chain.sequencer-inbox-address", &self.chain.inbox().to_string()])
            .start()?;
        let mut metrics = Connection::new(mirror.ready().url("metrics")?)?;
        let time = loop {
            let text = metrics.get("/debug/metrics/prometheus")?.text();
            if sum(&text, "das_sync_fetched_total") >= stored.len() as u64 {
                break begun.elapsed();
            }
            if begun.elapsed() > PATIENCE {
                bail!("the mirror is not done after {PATIENCE:?}:\n{}", mirror.output());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let usage = mirror.usage()?;
        let text = metrics.get("/debug/metrics/prometheus")?.text();
        let (batches, waiting) = (sum(&text, "das_chain_batches"), sum(&text, "das_sync_waiting"));
        let (followed, head) = (sum(&text, "das_chain_followed_block"), self.chain.head().await?);
        ensure!(
            (batches, waiting, followed) == (stored.len() as u64, 0, head),
            "the mirror is at block {followed} of {head} with {batches} batches, {waiting} waiting"
        );
        ensure!(
            sum(&text, "das_sync_fetched_total") == stored.len() as u64,
            "something was fetched more than once"
        );
        let most = late.most.load(Ordering::SeqCst);
        drop(late);
        check(&mirror, stored)?;
        Ok(Row {
            time,
            peak: usage.peak_rss,
            cpu: usage.cpu(),
            most,
            questions: sum(&text, "das_chain_requests_total"),
        })
    }
}

/// Reads every batch from the mirror, which has nobody to ask any more.
fn check(mirror: &ServerProcess, stored: &[Stored]) -> anyhow::Result<()> {
    let url = mirror.rest_url();
    let read = |client: usize| -> anyhow::Result<()> {
        let mut rest = Connection::new(&url)?;
        for one in stored.iter().skip(client).step_by(CLIENTS) {
            custody::read(&mut rest, &one.hash)?;
        }
        Ok(())
    };
    on_threads(read).map(drop)
}

fn on_threads<T: Send>(work: impl Fn(usize) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let work = &work;
                scope.spawn(move || work(client))
            })
            .collect();
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a client panicked"),
        });
        ended.collect()
    })
}

fn certificate(result: &StoreResult) -> anyhow::Result<Vec<u8>> {
    let signature = result.sig.as_slice().try_into().context("the signature's length")?;
    let certificate = Certificate {
        version: result.version.try_into()?,
        keyset_hash: DataHash::from_bytes(result.keyset_hash),
        data_hash: DataHash::from_bytes(result.data_hash),
        timeout: result.timeout,
        signers_mask: result.signers_mask,
        signature,
    };
    Ok(certificate.to_bytes())
}

/// All values of a metric together.
fn sum(text: &str, name: &str) -> u64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with(' ') || rest.starts_with('{');
        is_it.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    });
    values.sum::<f64>() as u64
}

/// A REST endpoint that passes requests on, answers late, and counts how many wait for it at once.
struct Late {
    url: String,
    most: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Late {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Late {
    async fn start(upstream: &str, delay: Duration) -> anyhow::Result<Self> {
        let upstream = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&most), now);
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (upstream, (most, now)) = (upstream.clone(), counts.clone());
                // A connection that breaks is the mirror's to notice.
                connections.spawn(async move { pass(stream, &upstream, delay, &most, &now).await });
            }
        });
        Ok(Self { url, most, serving })
    }
}

/// One connection, until either side ends it.
async fn pass(
    stream: TcpStream,
    upstream: &str,
    delay: Duration,
    most: &AtomicUsize,
    now: &AtomicUsize,
) -> std::io::Result<()> {
    let mut below = BufReader::new(stream);
    let mut above = BufReader::new(TcpStream::connect(upstream).await?);
    loop {
        let (request, _) = head(&mut below).await?;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let passed = async {
            let late = tokio::time::sleep(delay);
            above.write_all(&request).await?;
            let (mut answer, length) = head(&mut above).await?;
            let at = answer.len();
            answer.resize(at + length, 0);
            above.read_exact(&mut answer[at..]).await?;
            late.await;
            below.write_all(&answer).await
        };
        let passed = passed.await;
        now.fetch_sub(1, Ordering::SeqCst);
        passed?;
    }
}

/// The head of a message and the length of its body.
async fn head(stream: &mut BufReader<TcpStream>) -> std::io::Result<(Vec<u8>, usize)> {
    let (mut all, mut length) = (Vec::new(), 0);
    loop {
        let at = all.len();
        if stream.read_until(b'\n', &mut all).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&all[at..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if line.trim().is_empty() {
            return Ok((all, length));
        }
    }
}
