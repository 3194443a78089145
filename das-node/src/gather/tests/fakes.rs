//! Members that behave as told.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use das_common::erasure::{Encoded, LEAF_BYTES, Shard};
use das_common::keccak::keccak256;

use super::super::*;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Gives its shard.
    Honest,
    /// The same after some milliseconds.
    Slow,
    /// Has the batch whole, no shard.
    Whole,
    /// Has nothing.
    Absent,
    /// Never answers.
    Silent,
    Refusing,
    /// Refuses as often as its number tells and once more, then gives its shard.
    Busy,
    Unreachable,
    /// One bit of its shard is another.
    Flips,
    /// The right shard of another batch of the same length; all such members agree.
    OtherBatch,
    /// Its shard of another code.
    OtherCoding,
    /// The next member's shard.
    WrongIndex,
    /// Its shard, a byte short.
    WrongLength,
    /// Its shard, stating that the batch is longer than can be.
    Huge,
    /// A shard under a root over shards that are no code word; all such members agree.
    Dishonest,
    /// Says that it has it whole, with a length that cannot be, and then gives something else.
    WrongWhole,
}

pub(super) struct Member {
    pub(super) behaviour: Behaviour,
    pub(super) asked: AtomicUsize,
    pub(super) asked_whole: AtomicUsize,
}

/// The members of a committee, and the batch that they have or have not.
pub(super) struct Fakes {
    pub(super) members: Vec<Member>,
    pub(super) data: Bytes,
    pub(super) hash: DataHash,
    pub(super) code: Code,
    encoded: Encoded,
    other: Encoded,
    dishonest: Vec<Shard>,
    open: AtomicUsize,
}

pub(super) fn batch(length: usize, seed: u8) -> Bytes {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect::<Vec<u8>>().into()
}

pub(super) fn limits() -> GatherLimits {
    GatherLimits {
        attempt_timeout: Duration::from_millis(1500),
        patience: Duration::from_millis(1500),
        last_wait: Duration::from_millis(700),
        unknown_per_second: 1_000_000,
        absent_for: Duration::from_secs(600),
        unanswered_for: Duration::from_secs(600),
        ..GatherLimits::default()
    }
}

impl Fakes {
    /// Members of a 3-of-6 code.
    pub(super) fn new(behaviours: Vec<Behaviour>, data: Bytes) -> Self {
        Self::coded(3, behaviours, data)
    }

    pub(super) fn coded(data_shards: u64, behaviours: Vec<Behaviour>, data: Bytes) -> Self {
        let code = Code::new(data_shards, behaviours.len() as u64).unwrap();
        let other: Vec<u8> = data.iter().map(|byte| byte ^ 0xff).collect();
        let encoded = code.encode(&data);
        Self {
            hash: DataHash::of(&data),
            dishonest: dishonest(&code, &encoded),
            other: code.encode(if other.is_empty() { &[7] } else { &other }),
            members: behaviours
                .into_iter()
                .map(|behaviour| Member { behaviour, asked: 0.into(), asked_whole: 0.into() })
                .collect(),
            encoded,
            data,
            code,
            open: 0.into(),
        }
    }

    pub(super) fn checked(&self, index: usize) -> CheckedShard {
        self.encoded.shards[index].clone()
    }

    pub(super) fn root(&self) -> Root {
        self.encoded.root
    }

    pub(super) fn root_of_the_other_batch(&self) -> Root {
        self.other.root
    }

    pub(super) fn asked_shards(&self) -> usize {
        self.members.iter().map(|member| member.asked.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn asked_whole(&self) -> usize {
        self.members.iter().map(|member| member.asked_whole.load(Ordering::Relaxed)).sum()
    }

    /// Questions that wait for their answers.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn answer(&self, member: usize) -> Result<Shard, SourceError> {
        let shard = || self.encoded.shards[member].as_shard().clone();
        Ok(match self.members[member].behaviour {
            Behaviour::Honest | Behaviour::Slow => shard(),
            Behaviour::Whole => {
                return Err(SourceError::OnlyWhole { data_length: self.data.len() as u64 });
            }
            Behaviour::Absent | Behaviour::Silent => return Err(SourceError::Absent),
            Behaviour::Refusing => return Err(SourceError::Refused),
            Behaviour::Busy if self.members[member].asked.load(Ordering::Relaxed) <= 1 + member % 3 => {
                return Err(SourceError::Refused);
            }
            Behaviour::Busy => shard(),
            Behaviour::Unreachable => return Err(SourceError::Unreachable),
            Behaviour::Flips => {
                let mut bytes = shard().bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1 << (member % 8);
                Shard { bytes: bytes.into(), ..shard() }
            }
            Behaviour::OtherBatch => self.other.shards[member].as_shard().clone(),
            Behaviour::OtherCoding => {
                let other = Code::new(self.code.data_shards() as u64, self.code.shards() as u64 + 1).unwrap();
                let mut shard = other.encode_one(&self.data, member).into_shard();
                // Where the trees have one height the proof leads somewhere; where not, it is too long.
                shard.proof.push([1; 32]);
                shard
            }
            Behaviour::WrongIndex => {
                let next = (member + 1) % self.members.len();
                self.encoded.shards[next].as_shard().clone()
            }
            Behaviour::WrongLength => {
                let bytes = shard().bytes;
                Shard { bytes: bytes.slice(1..), ..shard() }
            }
            Behaviour::Huge => Shard { data_length: u64::MAX - member as u64, ..shard() },
            Behaviour::Dishonest => self.dishonest[member].clone(),
            Behaviour::WrongWhole => return Err(SourceError::OnlyWhole { data_length: u64::MAX }),
        })
    }

    async fn delay(&self, member: usize) {
        match self.members[member].behaviour {
            Behaviour::Silent => pending().await,
            Behaviour::Slow => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => {}
        }
    }
}

/// Counts a question while it is open, also when its future is dropped.
struct Opened<'a>(&'a AtomicUsize);

