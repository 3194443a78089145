//! Hashing several inputs at once: who is in which lane, and for how long.
//!
//! The lanes advance together by as many whole blocks as each of their inputs still has, then by one block of which
//! some are last ones. A lane whose input is done takes the next input, so inputs of any lengths keep the lanes full
//! until none are left to start.

use super::permutation::last_block;
use super::{RATE, keccak256};

/// The states of `L` lanes, word by word.
#[repr(align(64))]
#[derive(Clone)]
pub(super) struct States<const L: usize>(pub(super) [[u64; L]; 25]);

/// Absorbs so many whole blocks from each lane's slice.
pub(super) type Absorb<const L: usize> = fn(&mut States<L>, &[&[u8]; L], usize);

#[derive(Clone, Copy)]
struct Lane<'a> {
    input: usize,
    rest: &'a [u8],
}

/// The hashes of `inputs`, in their order.
pub fn keccak256_many(inputs: &[&[u8]]) -> Vec<[u8; 32]> {
    #[cfg(target_arch = "x86_64")]
    if inputs.len() > 1 {
        use super::x86::{eight_lanes, four_lanes, four_short_lanes};
        if let (Some(eight), Some(four)) = (eight_lanes(), four_short_lanes()) {
            // Eight lanes of which half are idle cost more than four.
            let few = Some(inputs.len() % 8).filter(|few| *few <= 4).unwrap_or(0);
            let (groups, few) = inputs.split_at(inputs.len() - few);
            let mut hashes = in_lanes(groups, eight);
            hashes.extend(if few.len() > 1 { in_lanes(few, four) } else { one_by_one(few) });
            return hashes;
        }
        if let Some(four) = four_lanes() {
            let (groups, one) = inputs.split_at(inputs.len() - usize::from(inputs.len() % 4 == 1));
            let mut hashes = in_lanes(groups, four);
            hashes.extend(one_by_one(one));
            return hashes;
        }
    }
    one_by_one(inputs)
}

pub(super) fn one_by_one(inputs: &[&[u8]]) -> Vec<[u8; 32]> {
    inputs.iter().map(|input| keccak256(input)).collect()
}

pub(super) fn in_lanes<const L: usize>(inputs: &[&[u8]], absorb: Absorb<L>) -> Vec<[u8; 32]> {
    let mut hashes = vec![[0; 32]; inputs.len()];
    let mut states = States([[0; L]; 25]);
    let mut lanes: [Option<Lane<'_>>; L] = [None; L];
    let mut waiting = inputs.iter().enumerate();
    loop {
        for (i, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.is_none()) {
            let Some((input, rest)) = waiting.next() else { break };
            *lane = Some(Lane { input, rest });
            states.0.iter_mut().for_each(|word| word[i] = 0);
        }
        let Some(blocks) = lanes.iter().flatten().map(|lane| lane.rest.len() / RATE).min() else {
            return hashes;
        };
        if blocks > 0 {
            // A lane without an input goes along with another's bytes; nobody looks at what comes out.
            let any = lanes.iter().flatten().next().expect("there is a smallest").rest;
            absorb(&mut states, &lanes.map(|lane| lane.map_or(any, |l| l.rest)), blocks);
            lanes.iter_mut().flatten().for_each(|lane| lane.rest = &lane.rest[blocks * RATE..]);
        }
        let ends = lanes.map(|lane| lane.filter(|l| l.rest.len() < RATE).map(|l| last_block(l.rest)));
        let step: [&[u8]; L] = std::array::from_fn(|i| match (&ends[i], &lanes[i]) {
            (Some(end), _) => end,
            (None, Some(lane)) => lane.rest,
            (None, None) => &[0; RATE],
        });
        absorb(&mut states, &step, 1);
        for (i, lane) in lanes.iter_mut().enumerate() {
            match lane {
                Some(ended) if ends[i].is_some() => {
                    let hash = &mut hashes[ended.input];
                    for (bytes, word) in hash.as_chunks_mut::<8>().0.iter_mut().zip(&states.0) {
                        *bytes = word[i].to_le_bytes();
                    }
                    *lane = None;
                }
                Some(lane) => lane.rest = &lane.rest[RATE..],
                None => {}
            }
        }
    }
}
