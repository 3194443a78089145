//! The key that a member's payloads are encrypted with on its own disk.
//!
//! ```text
//! sealed    24 random bytes (nonce) | ciphertext, as long as the payload | 16 bytes (tag)
//! key id    the first four bytes of keccak("das storage key id 1" || key) that are not all zero
//! ```
//!
//! The cipher is XChaCha20-Poly1305. Nonces are drawn at random: 192 bits are enough for as many payloads as a disk holds.
//!
//! **Guarantee.** What [`StorageKey::open`] gives back was sealed under this key with the same associated data. The key
//! appears in no debug output and no error, and its memory is overwritten when it is dropped. Its id tells nobody more of it
//! than which key it is.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use das_common::keccak::keccak256;
use das_common::secret_memory::Locked;
use rand::RngCore;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// What is sealed is longer than the payload by so many bytes.
pub const OVERHEAD: usize = NONCE_BYTES + TAG_BYTES;

const ID_DOMAIN: &[u8] = b"das storage key id 1";

/// Which key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(NonZeroU32);

impl KeyId {
    fn of(key: &[u8; KEY_BYTES]) -> Self {
        let mut input = Zeroizing::new([0; ID_DOMAIN.len() + KEY_BYTES]);
        input[..ID_DOMAIN.len()].copy_from_slice(ID_DOMAIN);
        input[ID_DOMAIN.len()..].copy_from_slice(key);
        let hash = keccak256(&*input);
        let mut words = hash.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
        Self(words.find_map(NonZeroU32::new).unwrap_or(NonZeroU32::MIN))
    }

    /// As records have it.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// As a record has it; zero is no key.
    pub fn from_record(id: u32) -> Option<Self> {
        NonZeroU32::new(id).map(Self)
    }

    /// From the text that it is shown as.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 8)?;
        u32::from_str_radix(digits, 16).ok().and_then(Self::from_record)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Bytes([u8; KEY_BYTES]);

/// A key for payloads at rest.
pub struct StorageKey {
    secret: Locked<Bytes>,
    id: KeyId,
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageKey({})", self.id)
    }
}

impl PartialEq for StorageKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.secret.0 == other.secret.0
    }
}

impl Eq for StorageKey {}

impl StorageKey {
    /// Takes a key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self { id: KeyId::of(key), secret: Locked::new(Bytes(*key)) }
    }

    /// Draws a new one.
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        rand::rng().fill_bytes(&mut *key);
        Self::new(&key)
    }

    /// Which key it is.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself, to be written where keys are kept.
    pub fn to_bytes(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(self.secret.0)
    }

    /// Whether its memory never goes to swap space.
    pub fn is_locked(&self) -> bool {
        self.secret.is_locked()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&self.secret.0).into())
    }

    /// Encrypts a payload. It can be opened only with the same associated data.
    pub fn seal(&self, associated: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut nonce = XNonce::default();
        rand::rng().fill_bytes(&mut nonce);
        let mut sealed = Vec::with_capacity(payload.len() + OVERHEAD);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(payload);
        let tag = self.cipher().encrypt_in_place_detached(&nonce, associated, &mut sealed[NONCE_BYTES..]);
        sealed.extend_from_slice(&tag.expect("no payload in memory is as long as the cipher's limit"));
        sealed
    }

    /// Decrypts in place, and says where the payload is now. `None`: this key did not seal these bytes with this associated
    /// data; what is in the buffer then is of no use.
    pub fn open(&self, associated: &[u8], sealed: &mut [u8]) -> Option<Range<usize>> {
        let end = sealed.len().checked_sub(TAG_BYTES).filter(|end| *end >= NONCE_BYTES)?;
        let (rest, tag) = sealed.split_at_mut(end);
        let (nonce, payload) = rest.split_at_mut(NONCE_BYTES);
        let opened = self.cipher().decrypt_in_place_detached(
            XNonce::from_slice(nonce),
            associated,
            payload,
            (&*tag).into(),
        );
        opened.ok().map(|()| NONCE_BYTES..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_under_the_same_key_and_words_only() {
        let (key, other) = (StorageKey::new(&[7; 32]), StorageKey::new(&[8; 32]));
        for length in [0, 1, 63, 64, 65, 100_000] {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let sealed = key.seal(b"of this", &payload);
            assert_eq!(sealed.len(), length + OVERHEAD);
            assert_ne!(sealed, key.seal(b"of this", &payload), "nonces are never the same");
            let open = |key: &StorageKey, words: &[u8], mut sealed: Vec<u8>| {
                key.open(words, &mut sealed).map(|range| sealed[range].to_vec())
            };
            assert_eq!(open(&key, b"of this", sealed.clone()), Some(payload));
            assert_eq!(open(&key, b"of that", sealed.clone()), None);
            assert_eq!(open(&other, b"of this", sealed.clone()), None);
            for at in [0, 23, sealed.len() - 17, sealed.len() - 1] {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(open(&key, b"of this", changed), None, "byte {at} of {length}");
            }
            for cut in [0, 39, sealed.len() - 1] {
                assert_eq!(open(&key, b"of this", sealed[..cut].to_vec()), None, "cut at {cut}");
            }
        }
    }

    /// The draft of XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, A.3.1): what we keep is what everybody else can open.
    #[test]
    fn it_is_the_cipher_of_the_draft() {
        let key: Vec<u8> = (0x80..0xa0).collect();
        let nonce: Vec<u8> = (0x40..0x58).collect();
        let associated = const_hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let ciphertext = "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39\
             ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
             21f9664c97637da9768812f615c68b13b52e";
        let tag = "c0875924c1c7987947deafd8780acf49";
        let mut sealed =
            [nonce, const_hex::decode(ciphertext).unwrap(), const_hex::decode(tag).unwrap()].concat();
        let range = StorageKey::new(&key.try_into().unwrap()).open(&associated, &mut sealed).unwrap();
        assert!(sealed[range].starts_with(b"Ladies and Gentlemen of the class of '99: If I could offer you"));
    }

    #[test]
    fn a_key_is_known_by_an_id_that_stays() {
        let key = StorageKey::new(&[7; 32]);
        assert_eq!(KeyId::parse(&key.id().to_string()), Some(key.id()));
        assert_ne!(key.id(), StorageKey::new(&[8; 32]).id());
        assert_eq!(KeyId::from_record(0), None);
        assert_eq!(format!("{key:?}"), format!("StorageKey({})", key.id()));
        assert_eq!(StorageKey::new(&key.to_bytes()), key);
    }
}
