//! Who could have signed the certificates of an answer, and who did.

use std::collections::HashMap;
use std::sync::Arc;

use das_chain::keysets::ChainKeyset;
use das_common::certificate::Certificate;
use das_common::data_hash::DataHash;
use serde::Serialize;

use super::shapes::hex;
use super::sources::point_of;
use super::{Explorer, KEYSET_PATIENCE, listing};
use crate::types::PostedBatch;

/// Keysets looked up for one answer: a committee has one, and another for a while when it changes.
const MAX_KEYSETS: usize = 8;

/// The keysets that an answer names, as far as they could be had.
#[derive(Default)]
pub(super) struct Rosters(HashMap<DataHash, Arc<ChainKeyset>>);

/// A place in a keyset.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignerShape {
    /// Its bit in the signers mask.
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) signed: bool,
}

impl Rosters {
    /// Looks up the keysets of these batches, the first few different ones of them.
    pub(super) async fn of(explorer: &Explorer, batches: &[PostedBatch]) -> Self {
        let mut wanted: Vec<DataHash> = Vec::new();
        for certificate in batches.iter().filter_map(listing::certificate) {
            if !wanted.contains(&certificate.keyset_hash) && wanted.len() < MAX_KEYSETS {
                wanted.push(certificate.keyset_hash);
            }
        }
        let lookups = wanted.into_iter().map(|hash| async move {
            let asked = tokio::time::timeout(KEYSET_PATIENCE, explorer.signers.keyset(hash)).await;
            Some((hash, asked.ok()?.ok()?))
        });
        Self(futures::future::join_all(lookups).await.into_iter().flatten().collect())
    }

    pub(super) fn keyset(&self, hash: &DataHash) -> Option<&ChainKeyset> {
        self.0.get(hash).map(|keyset| &**keyset)
    }

    /// The members of a certificate's keyset, and who of them signed; none while the keyset cannot be had.
    pub(super) fn signers(&self, explorer: &Explorer, certificate: &Certificate) -> Option<Vec<SignerShape>> {
        let keyset = self.keyset(&certificate.keyset_hash)?;
        let signer = |(index, key)| {
            let named = explorer.signers.name(&point_of(key));
            let name = named.unwrap_or_else(|| {
                let keyset: String = hex(&certificate.keyset_hash).chars().take(6).collect();
                format!("member {index} of keyset {keyset}…")
            });
            SignerShape { index, name, signed: certificate.signers_mask >> index & 1 == 1 }
        };
        Some(keyset.keyset.keys().iter().enumerate().map(signer).collect())
    }
}
