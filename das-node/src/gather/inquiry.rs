//! One gather: puts the plan's questions, checks what comes back, and ends.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::erasure::{CheckedShard, Root};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::Rng;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{error, warn};

use super::check::{Answer, Got, Nothing, rebuild};
use super::limits::Hold;
use super::plan::{Ask, Failed, Group, Plan};
use super::source::{OffenceKind, ShardSource, SourceError};
use super::{GatherError, GatherFrom, Shared};

/// Before a member that refused for now is asked once more: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);

struct Open {
    due: Instant,
    late: bool,
}

pub(super) struct Inquiry<'a, S: ShardSource> {
    shared: &'a Shared<S>,
    hash: DataHash,
    plan: Plan,
    answers: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send + 'a>>>,
    open: HashMap<Ask, Open>,
    hold: Hold,
    /// The greatest length stated so far, in bytes.
    data_length: Option<u64>,
    length_is_sure: bool,
    /// The last time that a question became late.
    last_late: Instant,
    /// When those that refused for now are asked once more, while there are any.
    again: Option<Instant>,
    /// What to wait before that, doubled each time.
    pause: Duration,
    /// From then on refusals are final.
    patient_until: Instant,
    deadline: Instant,
}

impl<'a, S: ShardSource> Inquiry<'a, S> {
    pub(super) fn new(
        shared: &'a Shared<S>,
        hash: DataHash,
        from: GatherFrom,
        hold: Hold,
        deadline: Instant,
    ) -> Self {
        let own_shard = from.own_shard.filter(|shard| *shard.code() == shared.code);
        let data_length = own_shard.as_ref().map(CheckedShard::data_length);
        let length_is_sure = data_length.is_some();
        let needed = shared.code.data_shards();
        let from_peers = needed - usize::from(own_shard.is_some());
        let now = Instant::now();
        let order = shared.speeds.lock().order(
            shared.own,
            data_length.map(|length| shared.code.shard_length(length)),
            from_peers,
            now.into_std(),
            &mut rand::rng(),
        );
        let trusted = own_shard.as_ref().map(|shard| *shard.root()).or(from.root);
        let members = shared.code.shards();
        let mut plan = Plan::new(needed, members, shared.own, order.members, trusted, own_shard);
        let probe = order.probe.filter(|_| plan.ready().is_none()).and_then(|member| plan.extra(member));
        let (answers, open) = (FuturesUnordered::new(), HashMap::new());
        let mut inquiry = Self {
            shared,
            hash,
            plan,
            answers,
            open,
            hold,
            data_length,
            length_is_sure,
            last_late: now,
            again: None,
            pause: FIRST_PAUSE,
            patient_until: deadline.min(now + shared.limits.patience),
            deadline,
        };
        if let Some(probe) = probe {
            inquiry.put(probe);
        }
        inquiry
    }

    pub(super) async fn run(mut self) -> Result<VerifiedBatch, GatherError> {
        loop {
            while let Some(group) = self.plan.ready() {
                let (root, shards) = (group.root, group.shards.clone());
                match rebuild(self.hash, shards).await {
                    Some(batch) => {
                        self.shared.counts.shards_used.increment(self.shared.code.data_shards() as u64);
                        return Ok(self.succeed(batch, Some(root)));
                    }
                    None => self.dishonest(root),
                }
            }
            for ask in self.plan.asks() {
                self.put(ask);
            }
            if self.answers.is_empty() && self.again.is_none() {
                return Err(self.fail());
            }
            let room = timeout_at(self.deadline, self.hold.grow_to(self.needs())).await;
            if !room.unwrap_or(false) {
                self.close();
                return Err(GatherError::Busy { hash: self.hash });
            }
            let due = self.open.values().filter(|open| !open.late).map(|open| open.due).min();
            let end = match due {
                None if !self.plan.has_trace() => {
                    self.deadline.min(self.last_late + self.shared.limits.last_wait)
                }
                _ => self.deadline,
            };
            tokio::select! {
                biased;
                Some(answer) = self.answers.next() => {
                    if let Some(batch) = self.take(answer) {
                        return Ok(self.succeed(batch, None));
                    }
                }
                () = sleep_until(due.unwrap_or(end)), if due.is_some() => self.overdue(),
                () = sleep_until(self.again.unwrap_or(end)), if self.again.is_some() => self.ask_again(),
                () = sleep_until(end) => return Err(self.fail()),
            }
        }
    }

    /// Bytes that may be in memory at once: the batch, shards held and under way, whole copies under way.
    fn needs(&self) -> u64 {
        let Some(length) = self.data_length else { return 0 };
        let whole = self.open.keys().filter(|ask| matches!(ask, Ask::Whole(_))).count() as u64;
        let shards = self.open.len() as u64 - whole;
        let under_way = shards.saturating_mul(self.shared.code.shard_length(length));
        length.saturating_mul(1 + whole).saturating_add(under_way).saturating_add(self.plan.held_bytes())
    }

    /// Somebody states this length. Where the own shard tells it, nobody else is believed.
    fn hear_length(&mut self, stated: u64) {
        if !self.length_is_sure {
            self.data_length = self.data_length.max(Some(stated.min(self.shared.limits.max_batch_bytes)));
        }
    }

