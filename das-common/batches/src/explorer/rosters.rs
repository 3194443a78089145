//! Who could have signed the certificates of an answer, and who did.

use std::collections::HashMap;

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
pub(super) struct Rosters(HashMap<DataHash, Roster>);

/// A keyset and what its members are called.
struct Roster {
    assumed_honest: u64,
    names: Vec<String>,
}

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
            let keyset = asked.ok()?.ok()?;
            Some((hash, roster(explorer, &hash, &keyset)))
        });
        Self(futures::future::join_all(lookups).await.into_iter().flatten().collect())
    }

    /// How many members of a keyset are assumed honest; none while the keyset cannot be had.
    pub(super) fn assumed_honest(&self, keyset: &DataHash) -> Option<u64> {
        self.0.get(keyset).map(|roster| roster.assumed_honest)
    }

    /// The members of a certificate's keyset, and who of them signed; none while the keyset cannot be had.
    pub(super) fn signers(&self, certificate: &Certificate) -> Option<Vec<SignerShape>> {
        let signed = |index: usize| certificate.signers_mask >> index & 1 == 1;
        let signer = |(index, name): (usize, &String)| SignerShape {
            index,
            name: name.clone(),
            signed: signed(index),
        };
        let roster = self.0.get(&certificate.keyset_hash)?;
        Some(roster.names.iter().enumerate().map(signer).collect())
    }
}

fn roster(explorer: &Explorer, hash: &DataHash, keyset: &ChainKeyset) -> Roster {
    let name = |(index, key)| {
        explorer.signers.name(&point_of(key)).unwrap_or_else(|| {
            let keyset: String = hex(hash).chars().take(6).collect();
            format!("member {index} of keyset {keyset}…")
        })
    };
    Roster {
        assumed_honest: keyset.keyset.assumed_honest(),
        names: keyset.keyset.keys().iter().enumerate().map(name).collect(),
    }
}
