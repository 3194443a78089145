//! The rules one by one, then all of them against an oracle that keeps everything and looks at all of it each time.

use proptest::prelude::*;

use super::*;

fn at(second: u64) -> Moment {
    static BIRTH: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    Moment { unix: 1_000_000 + second, monotonic: *BIRTH + Duration::from_secs(second) }
}

fn start(second: u64, n_chunks: u64, chunk_size: u64, total_size: u64) -> Start {
    Start { timestamp: 1_000_000 + second, n_chunks, chunk_size, total_size, timeout: 7 }
}

fn stores(bounds: Bounds) -> PendingStores {
    let mut next = 0;
    PendingStores::with_ids(bounds, move || {
        next += 1;
        next
    })
}

fn mark(number: u64) -> [[u8; 32]; 1] {
    let mut mark = [0; 32];
    mark[..8].copy_from_slice(&number.to_be_bytes());
    [mark]
}

fn letters(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn out_of_order() {
    let mut stores = stores(Bounds::default());
    let id = stores.start(at(0), start(0, 3, 4, 9), &mark(1)).unwrap();
    for (chunk, data) in [(2, "i"), (0, "abcd"), (2, "i"), (1, "efgh")] {
        stores.chunk(at(1), id, chunk, letters(data)).unwrap();
    }
    let complete = stores.commit(at(1), id).unwrap();
    assert_eq!(complete.timeout, 7);
    assert_eq!(complete.into_message(), "abcdefghi");
    assert_eq!(stores.commit(at(1), id).unwrap_err(), ChunkedError::Unknown { id });
    assert_eq!(stores.pending_bytes(), 0);
}

#[test]
fn one_chunk_is_not_copied() {
    let mut stores = stores(Bounds::default());
    let id = stores.start(at(0), start(0, 1, 1000, 4), &mark(1)).unwrap();
    let data = letters("abcd");
    stores.chunk(at(0), id, 0, data.clone()).unwrap();
    assert_eq!(stores.commit(at(0), id).unwrap().into_message().as_ptr(), data.as_ptr());
}

#[test]
fn promises_are_checked_before_anything_is_kept() {
    let bounds = Bounds { max_message: 100, max_pending_bytes: 150, max_chunks: 10, ..Bounds::default() };
    let mut stores = stores(bounds);
    let refusals = [
        (start(0, 0, 5, 5), "can't start collecting new message: neither number"),
        (start(0, 1, 0, 5), "can't start collecting new message: neither number"),
        (start(0, 1, 5, 0), "can't start collecting new message: neither number"),
        (start(0, 1 << 20, 1 << 22, 1 << 22), "can't start collecting new message: neither number"),
        (start(0, 3, 5, 10), "3 chunks of 5 bytes do not make 10 bytes"),
        (start(0, 1, 5, 12), "1 chunks of 5 bytes do not make 12 bytes"),
        (start(0, u64::MAX, u64::MAX, u64::MAX), "do not make"),
        (start(0, 1_000_000, 1_000_000, 1_000_000_000_000), "message too large for current DA backend"),
        (start(0, 1, u64::MAX, u64::MAX), "message too large for current DA backend"),
        (start(0, 11, 1, 11), "message too large for current DA backend"),
    ];
    for (number, (refused, text)) in refusals.into_iter().enumerate() {
        let error = stores.start(at(0), refused, &mark(number as u64)).unwrap_err();
        assert!(error.to_string().contains(text), "{refused:?}: {error}");
    }
    assert!(stores.remembered.is_empty(), "a refused start may come again");
    stores.start(at(0), start(0, 1, 100, 100), &mark(0)).unwrap();
    assert_eq!(
        stores.start(at(0), start(0, 1, 51, 51), &mark(1)).unwrap_err(),
        ChunkedError::TooManyBytesPending { pending_bytes: 100 }
    );
    stores.start(at(0), start(0, 1, 50, 50), &mark(1)).unwrap();
}

#[test]
fn replays_are_refused_for_as_long_as_their_time_would_let_them_in() {
    let mut stores = stores(Bounds::default());
    let id = stores.start(at(300), start(300, 1, 5, 5), &mark(1)).unwrap();
    assert_eq!(stores.start(at(300), start(300, 1, 6, 6), &mark(1)), Err(ChunkedError::Replayed));
    stores.commit(at(301), id).unwrap_err();
    assert_eq!(stores.start(at(600), start(300, 1, 5, 5), &mark(1)), Err(ChunkedError::Replayed));
    assert_eq!(stores.start(at(601), start(300, 1, 5, 5), &mark(1)), Err(ChunkedError::TooMuchTime));
    assert_eq!(stores.start(at(0), start(301, 1, 5, 5), &mark(2)), Err(ChunkedError::TooMuchTime));
    stores.start(at(601), start(601, 1, 5, 5), &mark(3)).unwrap();
    assert_eq!(stores.remembered.len(), 1, "what is too old to come again is forgotten");
}

#[test]
fn a_start_that_found_no_room_may_come_again() {
    let mut stores = stores(Bounds { max_pending: 1, ..Bounds::default() });
    let id = stores.start(at(0), start(0, 1, 5, 5), &mark(1)).unwrap();
    for _ in 0..2 {
        let error = stores.start(at(0), start(0, 1, 5, 5), &mark(2)).unwrap_err();
        assert_eq!(error.to_string(), "can't start collecting new message: already 1 pending");
    }
    stores.commit(at(0), id).unwrap_err();
    stores.start(at(0), start(0, 1, 5, 5), &mark(2)).unwrap();
}

#[test]
fn idle_messages_are_dropped() {
    let mut stores = stores(Bounds { max_pending: 1, ..Bounds::default() });
    let id = stores.start(at(0), start(0, 2, 1, 2), &mark(1)).unwrap();
    stores.chunk(at(59), id, 0, letters("a")).unwrap();
    stores.start(at(118), start(118, 1, 5, 5), &mark(2)).unwrap_err();
    stores.start(at(119), start(119, 1, 5, 5), &mark(2)).unwrap();
    assert_eq!(stores.chunk(at(119), id, 1, letters("b")), Err(ChunkedError::Unknown { id }));
    assert_eq!(stores.pending_bytes(), 5);
}

#[test]
fn a_committed_message_counts_until_it_is_done_with() {
    let mut stores = stores(Bounds { max_pending_bytes: 8, ..Bounds::default() });
    let commit = |stores: &mut PendingStores, number: u64, n_chunks: u64| {
        let id = stores.start(at(0), start(0, n_chunks, 5 / n_chunks, 5), &mark(number))?;
        let parts: &[&'static str] = if n_chunks == 1 { &["hello"] } else { &["h", "e", "l", "l", "o"] };
        for (chunk, part) in parts.iter().enumerate() {
            stores.chunk(at(0), id, chunk as u64, letters(part)).unwrap();
        }
        stores.commit(at(0), id)
    };
    for n_chunks in [1, 5] {
        let base = n_chunks * 10;
        let refused = ChunkedError::TooManyBytesPending { pending_bytes: 5 };

        let complete = commit(&mut stores, base, n_chunks).unwrap();
        assert_eq!(commit(&mut stores, base + 1, n_chunks).unwrap_err(), refused);
        let message = complete.into_message();
        let queued = message.slice(1..);
        drop(message);
        assert_eq!(commit(&mut stores, base + 1, n_chunks).unwrap_err(), refused, "a part of it still waits");
        assert_eq!(queued, "ello");
        drop(queued);

        let (message, reserved) = commit(&mut stores, base + 1, n_chunks).unwrap().into_parts();
        assert_eq!(commit(&mut stores, base + 2, n_chunks).unwrap_err(), refused);
        drop(reserved);
        let last = commit(&mut stores, base + 2, n_chunks).unwrap();
        assert_eq!((message, stores.pending_bytes()), (letters("hello"), 5));
        drop(last);
        assert_eq!(stores.pending_bytes(), 0);
    }
}

/// What a test does. Numbers are small so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Start { age: i64, n_chunks: u64, chunk_size: u64, total_size: u64, mark: u64 },
    Chunk { id: u64, chunk: u64, data: Vec<u8> },
    Commit { id: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => prop_oneof![0_u64..70, 250_u64..350].prop_map(Step::Wait),
        3 => (-310_i64..310, 0_u64..4, 0_u64..4, 0_u64..9, 0_u64..12).prop_map(
            |(age, n_chunks, chunk_size, total_size, mark)| Step::Start { age, n_chunks, chunk_size, total_size, mark }
        ),
        3 => (1_u64..4, 1_u64..4, 0_u64..12).prop_map(|(n_chunks, chunk_size, mark)| Step::Start {
            age: 0,
            n_chunks,
            chunk_size,
            total_size: n_chunks * chunk_size,
            mark
        }),
        12 => (0_u64..8, 0_u64..4, proptest::collection::vec(0_u8..2, 0..4))
            .prop_map(|(id, chunk, data)| Step::Chunk { id, chunk, data }),
        3 => (0_u64..8).prop_map(|id| Step::Commit { id }),
    ];
    proptest::collection::vec(step, 1..80)
}

/// Remembers every start and every chunk for ever.
#[derive(Default)]
struct Oracle {
    starts: Vec<(Start, bool)>,
    accepted_marks: Vec<u64>,
    chunks: Vec<(usize, u64, Vec<u8>)>,
    heard: Vec<u64>,
}

impl Oracle {
    fn alive(&self, index: usize, now: u64) -> bool {
        self.starts.get(index).is_some_and(|(_, ended)| !ended) && now - self.heard[index] < 60
    }

    fn start(&mut self, now: u64, start: Start, mark: u64, bounds: &Bounds) -> Result<u64, String> {
        let pending: Vec<usize> = (0..self.starts.len()).filter(|&index| self.alive(index, now)).collect();
        let bytes: u64 = pending.iter().map(|&index| self.starts[index].0.total_size).sum();
        let (n, size, total) = (start.n_chunks, start.chunk_size, start.total_size);
        if (start.timestamp as i128 - i128::from(now) - 1_000_000).abs() > 300 {
            Err(texts::TOO_MUCH_TIME.to_owned())
        } else if self.accepted_marks.contains(&mark) {
            Err(texts::REPLAYED.to_owned())
        } else if n * size == 0 || total == 0 {
            Err("can't start collecting new message: neither number of chunks, total size or chunk size can be zero"
                .to_owned())
        } else if total > n * size || total <= (n - 1) * size {
            Err(format!(
                "can't start collecting new message: {n} chunks of {size} bytes do not make {total} bytes"
            ))
        } else if pending.len() == bounds.max_pending {
            Err(format!("can't start collecting new message: already {} pending", pending.len()))
        } else if bytes + total > bounds.max_pending_bytes {
            Err(format!("can't start collecting new message: already {bytes} bytes pending"))
        } else {
            self.starts.push((start, false));
            self.heard.push(now);
            self.accepted_marks.push(mark);
            Ok(self.starts.len() as u64)
        }
    }

    fn chunk(&mut self, now: u64, id: u64, chunk: u64, data: &[u8]) -> Result<(), String> {
        let index = (id as usize).wrapping_sub(1);
        if !self.alive(index, now) {
            return Err(format!("unknown message({id})"));
        }
        let start = self.starts[index].0;
        if chunk >= start.n_chunks {
            return Err(format!(
                "message({id}): chunk({chunk}) out of range - expected {} chunks",
                start.n_chunks
            ));
        }
        if let Some((_, _, earlier)) =
            self.chunks.iter().find(|(of, number, _)| (*of, *number) == (index, chunk))
        {
            if earlier != data {
                self.starts[index].1 = true;
                return Err(texts::DIFFERENT_CHUNK.to_owned());
            }
        } else {
            let end = ((chunk + 1) * start.chunk_size).min(start.total_size);
            let expected = end - chunk * start.chunk_size;
            if data.len() as u64 != expected {
                return Err(format!(
                    "message({id}): chunk({chunk}) has incorrect size ({} bytes) - expecting {expected} bytes",
                    data.len()
                ));
            }
            self.chunks.push((index, chunk, data.to_vec()));
        }
        self.heard[index] = now;
        Ok(())
    }

    fn commit(&mut self, now: u64, id: u64) -> Result<Vec<u8>, String> {
        let index = (id as usize).wrapping_sub(1);
        if !self.alive(index, now) {
            return Err(format!("unknown message({id})"));
        }
        self.starts[index].1 = true;
        let mut chunks: Vec<_> = self.chunks.iter().filter(|(of, _, _)| *of == index).collect();
        chunks.sort_by_key(|(_, number, _)| *number);
        let expected = self.starts[index].0.n_chunks;
        if chunks.len() as u64 != expected {
            return Err(format!("incomplete message({id}): got {}/{expected} chunks", chunks.len()));
        }
        Ok(chunks.iter().flat_map(|(_, _, data)| data.clone()).collect())
    }
}

proptest! {
    #[test]
    fn behaves_like_the_oracle(steps in steps()) {
        let bounds = Bounds { max_pending: 3, max_pending_bytes: 12, ..Bounds::default() };
        let mut stores = stores(bounds);
        let mut oracle = Oracle::default();
        let mut now = 400;
        for step in steps {
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Start { age, n_chunks, chunk_size, total_size, mark: number } => {
                    let announced = Start {
                        timestamp: (1_000_000 + now).saturating_add_signed(age),
                        n_chunks,
                        chunk_size,
                        total_size,
                        timeout: 7,
                    };
                    // A mark covers the time, as a signed digest does.
                    let number = number << 32 | announced.timestamp;
                    prop_assert_eq!(
                        stores.start(at(now), announced, &mark(number)).map_err(|error| error.to_string()),
                        oracle.start(now, announced, number, &bounds)
                    );
                }
                Step::Chunk { id, chunk, data } => prop_assert_eq!(
                    stores.chunk(at(now), id, chunk, data.clone().into()).map_err(|error| error.to_string()),
                    oracle.chunk(now, id, chunk, &data)
                ),
                Step::Commit { id } => prop_assert_eq!(
                    stores.commit(at(now), id).map(Complete::into_message).map_err(|error| error.to_string()),
                    oracle.commit(now, id).map(Bytes::from)
                ),
            }
            let announced: u64 = stores.pending.values().map(|pending| pending.start.total_size).sum();
            prop_assert_eq!(stores.pending_bytes(), announced);
        }
    }
}
