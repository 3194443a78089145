//! Starts a parent chain, a committee, an aggregator and a mirror on loopback and keeps them running until told to stop.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use das_testnet::args::{Args, Span};
use das_testnet::network::{Network, Plan, Who};

const HELP: &str = "\
das-testnet: a data availability committee and its parent chain as real processes on loopback

  --dir DIR         keys, data, logs (default ./das-testnet); made when missing, kept for the next start
  --members N       committee size (default 6)
  --honest H        members assumed honest (default 4)
  --shards K        shards that rebuild a batch, 1 = whole copies (default 3)
  --base-port P     first port (default 9700; 0 = any free ports); a directory keeps the ports it was made with
  --hot-retention T how long members keep a batch whole before it becomes shards, as 5s (default: theirs, 1h)
  --no-chain        committee and aggregator only: no parent chain, no posting, no mirror
  --tls             TLS on every link, with certificates made for it (in DIR/tls)
  --quiet           print only what changes

While it runs it reads commands, a line each:
  status            who runs, where, and how healthy
  stop WHO          end one politely     (WHO: a member's number, aggregator, or mirror)
  kill WHO          kill one (SIGKILL)
  pause WHO         make one hang (SIGSTOP)    resume WHO     let it go on
  start WHO         start it again
  mine N            make N empty blocks at once (64 make a batch final)
  reorg N           replace the newest N blocks by empty ones
  quit              end everything (so do Ctrl-C and SIGTERM)
";

/// How often the processes are looked at.
const WATCH: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let mut args = Args::from_env();
    if args.switch("help") {
        let _ = std::io::stdout().write_all(HELP.as_bytes());
        return ExitCode::SUCCESS;
    }
    match start(args).and_then(|mut network| {
        let watched = watch(&mut network);
        let failures = network.stop_all();
        watched?;
        failures.into_iter().next().map_or(Ok(()), |failure| Err(failure.into()))
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("das-testnet: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    // Nobody may be listening any more; the committee goes on.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn start(mut args: Args) -> anyhow::Result<Network> {
    let default = Plan::default();
    let dir = args.value_or("dir", PathBuf::from("das-testnet"))?;
    let plan = Plan {
        members: args.value_or("members", default.members)?,
        honest: args.value_or("honest", default.honest)?,
        shards: args.value_or("shards", default.shards)?,
        base_port: args.value_or("base-port", default.base_port)?,
    };
    let hot_retention = args.value::<Span>("hot-retention")?;
    let (quiet, no_chain, tls) = (args.switch("quiet"), args.switch("no-chain"), args.switch("tls"));
    let open = if tls { Network::open_with_tls } else { Network::open };
    args.finish()?;
    let mut network = open(&dir, &plan).with_context(|| {
        format!("the data directory {0} (another --dir, or removing {0}, begins anew)", dir.display())
    })?;
    if !no_chain {
        network = network.with_chain(&plan)?;
    }
    network = network.with_aggregator_options(["--canary.enable", "--canary.interval", "30s"]);
    if let Some(Span(time)) = hot_retention {
        network =
            network.with_node_options(["--custody.hot-retention".to_owned(), format!("{}s", time.as_secs())]);
    }
    if !quiet {
        let (n, h, k) = (plan.members, plan.honest, plan.shards);
        say(&format!("A committee of {n} in {}: {h} assumed honest, {k} data shards.", dir.display()));
    }
    if let Some(chain) = network.chain() {
        let (pid, inbox) = (chain.pid().unwrap_or_default(), chain.sequencer_inbox());
        say(&format!("  {:<11} pid {pid:<7} rpc {}  contract {inbox}", "chain", chain.url()));
    }
    network.start_all(|who, process| {
        let urls: Vec<_> = process.ready().urls().map(|(name, url)| format!("{name} {url}")).collect();
        say(&format!("  {:<11} pid {:<7} {}", who.to_string(), process.id(), urls.join("  ")));
    })?;
    let everyone = network.everyone();
    for who in &everyone {
        let health = network.health(*who)?;
        if !matches!(health, das_testnet::network::Health::Good) {
            say(&format!("  {who} is {health}"));
        }
    }
    let front = network.addresses(Who::Aggregator)?;
    say(&format!("das-testnet ready: rpc={} rest={}", front.rpc, front.rest));
    if !quiet {
        print_hints(&network)?;
    }
    Ok(network)
}

fn print_hints(network: &Network) -> anyhow::Result<()> {
    let aggregator = network.addresses(Who::Aggregator)?;
    let key = network.poster_key_file();
    say(&format!("\nLook at the committee: {}", aggregator.dashboard));
    if network.settings().tls {
        let (dir, own) = (network.dir(), das_testnet::tls::identity(network.dir(), das_testnet::tls::LOAD));
        say(&format!(
            "
With TLS every dastool command below takes also:
  --tls.ca {} --tls.cert {} --tls.key {}",
            das_testnet::tls::authority(dir).display(),
            own.certificate.display(),
            own.key.display(),
        ));
    }
    if let Some(chain) = network.chain() {
        let explorer = network.explorer(Who::Aggregator).unwrap_or_default();
        say(&format!(
            "
Post a batch to contract {} on {}:
  dastool post --rpc {} --signing-key {} --file FILE
Look at what was posted: {explorer}",
            chain.sequencer_inbox(),
            chain.url(),
            aggregator.rpc,
            key.display(),
        ));
    }
    say(&format!(
        "
Store a batch and read it back:
  dastool store --rpc {} --signing-key {} --file FILE
  dastool get --rest {} --out FILE 0x...
Look at the committee:
  dastool committee {}
  curl {}/status
  curl {}/custody
Load it: das-load store --testnet {} --size 1MiB --count 200
Commands: status, stop N, kill N, pause N, resume N, start N, quit. Ctrl-C ends everything.
",
        aggregator.rpc,
        key.display(),
        aggregator.rest,
        network.committee_file().display(),
        aggregator.rest,
        network.addresses(Who::Member(0))?.rest,
        network.dir().display(),
    ));
    Ok(())
}

/// Serves commands and watches the processes until it is time to end.
fn watch(network: &mut Network) -> anyhow::Result<()> {
    let (events, incoming) = mpsc::channel();
    watch_signals(events.clone())?;
    std::thread::spawn(move || {
        // At the end of the input the committee goes on: it may have been started without a terminal.
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if events.send(Event::Command(line)).is_err() {
                break;
            }
        }
    });
    loop {
        match incoming.recv_timeout(WATCH) {
            Ok(Event::End) => {
                say("ending");
                return Ok(());
            }
            Ok(Event::Command(line)) => match command(network, line.trim()) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => say(&format!("{error:#}")),
            },
            Err(_) => {
                for (who, status) in network.take_ended()? {
                    let log = network.dir().join(who.to_string()).join("log");
                    say(&format!("{who} ended by itself with {status}; its log is {}", log.display()));
                }
            }
        }
    }
}

enum Event {
    Command(String),
    End,
}

fn watch_signals(events: mpsc::Sender<Event>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let _ = events.send(Event::End);
    });
    Ok(())
}

