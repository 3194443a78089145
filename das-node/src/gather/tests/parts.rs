//! The pure parts: the plan, the order of members, the limits.

use std::time::Instant as StdInstant;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::limits::Rate;
use super::super::plan::{Ask, Failed, Plan};
use super::super::speed::Speeds;
use super::*;

const MS: Duration = Duration::from_millis(1);

fn fresh(own_shard: Option<CheckedShard>) -> Plan {
    Plan::new(3, 6, Some(0), vec![1, 2, 3, 4, 5], None, own_shard)
}

fn three_of_six() -> Fakes {
    Fakes::new(vec![Behaviour::Honest; 6], batch(1000, 1))
}

#[test]
fn a_late_question_brings_in_the_next_member_and_still_counts_when_it_is_answered() {
    let fakes = three_of_six();
    let mut plan = fresh(Some(fakes.checked(0)));
    assert_eq!(plan.asks(), [Ask::Shard(1), Ask::Shard(2)]);
    assert_eq!(plan.asks(), []);
    plan.gave(2, fakes.checked(2));
    assert_eq!(plan.asks(), []);
    plan.late(Ask::Shard(1));
    assert_eq!(plan.asks(), [Ask::Shard(3)]);
    assert!(plan.ready().is_none());
    plan.gave(1, fakes.checked(1));
    assert_eq!(plan.ready().unwrap().shards.len(), 3);
    assert_eq!(plan.asks(), []);
}

#[test]
fn a_bad_shard_is_replaced_at_once_and_a_question_to_learn_is_not_counted_on() {
    let mut plan = fresh(None);
    assert_eq!(plan.extra(5), Some(Ask::Shard(5)));
    assert_eq!(plan.extra(5), None);
    assert_eq!(plan.asks(), [Ask::Shard(1), Ask::Shard(2), Ask::Shard(3)]);
    plan.lied(Ask::Shard(2));
    assert_eq!(plan.asks(), [Ask::Shard(4)]);
}

#[test]
fn whole_copies_are_asked_for_when_the_shards_that_can_come_are_too_few() {
    let fakes = three_of_six();
    let mut plan = fresh(None);
    plan.asks();
    plan.gave(1, fakes.checked(1));
    plan.failed(Ask::Shard(2), SourceError::Absent);
    plan.failed(Ask::Shard(3), SourceError::Unreachable);
    assert_eq!(plan.asks(), [Ask::Shard(4), Ask::Shard(5)]);
    plan.late(Ask::Shard(4));
    // Of those who have answered, only who gave a shard may have the batch whole.
    assert_eq!(plan.asks(), [Ask::Whole(1)]);
    plan.failed(Ask::Shard(5), SourceError::OnlyWhole { data_length: 1000 });
    assert_eq!(plan.asks(), []);
    plan.failed(Ask::Whole(1), SourceError::Absent);
    assert_eq!(plan.asks(), [Ask::Whole(5)]);
    plan.late(Ask::Whole(5));
    plan.failed(Ask::Shard(4), SourceError::NoAnswer);
    assert_eq!(plan.asks(), []);
    let failures =
        vec![(3, SourceError::Unreachable), (4, SourceError::NoAnswer), (5, SourceError::NoAnswer)];
    assert_eq!(plan.verdict(), Failed::Unavailable { got: 1, failures });
}

#[test]
fn who_refuses_for_now_is_waited_for_while_there_is_patience() {
    let fakes = three_of_six();
    let mut plan = fresh(Some(fakes.checked(0)));
    plan.asks();
    plan.failed(Ask::Shard(1), SourceError::Refused);
    plan.failed(Ask::Shard(2), SourceError::Refused);
    assert_eq!(plan.asks(), [Ask::Shard(3), Ask::Shard(4)]);
    plan.failed(Ask::Shard(3), SourceError::Absent);
    plan.failed(Ask::Shard(4), SourceError::Unreachable);
    assert_eq!(plan.asks(), [Ask::Shard(5)]);
    plan.gave(5, fakes.checked(5));
    // No whole copy while a shard may come.
    assert_eq!(plan.asks(), []);
    assert!(plan.has_later());
    plan.ask_again();
    assert_eq!(plan.asks(), [Ask::Shard(1)]);
    plan.failed(Ask::Shard(1), SourceError::Refused);
    assert_eq!(plan.asks(), [Ask::Shard(2)]);
    plan.failed(Ask::Shard(2), SourceError::Refused);
    assert_eq!(plan.asks(), []);
    plan.lose_patience();
    assert!(!plan.has_later());
    assert_eq!(plan.asks(), [Ask::Whole(5)]);
    plan.failed(Ask::Whole(5), SourceError::Refused);
    assert_eq!(plan.asks(), [Ask::Whole(1)]);
}

