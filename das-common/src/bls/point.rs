//! Curve points over `blst`, in the encodings of the spec.
//!
//! `blst` reads three things that are no encodings here: compressed points (flag 0x80), infinity by flag (0x40) and the
//! sign flag (0x20); and it refuses the all-zero form, which is infinity here. So flags and zeroes are looked at before
//! it is asked.

use blst::{BLST_ERROR, blst_fp, blst_fp12, blst_p1, blst_p1_affine, blst_p2, blst_p2_affine};
use thiserror::Error;

use crate::keccak::keccak256;

const FLAGS: u8 = 0xe0;

/// What is no point, or none that is taken here.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PointError {
    /// Too few or too many bytes.
    #[error("is {expected} bytes long, not {got}")]
    Length {
        /// Bytes of such a point.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// The first three bits are not zero, or a coordinate is not below p.
    #[error("has a coordinate that is not below the field's order")]
    Coordinate,
    /// The equation does not hold.
    #[error("is not on the curve")]
    NotOnCurve,
    /// On the curve, in another group.
    #[error("is not in the subgroup of order r")]
    Subgroup,
    /// All zeroes.
    #[error("is the point at infinity")]
    Infinity,
}

impl From<BLST_ERROR> for PointError {
    fn from(error: BLST_ERROR) -> Self {
        match error {
            BLST_ERROR::BLST_POINT_NOT_ON_CURVE => Self::NotOnCurve,
            BLST_ERROR::BLST_POINT_NOT_IN_GROUP => Self::Subgroup,
            _ => Self::Coordinate,
        }
    }
}

/// `true` for infinity.
fn look(bytes: &[u8], expected: usize) -> Result<bool, PointError> {
    if bytes.len() != expected {
        return Err(PointError::Length { expected, got: bytes.len() });
    }
    if bytes[0] & FLAGS != 0 {
        return Err(PointError::Coordinate);
    }
    Ok(bytes.iter().all(|b| *b == 0))
}

macro_rules! point {
    (
        $(#[$doc:meta])* $name:ident, $bytes:literal, $projective:ident, $affine:ident, $deserialize:ident,
        $serialize:ident, $from_affine:ident, $to_affine:ident, $in_group:ident, $add:ident, $mult:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(super) struct $name(pub(super) $projective);

        impl $name {
            /// Any point of the curve.
            pub(super) fn lenient(bytes: &[u8]) -> Result<Self, PointError> {
                if look(bytes, $bytes)? {
                    return Ok(Self::infinity());
                }
                let mut affine = $affine::default();
                // SAFETY: the length was checked; uncompressed (no flags) points of that length are read.
                let error = unsafe { blst::$deserialize(&mut affine, bytes.as_ptr()) };
                if error != BLST_ERROR::BLST_SUCCESS {
                    return Err(error.into());
                }
                let mut point = $projective::default();
                // SAFETY: both are live values of the types named.
                unsafe { blst::$from_affine(&mut point, &affine) };
                Ok(Self(point))
            }

            /// A point of the subgroup other than infinity.
            pub(super) fn strict(bytes: &[u8]) -> Result<Self, PointError> {
                if look(bytes, $bytes)? {
                    return Err(PointError::Infinity);
                }
                let point = Self::lenient(bytes)?;
                // SAFETY: a live value of the type named.
                if unsafe { blst::$in_group(&point.0) } { Ok(point) } else { Err(PointError::Subgroup) }
            }

            pub(super) fn infinity() -> Self {
                // All coordinates zero is infinity in Jacobian form.
                Self($projective::default())
            }

            pub(super) fn to_bytes(&self) -> [u8; $bytes] {
                let mut out = [0; $bytes];
                if !self.is_infinity() {
                    // SAFETY: that many bytes are what the function writes.
                    unsafe { blst::$serialize(out.as_mut_ptr(), &self.0) };
                }
                out
            }

            fn is_infinity(&self) -> bool {
                self.0.z == Default::default()
            }

            pub(super) fn plus(&self, other: &Self) -> Self {
                let mut out = $projective::default();
                // SAFETY: all are live values; the function doubles equal points and takes infinity.
                unsafe { blst::$add(&mut out, &self.0, &other.0) };
                Self(out)
            }

            /// Times a little-endian number.
            pub(super) fn times(&self, number: &[u8]) -> Self {
                let mut out = $projective::default();
                // SAFETY: the number has as many bits as is said.
                unsafe { blst::$mult(&mut out, &self.0, number.as_ptr(), 8 * number.len()) };
                Self(out)
            }

            fn affine(&self) -> $affine {
                let mut out = $affine::default();
                // SAFETY: both are live values of the types named.
                unsafe { blst::$to_affine(&mut out, &self.0) };
                out
            }
        }
    };
}

point!(
    /// A point of G1's curve.
    G1Point, 96, blst_p1, blst_p1_affine, blst_p1_deserialize, blst_p1_serialize, blst_p1_from_affine,
    blst_p1_to_affine, blst_p1_in_g1, blst_p1_add_or_double, blst_p1_mult
);
point!(
    /// A point of G2's curve.
    G2Point, 192, blst_p2, blst_p2_affine, blst_p2_deserialize, blst_p2_serialize, blst_p2_from_affine,
    blst_p2_to_affine, blst_p2_in_g2, blst_p2_add_or_double, blst_p2_mult
);

/// `map_to_curve(pad || keccak(message))`, the first byte of the pad telling proofs from signatures.
pub(super) fn hash_to_g1(mode: u8, message: &[u8]) -> G1Point {
    let mut bytes = [0; 48];
    bytes[0] = mode;
    bytes[16..].copy_from_slice(&keccak256(message));
    let mut element = blst_fp::default();
    let mut point = blst_p1::default();
    // SAFETY: 48 bytes are what is read; the null pointer leaves out the second element, as the function allows.
    unsafe {
        blst::blst_fp_from_bendian(&mut element, bytes.as_ptr());
        blst::blst_map_to_g1(&mut point, &element, std::ptr::null());
    }
    G1Point(point)
}

/// `e(hash, key) == e(signature, g2)`.
pub(super) fn pairings_equal(hash: &G1Point, key: &G2Point, signature: &G1Point) -> bool {
    // SAFETY: the generator is a constant of the library.
    let generator = G2Point(unsafe { *blst::blst_p2_generator() });
    let left = miller_loop(hash, key);
    let right = miller_loop(signature, &generator);
    // SAFETY: both are live values of the type named.
    unsafe { blst::blst_fp12_finalverify(&left, &right) }
}

fn miller_loop(p: &G1Point, q: &G2Point) -> blst_fp12 {
    if p.is_infinity() || q.is_infinity() {
        // The loop itself does not know infinity; the pairing with it is one.
        // SAFETY: a constant of the library.
        return unsafe { *blst::blst_fp12_one() };
    }
    let mut out = blst_fp12::default();
    // SAFETY: all are live values of the types named.
    unsafe { blst::blst_miller_loop(&mut out, &q.affine(), &p.affine()) };
    out
}
