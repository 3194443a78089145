//! The state machine of custody, the very one that the node runs, under every kind of fault, by the thousand.
//!
//! A schedule is drawn from a seed: members crash (what was not synced is lost), lose their disks, are rolled back to old
//! snapshots, lie, withhold, fall silent, their clocks drift and jump, the committee changes; messages are lost, late,
//! doubled, out of order. At most n - H members are faulty at a time. At every step that could lose something it is checked
//! that nothing can be lost; in the end the faults stop, and everybody has to get well.
//!
//! `DAS_SCHEDULES` says how many schedules are run, `DAS_SEED` runs one again and tells what happens in it.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::needless_pass_by_value)]

#[path = "custody_simulation/cases.rs"]
mod cases;
#[path = "custody_simulation/checks.rs"]
mod checks;
#[path = "custody_simulation/disk.rs"]
mod disk;
#[path = "custody_simulation/faults.rs"]
mod faults;
#[path = "custody_simulation/rng.rs"]
mod rng;
#[path = "custody_simulation/world.rs"]
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use das_common::custody::machine::Mutant;

use world::{Reached, World};

/// Enough to notice most mistakes in a few seconds; the full run has 100 000.
const SCHEDULES: u64 = 2000;
/// A mutant is caught within so many schedules.
const MUTANT_SCHEDULES: u64 = 20_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[derive(Debug, Default)]
struct Totals {
    schedules: u64,
    steps: u64,
    reached: Vec<(&'static str, u64)>,
}

impl Totals {
    fn add(&mut self, reached: &Reached) {
        let all = [
            ("a drop", reached.drops),
            ("an extension", reached.extensions),
            ("a wipe", reached.wipes),
            ("a roll-back", reached.roll_backs),
            ("a committee change", reached.changes),
            ("a lie", reached.lies),
            ("a gather", reached.gathers),
            ("a deletion", reached.expired),
            ("a power cut", reached.crashes),
            ("a clock that jumped", reached.jumps),
        ];
        if self.reached.is_empty() {
            self.reached = all.iter().map(|(name, _)| (*name, 0)).collect();
        }
        for (total, (_, count)) in self.reached.iter_mut().zip(all) {
            total.1 += u64::from(count > 0);
        }
        self.schedules += 1;
        self.steps += reached.steps;
    }
}

/// Runs schedules until one fails. The failing seed and what was violated.
fn run(first: u64, count: u64, mutant: Option<Mutant>) -> (Totals, Option<(u64, String)>) {
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    let failure: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failure.lock().unwrap().is_none() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let seed = first.wrapping_add(index);
                    let mut world = World::new(seed, mutant);
                    world.run();
                    totals.lock().unwrap().add(&world.reached);
                    if let Some(violation) = world.violation {
                        *failure.lock().unwrap() = Some((seed, violation));
                    }
                }
            });
        }
    });
    (totals.into_inner().unwrap(), failure.into_inner().unwrap())
}

#[test]
fn nothing_is_lost_and_everybody_gets_well() {
    if let Some(seed) = number("DAS_SEED") {
        let mut world = World::new(seed, None);
        world.trace = true;
        world.run();
        assert_eq!(world.violation, None);
        return;
    }
    let first = number("DAS_FIRST_SEED").unwrap_or(1);
    let count = number("DAS_SCHEDULES").unwrap_or(SCHEDULES);
    let began = Instant::now();
    let (totals, failure) = run(first, count, None);
    println!(
        "{} schedules from seed {first}, {} steps, {:?}",
        totals.schedules,
        totals.steps,
        began.elapsed()
    );
    for (name, reached) in &totals.reached {
        println!("{reached:>8} reached {name}");
    }
    if let Some((seed, violation)) = failure {
        panic!("DAS_SEED={seed} shows it again: {violation}");
    }
    if count >= SCHEDULES {
        assert!(totals.reached.iter().all(|(_, reached)| *reached > count / 50), "{totals:?}");
    }
}

#[test]
fn every_mutant_is_caught() {
    for mutant in [
        Mutant::DropsEarly,
        Mutant::IgnoresUntil,
        Mutant::IgnoresStorageId,
        Mutant::IgnoresRollBack,
        Mutant::MixesCodings,
        Mutant::CountsTwice,
        Mutant::StatesUnsynced,
    ] {
        let (totals, failure) = run(1, MUTANT_SCHEDULES, Some(mutant));
        let Some((seed, violation)) = failure else { panic!("{mutant:?} was not noticed") };
        println!("{mutant:?}: noticed within {} schedules, seed {seed}: {violation}", totals.schedules);
    }
}
