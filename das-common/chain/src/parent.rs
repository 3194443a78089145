//! The parent chain as a program is told of it by its options: endpoints, contract, who may store, keysets.

use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use alloy_sol_types::SolEvent;
use das_common::alarm::Alarms;
use das_common::config::sections::{ParentChainOptions, given};
use das_common::fault::{self, Coded, Fault};
use das_common::store_auth::{self, SignerRegistry, Untold};
use parking_lot::Mutex;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::contract::SequencerInbox as Inbox;
use crate::endpoints::{Endpoints, Settings, SettingsError};
use crate::error::ChainError;
use crate::follow::{self, Filtered, Follower, Step};
use crate::keysets::{DirKeysets, Keysets};
use crate::permission::{self, InboxRegistry, Permission};
use crate::reader::{Limits, LogFilter, Reader};

/// Why the parent chain of the options cannot be used.
#[derive(Debug, Error)]
pub enum ParentError {
    /// The URLs.
    #[error("--parent-chain.node-url: {0}")]
    Endpoints(#[from] SettingsError),
    /// The contract's address.
    #[error(
        "--parent-chain.sequencer-inbox-address: {got:?} is no address: give 0x and 40 hex digits, or none"
    )]
    Inbox {
        /// The option's value.
        got: String,
    },
    /// Nobody said which chain it is.
    #[error(
        "--parent-chain.node-url: the chain id could not be asked for in {attempts} attempts: {source}; with \
         --parent-chain.chain-id the start does not need it"
    )]
    NoChainId {
        /// Tries.
        attempts: u32,
        /// What the last one came to.
        source: ChainError,
    },
    /// The folder of keysets.
    #[error("the folder of keysets {folder} cannot be made: {source}")]
    Keysets {
        /// Where.
        folder: String,
        /// The system's report.
        source: std::io::Error,
    },
}

impl Coded for ParentError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Endpoints(error) => error.fault(),
            Self::Inbox { .. } => fault::CONFIG_VALUE,
            Self::NoChainId { source, .. } => source.fault(),
            Self::Keysets { .. } => fault::CHAIN_KEYSET_STORE,
        }
    }
}

/// The parent chain and the contract on it. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct ParentChain {
    /// Reads it.
    pub reader: Reader,
    /// The contract's address.
    pub inbox: Address,
    /// Who may store, by the contract.
    pub permission: Arc<Permission<InboxRegistry>>,
    /// Keysets that are, or were, valid.
    pub keysets: Keysets<DirKeysets>,
    /// The last alarms about it.
    alarms: Alarms,
    every: Duration,
}

impl ParentChain {
    /// The one of the options; `None` when they name no node or no contract. Keysets are kept below `folder`.
    ///
    /// Nothing is asked of the chain unless its id is not given.
    pub async fn of(
        options: &ParentChainOptions,
        folder: &Path,
        alarms: &Alarms,
    ) -> Result<Option<Self>, ParentError> {
        if !options.is_given() {
            return Ok(None);
        }
        let inbox = &options.sequencer_inbox_address;
        let inbox = Address::from_str(inbox).map_err(|_| ParentError::Inbox { got: inbox.clone() })?;
        let mut settings = Settings {
            request_timeout: options.request_timeout,
            ..Settings::new(options.urls(), options.chain_id)
        };
        settings.tls.authorities = given(&options.ca).map(Path::to_path_buf);
        if settings.chain_id == 0 {
            settings.chain_id = find_chain_id(&settings, options.connection_attempts).await?;
        }
        let chain_id = settings.chain_id;
        let endpoints = Endpoints::new(settings, alarms.clone())?;
        let reader =
            Reader::new(endpoints, Limits { blocks: options.max_log_blocks.max(1), ..Limits::default() });
        let registry = InboxRegistry { reader: reader.clone(), inbox };
        let permission = Arc::new(Permission::new(registry, permission::Settings::default()));
        let folder = folder.join("keysets");
        let store = DirKeysets::open(&folder)
            .map_err(|source| ParentError::Keysets { folder: folder.display().to_string(), source })?;
        let keysets = Keysets::new(reader.clone(), inbox, store);
        info!(chain_id, %inbox, "parent chain");
        let every = options.poll_interval;
        Ok(Some(Self { reader, inbox, permission, keysets, alarms: alarms.clone(), every }))
    }

