use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A signature that knows whether it is good, and which of a member's answers it came with.
type Sig = (bool, u32);

fn asked() -> Asked {
    Asked { data_hash: DataHash::from_bytes([7; 32]), timeout: 1_000 }
}

fn claim(wrong: Wrong, id: u32) -> Claim<Sig> {
    let Asked { data_hash, timeout } = asked();
    let mut claim = Claim { data_hash, timeout, version: CERTIFICATE_VERSION, signature: (true, id) };
    match wrong {
        Wrong::Nothing => {}
        Wrong::Hash => claim.data_hash = DataHash::from_bytes([8; 32]),
        Wrong::Timeout => claim.timeout -= 1,
        Wrong::Version => claim.version = 0,
        Wrong::Signature => claim.signature.0 = false,
    }
    claim
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Hash,
    Timeout,
    Version,
    Signature,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Answer(usize, Wrong),
    Fail(usize),
    /// The check under way, if any, ends.
    CheckEnds,
    GiveUp,
}

fn event(members: usize) -> impl Strategy<Value = Event> {
    let wrong = prop_oneof![
        6 => Just(Wrong::Nothing),
        1 => Just(Wrong::Hash),
        1 => Just(Wrong::Timeout),
        1 => Just(Wrong::Version),
        2 => Just(Wrong::Signature),
    ];
    prop_oneof![
        8 => (0..members + 1, wrong).prop_map(|(member, wrong)| Event::Answer(member, wrong)),
        2 => (0..members + 1).prop_map(Event::Fail),
        4 => Just(Event::CheckEnds),
        1 => Just(Event::GiveUp),
    ]
}

/// The same in the plainest words: a member's standing is what its latest event says, unless it stands on an answer
/// that has not been found wrong.
#[derive(Default)]
struct Oracle {
    standing: BTreeMap<usize, Said>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Good { checked: bool },
    BadUnchecked,
    Failed,
}

impl Oracle {
    fn answer(&mut self, member: usize, wrong: Wrong) {
        let firm = matches!(self.standing.get(&member), Some(Said::Good { .. } | Said::BadUnchecked));
        if !firm {
            let said = match wrong {
                Wrong::Nothing => Said::Good { checked: false },
                Wrong::Signature => Said::BadUnchecked,
                _ => Said::Failed,
            };
            self.standing.insert(member, said);
        }
    }

