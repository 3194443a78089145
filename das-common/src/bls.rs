//! BLS keys and signatures of AnyTrust (spec section 2) on BLS12-381: public keys in G2, signatures in G1, with a
//! hash to the curve of its own (one map, no message expansion).
//!
//! Two families of types keep apart what section 12 of the spec keeps apart. [`PublicKey`] and [`Signature`] are what
//! we promise or admit ourselves: in the subgroup, not the point at infinity, possession proved. [`NitroPublicKey`] and
//! [`NitroSignature`] are what a reader of the chain has to accept: any point of the curve, infinity included.

mod files;
mod point;

use blst::{blst_p1, blst_p2, blst_scalar};
use rand::RngCore;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use files::{
    KeyFileError, KeyFiles, PUBLIC_FILE, SECRET_FILE, read_public_key_file, read_secret_key_file,
    write_key_files,
};
pub use point::PointError;
use point::{G1Point, G2Point, hash_to_g1};

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 96;
/// Bytes of the point of a public key.
pub const POINT_BYTES: usize = 192;

const SIGNATURE_MODE: u8 = 0;
const KEY_MODE: u8 = 1;
/// Bits of the weights that keep errors of a group from cancelling out.
const WEIGHT_BITS: usize = 64;

/// What is no public key.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PublicKeyError {
    /// The bytes are too few or too many for what the first one says.
    #[error("a public key {} is {expected} bytes long, not {got}", if *.proof { "with its proof" } else { "without proof" })]
    Length {
        /// Whether the first byte announces a proof.
        proof: bool,
        /// Bytes there should be.
        expected: usize,
        /// Bytes there are.
        got: usize,
    },
    /// The first byte announces a proof of a length that no proof has.
    #[error("the proof of possession is said to be {got} bytes long; it has 96")]
    ProofLength {
        /// The first byte.
        got: u8,
    },
    /// No proof, from a source that is not trusted.
    #[error("the proof of possession is missing")]
    ProofMissing,
    /// The proof does not verify.
    #[error("the proof of possession does not belong to this key")]
    ProofWrong,
    /// The point.
    #[error("the key's point {0}")]
    Point(PointError),
    /// The proof's point.
    #[error("the proof's point {0}")]
    ProofPoint(PointError),
}

/// What is no secret key.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SecretKeyError {
    /// No bytes.
    #[error("the secret key is empty")]
    Empty,
    /// A multiple of the group order.
    #[error("the secret key is zero modulo the group order")]
    Zero,
}

