//! Who is refused, by servers and by clients, and what is said about it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use das_common::http::client::{ClientLimits, HttpClient, TlsFiles};
use das_testnet::process::binary;
use das_testnet::tls::{InForce, self_signed};
use rustls::version::{TLS12, TLS13};

use super::server::{CLIENT, LONG, Place, ask_rest, ask_rpc, assert_refused, http, shake};

/// How long a certificate that is to expire during a test is in force, in seconds.
const SOON: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_wrong_certificate_is_not_believed() {
    let place = Place::new();
    let trusting = || http(&place.files(None));

    let mut member = place.member(&place.good()).start().unwrap();
    assert_eq!(ask_rest(&trusting(), &member).await.unwrap().status, 200);
    // Not from an authority that the system trusts, nor from another one.
    assert_refused(
        ask_rest(&http(&TlsFiles::default()), &member).await,
        "not from an authority that is trusted",
    );
    let elsewhere = TlsFiles { authorities: Some(place.clients.file()), ..TlsFiles::default() };
    assert_refused(ask_rest(&http(&elsewhere), &member).await, "not from an authority that is trusted");
    // The same by a program.
    let tool = |rest: &str, authority: &str| {
        let args = ["doctor", "--rest", rest, "--timeout", "20s", "--tls.ca", authority];
        let output = Command::new(binary("dastool").unwrap()).args(args).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let (good, other) = (place.servers.file(), place.clients.file());
    let said = tool(&member.rest_url(), other.to_str().unwrap());
    assert!(said.contains("DAS-TLS-005"), "{said}");
    let said = tool(&member.rest_url(), good.to_str().unwrap());
    assert!(!said.contains("DAS-TLS-005"), "{said}");
    member.stop().unwrap();

    let unvouched = self_signed(place.folder.path(), "self", &["localhost", "127.0.0.1"]).unwrap();
    let mut member = place.member(&unvouched).start().unwrap();
    assert_refused(ask_rest(&trusting(), &member).await, "not from an authority that is trusted");
    member.stop().unwrap();

    let misnamed = place.servers.issue("misnamed", &["other.example"], InForce::Always).unwrap();
    let mut member = place.member(&misnamed).start().unwrap();
    assert_refused(ask_rest(&trusting(), &member).await, "of another name than the URL's");
    member.stop().unwrap();

    // One that expires while it is served; one that has expired is not served at all.
    let (status, text) = place.member(&place.server("over", InForce::Over)).run_to_end(LONG).unwrap();
    assert!(!status.success() && text.contains("DAS-TLS-002") && text.contains("over.pem"), "{text}");
    let mut member = place.member(&place.server("soon", InForce::For(SOON + 10))).start().unwrap();
    assert_eq!(ask_rest(&trusting(), &member).await.unwrap().status, 200);
    tokio::time::sleep(Duration::from_secs(SOON + 11)).await;
    assert_refused(ask_rest(&trusting(), &member).await, "has expired");
    member.stop().unwrap();

    // What speaks no TLS.
    let mut member = place.plain().start().unwrap();
    let url = member.rest_url().replace("http://", "https://");
    let endpoint = das_common::http::client::Endpoint::parse(&url).unwrap();
    assert_refused(trusting().get(&endpoint, "/health", LONG, 1000).await, "does not speak TLS");
    member.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_known_does_not_get_in() {
    let place = Place::new();
    let mut member = place.closed_member().start().unwrap();
    let with = |own| http(&place.files(own));

    let known = place.client(CLIENT, InForce::Always);
    assert_eq!(ask_rpc(&with(Some(known)), &member).await.unwrap().status, 200);
    // Reads are for everybody.
    assert_eq!(ask_rest(&with(None), &member).await.unwrap().status, 200);

    assert_refused(ask_rpc(&with(None), &member).await, "demands a client certificate");
    let stranger = place.client("mallory.example", InForce::Always);
    assert_refused(ask_rpc(&with(Some(stranger)), &member).await, "by the name");
    let output = member.output();
    assert!(output.contains("DAS-TLS-006") && output.contains("mallory.example"), "{output}");
    let unvouched = self_signed(place.folder.path(), "unvouched", &[CLIENT]).unwrap();
    assert_refused(ask_rpc(&with(Some(unvouched)), &member).await, "does not trust the authority");
    let elsewhere = place.servers.issue("elsewhere", &[CLIENT], InForce::Always).unwrap();
    assert_refused(ask_rpc(&with(Some(elsewhere)), &member).await, "does not trust the authority");
    // One that expires after it was read; one that has expired is not read.
    let renamed = place.clients.issue("renamed", &[CLIENT], InForce::For(SOON)).unwrap();
    let renamed = with(Some(renamed));
    tokio::time::sleep(Duration::from_secs(SOON + 1)).await;
    assert_refused(ask_rpc(&renamed, &member).await, "this client's certificate has expired");
    let over = place.files(Some(place.client(CLIENT, InForce::Over)));
    let over = HttpClient::with_tls(ClientLimits::default(), &over).unwrap_err().to_string();
    assert!(over.contains("in force from"), "{over}");

    // Plain HTTP gets words; TLS 1.2 is spoken only where it is asked for.
    let mut plain = TcpStream::connect(member.rest_url().trim_start_matches("https://")).unwrap();
    plain.set_read_timeout(Some(LONG)).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("this port speaks TLS"), "{answer}");
    let authority = place.servers.file();
    assert!(shake(&member.rest_url(), &authority, &[&TLS13]).is_ok());
    let refused = shake(&member.rest_url(), &authority, &[&TLS12]).unwrap_err();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    member.stop().unwrap();
    let old = place.member(&place.good()).args(["--tls.min-version", "1.2"]).start().unwrap();
    shake(&old.rest_url(), &authority, &[&TLS12]).unwrap();
    shake(&old.rest_url(), &authority, &[&TLS13]).unwrap();
}
