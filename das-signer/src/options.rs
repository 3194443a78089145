//! Options of `das-signer`.

use std::path::PathBuf;
use std::time::Duration;

use das_common::config::sections::MetricsServerOptions;
use das_common::config::{Problem, Program, Replaced};
use das_common::options;
use das_common::telemetry::{LogFormat, LogLevel};
use das_common::tls::{AllowedClients, KnownClients, ServerFiles, TlsVersion};
use das_keys::options::{HeldKeyOptions, SIGNER_NAMES};

options! {
    /// All options of a signer.
    pub struct SignerOptions {
        ["Key"]
        /// The member's key.
        key: HeldKeyOptions,
        /// Let debuggers and other programs of the same user look into this process, and let it write core dumps,
        /// although it holds a key. For finding faults only.
        debuggable: bool = "false",

        ["Server"]
        /// Address that members are served on, over TLS only.
        addr: String = "localhost",
        /// Port that members are served on; 0 picks a free one.
        port: u16 = "9880",
        /// Our certificates and whom they trust. Files that are replaced are in use within seconds.
        tls: TlsOptions,
        /// DNS names of clients' certificates for which is signed; a client needs one of them in its certificate.
        allowed_clients: Vec<String>,
        /// Most connections at once; further ones wait to be accepted.
        max_connections: usize = "256",

        ["What is signed"]
        /// Longest time from now for which it is signed that a batch is kept. The default is an hour more than
        /// das-node's, as clocks differ.
        max_retention: Duration = "505h0m0s",
        /// How often is signed.
        rate_limit: RateOptions,
        /// File in which everything signed is recorded. It is only ever appended to, and must stay.
        audit_log: PathBuf,

        ["Logs and metrics"]
        /// Least important kind of line that is logged: TRACE, DEBUG, INFO, WARN, ERROR or CRIT, or 5 to 0.
        log_level: LogLevel = "INFO",
        /// Form of log lines: plaintext or json.
        log_type: LogFormat = "plaintext",
        /// Levels of single parts of the program on top of log-level, as das_signer=debug,hyper=warn.
        log_filter: String,
        /// Serve metrics for Prometheus.
        metrics: bool = "false",
        /// The metrics server.
        metrics_server: MetricsServerOptions,
    }
}

options! {
    /// Our certificates and whom they trust.
    pub struct TlsOptions {
        /// Our certificate (PEM), followed by those between it and the authority.
        cert: PathBuf,
        /// The secret key of our certificate (PEM).
        key: PathBuf,
        /// Certificates (PEM) of the authorities that clients' certificates are from.
        client_ca: PathBuf,
        /// Oldest version of TLS that is spoken: 1.3 or 1.2.
        min_version: TlsVersion = "1.3",
    }
}

options! {
    /// How often is signed, for each name of a client.
    pub struct RateOptions {
        /// Signatures per second in the long run.
        per_second: u32 = "100",
        /// Signatures at once after a time without any.
        burst: u32 = "500",
    }
}

impl TlsOptions {
    /// What the server is set up with. Clients of the authority are let in whatever their name is: whose name is not
    /// allowed is told so.
    pub fn server(&self) -> ServerFiles {
        ServerFiles {
            certificate: self.cert.clone(),
            key: self.key.clone(),
            min_version: self.min_version,
            clients: Some(KnownClients {
                authorities: self.client_ca.clone(),
                allowed: AllowedClients::new(&[]),
            }),
        }
    }
}

impl Program for SignerOptions {
    const NAME: &'static str = "das-signer";
    const ABOUT: &'static str = "Holds the BLS key of a committee's member on a machine of its own, and signs \
        certificates' words and peer bindings for the member, which shows a certificate.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const REPLACED: &'static [Replaced] = &[];

    fn check(&self) -> Vec<Problem> {
        let mut found = self.key.problems(&SIGNER_NAMES);
        let mut needed = |option, missing, text: &str, cure| {
            if missing {
                found.push(Problem { option, text: text.to_owned(), cure });
            }
        };
        let none = |path: &PathBuf| path.as_os_str().is_empty();
        needed(
            "tls.cert",
            none(&self.tls.cert),
            "there is no certificate to serve with",
            "give a file (PEM)",
        );
        needed("tls.key", none(&self.tls.key), "the certificate's key is missing", "give a file (PEM)");
        needed(
            "tls.client-ca",
            none(&self.tls.client_ca),
            "there is no authority to know clients by, so anybody could have anything signed",
            "give the certificates of the authority that made the members' certificates (PEM)",
        );
        needed(
            "allowed-clients",
            self.allowed_clients.is_empty(),
            "nobody is named, so nothing would ever be signed",
            "give the DNS name of the member's client certificate",
        );
        needed(
            "audit-log",
            none(&self.audit_log),
            "nothing is signed without a record, and there is no file for it",
            "give a file on a disk that lasts",
        );
        needed("max-connections", self.max_connections == 0, "it is 0", "give at least 1");
        needed(
            "max-retention",
            self.max_retention.is_zero(),
            "it is 0",
            "give what the member promises at most",
        );
        needed("rate-limit.per-second", self.rate_limit.per_second == 0, "it is 0", "give at least 1");
        needed("rate-limit.burst", self.rate_limit.burst == 0, "it is 0", "give at least 1");
        found
    }

    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use das_common::config::{Inputs, Outcome, load};

    use super::*;

    const WHOLE: &str = "--key.key-dir k --tls.cert c --tls.key k --tls.client-ca a --allowed-clients alice \
                         --audit-log l";

    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/options-das-signer.md");
        das_common::config::check_page::<SignerOptions>(std::path::Path::new(path));
    }

    #[test]
    fn the_sample_is_usable_as_it_is() {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/sample/das-signer.jsonc");
        let Ok(Outcome::Run(loaded)) = load::<SignerOptions>(&Inputs::of_args(["--conf.file", sample]))
        else {
            panic!("{sample} is not usable")
        };
        assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
        assert!(loaded.options.key.source().is_some());
        assert_eq!(loaded.options.allowed_clients, ["alice.members.example"]);
    }

    #[test]
    fn what_cannot_work_is_named() {
        let outcome = |args: &str| load::<SignerOptions>(&Inputs::of_args(args.split_whitespace()));
        assert!(matches!(outcome(WHOLE), Ok(Outcome::Run(_))));
        let words: Vec<&str> = WHOLE.split_whitespace().collect();
        for left_out in words.chunks(2) {
            let rest: Vec<&str> =
                words.chunks(2).filter(|pair| *pair != left_out).flatten().copied().collect();
            let problems = outcome(&rest.join(" ")).map(|_| ()).unwrap_err().to_string();
            assert!(problems.contains(left_out[0]), "{problems}");
        }
        for (args, expected) in [
            ("--key.keystore.file s", "--key.key-dir is given too"),
            ("--key.kms.envelope s", "--key.key-dir is given too"),
            ("--rate-limit.per-second 0", "it is 0"),
            ("--max-retention 0", "it is 0"),
        ] {
            let problems = outcome(&format!("{WHOLE} {args}")).map(|_| ()).unwrap_err().to_string();
            assert!(problems.contains(expected), "{args}: {problems}");
        }
        let keystore = WHOLE.replace("key-dir", "keystore.file");
        let problems = outcome(&keystore).map(|_| ()).unwrap_err().to_string();
        assert!(problems.contains("one source of its password, and 0 are given"), "{problems}");
        assert!(outcome(&format!("{keystore} --key.keystore.password-env P")).is_ok());
    }
}
