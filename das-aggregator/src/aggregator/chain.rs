//! What an aggregator does with a parent chain: it asks it who may store, looks whether it takes the committee's keyset, and
//! posts.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use das_chain::ChainError;
use das_chain::keysets::Validity;
use das_chain::parent::ParentChain;
use das_chain::poster_key::{LocalKey, Password, PosterKey, RemoteSettings, RemoteSigner};
use das_chain::reader::At;
use das_common::alarm::Alarms;
use das_common::config::sections::given;
use das_common::data_hash::DataHash;
use das_common::fault::{self, Coded};
use das_common::http::client::{ClientIdentity, TlsFiles, TlsVersion};
use das_common::store_auth::StoreKey;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::StartError;
use crate::options::{AggregatorOptions, Fallback, KeysetCheck, PostOptions, RemoteSignerOptions};
use crate::post::chain::PosterChain;
use crate::post::fees::FeeLimits;
use crate::post::queue::{Bounds, Place, Queue};
use crate::post::service::{PostSettings, Poster, PosterParts};
use crate::store::Stores;

/// How often the contract is asked about the keyset.
const KEYSET_EVERY: Duration = Duration::from_secs(60);
/// Folder of the queue, in the data folder.
const QUEUE: &str = "post";
/// Folder of what is known of the chain, in the data folder.
const CHAIN: &str = "chain";

/// The chain of the options, if they name one.
pub(super) async fn open(
    options: &AggregatorOptions,
    alarms: &Alarms,
) -> Result<Option<ParentChain>, StartError> {
    Ok(ParentChain::of(&options.parent_chain, &options.data_dir.join(CHAIN), alarms).await?)
}

/// Looks at the committee's keyset now, and goes on doing so.
pub(super) async fn watch_keyset(
    chain: &ParentChain,
    keyset: DataHash,
    check: KeysetCheck,
    alarms: &Alarms,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    if check == KeysetCheck::Off {
        return Ok(());
    }
    match chain.keysets.validity(keyset, At::Latest).await {
        Ok(validity) if !validity.is_valid && check == KeysetCheck::Fatal => {
            let text = unlike(keyset, validity);
            return Err(StartError::KeysetNotValid { inbox: chain.inbox.to_string(), text });
        }
        // A chain that is away is no reason not to serve.
        Err(error) if !error.is_away() && check == KeysetCheck::Fatal => {
            return Err(StartError::KeysetUnknown { inbox: chain.inbox.to_string(), source: error });
        }
        outcome => tell(keyset, &outcome, alarms),
    }
    let (chain, alarms) = (chain.clone(), alarms.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(KEYSET_EVERY).await;
            tell(keyset, &chain.keysets.validity(keyset, At::Latest).await, &alarms);
        }
    }));
    Ok(())
}

fn unlike(keyset: DataHash, validity: Validity) -> String {
    match validity.created_in {
        None => format!("keyset 0x{keyset} was never set"),
        Some(block) => format!("keyset 0x{keyset}, set in block {block}, was invalidated"),
    }
}

fn tell(keyset: DataHash, outcome: &Result<Validity, ChainError>, alarms: &Alarms) {
    match outcome {
        Ok(validity) if validity.is_valid => alarms.clear(fault::CHAIN_KEYSET_INVALID.code),
        Ok(validity) => alarms.raise_fault(fault::CHAIN_KEYSET_INVALID, unlike(keyset, *validity)),
        Err(error) => warn!(code = error.fault().code, %error, "the keyset cannot be looked up"),
    }
}

/// The poster, if posting is enabled.
pub(super) fn poster(
    options: &AggregatorOptions,
    chain: Option<&ParentChain>,
    keyset: DataHash,
    stores: &Stores,
    store_key: Option<Arc<StoreKey>>,
    alarms: &Alarms,
) -> Result<Option<Poster>, StartError> {
    let post = &options.post;
    if !post.enable {
        return Ok(None);
    }
    let chain = chain.ok_or(StartError::PostWithout { option: "parent-chain.node-url" })?;
    let store_key =
        store_key.ok_or(StartError::PostWithout { option: "data-availability.store-key.file" })?;
    let folder = given(&options.data_dir).ok_or(StartError::PostWithout { option: "data-dir" })?;
    if !stores.checks() {
        return Err(StartError::PostWithout { option: "data-availability.allowed-signers" });
    }
    let key = load_key(post)?;
    let place = Place { chain_id: chain.chain_id(), inbox: chain.inbox.into_array() };
    let queue = Queue::open(&folder.join(QUEUE), &place)?;
    let chain = PosterChain {
        endpoints: chain.reader.endpoints().clone(),
        inbox: chain.inbox,
        account: key.address(),
        keyset,
    };
    let settings = settings(options);
    let parts = PosterParts {
        queue,
        chain,
        key,
        store_key,
        stores: stores.clone(),
        settings,
        alarms: alarms.clone(),
    };
    Ok(Some(Poster::new(parts)))
}

