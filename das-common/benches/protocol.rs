//! What each step of a store costs: `cargo bench -p das-common --bench protocol`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use das_common::bls::{AggregateKey, AggregateSignature, SecretKey, Signature, verify_same_message};
use das_common::data_hash::DataHash;
use das_common::keccak::{keccak256, keccak256_many};
use das_common::store_auth::{RequestDigest, StoreKey, recover};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(60);

/// Prints the median over rounds of the time of one run, and the bytes a second if `bytes` are worked on.
fn measure<T>(name: &str, bytes: usize, mut run: impl FnMut() -> T) {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let mut runs = 0;
            while start.elapsed() < ROUND {
                black_box(run());
                runs += 1;
            }
            start.elapsed().as_secs_f64() / f64::from(runs)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let median = times[ROUNDS / 2];
    let rate = if bytes == 0 { String::new() } else { format!("{:>8.2} GB/s", bytes as f64 / median / 1e9) };
    println!("{name:<44} {:>9.4} ms {rate}", median * 1e3);
}

fn main() {
    let data: Vec<u8> = (0..2_100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let megabyte = &data[..1 << 20];
    measure("keccak, one input of 64 KiB", 65_536, || keccak256(&data[..65_536]));
    let bins: Vec<&[u8]> = megabyte.chunks(65_536).collect();
    measure("keccak, sixteen inputs of 64 KiB", 1 << 20, || keccak256_many(&bins));
    for lanes in [2, 4, 5] {
        let name = format!("keccak, {lanes} inputs of 64 KiB");
        measure(&name, lanes << 16, || keccak256_many(&bins[..lanes]));
    }
    for (name, size) in [("10 KB", 10_000), ("100 KB", 100_000), ("1 MiB", 1 << 20)] {
        measure(&format!("data hash, {name}"), size, || DataHash::of(&data[..size]));
    }
    measure("request digest and data hash, 1 MiB", 2 << 20, || {
        (RequestDigest::store(megabyte, 1), DataHash::of(megabyte))
    });

    let secret = SecretKey::generate();
    let public = secret.public_key();
    let word = [7; 41];
    let signature = secret.sign(&word);
    measure("BLS sign", 0, || secret.sign(&word));
    measure("BLS verify", 0, || public.verify(&word, &signature));
    let pairs: Vec<_> =
        (0..6).map(|_| SecretKey::generate()).map(|key| (key.public_key(), key.sign(&word))).collect();
    let bytes = signature.to_bytes();
    measure("BLS signature read", 0, || Signature::parse(&bytes));
    measure("BLS verify, six signers at once", 0, || verify_same_message(&word, &pairs));
    let key = AggregateKey::sum(pairs.iter().map(|(key, _)| key)).expect("six");
    let sum = AggregateSignature::sum(pairs.iter().map(|(_, signature)| signature)).expect("six");
    measure("BLS verify, sum of six", 0, || key.verify(&word, &sum));

    let key = StoreKey::generate();
    let digest = RequestDigest::store(b"batch", 1);
    let signature = key.sign(&digest);
    measure("secp256k1 recovery", 0, || recover(&digest, &signature));

    let text = const_hex::encode(megabyte);
    measure("hex decoding of 2 MiB", text.len(), || const_hex::decode(&text));
    measure("base64 encoding of 1 MiB", 1 << 20, || base64_simd::STANDARD.encode_to_string(megabyte));
}
