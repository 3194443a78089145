//! The committee file and its arithmetic.
//!
//! **Guarantee.** A [`Committee`] has between 1 and 64 members with distinct names, URLs and public keys whose
//! possession was proved, and `1 <= k <= H <= n`. Whatever else a server needs to know about the committee (A, K, the
//! keyset and its hash, the coding id, what may be lost) is derived from it here and nowhere else.
//!
//! ```toml
//! honest-members = 4            # H
//! data-shards = 3               # k; 1 = whole copies, plain AnyTrust
//! [[member]]                    # order = signer index = shard index
//! name = "alice"
//! public-key = "YAcL91..."      # base64, as in das_bls.pub
//! rpc = "http://127.0.0.1:9876"
//! rest = "http://127.0.0.1:9877"
//! peer = "/dns4/alice.example.org/tcp/9879"   # optional
//!
//! [[mirror]]                    # optional: who keeps copies without signing
//! name = "reader"
//! peer = "/dns4/reader.example.org/tcp/9879"  # optional
//! peer-id = "12D3KooW..."       # vouches for it, as a mirror has no BLS key
//! ```
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | n | number of `[[member]]` | members |
//! | H | `honest-members` | members that keep their word |
//! | k | `data-shards` | shards that rebuild a cold batch |
//! | A | derived, H - k + 1 | the keyset's `assumed_honest`; Nitro's options of that name |
//! | K | derived, n - H + k | signatures that make a certificate; at least k of them are honest |

use std::fmt;
use std::path::Path;

use crate::data_hash::DataHash;
use crate::keccak::keccak256;
use crate::keyset::Keyset;

mod error;
mod file;
mod member;
mod mirror;
mod nitro;
mod policy;
mod promise;
#[cfg(test)]
mod tests;

pub use error::{CommitteeError, Place, Problem, UrlProblem};
pub use file::MAX_FILE_BYTES;
pub use member::{MAX_NAME, Member, PeerAddress};
pub use mirror::{MAX_MIRRORS, Mirror};
pub use policy::{Policy, PolicyError};
pub use promise::{LossBounds, Promise};

/// A checked committee; see the module's guarantee.
#[derive(Clone, Debug)]
pub struct Committee {
    policy: Policy,
    members: Vec<Member>,
    mirrors: Vec<Mirror>,
    keyset: Keyset,
}

impl Committee {
    /// Reads and checks a committee file.
    ///
    /// # Errors
    /// Every error names the file, the line (where there is one), the field, the value and its limit.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CommitteeError> {
        file::load(path.as_ref())
    }

    /// Checks the text of a committee file.
    pub fn parse(text: &str) -> Result<Self, CommitteeError> {
        file::parse(text, None)
    }

    /// The committee of Nitro's options `rpc-aggregator.assumed-honest` and `.backends` (a JSON list of
    /// `{"url", "pubkey"}`): whole copies (k = 1), members named after their URLs, without REST addresses.
    ///
    /// Stricter than Nitro (spec section 12): `1 <= A <= n`, no repeated key, keys with proof and in the subgroup.
    pub fn from_nitro(assumed_honest: u64, backends: &str) -> Result<Self, CommitteeError> {
        nitro::committee(assumed_honest, backends)
    }

    /// Checks that Nitro's options, where given beside a committee file, describe the same keyset as the file.
    pub fn check_agrees_with_nitro(
        &self,
        assumed_honest: Option<u64>,
        backends: Option<&str>,
    ) -> Result<(), CommitteeError> {
        nitro::check_agreement(self, assumed_honest, backends)
    }

    fn new(policy: Policy, members: Vec<Member>, mirrors: Vec<Mirror>) -> Result<Self, Problem> {
        let keys = members.iter().map(|member| member.public_key.clone()).collect();
        let keyset = Keyset::new(policy.assumed_honest(), keys)?;
        Ok(Self { policy, members, mirrors, keyset })
    }

    /// n, H and k, and what follows from them.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The members; a member's position is its signer index and its shard index.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The mirrors that the members let in.
    pub fn mirrors(&self) -> &[Mirror] {
        &self.mirrors
    }

    /// H.
    pub fn honest_members(&self) -> u64 {
        self.policy.honest_members()
    }

    /// k.
    pub fn data_shards(&self) -> u64 {
        self.policy.data_shards()
    }

    /// A = H - k + 1.
    pub fn assumed_honest(&self) -> u64 {
        self.policy.assumed_honest()
    }

    /// K = n - H + k.
    pub fn threshold(&self) -> u64 {
        self.policy.threshold()
    }

    /// The keyset that belongs on the parent chain.
    pub fn keyset(&self) -> &Keyset {
        &self.keyset
    }

    /// What this committee promises.
    pub fn promise(&self) -> Promise {
        Promise::of(&self.policy)
    }

    /// The position of the member with this public key.
    pub fn index_of(&self, key: &crate::bls::PublicKey) -> Option<usize> {
        self.members.iter().position(|member| member.public_key.point_bytes() == key.point_bytes())
    }

    /// What tells codings apart: the keyset's hash alone does not (H, k = 4, 3 and 3, 2 share one keyset).
    pub fn coding_id(&self) -> CodingId {
        CodingId::of(self.keyset.hash(), &self.policy)
    }
}

/// Names a way of cutting batches into shards: code, keyset, H, k and n.
///
/// ```text
/// keccak256( "das coding id" || u8 code version || keyset hash (32) || u8 H || u8 k || u8 n )
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodingId([u8; 32]);

impl CodingId {
    fn of(keyset_hash: DataHash, policy: &Policy) -> Self {
        let small = |number: u64| u8::try_from(number).expect("a policy's numbers are at most 64");
        let numbers = [policy.honest_members(), policy.data_shards(), policy.members()].map(small);
        Self::of_facts(crate::erasure::CODE_VERSION, &keyset_hash, numbers)
    }

    /// Of facts that nobody checked: H, k and n in this order.
    pub(crate) fn of_facts(code_version: u8, keyset_hash: &DataHash, numbers: [u8; 3]) -> Self {
        let mut bytes = b"das coding id".to_vec();
        bytes.push(code_version);
        bytes.extend_from_slice(keyset_hash.as_bytes());
        bytes.extend(numbers);
        Self(keccak256(&bytes))
    }

    /// A coding id as somebody stated it.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CodingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

impl fmt::Debug for CodingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
