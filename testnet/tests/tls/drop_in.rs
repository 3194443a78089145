//! Nitro's options, which know no TLS.

use super::server::{LONG, Place};

#[test]
fn without_options_of_tls_plain_http_is_served_with_one_warning() {
    let place = Place::new();
    let mut member = place.plain().start().unwrap();
    assert!(member.rest_url().starts_with("http://"));
    let answer = das_testnet::http::Connection::new(&member.rest_url()).unwrap().get("/health").unwrap();
    assert_eq!(answer.status, 200);
    let output = member.output();
    let warnings: Vec<_> = output.lines().filter(|line| line.contains("PLAIN HTTP")).collect();
    let [warning] = warnings[..] else { panic!("{output}") };
    for option in ["--rpc-port", "--rest-port", "--metrics-server.port", "--tls.cert", "WARN"] {
        assert!(warning.contains(option), "{option} is not in {warning}");
    }
    member.stop().unwrap();

    for (extra, served) in [
        (&[][..], "--rpc-port, --rest-port, --metrics-server.port"),
        (&["--metrics=false"], "--rpc-port, --rest-port;"),
    ] {
        let (status, text) = place.plain().arg("--require-tls").args(extra).run_to_end(LONG).unwrap();
        assert!(!status.success(), "it started: {text}");
        assert!(
            text.contains("--require-tls") && text.contains(served) && text.contains("give --tls.cert"),
            "{text}"
        );
    }
    let own = place.good();
    let (status, text) = place.member(&own).args(["--tls.plain", "rest"]).run_to_end(LONG).unwrap();
    assert!(!status.success() && text.contains("plain HTTP would be served on --rest-port;"), "{text}");
}
