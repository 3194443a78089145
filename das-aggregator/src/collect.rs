//! The quorum: which answers make a certificate, and when it can no longer be made. A pure state machine; it knows no
//! network, no clock and no cryptography.
//!
//! # Guarantee, whatever the members answer, in whatever order
//! - A quorum consists of at least K distinct members, each with a signature that was checked under that member's own
//!   key and that covers exactly the data hash, timeout and version asked for.
//! - It is found as soon as K such answers are in: no other member can delay it.
//! - Once decided, nothing changes the outcome.
//! - Failure is declared only when every member has answered or failed, or when told to [give up](Collect::give_up);
//!   it names every member's reason. That it is inevitable is known [before](Collect::is_hopeless).
//!
//! # How it is driven
//! ```text
//! answered(i, claim) ──▶ fields wrong ─▶ failed(i)
//!                   └──▶ fields right ─▶ waits for its check; K waiting or good ─▶ Next::Verify(all waiting)
//! verified(results) ──▶ good signatures count, bad ones are failures
//! failed(i, why)    ──▶ all heard, fewer than K good ─▶ Next::Decided
//!                       (an answer may still follow a failure: a retry that worked)
//! ```
//! Signatures are checked together and not one by one, since checking six at once costs little more than one.

use das_common::data_hash::DataHash;
use das_common::rpc_client::CallError;
use thiserror::Error;

/// The version of the certificates that we ask for.
pub const CERTIFICATE_VERSION: u64 = 1;

/// Why a member's signature is not in the certificate.
#[derive(Debug, Clone, Error)]
pub enum MemberFailure {
    /// Nothing came back before the request was given up.
    #[error("no answer in time")]
    NoAnswer,
    /// The call failed, or the member refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It signed something else.
    #[error("it answered for data hash {got}, not {expected}")]
    WrongDataHash {
        /// What it answered.
        got: DataHash,
        /// What was asked.
        expected: DataHash,
    },
    /// It promises another timeout.
    #[error("it promised timeout {got}, not {expected}")]
    WrongTimeout {
        /// What it answered.
        got: u64,
        /// What was asked.
        expected: u64,
    },
    /// It signed another version.
    #[error("it signed version {got}, not {expected}")]
    WrongVersion {
        /// What it answered.
        got: u64,
        /// What was asked.
        expected: u64,
    },
    /// The bytes are no signature.
    #[error("its signature does not decode ({length} bytes)")]
    NotASignature {
        /// How many bytes there were.
        length: usize,
    },
    /// The signature is not this member's over what was asked.
    #[error("its signature is wrong under its own key")]
    BadSignature,
    /// The batch does not fit into the member's body limit and there is no key to sign chunks with.
    #[error(
        "the request of {length} bytes is above its body limit of {limit}, and chunks need a store key \
         (set --data-availability.store-key.file)"
    )]
    NeedsStoreKey {
        /// The request's length.
        length: usize,
        /// The member's limit.
        limit: usize,
    },
}

/// What every answer must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The batch.
    pub data_hash: DataHash,
    /// Until when it is to be kept.
    pub timeout: u64,
}

/// What a member answered. `S` is its signature, not yet checked.
#[derive(Debug, Clone)]
pub struct Claim<S> {
    /// The data hash it names.
    pub data_hash: DataHash,
    /// The timeout it names.
    pub timeout: u64,
    /// The version it names.
    pub version: u64,
    /// The signature.
    pub signature: S,
}

/// Where one member stands.
#[derive(Debug, Clone)]
pub enum Standing<S> {
    /// Nothing heard.
    Waiting,
    /// Answered; the signature is to be checked.
    Unchecked(S),
    /// Answered with a good signature.
    Signed(S),
    /// Failed, for now.
    Failed(MemberFailure),
}

/// What is to be done next.
#[derive(Debug)]
#[must_use]
pub enum Next<S> {
    /// Wait for more answers.
    Wait,
    /// Check these signatures, each under the key of the member of that index, and report with
    /// [`verified`](Collect::verified).
    Verify(Vec<(usize, S)>),
    /// There is an [outcome](Collect::outcome).
    Decided,
}

/// How it ended.
#[derive(Debug, Clone)]
pub enum Outcome<S> {
    /// Enough members signed.
    Quorum {
        /// Their indices and signatures, by rising index.
        signed: Vec<(usize, S)>,
    },
    /// Too few can.
    Failed {
        /// Every member that did not sign, by rising index.
        failures: Vec<(usize, MemberFailure)>,
        /// How many did.
        signed: usize,
    },
}

/// The state of one collection.
#[derive(Debug)]
pub struct Collect<S> {
    asked: Asked,
    threshold: usize,
    standings: Vec<Standing<S>>,
    verifying: bool,
    outcome: Option<Outcome<S>>,
}

