//! What comes over HTTP.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use das_common::batch::VerifiedBatch;
use das_common::chunked::{Bounds, Moment, PendingStores, Start};
use das_common::data_hash::DataHash;
use das_common::http::answers::AnswerBudget;
use das_common::http::rest::{self, BatchSource, EncodedBatch, Scope};
use das_common::json_rpc::{Methods, Params, RawJson, RpcError, RpcLimits, run_request};
use das_common::wire::{BatchId, ExpirationPolicy, StoreResult, get_by_hash_answer, parse_get_by_hash};
use serde::Deserialize;

/// Decodes parameters as a member does, and answers with what it has read.
struct Echo;

impl Methods for Echo {
    fn namespace(&self) -> &'static str {
        "das"
    }

    async fn call(&self, method: &str, params: Params) -> Option<Result<RawJson, RpcError>> {
        let echo = |params: Params| -> Result<RawJson, RpcError> {
            let numbers =
                if method == "startChunkedStore" { 5 } else { usize::from(method == "sendChunk") * 2 };
            let mut sum = 0u64;
            for i in 0..numbers {
                sum = sum.wrapping_add(params.uint64(i)?);
            }
            let data = params.bytes(numbers)?;
            let last = if method == "store" { params.uint64(1)? } else { 0 };
            params.at_most(numbers + 3)?;
            Ok(RawJson::of(&(sum, data.len(), last)))
        };
        matches!(method, "store" | "startChunkedStore" | "sendChunk").then(|| echo(params))
    }
}

pub(crate) fn json_rpc_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"jsonrpc":"2.0","id":1,"method":"das_store","params":["0x00ff","0x5f","0x"]}"#,
        r#"{"jsonrpc":"2.0","id":"a\n","method":"das_startChunkedStore","params":["0x1","0x2","0x3","0x4","0x5","0x00"]}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"das_sendChunk","params":["0x1","0x0","0xabcdef","0x"]}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"rpc_modules"},{"jsonrpc":"2.0","method":"das_store"},{"id":{},"result":1},[],7]"#,
        r#" { "method" : "das_healthCheck", "extra" : {"a":[1,-2.5e3,true,null,"A\\"]}, "id" : 1.0 } trailing"#,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// Nesting up to here is compared with another reader; beyond, the two have different limits on purpose.
const COMPARED_NESTING: usize = 100;

pub(crate) fn json_rpc(data: &[u8]) {
    let text = Bytes::copy_from_slice(data);
    let answer = futures::executor::block_on(run_request(&Echo, text.clone(), &RpcLimits::default()));
    if !answer.is_empty() {
        // An id is echoed as it came, also when it is not UTF-8 or a number that no type holds.
        let answer = String::from_utf8_lossy(&answer);
        let read = serde_json::from_str::<serde::de::IgnoredAny>(&answer);
        read.unwrap_or_else(|error| panic!("no JSON ({error}): {answer}"));
        assert!(answer.starts_with(['{', '[']));
    }
    // The scanner and serde_json agree on what begins with a JSON value. (Not on where a number ends that is followed
    // by more: "00" begins with the value 0, and what comes after the first value is ignored.)
    let number = data.trim_ascii_start().first().is_some_and(|byte| matches!(byte, b'-' | b'0'..=b'9'));
    let nesting = data.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if !number && std::str::from_utf8(data).is_ok() && nesting < COMPARED_NESTING {
        let mut reader = serde_json::Deserializer::from_slice(data);
        let theirs = serde::de::IgnoredAny::deserialize(&mut reader).is_ok();
        assert_eq!(Params::parse(text).is_ok(), theirs, "is it JSON?");
    }
}

pub(crate) fn answers_seeds() -> Vec<Vec<u8>> {
    let result = StoreResult {
        data_hash: [1; 32],
        timeout: 5,
        signers_mask: 1,
        keyset_hash: [2; 32],
        sig: vec![3; 96],
        version: 1,
    };
    vec![
        result.to_json(),
        br#"{"BatchId":"0x12ab"}"#.to_vec(),
        get_by_hash_answer(b"a batch"),
        br#" {"other":[1],"data" : "YQ\u003d=" } "#.to_vec(),
        b"KeepForever".to_vec(),
    ]
}

/// Answers of members and other servers, as clients read them.
pub(crate) fn answers(data: &[u8]) {
    if let Ok(result) = serde_json::from_slice::<StoreResult>(data) {
        assert_eq!(serde_json::from_slice::<StoreResult>(&result.to_json()).ok(), Some(result));
    }
    if let Ok(id) = serde_json::from_slice::<BatchId>(data) {
        let text = serde_json::to_vec(&id).expect("a number");
        assert_eq!(serde_json::from_slice::<BatchId>(&text).ok(), Some(id));
    }
    if let Ok(batch) = parse_get_by_hash(data) {
        assert!(batch.len() <= data.len());
    }
    assert_eq!(parse_get_by_hash(&get_by_hash_answer(data)).ok().as_deref(), Some(data));
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(policy) = text.parse::<ExpirationPolicy>()
    {
        assert_eq!(policy.name(), text);
    }
}

