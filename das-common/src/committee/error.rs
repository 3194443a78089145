//! Why a committee was refused.

use std::fmt;
use std::path::PathBuf;

use super::PolicyError;
use crate::binding::PeerKeyError;
use crate::bls::PublicKeyError;
use crate::keyset::KeysetError;

/// A committee was refused: where, and why.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct CommitteeError {
    /// Where the offending text is.
    pub place: Place,
    /// What is wrong with it; its text has the underlying reason.
    pub problem: Box<Problem>,
}

/// Where a committee's description comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A committee file.
    File {
        /// Its path, if it was read from one.
        path: Option<PathBuf>,
        /// The line, counted from 1, if the problem has one.
        line: Option<usize>,
    },
    /// One of Nitro's `rpc-aggregator` options.
    Option {
        /// Its dotted name.
        name: &'static str,
        /// The entry of the list, counted from 1, if it is a list.
        entry: Option<usize>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => {
                match path {
                    Some(path) => write!(f, "{}", path.display())?,
                    None => write!(f, "committee file")?,
                }
                line.map_or(Ok(()), |line| write!(f, ":{line}"))
            }
            Self::Option { name, entry } => {
                write!(f, "{name}")?;
                entry.map_or(Ok(()), |entry| write!(f, ", entry {entry}"))
            }
        }
    }
}

/// What is wrong with a committee's description.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot be read: {source}")]
    Unreadable {
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file is far longer than any committee's.
    #[error("is {got} bytes long; a committee file has at most {limit}")]
    TooLong {
        /// The length.
        got: u64,
        /// The longest accepted.
        limit: u64,
    },
    /// Not TOML, a field that is missing, unknown or of the wrong type.
    #[error("{}", .source.message())]
    Toml {
        /// The reader's words; the line is in [`Place`].
        source: Box<toml::de::Error>,
    },
    /// Not the JSON list that Nitro's option takes.
    #[error("is not a list of {{\"url\", \"pubkey\"}}: {source}")]
    Json {
        /// The reader's words.
        source: serde_json::Error,
    },
    /// `assumed-honest` in a committee file, where the number is another one.
    #[error(
        "`assumed-honest` (A) is not given here but derived: A = honest-members - data-shards + 1; \
         give `honest-members` (H), how many members keep their word"
    )]
    AssumedHonest,
    /// A number is out of range.
    #[error("{source}")]
    Policy {
        /// Which, and its limits.
        #[from]
        source: PolicyError,
    },
    /// A member's name is empty, too long or has characters that do not belong in one.
    #[error("name {got:?}: 1 to {limit} characters, none of them blank or unprintable")]
    Name {
        /// The name given.
        got: String,
        /// The longest accepted.
        limit: usize,
    },
    /// A member's public key is not base64.
    #[error("public-key of {member} is not base64 (give the content of its das_bls.pub)")]
    KeyNotBase64 {
        /// The member's name.
        member: String,
    },
    /// A member's public key is not one that a committee may have.
    #[error("public-key of {member}: {source}")]
    Key {
        /// The member's name.
        member: String,
        /// Why not.
        source: PublicKeyError,
    },
    /// A URL that is none, or that a committee file must not hold.
    #[error("{field} of {member} is {got:?}: {reason}")]
    Url {
        /// The member's name.
        member: String,
        /// `rpc`, `rest` or `url`.
        field: &'static str,
        /// The text given, without any password.
        got: String,
        /// What is wrong with it.
        reason: UrlProblem,
    },
    /// A peer address that is none.
    #[error(
        "peer of {member} is {got:?}: an address looks like \"/dns4/das.example.org/tcp/9879/p2p/12D3...\""
    )]
    Peer {
        /// The member's name.
        member: String,
        /// The text given.
        got: String,
    },
    /// Too many mirrors.
    #[error("{got} mirrors; a committee file names at most {limit}")]
    Mirrors {
        /// How many.
        got: usize,
        /// How many are possible.
        limit: usize,
    },
    /// A mirror's peer id that is none.
    #[error("peer-id of {mirror} is {got:?}: {source}; das-node prints its own at the start")]
    PeerId {
        /// The mirror's name.
        mirror: String,
        /// The text given.
        got: String,
        /// Why not.
        source: PeerKeyError,
    },
    /// Two members share what only one can have.
    #[error("{field} of {member} is that of {other} already: {value}")]
    Repeated {
        /// `name`, `public-key`, `url`, `peer` or `peer-id`.
        field: &'static str,
        /// The later member's name.
        member: String,
        /// The earlier member's name.
        other: String,
        /// The repeated value (shortened, for a key).
        value: String,
    },
    /// The keyset cannot be made.
    #[error("{source}")]
    Keyset {
        /// Why not.
        #[from]
        source: KeysetError,
    },
    /// Nitro's option beside a committee file says another number.
    #[error(
        "is {got}, but the committee file's H = {honest_members} and k = {data_shards} give A = {expected}; \
         leave the option out or make them agree"
    )]
    OtherAssumedHonest {
        /// The option's value.
        got: u64,
        /// The committee file's A.
        expected: u64,
        /// The committee file's H.
        honest_members: u64,
        /// The committee file's k.
        data_shards: u64,
    },
    /// Nitro's backends beside a committee file name other keys, or the same in another order.
    #[error("the {got} keys are not those of the committee file's {expected} members, in its order")]
    OtherKeys {
        /// How many backends the option has.
        got: usize,
        /// How many members the file has.
        expected: usize,
    },
}

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// It does not parse.
    #[error("not a URL ({source})")]
    Syntax {
        /// The parser's reason.
        #[from]
        source: url::ParseError,
    },
    /// Another scheme than HTTP.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// A user name or password, which everybody with the file would learn.
    #[error("must not hold a user name or password: everybody has the committee file")]
    Credentials,
    /// `?` or `#` and what follows.
    #[error("must end with the path (no ? or #)")]
    Tail,
}