/// A secret key. Never printed; wiped from memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey {
    /// Big-endian, below the group order, not zero.
    bytes: [u8; 32],
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl SecretKey {
    /// Draws a key.
    pub fn generate() -> Self {
        // 48 bytes make the bias of the reduction negligible.
        let mut bytes = Zeroizing::new([0; 48]);
        loop {
            rand::rng().fill_bytes(&mut *bytes);
            if let Ok(key) = Self::from_bytes(&*bytes) {
                return key;
            }
        }
    }

    /// Takes a big-endian integer of any length, modulo the group order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretKeyError> {
        if bytes.is_empty() {
            return Err(SecretKeyError::Empty);
        }
        let mut scalar = blst_scalar::default();
        let mut reduced = [0; 32];
        // SAFETY: pointers and length are those of live buffers; the function writes the scalar whole.
        let nonzero = unsafe { blst::blst_scalar_from_be_bytes(&mut scalar, bytes.as_ptr(), bytes.len()) };
        if !nonzero {
            return Err(SecretKeyError::Zero);
        }
        // SAFETY: 32 bytes are what the function writes.
        unsafe { blst::blst_bendian_from_scalar(reduced.as_mut_ptr(), &scalar) };
        scalar.b.zeroize();
        let key = Self { bytes: reduced };
        reduced.zeroize();
        Ok(key)
    }

    /// The big-endian integer without leading zeroes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let zeroes = self.bytes.iter().take_while(|b| **b == 0).count();
        Zeroizing::new(self.bytes[zeroes..].to_vec())
    }

    /// The big-endian integer in 32 bytes.
    pub fn to_be_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.bytes)
    }

    fn scalar(&self) -> Zeroizing<Scalar> {
        let mut scalar = blst_scalar::default();
        // SAFETY: 32 bytes are what the function reads.
        unsafe { blst::blst_scalar_from_bendian(&mut scalar, self.bytes.as_ptr()) };
        Zeroizing::new(Scalar(scalar))
    }

    fn sign_in_mode(&self, mode: u8, message: &[u8]) -> G1Point {
        let mut out = blst_p1::default();
        let hash = hash_to_g1(mode, message);
        // SAFETY: all three are live values of the types named; constant time in the key.
        unsafe { blst::blst_sign_pk_in_g2(&mut out, &hash.0, &self.scalar().0) };
        G1Point(out)
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.sign_in_mode(SIGNATURE_MODE, message))
    }

    /// The public key with its proof of possession.
    pub fn public_key(&self) -> PublicKey {
        let point = self.public_point();
        let proof = self.sign_in_mode(KEY_MODE, &point.to_bytes());
        PublicKey { point, proof: Some(proof.to_bytes()) }
    }

    /// The proof of possession of the public key.
    pub fn prove_possession(&self) -> Signature {
        Signature(self.sign_in_mode(KEY_MODE, &self.public_point().to_bytes()))
    }

    fn public_point(&self) -> G2Point {
        let mut point = blst_p2::default();
        // SAFETY: both are live values of the types named.
        unsafe { blst::blst_sk_to_pk_in_g2(&mut point, &self.scalar().0) };
        G2Point(point)
    }
}

struct Scalar(blst_scalar);

impl Zeroize for Scalar {
    fn zeroize(&mut self) {
        self.0.b.zeroize();
    }
}

/// The two ways of writing a public key, taken apart.
struct KeyParts<'a> {
    proof: Option<&'a [u8]>,
    point: &'a [u8],
}

fn split_key(bytes: &[u8]) -> Result<KeyParts<'_>, PublicKeyError> {
    let (&first, rest) = bytes.split_first().ok_or(PublicKeyError::Length {
        proof: false,
        expected: 1 + POINT_BYTES,
        got: 0,
    })?;
    let (proof, expected) = match first {
        0 => (false, 1 + POINT_BYTES),
        96 => (true, 1 + SIGNATURE_BYTES + POINT_BYTES),
        got => return Err(PublicKeyError::ProofLength { got }),
    };
    if bytes.len() != expected {
        return Err(PublicKeyError::Length { proof, expected, got: bytes.len() });
    }
    let (proof, point) = rest.split_at(usize::from(first));
    Ok(KeyParts { proof: (!proof.is_empty()).then_some(proof), point })
}

/// A public key that we would put into a keyset: in the subgroup, not infinity, its possession proved or vouched for.
#[derive(Clone)]
pub struct PublicKey {
    point: G2Point,
    proof: Option<[u8; SIGNATURE_BYTES]>,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.point.to_bytes() == other.point.to_bytes()
    }
}

impl Eq for PublicKey {}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({}..)", const_hex::encode(&self.point.to_bytes()[..8]))
    }
}

impl PublicKey {
    /// Reads a key with its proof, and checks it.
    pub fn parse(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        let parts = split_key(bytes)?;
        if parts.proof.is_none() {
            return Err(PublicKeyError::ProofMissing);
        }
        Self::parse_trusted(bytes)
    }

    /// Reads a key from a source that vouches for it: a proof may be missing; one that is there must be right.
    pub fn parse_trusted(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        let parts = split_key(bytes)?;
        let point = G2Point::strict(parts.point).map_err(PublicKeyError::Point)?;
        let proof = match parts.proof {
            None => None,
            Some(proof) => {
                let signature = G1Point::strict(proof).map_err(PublicKeyError::ProofPoint)?;
                let hash = hash_to_g1(KEY_MODE, &point.to_bytes());
                if !point::pairings_equal(&hash, &point, &signature) {
                    return Err(PublicKeyError::ProofWrong);
                }
                Some(signature.to_bytes())
            }
        };
        Ok(Self { point, proof })
    }

