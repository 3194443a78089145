//! Loads servers and reports what they did under it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use das_common::store_auth::StoreKey;
use das_testnet::args::{Args, Size, Span};
use das_testnet::load::report::machine;
use das_testnet::load::{self, Bounds, Load, Mode, siege, table};
use das_testnet::network::{Network, Running};
use das_testnet::tls;

const HELP: &str = "\
das-load: load for committee members and aggregators

  das-load MODE [options]
    store      das_store of distinct random batches
    chunked    the same in chunks
    read       get-by-hash, every batch of a set stored before, in random order
    read-hot   get-by-hash of a small set again and again
    mixed      stores and reads, half and half
    refused    das_store signed by a key that may not store
  das-load table [--quick] [--dir DIR] [--out FILE]
    starts servers of its own and measures every row of the load table and the memory figures
  das-load siege [--silent 10000] [--addresses 1] [--readers 8] [--turn 20s] [--turns 3] [--members 3] [--dir DIR] [--out FILE]
    starts servers of its own and measures a poster's stores, alone and while strangers do their worst

Where to:
  --testnet DIR     a running das-testnet: the aggregator, with the processes counted
  --member N        its member N instead (from 1)
  --rpc URL, --rest URL     other servers, may be repeated; --key FILE the store key in hex
  --process NAME=PID        count what this process uses, may be repeated
  --data-dir DIR            report the type of this directory's file system
What:
  --size S          bytes in a batch (default 1MiB)    --chunk-size S (default 2621148)
  --clients N       at a time (default 8)
  --count N, --bytes S, --duration 30s    when to stop (default --count 200)
  --set N           batches stored before reading
  --memory S        for prepared bodies (default 512MiB)
  --seed N          of the batches (default random, printed)
  --out FILE        save the report: FILE as JSON, FILE with .txt as text
";

