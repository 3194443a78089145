//! The data directory of a testnet: made once, then only read.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use das_common::bls::{self, KeyFileError, SecretKey};
use das_common::store_auth::StoreKey;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{LocalChain, Plan, Running, Who};
use crate::tls::{self, CertificateError};

pub(super) const COMMITTEE: &str = "committee.toml";
pub(super) const CONFIG: &str = "config.json";
pub(super) const POSTER_KEY: &str = "poster-key";
pub(super) const RUNNING: &str = "running.json";
/// The aggregator's own folder.
pub(super) const AGGREGATOR_DATA: &str = "aggregator/data";
const POSTER_PUBLIC_KEY: &str = "poster-key.pub";
const SETTINGS: &str = "testnet.toml";

/// Ports of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// JSON-RPC.
    pub rpc: u16,
    /// REST.
    pub rest: u16,
    /// Metrics.
    pub metrics: u16,
    /// The other members, over libp2p (members only).
    pub peer: u16,
    /// The dashboard; 0 in a directory made before there was one, which is a free port.
    #[serde(default)]
    pub dashboard: u16,
}

/// What a data directory was made for. Kept in it, so that a restart needs no options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How many members are assumed to be honest.
    pub honest: usize,
    /// How many shards rebuild a batch.
    pub shards: usize,
    /// Ports of the aggregator.
    pub aggregator: Ports,
    /// Ports of the members, in the order of their indices.
    pub members: Vec<Ports>,
    /// Whether links have TLS: as chosen at the last start, and not kept.
    #[serde(skip)]
    pub tls: bool,
}

impl Settings {
    /// What URLs begin with.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The system refused something.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file does not have the right form.
    #[error("{} cannot be read: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The plan breaks 1 <= shards <= honest <= members <= 64.
    #[error(
        "a committee needs 1 <= shards <= honest <= members <= 64, not {} shards, {} honest, {} members",
        plan.shards, plan.honest, plan.members
    )]
    Policy {
        /// The plan.
        plan: Plan,
    },
    /// The ports do not fit below 65 536.
    #[error("the ports of {members} members do not fit above {base_port}")]
    Ports {
        /// The first port.
        base_port: u16,
        /// How many members.
        members: usize,
    },
    /// The directory holds a testnet of another shape.
    #[error(
        "{} holds a committee of {members} members, {honest} honest, {shards} shards; \
         take another directory for another committee", dir.display()
    )]
    OtherPlan {
        /// The directory.
        dir: PathBuf,
        /// Members it was made for.
        members: usize,
        /// Honest members it was made for.
        honest: usize,
        /// Shards it was made for.
        shards: usize,
    },
    /// A key could not be made or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A certificate could not be made or written.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Reads the settings of a directory, or makes one.
pub(super) fn open_or_create(dir: &Path, plan: &Plan, tls: bool) -> Result<Settings, FilesError> {
    let settings_file = dir.join(SETTINGS);
    let mut settings = match fs::read_to_string(&settings_file) {
        Ok(text) => {
            let form = |e: toml::de::Error| FilesError::Form { path: settings_file, reason: e.to_string() };
            let settings: Settings = toml::from_str(&text).map_err(form)?;
            let (members, honest, shards) = (settings.members.len(), settings.honest, settings.shards);
            if (members, honest, shards) != (plan.members, plan.honest, plan.shards) {
                return Err(FilesError::OtherPlan { dir: dir.to_owned(), members, honest, shards });
            }
            settings
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if !(1 <= plan.shards
                && plan.shards <= plan.honest
                && plan.honest <= plan.members
                && plan.members <= 64)
            {
                return Err(FilesError::Policy { plan: *plan });
            }
            let settings = Settings {
                honest: plan.honest,
                shards: plan.shards,
                aggregator: choose_ports(plan, 0)?,
                members: (1..=plan.members).map(|i| choose_ports(plan, i)).collect::<Result<_, _>>()?,
                tls,
            };
            make_keys(dir, plan.members)?;
            // Last: a directory with settings has all its keys.
            let text = toml::to_string(&settings).expect("the settings are plain numbers");
            write(&settings_file, &text, 0o644)?;
            settings
        }
        Err(source) => return Err(FilesError::Io { action: "read", path: settings_file, source }),
    };
    settings.tls = tls;
    if tls {
        let members = (0..settings.members.len()).map(Who::Member);
        let everyone = members.chain([Who::Aggregator, Who::Mirror]);
        tls::make(dir, everyone.map(|who| who.to_string()))?;
    }
    // Written anew each time, so that a newer launcher's options apply to an older directory.
    write_configs(dir, &settings)?;
    Ok(settings)
}

