//! `das-signer` and members that have their signatures from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use das_common::binding::{Binding, PeerKey, Place as Seat};
use das_common::bls::{PublicKey, SecretKey};
use das_common::data_hash::DataHash;
use das_common::http::client::{ClientIdentity, ClientLimits, Endpoint, HttpClient, TlsFiles};
use das_common::signer::{Message, SignError, Signer};
use das_common::store_auth::StoreKey;
use das_keys::audit_log;
use das_keys::remote::{RemoteSettings, RemoteSigner};
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{BodyMaker, unix_now};
use das_testnet::network::{Network, Plan, Who};
use das_testnet::process::{Launch, ServerProcess};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::authority::{Authority, Identity};
use super::member::{
    FOR, LONG, dastool, folder, good, member, public_key, refuses, signature, signature_from, store,
};

const CLIENT: &str = "alice.members.example";

/// A signer's files.
struct Place {
    folder: TempDir,
    authority: Authority,
    key: PublicKey,
    client: Identity,
}

impl Place {
    fn new() -> Self {
        let folder = folder();
        let authority = Authority::new(&folder.path().join("tls"));
        good(&["key-make", "--to.key-dir", folder.path().join("keys").to_str().unwrap()], &[]);
        let key = public_key(&folder.path().join("keys/das_bls.pub"));
        let client = authority.issue(CLIENT);
        authority.issue("localhost");
        Self { folder, authority, key, client }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The signer with its key in files, served on this port.
    fn signer(&self, port: u16) -> Launch {
        self.signer_without_key(port).arg("--key.key-dir").arg(self.path("keys"))
    }

    fn signer_without_key(&self, port: u16) -> Launch {
        Launch::new("das-signer")
            .args(["--port", &port.to_string(), "--allowed-clients", CLIENT])
            .arg("--tls.cert")
            .arg(self.path("tls/localhost.pem"))
            .arg("--tls.key")
            .arg(self.path("tls/localhost.key"))
            .arg("--tls.client-ca")
            .arg(self.authority.file())
            .arg("--audit-log")
            .arg(self.path("audit"))
    }

    /// A member that has its signatures from a signer on this port.
    fn member(&self, port: u16, deadline: &str) -> Launch {
        member(
            &self.path("data"),
            &self.options(port, deadline).iter().map(String::as_str).collect::<Vec<_>>(),
        )
    }

    fn options(&self, port: u16, deadline: &str) -> Vec<String> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("url", format!("https://localhost:{port}")),
            ("public-key-file", text(&self.path("keys/das_bls.pub"))),
            ("ca", text(&self.authority.file())),
            ("cert", text(&self.client.certificate)),
            ("key", text(&self.client.key)),
            ("deadline", deadline.to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [format!("--key.signer.{name}"), value])
        .collect()
    }

    fn remote(&self, port: u16, client: &Identity, key: &PublicKey) -> RemoteSigner {
        let settings = RemoteSettings {
            url: format!("https://localhost:{port}"),
            public_key: key.clone(),
            authorities: Some(self.authority.file()),
            identity: ClientIdentity { certificate: client.certificate.clone(), key: client.key.clone() },
            deadline: Duration::from_secs(20),
        };
        RemoteSigner::new(settings).unwrap()
    }

    fn audit(&self) -> audit_log::Summary {
        audit_log::verify(&self.path("audit"), "").unwrap().summary
    }
}

fn port(signer: &ServerProcess) -> u16 {
    signer.ready().url("signer").unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

/// What a store that was not signed was answered with: the fault's code, and what to do.
#[track_caller]
fn assert_unsigned(answer: &Value, code: &str) {
    let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("it was signed: {answer}"));
    let cure = das_common::fault::find(code).unwrap().cure;
    assert!(message.contains(code) && message.contains(cure), "{message}");
}