/// Holds one batch.
struct OneBatch(EncodedBatch, DataHash);

impl BatchSource for OneBatch {
    type Error = std::io::Error;

    async fn get(&self, hash: &DataHash, _: Scope) -> Result<Option<EncodedBatch>, Self::Error> {
        Ok((*hash == self.1).then(|| self.0.clone()))
    }
    async fn expiration_policy(&self) -> ExpirationPolicy {
        ExpirationPolicy::KeepForever
    }
    async fn healthy(&self) -> bool {
        true
    }
    async fn status(&self) -> String {
        "{}".to_owned()
    }
}

static REST: LazyLock<axum::Router> = LazyLock::new(|| {
    let batch = VerifiedBatch::new(Bytes::from_static(b"batch"));
    let answers = AnswerBudget::new(1 << 20, AnswerBudget::PATIENCE);
    rest::router(Arc::new(OneBatch(EncodedBatch::new(&batch), batch.hash())), answers)
});

pub(crate) fn rest_path_seeds() -> Vec<Vec<u8>> {
    let hash = DataHash::of(b"batch");
    [
        format!("/get-by-hash/{hash}"),
        format!("/get-by-hash/0x{hash}"),
        format!("//x/../get-by-hash/%30x{hash}?q"),
        "/health/".to_owned(),
        "/expiration-policy/".to_owned(),
        "/status".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

pub(crate) fn rest_path(data: &[u8]) {
    let Ok(uri) = http::Uri::try_from(data) else { return };
    let Ok(request) = http::Request::get(uri).body(axum::body::Body::empty()) else { return };
    let answered = futures::executor::block_on(tower::ServiceExt::oneshot(REST.clone(), request));
    let Ok(response) = answered;
    assert!(matches!(response.status().as_u16(), 200 | 400 | 404), "{}", response.status());
}

pub(crate) fn chunked_seeds() -> Vec<Vec<u8>> {
    // start 2 chunks of 4 bytes (7 in all), both chunks, commit; then a start that is never finished, and time.
    vec![vec![0, 2, 4, 7, 1, 0, 0, 4, 1, 0, 1, 3, 2, 0], vec![0, 3, 2, 6, 3, 9, 1, 0, 2, 2, 2, 0, 0, 1, 1, 1]]
}

/// A session of chunked stores: each byte string is a list of calls, in any order, with any numbers.
pub(crate) fn chunked(data: &[u8]) {
    let bounds = Bounds {
        max_pending: 3,
        max_message: 64,
        max_pending_bytes: 128,
        max_chunks: 8,
        idle: Duration::from_secs(60),
        max_remembered: 16,
    };
    let mut next = 0u64;
    let mut stores = PendingStores::with_ids(bounds, move || {
        next += 1;
        next
    });
    let mut now = Moment { unix: 1_000, monotonic: Instant::now() };
    let mut bytes: VecDeque<u8> = data.iter().copied().collect();
    let mut small = || bytes.pop_front();
    // Numbers that matter are small, and the largest.
    let number = |byte: u8| if byte >= 0xf0 { u64::MAX - u64::from(byte - 0xf0) } else { u64::from(byte) };
    let mut mark = [0u8; 32];
    let mut last = 0;
    while let Some(call) = small() {
        let mut argument = || number(small().unwrap_or(0));
        match call % 4 {
            0 => {
                let (n_chunks, chunk_size, total_size) = (argument(), argument(), argument());
                let start = Start { timestamp: now.unix, n_chunks, chunk_size, total_size, timeout: 9 };
                mark[usize::from(call) % 32] = mark[usize::from(call) % 32].wrapping_add(1);
                if let Ok(id) = stores.start(now, start, &[mark]) {
                    last = id;
                    let made = (total_size - 1).checked_div(chunk_size).map(|full| full + 1);
                    assert_eq!(made, Some(n_chunks), "sizes that do not fit were accepted");
                    assert!(stores.start(now, start, &[mark]).is_err(), "a replay was accepted");
                }
            }
            1 => {
                let (id, chunk, length) = (last - last.min(argument()), argument(), argument());
                let byte = argument();
                let length = usize::try_from(length.min(100)).expect("small");
                let _ = stores.chunk(now, id, chunk, vec![byte as u8; length].into());
            }
            2 => {
                let id = last - last.min(argument());
                if let Ok(complete) = stores.commit(now, id) {
                    assert!(complete.into_message().len() <= 64);
                    assert!(stores.commit(now, id).is_err(), "committed twice");
                }
            }
            _ => {
                let seconds = argument().min(200);
                now.unix += seconds;
                now.monotonic += Duration::from_secs(seconds);
                stores.drop_idle(now);
            }
        }
        assert!(stores.pending() <= bounds.max_pending);
    }
}
