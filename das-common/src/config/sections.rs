//! Sections that more than one program has.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;

use super::Replaced;
use crate::aside::{self, Aside};
use crate::http::per_client::PerClientLimits;
use crate::options;

options! {
    /// Where the configuration comes from. Read by the loader itself.
    pub struct ConfOptions {
        /// JSON file of options; several are separated by commas or given repeatedly, later ones win. Comments
        /// (// and /* */) and trailing commas are allowed.
        file: Vec<String>,
        /// JSON object of options; stronger than files.
        string: String,
        /// Prefix of environment variables that are options: with NITRO, NITRO_REST__PORT is rest-port (_ is a dot,
        /// __ a dash). Stronger than files and string. May be given in a file too.
        env_prefix: String,
        /// Print the configuration in force as JSON, secrets blanked, and end.
        dump: bool = "false",
    }
}

/// Options of the loader that are accepted and do nothing.
pub const CONF_REPLACED: &[Replaced] = &[
    Replaced {
        section: "conf",
        options: &[("reload-interval", "duration", "0s")],
        by: "options are read once, at start; restart the program to change them",
    },
    Replaced {
        section: "conf.s3",
        options: &[
            ("access-key", "string", ""),
            ("bucket", "string", ""),
            ("object-key", "string", ""),
            ("region", "string", ""),
            ("secret-key", "string", ""),
        ],
        by: "configuration is not fetched from an object store; fetch the file before the start and give it with \
             --conf.file",
    },
];

options! {
    /// How long one HTTP server waits for a client.
    pub struct ServerTimeouts {
        /// Time for a client to send a request's body, on top of what its length takes on a slow line.
        read_timeout: Duration = "30s",
        /// Longest time to read the headers of a request.
        read_header_timeout: Duration = "30s",
        /// Time for a client to take an answer, on top of what the answer's length takes on a slow line.
        write_timeout: Duration = "30s",
        /// Longest time that a connection is kept open between requests.
        idle_timeout: Duration = "2m0s",
    }
}

options! {
    /// Reading batches from other servers (spec section 8).
    pub struct RestAggregatorOptions {
        /// Read batches that are not here from other servers, by their REST endpoints.
        enable: bool = "false",
        /// REST endpoints to read from, separated by commas.
        urls: Vec<String>,
        /// URL of a page that lists further endpoints, separated by white space; the word LIST before a URL names
        /// another such page.
        online_url_list: String,
        /// Time between two fetches of the online list.
        online_url_list_fetch_interval: Duration = "1h0m0s",
        /// Order in which endpoints are tried; only simple-explore-exploit exists.
        strategy: String = "simple-explore-exploit",
        /// Time after which the next endpoints are tried beside those that have not answered yet.
        wait_before_try_next: Duration = "2s",
        /// Reads whose time and success are remembered of each endpoint.
        max_per_endpoint_stats: usize = "20",
        /// How often endpoints are tried at random.
        simple_explore_exploit_strategy: ExploreExploitOptions,
    }
}

options! {
    /// Rhythm of the strategy simple-explore-exploit.
    pub struct ExploreExploitOptions {
        /// Reads in a row that try endpoints in random order.
        explore_iterations: u32 = "20",
        /// Reads in a row, after those, that try the best endpoints first.
        exploit_iterations: u32 = "1000",
    }
}

options! {
    /// Address of the metrics server.
    pub struct MetricsServerOptions {
        /// Address that metrics are served on, at /debug/metrics/prometheus; /status is there too.
        addr: String = "127.0.0.1",
        /// Port that metrics are served on; 0 picks a free one.
        port: u16 = "6070",
        /// Time between two looks at the process itself (memory, CPU, open files).
        update_interval: Duration = "3s",
    }
}

options! {
    /// Connection to the parent chain.
    pub struct ParentChainOptions {
        /// URLs (http or https) of nodes of the parent chain, separated by commas; the first one that answers is asked.
        node_url: String,
        /// Certificates (PEM) of the authorities of the certificates of https URLs; none: those that the system trusts.
        ca: PathBuf,
        /// Address of the SequencerInbox contract, or none. The contract's batch posters and sequencers may store.
        sequencer_inbox_address: String,
        /// Chain id that the nodes must have. 0: the one that is asked for at the start, which then needs a node.
        chain_id: u64 = "0",
        /// How often the chain id is asked for at the start, a second apart, before the start fails.
        connection_attempts: u32 = "15",
        /// Time for one request to one node.
        request_timeout: Duration = "10s",
        /// How often the chain is looked at for news.
        poll_interval: Duration = "2s",
        /// Most blocks whose logs are asked for at once; fewer are, where a node takes only fewer.
        max_log_blocks: u64 = "2000",
    }
}

