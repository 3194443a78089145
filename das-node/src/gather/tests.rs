//! Gathers against members that do whatever a test tells them to.

mod fakes;
mod liars;
mod oracle;
mod parts;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;

use self::fakes::{Behaviour, Fakes, Setup, batch};
use super::*;

const KIB: usize = 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_of_peers_completes_the_own_shard() {
    for length in [0, 1, 2, 1000, 100 * KIB, 3000 * KIB] {
        for honest in 0..5 {
            let mut members = vec![Behaviour::Absent; 6];
            members[honest] = Behaviour::Honest;
            members[honest + 1] = Behaviour::Honest;
            let own = (honest + 2) % 6;
            let setup = Setup::new(Fakes::new(members, batch(length, 1)), Some(own));
            let from = GatherFrom { root: None, own_shard: Some(setup.fakes.checked(own)) };
            let found = setup.gather.gather(setup.fakes.hash, from).await.unwrap();
            assert_eq!(found.bytes(), &setup.fakes.data);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_as_many_as_are_needed_are_asked() {
    let setup = Setup::new(Fakes::new(vec![Behaviour::Honest; 6], batch(5000, 1)), Some(0));
    let from = GatherFrom { root: None, own_shard: Some(setup.fakes.checked(0)) };
    for _ in 0..50 {
        setup.gather.gather(setup.fakes.hash, from.clone()).await.unwrap();
    }
    let asked = setup.fakes.asked_shards();
    // One in thirty-two gathers tries another member, and a machine that stands still makes questions late.
    assert!((100..=130).contains(&asked), "{asked} questions in 50 gathers");
    assert_eq!(setup.fakes.asked_whole(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_share_one_gather() {
    let setup = Setup::new(Fakes::new(vec![Behaviour::Slow; 6], batch(200 * KIB, 2)), None);
    let readers = (0..100).map(|_| setup.gather.gather(setup.fakes.hash, GatherFrom::default()));
    for found in join_all(readers).await {
        assert_eq!(found.unwrap().bytes(), &setup.fakes.data);
    }
    let asked = setup.fakes.asked_shards();
    assert!((3..=6).contains(&asked), "{asked} questions for 100 readers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_hash_costs_one_question_per_member_and_is_remembered() {
    let setup = Setup::new(Fakes::new(vec![Behaviour::Absent; 6], batch(100, 3)), Some(2));
    let hash = setup.fakes.hash;
    for _ in 0..20 {
        let error = setup.gather.gather(hash, GatherFrom::default()).await.unwrap_err();
        assert_eq!(error, GatherError::NotFound { hash, asked: 5 });
    }
    assert_eq!(setup.fakes.asked_shards(), 5);
    assert_eq!(setup.fakes.asked_whole(), 0);
    setup.gather.forget_absent(&hash);
    assert!(setup.gather.gather(hash, GatherFrom::default()).await.is_err());
    assert_eq!(setup.fakes.asked_shards(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_away_does_not_open_the_door_to_repeated_questions() {
    let mut members = vec![Behaviour::Absent; 6];
    members[3] = Behaviour::Unreachable;
    let setup = Setup::new(Fakes::new(members, batch(100, 3)), Some(2));
    let hash = setup.fakes.hash;
    for _ in 0..20 {
        let error = setup.gather.gather(hash, GatherFrom::default()).await.unwrap_err();
        let failures = vec![(3, SourceError::Unreachable)];
        assert_eq!(error, GatherError::Unavailable { hash, got: 0, needed: 3, failures });
    }
    assert_eq!(setup.fakes.asked_shards(), 5);
    // Who knows more is not put off.
    let from = GatherFrom { root: Some(setup.fakes.root()), own_shard: None };
    assert!(setup.gather.gather(hash, from).await.is_err());
    assert_eq!(setup.fakes.asked_shards(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gather_ends_by_its_deadline_and_names_who_did_not_answer() {
    let limits = GatherLimits { deadline: Duration::from_millis(400), ..fakes::limits() };
    let mut members = vec![Behaviour::Silent; 6];
    members[0] = Behaviour::Honest;
    let setup = Setup::with(Fakes::new(members, batch(100, 3)), Some(0), limits, GatherMemory::new(1 << 30));
    let hash = setup.fakes.hash;
    let from = GatherFrom { root: None, own_shard: Some(setup.fakes.checked(0)) };
    let GatherError::Unavailable { got: 1, needed: 3, failures, .. } =
        setup.gather.gather(hash, from).await.unwrap_err()
    else {
        panic!("another error")
    };
    assert!(failures.len() >= 2 && failures.iter().all(|(_, error)| *error == SourceError::NoAnswer));
    assert_eq!(setup.fakes.open(), 0, "questions that nobody waits for are given up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_about_unknown_hashes_are_rationed_and_others_are_not() {
    let limits = GatherLimits { unknown_per_second: 1, ..fakes::limits() };
    let fakes = Fakes::new(vec![Behaviour::Absent; 6], batch(100, 3));
    let setup = Setup::with(fakes, Some(0), limits, GatherMemory::new(1 << 30));
    let mut busy = 0;
    for i in 0..1000_u32 {
        let hash = DataHash::of(&i.to_be_bytes());
        let error = setup.gather.gather(hash, GatherFrom::default()).await.unwrap_err();
        busy += usize::from(matches!(error, GatherError::Busy { .. }));
    }
    assert!(busy > 500, "{busy} refused");
    let from = GatherFrom { root: None, own_shard: Some(setup.fakes.checked(0)) };
    let error = setup.gather.gather(setup.fakes.hash, from).await.unwrap_err();
    assert!(matches!(error, GatherError::MissingShards { got: 1, needed: 3, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_member_is_soon_asked_no_more() {
    let mut members = vec![Behaviour::Honest; 6];
    members[4] = Behaviour::Silent;
    let setup = Setup::new(Fakes::new(members, batch(10_000, 4)), None);
    for _ in 0..60 {
        setup.gather.gather(setup.fakes.hash, GatherFrom::default()).await.unwrap();
    }
    // At first by chance, then as one question more than are needed after 1, 2, 4 ... seconds.
    let asked = setup.fakes.members[4].asked.load(Ordering::Relaxed);
    assert!(asked <= 12, "asked {asked} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_copy_is_taken_where_shards_are_too_few() {
    use Behaviour::{Absent, Honest, Refusing, Silent, Whole};
    for members in [
        vec![Whole; 6],
        vec![Whole, Absent, Absent, Absent, Absent, Absent],
        vec![Honest, Honest, Absent, Absent, Whole, Absent],
        vec![Silent, Honest, Silent, Refusing, Whole, Honest],
    ] {
        let setup = Setup::new(Fakes::new(members.clone(), batch(50 * KIB, 5)), None);
        let found = setup.gather.gather(setup.fakes.hash, GatherFrom::default()).await;
        assert_eq!(found.unwrap().bytes(), &setup.fakes.data, "{members:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_refuse_for_now_are_asked_again_and_not_for_ever() {
    use Behaviour::{Absent, Busy, Refusing};
    let setup = Setup::new(Fakes::new(vec![Busy, Absent, Absent, Absent, Busy, Busy], batch(5000, 6)), None);
    let found = setup.gather.gather(setup.fakes.hash, GatherFrom::default()).await.unwrap();
    assert_eq!(found.bytes(), &setup.fakes.data);

    let setup = Setup::new(Fakes::new(vec![Refusing; 6], batch(5000, 6)), Some(0));
    let from = GatherFrom { root: None, own_shard: Some(setup.fakes.checked(0)) };
    let error = setup.gather.gather(setup.fakes.hash, from).await.unwrap_err();
    let GatherError::Unavailable { got: 1, failures, .. } = error else { panic!("{error}") };
    assert_eq!(failures, [1, 2, 3, 4, 5].map(|member| (member, SourceError::Refused)));
    // Pauses grow: six within the patience at the very most, and a last round when it is over.
    let asked = setup.fakes.members[3].asked.load(Ordering::Relaxed);
    assert!((2..=8).contains(&asked), "asked {asked} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_lets_only_so_many_gathers_run_and_all_end() {
    let length = 100 * KIB;
    // What one gather begins with: the batch and five shards.
    let one = (length + 5 * length.div_ceil(3)) as u64 + 3 * 1024;
    let memory = GatherMemory::new(one * 3);
    let all = memory.free();
    let gathers: Vec<_> = (0..12)
        .map(|seed| {
            let fakes = Fakes::new(vec![Behaviour::Slow; 6], batch(length, seed));
            Arc::new(Setup::with(fakes, Some(0), fakes::limits(), memory.clone()))
        })
        .collect();
    let watch = {
        let gathers = gathers.clone();
        tokio::spawn(async move {
            let mut most = 0;
            loop {
                let running = gathers.iter().filter(|setup| setup.fakes.open() > 0).count();
                most = most.max(running);
                if gathers.iter().all(|setup| setup.fakes.asked_shards() > 0 && setup.fakes.open() == 0) {
                    return most;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let runs = gathers.iter().map(|setup| async {
        let from = GatherFrom { root: None, own_shard: Some(setup.fakes.checked(0)) };
        setup.gather.gather(setup.fakes.hash, from).await.unwrap()
    });
    assert_eq!(join_all(runs).await.len(), 12);
    let most = watch.await.unwrap();
    assert!((1..=2).contains(&most), "{most} gathers at once");
    assert_eq!(memory.free(), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_gathers_are_refused() {
    let limits = GatherLimits { max_gathers: 2, unknown_per_second: 1000, ..fakes::limits() };
    let fakes = Fakes::new(vec![Behaviour::Slow; 6], batch(10, 1));
    let setup = Setup::with(fakes, None, limits, GatherMemory::new(1 << 30));
    let gathers = (0..20_u32)
        .map(|i| setup.gather.gather(DataHash::of(&i.to_be_bytes()), GatherFrom::default()))
        .collect::<Vec<_>>();
    let outcomes = join_all(gathers).await;
    let busy = outcomes.iter().filter(|o| matches!(o, Err(GatherError::Busy { .. }))).count();
    assert_eq!(busy, 18);
}
