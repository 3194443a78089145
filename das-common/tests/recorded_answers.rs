//! What Nitro's servers were recorded to answer, byte for byte on a socket, and what our clients make of it.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use das_common::data_hash::DataHash;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::rest_reader::{ReadError, RestReader, RestReaderOptions};
use das_common::rpc_client::{CallError, DEFAULT_BODY_LIMIT, MemberClient};
use das_common::store_auth::StoreKey;
use das_common::wire::ExpirationPolicy;
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(20);
/// In place of what the recordings leave open.
const BATCH_ID: &str = "0x1234567890abcdef";

/// The recorded answers of a case, step by step.
fn answers(file: &str, case: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let case = cases.iter().find(|recorded| recorded["name"] == case).unwrap();
    case["steps"].as_array().unwrap().iter().map(|step| step["response"].clone()).collect()
}

/// The batch of 70000 bytes of the recordings.
fn big_batch() -> Vec<u8> {
    (0..70_000_usize).map(|i| (3 * 31 + i * 7 + (i >> 8) * 13 + (i >> 16) * 17) as u8).collect()
}

fn big() -> String {
    base64_simd::STANDARD.encode_to_string(big_batch())
}

fn on_the_wire(answer: &Value) -> Vec<u8> {
    let body = answer["body"].as_str().unwrap().replace("${batch}", BATCH_ID).replace("${big}", &big());
    let status = StatusCode::from_u16(answer["status"].as_u64().unwrap().try_into().unwrap()).unwrap();
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in answer["headers"].as_object().unwrap() {
        if name != "Content-Length" {
            head += &format!("{name}: {}\r\n", value.as_str().unwrap());
        }
    }
    head += "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    if answer["transfer_encoding"] == "chunked" {
        head += "Transfer-Encoding: chunked\r\n\r\n";
        let chunks = body
            .as_bytes()
            .chunks(2048)
            .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        return [head.as_bytes(), &chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n"].concat();
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body.into_bytes()].concat()
}

/// Reads one request with its body. `None`: the client has hung up.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut got = Vec::new();
    loop {
        if let Some(end) = got.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&got[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if got.len() >= end + 4 + length {
                return Some(String::from_utf8(got).unwrap());
            }
        }
        if stream.read_buf(&mut got).await.ok()? == 0 {
            return None;
        }
    }
}

/// A server that gives the answer that `choose` takes for a request. Its URL.
async fn serve(choose: impl Fn(&str) -> Value + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let choose = Arc::new(choose);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let choose = Arc::clone(&choose);
            tokio::spawn(async move {
                while let Some(request) = request(&mut stream).await {
                    stream.write_all(&on_the_wire(&choose(&request))).await.unwrap();
                }
            });
        }
    });
    url
}

async fn member(case: &str) -> MemberClient {
    let answer = answers("rpc_transcripts.json", case).swap_remove(0);
    let url = serve(move |_| answer.clone()).await;
    MemberClient::new(Endpoint::parse(&url).unwrap(), HttpClient::default())
}

#[tokio::test]
async fn a_plain_store_is_understood() {
    let result = member("store small").await.store(b"batch", 1, &[0; 65], SOON).await.unwrap();
    let hash = "a906f59b16d6092ab79ffec5db18f1930221a254a8c7c284f69dc520a3e754dc";
    assert_eq!(const_hex::encode(result.data_hash), hash);
    assert_eq!((result.timeout, result.signers_mask, result.version), (0xf486_5700, 1, 1));
    assert_eq!(result.sig.len(), 96);
}

#[tokio::test]
async fn a_chunked_store_is_understood() {
    let recorded = answers("rpc_transcripts.json", "chunked store in order");
    let url = serve(move |request| {
        let step = if request.contains("das_startChunkedStore") {
            0
        } else if request.contains("das_sendChunk") {
            assert!(request.contains(&format!("[\"{BATCH_ID}\",")), "the id that the server gave");
            1
        } else {
            assert!(request.contains("das_commitChunkedStore"));
            recorded.len() - 1
        };
        recorded[step].clone()
    })
    .await;
    let client = MemberClient::new(Endpoint::parse(&url).unwrap(), HttpClient::default());
    let message = Bytes::from(vec![5; 150_000]);
    let stored = client.store_chunked(&message, 0xf486_5765, &StoreKey::generate(), 100_000, SOON).await;
    let result = stored.unwrap();
    let hash = "ea02559885e552bd084bb4887eae74c235de7b87a1f1e965ceb3232059909e28";
    assert_eq!((const_hex::encode(result.data_hash).as_str(), result.timeout), (hash, 0xf486_5765));
}

#[tokio::test]
async fn health_policy_and_errors_are_understood() {
    member("health").await.health_check(SOON).await.unwrap();
    let policy = member("expiration policy").await.expiration_policy(SOON).await.unwrap();
    assert_eq!(policy, ExpirationPolicy::KeepForever);

    let (message, key) = (Bytes::from_static(b"batch"), StoreKey::generate());
    let refused = member("start signed by a stranger").await;
    let error = refused.store_chunked(&message, 1, &key, DEFAULT_BODY_LIMIT, SOON).await.unwrap_err();
    let CallError::Rpc { code, message } = &error else { panic!("{error}") };
    assert_eq!((*code, message.as_str()), (-32000, "request not properly signed"));

    let large = member("default body limit, just over").await;
    let error = large.store(b"batch", 1, &[0; 65], SOON).await.unwrap_err();
    assert!(error.is_body_too_large(), "{error}");
    let error = member("content type json").await.health_check(SOON).await.unwrap_err();
    let CallError::Status { status, text } = &error else { panic!("{error}") };
    assert_eq!(*status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(text.contains("invalid content type"), "{text}");
}

async fn read(case: &str, hash: &str) -> Result<Bytes, ReadError> {
    let answer = answers("rest_transcripts.json", case).swap_remove(0);
    let url = serve(move |_| answer.clone()).await;
    let options = RestReaderOptions { urls: vec![url], ..RestReaderOptions::default() };
    let hash: [u8; 32] = const_hex::decode_to_array(hash).unwrap();
    let reader = RestReader::new(options, HttpClient::default()).unwrap();
    reader.get(&DataHash::from_bytes(hash)).await.map(|batch| batch.bytes().clone())
}

#[tokio::test]
async fn reads_are_understood() {
    let small = "6f3342b9567168ba964a54c007b8fa44b401c45852075b48d2d6448622c73b0d";
    let empty = "4d2717b64170dc19cfef3dedd2076c9f7457d4f534a998dd8236ffeb40214bf5";
    let large = "6e521f025da2f499ef5b848e9e920fda9847953c2d15cae2e0b2efb89459a4ef";
    // These say text/plain, the large one comes in chunks, and the empty one is `{}`.
    assert_eq!(read("found small", small).await.unwrap()[..3], [0x3e, 0x45, 0x4c]);
    assert_eq!(read("found 70000 bytes", large).await.unwrap()[..], big_batch()[..]);
    assert!(read("found empty message", empty).await.unwrap().is_empty());
    let error = read("not found", empty).await.unwrap_err();
    assert!(matches!(error, ReadError::NotFound { asked: 1, .. }), "{error}");
    let error = read("found small", empty).await.unwrap_err();
    assert!(matches!(error, ReadError::Unavailable { .. }), "another batch is no answer: {error}");
    let error = read("root", empty).await.unwrap_err();
    assert!(matches!(error, ReadError::Unavailable { .. }), "{error}");
}
