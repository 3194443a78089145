//! Random committees in which everybody does what he likes, against what must come of it.

use proptest::prelude::*;

use super::fakes::Behaviour;
use super::*;

#[derive(Debug, Clone)]
struct Scenario {
    data_shards: u64,
    members: Vec<Behaviour>,
    length: usize,
    own: Option<usize>,
    root: bool,
}

const ALL: [Behaviour; 16] = [
    Behaviour::Honest,
    Behaviour::Slow,
    Behaviour::Whole,
    Behaviour::Absent,
    Behaviour::Silent,
    Behaviour::Refusing,
    Behaviour::Busy,
    Behaviour::Unreachable,
    Behaviour::Flips,
    Behaviour::OtherBatch,
    Behaviour::OtherCoding,
    Behaviour::WrongIndex,
    Behaviour::WrongLength,
    Behaviour::Huge,
    Behaviour::Dishonest,
    Behaviour::WrongWhole,
];

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let any = prop::sample::select(&ALL[..]);
    prop_oneof![3 => Just(Behaviour::Honest), 2 => Just(Behaviour::Absent), 6 => any]
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let length = prop_oneof![0_usize..5, 0_usize..5000, 400_000_usize..500_000];
    // A committee of which the whole does one thing is likely enough to be tried.
    let members = prop_oneof![
        8 => prop::collection::vec(behaviour(), 2..9),
        1 => (prop::sample::select(&ALL[..]), 2_usize..7).prop_map(|(one, count)| vec![one; count]),
    ];
    (members, 2_u64..4, length, any::<prop::sample::Index>(), any::<(bool, bool)>()).prop_map(
        |(members, data_shards, length, own, (member, root))| Scenario {
            // n - 1 codes must exist for the shards of another coding.
            data_shards: data_shards.min(members.len() as u64),
            own: member.then(|| own.index(members.len())),
            members,
            length,
            root,
        },
    )
}

#[derive(Debug, PartialEq)]
enum Expected {
    Batch,
    NotFound,
    /// Any error but "not found".
    NotAbsent,
    Missing,
    Dishonest,
}

fn expected(scenario: &Scenario) -> Expected {
    use Behaviour::{
        Absent, Busy, Dishonest, Flips, Honest, Huge, OtherBatch, OtherCoding, Refusing, Silent, Slow,
        Unreachable, Whole, WrongIndex, WrongLength, WrongWhole,
    };
    let peers: Vec<Behaviour> = scenario
        .members
        .iter()
        .enumerate()
        .filter(|(member, _)| Some(*member) != scenario.own)
        .map(|(_, behaviour)| *behaviour)
        .collect();
    let count = |of: &[Behaviour]| peers.iter().filter(|peer| of.contains(peer)).count();
    let needed = usize::try_from(scenario.data_shards).unwrap();
    let own = usize::from(scenario.own.is_some());
    if own + count(&[Honest, Slow, Busy]) >= needed || count(&[Whole]) > 0 {
        Expected::Batch
    } else if count(&[Absent]) == peers.len() && own == 0 {
        Expected::NotFound
    } else if count(&[
        Silent,
        Refusing,
        Unreachable,
        OtherCoding,
        WrongIndex,
        WrongLength,
        Huge,
        WrongWhole,
        Flips,
    ]) > 0
    {
        // Flips are a trace of a batch, but their whole copies are lies.
        Expected::NotAbsent
    } else if !(scenario.root || own > 0) && (count(&[OtherBatch]) >= needed || count(&[Dishonest]) >= needed)
    {
        Expected::Dishonest
    } else {
        Expected::Missing
    }
}

async fn check(scenario: Scenario) -> Result<(), String> {
    let data = batch(scenario.length, 20);
    let setup = Setup::new(Fakes::coded(scenario.data_shards, scenario.members.clone(), data), scenario.own);
    let hash = setup.fakes.hash;
    let from = GatherFrom {
        root: scenario.root.then(|| setup.fakes.root()),
        own_shard: scenario.own.map(|own| setup.fakes.checked(own)),
    };
    let found = setup.gather.gather(hash, from).await;
    let right = match (&found, expected(&scenario)) {
        // Nothing is nothing, whoever's shards it is rebuilt from, and its hash says that it is right.
        (Ok(found), Expected::Dishonest) if scenario.length == 0 => {
            found.hash() == hash && found.bytes().is_empty()
        }
        (Ok(found), Expected::Batch) => found.bytes() == &setup.fakes.data && found.hash() == hash,
        (Err(GatherError::NotFound { .. }), Expected::NotFound)
        | (Err(GatherError::MissingShards { .. }), Expected::Missing)
        | (Err(GatherError::DishonestRoot { .. }), Expected::Dishonest) => true,
        (Err(error), Expected::NotAbsent) => !matches!(
            error,
            GatherError::NotFound { .. } | GatherError::Busy { .. } | GatherError::Failed { .. }
        ),
        _ => false,
    };
    let liar = |member: usize| {
        use Behaviour::{Absent, Busy, Honest, Refusing, Silent, Slow, Unreachable, Whole};
        let honest = [Honest, Slow, Whole, Busy, Absent, Silent, Refusing, Unreachable];
        !honest.contains(&scenario.members[member])
    };
    let slandered = setup.offences.lock().iter().find(|offence| !liar(offence.member)).cloned();
    // Whatever they do, each member is asked for its shard and for a whole copy at most once, unless it refuses for now.
    let most = setup
        .fakes
        .members
        .iter()
        .filter(|m| !matches!(m.behaviour, Behaviour::Busy | Behaviour::Refusing))
        .map(|m| m.asked.load(Ordering::Relaxed).max(m.asked_whole.load(Ordering::Relaxed)))
        .max();
    match (right, slandered, most) {
        (true, None, None | Some(0 | 1)) => Ok(()),
        (right, slandered, most) => Err(format!(
            "right: {right}, found: {:?}, expected: {:?}, slandered: {slandered:?}, most questions: {most:?}",
            found.map(|batch| batch.bytes().len()),
            expected(&scenario),
        )),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_comes_of_it_is_what_the_members_make_possible(scenarios in prop::collection::vec(scenario(), 64)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        // At the same time, since most of them wait for somebody silent.
        let outcomes = runtime.block_on(join_all(scenarios.iter().cloned().map(check)));
        for (scenario, outcome) in scenarios.iter().zip(outcomes) {
            prop_assert!(outcome.is_ok(), "{scenario:?}: {outcome:?}");
        }
    }
}