impl<'a> Opened<'a> {
    fn new(open: &'a AtomicUsize) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(open)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ShardSource for Fakes {
    async fn shard(&self, member: usize, hash: DataHash, _: CodingId) -> Result<Shard, SourceError> {
        let _open = Opened::new(&self.open);
        self.members[member].asked.fetch_add(1, Ordering::Relaxed);
        self.delay(member).await;
        if hash == self.hash { self.answer(member) } else { Err(SourceError::Absent) }
    }

    async fn whole(&self, member: usize, _: DataHash) -> Result<Bytes, SourceError> {
        let _open = Opened::new(&self.open);
        self.members[member].asked_whole.fetch_add(1, Ordering::Relaxed);
        self.delay(member).await;
        match self.members[member].behaviour {
            Behaviour::Whole => Ok(self.data.clone()),
            Behaviour::WrongWhole | Behaviour::Flips => Ok(Bytes::from_static(b"something else")),
            Behaviour::Refusing => Err(SourceError::Refused),
            _ => Err(SourceError::Absent),
        }
    }
}

/// A gather over fakes, and what it complained of.
pub(super) struct Setup {
    pub(super) fakes: Arc<Fakes>,
    pub(super) gather: Gather<Fakes>,
    pub(super) offences: Arc<Mutex<Vec<Offence>>>,
}

impl Setup {
    pub(super) fn new(fakes: Fakes, own: Option<usize>) -> Self {
        Self::with(fakes, own, limits(), GatherMemory::new(1 << 30))
    }

    pub(super) fn with(fakes: Fakes, own: Option<usize>, limits: GatherLimits, memory: GatherMemory) -> Self {
        let fakes = Arc::new(fakes);
        let offences = Arc::new(Mutex::new(Vec::new()));
        let noted = offences.clone();
        let parts = GatherParts {
            source: fakes.clone(),
            code: fakes.code.clone(),
            coding: CodingId::from_bytes([7; 32]),
            own,
            memory,
            offences: Arc::new(move |offence| noted.lock().push(offence)),
        };
        Self { fakes, gather: Gather::new(parts, limits), offences }
    }
}

/// Shards, each proved under one root, of which any k with the last data shard rebuild something else: its bytes are not
/// those of the code word. The trees are made here by hand, from their definition.
fn dishonest(code: &Code, encoded: &Encoded) -> Vec<Shard> {
    let mut bytes: Vec<Vec<u8>> = encoded.shards.iter().map(|shard| shard.bytes().to_vec()).collect();
    for (index, shard) in bytes.iter_mut().enumerate() {
        shard[0] ^= u8::try_from(index).unwrap() + 1;
    }
    let tops: Vec<[u8; 32]> = bytes
        .iter()
        .map(|shard| {
            tree(
                &shard
                    .chunks(LEAF_BYTES)
                    .map(|leaf| keccak256(&[&[0x10], leaf].concat()))
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    let data_length = encoded.shards[0].data_length();
    let shards = bytes.into_iter().enumerate().map(|(index, bytes)| Shard {
        index: u8::try_from(index).unwrap(),
        data_length,
        bytes: bytes.into(),
        proof: path(&tops, index),
    });
    let shards: Vec<Shard> = shards.collect();
    let roots: Vec<Root> = shards.iter().map(|shard| *shard.clone().prove(code).unwrap().root()).collect();
    assert!(roots.iter().all(|root| *root == roots[0] && *root != encoded.root));
    shards
}

fn split(nodes: &[[u8; 32]]) -> (&[[u8; 32]], &[[u8; 32]]) {
    nodes.split_at(nodes.len().next_power_of_two() / 2)
}

fn tree(nodes: &[[u8; 32]]) -> [u8; 32] {
    if let [one] = nodes {
        return *one;
    }
    let (left, right) = split(nodes);
    keccak256(&[&[0x11], tree(left).as_slice(), tree(right).as_slice()].concat())
}

fn path(nodes: &[[u8; 32]], index: usize) -> Vec<[u8; 32]> {
    if nodes.len() == 1 {
        return Vec::new();
    }
    let (left, right) = split(nodes);
    let (mut lower, neighbour) = match index.checked_sub(left.len()) {
        None => (path(left, index), tree(right)),
        Some(index) => (path(right, index), tree(left)),
    };
    lower.push(neighbour);
    lower
}