/// Where free ports are looked for: below those that the kernel gives to outgoing connections, which could take a port
/// between its choice here and its use by a server.
const FREE_PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port that nobody listens on now and that this process has not given out before.
pub(super) fn free_port() -> Result<u16, FilesError> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes start at different places, so that two of them seldom meet.
    let offset = u16::try_from(std::process::id() * 61 % 20_000).expect("below the limit");
    let mut last = None;
    for _ in FREE_PORTS {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FREE_PORTS.start + (offset + next % 20_000) % 20_000;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(FilesError::Io { action: "find a free port on", path: "127.0.0.1".into(), source })
}

pub(super) fn choose_ports(plan: &Plan, index: usize) -> Result<Ports, FilesError> {
    if plan.base_port == 0 {
        return Ok(Ports {
            rpc: free_port()?,
            rest: free_port()?,
            metrics: free_port()?,
            peer: free_port()?,
            dashboard: free_port()?,
        });
    }
    let first = u64::from(plan.base_port) + 10 * index as u64;
    let port = |offset: u64| {
        u16::try_from(first + offset)
            .map_err(|_| FilesError::Ports { base_port: plan.base_port, members: plan.members })
    };
    Ok(Ports { rpc: port(0)?, rest: port(1)?, metrics: port(2)?, peer: port(3)?, dashboard: port(6)? })
}

fn make_keys(dir: &Path, members: usize) -> Result<(), FilesError> {
    for index in 0..members {
        let keys = dir.join(Who::Member(index).to_string()).join("keys");
        // Left behind by a start that was interrupted before the settings were written.
        if keys.join("das_bls").exists() {
            continue;
        }
        bls::write_key_files(&keys, &SecretKey::generate())?;
    }
    let poster = StoreKey::generate();
    write(&dir.join(POSTER_KEY), &poster.to_hex(), 0o600)?;
    write(&dir.join(POSTER_PUBLIC_KEY), &const_hex::encode(poster.public_key()), 0o644)
}

fn write_configs(dir: &Path, settings: &Settings) -> Result<(), FilesError> {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let poster = absolute.join(POSTER_PUBLIC_KEY);
    let mut committee = format!("honest-members = {}\ndata-shards = {}\n", settings.honest, settings.shards);
    let scheme = settings.scheme();
    for (index, ports) in settings.members.iter().enumerate() {
        let name = Who::Member(index).to_string();
        let home = absolute.join(&name);
        let public_key = read(&home.join("keys/das_bls.pub"))?;
        committee.push_str(&format!(
            "\n[[member]]\nname = \"{name}\"\npublic-key = \"{}\"\nrpc = \"{scheme}://127.0.0.1:{}\"\n\
             rest = \"{scheme}://127.0.0.1:{}\"\npeer = \"{}\"\n",
            public_key.trim(),
            ports.rpc,
            ports.rest,
            peer_address(ports),
        ));
        let mut config = listeners(ports);
        add_tls(&mut config, settings, &absolute, &name, &[&Who::Aggregator.to_string(), tls::LOAD]);
        config["data-availability"] = json!({
            "enable": true,
            "key": { "key-dir": home.join("keys") },
            "local-file-storage": { "enable": true, "data-dir": home.join("data") },
            "extra-signature-checking-public-key": &poster,
        });
        if settings.shards > 1 {
            config["committee"] = json!({ "file": absolute.join(COMMITTEE) });
            config["peer"] = json!({ "listen": [peer_address(ports)] });
        }
        config["parent-chain"] = json!({ "sequencer-inbox-address": "none" });
        write_json(&home.join(CONFIG), &config)?;
        let data = home.join("data");
        fs::create_dir_all(&data).map_err(|source| FilesError::Io { action: "make", path: data, source })?;
    }
    write(&absolute.join(COMMITTEE), &committee, 0o644)?;
    let mut config = listeners(&settings.aggregator);
    add_tls(&mut config, settings, &absolute, &Who::Aggregator.to_string(), &[tls::LOAD]);
    config["committee"] = json!({ "file": absolute.join(COMMITTEE) });
    config["data-availability"] = json!({
        "extra-signature-checking-public-key": &poster,
        "store-key": { "file": absolute.join(POSTER_KEY) },
    });
    // What its graphs show survives a restart.
    let data = absolute.join(AGGREGATOR_DATA);
    config["data-dir"] = json!(&data);
    fs::create_dir_all(&data).map_err(|source| FilesError::Io { action: "make", path: data, source })?;
    write_json(&absolute.join(Who::Aggregator.to_string()).join(CONFIG), &config)
}

