//! A whole committee as real processes on loopback: members, an aggregator, keys and a data directory that survives a
//! restart.
//!
//! ```text
//! <dir>/testnet.toml               what was chosen when the directory was made: policy and ports
//! <dir>/committee.toml             the committee file
//! <dir>/poster-key{,.pub}          who may store: secp256k1 key in hex, and its public key
//! <dir>/member-1/keys/             das_bls, das_bls.pub
//! <dir>/member-1/config.json       the options it is started with
//! <dir>/member-1/data/             its database
//! <dir>/member-1/log               all it printed
//! <dir>/aggregator/                config.json and log likewise; data/ for its queue, its index and its graphs
//! <dir>/mirror/                    with a chain: config.json, log and data/ of a mirror that follows it
//! <dir>/chain/                     the chain: chain.toml (ports, contract), state.json, log
//! <dir>/running.json               ids and addresses of what runs now; gone after an orderly end
//! ```

mod chain;
mod files;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chain::DevChainError;
use crate::http::{Connection, HttpError};
use crate::process::{Launch, ProcessError, ServerProcess};
use crate::tls::{self, CertificateError};

pub use chain::{ChainSettings, LocalChain};
pub use files::{FilesError, Ports, Settings};

/// How long a health check may take.
const HEALTH_WITHIN: Duration = Duration::from_secs(5);

/// What a new data directory is made for.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many members.
    pub members: usize,
    /// How many of them are assumed to be honest.
    pub honest: usize,
    /// How many shards rebuild a batch; 1 for whole copies.
    pub shards: usize,
    /// The aggregator's first port; the members' follow in steps of ten. 0: ports that are free now.
    pub base_port: u16,
}

impl Default for Plan {
    /// The committee of the worked example: 6 members, 4 honest, 3 shards.
    fn default() -> Self {
        Self { members: 6, honest: 4, shards: 3, base_port: 9700 }
    }
}

/// One of the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The aggregator.
    Aggregator,
    /// A member by its index, which is its signer index.
    Member(usize),
    /// With a chain: a mirror that follows it.
    Mirror,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregator => write!(f, "aggregator"),
            Self::Member(index) => write!(f, "member-{}", index + 1),
            Self::Mirror => write!(f, "mirror"),
        }
    }
}

/// Why the testnet cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The data directory.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A process did not start or end well.
    #[error("{who}: {source}")]
    Process {
        /// Which one.
        who: Who,
        /// What happened.
        source: ProcessError,
    },
    /// There is no such process.
    #[error("there is no {who}: the committee has {members} members")]
    NoSuch {
        /// Who was named.
        who: Who,
        /// How many members there are.
        members: usize,
    },
    /// Certificates.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// The chain.
    #[error("the chain: {0}")]
    Chain(#[from] DevChainError),
}

/// A running process as `running.json` in the data directory has it, for other programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    /// `aggregator`, `member-N`, `mirror` or `chain`.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// URL of its JSON-RPC listener; empty where there is none.
    pub rpc: String,
    /// URL of its REST listener; empty where there is none.
    pub rest: String,
    /// URL of its dashboard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<String>,
    /// URL of its batch explorer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explorer: Option<String>,
    /// Of the chain: the contract that batches are posted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer_inbox: Option<String>,
}

/// A committee and its aggregator. Dropping it kills what runs.
#[derive(Debug)]
pub struct Network {
    dir: PathBuf,
    settings: Settings,
    aggregator: Option<ServerProcess>,
    members: Vec<Option<ServerProcess>>,
    mirror: Option<ServerProcess>,
    chain: Option<LocalChain>,
    extra_node_options: Vec<String>,
    aggregator_options: Vec<String>,
    member_options: Vec<Vec<String>>,
}

impl Network {
    /// Opens a data directory, or makes it as planned if there is none yet. Nothing is started.
    pub fn open(dir: &Path, plan: &Plan) -> Result<Self, NetworkError> {
        Self::open_either(dir, plan, false)
    }

    /// As [`open`](Self::open), with TLS on every link: each has a certificate of the testnet's authority, and JSON-RPC
    /// ports let in only whom they have to, by theirs.
    pub fn open_with_tls(dir: &Path, plan: &Plan) -> Result<Self, NetworkError> {
        let network = Self::open_either(dir, plan, true)?;
        let everyone = network.everyone();
        let ports = everyone.iter().filter_map(|who| network.ports(*who).ok());
        tls::know(dir, ports.flat_map(|ports| [ports.rpc, ports.rest, ports.metrics]).map(local))?;
        Ok(network)
    }

    fn open_either(dir: &Path, plan: &Plan, tls: bool) -> Result<Self, NetworkError> {
        let settings = files::open_or_create(dir, plan, tls)?;
        let members = (0..settings.members.len()).map(|_| None).collect();
        let member_options = vec![Vec::new(); settings.members.len()];
        let dir = dir.to_owned();
        Ok(Self {
            dir,
            settings,
            aggregator: None,
            members,
            mirror: None,
            chain: None,
            extra_node_options: Vec::new(),
            aggregator_options: Vec::new(),
            member_options,
        })
    }