    /// The serialized form: 289 bytes with a proof, 193 without.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + SIGNATURE_BYTES + POINT_BYTES);
        match &self.proof {
            Some(proof) => {
                out.push(96);
                out.extend_from_slice(proof);
            }
            None => out.push(0),
        }
        out.extend_from_slice(&self.point.to_bytes());
        out
    }

    /// Whether it carries its proof of possession (a trusted source may have left it out).
    pub fn has_proof(&self) -> bool {
        self.proof.is_some()
    }

    /// The point alone.
    pub fn point_bytes(&self) -> [u8; POINT_BYTES] {
        self.point.to_bytes()
    }

    /// Whether this proves the possession of this key.
    pub fn is_proved_by(&self, proof: &Signature) -> bool {
        point::pairings_equal(&hash_to_g1(KEY_MODE, &self.point.to_bytes()), &self.point, &proof.0)
    }

    /// Whether this key signed the message.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        point::pairings_equal(&hash_to_g1(SIGNATURE_MODE, message), &self.point, &signature.0)
    }
}

/// A signature of one signer, in the subgroup.
#[derive(Clone)]
pub struct Signature(G1Point);

impl PartialEq for Signature {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Signature {}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({}..)", const_hex::encode(&self.to_bytes()[..8]))
    }
}

impl Signature {
    /// Reads a signature: 96 bytes, a point of the subgroup, not infinity.
    pub fn parse(bytes: &[u8]) -> Result<Self, PointError> {
        G1Point::strict(bytes).map(Self)
    }

    /// Its 96 bytes.
    pub fn to_bytes(&self) -> [u8; SIGNATURE_BYTES] {
        self.0.to_bytes()
    }
}

/// The sum of the signatures of several signers over one message.
#[derive(Clone, Debug)]
pub struct AggregateSignature(Signature);

impl AggregateSignature {
    /// Adds signatures; `None` for none.
    pub fn sum<'a>(signatures: impl IntoIterator<Item = &'a Signature>) -> Option<Self> {
        let mut signatures = signatures.into_iter();
        let first = signatures.next()?.0.clone();
        Some(Self(Signature(signatures.fold(first, |sum, next| sum.plus(&next.0)))))
    }

    /// Reads one, as strictly as a single signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, PointError> {
        Signature::parse(bytes).map(Self)
    }

    /// Its 96 bytes.
    pub fn to_bytes(&self) -> [u8; SIGNATURE_BYTES] {
        self.0.to_bytes()
    }
}

/// The sum of the keys of several signers, each of which proved its possession.
#[derive(Clone, Debug)]
pub struct AggregateKey(PublicKey);

impl AggregateKey {
    /// Adds keys; `None` for none.
    pub fn sum<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Option<Self> {
        let mut keys = keys.into_iter();
        let first = keys.next()?.point.clone();
        let point = keys.fold(first, |sum, next| sum.plus(&next.point));
        Some(Self(PublicKey { point, proof: None }))
    }

    /// Whether all signers of this sum signed the message.
    pub fn verify(&self, message: &[u8], signature: &AggregateSignature) -> bool {
        self.0.verify(message, &signature.0)
    }
}

/// Which of these signers signed the message. When all did, it costs little more than checking one.
///
/// Each pair is weighed with a random number, so that errors which cancel out in a plain sum do not do so here: a pair
/// that is wrong alone passes with a probability of 2⁻⁶⁴.
pub fn verify_same_message(message: &[u8], pairs: &[(PublicKey, Signature)]) -> Vec<bool> {
    let hash = hash_to_g1(SIGNATURE_MODE, message);
    let mut right = vec![false; pairs.len()];
    verify_range(&hash, pairs, &mut right);
    right
}

