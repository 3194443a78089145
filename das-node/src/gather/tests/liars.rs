//! What each kind of lie comes to: the batch for the reader, a report for the liar, nothing for the others.

use super::*;

/// Gathers until somebody complains: whether the liar is among those asked is chance.
async fn offences_of(liar: Behaviour, own: Option<usize>) -> Vec<Offence> {
    let mut members = vec![Behaviour::Honest; 6];
    (members[1], members[2], members[4]) = (liar, Behaviour::Absent, Behaviour::Absent);
    let setup = Setup::new(Fakes::new(members, batch(40_000, 9)), own);
    let own_shard = own.map(|own| setup.fakes.checked(own));
    for _ in 0..10_000 {
        let from = GatherFrom { root: None, own_shard: own_shard.clone() };
        let found = setup.gather.gather(setup.fakes.hash, from).await.unwrap();
        assert_eq!(found.bytes(), &setup.fakes.data);
        // Some lies are judged beside the answer.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let offences = setup.offences.lock().clone();
        if !offences.is_empty() {
            assert!(offences.iter().all(|offence| offence.member == 1 && offence.hash == setup.fakes.hash));
            return offences;
        }
    }
    panic!("{liar:?} was never found out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_lie_is_reported_for_what_it_is() {
    for own in [None, Some(0)] {
        for (liar, name) in [
            (Behaviour::Flips, "wrong-root"),
            (Behaviour::OtherBatch, "wrong-root"),
            (Behaviour::Dishonest, "wrong-root"),
            (Behaviour::OtherCoding, "bad-shard"),
            (Behaviour::WrongLength, "bad-shard"),
            (Behaviour::WrongIndex, "wrong-index"),
            (Behaviour::Huge, "too-long"),
        ] {
            let offences = offences_of(liar, own).await;
            assert_eq!(offences[0].kind.name(), name, "{liar:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_that_agree_do_not_keep_the_honest_root_from_winning() {
    for liars in [Behaviour::OtherBatch, Behaviour::Dishonest] {
        let members = vec![liars, liars, liars, Behaviour::Slow, Behaviour::Slow, Behaviour::Slow];
        let setup = Setup::new(Fakes::new(members, batch(300 * KIB, 10)), None);
        for root in [None, Some(setup.fakes.root())] {
            let from = GatherFrom { root, own_shard: None };
            let found = setup.gather.gather(setup.fakes.hash, from).await.unwrap();
            assert_eq!(found.bytes(), &setup.fakes.data, "{liars:?}");
        }
        let offences = setup.offences.lock();
        assert!(offences.iter().all(|offence| offence.member < 3), "an honest member was accused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_the_caller_was_wrong_to_believe_costs_no_honest_member_its_name() {
    // Whoever stated the root lied; the honest members' shards win all the same.
    use Behaviour::{Honest, OtherBatch};
    let members = vec![OtherBatch, OtherBatch, OtherBatch, Honest, Honest, Honest];
    let setup = Setup::new(Fakes::new(members, batch(2000, 11)), None);
    let stated = setup.fakes.root_of_the_other_batch();
    let from = GatherFrom { root: Some(stated), own_shard: None };
    let found = setup.gather.gather(setup.fakes.hash, from).await.unwrap();
    assert_eq!(found.bytes(), &setup.fakes.data);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let offences = setup.offences.lock();
    assert!(!offences.is_empty() && offences.iter().all(|offence| offence.member < 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dishonest_root_and_missing_shards_are_told_apart() {
    use Behaviour::{Absent, Dishonest, Honest};
    let members = vec![Dishonest, Dishonest, Dishonest, Absent, Absent, Honest];
    let setup = Setup::new(Fakes::new(members, batch(5000, 12)), None);
    let error = setup.gather.gather(setup.fakes.hash, GatherFrom::default()).await.unwrap_err();
    assert!(matches!(error, GatherError::DishonestRoot { .. }), "{error}");

    let members = vec![Honest, Honest, Absent, Absent, Absent, Absent];
    let setup = Setup::new(Fakes::new(members, batch(5000, 12)), None);
    let error = setup.gather.gather(setup.fakes.hash, GatherFrom::default()).await.unwrap_err();
    assert!(matches!(error, GatherError::MissingShards { got: 2, needed: 3, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_whole_copy_is_reported_and_another_is_taken() {
    use Behaviour::{Absent, Whole, WrongWhole};
    let members = vec![WrongWhole, Absent, Absent, Absent, Absent, Whole];
    let setup = Setup::new(Fakes::new(members, batch(5000, 13)), None);
    for _ in 0..10 {
        let found = setup.gather.gather(setup.fakes.hash, GatherFrom::default()).await.unwrap();
        assert_eq!(found.bytes(), &setup.fakes.data);
    }
    let members = vec![WrongWhole, Absent, Absent, Absent, Absent, Absent];
    let setup = Setup::new(Fakes::new(members, batch(5000, 13)), None);
    let error = setup.gather.gather(setup.fakes.hash, GatherFrom::default()).await.unwrap_err();
    assert!(matches!(error, GatherError::Unavailable { .. }), "{error}");
    let offences = setup.offences.lock();
    assert!(matches!(offences[0], Offence { member: 0, kind: OffenceKind::WrongBatch { length: 14 }, .. }));
}

/// Promised lengths are compared with what came before anything is made of them: with these, memory for any of them
/// would abort the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promised_lengths_allocate_nothing() {
    use Behaviour::{Honest, Huge, WrongWhole};
    let limits = GatherLimits { max_batch_bytes: u64::MAX, ..fakes::limits() };
    let members = vec![Huge, Huge, WrongWhole, Honest, Honest, Honest];
    let memory = GatherMemory::new(64 << 20);
    let all = memory.free();
    let setup = Setup::with(Fakes::new(members, batch(5000, 14)), None, limits, memory.clone());
    for _ in 0..20 {
        let found = setup.gather.gather(setup.fakes.hash, GatherFrom::default()).await.unwrap();
        assert_eq!(found.bytes(), &setup.fakes.data);
    }
    assert_eq!(memory.free(), all);
}
