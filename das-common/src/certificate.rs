//! Certificates (spec section 4): what a sequencer posts instead of a batch.
//!
//! ```text
//! header (1) || keyset hash (32) || data hash (32) || u64 timeout || [u8 version] || u64 signers mask || signature (96)
//! header  0x80: version 0, no version byte        0x88: version byte present
//! ```
//!
//! What is signed is `data hash || u64 timeout || [u8 version, if not 0]`.

use thiserror::Error;

use crate::bls::{AggregateKey, AggregateSignature, NitroSignature, PointError, SIGNATURE_BYTES};
use crate::data_hash::DataHash;
use crate::keyset::{Keyset, NitroKeyset};

/// Marks a batch as a certificate.
pub const HEADER_FLAG: u8 = 0x80;
/// Marks a certificate as having a version byte.
pub const VERSION_FLAG: u8 = 0x08;
/// Bytes of a certificate of version 1.
pub const CERTIFICATE_BYTES: usize = 178;

/// A certificate. Its fields alone prove nothing: see [`Certificate::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// 0: the data hash is a flat hash; 1: it is the tree hash.
    pub version: u8,
    /// Names the keyset of the signers.
    pub keyset_hash: DataHash,
    /// Names the batch.
    pub data_hash: DataHash,
    /// The signers keep the batch until then (unix seconds).
    pub timeout: u64,
    /// Bit *i*: signer *i* of the keyset signed.
    pub signers_mask: u64,
    /// The sum of the signatures.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// What is no certificate.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CertificateError {
    /// The first byte lacks the flag.
    #[error("the first byte ({got:02x?}) is not that of a certificate")]
    Header {
        /// The first byte.
        got: Option<u8>,
    },
    /// The bytes end early.
    #[error("a certificate with this header is {expected} bytes long, not {got}")]
    Length {
        /// Bytes there should be.
        expected: usize,
        /// Bytes there are.
        got: usize,
    },
    /// The signature's point.
    #[error("the signature {0}")]
    Signature(#[from] PointError),
    /// A version that is not made today.
    #[error("version {got} is not 1")]
    Version {
        /// The version.
        got: u8,
    },
    /// Another keyset.
    #[error("the certificate is for keyset {expected}, not {got}")]
    OtherKeyset {
        /// The certificate's.
        expected: DataHash,
        /// The one given.
        got: DataHash,
    },
    /// Bits without a member.
    #[error("the signers mask {mask:#x} names members beyond the {members} of the keyset")]
    UnknownSigners {
        /// The mask.
        mask: u64,
        /// Members.
        members: usize,
    },
    /// Too few.
    #[error("{signers} of {members} members signed; {assumed_honest} are assumed honest")]
    TooFewSigners {
        /// Signers.
        signers: usize,
        /// Members.
        members: usize,
        /// Assumed honest.
        assumed_honest: u64,
    },
    /// It does not verify.
    #[error("the signature is not that of the signers named")]
    WrongSignature,
}

/// What the signers of a certificate of version 1 sign.
pub fn signed_bytes_v1(data_hash: &DataHash, timeout: u64) -> [u8; 41] {
    let mut out = [1; 41];
    out[..32].copy_from_slice(data_hash.as_bytes());
    out[32..40].copy_from_slice(&timeout.to_be_bytes());
    out
}