    fn count(&self, what: impl Fn(&Said) -> bool) -> usize {
        self.standing.values().filter(|said| what(said)).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn agrees_with_the_plain_words(
        (members, threshold, events) in (1_usize..9).prop_flat_map(|n| {
            (Just(n), 1..=n, prop::collection::vec(event(n), 0..60))
        })
    ) {
        let mut collect = Collect::<Sig>::new(asked(), members, threshold);
        let mut oracle = Oracle::default();
        let mut checking: Option<Vec<(usize, Sig)>> = None;
        let mut decided: Option<String> = None;
        for (id, event) in events.into_iter().enumerate() {
            let next = match event {
                Event::Answer(member, wrong) => {
                    if member < members {
                        oracle.answer(member, wrong);
                    }
                    collect.answered(member, claim(wrong, id as u32))
                }
                Event::Fail(member) => {
                    if member < members {
                        oracle.standing.entry(member).or_insert(Said::Failed);
                    }
                    collect.failed(member, MemberFailure::NoAnswer)
                }
                Event::CheckEnds => {
                    let Some(signatures) = checking.take() else { continue };
                    for (member, (good, _)) in &signatures {
                        let said = if *good { Said::Good { checked: true } } else { Said::Failed };
                        oracle.standing.insert(*member, said);
                    }
                    collect.verified(signatures.into_iter().map(|(member, (good, _))| (member, good)))
                }
                Event::GiveUp => {
                    for member in 0..members {
                        oracle.standing.entry(member).or_insert(Said::Failed);
                    }
                    collect.give_up()
                }
            };
            if let Some(before) = &decided {
                // Whatever came after the decision changed nothing.
                prop_assert!(matches!(next, Next::Decided));
                prop_assert_eq!(before, &format!("{:?}", collect.outcome()));
                continue;
            }
            let good = oracle.count(|said| *said == Said::Good { checked: true });
            let standing = oracle.count(|said| *said != Said::Failed);
            let failed = oracle.count(|said| *said == Said::Failed);
            let waiting = members - oracle.standing.len();
            prop_assert_eq!(collect.is_hopeless(), members - failed < threshold);
            match next {
                Next::Verify(signatures) => {
                    prop_assert!(checking.is_none(), "one check at a time");
                    prop_assert!(good < threshold && (standing >= threshold || waiting == 0));
                    // All that is unchecked, and nothing twice.
                    let members: BTreeSet<_> = signatures.iter().map(|(member, _)| *member).collect();
                    prop_assert_eq!(members.len(), signatures.len());
                    prop_assert_eq!(members.len(), standing - good);
                    checking = Some(signatures);
                }
                Next::Decided => {
                    decided = Some(format!("{:?}", collect.outcome()));
                    match collect.outcome() {
                        Some(Outcome::Quorum { signed }) => {
                            prop_assert!(signed.len() >= threshold && signed.len() == good);
                            prop_assert!(signed.windows(2).all(|pair| pair[0].0 < pair[1].0));
                            prop_assert!(signed.iter().all(|(member, (good, _))| *good && *member < members));
                        }
                        Some(Outcome::Failed { failures, signed }) => {
                            prop_assert!(waiting == 0 && good == standing);
                            prop_assert!(good < threshold && *signed == good);
                            prop_assert_eq!(failures.len() + signed, members);
                        }
                        None => prop_assert!(false, "decided without an outcome"),
                    }
                }
                Next::Wait => {
                    prop_assert!(good < threshold, "a quorum was there");
                    prop_assert!(checking.is_some() || (standing < threshold && waiting > 0));
                }
            }
        }
    }

    /// K honest members are enough whatever the others do, before or after.
    #[test]
    fn honest_members_cannot_be_held_up(
        (members, threshold, honest, noise) in (1_usize..9).prop_flat_map(|n| {
            let noise = prop::collection::vec(event(n), 0..40);
            (Just(n), 1..=n, Just((0..n).collect::<Vec<_>>()).prop_shuffle(), noise)
        })
    ) {
        let honest: Vec<usize> = honest.into_iter().take(threshold).collect();
        let mut collect = Collect::<Sig>::new(asked(), members, threshold);
        let mut steps = Vec::new();
        for event in noise {
            match event {
                Event::Answer(member, wrong) if !honest.contains(&member) => steps.push((member, Some(wrong))),
                Event::Fail(member) if !honest.contains(&member) => steps.push((member, None)),
                _ => {}
            }
        }
        for (i, member) in honest.iter().enumerate() {
            steps.insert((i * 7) % (steps.len() + 1), (*member, Some(Wrong::Nothing)));
        }
        for (member, answer) in steps {
            let mut next = match answer {
                Some(wrong) => collect.answered(member, claim(wrong, 0)),
                None => collect.failed(member, MemberFailure::NoAnswer),
            };
            while let Next::Verify(signatures) = next {
                next = collect.verified(signatures.into_iter().map(|(member, (good, _))| (member, good)));
            }
        }
        let quorum = matches!(collect.outcome(), Some(Outcome::Quorum { .. }));
        prop_assert!(quorum, "{:?}", collect.outcome());
    }
}

#[test]
fn the_first_answer_stands_until_it_is_found_wrong() {
    let mut collect = Collect::<Sig>::new(asked(), 2, 2);
    assert!(matches!(collect.answered(0, claim(Wrong::Signature, 1)), Next::Wait));
    assert!(
        matches!(collect.answered(0, claim(Wrong::Nothing, 2)), Next::Wait),
        "a conflicting answer is ignored"
    );
    let Next::Verify(signatures) = collect.answered(1, claim(Wrong::Nothing, 3)) else {
        panic!("two answers of two")
    };
    assert_eq!(signatures, [(0, (false, 1)), (1, (true, 3))]);
    // One bad signature of two: no certificate can be made any more.
    assert!(matches!(collect.verified([(0, false), (1, true)]), Next::Decided));
    let Some(Outcome::Failed { failures, signed: 1 }) = collect.outcome() else { panic!("failed") };
    assert!(matches!(failures[..], [(0, MemberFailure::BadSignature)]));
}