    /// Its id.
    pub fn chain_id(&self) -> u64 {
        self.reader.endpoints().chain_id()
    }

    /// How often it is looked at.
    pub fn poll_interval(&self) -> Duration {
        self.every
    }

    /// Whom [`store_auth::StoreSigners`] asks.
    pub fn registry(&self) -> impl SignerRegistry + use<> {
        ByContract { permission: Arc::clone(&self.permission), told: Arc::default() }
    }

    /// What the rights and the keysets learn from a step of somebody who follows the contract's events.
    pub async fn observe(&self, step: &Step) {
        match step {
            Step::Advanced { logs, .. } => {
                for log in logs.iter().filter(|log| log.address == self.inbox) {
                    self.permission.observe(log);
                    self.keysets.observe(log).await;
                }
            }
            Step::RolledBack { .. } => self.permission.forget_all(),
            Step::Reset { why, .. } => {
                self.permission.forget_all();
                self.alarms.raise_fault(fault::CHAIN_RESET, why.to_string());
            }
            Step::AtHead { .. } => {}
        }
    }

    /// Follows the events about rights and keysets from now on, until stopped: for programs that do not follow the chain
    /// for anything else.
    pub async fn watch(self, stop: CancellationToken) {
        let events = [
            Inbox::SetValidKeyset::SIGNATURE_HASH,
            Inbox::InvalidateKeyset::SIGNATURE_HASH,
            Inbox::BatchPosterSet::SIGNATURE_HASH,
            Inbox::SequencerSet::SIGNATURE_HASH,
        ];
        let filter = LogFilter::events(self.inbox, &events);
        let mut follower = None;
        loop {
            if follower.is_none() {
                follower = self.follow_from_head(&filter).await;
            }
            let wait = match &mut follower {
                Some(following) => match following.step().await {
                    Ok(Step::AtHead { .. }) => self.every,
                    Ok(step) => {
                        self.observe(&step).await;
                        if matches!(step, Step::Reset { .. }) {
                            follower = None;
                        }
                        continue;
                    }
                    Err(error) => {
                        debug!(%error, "the parent chain's events cannot be read now");
                        self.every
                    }
                },
                None => self.every,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn follow_from_head(&self, filter: &LogFilter) -> Option<Follower<Filtered>> {
        let head = self.reader.head().await.ok()?;
        let source = Filtered { reader: self.reader.clone(), filter: filter.clone() };
        Follower::new(source, follow::Settings::new(self.chain_id(), head.number), None).ok()
    }
}

async fn find_chain_id(settings: &Settings, attempts: u32) -> Result<u64, ParentError> {
    let attempts = attempts.max(1);
    let mut tried = 0;
    loop {
        match Endpoints::find_chain_id(settings.clone()).await? {
            Ok(chain_id) => return Ok(chain_id),
            Err(source) => {
                tried += 1;
                if tried >= attempts {
                    return Err(ParentError::NoChainId { attempts, source });
                }
                warn!(%source, tried, attempts, "the parent chain does not answer yet");
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

struct ByContract {
    permission: Arc<Permission<InboxRegistry>>,
    /// What was on the log last: an outage is told once.
    told: Arc<Mutex<Option<String>>>,
}

impl SignerRegistry for ByContract {
    fn may_store(
        &self,
        address: store_auth::Address,
    ) -> Pin<Box<dyn Future<Output = Result<bool, Untold>> + Send + '_>> {
        Box::pin(async move {
            let answer = self.permission.may_store(address).await;
            let failure = answer.as_ref().err().map(|error| error.fault().code.to_owned());
            let is_new = *self.told.lock() != failure;
            if is_new {
                if let Err(error) = &answer {
                    warn!(code = error.fault().code, %error, "{}", error.fault());
                }
                *self.told.lock() = failure;
            }
            answer.map_err(|_| Untold)
        })
    }
}
