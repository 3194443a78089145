use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use das_common::http::answers::AnswerBudget;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::http::rest;
use das_common::rest_reader::RestReaderOptions;
use http::StatusCode;
use tokio::net::TcpListener;

use super::*;
use crate::api::RestPort;
use crate::health::{Health, Identity};
use crate::policy::RetentionPolicy;
use crate::storage::StorageOptions;

/// Far above what anything here takes, and below the time that one attempt at a server has.
const SOON: Duration = Duration::from_secs(20);
const RETENTION: Duration = Duration::from_secs(3600);

/// A server on a real socket, over a store of its own.
struct Server {
    store: Arc<BatchStore>,
    dir: tempfile::TempDir,
    address: SocketAddr,
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

impl Server {
    fn start(listener: TcpListener, urls: Vec<String>, times: Times) -> Self {
        Self::start_as(Fetched::Heals, listener, urls, times)
    }

    fn start_as(fetched: Fetched, listener: TcpListener, urls: Vec<String>, times: Times) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StorageOptions {
            directory: dir.path().to_path_buf(),
            segment_bytes: 1 << 20,
            reserve_bytes: 1 << 20,
            keys: Arc::default(),
        };
        let store = Arc::new(BatchStore::open(&options).unwrap());
        let fallback = (!urls.is_empty()).then(|| {
            let options = RestReaderOptions { urls, ..RestReaderOptions::default() };
            RestReader::new(options, HttpClient::default()).unwrap()
        });
        let alarms = Alarms::new();
        let retrieve = Retrieve::new(Some(Arc::clone(&store)), fallback, 0, fetched, alarms.clone(), times);
        let policy = RetentionPolicy { max_retention: RETENTION, delete_expired: true };
        let answers = AnswerBudget::new(1 << 20, AnswerBudget::PATIENCE);
        let health = Health::new(Some(Arc::clone(&store)), alarms, 0, policy, Identity::default());
        let router = rest::router(Arc::new(RestPort::new(retrieve, Arc::new(health), policy)), answers);
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { store, dir, address }
    }

    async fn put(&self, text: &'static str) {
        let now = unix_time();
        let batch = VerifiedBatch::new(Bytes::from_static(text.as_bytes()));
        self.store.put(&batch, now + 60, now).await.unwrap();
    }

    async fn read(&self, text: &str) -> StatusCode {
        get(self.address, text, None).await
    }
}

async fn get(address: SocketAddr, text: &str, scope: Option<Scope>) -> StatusCode {
    let endpoint = Endpoint::parse(&format!("http://{address}")).unwrap();
    let path = format!("/get-by-hash/{}", DataHash::of(text.as_bytes()));
    let header = scope.and_then(Scope::header);
    HttpClient::default().get_with(&endpoint, &path, header, SOON, 1 << 20).await.expect("in time").status
}

/// Two servers that read from each other.
async fn pair(times: Times) -> (Server, Server) {
    let ((a, a_url), (b, b_url)) = (listen().await, listen().await);
    (Server::start(a, vec![b_url], times), Server::start(b, vec![a_url], times))
}

#[tokio::test]
async fn servers_that_name_each_other_say_at_once_what_neither_has() {
    let (a, b) = pair(Times::default()).await;
    let asked = (0..20).map(|i| {
        let (a, b) = (&a, &b);
        async move {
            let text = format!("nowhere {}", i % 3);
            [a.read(&text).await, b.read(&text).await]
        }
    });
    for statuses in futures::future::join_all(asked).await {
        assert_eq!(statuses, [StatusCode::NOT_FOUND; 2]);
    }
    b.put("at b").await;
    assert_eq!(a.read("at b").await, StatusCode::OK, "what one has, the other serves");
}

#[tokio::test]
async fn a_local_question_is_not_passed_on() {
    let (a, b) = pair(Times::default()).await;
    b.put("at b").await;
    assert_eq!(get(a.address, "at b", Some(Scope::Local)).await, StatusCode::NOT_FOUND);
    assert_eq!(get(b.address, "at b", Some(Scope::Local)).await, StatusCode::OK);
    assert_eq!(a.read("at b").await, StatusCode::OK, "that it was not here says nothing about others");
}

