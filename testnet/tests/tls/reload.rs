//! Files that are replaced while they are in use.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use das_testnet::custody::{read, store, wait_until};
use das_testnet::http::Connection;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::tls::{Authority, Identity, InForce};
use rustls::version::TLS13;

use super::server::{CLIENT, LONG, Place, alarms, ask_rpc, assert_refused, folder, http, shake};
use crate::common::bodies;

/// Puts one identity's files in the place of another's.
fn replace(old: &Identity, new: &Identity) {
    fs::rename(&new.key, &old.key).unwrap();
    fs::rename(&new.certificate, &old.certificate).unwrap();
}

#[test]
fn certificates_replaced_under_load_cost_no_request() {
    const ROUNDS: usize = 5;
    let dir = folder();
    let plan = Plan { members: 3, honest: 2, shards: 1, base_port: 0 };
    let mut network = Network::open_with_tls(dir.path(), &plan).unwrap();
    network.start_all(|_, _| {}).unwrap();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let addresses = network.addresses(Who::Aggregator).unwrap();
    let (ended, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let everyone: Vec<String> = network.everyone().iter().map(ToString::to_string).collect();
    let own = |name: &str| das_testnet::tls::identity(dir.path(), name);
    let served = |url: &str| shake(url, &das_testnet::tls::authority(dir.path()), &[&TLS13]).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let (ended, done, addresses) = (&ended, &done, &addresses);
            let mut maker = bodies(&network, seed ^ worker);
            scope.spawn(move || {
                let mut rpc = Connection::new(&addresses.rpc).unwrap();
                let mut rest = Connection::new(&addresses.rest).unwrap();
                let mut count = 0_u64;
                while !ended.load(Ordering::Relaxed) {
                    // Half of the workers begin a connection for each request.
                    if worker % 2 == 0 {
                        rpc = Connection::new(&addresses.rpc).unwrap();
                        rest = Connection::new(&addresses.rest).unwrap();
                    }
                    let body = maker.store(20_000);
                    if let Err(error) = store(&mut rpc, &body) {
                        ended.store(true, Ordering::Relaxed);
                        panic!("a store after {count}: {error}");
                    }
                    if let Err(error) = read(&mut rest, &body.hash) {
                        ended.store(true, Ordering::Relaxed);
                        panic!("a read after {count}: {error}");
                    }
                    count += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..ROUNDS {
            let before = done.load(Ordering::Relaxed);
            let old = served(&addresses.rest);
            // Everybody has a new certificate, of a new authority beside the old one.
            let trusted = das_testnet::tls::authority(dir.path());
            let authority = Authority::new(&dir.path().join(format!("next-{round}"))).unwrap();
            let both = [fs::read(&trusted).unwrap(), fs::read(authority.file()).unwrap()].concat();
            fs::write(trusted.with_extension("new"), both).unwrap();
            fs::rename(trusted.with_extension("new"), &trusted).unwrap();
            let is_known = || ended.load(Ordering::Relaxed);
            // Servers have to know it before clients show it. Whoever looks every second has looked by then.
            wait_until(Duration::from_millis(2500), is_known);
            das_testnet::tls::know(dir.path(), all_addresses(&network)).unwrap();
            for name in &everyone {
                let names = [&format!("{name}.das.test"), "localhost", "127.0.0.1"];
                replace(&own(name), &authority.issue(name, &names, InForce::Always).unwrap());
            }
            let is_served = || served(&addresses.rest) != old;
            if wait_until(LONG, is_served).is_none() {
                ended.store(true, Ordering::Relaxed);
                panic!("the new certificate is not served");
            }
            let begun = Instant::now();
            while done.load(Ordering::Relaxed) < before + 40 && !ended.load(Ordering::Relaxed) {
                assert!(begun.elapsed() < LONG, "nothing goes on");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    println!("{} stores and reads over {ROUNDS} changes of all certificates", done.load(Ordering::Relaxed));
    assert!(network.stop_all().is_empty());
}

fn all_addresses(network: &Network) -> Vec<String> {
    let one = |who: &Who| {
        let addresses = network.addresses(*who).unwrap();
        [addresses.rpc, addresses.rest, addresses.metrics].map(|url| url.replace("https://", ""))
    };
    network.everyone().iter().flat_map(one).collect()
}

#[test]
fn what_cannot_be_used_leaves_the_old_certificate_in_use_and_says_so() {
    let place = Place::new();
    let own = place.good();
    let member = place.member(&own).start().unwrap();
    let client = http(&place.files(None));
    let authority = place.servers.file();
    let before = shake(&member.rest_url(), &authority, &[&TLS13]).unwrap();
    let kept = || alarms(&client, &member).contains(&"DAS-TLS-003".to_owned());
    assert!(!kept());
    let saved = fs::read(&own.key).unwrap();
    let whole = fs::read(&own.certificate).unwrap();
    // The key of another certificate; half a certificate; one that has expired.
    let other = place.server("other", InForce::Always);
    let over = place.server("over", InForce::Over);
    for (key, certificate, words) in [
        (fs::read(&other.key).unwrap(), whole.clone(), "do not belong together"),
        (saved.clone(), whole[..whole.len() / 2].to_vec(), "no certificate in PEM"),
        (fs::read(&over.key).unwrap(), fs::read(&over.certificate).unwrap(), "in force from"),
    ] {
        fs::write(&own.key, key).unwrap();
        fs::write(&own.certificate, certificate).unwrap();
        wait_until(LONG, kept).unwrap_or_else(|| panic!("no alarm: {words}"));
        assert_eq!(shake(&member.rest_url(), &authority, &[&TLS13]).unwrap(), before);
        wait_until(LONG, || member.output().contains(words))
            .unwrap_or_else(|| panic!("{words}: {}", member.output()));
        fs::write(&own.key, &saved).unwrap();
        fs::write(&own.certificate, &whole).unwrap();
        wait_until(LONG, || !kept()).expect("the alarm ends");
    }
    replace(&own, &other);
    let is_other = || shake(&member.rest_url(), &authority, &[&TLS13]).unwrap() != before;
    wait_until(LONG, is_other).expect("the next good one is taken");
    // One that ends soon is taken, with an alarm.
    replace(&own, &place.server("short", InForce::For(3600)));
    let ends = || alarms(&client, &member).contains(&"DAS-TLS-004".to_owned());
    wait_until(LONG, ends).expect("an alarm that it ends soon");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_authority_was_taken_out_does_not_get_in_again() {
    let place = Place::new();
    let member = place.closed_member().start().unwrap();
    let files = place.files(Some(place.client(CLIENT, InForce::Always)));
    let old = http(&files);
    assert_eq!(ask_rpc(&old, &member).await.unwrap().status, 200);

    let next = Authority::new(&place.path("next")).unwrap();
    let new = next.issue("client", &[CLIENT], InForce::Always).unwrap();
    fs::rename(next.file(), place.clients.file()).unwrap();
    let new = http(&place.files(Some(new)));
    let begun = Instant::now();
    while ask_rpc(&new, &member).await.is_err() {
        assert!(begun.elapsed() < LONG, "the new authority's client does not get in");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The connection that is there goes on; a new one of the same client, which remembers its session, does not begin.
    assert_eq!(ask_rpc(&old, &member).await.unwrap().status, 200);
    assert_refused(ask_rpc(&http(&files), &member).await, "does not trust the authority");

    // A client's own files are read anew as well.
    let shown = place.path("shown");
    let mine = Identity { certificate: shown.with_extension("pem"), key: shown.with_extension("key") };
    let stale = place.client(CLIENT, InForce::Always);
    fs::rename(&stale.certificate, &mine.certificate).unwrap();
    fs::rename(&stale.key, &mine.key).unwrap();
    let caller = http(&place.files(Some(mine.clone())));
    assert_refused(ask_rpc(&caller, &member).await, "does not trust the authority");
    replace(&mine, &next.issue("again", &[CLIENT], InForce::Always).unwrap());
    let begun = Instant::now();
    while ask_rpc(&caller, &member).await.is_err() {
        assert!(begun.elapsed() < LONG, "the replaced client certificate is not shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