#[test]
fn a_member_signs_through_a_signer_that_comes_and_goes() {
    let place = Place::new();
    let timeout = unix_now() + FOR;
    let mut alone = member(&place.path("alone"), &["--key.key-dir", place.path("keys").to_str().unwrap()])
        .start()
        .unwrap();
    let expected = signature(&alone, &place.key, b"one", timeout);
    alone.stop().unwrap();

    let mut signer = place.signer(0).start().unwrap();
    let port = port(&signer);
    let mut node = place.member(port, "20s").start().unwrap();
    assert_eq!(signature(&node, &place.key, b"one", timeout), expected, "equal words, equal signatures");

    // Away for a moment: the store waits.
    signer.kill().unwrap();
    let rpc = node.rpc_url();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| signature_from(&rpc, &place.key, b"two", timeout));
        std::thread::sleep(Duration::from_millis(300));
        signer = place.signer(port).start().unwrap();
        waiting.join().unwrap();
    });

    // Away for good: the store fails with what to do, the batch is kept, and reads go on.
    node.stop().unwrap();
    let mut node = place.member(port, "1s").start().unwrap();
    signer.stop().unwrap();
    let begun = Instant::now();
    assert_unsigned(&store(&node, b"three", timeout), "DAS-KEY-010");
    assert!(begun.elapsed() >= Duration::from_millis(500), "it was asked again within the deadline");
    let path = format!("/get-by-hash/{}", DataHash::of(b"three"));
    let read = Connection::new(&node.rest_url()).unwrap().get(&path).unwrap();
    assert_eq!(read.status, 200, "{}", read.text());
    // A member starts without it, too, and signs when it is back.
    node.stop().unwrap();
    let mut node = place.member(port, "1s").start().unwrap();
    assert!(node.output().contains("DAS-KEY-010"), "{}", node.output());
    let signer = place.signer(port).start().unwrap();
    signature(&node, &place.key, b"three", timeout);

    node.stop().unwrap();
    let checked = dastool(
        &[vec!["key-check".to_owned()], place.options(port, "5s")]
            .concat()
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
        &[],
    );
    assert!(checked.0 == 0 && checked.1.contains("the secret key was used"), "{}", checked.1);
    drop(signer);
    let found = place.audit();
    assert!(found.signatures >= 6 && found.torn.is_none(), "{found:?}");
    let said = good(&["audit-log", "verify", place.path("audit").to_str().unwrap()], &[]);
    assert!(said.contains(&format!("signatures    {}", found.signatures)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_signed_and_nobody_else_is_served() {
    let place = Place::new();
    let limits = ["--max-retention", "2h", "--rate-limit.burst", "20", "--rate-limit.per-second", "1"];
    let signer = place.signer(0).args(limits).start().unwrap();
    let port = port(&signer);
    let hash = DataHash::from_bytes([7; 32]);
    let remote = place.remote(port, &place.client, &place.key);
    let word = |ahead| Message::certificate(hash, unix_now() + ahead).unwrap();
    remote.sign(word(FOR)).await.unwrap();
    let refused = remote.sign(word(3 * FOR)).await.unwrap_err();
    assert!(
        matches!(&refused, SignError::Refused { reason, .. } if reason.contains("DAS-KEY-018")),
        "{refused}"
    );

    // Another key than the member expects: its signatures are not used.
    let other = SecretKey::generate().public_key();
    let wrong = place.remote(port, &place.client, &other).sign(word(FOR)).await.unwrap_err();
    assert!(matches!(wrong, SignError::Wrong { .. }), "{wrong}");

    // A certificate of the authority with a name that is not allowed; and one of another authority.
    let mallory = place.authority.issue("mallory.example");
    let refused = place.remote(port, &mallory, &place.key).sign(word(FOR)).await.unwrap_err();
    assert!(
        matches!(&refused, SignError::Refused { reason, .. } if reason.contains("DAS-KEY-019")),
        "{refused}"
    );
    let elsewhere = Authority::new(&place.path("elsewhere")).issue(CLIENT);
    let away = place.remote(port, &elsewhere, &place.key);
    let away = tokio::time::timeout(LONG, away.sign(word(FOR))).await.unwrap().unwrap_err();
    assert!(matches!(away, SignError::Away { .. }), "{away}");

    // What no request of ours is.
    let files = TlsFiles {
        authorities: Some(place.authority.file()),
        identity: Some(ClientIdentity {
            certificate: place.client.certificate.clone(),
            key: place.client.key.clone(),
        }),
        ..TlsFiles::default()
    };
    let http = HttpClient::with_tls(ClientLimits::default(), &files).unwrap();
    let endpoint = Endpoint::parse(&format!("https://localhost:{port}/v1/sign")).unwrap();
    let digits = "07".repeat(32);
    for body in [
        String::new(),
        "[".repeat(5000),
        json!({ "kind": "bytes", "bytes": format!("0x{digits}") }).to_string(),
        json!({ "kind": "certificate", "dataHash": format!("0x{digits}"), "timeout": u64::MAX }).to_string(),
        json!({ "kind": "certificate", "dataHash": format!("0x{digits}"), "timeout": 1, "version": 0 })
            .to_string(),
        json!({ "kind": "binding", "binding": "0x01" }).to_string(),
    ] {
        let answer = http.post_json(&endpoint, body.clone().into(), LONG, 1 << 16).await.unwrap();
        assert_eq!(answer.status, 400, "{body:.60}");
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["code"], "DAS-KEY-020", "{answer}");
        assert!(answer["signature"].is_null());
    }

    // Who sends more than any request has may find the connection closed before he is done.
    if let Ok(answer) = http.post_json(&endpoint, "x".repeat(1 << 20).into(), LONG, 1 << 16).await {
        assert_eq!(answer.status, 400);
    }

    // Bindings: one in force is signed; one that is over, or lasts for ever, is not.
    let binding = |issued: u64, life: u64| {
        let peer_key = PeerKey::new([9; 32]);
        let places = vec![Seat {
            code_version: 1,
            keyset_hash: [1; 32],
            honest_members: 2,
            data_shards: 2,
            members: 3,
            index: 0,
        }];
        Message::binding(Binding { places, peer_key, issued, not_after: issued + life })
    };
    remote.sign(binding(unix_now(), FOR).unwrap()).await.unwrap();
    let over = remote.sign(binding(unix_now() - 2 * FOR, FOR).unwrap()).await.unwrap_err();
    assert!(matches!(&over, SignError::Refused { reason, .. } if reason.contains("DAS-KEY-020")), "{over}");
    assert!(binding(unix_now(), 500 * 24 * 3600).is_err());

    // Too fast: busy, which a member waits out.
    let mut busy = 0;
    for _ in 0..40 {
        let body = json!({ "kind": "possession" }).to_string();
        let answer = http.post_json(&endpoint, body.into(), LONG, 1 << 16).await.unwrap();
        busy += u32::from(answer.status == 429);
    }
    assert!(busy > 0, "40 signatures at once with a burst of 20");
    remote.sign(word(FOR)).await.unwrap();
}

#[test]
fn the_signers_key_may_be_in_a_keystore_and_its_log_is_of_one_key() {
    let place = Place::new();
    let keystore = place.path("key.json");
    let convert = ["--from.key-dir", place.folder.path().join("keys").to_str().unwrap()].map(str::to_owned);
    let to = ["--to.keystore.file", keystore.to_str().unwrap(), "--to.keystore.password-env", "P"];
    let convert: Vec<&str> =
        ["key-convert"].into_iter().chain(convert.iter().map(String::as_str)).chain(to).collect();
    good(&convert, &[("P", "p")]);
    let launch = |password: &str| {
        let launch = place.signer_without_key(0).arg("--key.keystore.file").arg(&keystore);
        launch.args(["--key.keystore.password-env", "P"]).env("P", password)
    };
    refuses(&launch("q"), "DAS-KEY-006", "the password is wrong");
    let mut signer = launch("p").start().unwrap();
    let mut node = place.member(port(&signer), "20s").start().unwrap();
    signature(&node, &place.key, b"one", unix_now() + FOR);
    node.stop().unwrap();
    refuses(&launch("p"), "DAS-KEY-016", "another process writes to");
    signer.stop().unwrap();

    // Another key goes on with another log only.
    let keys = place.path("other");
    good(&["key-make", "--to.key-dir", keys.to_str().unwrap()], &[]);
    let other = place.signer_without_key(0).arg("--key.key-dir").arg(&keys);
    refuses(&other, "DAS-KEY-015", "the log of another key");
    // A member that expects the other key does not start with this signer.
    let mut signer = launch("p").start().unwrap();
    fs::copy(keys.join("das_bls.pub"), place.path("keys/das_bls.pub")).unwrap();
    refuses(&place.member(port(&signer), "5s"), "DAS-KEY-012", "of another key");
    signer.stop().unwrap();
    // A record that was changed.
    let mut text = fs::read_to_string(place.path("audit")).unwrap();
    text = text.replacen(CLIENT, "mallory.members.exampl", 1);
    fs::write(place.path("audit"), text).unwrap();
    refuses(&launch("p"), "DAS-KEY-015", "its hash does not follow");
    let (code, said) = dastool(&["audit-log", "verify", place.path("audit").to_str().unwrap()], &[]);
    assert!(code == 1 && said.contains("damaged"), "{said}");
}

/// A committee of three, each of which holds its key in another way.
#[test]
fn a_committee_works_whatever_way_its_members_hold_their_keys() {
    let folder = folder();
    let plan = Plan { members: 3, honest: 2, shards: 2, base_port: 0 };
    // Made once, for its keys.
    drop(Network::open(folder.path(), &plan).unwrap());
    let authority = Authority::new(&folder.path().join("tls"));
    let (client, server) = (authority.issue(CLIENT), authority.issue("localhost"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let home = |i: usize| folder.path().join(format!("member-{i}"));
    let audit = folder.path().join("audit");
    let signer = Launch::new("das-signer")
        .args(["--port", "0", "--allowed-clients", CLIENT, "--tls.cert", &text(&server.certificate)])
        .args(["--tls.key", &text(&server.key), "--tls.client-ca", &text(&authority.file())])
        .args(["--audit-log", &text(&audit), "--key.key-dir", &text(&home(1).join("keys"))])
        .start()
        .unwrap();
    let (keystore, password) = (text(&home(2).join("key.json")), text(&home(2).join("password")));
    fs::write(&password, "p").unwrap();
    let from = ["key-convert", "--from.key-dir", &text(&home(2).join("keys"))].map(str::to_owned);
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    good(
        &[&from[..], &["--to.keystore.file", &keystore, "--to.keystore.password-file", &password]].concat(),
        &[],
    );
    let url = format!("https://localhost:{}", port(&signer));
    let prefixed = |options: &[(&str, &str)]| {
        let option = |(name, value): &(&str, &str)| format!("--data-availability.key.{name}={value}");
        options.iter().map(option).collect::<Vec<_>>()
    };
    let remote = prefixed(&[
        ("key-dir", ""),
        ("signer.url", &url),
        ("signer.public-key-file", &text(&home(1).join("keys/das_bls.pub"))),
        ("signer.ca", &text(&authority.file())),
        ("signer.cert", &text(&client.certificate)),
        ("signer.key", &text(&client.key)),
    ]);
    let encrypted =
        prefixed(&[("key-dir", ""), ("keystore.file", &keystore), ("keystore.password-file", &password)]);
    let network = Network::open(folder.path(), &plan).unwrap();
    let network = network.with_member_options(0, remote).unwrap();
    let mut network = network.with_member_options(1, encrypted).unwrap();
    network.start_all(|_, _| {}).unwrap();
    let key = fs::read_to_string(network.poster_key_file()).unwrap();
    let mut bodies = BodyMaker::new(StoreKey::from_hex(key.trim()).unwrap().into(), 7);
    let rpc = network.addresses(Who::Aggregator).unwrap().rpc;
    let body = bodies.store(1000);
    let answer = Connection::new(&rpc).unwrap().post_json(&[&body.json]).unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(answer["result"]["sig"].is_string(), "{answer}");
    // All are members to each other: the signer vouched for the peer key of its member.
    let connected =
        wait_until(LONG, || (0..3).all(|member| das_testnet::custody::connected(&network, member) == 2));
    let report = das_testnet::custody::report(&network, 0);
    assert!(connected.is_some(), "the members are not connected: {report:#?}");
    assert!(network.stop_all().is_empty());
    drop(signer);
    let log = fs::read_to_string(&audit).unwrap();
    for kind in ["certificate", "binding", "possession"] {
        assert!(log.contains(&format!("\"kind\":\"{kind}\"")), "{kind} is not in {log}");
    }
}

/// Signatures that left are in the log, whenever the signer is killed.
#[test]
fn a_signer_that_is_killed_has_recorded_what_left() {
    let place = Place::new();
    let mut signer = place.signer(0).start().unwrap();
    let port = port(&signer);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut left = std::collections::BTreeSet::new();
    for round in 0..4 {
        let remote = std::sync::Arc::new(place.remote(port, &place.client, &place.key));
        let (sender, receiver) = std::sync::mpsc::channel();
        for task in 0..8_u64 {
            let (remote, sender) = (std::sync::Arc::clone(&remote), sender.clone());
            runtime.spawn(async move {
                for number in 0..1000 {
                    let timeout = unix_now() + number;
                    let hash = DataHash::of(&[round, task, number].map(u64::to_be_bytes).concat());
                    let message = Message::certificate(hash, timeout).unwrap();
                    if remote.sign(message).await.is_err() || sender.send(hash).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        left.extend(receiver.iter().take(40));
        signer.signal(Signal::KILL).unwrap();
        signer.wait_for_exit(LONG).unwrap();
        left.extend(receiver.try_iter());
        drop(receiver);
        let text = String::from_utf8_lossy(&fs::read(place.path("audit")).unwrap()).into_owned();
        for hash in &left {
            assert!(text.contains(&hash.to_string()), "{hash} left without a record");
        }
        // What a kill in the middle of a write leaves, whether or not this one did.
        let file = fs::OpenOptions::new().append(true).open(place.path("audit"));
        std::io::Write::write_all(
            &mut file.unwrap(),
            &b"0123456789abcdef"[..usize::try_from(round).unwrap() * 4],
        )
        .unwrap();
        signer = place.signer(port).start().unwrap();
    }
    drop(signer);
    let found = place.audit();
    assert!(found.signatures >= left.len() as u64 && found.repaired >= 3, "{found:?}, {} left", left.len());
}

/// Certificates and authority of both sides, while both run.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_signer_and_client_are_replaced_while_they_run() {
    let place = Place::new();
    let signer = place.signer(0).start().unwrap();
    let port = port(&signer);
    let word = || Message::certificate(DataHash::from_bytes([7; 32]), unix_now() + FOR).unwrap();
    let remote = place.remote(port, &place.client, &place.key);
    remote.sign(word()).await.unwrap();
    // Somebody who kept what was valid before.
    let kept = place.authority.issue("kept");
    fs::copy(&place.client.certificate, &kept.certificate).unwrap();
    fs::copy(&place.client.key, &kept.key).unwrap();

    let next = Authority::new(&place.path("next"));
    for (name, own) in [
        (
            "localhost",
            Identity { certificate: place.path("tls/localhost.pem"), key: place.path("tls/localhost.key") },
        ),
        (CLIENT, Identity { certificate: place.client.certificate.clone(), key: place.client.key.clone() }),
    ] {
        let new = next.issue(name);
        fs::rename(new.key, own.key).unwrap();
        fs::rename(new.certificate, own.certificate).unwrap();
    }
    fs::rename(next.file(), place.authority.file()).unwrap();
    let replaced = "the certificate and the authorities of clients were read anew";
    assert!(wait_until(LONG, || signer.output().contains(replaced)).is_some(), "{}", signer.output());
    remote.sign(word()).await.unwrap();
    let stale = place.remote(port, &kept, &place.key).sign(word()).await.unwrap_err();
    assert!(matches!(&stale, SignError::Away { reason, .. } if reason.contains("DAS-TLS-005")), "{stale}");
}
