//! Keccak-256, as Ethereum has it (not SHA3-256).

const RATE: usize = 136;

const ROUND_CONSTANTS: [u64; 24] = [
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
const ROTATIONS: [u32; 24] =
    [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];
const LANES: [usize; 24] =
    [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];

fn permute(a: &mut [u64; 25]) {
    for constant in ROUND_CONSTANTS {
        let c: [u64; 5] = std::array::from_fn(|x| a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20]);
        for x in 0..5 {
            let d = c[(x + 4) % 5] ^ c[(x + 1) % 5].rotate_left(1);
            for y in 0..5 {
                a[x + 5 * y] ^= d;
            }
        }
        let mut last = a[1];
        for i in 0..24 {
            let lane = LANES[i];
            (a[lane], last) = (last.rotate_left(ROTATIONS[i]), a[lane]);
        }
        for y in 0..5 {
            let row: [u64; 5] = std::array::from_fn(|x| a[5 * y + x]);
            for x in 0..5 {
                a[5 * y + x] = row[x] ^ (!row[(x + 1) % 5] & row[(x + 2) % 5]);
            }
        }
        a[0] ^= constant;
    }
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
    fn absorb(state: &mut [u64; 25], block: &[u8]) {
        for (lane, bytes) in state.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane ^= u64::from_le_bytes(*bytes);
        }
        permute(state);
    }

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
            Self::absorb(&mut self.state, &self.buffer);
            self.filled = 0;
        }
        let blocks = data.chunks_exact(RATE);
        let rest = blocks.remainder();
        blocks.for_each(|block| Self::absorb(&mut self.state, block));
        self.buffer[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// The hash of everything taken.
    pub fn finish(mut self) -> [u8; 32] {
        self.buffer[self.filled..].fill(0);
        self.buffer[self.filled] = 1;
        self.buffer[RATE - 1] |= 0x80;
        Self::absorb(&mut self.state, &self.buffer);
        let mut out = [0; 32];
        for (bytes, lane) in out.as_chunks_mut::<8>().0.iter_mut().zip(self.state) {
            *bytes = lane.to_le_bytes();
        }
        out
    }
}

/// The hash of `data`.
pub fn keccak256(data: &[u8]) -> [u8; 32] {
    let mut keccak = Keccak::default();
    keccak.update(data);
    keccak.finish()
}