    /// Starts a parent chain that knows committee and batch poster. From then on members ask its contract who may store,
    /// the aggregator posts to it, and there is a mirror that follows it. To be called before anything is started.
    pub fn with_chain(mut self, plan: &Plan) -> Result<Self, NetworkError> {
        let chain = LocalChain::start(&self.dir, plan, &self.settings)?;
        files::write_chain_configs(&self.dir, &self.settings, &chain)?;
        if self.settings.tls {
            let own = chain.settings();
            let Ports { rpc, rest, metrics, .. } = own.mirror;
            let ports = [rpc, rest, metrics, own.explorer, own.mirror_explorer];
            tls::know(&self.dir, ports.map(local))?;
        }
        self.chain = Some(chain);
        Ok(self)
    }

    /// The chain, if there is one.
    pub fn chain(&self) -> Option<&LocalChain> {
        self.chain.as_ref()
    }

    /// Gives all members further options on the command line.
    pub fn with_node_options(mut self, options: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.extra_node_options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Gives the aggregator further options on the command line.
    pub fn with_aggregator_options(mut self, options: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.aggregator_options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Gives one member further options on the command line.
    pub fn with_member_options(
        mut self,
        member: usize,
        options: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, NetworkError> {
        let members = self.members.len();
        let who = Who::Member(member);
        let own = self.member_options.get_mut(member).ok_or(NetworkError::NoSuch { who, members })?;
        own.extend(options.into_iter().map(Into::into));
        Ok(self)
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the directory was made for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The file with the key that may store (hex).
    pub fn poster_key_file(&self) -> PathBuf {
        self.dir.join(files::POSTER_KEY)
    }

    /// The committee file.
    pub fn committee_file(&self) -> PathBuf {
        self.dir.join(files::COMMITTEE)
    }

    /// All servers there are to be: members, then the aggregator, which is started when they are up, then the mirror.
    pub fn everyone(&self) -> Vec<Who> {
        let mirror = self.chain.as_ref().map(|_| Who::Mirror);
        (0..self.members.len()).map(Who::Member).chain([Who::Aggregator]).chain(mirror).collect()
    }

    /// Starts everything that does not run; `progress` hears who became ready.
    pub fn start_all(&mut self, mut progress: impl FnMut(Who, &ServerProcess)) -> Result<(), NetworkError> {
        for who in self.everyone() {
            progress(who, self.start(who)?);
        }
        Ok(())
    }

    /// Starts one, if it does not run.
    pub fn start(&mut self, who: Who) -> Result<&ServerProcess, NetworkError> {
        let launch = self.launch(who);
        let slot = self.slot(who)?;
        if let Some(process) = slot {
            // One that has ended by itself is started again.
            if process.exit_status().map_err(|source| NetworkError::Process { who, source })?.is_some() {
                *slot = None;
            }
        }
        if slot.is_none() {
            *slot = Some(launch.start().map_err(|source| NetworkError::Process { who, source })?);
        }
        self.write_running()?;
        Ok(self.slot(who)?.as_ref().expect("it was started above"))
    }

    /// How one is started.
    pub fn launch(&self, who: Who) -> Launch {
        let dir = self.dir.join(who.to_string());
        let program = match who {
            Who::Aggregator => "das-aggregator",
            Who::Member(_) | Who::Mirror => "das-node",
        };
        let config = dir.join(files::CONFIG);
        let launch = Launch::new(program).arg("--conf.file").arg(config).log(dir.join("log")).own_group();
        match who {
            Who::Aggregator => launch.args(&self.aggregator_options),
            Who::Mirror => launch,
            Who::Member(index) => {
                let own = self.member_options.get(index).into_iter().flatten();
                launch.args(&self.extra_node_options).args(own)
            }
        }
    }

    /// Ends one politely; nothing happens if it does not run.
    pub fn stop(&mut self, who: Who) -> Result<(), NetworkError> {
        let result = match self.slot(who)?.take() {
            Some(mut process) => process.stop().map_err(|source| NetworkError::Process { who, source }),
            None => Ok(()),
        };
        self.write_running()?;
        result
    }

    /// Kills one (SIGKILL); nothing happens if it does not run.
    pub fn kill(&mut self, who: Who) -> Result<(), NetworkError> {
        if let Some(mut process) = self.slot(who)?.take() {
            process.kill().map_err(|source| NetworkError::Process { who, source })?;
        }
        Ok(self.write_running()?)
    }

    /// Ends everything politely, the aggregator first; returns what did not end well.
    pub fn stop_all(&mut self) -> Vec<NetworkError> {
        let mut failures = Vec::new();
        for who in self.everyone().into_iter().rev() {
            failures.extend(self.stop(who).err());
        }
        if let Some(chain) = &mut self.chain {
            failures.extend(chain.stop().err());
        }
        if failures.is_empty() {
            // If it cannot be removed it lists nothing, which is true as well.
            let _ = std::fs::remove_file(self.dir.join(files::RUNNING));
        }
        failures
    }

    /// The process, if it was started.
    pub fn process(&mut self, who: Who) -> Result<Option<&mut ServerProcess>, NetworkError> {
        Ok(self.slot(who)?.as_mut())
    }

    fn slot(&mut self, who: Who) -> Result<&mut Option<ServerProcess>, NetworkError> {
        let members = self.members.len();
        match who {
            Who::Aggregator => Ok(&mut self.aggregator),
            Who::Mirror if self.chain.is_some() => Ok(&mut self.mirror),
            Who::Mirror => Err(NetworkError::NoSuch { who, members }),
            Who::Member(index) => self.members.get_mut(index).ok_or(NetworkError::NoSuch { who, members }),
        }
    }

    /// Those that ended without being asked to since the last call, with their status; they count as stopped then.
    pub fn take_ended(&mut self) -> Result<Vec<(Who, std::process::ExitStatus)>, NetworkError> {
        let mut ended = Vec::new();
        for who in self.everyone() {
            let slot = self.slot(who)?;
            let Some(process) = slot else { continue };
            if let Some(status) =
                process.exit_status().map_err(|source| NetworkError::Process { who, source })?
            {
                *slot = None;
                ended.push((who, status));
            }
        }
        if !ended.is_empty() {
            self.write_running()?;
        }
        Ok(ended)
    }

    fn ports(&self, who: Who) -> Result<&Ports, NetworkError> {
        let ports = match who {
            Who::Aggregator => Some(&self.settings.aggregator),
            Who::Member(index) => self.settings.members.get(index),
            Who::Mirror => self.chain.as_ref().map(|chain| &chain.settings().mirror),
        };
        ports.ok_or(NetworkError::NoSuch { who, members: self.members.len() })
    }

    fn url(&self, port: u16) -> String {
        format!("{}://{}", self.settings.scheme(), local(port))
    }

    /// The addresses of one, as configured.
    pub fn addresses(&self, who: Who) -> Result<Addresses, NetworkError> {
        let ports = self.ports(who)?;
        let url = |port| self.url(port);
        Ok(Addresses {
            rpc: url(ports.rpc),
            rest: url(ports.rest),
            metrics: url(ports.metrics),
            dashboard: url(ports.dashboard),
        })
    }

    /// URL of the batch explorer of one, if it has one.
    pub fn explorer(&self, who: Who) -> Option<String> {
        let settings = self.chain.as_ref()?.settings();
        let port = match who {
            Who::Aggregator => settings.explorer,
            Who::Mirror => settings.mirror_explorer,
            Who::Member(_) => return None,
        };
        Some(self.url(port))
    }

    /// Asks one for its health.
    pub fn health(&self, who: Who) -> Result<Health, NetworkError> {
        let rest = self.addresses(who)?.rest;
        let answer = Connection::new(&rest).and_then(|c| c.stall_limit(HEALTH_WITHIN).get("/health"));
        Ok(match answer {
            Ok(answer) if answer.status == 200 => Health::Good,
            Ok(answer) => Health::Bad { status: answer.status },
            Err(error) => Health::Silent { error },
        })
    }

    fn write_running(&self) -> Result<(), FilesError> {
        let mut running = Vec::new();
        for who in self.everyone() {
            let process = match who {
                Who::Aggregator => self.aggregator.as_ref(),
                Who::Member(index) => self.members[index].as_ref(),
                Who::Mirror => self.mirror.as_ref(),
            };
            if let (Some(process), Ok(addresses)) = (process, self.addresses(who)) {
                let Addresses { rpc, rest, dashboard, .. } = addresses;
                running.push(Running {
                    name: who.to_string(),
                    pid: process.id(),
                    rpc: if who == Who::Mirror { String::new() } else { rpc },
                    rest,
                    dashboard: Some(dashboard),
                    explorer: self.explorer(who),
                    sequencer_inbox: None,
                });
            }
        }
        if let Some((chain, pid)) = self.chain.as_ref().and_then(|chain| Some((chain, chain.pid()?))) {
            running.push(Running {
                name: "chain".to_owned(),
                pid,
                rpc: chain.url().to_owned(),
                rest: String::new(),
                dashboard: None,
                explorer: None,
                sequencer_inbox: Some(chain.sequencer_inbox().to_string()),
            });
        }
        files::write_running(&self.dir, &running)
    }

    /// What runs now in a directory, as its launcher recorded it.
    pub fn read_running(dir: &Path) -> Result<Vec<Running>, NetworkError> {
        Ok(files::read_running(dir)?)
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// URLs of a process's listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// JSON-RPC.
    pub rpc: String,
    /// REST.
    pub rest: String,
    /// Metrics.
    pub metrics: String,
    /// The dashboard.
    pub dashboard: String,
}

/// What a process says of itself.
#[derive(Debug)]
pub enum Health {
    /// It can store and serve.
    Good,
    /// It answers, but not with 200.
    Bad {
        /// The status code.
        status: u16,
    },
    /// It does not answer.
    Silent {
        /// Why not.
        error: HttpError,
    },
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => write!(f, "healthy"),
            Self::Bad { status } => write!(f, "not healthy (status {status})"),
            Self::Silent { error } => write!(f, "no answer ({error})"),
        }
    }
}
