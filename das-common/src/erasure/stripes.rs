//! Encoding and rebuilding stripe by stripe: a stripe is the same range of bytes of every shard.

use super::merkle::{Accumulator, RUN, ShardTree};
use super::{Code, LEAF_BYTES};

/// The length of a stripe: the leaves that are hashed at once, and a few stripes fit a core's cache.
const STRIPE_BYTES: usize = RUN * LEAF_BYTES;

static ZEROES: [u8; STRIPE_BYTES] = [0; STRIPE_BYTES];

/// Computes all shards of the data, hands every piece of each (in order) to `take(shard index, bytes)`, and returns the
/// tree over them.
pub(super) fn for_each(code: &Code, data: &[u8], mut take: impl FnMut(usize, &[u8])) -> ShardTree {
    let shard_length = code.length_of_shards_of(data);
    let mut trees = vec![Accumulator::default(); code.shards()];
    let stripe_bytes = STRIPE_BYTES.min(shard_length);
    let mut parity = vec![vec![0; stripe_bytes]; code.shards() - code.data_shards()];
    let mut filled_up = Vec::new();

    for start in (0..shard_length).step_by(STRIPE_BYTES) {
        let width = STRIPE_BYTES.min(shard_length - start);
        let pieces: Vec<Piece<'_>> = (0..code.data_shards())
            .map(|shard| Piece::of(data, shard * shard_length + start, width))
            .collect();
        // The end of the data lies inside at most one piece.
        if let Some(Piece::FilledUp(bytes)) = pieces.iter().find(|piece| matches!(piece, Piece::FilledUp(_)))
        {
            filled_up.clear();
            filled_up.extend_from_slice(bytes);
            filled_up.resize(width, 0);
        }
        let pieces: Vec<&[u8]> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Whole(bytes) => *bytes,
                Piece::FilledUp(_) => &filled_up,
                Piece::Zeroes => &ZEROES[..width],
            })
            .collect();
        if let Some(codec) = &code.parity {
            parity.iter_mut().for_each(|piece| piece.truncate(width));
            codec
                .encode_sep(&pieces, &mut parity)
                .expect("k data pieces and n - k parity pieces of one length above zero");
        }
        let all = pieces.into_iter().chain(parity.iter().map(Vec::as_slice));
        for (index, (bytes, tree)) in all.zip(&mut trees).enumerate() {
            tree.push_bytes(bytes);
            take(index, bytes);
        }
    }
    ShardTree {
        code: code.clone(),
        data_length: data.len() as u64,
        shard_tops: trees.into_iter().map(Accumulator::top).collect(),
    }
}

/// A piece of a data shard.
enum Piece<'a> {
    Whole(&'a [u8]),
    /// The last bytes of the data, shorter than the piece.
    FilledUp(&'a [u8]),
    Zeroes,
}

impl<'a> Piece<'a> {
    fn of(data: &'a [u8], start: usize, width: usize) -> Self {
        match data.get(start..) {
            None | Some([]) => Self::Zeroes,
            Some(rest) => match rest.get(..width) {
                Some(bytes) => Self::Whole(bytes),
                None => Self::FilledUp(rest),
            },
        }
    }
}

/// The k data shards, one after the other, from exactly k distinct shards of one length (`(index, bytes)`).
pub(super) fn rebuild(code: &Code, shards: &[(usize, &[u8])]) -> Vec<u8> {
    let length = shards[0].1.len();
    let mut data = vec![0; code.data_shards() * length];
    let mut present = vec![None; code.shards()];
    for (index, bytes) in shards {
        present[*index] = Some(*bytes);
    }
    let mut rows: Vec<&mut [u8]> = data.chunks_mut(length).collect();
    for (row, bytes) in rows.iter_mut().zip(&present) {
        if let Some(bytes) = bytes {
            row.copy_from_slice(bytes);
        }
    }
    let parity = &present[code.data_shards()..];
    let Some(codec) = code.parity.as_ref().filter(|_| parity.iter().any(Option::is_some)) else {
        return data;
    };
    let mut copies: Vec<Vec<u8>> = vec![Vec::new(); parity.len()];
    for start in (0..length).step_by(STRIPE_BYTES) {
        let range = start..length.min(start + STRIPE_BYTES);
        for (copy, bytes) in copies.iter_mut().zip(parity) {
            copy.clear();
            copy.extend_from_slice(bytes.map_or(&[], |bytes| &bytes[range.clone()]));
        }
        let rows = rows.iter_mut().map(|row| &mut row[range.clone()]);
        let copies = copies.iter_mut().map(Vec::as_mut_slice);
        let known = present.iter().map(Option::is_some);
        let mut pieces: Vec<(&mut [u8], bool)> = rows.chain(copies).zip(known).collect();
        codec.reconstruct_data(&mut pieces).expect("k pieces of one length above zero are present");
    }
    data
}
