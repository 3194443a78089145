//! What is done next, decided from what is in the queue and what is on the chain. No clock, no network, no disk.
//!
//! # What keeps a batch from being posted twice
//! - All transactions of one batch have one nonce: the chain takes at most one of them.
//! - A batch is given another nonce only after one of its transactions is in a block and was reverted there.
//! - Each transaction carries the sequence number that comes after the batch before it: the contract takes it in its turn only.
//!
//! So whatever vanishes is sent again as it was. What neither rule explains (our nonce used by a transaction that is not in
//! the queue, our number taken by a batch that is not) was done by somebody else with this key or this right, and is for the
//! operator to look at: nothing more is posted until the operator names what is accepted of it. Another nonce is then given
//! only to a batch whose own was used in a block that does not vanish any more: what was sent for it can never come.

use std::collections::HashMap;

use super::entry::{Block, Entry, Stage, TxHash};
use super::fees::{FeeLimits, Fees, Market};

/// What one look at the chain shows; all of it as of one block.
#[derive(Debug, Clone)]
pub struct View {
    /// The newest block that does not vanish any more.
    pub finalized: u64,
    /// How many batches the contract has: the next one's number.
    pub batches: u64,
    /// The account's next nonce.
    pub nonce: u64,
    /// The account's next nonce as of the newest block that does not vanish any more; 0 where it was not asked for.
    pub final_nonce: u64,
    /// What the chain asks.
    pub market: Market,
    /// Whether the contract takes our committee's keyset.
    pub keyset_valid: bool,
    /// Blocks of the transactions of the queue that are in one, and whether they did what they should.
    pub receipts: HashMap<TxHash, (Block, bool)>,
}

/// What the operator has set.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Most batches that are submitted and not in a block.
    pub in_flight: usize,
    /// A transaction that is in no block for so many seconds is replaced by one that offers more.
    pub replace_after: u64,
    /// ... and sent again after so many.
    pub resend_after: u64,
    /// A certificate is good for posting when it lasts so many seconds from now.
    pub least_life: u64,
    /// What may be paid.
    pub fees: FeeLimits,
    /// That nonces below this were used by others is accepted.
    pub accept_nonces: u64,
    /// ... and that batches below this number are others'.
    pub accept_batches: u64,
}

/// One step. It is written down before anybody else hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Have the committee certify this batch (again).
    Certify {
        /// Which.
        id: u64,
    },
    /// Make, write down and send a transaction.
    Submit {
        /// Which batch.
        id: u64,
        /// With this nonce.
        nonce: u64,
        /// And this batch number.
        sequence: u64,
        /// Offering this.
        fees: Fees,
    },
    /// Send the latest transaction again.
    Resend {
        /// Of which batch.
        id: u64,
    },
    /// It is in a block, or in another one than before.
    Include {
        /// Which batch.
        id: u64,
        /// Its transaction.
        tx: TxHash,
        /// The block.
        block: Block,
    },
    /// Its block is gone.
    Vanish {
        /// Which batch.
        id: u64,
    },
    /// Its transaction did nothing.
    Revert {
        /// Which batch.
        id: u64,
        /// The transaction, to find out why.
        tx: TxHash,
        /// Where it is.
        block: Block,
    },
    /// Somebody else has used its nonce for good: it needs another one.
    Renumber {
        /// Which batch.
        id: u64,
    },
    /// It is there for good.
    Finalize {
        /// Which batch.
        id: u64,
    },
}

/// Why nothing (more) is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Our nonce was used by a transaction that is not in the queue: another process has this key.
    ForeignNonce {
        /// The nonce.
        nonce: u64,
    },
    /// Our number is taken by a batch that is not in the queue: another poster is at work.
    ForeignBatch {
        /// The number.
        sequence: u64,
    },
    /// The contract has fewer batches than it had for good: the chain was reset, or this is another one.
    Lost {
        /// So many it has.
        batches: u64,
        /// So many it had.
        least: u64,
    },
    /// The contract does not take our keyset.
    Keyset,
    /// The chain asks more than may be paid.
    Fees,
}

/// The steps that are to be taken now, in this order, and what keeps the rest from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
    /// What is in the way.
    pub hold: Option<Hold>,
}

/// Decides. `entries`: those that are not final, in their order. `now`: unix seconds.
///
/// `least_batches`: so many the contract has had for good, because the last final batch of the queue made them so many.
pub fn plan(entries: &[Entry], least_batches: u64, view: &View, policy: &Policy, now: u64) -> Plan {
    let mut planner = Planner { view, policy, now, plan: Plan::default() };
    if view.batches < least_batches {
        planner.hold(Hold::Lost { batches: view.batches, least: least_batches });
        return planner.plan;
    }
    planner.look(entries);
    // What is known of the chain changed: decide about new transactions when that is written down.
    if planner.plan.steps.is_empty() {
        planner.post(entries);
    }
    planner.certify(entries);
    planner.plan
}

struct Planner<'a> {
    view: &'a View,
    policy: &'a Policy,
    now: u64,
    plan: Plan,
}

