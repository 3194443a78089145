//! The permutation of eight and of four lanes with AVX-512, and of four with AVX2.
//!
//! For up to four inputs the registers of half the width are the better ones: more units of the CPU work on them.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_andnot_si256, _mm256_loadu_si256, _mm256_or_si256, _mm256_permute2x128_si256,
    _mm256_rol_epi64, _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_slli_epi64, _mm256_srli_epi64,
    _mm256_storeu_si256, _mm256_ternarylogic_epi64, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
    _mm256_xor_si256, _mm512_loadu_si512, _mm512_rol_epi64, _mm512_set_epi64, _mm512_set1_epi64,
    _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::RATE;
use super::lanes::{Absorb, States};
use super::permutation::{ROUND_CONSTANTS, round};

/// Eight lanes, if the CPU has AVX-512.
pub(super) fn eight_lanes() -> Option<Absorb<8>> {
    is_x86_feature_detected!("avx512f").then_some(|states, inputs, blocks| {
        // SAFETY: the CPU has what the function is compiled for.
        unsafe { absorb8(states, inputs, blocks) }
    })
}

/// Four lanes, if the CPU has AVX-512 for registers of half its width.
pub(super) fn four_short_lanes() -> Option<Absorb<4>> {
    let available = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2");
    available.then_some(|states, inputs, blocks| {
        // SAFETY: the CPU has what the function is compiled for.
        unsafe { absorb4_avx512(states, inputs, blocks) }
    })
}

/// Four lanes, if the CPU has AVX2.
pub(super) fn four_lanes() -> Option<Absorb<4>> {
    is_x86_feature_detected!("avx2").then_some(|states, inputs, blocks| {
        // SAFETY: the CPU has what the function is compiled for.
        unsafe { absorb4_avx2(states, inputs, blocks) }
    })
}

