//! What strangers may take from a server, on real servers: connections, requests a second, and nothing from the poster.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use das_common::store_auth::StoreKey;
use das_testnet::http::Connection;
use das_testnet::load::bodies::BodyMaker;
use das_testnet::network::{Network, Plan, Who};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn address(url: &str) -> SocketAddr {
    url.split("//").nth(1).unwrap().trim_end_matches('/').replace("localhost", "127.0.0.1").parse().unwrap()
}

async fn connect(from: Ipv4Addr, url: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
    tokio::time::timeout(Duration::from_secs(30), socket.connect(address(url))).await.unwrap().unwrap()
}

/// The whole answer; empty when the connection was closed without one.
async fn get(from: Ipv4Addr, url: &str, path: &str, headers: &str) -> String {
    let mut stream = connect(from, url).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
    let mut answer = String::new();
    // A server that closes at once may do so while this is on its way.
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

fn port(url: &str, name: &str) -> Value {
    let answer = Connection::new(url).unwrap().get("/status").unwrap();
    let status: Value = serde_json::from_slice(&answer.body).unwrap();
    status["ports"].as_array().unwrap().iter().find(|port| port["port"] == name).unwrap().clone()
}

fn lone_member(dir: &std::path::Path, options: &[&str]) -> Network {
    let plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
    let mut network = Network::open(dir, &plan).unwrap().with_node_options(options.iter().copied());
    network.start(Who::Member(0)).unwrap();
    network
}

#[tokio::test]
async fn a_client_is_held_to_its_rate_whoever_it_says_that_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let network = lone_member(
        dir.path(),
        &[
            // One at once, and then one in a thousand seconds.
            "--limits.rest-client.rate=0.001",
            "--limits.rest-client.burst=0",
            "--limits.trusted-proxies=127.0.0.9",
        ],
    );
    let rest = network.addresses(Who::Member(0)).unwrap().rest;
    let ask = async |from: [u8; 4], headers: &str| {
        let answer = get(from.into(), &rest, "/expiration-policy", headers).await;
        (status(&answer).to_owned(), answer.to_lowercase().contains("retry-after: "))
    };
    let (served, refused) = (("200".to_owned(), false), ("429".to_owned(), true));
    assert_eq!(ask([127, 0, 0, 2], "").await, served);
    assert_eq!(ask([127, 0, 0, 2], "").await, refused);
    assert_eq!(ask([127, 0, 0, 2], "X-Forwarded-For: 7.7.7.7\r\n").await, refused, "a stranger's word");
    assert_eq!(ask([127, 0, 0, 3], "").await, served, "another client");
    for client in ["7.7.7.7", "8.8.8.8"] {
        let headers = format!("X-Forwarded-For: 1.1.1.1, {client}\r\n");
        assert_eq!(ask([127, 0, 0, 9], &headers).await, served, "a proxy's word");
        assert_eq!(ask([127, 0, 0, 9], &headers).await, refused);
    }
    let metrics = network.addresses(Who::Member(0)).unwrap().metrics;
    assert_eq!(port(&metrics, "rest")["refusedRate"], 4);
    let text = Connection::new(&metrics).unwrap().get("/metrics").unwrap().text();
    assert!(text.contains(r#"das_clients_refused_total{port="rest",why="rate"} 4"#), "{text}");
}

#[tokio::test]
async fn an_address_fills_its_share_of_connections_and_a_flood_from_many_keeps_no_poster_out() {
    const SHARE: usize = 20;
    const FLOOD: u32 = 400;
    let dir = tempfile::tempdir().unwrap();
    let share = format!("--limits.rpc-client.connections={SHARE}");
    let network = lone_member(dir.path(), &["--limits.max-connections=100", &share]);
    let addresses = network.addresses(Who::Member(0)).unwrap();

    let mut held = Vec::new();
    for _ in 0..SHARE {
        held.push(connect(Ipv4Addr::new(127, 0, 0, 2), &addresses.rpc).await);
    }
    // The last of those may not have been counted when the next one comes.
    while port(&addresses.metrics, "rpc")["connections"] != SHARE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(get(Ipv4Addr::new(127, 0, 0, 2), &addresses.rpc, "/", "").await, "", "one too many");
    assert_ne!(get(Ipv4Addr::new(127, 0, 0, 3), &addresses.rpc, "/", "").await, "", "another address");
    assert_eq!(port(&addresses.metrics, "rpc")["refusedConnections"], 1);
    drop(held);

    // Many times as many as there is room for, from as many addresses, on both ports.
    let mut silent = Vec::new();
    for n in 0..FLOOD {
        let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 0).to_bits() + n);
        silent.push(connect(from, if n % 2 == 0 { &addresses.rpc } else { &addresses.rest }).await);
    }
    let key = std::fs::read_to_string(network.poster_key_file()).unwrap();
    let mut maker = BodyMaker::new(StoreKey::from_hex(key.trim()).unwrap().into(), 1);
    for _ in 0..3 {
        let body = maker.store(10_000);
        let answer = Connection::new(&addresses.rpc).unwrap().post_json(&[&body.json]).unwrap();
        assert!(answer.text().contains(&body.hash.to_string()), "{}", answer.text());
        let read = get(HOME, &addresses.rest, &format!("/get-by-hash/{}", body.hash), "").await;
        assert_eq!(status(&read), "200");
    }
    drop(silent);
}
