//! Arbitrary and mutated valid inputs to every parser of das-common: none panics, none uses memory out of proportion.
//!
//! The parsers, what each must promise and their valid inputs are in `fuzz/src`, which the fuzz targets share. A failure
//! prints the smallest input found. Each parser says how many inputs it can afford; with `DAS_LONG` (`scripts/test long`)
//! it gets fifty times as many.
//!
//! `DAS_FUZZ_CORPUS=DIR` writes the valid inputs there, for the fuzzer to begin from (`scripts/fuzz`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestError, TestRunner};

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, dead_code, reason = "public for the fuzz targets")]
mod parsers;

use parsers::PARSERS;

thread_local! {
    /// Bytes allocated and not freed by this thread, and their peak.
    static LIVE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn account(bytes: isize) {
    // A thread that is ending has no counter any more, and nothing to be counted.
    let _ = LIVE.try_with(|live| {
        let (now, peak) = live.get();
        let now = now + bytes;
        live.set((now, peak.max(now)));
    });
}

/// The system's allocator with a count kept by thread.
struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the counter neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        account(layout.size() as isize);
        // SAFETY: the caller's promises about the layout are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        account(-(layout.size() as isize));
        // SAFETY: the caller's promises about pointer and layout are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that `work` has in use at once, beyond what was in use before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = LIVE.with(|live| {
        let (now, _) = live.get();
        live.set((now, now));
        now
    });
    work();
    LIVE.with(|live| usize::try_from(live.get().1 - before).unwrap_or(0))
}

/// Memory that a parser may use whatever the input: tables, schemas, error texts.
const BASE: usize = 512 * 1024;

/// One change of an input.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Truncate(Index),
    Repeat(Index, usize, usize),
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        let at = |index: &Index| index.index(data.len() + 1);
        match self {
            Self::Set(index, byte) if !data.is_empty() => {
                let at = index.index(data.len());
                data[at] = *byte;
            }
            Self::Flip(index, bit) if !data.is_empty() => {
                let at = index.index(data.len());
                data[at] ^= 1 << (bit % 8);
            }
            Self::Insert(index, bytes) => {
                let at = at(index);
                data.splice(at..at, bytes.iter().copied());
            }
            Self::Remove(index, count) => {
                let at = at(index);
                data.drain(at..(at + count).min(data.len()));
            }
            Self::Truncate(index) => data.truncate(at(index)),
            Self::Repeat(index, count, times) => {
                let at = at(index);
                let piece = data[at..(at + count).min(data.len())].repeat(*times);
                data.splice(at..at, piece);
            }
            Self::Set(..) | Self::Flip(..) => {}
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    // Bytes that mean something in one format or the other, and any others.
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(&b"\x00\x01\x7f\x80\x88\xfe\xff\"\\{}[],:/*.-_ 0xX\n"[..]),
    ];
    let bytes = prop::collection::vec(byte.clone(), 0..12);
    prop_oneof![
        (any::<Index>(), byte).prop_map(|(i, b)| Change::Set(i, b)),
        (any::<Index>(), any::<u8>()).prop_map(|(i, b)| Change::Flip(i, b)),
        (any::<Index>(), bytes).prop_map(|(i, b)| Change::Insert(i, b)),
        (any::<Index>(), 1usize..40).prop_map(|(i, n)| Change::Remove(i, n)),
        any::<Index>().prop_map(Change::Truncate),
        (any::<Index>(), 1usize..200, 1usize..20).prop_map(|(i, n, t)| Change::Repeat(i, n, t)),
    ]
}

/// A valid input with some changes, or anything.
fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let mutated = (prop::sample::select(seeds), prop::collection::vec(change(), 0..6)).prop_map(
        |(mut data, changes)| {
            for change in changes {
                change.apply(&mut data);
            }
            data
        },
    );
    prop_oneof![
        4 => mutated,
        1 => prop::collection::vec(any::<u8>(), 0..400),
        1 => prop::collection::vec(prop::sample::select(&b"[]{}\",:0x1ae\\/ \n.%"[..]), 0..400),
    ]
}

fn multiplier() -> u32 {
    if std::env::var_os("DAS_LONG").is_some() { 50 } else { 1 }
}

#[test]
fn every_parser_takes_anything() {
    for parser in PARSERS {
        let config =
            Config { cases: parser.cases * multiplier(), failure_persistence: None, ..Config::default() };
        let seeds = (parser.seeds)();
        for seed in &seeds {
            (parser.run)(seed);
        }
        let result = TestRunner::new(config).run(&input(seeds), |data| {
            let used = peak_of(|| (parser.run)(&data));
            let allowed = BASE + parser.memory_per_byte * data.len();
            prop_assert!(used <= allowed, "{used} bytes of memory for {} of input", data.len());
            Ok(())
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(reason, data)) => {
                panic!("{}: {reason}\nsmallest input found: b\"{}\"", parser.name, data.escape_ascii())
            }
            Err(TestError::Abort(reason)) => panic!("{}: {reason}", parser.name),
        }
    }
}

#[test]
fn every_parser_has_its_fuzz_target() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let corpus = std::env::var_os("DAS_FUZZ_CORPUS").map(std::path::PathBuf::from);
    for parser in PARSERS {
        let target = std::fs::read_to_string(folder.join(format!("{}.rs", parser.name))).unwrap();
        assert!(target.contains(&format!("run(\"{}\", data)", parser.name)), "{}", parser.name);
        let Some(corpus) = &corpus else { continue };
        std::fs::create_dir_all(corpus.join(parser.name)).unwrap();
        for (i, seed) in (parser.seeds)().iter().enumerate() {
            std::fs::write(corpus.join(parser.name).join(format!("seed-{i}")), seed).unwrap();
        }
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), PARSERS.len(), "a target without a parser");
}

#[test]
fn long_inputs_cost_memory_in_proportion() {
    /// Long enough that anything worse than proportional is seen, short enough for a test.
    const LENGTH: usize = 300_000;
    for parser in PARSERS {
        let mut inputs: Vec<Vec<u8>> = (parser.seeds)();
        // Patterns that make trees, lists and tables grow fastest.
        inputs.extend(
            ["[", "{\"a\":", "[],", "\"\",", "a=1\n", "/", "\\u0000", "0", "LIST a ", "\u{0}"]
                .map(Into::into),
        );
        for pattern in inputs.iter().filter(|pattern| !pattern.is_empty()) {
            let mut data = pattern.repeat(LENGTH / pattern.len());
            for closed in [false, true] {
                if closed {
                    data = [b"[", &data[..], b"0]"].concat();
                }
                let used = peak_of(|| (parser.run)(&data));
                let allowed = BASE + parser.memory_per_byte * data.len();
                assert!(
                    used <= allowed,
                    "{}: {used} bytes of memory for {} of {:?}...",
                    parser.name,
                    data.len(),
                    String::from_utf8_lossy(&pattern[..pattern.len().min(40)])
                );
            }
        }
    }
}