fn load_key(post: &PostOptions) -> Result<PosterKey, StartError> {
    let key = &post.key;
    if !key.remote.url.is_empty() {
        return remote_signer(&key.remote);
    }
    if let Some(keystore) = given(&key.keystore) {
        let password = match given(&key.password_file) {
            Some(file) => {
                let (password, wide) =
                    Password::from_file(file).map_err(|error| StartError::PosterKey(error.into()))?;
                warn_of_mode(file, wide);
                password
            }
            None if key.password_env.is_empty() => {
                return Err(StartError::PostWithout { option: "post.key.password-file" });
            }
            None => Password::from_environment(&key.password_env)
                .map_err(|error| StartError::PosterKey(error.into()))?,
        };
        let key = LocalKey::from_keystore(keystore, &password).map_err(StartError::PosterKey)?;
        return Ok(PosterKey::Local(key));
    }
    let file = given(&key.file).ok_or(StartError::PostWithout { option: "post.key.file" })?;
    let (key, wide) = LocalKey::from_file(file).map_err(StartError::PosterKey)?;
    warn_of_mode(file, wide);
    Ok(PosterKey::Local(key))
}

fn remote_signer(options: &RemoteSignerOptions) -> Result<PosterKey, StartError> {
    let address = Address::from_str(&options.address)
        .map_err(|_| StartError::PostWithout { option: "post.key.remote.address" })?;
    let identity = match (given(&options.cert), given(&options.cert_key)) {
        (Some(certificate), Some(key)) => {
            Some(ClientIdentity { certificate: certificate.to_owned(), key: key.to_owned() })
        }
        (Some(_), None) => return Err(StartError::PostWithout { option: "post.key.remote.cert-key" }),
        (None, _) => return Err(StartError::PostWithout { option: "post.key.remote.cert" }),
    };
    let settings = RemoteSettings {
        url: options.url.expose().to_owned(),
        address,
        tls: TlsFiles {
            authorities: given(&options.ca).map(Path::to_owned),
            identity,
            // Not a program of ours.
            min_version: TlsVersion::Tls12,
            ..TlsFiles::default()
        },
        deadline: options.timeout,
    };
    let signer = RemoteSigner::new(&settings).map_err(|error| StartError::PosterKey(error.into()))?;
    Ok(PosterKey::Remote(signer))
}

fn warn_of_mode(file: &Path, wide: Option<u32>) {
    if let Some(mode) = wide {
        warn!(code = fault::KEY_MODE.code, file = %file.display(), mode = format!("{mode:03o}"), "{}", fault::KEY_MODE);
    }
}

fn settings(options: &AggregatorOptions) -> PostSettings {
    let post = &options.post;
    PostSettings {
        fallback_after: (post.fallback == Fallback::Calldata).then_some(post.fallback_after),
        in_flight: post.max_in_flight,
        replace_after: post.replace_after,
        resend_after: post.resend_after,
        fees: FeeLimits {
            max: wei_of_gwei(post.max_fee_gwei),
            tip: wei_of_gwei(post.max_tip_gwei),
            least_tip: wei_of_gwei(post.min_tip_gwei),
        },
        gas_margin: post.gas_margin,
        least_balance: U256::from(wei_of_gwei(post.min_balance_ether * 1e9)),
        every: options.parent_chain.poll_interval,
        bounds: Bounds { batches: post.max_queue_batches, bytes: post.max_queue_bytes.0 },
        max_batch_bytes: options.data_availability.max_batch_size,
        accept_nonces: post.accept_nonces_below,
        accept_batches: post.accept_batches_below,
    }
}

/// Saturates; what is negative or no number is 0.
fn wei_of_gwei(gwei: f64) -> u128 {
    (gwei * 1e9) as u128
}
