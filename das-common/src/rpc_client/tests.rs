use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use tokio::net::TcpListener;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

async fn member(
    answer: impl Fn(serde_json::Value) -> String + Clone + Send + Sync + 'static,
) -> MemberClient {
    let app = Router::new().route(
        "/",
        post(move |body: Bytes| {
            let answer = answer(serde_json::from_slice(&body).unwrap());
            async move { answer }
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    MemberClient::new(Endpoint::parse(&url).unwrap(), HttpClient::default())
}

fn result(result: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{result}}}\n")
}

#[test]
fn the_store_body_is_the_json_expected() {
    let message: Vec<u8> = (0..=255).collect();
    let body = store_body(&message, 0xf486_5700, &[0xab; 65]);
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["method"], "das_store");
    assert_eq!(json["params"][0], const_hex::encode_prefixed(&message));
    assert_eq!(json["params"][1], "0xf4865700");
    assert_eq!(json["params"][2], const_hex::encode_prefixed([0xab; 65]));
    assert_eq!(json["params"].as_array().unwrap().len(), 3);
    assert!(store_body(&message, u64::MAX, &[0xab; 65]).len() <= store_body_length(message.len()));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&store_body(b"", 0, b"")).unwrap()["params"][1],
        "0x0"
    );
}

#[tokio::test]
async fn errors_are_told_apart() {
    let client = member(|request| match request["method"].as_str().unwrap() {
        "das_healthCheck" => result("null"),
        "das_expirationPolicy" => result("\"KeepForever\""),
        "das_store" if request["params"][0] == "0x01" => "not json".to_owned(),
        "das_store" if request["params"][0] == "0x02" => result("{\"dataHash\":\"0x00\"}"),
        method => format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{{\"code\":-32601,\"message\":\
             \"the method {method} does not exist/is not available\"}}}}"
        ),
    })
    .await;
    client.health_check(SECOND).await.unwrap();
    assert_eq!(client.expiration_policy(SECOND).await.unwrap(), ExpirationPolicy::KeepForever);
    let error = client.store(b"\x01", 1, b"", SECOND).await.unwrap_err();
    assert!(matches!(error, CallError::Malformed { .. }), "{error}");
    let error = client.store(b"\x02", 1, b"", SECOND).await.unwrap_err();
    assert!(matches!(error, CallError::Malformed { .. }), "{error}");
    let key = StoreKey::generate();
    let error = client.store_chunked(&Bytes::from_static(b"x"), 1, &key, 10_000, SECOND).await.unwrap_err();
    assert!(error.is_unknown_method() && !error.is_passing(), "{error}");
    let error = client.store_chunked(&Bytes::new(), 1, &key, 10_000, SECOND).await.unwrap_err();
    assert!(matches!(error, CallError::EmptyMessage));
    let error = client.store_chunked(&Bytes::from_static(b"x"), 1, &key, 100, SECOND).await.unwrap_err();
    assert!(matches!(error, CallError::LimitTooSmall { limit: 100 }));
}

/// Everything that a chunked store sends is signed, numbered and sized as announced, and no request is above the limit.
#[tokio::test]
async fn a_chunked_store_arrives_whole() {
    #[derive(Default)]
    struct Seen {
        start: Vec<u64>,
        chunks: BTreeMap<u64, Vec<u8>>,
        committed: bool,
    }
    const LIMIT: usize = 4_000;
    let key = Arc::new(StoreKey::generate());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (signer, shared) = (key.address(), seen.clone());
    let client = member(move |request| {
        assert!(request.to_string().len() <= LIMIT);
        let params: Vec<Vec<u8>> = request["params"]
            .as_array()
            .unwrap()
            .iter()
            .map(|param| {
                let digits = param.as_str().unwrap().trim_start_matches("0x");
                let even = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
                const_hex::decode(even).unwrap()
            })
            .collect();
        let number = |i: usize| params[i].iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let mut seen = shared.lock();
        let (digest, answer) = match request["method"].as_str().unwrap() {
            "das_startChunkedStore" => {
                seen.start = (0..5).map(number).collect();
                let digest =
                    RequestDigest::start_chunked(number(0), number(1), number(2), number(3), number(4));
                (digest, result("{\"BatchId\":\"0xfedcba9876543210\"}"))
            }
            "das_sendChunk" => {
                assert_eq!(number(0), 0xfedc_ba98_7654_3210);
                seen.chunks.insert(number(1), params[2].clone());
                (RequestDigest::send_chunk(&params[2], number(0), number(1)), result("null"))
            }
            "das_commitChunkedStore" => {
                seen.committed = true;
                (RequestDigest::commit_chunked(number(0)), result("{\"timeout\":\"0x5\",\"sig\":\"0x01\"}"))
            }
            other => panic!("{other}"),
        };
        assert_eq!(crate::store_auth::recover(&digest, params.last().unwrap()).unwrap(), signer);
        answer
    })
    .await;
    let message: Bytes = (0..20_000_u32).map(|i| (i * 7) as u8).collect::<Vec<_>>().into();
    let answer = client.store_chunked(&message, 77, &key, LIMIT, 10 * SECOND).await.unwrap();
    assert_eq!((answer.timeout, answer.sig.len()), (5, 1));
    let seen = seen.lock();
    let [_, n_chunks, chunk_size, total, timeout] = seen.start[..] else { panic!("five numbers") };
    assert_eq!((total, timeout, n_chunks), (20_000, 77, 20_000_u64.div_ceil(chunk_size)));
    assert_eq!(seen.chunks.len() as u64, n_chunks);
    assert!(seen.chunks.values().rev().skip(1).all(|chunk| chunk.len() as u64 == chunk_size));
    assert_eq!(seen.chunks.values().flatten().copied().collect::<Vec<_>>(), message);
    assert!(seen.committed);
}

#[test]
fn starts_of_one_second_differ() {
    let starts = RecentStarts::default();
    let mut seen = HashSet::new();
    for _ in 0..500 {
        let size = starts.chunk_size(1, 1000, 7, 16_000);
        assert!(size <= 16_000 && size > 14_900);
        assert!(seen.insert(size));
    }
    // With nothing left to choose from, a start is still made.
    for _ in 0..3 {
        assert_eq!(starts.chunk_size(2, 10, 7, 1), 1);
    }
}

#[test]
fn foreign_texts_are_cut_and_cleaned() {
    assert_eq!(shortened(b" a\nb\x1b[2J "), "a b [2J");
    let long = shortened(&vec![b'x'; 100_000]);
    assert!(long.len() <= MAX_TEXT + 3 && long.ends_with("..."));
}
