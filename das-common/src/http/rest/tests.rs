use std::convert::Infallible;

use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;

struct Fixed {
    batch: VerifiedBatch,
    healthy: bool,
}

impl BatchSource for Fixed {
    type Error = Infallible;

    async fn get(&self, hash: &DataHash, _: Scope) -> Result<Option<EncodedBatch>, Infallible> {
        Ok((*hash == self.batch.hash()).then(|| EncodedBatch::new(&self.batch)))
    }

    async fn expiration_policy(&self) -> ExpirationPolicy {
        ExpirationPolicy::KeepForever
    }

    async fn healthy(&self) -> bool {
        self.healthy
    }

    async fn status(&self) -> String {
        "{}".to_owned()
    }
}

async fn ask(router: &axum::Router, method: &str, path: &str) -> (StatusCode, http::HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn fixed(healthy: bool) -> (axum::Router, String) {
    let batch = VerifiedBatch::new(Bytes::from_static(b"a batch"));
    let hash = batch.hash().to_string();
    (router(Arc::new(Fixed { batch, healthy }), AnswerBudget::new(1 << 20, AnswerBudget::PATIENCE)), hash)
}

#[tokio::test]
async fn a_batch_is_found_under_every_spelling_of_its_path() {
    let (router, hash) = fixed(true);
    let upper = hash.to_uppercase();
    let encoded = format!("%{:x}{}", hash.as_bytes()[0], &hash[1..]);
    let paths = [
        format!("/get-by-hash/{hash}"),
        format!("/get-by-hash/0x{hash}"),
        format!("/get-by-hash/{upper}"),
        format!("/get-by-hash/{hash}/"),
        format!("/get-by-hash//{hash}"),
        format!("//get-by-hash/{hash}"),
        format!("/x/../get-by-hash/./{hash}"),
        format!("/get-by-hash/{encoded}"),
        format!("/get-by-hash/{hash}?x=1"),
    ];
    for path in paths {
        let (status, headers, body) = ask(&router, "GET", &path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(body, "{\"data\":\"YSBiYXRjaA==\"}\n", "{path}");
        assert_eq!(headers[CACHE_CONTROL], FOREVER, "{path}");
        assert_eq!(headers[CONTENT_TYPE], JSON, "{path}");
        let (status, headers, body) = ask(&router, "HEAD", &path).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, ""), "{path}");
        assert_eq!(headers[CONTENT_LENGTH], "24", "{path}");
    }
}

#[tokio::test]
async fn a_batch_counts_as_long_as_its_answer_is_held() {
    const LENGTH: usize = 1 << 20;
    let batch = VerifiedBatch::new(vec![7; LENGTH].into());
    let path = format!("/get-by-hash/{}", batch.hash());
    let router = router(
        Arc::new(Fixed { batch, healthy: true }),
        AnswerBudget::new(2 * LENGTH, std::time::Duration::ZERO),
    );
    let send = || {
        let request = Request::builder().uri(&path).body(Body::empty()).unwrap();
        router.clone().oneshot(request)
    };
    // The source here encodes anew for each, so they are two pieces of memory.
    let unread = send().await.unwrap();
    assert_eq!(unread.status(), StatusCode::OK);
    assert_eq!(send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&router, "HEAD", &path).await.0, StatusCode::OK, "that has no body");
    drop(unread);
    let (status, headers, body) = ask(&router, "GET", &path).await;
    assert_eq!(
        (status, headers[CONTENT_LENGTH].to_str().unwrap()),
        (StatusCode::OK, &*body.len().to_string())
    );
}

#[tokio::test]
async fn everything_else_gets_its_status() {
    let (router, hash) = fixed(true);
    let cases = [
        (format!("/get-by-hash/{}", "07".repeat(32)), 404),
        (format!("/get-by-hash/0X{hash}"), 400),
        (format!("/get-by-hash/{}", &hash[..62]), 400),
        (format!("/get-by-hash/{}", &hash[..63]), 400),
        (format!("/get-by-hash/00{hash}"), 400),
        (format!("/get-by-hash/{hash}/x"), 400),
        (format!("/get-by-hash/zz{}", &hash[2..]), 400),
        (format!("/GET-BY-HASH/{hash}"), 400),
        ("/get-by-hash/%zz".to_owned(), 400),
        ("/get-by-hash/%ff".to_owned(), 400),
        ("/get-by-hash/".to_owned(), 400),
        ("/get-by-hash".to_owned(), 400),
        ("/".to_owned(), 400),
        ("/metrics".to_owned(), 400),
        ("/health".to_owned(), 200),
        ("/health/".to_owned(), 200),
        ("/status".to_owned(), 200),
        ("/expiration-policy".to_owned(), 200),
        ("/expiration-policy/".to_owned(), 200),
        ("/expiration-policyx".to_owned(), 400),
    ];
    for (path, expected) in cases {
        let (status, headers, body) = ask(&router, "GET", &path).await;
        assert_eq!(status, expected, "{path}");
        assert_eq!(headers[CACHE_CONTROL], SHORTLY, "{path}");
        if path.starts_with("/expiration-policy") && status == 200 {
            assert_eq!(body, "{\"expirationPolicy\":\"KeepForever\"}\n");
        }
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (status, headers, _) = ask(&router, method, &format!("/get-by-hash/{hash}")).await;
        assert_eq!(
            (status, &headers[ALLOW]),
            (StatusCode::METHOD_NOT_ALLOWED, &HeaderValue::from_static("GET, HEAD"))
        );
    }
    let (ill, _) = fixed(false);
    assert_eq!(ask(&ill, "GET", "/health/").await.0, StatusCode::SERVICE_UNAVAILABLE);
}