/// Changes the configurations to those of a committee with a chain, and writes that of the mirror.
pub(super) fn write_chain_configs(
    dir: &Path,
    settings: &Settings,
    chain: &LocalChain,
) -> Result<(), FilesError> {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let parent_chain = json!({
        "node-url": chain.url(),
        "sequencer-inbox-address": chain.sequencer_inbox().to_string(),
        "poll-interval": "500ms",
    });
    let explorer = |port: u16| json!({ "enable": true, "addr": "127.0.0.1", "port": port });
    let change = |who: Who, change: &dyn Fn(&mut serde_json::Value)| {
        let path = absolute.join(who.to_string()).join(CONFIG);
        let form = |e: serde_json::Error| FilesError::Form { path: path.clone(), reason: e.to_string() };
        let mut config = serde_json::from_str(&read(&path)?).map_err(form)?;
        change(&mut config);
        config["parent-chain"] = parent_chain.clone();
        // The contract knows who may store.
        if let Some(store) = config["data-availability"].as_object_mut() {
            store.remove("extra-signature-checking-public-key");
        }
        write_json(&path, &config)
    };
    for index in 0..settings.members.len() {
        change(Who::Member(index), &|_| {})?;
    }
    let (own, mirror) = (chain.settings(), absolute.join(Who::Mirror.to_string()));
    let folder = mirror.join("data");
    fs::create_dir_all(&folder).map_err(|source| FilesError::Io { action: "make", path: folder, source })?;
    change(Who::Aggregator, &|config| {
        config["post"] = json!({
            "enable": true,
            "key": { "file": absolute.join(POSTER_KEY) },
            "resend-after": "2s",
            "replace-after": "15s",
            "min-tip-gwei": 1,
        });
        config["explorer"] = explorer(own.explorer);
    })?;
    let mut config = listeners(&own.mirror);
    add_tls(&mut config, settings, &absolute, &Who::Mirror.to_string(), &[]);
    config["enable-rpc"] = json!(false);
    config["data-availability"] = json!({
        "local-file-storage": { "enable": true, "data-dir": mirror.join("data") },
        // All that it knows beside the contract.
        "rest-aggregator": {
            "enable": true,
            "urls": format!("{}://127.0.0.1:{}", settings.scheme(), settings.aggregator.rest),
            "sync-to-storage": { "eager": true },
        },
    });
    config["explorer"] = explorer(own.mirror_explorer);
    config["parent-chain"] = parent_chain;
    write_json(&mirror.join(CONFIG), &config)
}