impl Planner<'_> {
    /// What the chain says of what was sent.
    fn look(&mut self, entries: &[Entry]) {
        let mut earlier_are_final = true;
        for entry in entries {
            let id = entry.id;
            let mut is_final = matches!(entry.stage, Stage::Final { .. });
            match &entry.stage {
                Stage::Submitted { attempts, .. } | Stage::Included { attempts, .. } => {
                    let was = match &entry.stage {
                        Stage::Included { tx, block, .. } => Some((*tx, *block)),
                        _ => None,
                    };
                    let found = attempts.iter().find_map(|a| Some((a.tx, *self.view.receipts.get(&a.tx)?)));
                    match found {
                        Some((tx, (block, false))) => self.step(Step::Revert { id, tx, block }),
                        Some((tx, (block, true))) if was != Some((tx, block)) => {
                            self.step(Step::Include { id, tx, block });
                        }
                        Some((_, (block, true)))
                            if block.number <= self.view.finalized && earlier_are_final =>
                        {
                            is_final = true;
                            self.step(Step::Finalize { id });
                        }
                        Some(_) => {}
                        None if was.is_some() => self.step(Step::Vanish { id }),
                        None => {
                            if let Stage::Submitted { nonce, .. } = entry.stage
                                && nonce < self.policy.accept_nonces.min(self.view.final_nonce)
                            {
                                self.step(Step::Renumber { id });
                            }
                        }
                    }
                }
                Stage::Waiting | Stage::Final { .. } => {}
            }
            earlier_are_final &= is_final;
        }
    }

    /// Transactions, in the order of the queue.
    fn post(&mut self, entries: &[Entry]) {
        if self.hold_for_others(entries) {
            return;
        }
        let pending = |entry: &&Entry| matches!(entry.stage, Stage::Submitted { .. });
        let mut in_flight = entries.iter().filter(pending).count();
        let last_pending = entries.iter().rposition(|entry| pending(&entry));
        let nonces = entries.iter().filter_map(|entry| match entry.stage {
            Stage::Submitted { nonce, .. } => Some(nonce + 1),
            _ => None,
        });
        let mut next_nonce = nonces.max().unwrap_or(0).max(self.view.nonce);
        // The number of the first batch that is in no block, and so on.
        let mut next_sequence = self.view.batches;
        let mut blocked = false;
        for (place, entry) in entries.iter().enumerate() {
            match &entry.stage {
                Stage::Final { .. } | Stage::Included { .. } => {}
                Stage::Submitted { nonce, attempts } => {
                    // Behind one that was reverted it will be reverted too; it is helped to that.
                    let own = attempts.last().map_or(next_sequence, |last| last.sequence);
                    self.urge(entry, *nonce, if blocked { own } else { next_sequence });
                    next_sequence += 1;
                }
                Stage::Waiting if last_pending > Some(place) => blocked = true,
                Stage::Waiting if self.is_ready(entry) && in_flight < self.policy.in_flight => {
                    if !self.view.keyset_valid && entry.needs_keyset() {
                        return self.hold(Hold::Keyset);
                    }
                    let Some(fees) = self.policy.fees.offer(self.view.market) else {
                        return self.hold(Hold::Fees);
                    };
                    let (id, nonce, sequence) = (entry.id, next_nonce, next_sequence);
                    self.step(Step::Submit { id, nonce, sequence, fees });
                    in_flight += 1;
                    next_nonce += 1;
                    next_sequence += 1;
                }
                // In order: nothing passes a batch that is not ready.
                Stage::Waiting => return,
            }
        }
    }

    /// Whether somebody else has done what only we should.
    fn hold_for_others(&mut self, entries: &[Entry]) -> bool {
        let used = entries.iter().find_map(|entry| match &entry.stage {
            Stage::Submitted { nonce, .. } if *nonce < self.view.nonce => {
                Some(Hold::ForeignNonce { nonce: *nonce })
            }
            _ => None,
        });
        let taken = entries.iter().find_map(|entry| match &entry.stage {
            Stage::Submitted { attempts, .. } => {
                let sequence = attempts.last().map_or(0, |last| last.sequence);
                let is_taken = sequence < self.view.batches && sequence >= self.policy.accept_batches;
                is_taken.then_some(Hold::ForeignBatch { sequence })
            }
            _ => None,
        });
        self.plan.hold = used.or(taken);
        self.plan.hold.is_some()
    }

    /// One that is under way: sent again, or replaced.
    fn urge(&mut self, entry: &Entry, nonce: u64, sequence: u64) {
        let Stage::Submitted { attempts, .. } = &entry.stage else { return };
        let Some(last) = attempts.last() else { return };
        let id = entry.id;
        // A number that is no longer its turn, or a certificate that would not do: what is under way must not stay the best
        // offer.
        let wrong = last.sequence != sequence;
        let aged = !self.is_good(last.until);
        let (age, waited) = (self.now.saturating_sub(last.made), self.now.saturating_sub(last.sent));
        if aged && !self.is_ready(entry) {
            return self.step(Step::Certify { id });
        }
        if wrong || aged || age >= self.policy.replace_after {
            if !self.view.keyset_valid && entry.needs_keyset() {
                return self.hold(Hold::Keyset);
            }
            match self.policy.fees.replacement(last.fees, self.view.market) {
                Some(fees) => return self.step(Step::Submit { id, nonce, sequence, fees }),
                None => self.hold(Hold::Fees),
            }
            // At the limit: whoever still has the last one refuses this, but it may be that nobody has it any more.
            if (wrong || aged)
                && let Some(fees) = self.policy.fees.offer(self.view.market)
            {
                return self.step(Step::Submit { id, nonce, sequence, fees });
            }
        }
        if waited >= self.policy.resend_after && !wrong && !aged {
            self.step(Step::Resend { id });
        }
    }

    /// Batches without a certificate that lasts, in any order.
    fn certify(&mut self, entries: &[Entry]) {
        for entry in entries {
            if entry.stage == Stage::Waiting && !self.is_ready(entry) {
                self.step(Step::Certify { id: entry.id });
            }
        }
    }

    fn is_ready(&self, entry: &Entry) -> bool {
        entry.certified.is_some_and(|until| self.is_good(until))
    }

    fn is_good(&self, until: u64) -> bool {
        until >= self.now.saturating_add(self.policy.least_life)
    }

    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn hold(&mut self, hold: Hold) {
        self.plan.hold.get_or_insert(hold);
    }
}

#[cfg(test)]
mod tests;
