//! What a store request of one megabyte costs between its body and its decoded parameters.

#![allow(missing_docs, reason = "criterion's macros write public items")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use das_common::json_rpc::{Methods, Params, RawJson, RpcError, RpcLimits, run_request};
use futures::executor::block_on;

const MESSAGE: usize = 1_000_000;

/// Decodes what `das_store` decodes, and stores nothing.
struct Decode;

impl Methods for Decode {
    fn namespace(&self) -> &'static str {
        "das"
    }

    async fn call(&self, _method: &str, params: Params) -> Option<Result<RawJson, RpcError>> {
        let decode = || {
            let decoded = (params.bytes(0)?, params.uint64(1)?, params.bytes(2)?);
            params.at_most(3)?;
            Ok(decoded)
        };
        Some(decode().map(|decoded| {
            black_box(decoded);
            RawJson::NULL
        }))
    }
}

fn body(message: &str) -> Bytes {
    let signature = "ab".repeat(65);
    let params = format!(r#"["{message}","0xf4865700","0x{signature}"]"#);
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"das_store","params":{params}}}"#).into()
}

fn requests(criterion: &mut Criterion) {
    let limits = RpcLimits::default();
    let cases = [
        ("stored", body(&format!("0x{}", "5a".repeat(MESSAGE)))),
        ("refused: bad digit at the end", body(&format!("0x{}zz", "5a".repeat(MESSAGE - 1)))),
        // The worst that a text of this size can be for the scanner.
        ("refused: escapes only", body(&"\\\"".repeat(MESSAGE))),
        ("refused: an array of small numbers", body(&format!("\",{}\"", "1,".repeat(MESSAGE)))),
    ];
    let mut group = criterion.benchmark_group("das_store of 1 MB");
    group.throughput(Throughput::Bytes(2 * MESSAGE as u64));
    for (name, body) in cases {
        group.bench_function(name, |bencher| {
            let fresh = || body.clone();
            let run = |text| block_on(run_request(&Decode, text, &limits));
            bencher.iter_batched(fresh, run, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