impl ParentChainOptions {
    /// Is there a contract, and a node to ask?
    pub fn is_given(&self) -> bool {
        self.names_inbox() && !self.node_url.is_empty()
    }

    /// The URLs of nodes, the preferred one first.
    pub fn urls(&self) -> Vec<String> {
        let urls = self.node_url.split(',').map(str::trim);
        urls.filter(|url| !url.is_empty()).map(str::to_owned).collect()
    }

    /// Is there a contract?
    pub fn names_inbox(&self) -> bool {
        !matches!(self.sequencer_inbox_address.as_str(), "" | "none")
    }
}

options! {
    /// The batch explorer: what the contract has, by number, hash, transaction and time, as pages and as JSON.
    pub struct ExplorerOptions {
        /// Follow the contract's batches, try to recover each once, and show them. Needs a parent chain.
        enable: bool = "false",
        /// Address that pages are served on.
        addr: String = "localhost",
        /// Port that they are served on; 0 picks a free one.
        port: u16 = "9780",
        /// First block that is read; that of the contract's creation is right.
        start_block: u64 = "0",
        /// URL of a page about a transaction, with {} in place of its hash; without, transactions are no links.
        transaction_link: String,
        /// URL of a page about a block, with {} in place of its hash; without, blocks are no links.
        block_link: String,
    }
}

options! {
    /// The page that an operator has open. It shows no secrets; whoever reaches it sees how the server is doing.
    pub struct DashboardOptions {
        /// Serve a page with the state, the alarms and graphs of this server.
        enable: bool = "false",
        /// Address that it is served on.
        addr: String = "localhost",
        /// Port that it is served on; 0 picks a free one.
        port: u16 = "9790",
        /// Address of the batch explorer's pages for those who look at this one; empty: where they are served.
        explorer_link: String,
    }
}

options! {
    /// What one client, by its address, may ask of a port.
    pub struct PerClientOptions {
        /// Most requests a second; 0: no limit.
        rate: f64 = "0",
        /// Requests that may come at once after a pause, on top of the rate.
        burst: u32 = "100",
        /// Most requests under way, until their answers are taken; 0: no limit.
        concurrent: usize = "0",
        /// Most connections; 0: half of limits.max-connections. Trusted proxies have any number.
        connections: usize = "0",
    }
}

options! {
    /// How reads of strangers give way to stores, on the REST port and the explorer's.
    pub struct ReadOptions {
        /// Most reads of one port that are worked on at once, until their answers begin; further ones wait. 0: any number.
        at_once: usize = "256",
        /// Longest wait of such a read; then it is refused (503 with Retry-After).
        patience: Duration = "2s",
        /// How much the threads that work on reads give way to all others, as the niceness of the kernel (to 19); 0: they
        /// are no others.
        niceness: u32 = "10",
    }
}

impl ReadOptions {
    /// What is wrong with them, as the option in this section and a text.
    pub fn problem(&self) -> Option<String> {
        (self.niceness > aside::MOST).then(|| format!("{} is more than {}", self.niceness, aside::MOST))
    }

    /// The threads to read on; none where those of the stores are to be used, or there are no more.
    pub fn threads(&self) -> Option<Aside> {
        let refused =
            |error: &io::Error| warn!(%error, "no threads for reads alone: they share those of stores");
        (self.niceness > 0).then(|| Aside::start(self.niceness).inspect_err(refused).ok())?
    }

    /// The limits of a port that is read from.
    pub fn around(&self, limits: PerClientLimits) -> PerClientLimits {
        PerClientLimits { at_once: self.at_once, patience: self.patience, ..limits }
    }
}

impl PerClientOptions {
    /// As the server takes them. Ranges that are none were refused when the options were read.
    pub fn limits(&self, trusted_proxies: &[String], max_connections: usize) -> PerClientLimits {
        let trusted_proxies = trusted_proxies.iter().filter_map(|range| range.parse().ok()).collect();
        let Self { rate, burst, concurrent, .. } = *self;
        let connections = if self.connections > 0 { self.connections } else { (max_connections / 2).max(1) };
        PerClientLimits {
            rate,
            burst,
            concurrent,
            connections,
            trusted_proxies,
            ..PerClientLimits::default()
        }
    }

    /// What is wrong with them, as option, text and cure; `section` is where they are.
    pub fn problem(&self) -> Option<String> {
        (self.rate < 0.0).then(|| format!("{} requests a second cannot be kept", self.rate))
    }
}

/// The path, if one was given: an option without a value is the empty path.
pub fn given(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

/// Is this an address: 40 hex digits, usually after 0x?
pub fn is_address(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    digits.len() == 40 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}