#[test]
fn with_a_trusted_root_others_do_not_count_until_it_is_found_dishonest() {
    let (fakes, others) = (three_of_six(), Fakes::new(vec![Behaviour::Honest; 6], batch(1000, 2)));
    let mut plan = Plan::new(3, 6, None, vec![0, 1, 2, 3, 4, 5], Some(others.root()), None);
    for member in 0..3 {
        plan.gave(member, fakes.checked(member));
    }
    assert!(plan.ready().is_none());
    assert_eq!(plan.missing(), 3);
    plan.dishonest(others.root());
    assert_eq!(plan.ready().unwrap().root, fakes.root());
}

#[test]
fn the_same_shard_twice_counts_once() {
    let fakes = three_of_six();
    let mut plan = Plan::new(3, 6, None, (0..6).collect(), None, Some(fakes.checked(2)));
    plan.gave(2, fakes.checked(2));
    assert_eq!(plan.missing(), 2);
}

#[test]
fn the_fastest_come_first_and_who_was_overtaken_last_until_it_answers() {
    let mut rng = StdRng::seed_from_u64(1);
    let now = StdInstant::now();
    let mut speeds = Speeds::new(4);
    let first = |speeds: &mut Speeds, at, rng: &mut StdRng| speeds.order(Some(0), Some(1000), 1, at, rng);
    for _ in 0..20 {
        speeds.answered(1, 1000, 30 * MS);
        speeds.answered(2, 1000, 10 * MS);
        speeds.answered(3, 1000, 20 * MS);
    }
    assert_eq!(first(&mut speeds, now, &mut rng).members, [2, 3, 1]);
    speeds.late(2);
    assert_eq!(first(&mut speeds, now, &mut rng).members, [3, 1, 2]);
    speeds.late_over(2);
    speeds.strike(2, now);
    assert_eq!(first(&mut speeds, now, &mut rng).members, [3, 1, 2]);
    let tried = first(&mut speeds, now + 1500 * MS, &mut rng);
    assert_eq!((tried.members, tried.probe), (vec![3, 1, 2], Some(2)));
    let tried = first(&mut speeds, now + 1600 * MS, &mut rng);
    assert_ne!(tried.probe, Some(2), "one tries, not all");
    speeds.answered(2, 1000, 10 * MS);
    assert_eq!(first(&mut speeds, now, &mut rng).members, [2, 3, 1]);
}

#[test]
fn the_order_depends_on_the_size_asked_for() {
    let mut rng = StdRng::seed_from_u64(2);
    let mut speeds = Speeds::new(2);
    for _ in 0..20 {
        // Near and narrow; far and wide.
        speeds.answered(0, 1000, MS);
        speeds.answered(0, 1 << 20, 1000 * MS);
        speeds.answered(1, 1000, 50 * MS);
        speeds.answered(1, 1 << 20, 100 * MS);
    }
    let now = StdInstant::now();
    assert_eq!(speeds.order(None, Some(1000), 1, now, &mut rng).members, [0, 1]);
    assert_eq!(speeds.order(None, Some(1 << 20), 1, now, &mut rng).members, [1, 0]);
    assert!(speeds.wait(Some(1 << 20)) >= 900 * MS && speeds.wait(Some(1000)) <= 60 * MS);
}

#[test]
fn who_lacks_much_is_asked_after_the_others() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut speeds = Speeds::new(2);
    for _ in 0..20 {
        speeds.has_nothing(0, MS);
        speeds.had(0, false);
        speeds.answered(1, 1000, 50 * MS);
        speeds.had(1, true);
    }
    assert_eq!(speeds.order(None, None, 1, StdInstant::now(), &mut rng).members, [1, 0]);
}

#[test]
fn a_rate_allows_a_burst_and_then_so_many_a_second() {
    let start = StdInstant::now();
    let rate = Rate::new(10, start);
    let allowed = |at| (0..100).filter(|_| rate.allows(at)).count();
    assert_eq!(allowed(start), 10);
    assert_eq!(allowed(start + 500 * MS), 5);
    assert_eq!(allowed(start + 60_000 * MS), 10);
}

#[tokio::test]
async fn a_hold_grows_out_of_the_second_pool_and_gives_all_back() {
    let memory = GatherMemory::new(300 * 1024);
    let free = memory.free();
    let mut one = memory.hold(200 * 1024).await.unwrap();
    assert!(one.grow_to(250 * 1024).await);
    assert!(one.grow_to(300 * 1024).await);
    assert!(!one.grow_to(301 * 1024).await, "what is needed beyond the second share is there or not");
    assert_eq!(memory.free(), 0);
    drop(one);
    assert_eq!(memory.free(), free);
    assert!(memory.hold(u64::MAX).await.is_some(), "what does not fit takes all");
}
