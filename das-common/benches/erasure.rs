//! What a member pays to turn a whole batch into its shard, and a reader to turn shards into the batch.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use das_common::erasure::{CheckedShard, Code, reconstruct};

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