/// Performs one command; true for `quit`.
fn command(network: &mut Network, line: &str) -> anyhow::Result<bool> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    if verb.is_empty() {
        return Ok(false);
    }
    match verb {
        "quit" => return Ok(true),
        "mine" | "reorg" => {
            let chain = network.chain().context("there is no chain (--no-chain)")?;
            let blocks = rest.trim().parse().with_context(|| format!("{verb} takes a number of blocks"))?;
            match verb {
                "mine" => chain.mine(blocks)?,
                _ => chain.reorg(blocks)?,
            }
            say(&format!("{verb} {blocks}: done"));
        }
        "status" => status(network)?,
        "stop" | "kill" | "pause" | "resume" | "start" => {
            let who = who(rest.trim())?;
            match verb {
                "stop" => network.stop(who)?,
                "kill" => network.kill(who)?,
                "start" => drop(network.start(who)?.id()),
                _ => {
                    let process = network.process(who)?.with_context(|| format!("{who} does not run"))?;
                    if verb == "pause" { process.pause()? } else { process.resume()? }
                }
            }
            say(&format!("{verb} {who}: done"));
        }
        other => {
            anyhow::bail!(
                "no command {other}; there are status, stop, kill, pause, resume, start, mine, reorg, quit"
            )
        }
    }
    Ok(false)
}

fn who(text: &str) -> anyhow::Result<Who> {
    let number = text.strip_prefix("member-").unwrap_or(text);
    match (text, number.parse::<usize>()) {
        ("aggregator", _) => Ok(Who::Aggregator),
        ("mirror", _) => Ok(Who::Mirror),
        (_, Ok(number)) if number >= 1 => Ok(Who::Member(number - 1)),
        _ => anyhow::bail!("{text:?} is neither a member's number (from 1) nor aggregator nor mirror"),
    }
}

fn status(network: &mut Network) -> anyhow::Result<()> {
    if let Some(chain) = network.chain() {
        let (head, batches) = chain.progress()?;
        say(&format!("  {:<11} rpc {}  block {head}, {batches} batches posted", "chain", chain.url()));
    }
    for who in network.everyone() {
        let state = match network.process(who)? {
            None => "stopped".to_owned(),
            Some(process) => {
                let (pid, usage) = (process.id(), process.usage());
                let memory = usage.map_or(0, |usage| usage.rss) / 1_000_000;
                format!("pid {pid}, {memory} MB, {}", network.health(who)?)
            }
        };
        let addresses = network.addresses(who)?;
        say(&format!("  {:<11} rpc {}  rest {}  {state}", who.to_string(), addresses.rpc, addresses.rest));
    }
    Ok(())
}
