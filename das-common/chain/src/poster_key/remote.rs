//! A signer elsewhere, asked by `eth_signTransaction` over HTTPS. It is not trusted: see [`RemoteSigner::sign`].

use std::fmt;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use das_common::fault::{self, Coded, Fault};
use das_common::http::client::{
    ClientLimits, Endpoint, EndpointError, HttpClient, HttpError, TlsError, TlsFiles,
};
use das_common::keccak::keccak256;
use serde_json::{Value, json};
use thiserror::Error;

use crate::endpoints::answer::{self, Answer};
use crate::endpoints::{reason, secrets};
use crate::transaction::{Eip1559, SignedTransaction, TransactionError};

const METHOD: &str = "eth_signTransaction";

/// Some signers repeat the transaction beside its encoding: its calldata then comes twice, in hex, once more quoted.
const ANSWER_BYTES_PER_DATA_BYTE: usize = 6;
const ANSWER_BYTES_BESIDES: usize = 64 << 10;

/// Where the signer is, and what is expected of it.
#[derive(Clone)]
pub struct RemoteSettings {
    /// An `https` URL; user and password in it become basic authorization.
    pub url: String,
    /// The account that it signs for.
    pub address: Address,
    /// Whom we trust and who we are. A signer that does not ask for a certificate signs for everybody who reaches it.
    pub tls: TlsFiles,
    /// Time for one signature, connecting included.
    pub deadline: Duration,
}

impl fmt::Debug for RemoteSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, address, tls, deadline } = self;
        let mut shown = f.debug_struct("RemoteSettings");
        shown.field("address", address).field("tls", tls).field("deadline", deadline).finish_non_exhaustive()
    }
}

/// Why a remote signer cannot be used, or did not sign. No text holds more of its URL than host and port.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The URL.
    #[error("the URL of the remote signer: {reason}")]
    Url {
        /// What is wrong.
        reason: String,
    },
    /// The files of certificates and keys.
    #[error("the remote signer's TLS files: {0}")]
    Tls(#[from] TlsError),
    /// No answer.
    #[error("the remote signer {signer} gives no answer: {reason}")]
    Away {
        /// Host and port.
        signer: String,
        /// Why.
        reason: String,
    },
    /// It does not want to.
    #[error("the remote signer {signer} refuses: {message}")]
    Refused {
        /// Host and port.
        signer: String,
        /// Its words.
        message: String,
    },
    /// An answer that holds no transaction.
    #[error("the remote signer {signer} answers with something else than a transaction: {reason}")]
    Malformed {
        /// Host and port.
        signer: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes that are no signed transaction.
    #[error("the remote signer {signer} gives no signed transaction: {source}")]
    Transaction {
        /// Host and port.
        signer: String,
        /// What is wrong.
        source: TransactionError,
    },
    /// Another transaction than was asked for.
    #[error("the remote signer {signer} signed another transaction: {field} is {got}, asked was {asked}")]
    OtherField {
        /// Host and port.
        signer: String,
        /// The field that differs.
        field: &'static str,
        /// What it signed; of calldata length and hash.
        got: String,
        /// What was asked for.
        asked: String,
    },
    /// The right transaction, by another account.
    #[error("the remote signer {signer} signed as {got}, expected {expected}")]
    OtherAccount {
        /// Host and port.
        signer: String,
        /// Who signed.
        got: Address,
        /// Who should have.
        expected: Address,
    },
}

impl Coded for RemoteError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Url { .. } | Self::Tls(_) => fault::SIGNER_SETTINGS,
            Self::Away { .. } | Self::Refused { .. } => fault::SIGNER_AWAY,
            Self::Malformed { .. }
            | Self::Transaction { .. }
            | Self::OtherField { .. }
            | Self::OtherAccount { .. } => fault::SIGNER_WRONG,
        }
    }
}

/// The signer.
pub struct RemoteSigner {
    endpoint: Endpoint,
    http: HttpClient,
    address: Address,
    deadline: Duration,
    /// Parts of its URL that are not to be repeated when the signer says them.
    secrets: Vec<String>,
}

impl fmt::Debug for RemoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteSigner({} at {})", self.address, self.endpoint.authority())
    }
}

impl RemoteSigner {
    /// Reads the TLS files; nothing is sent yet.
    pub fn new(settings: &RemoteSettings) -> Result<Self, RemoteError> {
        let url = |reason: &str| RemoteError::Url { reason: reason.to_owned() };
        let endpoint = Endpoint::parse(&settings.url).map_err(|error| match error {
            EndpointError::NotAUrl { reason, .. } => RemoteError::Url { reason },
            EndpointError::Scheme { .. } => url("the scheme must be https"),
            EndpointError::NoHost { .. } => url("it names no host"),
        })?;
        if !endpoint.is_https() {
            return Err(url(
                "the scheme must be https: whoever reads or changes what goes to the signer could have it sign",
            ));
        }
        Ok(Self {
            secrets: secrets(&settings.url, endpoint.host()),
            endpoint,
            http: HttpClient::with_tls(ClientLimits::default(), &settings.tls)?,
            address: settings.address,
            deadline: settings.deadline,
        })
    }

