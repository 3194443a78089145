//! What a member pays to turn a whole batch into its shard, and a reader to turn shards into the batch.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use das_common::erasure::{CheckedShard, Code, reconstruct};
use reed_solomon_erasure::galois_8::ReedSolomon;

fn erasure(c: &mut Criterion) {
    let data: Vec<u8> =
        (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0]).collect();
    let code = Code::new(3, 6).expect("3 of 6 is a code");
    let encoded = code.encode(&data);
    let pick = |indices: [usize; 3]| -> Vec<CheckedShard> {
        indices.iter().map(|index| encoded.shards[*index].clone()).collect()
    };
    let (data_shards, parity_shards) = (pick([0, 1, 2]), pick([3, 4, 5]));

    let mut group = c.benchmark_group("erasure 3 of 6, 1 MiB");
    group.throughput(Throughput::Bytes(data.len() as u64));
    // Without hashes, stripe by stripe as the encoder does it.
    let codec = ReedSolomon::new(3, 3).expect("3 of 6 is a code");
    let rows: Vec<&[u8]> = data.chunks(data.len().div_ceil(3)).collect();
    let mut parity = vec![vec![0; 32 * 1024]; 3];
    group.bench_function("Reed-Solomon alone", |b| {
        b.iter(|| {
            for start in (0..rows[2].len()).step_by(32 * 1024) {
                let end = rows[2].len().min(start + 32 * 1024);
                let pieces: Vec<&[u8]> = rows.iter().map(|row| &row[start..end]).collect();
                let mut parity: Vec<&mut [u8]> =
                    parity.iter_mut().map(|row| &mut row[..end - start]).collect();
                codec.encode_sep(&pieces, &mut parity).expect("pieces of one length");
            }
            black_box(&parity);
        });
    });
    group.bench_function("encode, all shards", |b| b.iter(|| code.encode(black_box(&data))));
    group.bench_function("encode, one shard", |b| b.iter(|| code.encode_one(black_box(&data), 4)));
    group.bench_function("reconstruct from data shards", |b| b.iter(|| reconstruct(black_box(&data_shards))));
    group.bench_function("reconstruct from parity shards", |b| {
        b.iter(|| reconstruct(black_box(&parity_shards)));
    });
    group.bench_function("check a shard", |b| {
        b.iter(|| black_box(&encoded.shards[4]).as_shard().clone().check(&code, &encoded.root));
    });
    group.finish();
}

criterion_group!(benches, erasure);
criterion_main!(benches);
