//! Keccak-256, as Ethereum has it (not SHA3-256), of one input or of several at once.
//!
//! One input is a chain of permutations, each waiting for the one before, so a single hash cannot use the width of a
//! vector register. Several inputs can: lane *i* of every register belongs to input *i*, and eight hashes cost little more
//! than one.
//!
//! ```text
//!              lane 0   lane 1   ...   lane 7
//! register 0   word 0   word 0         word 0      25 registers: the 25 words of a state
//! register 1   word 1   word 1         word 1
//! ...
//! ```
//!
//! Which implementation runs is chosen at run time: eight or four lanes with AVX-512, four with AVX2, else one after the
//! other.

mod lanes;
mod permutation;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

pub use lanes::keccak256_many;
pub use permutation::Keccak;

/// Bytes absorbed by one permutation.
const RATE: usize = 136;

/// The hash of `data`.
pub fn keccak256(data: &[u8]) -> [u8; 32] {
    let mut keccak = Keccak::default();
    keccak.update(data);
    keccak.finish()
}
