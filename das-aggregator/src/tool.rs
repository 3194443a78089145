//! The commands of `dastool`.
//!
//! Each command is an options struct and a function from arguments to an answer: what people read,
//! and the same as JSON. Nitro's `anytrusttool` names lead to the same functions; where its scripts read standard output,
//! the lines are the same.
//!
//! Exit codes: 0 all is well; 1 the command did its work and found something wrong (an invalid certificate, an ill member);
//! 2 the command could not do its work.

use std::process::ExitCode;

use anyhow::Context as _;
use das_common::http::client::{ClientLimits, HttpClient};
use das_common::tls::OutgoingTlsOptions;

mod args;
mod audit_log;
mod committee;
mod doctor;
mod evidence;
mod get;
mod hash;
mod inspect;
mod key;
mod keygen;
mod keyset;
mod keyset_tx;
mod moving;
mod output;
mod post;
mod show;
mod storage;
mod store;
mod top;
mod verify;

use output::Answer;

/// A command: its names, a line for the overview, and what it does with its arguments.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<Answer>,
}

const COMMANDS: &[Command] = &[
    Command { name: "keygen", about: "make a BLS or ECDSA key pair", run: keygen::run },
    Command { name: "key-make", about: "make a BLS key as files, keystore or envelope", run: key::make::run },
    Command { name: "key-convert", about: "write a BLS key in another way", run: key::convert::run },
    Command { name: "key-password", about: "give a keystore another password", run: key::password::run },
    Command { name: "key-check", about: "say which key is where, and whose it is", run: key::check::run },
    Command {
        name: "storage-key-make",
        about: "make a key for payloads at rest as file, keystore or envelope",
        run: key::storage::make,
    },
    Command { name: "storage-key-check", about: "say the id of a storage key", run: key::storage::check },
    Command { name: "audit-log", about: "check the audit log of das-signer", run: audit_log::run },
    Command { name: "committee", about: "check a committee file and print its promise", run: committee::run },
    Command { name: "dump-keyset", about: "print a keyset and its hash", run: keyset::run },
    Command {
        name: "keyset-tx",
        about: "print what the owner sends to set or invalidate a keyset",
        run: keyset_tx::run,
    },
    Command { name: "generate-hash", about: "print the data hash of a message", run: hash::run },
    Command { name: "store", about: "store a batch at a member or an aggregator", run: store::run },
    Command { name: "post", about: "have an aggregator certify a batch and post it", run: post::run },
    Command { name: "batch-status", about: "say how far a batch to be posted is", run: post::run_status },
    Command { name: "get", about: "read a batch back by its hash", run: get::run },
    Command { name: "verify-cert", about: "check a certificate under a keyset", run: verify::run },
    Command {
        name: "inspect",
        about: "say what some hex is: certificate, keyset, key, message",
        run: inspect::run,
    },
    Command { name: "top", about: "show a committee or a member live in the terminal", run: top::run },
    Command { name: "storage", about: "print what members hold, and what shards save", run: storage::run },
    Command { name: "import", about: "take batches over from Nitro's server", run: moving::run_import },
    Command { name: "export", about: "write batches as Nitro's server keeps them", run: moving::run_export },
    Command { name: "backup", about: "write a backup of a node while it runs", run: moving::run_backup },
    Command {
        name: "restore",
        about: "make a node's data from a backup, or check one",
        run: moving::run_restore,
    },
    Command {
        name: "verify-evidence",
        about: "check what is said to prove that a member lied",
        run: evidence::run,
    },
    Command {
        name: "doctor",
        about: "find out what is wrong with a member or a committee",
        run: doctor::run,
    },
];

/// Runs the tool with these arguments (without the program's name).
#[expect(clippy::needless_pass_by_value, reason = "the arguments of a process have no other owner")]
pub fn main(args: Vec<String>) -> ExitCode {
    let as_json = args.iter().any(|arg| matches!(arg.as_str(), "--json" | "-json" | "--json=true"));
    output::print(dispatch(&args), as_json)
}

fn dispatch(args: &[String]) -> anyhow::Result<Answer> {
    let Some((name, rest)) = args.split_first() else {
        anyhow::bail!("which command? dastool help lists them");
    };
    // Nitro's tool takes its commands in any case.
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "help" | "--help" | "-h" => Ok(Answer::text(overview())),
        "version" | "--version" | "-v" => {
            Ok(Answer::text(format!("dastool {}\n", env!("CARGO_PKG_VERSION"))))
        }
        "client" => client(rest),
        "dumpkeyset" => keyset::run(rest),
        "generatehash" => hash::run(rest),
        _ => match COMMANDS.iter().find(|command| command.name == name) {
            Some(command) => (command.run)(rest),
            None => {
                let names = COMMANDS.iter().map(|command| command.name);
                let nearest = das_common::config::nearest(&name, names).unwrap_or("help");
                anyhow::bail!(
                    "there is no command {name:?} (did you mean {nearest}? dastool help lists them all)"
                )
            }
        },
    }
}

/// Nitro's `client rpc store` and `client rest getbyhash`.
fn client(args: &[String]) -> anyhow::Result<Answer> {
    let word = |i: usize| args.get(i).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    match (word(0).as_str(), word(1).as_str()) {
        ("rpc", "store") => store::run_as_nitro(&args[2..]),
        ("rest", "getbyhash") => get::run_as_nitro(&args[2..]),
        (group, command) => anyhow::bail!(
            "client {group} {command}: there are `client rpc store` and `client rest getbyhash`; see also dastool help"
        ),
    }
}

fn overview() -> String {
    let mut text = String::from("dastool: keys, keysets, certificates, stores and reads of a committee\n\n");
    for command in COMMANDS {
        text += &format!("  {:<17}{}\n", command.name, command.about);
    }
    text += "\ndastool COMMAND --help lists a command's options; --json prints for programs.\n\
             The commands of Nitro's anytrusttool work too: keygen, generatehash, dumpkeyset, client rpc store,\n\
             client rest getbyhash.\n\
             Exit code: 0 all is well, 1 something wrong was found, 2 the command could not do its work.\n";
    text
}

/// The client of a command, as its options say.
fn http(tls: &OutgoingTlsOptions) -> anyhow::Result<HttpClient> {
    HttpClient::with_tls(ClientLimits::default(), &tls.files()).context("--tls")
}

/// Runs what a command does over the network.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

/// Unix time in seconds.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
