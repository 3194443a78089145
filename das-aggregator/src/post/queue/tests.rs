//! The queue against a map that forgets nothing, through crashes.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::post::entry::{Attempt, Block};
use crate::post::fees::Fees;

fn place() -> Place {
    Place { chain_id: 1, inbox: [1; 20] }
}

const BOUNDS: Bounds = Bounds { batches: 6, bytes: 200 };

fn request(number: u64, length: usize) -> PostRequest {
    let message = Bytes::from(vec![number as u8; length.max(1)]);
    PostRequest { message, timeout: number, after_delayed: 0, prev_count: 0, new_count: 0 }
}

fn push(queue: &Queue, request: &PostRequest) -> Result<(Record, bool), QueueError> {
    let digest = request.digest(1, &[1; 20]);
    queue.push(request, &digest, &DataHash::of(&request.message), 7, BOUNDS)
}

fn attempt(number: u8) -> Attempt {
    let fees = Fees { max: 2, tip: 1 };
    Attempt { tx: [number; 32], raw: vec![number], fees, sequence: number.into(), made: 5, sent: 5, until: 9 }
}

#[derive(Debug, Clone)]
enum Act {
    Push(u64, usize),
    Submit(usize, u8),
    Include(usize),
    Finalize(usize),
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0_u64..12, 0_usize..60).prop_map(|(number, length)| Act::Push(number, length)),
        2 => (0_usize..8, any::<u8>()).prop_map(|(place, number)| Act::Submit(place, number)),
        2 => (0_usize..8).prop_map(Act::Include),
        2 => (0_usize..8).prop_map(Act::Finalize),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_was_written_and_nothing_twice(acts in prop::collection::vec(act(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(dir.path(), &place()).unwrap();
        let mut all: Vec<(Record, Bytes)> = Vec::new();
        let mut ids: HashMap<Vec<u8>, u64> = HashMap::new();
        let mut least = 0;
        for act in acts {
            let active: Vec<usize> =
                (0..all.len()).filter(|place| !all[*place].0.is_final()).collect();
            let nth = |place: usize| active.get(place % active.len().max(1)).copied();
            match act {
                Act::Push(number, length) => {
                    let request = request(number, length);
                    let name = request.digest(1, &[1; 20]).as_bytes().to_vec();
                    let bytes: u64 = active.iter().map(|place| all[*place].0.length).sum();
                    let fits = active.len() < BOUNDS.batches
                        && bytes + request.message.len() as u64 <= BOUNDS.bytes;
                    match push(&queue, &request) {
                        Ok((record, false)) => {
                            prop_assert_eq!(ids.get(&name), Some(&record.entry.id));
                            prop_assert_eq!(&all[record.entry.id as usize].0, &record);
                        }
                        Ok((record, true)) => {
                            prop_assert!(fits && !ids.contains_key(&name));
                            prop_assert_eq!(record.entry.id as usize, all.len());
                            ids.insert(name, record.entry.id);
                            all.push((record, request.message));
                        }
                        Err(QueueError::Request(RequestError::Full { .. })) => {
                            prop_assert!(!fits && !ids.contains_key(&name));
                        }
                        Err(error) => return Err(TestCaseError::fail(error.to_string())),
                    }
                }
                Act::Submit(place, number) => if let Some(place) = nth(place) {
                    let change = |record: &mut Record| {
                        if matches!(record.entry.stage, Stage::Waiting | Stage::Submitted { .. }) {
                            record.entry.certify(9);
                            record.entry.submitted(place as u64, attempt(number));
                        }
                    };
                    change(&mut all[place].0);
                    let got = queue.update(place as u64, change).unwrap();
                    prop_assert_eq!(got.as_ref(), Some(&all[place].0));
                },
                Act::Include(place) => if let Some(place) = nth(place) {
                    let change = |record: &mut Record| {
                        if let Stage::Submitted { attempts, .. } = &record.entry.stage {
                            let tx = attempts[0].tx;
                            record.entry.included(tx, Block { number: 3, hash: [3; 32] });
                        }
                    };
                    change(&mut all[place].0);
                    queue.update(place as u64, change).unwrap();
                },
                Act::Finalize(place) => if let Some(place) = nth(place) {
                    let change = |record: &mut Record| record.entry.finalized();
                    change(&mut all[place].0);
                    queue.update(place as u64, change).unwrap();
                    if let Stage::Final { sequence, .. } = all[place].0.entry.stage {
                        least = least.max(sequence + 1);
                    }
                },
                Act::Reopen => {
                    drop(queue);
                    queue = Queue::open(dir.path(), &place()).unwrap();
                }
            }
            let expected: Vec<Record> =
                all.iter().filter(|(record, _)| !record.is_final()).map(|(record, _)| record.clone()).collect();
            prop_assert_eq!(queue.active(), expected);
            prop_assert_eq!(queue.least_batches(), least);
            for (record, payload) in &all {
                prop_assert_eq!(queue.record(record.entry.id).unwrap(), Some(record.clone()));
                let kept = (!record.is_final()).then(|| payload.clone());
                prop_assert_eq!(queue.payload(record.entry.id).unwrap(), kept);
            }
        }
        prop_assert_eq!(queue.record(all.len() as u64).unwrap(), None);
    }
}

#[test]
fn batches_follow_each_other_and_the_queue_has_one_owner_and_one_place() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), &place()).unwrap();
    let with = |prev_count, new_count, after_delayed| PostRequest {
        prev_count,
        new_count,
        after_delayed,
        ..request(new_count, 1)
    };
    push(&queue, &with(1, 5, 2)).unwrap();
    let gap = push(&queue, &with(6, 7, 2)).unwrap_err();
    assert!(matches!(gap, QueueError::Request(RequestError::Gap { got: 6, expected: 5 })), "{gap}");
    let delayed = push(&queue, &with(5, 7, 1)).unwrap_err();
    assert!(matches!(delayed, QueueError::Request(RequestError::Delayed { got: 1, expected: 2 })));
    let mut changes = queue.changes();
    push(&queue, &with(5, 7, 2)).unwrap();
    assert_eq!(changes.try_recv().unwrap().new_count, 7);

    let second = Queue::open(dir.path(), &place()).err().unwrap();
    assert!(matches!(second, QueueError::Locked { .. }), "{second}");
    drop(queue);
    let elsewhere = Queue::open(dir.path(), &Place { chain_id: 2, ..place() }).err().unwrap();
    assert!(elsewhere.to_string().contains("on chain 1"), "{elsewhere}");
}