fn verify_range(hash: &G1Point, pairs: &[(PublicKey, Signature)], right: &mut [bool]) {
    let all = match pairs {
        [] => return,
        [(key, signature)] => point::pairings_equal(hash, &key.point, &signature.0),
        pairs => {
            let mut weight = [0; WEIGHT_BITS / 8];
            let mut keys = None::<G2Point>;
            let mut signatures = None::<G1Point>;
            for (key, signature) in pairs {
                rand::rng().fill_bytes(&mut weight);
                let key = key.point.times(&weight);
                let signature = signature.0.times(&weight);
                keys = Some(keys.map_or(key.clone(), |sum| sum.plus(&key)));
                signatures = Some(signatures.map_or(signature.clone(), |sum| sum.plus(&signature)));
            }
            match (keys, signatures) {
                (Some(keys), Some(signatures)) => point::pairings_equal(hash, &keys, &signatures),
                _ => false,
            }
        }
    };
    if all {
        right.fill(true);
    } else if pairs.len() > 1 {
        let middle = pairs.len() / 2;
        let (left, rest) = right.split_at_mut(middle);
        verify_range(hash, &pairs[..middle], left);
        verify_range(hash, &pairs[middle..], rest);
    }
}

/// A public key as Nitro's readers take it: any point of the curve, infinity too, in any subgroup.
#[derive(Clone)]
pub struct NitroPublicKey {
    point: G2Point,
    proof: Option<[u8; SIGNATURE_BYTES]>,
}

impl std::fmt::Debug for NitroPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NitroPublicKey({}..)", const_hex::encode(&self.point.to_bytes()[..8]))
    }
}

impl NitroPublicKey {
    /// Reads a key as Nitro does. From a trusted source the proof may be missing and is not verified.
    pub fn parse(bytes: &[u8], trusted: bool) -> Result<Self, PublicKeyError> {
        let parts = split_key(bytes)?;
        let proof = match parts.proof {
            None if !trusted => return Err(PublicKeyError::ProofMissing),
            None => None,
            Some(proof) => Some(G1Point::lenient(proof).map_err(PublicKeyError::ProofPoint)?),
        };
        let point = G2Point::lenient(parts.point).map_err(PublicKeyError::Point)?;
        if let (false, Some(proof)) = (trusted, &proof) {
            let hash = hash_to_g1(KEY_MODE, &point.to_bytes());
            if !point::pairings_equal(&hash, &point, proof) {
                return Err(PublicKeyError::ProofWrong);
            }
        }
        Ok(Self { point, proof: proof.map(|p| p.to_bytes()) })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Vec<u8> {
        PublicKey { point: self.point.clone(), proof: self.proof }.to_bytes()
    }
}

/// A signature as Nitro's readers take it: any point of the curve, infinity too, in any subgroup.
#[derive(Clone, Debug)]
pub struct NitroSignature(G1Point);

impl NitroSignature {
    /// Reads 96 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, PointError> {
        G1Point::lenient(bytes).map(Self)
    }

    /// Whether it is the sum of the signatures of these keys over the message; of no keys: infinity.
    pub fn verify<'a>(&self, message: &[u8], keys: impl IntoIterator<Item = &'a NitroPublicKey>) -> bool {
        let sum = keys.into_iter().fold(G2Point::infinity(), |sum, key| sum.plus(&key.point));
        point::pairings_equal(&hash_to_g1(SIGNATURE_MODE, message), &sum, &self.0)
    }
}

/// The point that a message is hashed to: for signatures, or with `key_mode` for proofs of possession.
pub fn hash_to_curve(message: &[u8], key_mode: bool) -> [u8; SIGNATURE_BYTES] {
    hash_to_g1(if key_mode { KEY_MODE } else { SIGNATURE_MODE }, message).to_bytes()
}

#[cfg(test)]
mod tests;