    fn put(&mut self, ask: Ask) {
        let shared = self.shared;
        let bytes = self.data_length.map(|length| match ask {
            Ask::Shard(_) => shared.code.shard_length(length),
            Ask::Whole(_) => length,
        });
        let wait = shared.speeds.lock().wait(bytes);
        self.open.insert(ask, Open { due: Instant::now() + wait, late: false });
        match ask {
            Ask::Shard(_) => shared.counts.asked_shard.increment(1),
            Ask::Whole(_) => shared.counts.asked_whole.increment(1),
        }
        let hash = self.hash;
        self.answers.push(Box::pin(async move { shared.ask(ask, hash).await }));
    }

    /// Takes up an answer; a whole copy ends the gather.
    fn take(&mut self, answer: Answer) -> Option<VerifiedBatch> {
        let Answer { ask, after, outcome } = answer;
        let member = ask.member();
        let shared = self.shared;
        let mut speeds = shared.speeds.lock();
        if self.open.remove(&ask).is_some_and(|open| open.late) {
            speeds.late_over(member);
        }
        let now = Instant::now().into_std();
        match outcome {
            Ok(Got::Shard(shard)) => {
                speeds.answered(member, shard.bytes().len() as u64, after);
                self.hear_length(shard.data_length());
                self.plan.gave(member, shard);
            }
            Ok(Got::Whole(batch)) => {
                speeds.answered(member, batch.bytes().len() as u64, after);
                return Some(batch);
            }
            Err(Nothing::Source(error)) => {
                match error {
                    SourceError::Absent => speeds.has_nothing(member, after),
                    SourceError::OnlyWhole { data_length } => {
                        speeds.has_nothing(member, after);
                        self.hear_length(data_length);
                    }
                    SourceError::Refused
                    | SourceError::Unreachable
                    | SourceError::NoAnswer
                    | SourceError::Malformed => speeds.strike(member, now),
                }
                self.plan.failed(ask, error);
                if self.again.is_none() && self.plan.has_later() {
                    self.again = Some(self.next_round());
                }
            }
            Err(Nothing::Offence(kind)) => {
                speeds.strike(member, now);
                self.plan.lied(ask);
                drop(speeds);
                self.shared.report(self.hash, member, kind);
            }
        }
        None
    }

    /// Readers that were refused together do not come back together.
    fn next_round(&mut self) -> Instant {
        let wait = self.pause.mul_f64(rand::rng().random_range(0.5..1.5));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        (Instant::now() + wait).min(self.patient_until)
    }

    fn ask_again(&mut self) {
        self.again = None;
        if Instant::now() < self.patient_until {
            self.plan.ask_again();
        } else {
            self.plan.lose_patience();
        }
    }

    /// Whoever has not answered in time is not counted on any more.
    fn overdue(&mut self) {
        let now = Instant::now();
        let mut speeds = self.shared.speeds.lock();
        for (ask, open) in self.open.iter_mut().filter(|(_, open)| !open.late && open.due <= now) {
            open.late = true;
            speeds.late(ask.member());
            if self.plan.late(*ask) {
                self.shared.counts.hedges.increment(1);
            }
        }
        self.last_late = now;
    }

    /// Shards of this root rebuild something else: no honest member computes such a root, so whoever sent one of its
    /// shards lies.
    fn dishonest(&mut self, root: Root) {
        warn!(hash = %self.hash, %root, "shards rebuild something that is not the batch");
        self.plan.dishonest(root);
        let senders: Vec<_> =
            self.plan.groups().filter(|group| group.root == root).flat_map(|group| &group.shards).collect();
        for shard in senders {
            if Some(shard.index()) == self.shared.own {
                error!(hash = %self.hash, %root, "this machine's own shard has a root that is not the batch's");
                continue;
            }
            self.shared.speeds.lock().strike(shard.index(), Instant::now().into_std());
            let kind = OffenceKind::WrongRoot { root, shard: Box::new(shard.as_shard().clone()) };
            self.shared.report(self.hash, shard.index(), kind);
        }
    }

    fn succeed(mut self, batch: VerifiedBatch, root: Option<Root>) -> VerifiedBatch {
        self.close();
        {
            let mut speeds = self.shared.speeds.lock();
            self.plan.absent().for_each(|member| speeds.had(member, false));
            self.plan.had().for_each(|member| speeds.had(member, true));
        }
        let others: Vec<Group> = self
            .plan
            .into_groups()
            .into_iter()
            .filter(|group| !group.dishonest && Some(group.root) != root)
            .collect();
        if !others.is_empty() {
            self.shared.judge(batch.clone(), others, self.hold);
        }
        batch
    }

    fn fail(&mut self) -> GatherError {
        self.close();
        let (hash, needed) = (self.hash, self.shared.code.data_shards());
        match self.plan.verdict() {
            Failed::DishonestRoot(root) => GatherError::DishonestRoot { hash, root },
            Failed::NotFound { asked } => GatherError::NotFound { hash, asked },
            Failed::Missing { got } => GatherError::MissingShards { hash, got, needed },
            Failed::Unavailable { got, failures } => GatherError::Unavailable { hash, got, needed, failures },
        }
    }

    /// Gives up the questions still open. Who was overtaken is asked later next time.
    fn close(&mut self) {
        let now = Instant::now().into_std();
        let mut speeds = self.shared.speeds.lock();
        for (ask, _) in self.open.drain().filter(|(_, open)| open.late) {
            speeds.late_over(ask.member());
            speeds.strike(ask.member(), now);
        }
    }
}