impl<S: Clone> Collect<S> {
    /// For a committee of `members`, `threshold` of which make a certificate.
    pub fn new(asked: Asked, members: usize, threshold: usize) -> Self {
        Self {
            asked,
            threshold: threshold.max(1),
            standings: (0..members).map(|_| Standing::Waiting).collect(),
            verifying: false,
            outcome: None,
        }
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome<S>> {
        self.outcome.as_ref()
    }

    /// What was asked.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Answers whose signatures have not been checked. Once decided they are of interest to statistics only.
    pub fn unchecked(&self) -> Vec<(usize, S)> {
        self.pick(|s| if let Standing::Unchecked(s) = s { Some(s.clone()) } else { None })
    }

    /// Is the claim about what was asked? Pure, and the same for answers that come too late to count.
    pub fn check_fields(asked: &Asked, claim: &Claim<S>) -> Result<(), MemberFailure> {
        if claim.data_hash != asked.data_hash {
            return Err(MemberFailure::WrongDataHash { got: claim.data_hash, expected: asked.data_hash });
        }
        if claim.timeout != asked.timeout {
            return Err(MemberFailure::WrongTimeout { got: claim.timeout, expected: asked.timeout });
        }
        if claim.version != CERTIFICATE_VERSION {
            return Err(MemberFailure::WrongVersion { got: claim.version, expected: CERTIFICATE_VERSION });
        }
        Ok(())
    }

    /// Several members were heard of at once, in this order. What came together is checked together.
    pub fn heard(
        &mut self,
        reports: impl IntoIterator<Item = (usize, Result<Claim<S>, MemberFailure>)>,
    ) -> Next<S> {
        for (member, report) in reports {
            self.note(member, report);
        }
        self.next()
    }

    /// A member answered. A second answer of one that has answered rightly so far is ignored: whatever it says, the
    /// first stands until it is found wrong.
    pub fn answered(&mut self, member: usize, claim: Claim<S>) -> Next<S> {
        self.heard([(member, Ok(claim))])
    }

    /// A member failed. Ignored if it has answered before.
    pub fn failed(&mut self, member: usize, failure: MemberFailure) -> Next<S> {
        self.heard([(member, Err(failure))])
    }

    fn note(&mut self, member: usize, report: Result<Claim<S>, MemberFailure>) {
        if self.outcome.is_some() {
            return;
        }
        let Some(standing @ (Standing::Waiting | Standing::Failed(_))) = self.standings.get_mut(member)
        else {
            return;
        };
        let checked =
            report.and_then(|claim| Self::check_fields(&self.asked, &claim).map(|()| claim.signature));
        *standing = match checked {
            Ok(signature) => Standing::Unchecked(signature),
            Err(failure) => Standing::Failed(failure),
        };
    }

    /// The results of the check that [`Next::Verify`] asked for, by member.
    pub fn verified(&mut self, results: impl IntoIterator<Item = (usize, bool)>) -> Next<S> {
        self.verifying = false;
        if self.outcome.is_none() {
            for (member, good) in results {
                let Some(standing) = self.standings.get_mut(member) else { continue };
                if let Standing::Unchecked(signature) = standing {
                    *standing = if good {
                        Standing::Signed(signature.clone())
                    } else {
                        Standing::Failed(MemberFailure::BadSignature)
                    };
                }
            }
        }
        self.next()
    }

    /// Are fewer than K members left that have not failed? Then only retries can help, and it is not worth waiting long.
    pub fn is_hopeless(&self) -> bool {
        let failed = self.standings.iter().filter(|standing| matches!(standing, Standing::Failed(_))).count();
        self.standings.len() - failed < self.threshold
    }

    /// Time is up: whoever has not answered counts as failed. While a check is under way its result is still awaited.
    pub fn give_up(&mut self) -> Next<S> {
        if self.outcome.is_none() {
            for standing in &mut self.standings {
                if matches!(standing, Standing::Waiting) {
                    *standing = Standing::Failed(MemberFailure::NoAnswer);
                }
            }
        }
        self.next()
    }

    fn next(&mut self) -> Next<S> {
        if self.outcome.is_some() {
            return Next::Decided;
        }
        let signed: Vec<_> = self.pick(|s| if let Standing::Signed(s) = s { Some(s.clone()) } else { None });
        if signed.len() >= self.threshold {
            self.outcome = Some(Outcome::Quorum { signed });
            return Next::Decided;
        }
        if self.verifying {
            return Next::Wait;
        }
        let unchecked = self.unchecked();
        let all_heard = !self.standings.iter().any(|standing| matches!(standing, Standing::Waiting));
        if signed.len() + unchecked.len() >= self.threshold || (all_heard && !unchecked.is_empty()) {
            self.verifying = true;
            return Next::Verify(unchecked);
        }
        if all_heard {
            let failures = self.pick(|s| if let Standing::Failed(f) = s { Some(f.clone()) } else { None });
            self.outcome = Some(Outcome::Failed { failures, signed: signed.len() });
            return Next::Decided;
        }
        Next::Wait
    }

    fn pick<T>(&self, choose: impl Fn(&Standing<S>) -> Option<T>) -> Vec<(usize, T)> {
        let chosen = self.standings.iter().enumerate();
        chosen.filter_map(|(member, standing)| Some((member, choose(standing)?))).collect()
    }
}

#[cfg(test)]
mod tests;