impl Certificate {
    /// Reads a certificate as every node does: any header with the flag, any version, bytes behind it ignored, the
    /// signature any point of the curve.
    pub fn parse_as_nitro(bytes: &[u8]) -> Result<Self, CertificateError> {
        let header = *bytes.first().ok_or(CertificateError::Header { got: None })?;
        if header & HEADER_FLAG == 0 {
            return Err(CertificateError::Header { got: Some(header) });
        }
        let versioned = header & VERSION_FLAG != 0;
        let expected = CERTIFICATE_BYTES - usize::from(!versioned);
        if bytes.len() < expected {
            return Err(CertificateError::Length { expected, got: bytes.len() });
        }
        let mut rest = &bytes[1..];
        let mut take = |count| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            taken
        };
        let hash = |bytes: &[u8]| DataHash::from_bytes(bytes.try_into().expect("32 bytes"));
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
        let certificate = Self {
            keyset_hash: hash(take(32)),
            data_hash: hash(take(32)),
            timeout: number(take(8)),
            version: if versioned { take(1)[0] } else { 0 },
            signers_mask: number(take(8)),
            signature: take(SIGNATURE_BYTES).try_into().expect("96 bytes"),
        };
        NitroSignature::parse(&certificate.signature)?;
        Ok(certificate)
    }

    /// Reads a certificate of the one form that we make: version 1, 178 bytes, a signature in the subgroup.
    pub fn parse_strict(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.first() != Some(&(HEADER_FLAG | VERSION_FLAG)) {
            return Err(CertificateError::Header { got: bytes.first().copied() });
        }
        if bytes.len() != CERTIFICATE_BYTES {
            return Err(CertificateError::Length { expected: CERTIFICATE_BYTES, got: bytes.len() });
        }
        let certificate = Self::parse_as_nitro(bytes)?;
        if certificate.version != 1 {
            return Err(CertificateError::Version { got: certificate.version });
        }
        AggregateSignature::parse(&certificate.signature)?;
        Ok(certificate)
    }

    /// The bytes that are posted.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CERTIFICATE_BYTES);
        out.push(if self.version == 0 { HEADER_FLAG } else { HEADER_FLAG | VERSION_FLAG });
        out.extend_from_slice(self.keyset_hash.as_bytes());
        out.extend_from_slice(self.data_hash.as_bytes());
        out.extend_from_slice(&self.timeout.to_be_bytes());
        if self.version != 0 {
            out.push(self.version);
        }
        out.extend_from_slice(&self.signers_mask.to_be_bytes());
        out.extend_from_slice(&self.signature);
        out
    }

    /// What the signers signed.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(41);
        out.extend_from_slice(self.data_hash.as_bytes());
        out.extend_from_slice(&self.timeout.to_be_bytes());
        if self.version != 0 {
            out.push(self.version);
        }
        out
    }

    /// Whether every node takes the certificate under this keyset: fewer unset bits than members assumed honest, and
    /// the signature verifies. Bits beyond the members are ignored; which keyset it is, is not looked at.
    pub fn verify_as_nitro(&self, keyset: &NitroKeyset) -> Result<(), CertificateError> {
        let members = keyset.keys().len();
        let signed = |index: &usize| self.signers_mask >> index & 1 == 1;
        let signers = (0..members).filter(signed).count();
        if (members - signers) as u64 >= keyset.assumed_honest() {
            return Err(CertificateError::TooFewSigners {
                signers,
                members,
                assumed_honest: keyset.assumed_honest(),
            });
        }
        let keys = keyset.keys().iter().enumerate().filter(|(index, _)| signed(index)).map(|(_, key)| key);
        if NitroSignature::parse(&self.signature)?.verify(&self.signed_bytes(), keys) {
            Ok(())
        } else {
            Err(CertificateError::WrongSignature)
        }
    }

    /// Whether this is a certificate that we would post under this keyset.
    pub fn verify(&self, keyset: &Keyset) -> Result<(), CertificateError> {
        if self.version != 1 {
            return Err(CertificateError::Version { got: self.version });
        }
        if self.keyset_hash != keyset.hash() {
            return Err(CertificateError::OtherKeyset { expected: self.keyset_hash, got: keyset.hash() });
        }
        let members = keyset.keys().len();
        if members < 64 && self.signers_mask >> members != 0 {
            return Err(CertificateError::UnknownSigners { mask: self.signers_mask, members });
        }
        let signers = self.signers_mask.count_ones() as usize;
        let keys =
            keyset.keys().iter().enumerate().filter(|(i, _)| self.signers_mask >> i & 1 == 1).map(|(_, k)| k);
        let too_few =
            CertificateError::TooFewSigners { signers, members, assumed_honest: keyset.assumed_honest() };
        if signers < keyset.threshold() {
            return Err(too_few);
        }
        let key = AggregateKey::sum(keys).ok_or(too_few)?;
        let signature = AggregateSignature::parse(&self.signature)?;
        if key.verify(&self.signed_bytes(), &signature) {
            Ok(())
        } else {
            Err(CertificateError::WrongSignature)
        }
    }
}

#[cfg(test)]
mod tests;