    /// The account that it signs for.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Has a transaction signed. What comes back is, in every field, the transaction given, signed by the account; anything
    /// else is an error that names what differs.
    pub async fn sign(&self, transaction: &Eip1559) -> Result<SignedTransaction, RemoteError> {
        let raw = self.ask(transaction).await?;
        let signed = Eip1559::parse_signed(&raw)
            .map_err(|source| RemoteError::Transaction { signer: self.shown(), source })?;
        if let Some((field, got, asked)) = difference(&signed.transaction, transaction) {
            return Err(RemoteError::OtherField { signer: self.shown(), field, got, asked });
        }
        if signed.sender != self.address {
            let (got, expected) = (signed.sender, self.address);
            return Err(RemoteError::OtherAccount { signer: self.shown(), got, expected });
        }
        Ok(SignedTransaction { raw, hash: signed.hash })
    }

    async fn ask(&self, transaction: &Eip1559) -> Result<Bytes, RemoteError> {
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": [self.request(transaction)],
        });
        let bound = ANSWER_BYTES_BESIDES + ANSWER_BYTES_PER_DATA_BYTE * transaction.data.len();
        let answer = self.http.post_json(&self.endpoint, body.to_string().into(), self.deadline, bound).await;
        let answer = answer.map_err(|error| match error {
            HttpError::TooLarge { .. } => self.malformed(&reason(error)),
            error => RemoteError::Away { signer: self.shown(), reason: self.plain(&reason(error)) },
        })?;
        match answer::read::<Value>(answer.status, &answer.body) {
            Answer::Value(value) => read_raw(&value).map_err(|reason| self.malformed(reason)),
            Answer::Busy { message } | Answer::Reverted { message, .. } | Answer::Refused { message, .. } => {
                Err(RemoteError::Refused { signer: self.shown(), message: self.plain(&message) })
            }
            Answer::Malformed { reason } => Err(self.malformed(&reason)),
        }
    }

    fn request(&self, transaction: &Eip1559) -> Value {
        let quantity = |number: u128| format!("{number:#x}");
        json!({
            "from": self.address,
            "to": transaction.to,
            "gas": quantity(transaction.gas_limit.into()),
            "maxFeePerGas": quantity(transaction.max_fee_per_gas),
            "maxPriorityFeePerGas": quantity(transaction.max_priority_fee_per_gas),
            "value": format!("{:#x}", transaction.value),
            "nonce": quantity(transaction.nonce.into()),
            "data": transaction.data,
            "chainId": quantity(transaction.chain_id.into()),
        })
    }

    fn shown(&self) -> String {
        self.endpoint.authority().to_owned()
    }

    /// Without what is secret of the URL.
    fn plain(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "..."))
    }

    fn malformed(&self, reason: &str) -> RemoteError {
        RemoteError::Malformed { signer: self.shown(), reason: self.plain(reason) }
    }
}

/// The encoding: a string, or beside the transaction in an object.
fn read_raw(answer: &Value) -> Result<Bytes, &'static str> {
    let text = match answer {
        Value::String(text) => text,
        Value::Object(fields) => match fields.get("raw") {
            Some(Value::String(text)) => text,
            _ => return Err("an object without the text `raw`"),
        },
        _ => return Err("neither a text nor an object"),
    };
    text.parse().map_err(|_| "the text is not hex")
}

/// The first field in which two transactions differ, and what it is in each.
fn difference(got: &Eip1559, asked: &Eip1559) -> Option<(&'static str, String, String)> {
    type Shown = fn(&Eip1559) -> String;
    let fields: [(&'static str, Shown); 8] = [
        ("chainId", |transaction| transaction.chain_id.to_string()),
        ("nonce", |transaction| transaction.nonce.to_string()),
        ("maxPriorityFeePerGas", |transaction| transaction.max_priority_fee_per_gas.to_string()),
        ("maxFeePerGas", |transaction| transaction.max_fee_per_gas.to_string()),
        ("gas", |transaction| transaction.gas_limit.to_string()),
        ("to", |transaction| transaction.to.to_string()),
        ("value", |transaction| transaction.value.to_string()),
        ("data", |Eip1559 { data, .. }| {
            format!("{} bytes of hash {}", data.len(), B256::from(keccak256(data)))
        }),
    ];
    fields.into_iter().find_map(|(field, shown)| {
        let (got, asked) = (shown(got), shown(asked));
        (got != asked).then_some((field, got, asked))
    })
}

#[cfg(test)]
mod tests;
