use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use das_common::data_hash::DataHash;
use serde_json::{Value, json};

use super::*;

/// What a server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// One bit of every read is another.
    WrongReads,
    /// Every third store fails.
    FailsStores,
}

#[derive(Debug, Default)]
struct State {
    batches: HashMap<String, Vec<u8>>,
    pending: HashMap<u64, Vec<Vec<u8>>>,
    requests: u64,
}

/// A member as far as the generator can see: it stores, refuses what `accepts` does not hold, and serves.
fn fake_member(fault: Fault, accepts: bool) -> (String, Arc<Mutex<State>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let state = Arc::new(Mutex::new(State::default()));
    let shared = state.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let state = shared.clone();
            std::thread::spawn(move || serve(stream, &state, fault, accepts));
        }
    });
    (url, state)
}

fn serve(stream: TcpStream, state: &Mutex<State>, fault: Fault, accepts: bool) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let (mut length, mut line) = (0, String::new());
        while stream.read_line(&mut line).unwrap() > 2 {
            if let Some(n) = line.strip_prefix("Content-Length: ") {
                length = n.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let state = &mut *state.lock().unwrap();
        state.requests += 1;
        let (status, answer) = match first.strip_prefix("GET /get-by-hash/") {
            Some(path) => read(state, path.split(' ').next().unwrap(), fault),
            None => (200, call(state, &serde_json::from_slice(&body).unwrap(), fault, accepts).to_string()),
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.get_mut().write_all((head + &answer).as_bytes()).unwrap();
    }
}

fn read(state: &State, hash: &str, fault: Fault) -> (u16, String) {
    let Some(batch) = state.batches.get(hash) else { return (404, String::new()) };
    let mut batch = batch.clone();
    if fault == Fault::WrongReads {
        batch[0] ^= 1;
    }
    (200, format!(r#"{{"data":"{}"}}"#, base64_simd::STANDARD.encode_to_string(batch)))
}

fn call(state: &mut State, request: &Value, fault: Fault, accepts: bool) -> Value {
    let bytes = |i: usize| const_hex::decode(request["params"][i].as_str().unwrap()).unwrap();
    let number = |i: usize| {
        let text = request["params"][i].as_str().unwrap();
        u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
    };
    if !accepts {
        return json!({"error": {"code": -32000, "message": "request not properly signed"}});
    }
    if fault == Fault::FailsStores && state.requests.is_multiple_of(3) {
        return json!({"error": {"code": -32000, "message": "disk full"}});
    }
    let batch = match request["method"].as_str().unwrap() {
        "das_store" => bytes(0),
        "das_startChunkedStore" => {
            let id = state.requests;
            assert_eq!(number(1), number(3).div_ceil(number(2)), "{request}");
            state.pending.insert(id, vec![Vec::new(); number(1) as usize]);
            return json!({"result": {"BatchId": format!("{id:#x}")}});
        }
        "das_sendChunk" => {
            state.pending.get_mut(&number(0)).unwrap()[number(1) as usize] = bytes(2);
            return json!({"result": null});
        }
        "das_commitChunkedStore" => state.pending.remove(&number(0)).unwrap().concat(),
        other => panic!("{other}"),
    };
    let hash = DataHash::of(&batch).to_string();
    state.batches.insert(hash.clone(), batch);
    json!({"result": {"dataHash": format!("0x{hash}")}})
}

fn load(mode: Mode, url: &str) -> Load {
    Load {
        mode,
        size: 5000,
        clients: 3,
        bounds: Bounds { operations: Some(40), ..Bounds::default() },
        rpc: vec![url.to_owned()],
        rest: vec![url.to_owned()],
        key: Arc::new(StoreKey::generate()),
        chunk_size: 1024,
        set: 0,
        processes: Vec::new(),
        data_dir: None,
        // Several rounds.
        round_bytes: 15 * 10_512,
        seed: 7,
    }
}

#[test]
fn every_mode_does_as_many_operations_as_asked_and_finds_them_right() {
    for mode in [Mode::Store, Mode::Chunked, Mode::Read, Mode::ReadHot, Mode::Mixed] {
        let (url, state) = fake_member(Fault::None, true);
        let report = run(&load(mode, &url), |_| {}).unwrap();
        assert_eq!((report.ops, report.errors, report.bytes), (40, 0, 40 * 5000), "{report}");
        let stored = state.lock().unwrap().batches.len();
        let expected = match mode {
            Mode::ReadHot => 8,
            Mode::Mixed => 21,
            _ => 40,
        };
        assert_eq!(stored, expected, "{mode:?}");
    }
    let (url, state) = fake_member(Fault::None, false);
    let report = run(&load(Mode::Refused, &url), |_| {}).unwrap();
    assert_eq!((report.ops, report.errors), (40, 0), "{report}");
    assert!(state.lock().unwrap().batches.is_empty());
}

#[test]
fn wrong_answers_are_errors_with_their_reason() {
    let (url, _) = fake_member(Fault::WrongReads, true);
    let report = run(&load(Mode::Read, &url), |_| {}).unwrap();
    // The hash is computed for one read in sixteen; these all have a wrong bit.
    assert_eq!(report.errors, 40_u64.div_ceil(16), "{report}");

    let (url, _) = fake_member(Fault::FailsStores, true);
    let report = run(&load(Mode::Store, &url), |_| {}).unwrap();
    assert_eq!((report.ops, report.errors), (27, 13), "{report}");
    assert!(report.error_texts.keys().all(|text| text.contains("disk full")), "{report}");

    let (url, _) = fake_member(Fault::None, true);
    let report = run(&load(Mode::Refused, &url), |_| {}).unwrap();
    assert_eq!((report.ops, report.errors), (0, 40), "what should be refused was stored: {report}");
}

#[test]
fn a_run_without_an_end_or_a_target_is_refused() {
    let unbounded = Load { bounds: Bounds::default(), ..load(Mode::Store, "http://127.0.0.1:1") };
    assert!(matches!(run(&unbounded, |_| {}), Err(LoadError::NoBound)));
    let aimless = Load { rest: Vec::new(), ..load(Mode::Read, "http://127.0.0.1:1") };
    assert!(matches!(run(&aimless, |_| {}), Err(LoadError::NoTarget { .. })));
    let dead = run(&load(Mode::Read, "http://127.0.0.1:1"), |_| {});
    assert!(matches!(dead, Err(LoadError::Preparation { .. })), "{dead:?}");
}

#[test]
fn equal_seeds_give_equal_batches_and_no_two_are_the_same() {
    let key = Arc::new(StoreKey::generate());
    let (mut a, mut b) = (bodies::BodyMaker::new(key.clone(), 3), bodies::BodyMaker::new(key, 3));
    let first: Vec<_> = (0..300).map(|_| a.batch(1)).collect();
    assert!((0..300).all(|i| b.batch(1) == first[i]));
    let mut distinct: Vec<_> = (0..300).map(|_| a.batch(2)).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 300);
}