/// Adds the options of TLS, where there is any: our certificate for all ports and calls, and who may store.
fn add_tls(config: &mut serde_json::Value, settings: &Settings, dir: &Path, name: &str, clients: &[&str]) {
    if !settings.tls {
        return;
    }
    let (authority, own) = (tls::authority(dir), tls::identity(dir, name));
    let clients: Vec<_> = clients.iter().map(|name| format!("{name}.das.test")).collect();
    config["tls"] = json!({
        "cert": own.certificate,
        "key": own.key,
        "outgoing": { "ca": authority, "cert": own.certificate, "key": own.key },
    });
    if !clients.is_empty() {
        config["tls"]["rpc"] = json!({ "client-ca": authority, "allowed-clients": clients });
    }
    config["require-tls"] = json!(true);
}

fn peer_address(ports: &Ports) -> String {
    format!("/ip4/127.0.0.1/tcp/{}", ports.peer)
}

fn listeners(ports: &Ports) -> serde_json::Value {
    json!({
        "enable-rpc": true, "rpc-addr": "127.0.0.1", "rpc-port": ports.rpc,
        "enable-rest": true, "rest-addr": "127.0.0.1", "rest-port": ports.rest,
        "metrics": true, "metrics-server": { "addr": "127.0.0.1", "port": ports.metrics },
        "dashboard": { "enable": true, "addr": "127.0.0.1", "port": ports.dashboard },
    })
}

pub(super) fn write_running(dir: &Path, running: &[Running]) -> Result<(), FilesError> {
    write_json(&dir.join(RUNNING), &json!(running))
}

pub(super) fn read_running(dir: &Path) -> Result<Vec<Running>, FilesError> {
    let path = dir.join(RUNNING);
    let text = read(&path)?;
    serde_json::from_str(&text).map_err(|e| FilesError::Form { path, reason: e.to_string() })
}

pub(super) fn read(path: &Path) -> Result<String, FilesError> {
    fs::read_to_string(path).map_err(|source| FilesError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), FilesError> {
    write(path, &format!("{value:#}\n"), 0o644)
}

/// Replaces a file as a whole, so that a reader never sees half of it.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), FilesError> {
    let io = |action| move |source| FilesError::Io { action, path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(io("make the directory of"))?;
    }
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(mode).open(&new).map_err(io("write"))?;
    file.write_all(text.as_bytes()).map_err(io("write"))?;
    fs::rename(&new, path).map_err(io("replace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { members: 3, honest: 2, shards: 2, base_port: 0 };

    #[test]
    fn a_directory_keeps_its_keys_and_ports_and_refuses_another_plan() {
        let dir = tempfile::tempdir().unwrap();
        let first = open_or_create(dir.path(), &PLAN, false).unwrap();
        let committee = fs::read_to_string(dir.path().join(COMMITTEE)).unwrap();
        let mut ports: Vec<_> = [&first.aggregator].into_iter().chain(&first.members).collect();
        assert_eq!(ports.len(), 4);
        ports.dedup();
        assert_eq!(ports.len(), 4);

        assert_eq!(open_or_create(dir.path(), &PLAN, false).unwrap(), first);
        assert_eq!(fs::read_to_string(dir.path().join(COMMITTEE)).unwrap(), committee);
        let other = open_or_create(dir.path(), &Plan { members: 4, ..PLAN }, false);
        assert!(matches!(other, Err(FilesError::OtherPlan { members: 3, .. })), "{other:?}");
    }

    #[test]
    fn secrets_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        open_or_create(dir.path(), &PLAN, false).unwrap();
        for secret in [POSTER_KEY, "member-1/keys/das_bls"] {
            let mode = fs::metadata(dir.path().join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
    }

    #[test]
    fn impossible_plans_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (members, honest, shards) in [(3, 4, 2), (3, 2, 3), (3, 2, 0), (65, 2, 1), (0, 0, 0)] {
            let plan = Plan { members, honest, shards, base_port: 0 };
            let refused = open_or_create(dir.path(), &plan, false);
            assert!(matches!(refused, Err(FilesError::Policy { .. })), "{plan:?}: {refused:?}");
        }
        let plan = Plan { base_port: 65_510, ..PLAN };
        assert!(matches!(open_or_create(dir.path(), &plan, false), Err(FilesError::Ports { .. })));
    }
}
