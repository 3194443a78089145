//! The permutation, written once for single words and for vectors of them, and hashing one input with it.

use super::RATE;

pub(super) const ROUND_CONSTANTS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// One round in straight lines: a state of 25 locals goes in, another comes out, so that a compiler can keep both in
/// registers. `$xor3(a, b, c)` is `a ^ b ^ c`, `$chi(a, b, c)` is `a ^ (!b & c)`, `$rol::<N>` rotates left.
macro_rules! round {
    ($a:ident, $constant:expr, $xor:path, $xor3:path, $chi:path, $rol:ident) => {{
        let c0 = $xor3($xor3($a[0], $a[5], $a[10]), $a[15], $a[20]);
        let c1 = $xor3($xor3($a[1], $a[6], $a[11]), $a[16], $a[21]);
        let c2 = $xor3($xor3($a[2], $a[7], $a[12]), $a[17], $a[22]);
        let c3 = $xor3($xor3($a[3], $a[8], $a[13]), $a[18], $a[23]);
        let c4 = $xor3($xor3($a[4], $a[9], $a[14]), $a[19], $a[24]);
        let d0 = $xor(c4, $rol::<1>(c1));
        let d1 = $xor(c0, $rol::<1>(c2));
        let d2 = $xor(c1, $rol::<1>(c3));
        let d3 = $xor(c2, $rol::<1>(c4));
        let d4 = $xor(c3, $rol::<1>(c0));
        macro_rules! row {
            ($b0:expr, $b1:expr, $b2:expr, $b3:expr, $b4:expr) => {{
                let (b0, b1, b2, b3, b4) = ($b0, $b1, $b2, $b3, $b4);
                [$chi(b0, b1, b2), $chi(b1, b2, b3), $chi(b2, b3, b4), $chi(b3, b4, b0), $chi(b4, b0, b1)]
            }};
        }
        let mut e0 = row!(
            $xor($a[0], d0),
            $rol::<44>($xor($a[6], d1)),
            $rol::<43>($xor($a[12], d2)),
            $rol::<21>($xor($a[18], d3)),
            $rol::<14>($xor($a[24], d4))
        );
        let e1 = row!(
            $rol::<28>($xor($a[3], d3)),
            $rol::<20>($xor($a[9], d4)),
            $rol::<3>($xor($a[10], d0)),
            $rol::<45>($xor($a[16], d1)),
            $rol::<61>($xor($a[22], d2))
        );
        let e2 = row!(
            $rol::<1>($xor($a[1], d1)),
            $rol::<6>($xor($a[7], d2)),
            $rol::<25>($xor($a[13], d3)),
            $rol::<8>($xor($a[19], d4)),
            $rol::<18>($xor($a[20], d0))
        );
        let e3 = row!(
            $rol::<27>($xor($a[4], d4)),
            $rol::<36>($xor($a[5], d0)),
            $rol::<10>($xor($a[11], d1)),
            $rol::<15>($xor($a[17], d2)),
            $rol::<56>($xor($a[23], d3))
        );
        let e4 = row!(
            $rol::<62>($xor($a[2], d2)),
            $rol::<55>($xor($a[8], d3)),
            $rol::<39>($xor($a[14], d4)),
            $rol::<41>($xor($a[15], d0)),
            $rol::<2>($xor($a[21], d1))
        );
        e0[0] = $xor(e0[0], $constant);
        [
            e0[0], e0[1], e0[2], e0[3], e0[4], e1[0], e1[1], e1[2], e1[3], e1[4], e2[0], e2[1], e2[2], e2[3],
            e2[4], e3[0], e3[1], e3[2], e3[3], e3[4], e4[0], e4[1], e4[2], e4[3], e4[4],
        ]
    }};
}
pub(super) use round;

#[inline(always)]
fn xor(a: u64, b: u64) -> u64 {
    a ^ b
}

#[inline(always)]
fn xor3(a: u64, b: u64, c: u64) -> u64 {
    a ^ b ^ c
}

#[inline(always)]
fn chi(a: u64, b: u64, c: u64) -> u64 {
    a ^ (!b & c)
}

#[inline(always)]
fn rol<const N: u32>(a: u64) -> u64 {
    a.rotate_left(N)
}

#[inline(always)]
fn permute_inline(state: &mut [u64; 25]) {
    let mut a = *state;
    for constant in ROUND_CONSTANTS {
        a = round!(a, constant, xor, xor3, chi, rol);
    }
    *state = a;
}

#[inline(always)]
fn absorb_inline(state: &mut [u64; 25], blocks: &[u8]) {
    for block in blocks.as_chunks::<RATE>().0 {
        for (word, bytes) in state.iter_mut().zip(block.as_chunks::<8>().0) {
            *word ^= u64::from_le_bytes(*bytes);
        }
        permute_inline(state);
    }
}

/// With the instructions for `!b & c` and for rotations into another register.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2")]
fn absorb_bmi(state: &mut [u64; 25], blocks: &[u8]) {
    absorb_inline(state, blocks);
}

/// Absorbs whole blocks; what is behind the last one is not looked at.
fn absorb(state: &mut [u64; 25], blocks: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") {
        // SAFETY: the CPU has what the function is compiled for.
        return unsafe { absorb_bmi(state, blocks) };
    }
    absorb_inline(state, blocks);
}

/// The last block of an input: its rest and the padding.
pub(super) fn last_block(rest: &[u8]) -> [u8; RATE] {
    let mut block = [0; RATE];
    block[..rest.len()].copy_from_slice(rest);
    block[rest.len()] = 1;
    block[RATE - 1] |= 0x80;
    block
}

/// Keccak-256 that is fed piece by piece.
#[derive(Clone)]
pub struct Keccak {
    state: [u64; 25],
    buffer: [u8; RATE],
    filled: usize,
}

impl Default for Keccak {
    fn default() -> Self {
        Self { state: [0; 25], buffer: [0; RATE], filled: 0 }
    }
}

impl Keccak {
    /// Takes more of the input.
    pub fn update(&mut self, mut data: &[u8]) {
        if self.filled > 0 {
            let take = data.len().min(RATE - self.filled);
            self.buffer[self.filled..self.filled + take].copy_from_slice(&data[..take]);
            self.filled += take;
            data = &data[take..];
            if self.filled < RATE {
                return;
            }
            absorb(&mut self.state, &self.buffer);
            self.filled = 0;
        }
        absorb(&mut self.state, data);
        let rest = &data[data.len() / RATE * RATE..];
        self.buffer[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// The hash of everything taken.
    pub fn finish(mut self) -> [u8; 32] {
        absorb(&mut self.state, &last_block(&self.buffer[..self.filled]));
        let mut out = [0; 32];
        for (bytes, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(self.state) {
            *bytes = word.to_le_bytes();
        }
        out
    }
}