#[tokio::test]
async fn a_circle_through_a_server_that_knows_nothing_of_scopes_ends() {
    let times = Times { join: Duration::from_millis(100), ..Times::default() };
    let ((a, a_url), (other, other_url)) = (listen().await, listen().await);
    let a = Server::start(a, vec![other_url], times);
    let passes_on = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let a = Endpoint::parse(&a_url).unwrap();
        async move {
            let path = request.uri().path().to_owned();
            match HttpClient::default().get(&a, &path, SOON, 1 << 20).await {
                Ok(answer) if answer.status == StatusCode::OK => StatusCode::OK,
                // Whatever went wrong.
                _ => StatusCode::NOT_FOUND,
            }
        }
    });
    tokio::spawn(async move { axum::serve(other, passes_on).await });
    assert_eq!(a.read("nowhere").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_nobody_had_is_not_asked_for_again_and_a_store_is_readable_at_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let (listener, url) = listen().await;
    let empty = axum::Router::new().fallback(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::NOT_FOUND }
    });
    tokio::spawn(async move { axum::serve(listener, empty).await });
    let times = Times { absent: RETENTION, ..Times::default() };
    let server = Server::start(listen().await.0, vec![url], times);
    for _ in 0..10 {
        assert_eq!(server.read("late").await, StatusCode::NOT_FOUND);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    server.put("late").await;
    assert_eq!(server.read("late").await, StatusCode::OK);
}

#[tokio::test]
async fn a_store_is_readable_while_others_are_being_asked() {
    let (listener, url) = listen().await;
    let begun = Arc::new(tokio::sync::Semaphore::new(0));
    let begins = Arc::clone(&begun);
    let silent = axum::Router::new().fallback(move || {
        begins.add_permits(1);
        std::future::pending::<StatusCode>()
    });
    tokio::spawn(async move { axum::serve(listener, silent).await });
    let server = Server::start(listen().await.0, vec![url], Times::default());
    let address = server.address;
    let early = tokio::spawn(async move { get(address, "late", None).await });
    begun.acquire().await.unwrap().forget();
    server.put("late").await;
    assert_eq!(server.read("late").await, StatusCode::OK);
    early.abort();
}

/// A server with that rule which reads from one that has three batches, and this one.
async fn reader(fetched: Fetched) -> (Server, Server) {
    let (listener, url) = listen().await;
    let source = Server::start(listener, Vec::new(), Times::default());
    for text in TEXTS {
        source.put(text).await;
    }
    (Server::start_as(fetched, listen().await.0, vec![url], Times::default()), source)
}

const TEXTS: [&str; 3] = ["one", "two", "three"];

/// The texts that are on its own disk.
async fn has(server: &Server) -> Vec<&'static str> {
    let mut has = Vec::new();
    for text in TEXTS {
        if get(server.address, text, Some(Scope::Local)).await == StatusCode::OK {
            has.push(text);
        }
    }
    has
}

#[tokio::test]
async fn a_member_writes_what_it_fetched_only_where_it_heals() {
    let (member, source) = reader(Fetched::Heals).await;
    member.put("two").await;
    let promised = member.store.timeout(&DataHash::of(b"two")).unwrap();
    // The payload is somewhere in the only segment.
    let segments = std::fs::read_dir(member.dir.path().join("segments")).unwrap();
    let files: Vec<_> = segments.map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(3).rposition(|window| window == b"two").unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
    assert_eq!(get(member.address, "two", Some(Scope::Local)).await, StatusCode::SERVICE_UNAVAILABLE);

    for text in TEXTS {
        assert_eq!(member.read(text).await, StatusCode::OK);
    }
    assert_eq!(has(&member).await, ["two"]);
    assert_eq!(member.store.timeout(&DataHash::of(b"two")).unwrap(), promised);
    drop(source);
}

#[tokio::test]
async fn a_mirror_fills_itself_while_there_is_room() {
    let fills = |free_above| Fetched::Fills { free_above, retention: RETENTION };
    for (free_above, expected) in [(1 << 20, &TEXTS[..]), (u64::MAX, &[])] {
        let (mirror, _source) = reader(fills(free_above)).await;
        for text in TEXTS {
            assert_eq!(mirror.read(text).await, StatusCode::OK, "served in any case");
        }
        assert_eq!(has(&mirror).await, expected);
    }
}
