use proptest::prelude::*;
use tower::ServiceExt as _;

use super::*;

fn limits(rate: f64, burst: u32, concurrent: usize) -> PerClientLimits {
    let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap(), "fd00::1".parse().unwrap()];
    PerClientLimits { rate, burst, concurrent, trusted_proxies, ..PerClientLimits::default() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn only_trusted_proxies_say_who_asks() {
    let limits = limits(1.0, 0, 0);
    let client = |peer: &str, forwarded: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        limits.client(ip(peer), &headers).to_string()
    };
    assert_eq!(client("1.2.3.4", &["5.6.7.8"]), "1.2.3.4", "a stranger's word");
    assert_eq!(client("10.1.1.1", &["5.6.7.8"]), "5.6.7.8");
    assert_eq!(
        client("10.1.1.1", &["9.9.9.9, 5.6.7.8, 10.2.2.2"]),
        "5.6.7.8",
        "what comes before may be made up"
    );
    assert_eq!(client("10.1.1.1", &["9.9.9.9", "5.6.7.8"]), "5.6.7.8");
    assert_eq!(client("::ffff:10.1.1.1", &["5.6.7.8"]), "5.6.7.8");
    assert_eq!(client("fd00::1", &["2001:db8::1"]), "2001:db8::1");
    assert_eq!(client("10.1.1.1", &["nonsense"]), "10.1.1.1");
    assert_eq!(client("10.1.1.1", &[]), "10.1.1.1");
    assert_eq!(place(ip("2001:db8::1:2:3:4")), ip("2001:db8::"));
    for wrong in ["", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/"] {
        assert!(wrong.parse::<Network>().is_err(), "{wrong}");
    }
    assert!("0.0.0.0/0".parse::<Network>().unwrap().contains(ip("200.1.1.1")));
    assert!(!"0.0.0.0/0".parse::<Network>().unwrap().contains(ip("2001::1")));
}

proptest! {
    /// Whatever the pattern: in no span of time does more come through than burst and rate allow, and one who keeps
    /// to the rate is never refused.
    #[test]
    fn no_more_comes_through_than_is_allowed(
        pauses in proptest::collection::vec(0_u64..400, 1..200),
        rate in 1_u32..50,
        burst in 0_u32..20,
    ) {
        let port = PerClient::new("test", limits(f64::from(rate), burst, 0));
        let (begin, client) = (Instant::now(), ip("1.1.1.1"));
        let mut now = begin;
        let mut through = Vec::new();
        for pause in pauses {
            now += Duration::from_millis(pause);
            if port.shared.enter(client, now).is_ok() {
                through.push(now);
            }
        }
        for (n, from) in through.iter().enumerate() {
            for (m, to) in through.iter().enumerate().skip(n) {
                let allowed = f64::from(burst) + 1.0 + (*to - *from).as_secs_f64() * f64::from(rate) + 1e-3;
                prop_assert!((m - n + 1) as f64 <= allowed + 1e-6, "{} in {:?}", m - n + 1, *to - *from);
            }
        }
        let calm = PerClient::new("test", limits(f64::from(rate), burst, 0));
        for n in 0..50_u32 {
            let at = begin + Duration::from_secs_f64(1.0 / f64::from(rate)) * n + Duration::from_micros(u64::from(n));
            prop_assert_eq!(calm.shared.enter(client, at), Ok(client));
        }
    }
}

#[test]
fn clients_beyond_the_bound_share_a_place_and_nobody_is_forgotten_while_he_asks() {
    let port = PerClient::new("test", limits(0.0, 0, 2));
    let now = Instant::now();
    let address = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap() + 0x0100_0000));
    for n in 0..MOST_CLIENTS {
        port.shared.enter(address(n), now).unwrap();
    }
    let late = |n: usize| port.shared.enter(address(MOST_CLIENTS + n), now);
    let common = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    assert_eq!((late(0), late(1), late(2)), (Ok(common), Ok(common), Err(Refusal::Concurrent)));
    assert_eq!(port.shared.enter(address(5), now), Ok(address(5)), "who was there has his own");
    assert_eq!(port.shared.enter(address(5), now), Err(Refusal::Concurrent));
    port.shared.leave(common);
    assert_eq!(late(3), Ok(common));
}

#[tokio::test]
async fn an_answer_is_under_way_until_it_was_taken() {
    let router = Router::new().fallback(|| async { "a batch" });
    let port = PerClient::new("test", limits(0.0, 0, 1)).around(router);
    let ask = |address: &str| {
        let mut request = http::Request::new(Body::empty());
        request.extensions_mut().insert(Peer(SocketAddr::new(ip(address), 1)));
        port.clone().oneshot(request)
    };
    let first = ask("1.1.1.1").await.unwrap();
    let second = ask("1.1.1.1").await.unwrap();
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(second.headers()[RETRY_AFTER], "1");
    assert_eq!(ask("1.1.1.2").await.unwrap().status(), StatusCode::OK, "another client");
    drop(first);
    assert_eq!(ask("1.1.1.1").await.unwrap().status(), StatusCode::OK);
}

#[test]
fn an_address_has_so_many_connections_and_a_trusted_proxy_any_number() {
    let limits = PerClientLimits { connections: 2, ..limits(0.0, 0, 0) };
    let port = PerClient::new("test", limits);
    let connect = |address: &str| port.connect(SocketAddr::new(ip(address), 1));
    let held = [connect("1.1.1.1"), connect("1.1.1.1"), connect("1.1.1.2")];
    assert!(held.iter().all(Option::is_some));
    assert!(connect("1.1.1.1").is_none());
    assert!(connect("::ffff:1.1.1.1").is_none(), "the same address in another dress");
    let proxies: Vec<_> = (0..10).map(|_| connect("10.0.0.1")).collect();
    assert!(proxies.iter().all(Option::is_some));
    let report = port.report();
    assert_eq!((report.connections, report.clients, report.refused_connections), (13, 3, 2));
    drop((held, proxies));
    assert_eq!((port.report().connections, port.report().clients), (0, 0));
    assert!(connect("1.1.1.1").is_some());
}

#[tokio::test]
async fn who_waited_too_long_for_its_turn_is_told_to_come_again() {
    let gate = Arc::new(Semaphore::new(0));
    let behind = Arc::clone(&gate);
    let router = Router::new().fallback(move || async move {
        let _ = behind.acquire().await;
        "a batch"
    });
    let patience = Duration::from_millis(20);
    let port = PerClient::new("test", PerClientLimits { at_once: 1, patience, ..PerClientLimits::default() });
    let router = port.clone().around(router);
    let ask = || tokio::spawn(router.clone().oneshot(http::Request::new(Body::empty())));
    let first = ask();
    while port.shared.working.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let second = ask().await.unwrap().unwrap();
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(second.headers()[RETRY_AFTER], "1");
    assert_eq!((port.report().refused_busy, port.report().waiting), (1, 0));
    gate.add_permits(9);
    let first = first.await.unwrap().unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    // Its answer has begun: the next one has its turn, whether it is taken or not.
    assert_eq!(ask().await.unwrap().unwrap().status(), StatusCode::OK);
}