/// The word at so many bytes of a block.
fn word(input: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(*input[at..].first_chunk().expect("the caller checked the length"))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor8(a: __m512i, b: __m512i) -> __m512i {
    _mm512_xor_si512(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3_8(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn chi8(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0xd2>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rol8<const N: i32>(a: __m512i) -> __m512i {
    _mm512_rol_epi64::<N>(a)
}

/// Words `first..first + 8` of the next block of every lane, word by word.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed8(inputs: &[&[u8]; 8], at: usize) -> [__m512i; 8] {
    let rows: [__m512i; 8] = std::array::from_fn(|lane| {
        let bytes: &[u8; 64] = inputs[lane][at..].first_chunk().expect("the caller checked the length");
        // SAFETY: 64 bytes are what is read.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    });
    // Pairs of lanes, then the eight pairs' quarters into place: first lanes 0-3 and 4-7, then both.
    let pairs: [__m512i; 8] = std::array::from_fn(|i| {
        let (low, high) = (rows[i & !1], rows[i | 1]);
        if i % 2 == 0 { _mm512_unpacklo_epi64(low, high) } else { _mm512_unpackhi_epi64(low, high) }
    });
    let mut out = pairs;
    for odd in 0..2 {
        let front_even = _mm512_shuffle_i64x2::<0x88>(pairs[odd], pairs[2 + odd]);
        let front_odd = _mm512_shuffle_i64x2::<0xdd>(pairs[odd], pairs[2 + odd]);
        let back_even = _mm512_shuffle_i64x2::<0x88>(pairs[4 + odd], pairs[6 + odd]);
        let back_odd = _mm512_shuffle_i64x2::<0xdd>(pairs[4 + odd], pairs[6 + odd]);
        out[odd] = _mm512_shuffle_i64x2::<0x88>(front_even, back_even);
        out[4 + odd] = _mm512_shuffle_i64x2::<0xdd>(front_even, back_even);
        out[2 + odd] = _mm512_shuffle_i64x2::<0x88>(front_odd, back_odd);
        out[6 + odd] = _mm512_shuffle_i64x2::<0xdd>(front_odd, back_odd);
    }
    out
}

#[target_feature(enable = "avx512f")]
fn absorb8(states: &mut States<8>, inputs: &[&[u8]; 8], blocks: usize) {
    assert!(
        inputs.iter().all(|input| input.len() / RATE >= blocks),
        "a lane is shorter than {blocks} blocks"
    );
    // SAFETY: each row of the states is 64 bytes.
    let mut a: [__m512i; 25] =
        std::array::from_fn(|i| unsafe { _mm512_loadu_si512(states.0[i].as_ptr().cast()) });
    for block in 0..blocks {
        let start = block * RATE;
        for (half, at) in [(0, start), (8, start + 64)] {
            for (i, words) in transposed8(inputs, at).into_iter().enumerate() {
                a[half + i] = _mm512_xor_si512(a[half + i], words);
            }
        }
        let w: [i64; 8] = std::array::from_fn(|lane| word(inputs[lane], start + 128));
        a[16] = _mm512_xor_si512(a[16], _mm512_set_epi64(w[7], w[6], w[5], w[4], w[3], w[2], w[1], w[0]));
        for constant in ROUND_CONSTANTS {
            let constant = _mm512_set1_epi64(constant.cast_signed());
            a = round!(a, constant, xor8, xor3_8, chi8, rol8);
        }
    }
    for (row, register) in states.0.iter_mut().zip(a) {
        // SAFETY: each row of the states is 64 bytes.
        unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), register) };
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor4(a: __m256i, b: __m256i) -> __m256i {
    _mm256_xor_si256(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3_4(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_xor_si256(a, _mm256_xor_si256(b, c))
}

#[inline]
#[target_feature(enable = "avx2")]
fn chi4(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_xor_si256(a, _mm256_andnot_si256(b, c))
}

macro_rules! rotations {
    ($($by:literal)+) => {
        /// Rotates left by `N`, which the two shifts of the instruction set need as two numbers.
        #[inline]
        #[target_feature(enable = "avx2")]
        fn rol4<const N: i32>(a: __m256i) -> __m256i {
            match N {
                $($by => _mm256_or_si256(_mm256_slli_epi64::<$by>(a), _mm256_srli_epi64::<{ 64 - $by }>(a)),)+
                _ => unreachable!("the permutation has no other rotation"),
            }
        }
    };
}
rotations!(1 2 3 6 8 10 14 15 18 20 21 25 27 28 36 39 41 43 44 45 55 56 61 62);

/// Four words of the next block of every lane, word by word.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed4(inputs: &[&[u8]; 4], at: usize) -> [__m256i; 4] {
    let rows: [__m256i; 4] = std::array::from_fn(|lane| {
        let bytes: &[u8; 32] = inputs[lane][at..].first_chunk().expect("the caller checked the length");
        // SAFETY: 32 bytes are what is read.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    });
    let even = [_mm256_unpacklo_epi64(rows[0], rows[1]), _mm256_unpacklo_epi64(rows[2], rows[3])];
    let odd = [_mm256_unpackhi_epi64(rows[0], rows[1]), _mm256_unpackhi_epi64(rows[2], rows[3])];
    [
        _mm256_permute2x128_si256::<0x20>(even[0], even[1]),
        _mm256_permute2x128_si256::<0x20>(odd[0], odd[1]),
        _mm256_permute2x128_si256::<0x31>(even[0], even[1]),
        _mm256_permute2x128_si256::<0x31>(odd[0], odd[1]),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn xor3_4_short(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_ternarylogic_epi64::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn chi4_short(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_ternarylogic_epi64::<0xd2>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn rol4_short<const N: i32>(a: __m256i) -> __m256i {
    _mm256_rol_epi64::<N>(a)
}

macro_rules! absorb4 {
    ($name:ident, $features:literal, $xor3:ident, $chi:ident, $rol:ident) => {
        #[target_feature(enable = $features)]
        fn $name(states: &mut States<4>, inputs: &[&[u8]; 4], blocks: usize) {
            assert!(
                inputs.iter().all(|input| input.len() / RATE >= blocks),
                "a lane is shorter than {blocks} blocks"
            );
            let mut a: [__m256i; 25] = std::array::from_fn(|i| {
                // SAFETY: each row of the states is 32 bytes.
                unsafe { _mm256_loadu_si256(states.0[i].as_ptr().cast()) }
            });
            for block in 0..blocks {
                let start = block * RATE;
                for quarter in 0..4 {
                    for (i, words) in transposed4(inputs, start + 32 * quarter).into_iter().enumerate() {
                        a[4 * quarter + i] = _mm256_xor_si256(a[4 * quarter + i], words);
                    }
                }
                let w: [i64; 4] = std::array::from_fn(|lane| word(inputs[lane], start + 128));
                a[16] = _mm256_xor_si256(a[16], _mm256_set_epi64x(w[3], w[2], w[1], w[0]));
                for constant in ROUND_CONSTANTS {
                    let constant = _mm256_set1_epi64x(constant.cast_signed());
                    a = round!(a, constant, xor4, $xor3, $chi, $rol);
                }
            }
            for (row, register) in states.0.iter_mut().zip(a) {
                // SAFETY: each row of the states is 32 bytes.
                unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), register) };
            }
        }
    };
}
absorb4!(absorb4_avx2, "avx2", xor3_4, chi4, rol4);
absorb4!(absorb4_avx512, "avx2,avx512f,avx512vl", xor3_4_short, chi4_short, rol4_short);
