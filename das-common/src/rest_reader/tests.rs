use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// What an endpoint of the simulated races does, and when.
#[derive(Debug, Clone, Copy)]
enum Acts {
    Gives(u64),
    Fails(u64),
    Hangs,
}

async fn simulate(acts: &[Acts], wait: Duration) -> (Race<usize, usize, &'static str>, BTreeSet<usize>) {
    let asked = Mutex::new(BTreeSet::new());
    let outcome = race((0..acts.len()).collect(), wait, |i: usize| {
        asked.lock().insert(i);
        async move {
            match acts[i] {
                Acts::Gives(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                Acts::Fails(ms) => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    return Err("failed");
                }
                Acts::Hangs => std::future::pending().await,
            }
            Ok(i)
        }
    })
    .await;
    (outcome, asked.into_inner())
}

/// A test in which this wait were ever waited for would not end.
const NEVER: Duration = Duration::from_secs(100_000);

#[tokio::test]
async fn the_best_endpoint_alone_is_asked_when_it_answers() {
    let (race, asked) = simulate(&[Acts::Gives(5), Acts::Gives(1), Acts::Gives(1)], NEVER).await;
    assert_eq!(race.won, Some(0));
    assert_eq!(asked, BTreeSet::from([0]));
    assert!(race.failed.is_empty() && race.overtaken.is_empty());
}

#[tokio::test]
async fn failures_cost_no_wait() {
    let acts = [Acts::Fails(1), Acts::Fails(1), Acts::Fails(1), Acts::Gives(1)];
    let (race, _) = simulate(&acts, NEVER).await;
    assert_eq!(race.won, Some(3));
}

#[tokio::test]
async fn a_hang_costs_one_wait_and_is_remembered() {
    let (race, _) = simulate(&[Acts::Hangs, Acts::Gives(1), Acts::Hangs], MS).await;
    assert_eq!(race.won, Some(1));
    // Only the one that had a head start is held to be slow.
    assert_eq!(race.overtaken.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn a_slow_first_answer_still_counts() {
    let (race, _) = simulate(&[Acts::Gives(50), Acts::Hangs, Acts::Fails(1)], MS).await;
    assert_eq!(race.won, Some(0));
}

#[tokio::test]
async fn everybody_is_asked_before_giving_up() {
    for n in 0..10 {
        let acts: Vec<_> = (0..n).map(Acts::Fails).collect();
        let (race, asked) = simulate(&acts, 3 * MS).await;
        assert!(race.won.is_none());
        assert_eq!((race.failed.len(), asked.len()), (n as usize, n as usize));
    }
}

/// A mirror that gives `answer` to every read; counts the reads.
async fn mirror(
    answer: impl Fn() -> (StatusCode, String) + Clone + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = reads.clone();
    let app = Router::new().route(
        "/get-by-hash/{hash}",
        get(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = answer();
            async move { answer }
        }),
    );
    (serve(app).await, reads)
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn encoded(data: &[u8]) -> String {
    format!("{{\"data\":\"{}\"}}\n", base64_simd::STANDARD.encode_to_string(data))
}

fn reader(urls: Vec<String>) -> RestReader {
    RestReader::new(RestReaderOptions { urls, ..Default::default() }, HttpClient::default()).unwrap()
}

#[tokio::test]
async fn lying_broken_and_absent_mirrors_do_not_spoil_a_read() {
    let batch: Vec<u8> = (0..3_000_000_u32).map(|i| i as u8).collect();
    let hash = DataHash::of(&batch);
    let (liar, lies) = mirror(|| (StatusCode::OK, encoded(b"something else"))).await;
    let (garbage, _) = mirror(|| (StatusCode::OK, "<html>".to_owned())).await;
    let (without, _) = mirror(|| (StatusCode::NOT_FOUND, String::new())).await;
    let body = encoded(&batch);
    let (honest, _) = mirror(move || (StatusCode::OK, body.clone())).await;
    let nobody = "http://127.0.0.1:1".to_owned();
    let reader = reader(vec![liar, garbage, without, nobody, honest.clone()]);
    for _ in 0..20 {
        assert_eq!(reader.get(&hash).await.unwrap().bytes()[..], batch[..]);
    }
    assert!(lies.load(Ordering::SeqCst) > 0, "exploring asked the liar");
    for report in reader.report() {
        let honest = report.endpoint.to_string().starts_with(&honest);
        assert_eq!(report.success_ratio.unwrap_or(0.0) > 0.0, honest, "{report:?}");
    }
}

#[tokio::test]
async fn missing_and_unreachable_are_told_apart() {
    let hash = DataHash::of(b"missing");
    let (without, _) = mirror(|| (StatusCode::NOT_FOUND, String::new())).await;
    let error = reader(vec![without.clone()]).get(&hash).await.unwrap_err();
    assert!(matches!(error, ReadError::NotFound { asked: 1, .. }), "{error}");
    assert_eq!(error.fault(), fault::READ_NOT_FOUND);
    let error = reader(vec![without, "http://127.0.0.1:1".to_owned()]).get(&hash).await.unwrap_err();
    assert!(matches!(&error, ReadError::Unavailable { failures, .. } if failures.len() == 2), "{error}");
    assert_eq!(error.fault(), fault::READ_FALLBACK);
    assert!(matches!(reader(Vec::new()).get(&hash).await, Err(ReadError::NoEndpoints)));
}

#[tokio::test]
async fn an_online_list_adds_endpoints_and_a_lost_one_keeps_them() {
    let (honest, _) = mirror(|| (StatusCode::OK, encoded(b"listed"))).await;
    let up = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (seen, text) = (up.clone(), format!("{honest} not-a-url"));
    let list = serve(Router::new().route(
        "/list",
        get(move || {
            let status = if seen.load(Ordering::SeqCst) { StatusCode::OK } else { StatusCode::NOT_FOUND };
            let text = text.clone();
            async move { (status, text) }
        }),
    ))
    .await;
    let options = RestReaderOptions { online_url_list: Some(format!("{list}/list")), ..Default::default() };
    let reader = RestReader::new(options, HttpClient::default()).unwrap();
    let hash = DataHash::of(b"listed");
    assert!(matches!(reader.get(&hash).await, Err(ReadError::NoEndpoints)));
    assert!(reader.fetch_list(&format!("{list}/list")).await);
    assert!(reader.get(&hash).await.is_ok());
    up.store(false, Ordering::SeqCst);
    assert!(!reader.fetch_list(&format!("{list}/list")).await);
    assert!(reader.get(&hash).await.is_ok());
}
