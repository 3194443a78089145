use std::fs;
use std::io::Write;

use das_common::bls::SecretKey;
use das_common::data_hash::DataHash;
use das_common::signer::Message;
use futures::executor::block_on;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::wire::Signed;

fn secret() -> SecretKey {
    SecretKey::from_bytes(&[4; 32]).unwrap()
}

fn open(path: &std::path::Path) -> Result<AuditLog, AuditError> {
    // The thread of the log before ends when it likes; until then it holds the lock.
    loop {
        match AuditLog::open(path.to_path_buf(), &secret().public_key(), "1") {
            Err(AuditError::Held { .. }) => std::thread::yield_now(),
            other => return other,
        }
    }
}

fn sign(log: &AuditLog, timeout: u64) {
    let message = Message::certificate(DataHash::from_bytes([1; 32]), timeout).unwrap();
    let signature = Signed::from(&message.sign(&secret())).signature;
    block_on(log.signed("alice".into(), Request::from(&message), signature)).unwrap();
}

#[test]
fn a_log_goes_on_after_a_restart_and_after_every_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = open(&path).unwrap();
    (1..=3).for_each(|timeout| sign(&log, timeout));
    assert!(matches!(
        AuditLog::open(path.clone(), &secret().public_key(), "1"),
        Err(AuditError::Held { .. })
    ));
    drop(log);
    let log = open(&path).unwrap();
    assert_eq!((log.opened().records, log.opened().torn), (4, None));
    let head = log.opened().head.clone();
    sign(&log, 4);
    drop(log);
    let whole = verify(&path, "").unwrap().summary;
    assert_eq!((whole.records, whole.signatures, whole.repaired), (6, 4, 0));
    assert!(verify(&path, &head).unwrap().has_head && !verify(&path, &"0".repeat(64)).unwrap().has_head);

    // Cut at every byte of the last two lines, then gone on with.
    let text = fs::read(&path).unwrap();
    let ends: Vec<usize> = (0..text.len()).filter(|i| text[*i] == b'\n').map(|i| i + 1).collect();
    for cut in ends[3]..text.len() {
        let other = folder.path().join(format!("cut-{cut}"));
        fs::write(&other, &text[..cut]).unwrap();
        let at_end = ends.contains(&cut);
        let left = cut - ends.iter().filter(|end| **end <= cut).max().unwrap();
        assert_eq!(
            verify(&other, "").unwrap().summary.torn.map(|torn| torn.bytes),
            (!at_end).then_some(left as u64)
        );
        let log = open(&other).unwrap();
        assert_eq!(log.opened().torn.is_some(), !at_end);
        sign(&log, 5);
        drop(log);
        let found = verify(&other, "").unwrap().summary;
        assert_eq!((found.repaired, found.torn), (u64::from(!at_end), None), "cut at {cut}");
        assert!(fs::read(&other).unwrap().starts_with(&text[..cut]), "only ever appended to");
    }
    let other = SecretKey::from_bytes(&[5]).unwrap().public_key();
    assert!(matches!(AuditLog::open(path.clone(), &other, "1"), Err(AuditError::OtherKey { .. })));
}

#[test]
fn every_change_before_the_end_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = open(&path).unwrap();
    (1..=6).for_each(|timeout| sign(&log, timeout));
    drop(log);
    let text = fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let changed = folder.path().join("changed");
    let damaged = |bytes: &[u8], what: &str| {
        fs::write(&changed, bytes).unwrap();
        let found = verify(&changed, "");
        assert!(matches!(&found, Err(AuditError::Damaged { .. })), "{what}: {found:?}");
        assert!(matches!(open(&changed), Err(AuditError::Damaged { .. })), "{what}: gone on with");
    };
    for (i, _) in lines.iter().enumerate().take(lines.len() - 1) {
        let without: Vec<u8> =
            lines.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, line)| line.to_vec()).collect();
        damaged(&without, &format!("line {i} left out"));
        let mut swapped = lines.clone();
        swapped.swap(i, i + 1);
        damaged(&swapped.concat(), &format!("line {i} moved"));
    }
    let seed = std::env::var("DAS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("DAS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // Without the last line end before it, the last line is one that was cut short.
    let end = text.len() - lines.last().unwrap().len() - 1;
    for _ in 0..300 {
        let mut flipped = text.clone();
        let place = random.random_range(0..end);
        // A changed line end makes one line of two, which is no record: damage, as what follows it is one.
        flipped[place] ^= 1 << random.random_range(0..8);
        damaged(&flipped, &format!("bit of byte {place}"));
    }
    // A signature of something else, with the chain made anew.
    let forged = folder.path().join("forged");
    let log = open(&forged).unwrap();
    let message = Message::certificate(DataHash::from_bytes([1; 32]), 9).unwrap();
    let other = Message::certificate(DataHash::from_bytes([1; 32]), 10).unwrap();
    let signature = Signed::from(&other.sign(&secret())).signature;
    block_on(log.signed("alice".into(), Request::from(&message), signature)).unwrap();
    drop(log);
    assert!(matches!(verify(&forged, ""), Err(AuditError::Damaged { line: 2, .. })));
    // What a power cut leaves may be anything but a record.
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&[0; 4096]).unwrap();
    file.write_all(b"\nx\n").unwrap();
    sign(&open(&path).unwrap(), 7);
    assert_eq!(verify(&path, "").unwrap().summary.repaired, 1);
}
