//! A batch on its way to the parent chain.

use bincode::{Decode, Encode};

use super::fees::Fees;

/// Keccak-256 of a signed transaction.
pub type TxHash = [u8; 32];

/// Until when a batch that is posted itself is promised: there is nobody whose promise could end.
pub const FOR_EVER: u64 = u64::MAX;

/// A block by number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Block {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: [u8; 32],
}

/// A transaction that may have reached somebody.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Attempt {
    /// Its hash.
    pub tx: TxHash,
    /// The signed bytes, to be sent again.
    pub raw: Vec<u8>,
    /// What it offers.
    pub fees: Fees,
    /// The sequence number it carries.
    pub sequence: u64,
    /// When it was made, unix seconds.
    pub made: u64,
    /// When it was sent last, unix seconds.
    pub sent: u64,
    /// Until when its certificate promises the data, unix seconds; the end of time for data posted itself.
    pub until: u64,
}

/// How far a batch is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Stage {
    /// No transaction is under way.
    Waiting,
    /// Transactions with this nonce are under way, the latest last; never empty.
    Submitted {
        /// The account's nonce that all of them use.
        nonce: u64,
        /// The transactions.
        attempts: Vec<Attempt>,
    },
    /// In a block that may still vanish.
    Included {
        /// As before, for the case that it vanishes.
        nonce: u64,
        /// As before.
        attempts: Vec<Attempt>,
        /// Which of them.
        tx: TxHash,
        /// In which block.
        block: Block,
    },
    /// In a block that will not vanish.
    Final {
        /// The transaction.
        tx: TxHash,
        /// Its block.
        block: Block,
        /// The batch's number on the chain.
        sequence: u64,
    },
}

/// One batch of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Its place in the queue.
    pub id: u64,
    /// Until when the newest certificate promises the data, unix seconds; none yet: received only.
    pub certified: Option<u64>,
    /// How far it is.
    pub stage: Stage,
}

impl Entry {
    /// A batch that was just taken.
    pub fn new(id: u64) -> Self {
        Self { id, certified: None, stage: Stage::Waiting }
    }

    /// There is a new certificate. Where a transaction is under way, the one that replaces it carries it.
    pub fn certify(&mut self, until: u64) {
        self.certified = Some(until);
    }

    /// Every transaction that was made until now carries what is not to be posted any more.
    pub fn outdate(&mut self) {
        if let Stage::Submitted { attempts, .. } | Stage::Included { attempts, .. } = &mut self.stage {
            for attempt in attempts {
                attempt.until = 0;
            }
        }
    }

    /// Whether what is posted names the committee's keyset: the batch itself does not.
    pub fn needs_keyset(&self) -> bool {
        self.certified != Some(FOR_EVER)
    }

    /// A first or a further transaction is about to be sent. All of one batch have one nonce, so that at most one of them
    /// is ever in a block.
    pub fn submitted(&mut self, nonce: u64, attempt: Attempt) {
        match &mut self.stage {
            Stage::Submitted { nonce: known, attempts } => {
                debug_assert_eq!(*known, nonce, "one batch, one nonce");
                attempts.push(attempt);
            }
            stage => *stage = Stage::Submitted { nonce, attempts: vec![attempt] },
        }
    }

    /// The latest transaction was sent again.
    pub fn sent_again(&mut self, now: u64) {
        if let Stage::Submitted { attempts, .. } = &mut self.stage
            && let Some(last) = attempts.last_mut()
        {
            last.sent = now;
        }
    }

    /// One of its transactions is in a block.
    pub fn included(&mut self, tx: TxHash, block: Block) {
        if let Stage::Submitted { nonce, attempts } | Stage::Included { nonce, attempts, .. } =
            &mut self.stage
        {
            let (nonce, attempts) = (*nonce, std::mem::take(attempts));
            self.stage = Stage::Included { nonce, attempts, tx, block };
        }
    }

    /// The block is gone.
    pub fn vanished(&mut self) {
        if let Stage::Included { nonce, attempts, .. } = &mut self.stage {
            self.stage = Stage::Submitted { nonce: *nonce, attempts: std::mem::take(attempts) };
        }
    }

    /// Its transaction is in a block and did nothing; another nonce and another try are needed.
    pub fn reverted(&mut self) {
        if matches!(self.stage, Stage::Submitted { .. } | Stage::Included { .. }) {
            self.stage = Stage::Waiting;
        }
    }

    /// Its block will not vanish.
    pub fn finalized(&mut self) {
        if let Stage::Included { attempts, tx, block, .. } = &self.stage
            && let Some(attempt) = attempts.iter().find(|attempt| attempt.tx == *tx)
        {
            self.stage = Stage::Final { tx: *tx, block: *block, sequence: attempt.sequence };
        }
    }
}