fn main() -> ExitCode {
    match run(Args::from_env()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "das-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn run(mut args: Args) -> anyhow::Result<bool> {
    let command = args.command();
    if args.switch("help") || command.is_none() {
        say(HELP);
        return Ok(true);
    }
    let out = args.value::<PathBuf>("out")?;
    match command.as_deref() {
        Some("table") => {
            let options = table::Options {
                quick: args.switch("quick"),
                dir: args.value_or("dir", std::env::temp_dir())?,
                seed: args.value_or("seed", rand::random())?,
                only: args.values("only")?,
            };
            args.finish()?;
            let table = table::measure(&options, say)?;
            say(&table.to_string());
            save(out.as_deref(), &table.to_json(), &table.to_string())?;
            Ok(table.all_within())
        }
        Some("siege") => {
            let options = siege::Options {
                silent: args.value_or("silent", 10_000)?,
                addresses: args.value_or("addresses", 1)?,
                readers: args.value_or("readers", 8)?,
                turn: args.value_or("turn", Span(Duration::from_secs(20)))?.0,
                turns: args.value_or("turns", 3)?,
                size: usize::try_from(args.value_or("size", Size(100_000))?.0)?,
                members: args.value_or("members", 3)?,
                seed: args.value_or("seed", rand::random())?,
            };
            let dir = args.value_or("dir", std::env::temp_dir())?;
            args.finish()?;
            std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
            let dir = tempfile::Builder::new().prefix("das-siege-").tempdir_in(&dir)?;
            say(&format!(
                "{}; {} silent connections from {} addresses, {} readers; seed {}",
                machine(),
                options.silent,
                options.addresses,
                options.readers,
                options.seed
            ));
            let outcomes = siege::run(dir.path(), &options, say)?;
            let text: String = outcomes.iter().map(ToString::to_string).collect();
            save(out.as_deref(), &serde_json::to_value(&outcomes)?, &text)?;
            Ok(outcomes.iter().all(siege::Outcome::within))
        }
        Some(mode) => {
            let load = parse_load(mode.parse()?, args)?;
            let report = load::run(&load, |_| {})?;
            say(&report.to_string());
            save(out.as_deref(), &report.to_json(), &report.to_string())?;
            Ok(report.errors == 0)
        }
        None => Ok(true),
    }
}

fn parse_load(mode: Mode, mut args: Args) -> anyhow::Result<Load> {
    let mut rpc: Vec<String> = args.values("rpc")?;
    let mut rest: Vec<String> = args.values("rest")?;
    let mut processes =
        args.values::<String>("process")?.iter().map(|p| process(p)).collect::<Result<Vec<_>, _>>()?;
    let mut data_dir = args.value("data-dir")?;
    let mut key_file = args.value::<PathBuf>("key")?;
    let member = args.value::<usize>("member")?;
    if let Some(dir) = args.value::<PathBuf>("testnet")? {
        let running = Network::read_running(&dir).context("is the testnet running?")?;
        let name = member.map_or("aggregator".to_owned(), |n| format!("member-{n}"));
        let target =
            running.iter().find(|p| p.name == name).with_context(|| format!("{name} does not run"))?;
        rpc.push(target.rpc.clone());
        rest.push(target.rest.clone());
        let secure = [&target.rpc, &target.rest].into_iter().filter_map(|url| url.strip_prefix("https://"));
        let secure: Vec<String> = secure.map(str::to_owned).collect();
        if !secure.is_empty() {
            tls::know(&dir, secure).context("the certificates of the testnet")?;
        }
        let counted = |p: &&Running| member.is_none() || p.name == name;
        processes.extend(running.iter().filter(counted).map(|p| (p.name.clone(), p.pid)));
        key_file.get_or_insert(dir.join("poster-key"));
        data_dir.get_or_insert(dir);
    }
    let mut bounds = Bounds {
        operations: args.value("count")?,
        bytes: args.value::<Size>("bytes")?.map(|size| size.0),
        duration: args.value::<Span>("duration")?.map(|span| span.0),
    };
    if bounds.operations.is_none() && bounds.bytes.is_none() && bounds.duration.is_none() {
        bounds.operations = Some(200);
    }
    let load = Load {
        mode,
        size: usize::try_from(args.value_or("size", Size(1 << 20))?.0)?,
        clients: args.value_or("clients", 8)?,
        bounds,
        rpc,
        rest,
        key: match key_file {
            Some(file) => Arc::new(read_key(&file)?),
            None if mode == Mode::Refused => Arc::new(StoreKey::generate()),
            None => bail!("--key (or --testnet) is needed: the store key's file"),
        },
        chunk_size: usize::try_from(args.value_or("chunk-size", Size(load::CHUNK_SIZE as u64))?.0)?.max(1),
        set: args.value_or("set", 0)?,
        processes,
        data_dir,
        round_bytes: usize::try_from(args.value_or("memory", Size(load::ROUND_BYTES as u64))?.0)?,
        seed: args.value_or("seed", rand::random())?,
    };
    args.finish()?;
    Ok(load)
}

fn process(text: &str) -> anyhow::Result<(String, u32)> {
    let (name, pid) = text.split_once('=').context("--process is NAME=PID")?;
    Ok((name.to_owned(), pid.parse().context("--process is NAME=PID")?))
}

fn read_key(file: &Path) -> anyhow::Result<StoreKey> {
    let text = std::fs::read_to_string(file).with_context(|| format!("the store key {}", file.display()))?;
    StoreKey::from_hex(text.trim()).with_context(|| format!("the store key {}", file.display()))
}

fn save(out: Option<&Path>, json: &serde_json::Value, text: &str) -> anyhow::Result<()> {
    let Some(out) = out else { return Ok(()) };
    std::fs::write(out, format!("{json:#}\n")).with_context(|| format!("saving {}", out.display()))?;
    let text_file = out.with_extension("txt");
    std::fs::write(&text_file, text).with_context(|| format!("saving {}", text_file.display()))?;
    say(&format!("saved {} and {}", out.display(), text_file.display()));
    Ok(())
}
