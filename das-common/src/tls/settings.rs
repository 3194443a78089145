//! The options of TLS that members and aggregators have in common.

use std::path::{Path, PathBuf};

use super::clients::AllowedClients;
use super::files::TlsVersion;
use super::outgoing::{ClientIdentity, TlsFiles};
use super::server::{KnownClients, ServerFiles};
use crate::config::Problem;
use crate::config::sections::given;
use crate::options;

options! {
    /// TLS of our servers and of what we call.
    pub struct TlsOptions {
        /// Our certificate (PEM), followed by those between it and the authority. With it all ports speak TLS. Files of
        /// certificates and keys that are replaced are in use within seconds, without a restart.
        cert: PathBuf,
        /// The secret key of our certificate (PEM).
        key: PathBuf,
        /// Oldest version of TLS that our servers speak: 1.3 or 1.2.
        min_version: TlsVersion = "1.3",
        /// Servers that stay with plain HTTP although there is a certificate: of rpc, rest, provider, explorer and
        /// metrics. For those behind a proxy on the same machine.
        plain: Vec<String>,
        /// Clients of the JSON-RPC port.
        rpc: RpcTlsOptions,
        /// What we call by https URLs, apart from the parent chain.
        outgoing: OutgoingTlsOptions,
    }
}

options! {
    /// Clients of the JSON-RPC port.
    pub struct RpcTlsOptions {
        /// Certificates (PEM) of the authorities of clients' certificates; with them the JSON-RPC port lets in only clients
        /// that show one.
        client_ca: PathBuf,
        /// DNS names of clients' certificates; a client needs one of them in its certificate. None: every certificate of
        /// the authorities will do.
        allowed_clients: Vec<String>,
    }
}

options! {
    /// What we call by https URLs.
    pub struct OutgoingTlsOptions {
        /// Certificates (PEM) of the authorities of servers' certificates; none: those that the system trusts.
        ca: PathBuf,
        /// Trust those of the system beside ca.
        system_roots: bool = "false",
        /// Our certificate (PEM) for servers that want to know who calls, followed by those between it and the authority.
        cert: PathBuf,
        /// The secret key of that certificate (PEM).
        key: PathBuf,
        /// Oldest version of TLS that is spoken to servers: 1.3 or 1.2.
        min_version: TlsVersion = "1.3",
    }
}

/// A server of a program, as far as TLS is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// As the option `plain` has it.
    pub name: &'static str,
    /// The option of its port.
    pub option: &'static str,
    /// Whether it is served.
    pub on: bool,
}

fn is_given(path: &Path) -> bool {
    given(path).is_some()
}

fn problem(option: &'static str, text: impl Into<String>, cure: &'static str) -> Problem {
    Problem { option, text: text.into(), cure }
}

impl TlsOptions {
    /// What our servers are set up with; none: plain HTTP.
    pub fn server(&self) -> Option<ServerFiles> {
        let certificate = given(&self.cert)?.to_path_buf();
        let clients = given(&self.rpc.client_ca).map(|authorities| KnownClients {
            authorities: authorities.to_path_buf(),
            allowed: AllowedClients::new(&self.rpc.allowed_clients),
        });
        let min_version = self.min_version;
        Some(ServerFiles { certificate, key: self.key.clone(), min_version, clients })
    }

    /// Whether the server of this name speaks TLS.
    pub fn covers(&self, name: &str) -> bool {
        is_given(&self.cert) && !self.plain.iter().any(|plain| plain == name)
    }

    /// Options of servers that are served over plain HTTP.
    fn plain_ports(&self, ports: &[Port]) -> Vec<String> {
        let plain = ports.iter().filter(|port| port.on && !self.covers(port.name));
        plain.map(|port| format!("--{}", port.option)).collect()
    }

    /// Combinations that cannot work. With `require` every port must speak TLS.
    pub fn problems(&self, require: bool, ports: &[Port]) -> Vec<Problem> {
        let mut found = Vec::new();
        if is_given(&self.cert) != is_given(&self.key) {
            let (missing, text) = if is_given(&self.cert) {
                ("tls.key", "there is a certificate without its key")
            } else {
                ("tls.cert", "there is a key without its certificate")
            };
            found.push(problem(missing, text, "give --tls.cert and --tls.key (PEM)"));
        }
        let rpc = &self.rpc;
        if is_given(&rpc.client_ca) && !self.covers("rpc") {
            found.push(problem(
                "tls.rpc.client-ca",
                "clients show certificates over TLS only, and JSON-RPC is served without",
                "give --tls.cert and --tls.key, and take rpc out of --tls.plain",
            ));
        }
        if !rpc.allowed_clients.is_empty() && !is_given(&rpc.client_ca) {
            found.push(problem(
                "tls.rpc.allowed-clients",
                "there is no authority to know clients by, so anybody could have any name",
                "give --tls.rpc.client-ca",
            ));
        }
        for name in &self.plain {
            if !ports.iter().any(|port| port.name == name) {
                let names: Vec<&str> = ports.iter().map(|port| port.name).collect();
                let text = format!("{name:?} is no server; there are {}", names.join(", "));
                found.push(problem("tls.plain", text, "give names of servers"));
            }
        }
        found.extend(self.outgoing.problem());
        let plain = self.plain_ports(ports);
        if require && !plain.is_empty() {
            found.push(problem(
                "require-tls",
                format!("plain HTTP would be served on {}", plain.join(", ")),
                "give --tls.cert and --tls.key and leave out --tls.plain, or take out require-tls to go on without TLS",
            ));
        }
        found
    }

    /// The warning about ports that speak plain HTTP, all of them in one line.
    pub fn notice(&self, ports: &[Port]) -> Option<String> {
        let plain = self.plain_ports(ports);
        if plain.is_empty() {
            return None;
        }
        Some(format!(
            "PLAIN HTTP on {}: whoever is on the way reads and changes what is sent. Give --tls.cert and --tls.key (see \
             docs/tls.md), and --require-tls so that it cannot happen again",
            plain.join(", ")
        ))
    }
}

impl OutgoingTlsOptions {
    /// What calls are set up with.
    pub fn files(&self) -> TlsFiles {
        let identity = given(&self.cert).map(|certificate| ClientIdentity {
            certificate: certificate.to_path_buf(),
            key: self.key.clone(),
        });
        TlsFiles {
            authorities: given(&self.ca).map(Path::to_path_buf),
            system_roots: self.system_roots,
            identity,
            min_version: self.min_version,
        }
    }

    fn problem(&self) -> Option<Problem> {
        (is_given(&self.cert) != is_given(&self.key)).then(|| {
            problem(
                "tls.outgoing.cert",
                "certificate and key are not both given",
                "give --tls.outgoing.cert and --tls.outgoing.key (PEM), or neither",
            )
        })
    }
}
