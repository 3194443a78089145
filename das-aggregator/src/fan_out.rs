//! A batch to all members at once, and a certificate back.
//!
//! ```text
//!            ┌─▶ task of member 0 ─┐
//! request ───┼─▶ task of member 1 ─┼─▶ Collect ─▶ K good signatures ─▶ certificate, checked strictly ─▶ caller
//!            └─▶ task of member n ─┘                                        late members: go on in their tasks
//! ```
//! A member's task outlives the request: it goes on until the member has the batch, refuses for good, or patience or
//! memory ends ([`retry`](crate::retry), [`backlog`](crate::backlog)). The request waits for none of them once K
//! signatures are good. If the caller goes away, the tasks go on all the same; nothing is half done by that, since
//! a batch at some members without a certificate is only a batch that nobody asks for.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use das_common::bls::{AggregateSignature, Signature, verify_same_message};
use das_common::certificate::{Certificate, signed_bytes_v1};
use das_common::data_hash::DataHash;
use das_common::fault::{self, Coded, Fault};
use das_common::keyset::Keyset;
use das_common::telemetry::names;
use das_common::traces::TARGET;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, error, field, info, trace_span, warn};

use crate::backlog::Backlog;
use crate::collect::{Asked, Claim, Collect, MemberFailure, Next, Outcome};
use crate::member::{Authority, Job, Member};
use crate::retry::{Kind, Patience, verdict};

/// Bounds of a fan-out.
#[derive(Debug, Clone)]
pub struct FanOutLimits {
    /// One attempt at one member.
    pub member_timeout: Duration,
    /// How a member that failed is asked again.
    pub patience: Patience,
    /// Bytes kept in memory for late members.
    pub late_bytes: usize,
}

impl Default for FanOutLimits {
    fn default() -> Self {
        Self {
            member_timeout: Duration::from_secs(5),
            patience: Patience { delay: Duration::from_millis(500), total: Duration::from_secs(120) },
            late_bytes: 256 * 1024 * 1024,
        }
    }
}

/// Batches kept for late members, however small: each has a task for every such member.
const MAX_LATE_BATCHES: usize = 1024;
/// What a request may take beyond one member's time: quick second attempts, and the checks.
const GRACE: Duration = Duration::from_secs(2);
/// When too many members have failed, the others have this long to say what they have to say.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A member's part in a failure.
#[derive(Debug, Clone)]
pub struct NamedFailure {
    /// Its name in the committee file.
    pub member: String,
    /// What went wrong.
    pub failure: MemberFailure,
}

/// Why there is no certificate.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Too few members signed. The words before the list are Nitro's; its callers look for the last of them.
    #[error("{summary}: {}", Named(.failures))]
    TooFew {
        /// How many were needed, of how many.
        summary: TooFew,
        /// Every member that did not sign.
        failures: Vec<NamedFailure>,
    },
    /// The signatures were good one by one and the certificate is not. That must not happen and is never handed out.
    #[error(
        "the certificate made does not verify under the committee's own keyset: {reason}. unable to batch to DAS"
    )]
    Unsound {
        /// What the check says.
        reason: String,
    },
}

impl Coded for StoreError {
    fn fault(&self) -> &'static Fault {
        fault::QUORUM_MISSED
    }
}

impl StoreError {
    /// The words that Nitro's callers know, without the members' reasons.
    pub fn in_nitros_words(&self) -> String {
        match self {
            Self::TooFew { summary, .. } => summary.to_string(),
            Self::Unsound { .. } => self.to_string(),
        }
    }
}

/// How many signatures were needed and were not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFew {
    /// K.
    pub needed: usize,
    /// n.
    pub members: usize,
    /// A.
    pub assumed_honest: u64,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, members, assumed_honest } = self;
        write!(
            f,
            "aggregator failed to store message to at least {needed} out of {members} AnyTrust backends \
             (assuming {assumed_honest} are honest). unable to batch to DAS"
        )
    }
}

struct Named<'a>(&'a [NamedFailure]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, NamedFailure { member, failure }) in self.0.iter().enumerate() {
            write!(f, "{}{member}: {failure}", if i > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// The committee, as a thing that batches can be sent to. Cheap to clone.
#[derive(Clone)]
pub struct FanOut {
    shared: Arc<Shared>,
}

struct Shared {
    members: Arc<[Arc<Member>]>,
    keyset: Keyset,
    threshold: usize,
    limits: FanOutLimits,
    late: Mutex<Backlog<CancellationToken>>,
    stop: CancellationToken,
    meters: Meters,
}

struct Meters {
    certificates: Counter,
    failures: Counter,
    nitro_failures: Gauge,
    late: Gauge,
}

/// What a member's task says. It says each at most once, in this order: failed (for now), answered.
enum Report {
    Answered { member: usize, claim: Claim<Signature>, latency: Duration },
    Failed { member: usize, failure: MemberFailure },
}

impl FanOut {
    /// For members in the order of the keyset.
    pub fn new(members: Vec<Arc<Member>>, keyset: Keyset, limits: FanOutLimits) -> Self {
        let meters = Meters {
            certificates: counter!(names::CERTIFICATES, "result" => "ok"),
            failures: counter!(names::CERTIFICATES, "result" => "error"),
            nitro_failures: gauge!(names::RPC_AGGREGATOR_STORE_ERROR),
            late: gauge!(names::RETRY_BATCHES),
        };
        let threshold = keyset.threshold();
        let late = Mutex::new(Backlog::new(limits.late_bytes, MAX_LATE_BATCHES));
        let (members, stop) = (members.into(), CancellationToken::new());
        Self { shared: Arc::new(Shared { members, keyset, threshold, limits, late, stop, meters }) }
    }

    /// The members.
    pub fn members(&self) -> &[Arc<Member>] {
        &self.shared.members
    }

    /// The keyset that certificates are made under.
    pub fn keyset(&self) -> &Keyset {
        &self.shared.keyset
    }

    /// K.
    pub fn threshold(&self) -> usize {
        self.shared.threshold
    }

    /// Bytes and batches kept for late members.
    pub fn late(&self) -> (usize, usize) {
        let late = self.shared.late.lock();
        (late.bytes(), late.batches())
    }

    /// Ends what is still under way for late members.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Sends a batch to every member and returns as soon as enough have signed.
    pub async fn store(
        &self,
        message: Bytes,
        data_hash: DataHash,
        timeout: u64,
        authority: Authority,
    ) -> Result<Certificate, StoreError> {
        let job = Job::new(Asked { data_hash, timeout }, message, authority);
        let (answer, certified) = oneshot::channel();
        let span =
            trace_span!(target: TARGET, "certificate", hash = %data_hash, timeout, signed = field::Empty);
        tokio::spawn(self.shared.clone().run(job, answer).instrument(span));
        certified.await.expect("the task answers before it ends, and it does not panic")
    }
}

impl Shared {
    /// Everything that is done for one batch.
    async fn run(self: Arc<Self>, job: Job, answer: oneshot::Sender<Result<Certificate, StoreError>>) {
        let start = Instant::now();
        let job = Arc::new(job);
        let Asked { data_hash, timeout } = job.asked;
        let (reports, mut inbox) = mpsc::channel(2 * self.members.len());
        // What is still under way when this set is dropped ends with it.
        let mut tasks = JoinSet::new();
        for member in self.members.iter() {
            let (member, job, reports) = (member.clone(), job.clone(), reports.clone());
            let task = MemberTask { member, job, reports, limits: self.limits.clone() };
            let span = trace_span!(
                target: TARGET, "member", otel.kind = "client", member = task.member.name,
                attempts = field::Empty, otel.status_code = field::Empty,
                otel.status_description = field::Empty
            );
            tasks.spawn(task.run().instrument(span));
        }
        drop(reports);

        let (outcome, unchecked) = self.collect(job.asked, &mut inbox).await;
        let certified = match outcome {
            Outcome::Quorum { signed } => self.certify(job.asked, signed).await,
            Outcome::Failed { failures, .. } => Err(self.too_few(failures)),
        };
        match &certified {
            Ok(certificate) => {
                self.meters.certificates.increment(1);
                Span::current().record("signed", certificate.signers_mask.count_ones());
                self.meters.nitro_failures.set(0.0);
                info!(%data_hash, timeout, elapsed = ?start.elapsed(), "certificate made");
            }
            Err(error) => {
                self.meters.failures.increment(1);
                self.meters.nitro_failures.set(1.0);
                error!(%data_hash, timeout, elapsed = ?start.elapsed(), %error, "no certificate");
            }
        }
        // The caller may have gone away.
        let _ = answer.send(certified);
        self.finish_late(&job, inbox, unchecked).await;
    }

    fn too_few(&self, failures: Vec<(usize, MemberFailure)>) -> StoreError {
        let summary = TooFew {
            needed: self.keyset.threshold(),
            members: self.members.len(),
            assumed_honest: self.keyset.assumed_honest(),
        };
        let name =
            |index: usize| self.members.get(index).map_or_else(String::new, |member| member.name.clone());
        let failures = failures.into_iter();
        let failures =
            failures.map(|(index, failure)| NamedFailure { member: name(index), failure }).collect();
        StoreError::TooFew { summary, failures }
    }

    /// Drives the state machine until it is decided. Gives also the answers that were not checked, with the time that
    /// each took.
    async fn collect(
        &self,
        asked: Asked,
        inbox: &mut mpsc::Receiver<Report>,
    ) -> (Outcome<Signature>, Vec<Late>) {
        let mut collect = Collect::new(asked, self.members.len(), self.threshold);
        let mut latencies = vec![Duration::ZERO; self.members.len()];
        let deadline = tokio::time::sleep(self.limits.member_timeout + GRACE);
        tokio::pin!(deadline);
        let (mut expired, mut open, mut hopeless) = (false, true, false);
        let mut check: Option<JoinHandle<Vec<(usize, bool)>>> = None;
        let mut arrived = Vec::new();
        loop {
            let next = tokio::select! {
                count = inbox.recv_many(&mut arrived, self.members.len()), if open => {
                    // None arrived: every task has ended and said its last word.
                    open = count > 0;
                    let heard = arrived.drain(..).map(|report| self.take_in(&asked, report, &mut latencies));
                    if open { collect.heard(heard) } else { collect.give_up() }
                }
                results = ended(&mut check), if check.is_some() => {
                    check = None;
                    for (member, good) in &results {
                        self.note_check(*member, *good, latencies[*member]);
                    }
                    collect.verified(results)
                }
                () = &mut deadline, if !expired => {
                    expired = true;
                    collect.give_up()
                }
            };
            if !hopeless && collect.is_hopeless() {
                hopeless = true;
                let soon = deadline.deadline().min(tokio::time::Instant::now() + LAST_WORDS);
                deadline.as_mut().reset(soon);
            }
            match next {
                Next::Wait => {}
                Next::Verify(signatures) => check = Some(self.check(asked, signatures)),
                Next::Decided => {
                    let outcome = collect.outcome().expect("decided means that there is one").clone();
                    let unchecked = collect.unchecked().into_iter();
                    let late = unchecked.map(|(member, signature)| (member, signature, latencies[member]));
                    return (outcome, late.collect());
                }
            }
        }
    }

    /// A report as the state machine takes it. What is wrong with an answer at first sight is remembered of its member.
    fn take_in(
        &self,
        asked: &Asked,
        report: Report,
        latencies: &mut [Duration],
    ) -> (usize, Result<Claim<Signature>, MemberFailure>) {
        match report {
            Report::Answered { member, claim, latency } => {
                latencies[member] = latency;
                if let Err(failure) = Collect::check_fields(asked, &claim) {
                    self.members[member].health.failed(latency, &failure);
                }
                (member, Ok(claim))
            }
            Report::Failed { member, failure } => (member, Err(failure)),
        }
    }

    /// Remembers what a member's signature turned out to be.
    fn note_check(&self, member: usize, good: bool, latency: Duration) {
        let health = &self.members[member].health;
        if good {
            health.stored(latency);
        } else {
            warn!(member = %self.members[member].name, "a signature is wrong under the member's own key");
            health.failed(latency, &MemberFailure::BadSignature);
        }
    }

    /// Checks signatures together, each under its member's key, away from the threads that serve requests.
    fn check(&self, asked: Asked, signatures: Vec<(usize, Signature)>) -> JoinHandle<Vec<(usize, bool)>> {
        let members = self.members.clone();
        tokio::task::spawn_blocking(move || {
            let signed = signed_bytes_v1(&asked.data_hash, asked.timeout);
            let (indices, pairs): (Vec<usize>, Vec<_>) = signatures
                .into_iter()
                .map(|(member, signature)| (member, (members[member].public_key.clone(), signature)))
                .unzip();
            indices.into_iter().zip(verify_same_message(&signed, &pairs)).collect()
        })
    }

    /// Adds the signatures up, and checks the result as strictly as anybody can before it leaves.
    async fn certify(
        &self,
        asked: Asked,
        signed: Vec<(usize, Signature)>,
    ) -> Result<Certificate, StoreError> {
        let signers_mask = signed.iter().fold(0_u64, |mask, (member, _)| mask | 1 << member);
        let keyset = self.keyset.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let sum = AggregateSignature::sum(signed.iter().map(|(_, signature)| signature));
            let sum = sum.expect("a quorum has at least one signature");
            let certificate = Certificate {
                version: 1,
                keyset_hash: keyset.hash(),
                data_hash: asked.data_hash,
                timeout: asked.timeout,
                signers_mask,
                signature: sum.to_bytes(),
            };
            certificate.verify(&keyset).map(|()| certificate).map_err(|error| error.to_string())
        });
        let checked = checked.await.expect("checking a certificate does not panic and is never aborted");
        checked.map_err(|reason| StoreError::Unsound { reason })
    }

    /// Goes on until every member has the batch or has been given up, or the batch is let go.
    async fn finish_late(&self, job: &Job, mut inbox: mpsc::Receiver<Report>, unchecked: Vec<Late>) {
        self.check_late(job.asked, unchecked).await;
        let abandoned = self.stop.child_token();
        // Nobody is late most of the time.
        if inbox.is_closed() && inbox.is_empty() {
            return;
        }
        let (id, gone) = self.late.lock().add(job.held_bytes(), abandoned.clone());
        self.note_late();
        for oldest in gone {
            warn!("a batch that some members still lack is let go: too many are kept for late members");
            oldest.cancel();
        }
        loop {
            let report = tokio::select! {
                report = inbox.recv() => report,
                () = abandoned.cancelled() => break,
            };
            match report {
                Some(Report::Answered { member, claim, latency }) => {
                    match Collect::check_fields(&job.asked, &claim) {
                        Ok(()) => self.check_late(job.asked, vec![(member, claim.signature, latency)]).await,
                        Err(failure) => self.members[member].health.failed(latency, &failure),
                    }
                }
                Some(Report::Failed { .. }) => {}
                None => break,
            }
        }
        self.late.lock().done(id);
        self.note_late();
    }

    /// Answers that came too late for the certificate still say something about their members.
    async fn check_late(&self, asked: Asked, late: Vec<Late>) {
        if late.is_empty() {
            return;
        }
        let mut latencies = vec![Duration::ZERO; self.members.len()];
        for (member, _, latency) in &late {
            latencies[*member] = *latency;
        }
        let signatures = late.into_iter().map(|(member, signature, _)| (member, signature)).collect();
        let mut check = Some(self.check(asked, signatures));
        for (member, good) in ended(&mut check).await {
            self.note_check(member, good, latencies[member]);
        }
    }

    fn note_late(&self) {
        self.meters.late.set(self.late.lock().batches() as f64);
    }
}

/// A member, its signature, and how long it took.
type Late = (usize, Signature, Duration);

/// The results of a check; for ever waiting when there is none.
async fn ended(check: &mut Option<JoinHandle<Vec<(usize, bool)>>>) -> Vec<(usize, bool)> {
    match check {
        Some(check) => check.await.expect("checking signatures does not panic and is never aborted"),
        None => std::future::pending().await,
    }
}

/// Gets one batch to one member.
struct MemberTask {
    member: Arc<Member>,
    job: Arc<Job>,
    reports: mpsc::Sender<Report>,
    limits: FanOutLimits,
}

impl MemberTask {
    async fn run(self) {
        let Self { member, job, reports, limits } = self;
        let start = Instant::now();
        let mut reported = false;
        for attempt in 1_u32.. {
            let sent = Instant::now();
            Span::current().record("attempts", attempt);
            let failure = match member.store(&job, limits.member_timeout).await {
                Ok(claim) => {
                    let latency = sent.elapsed();
                    // There is room for two reports of every member, and the receiver stays as long as the task.
                    let _ = reports.send(Report::Answered { member: member.index, claim, latency }).await;
                    return;
                }
                Err(failure) => failure,
            };
            let next = verdict(Kind::of(&failure), attempt, start.elapsed(), &limits.patience);
            debug!(member = %member.name, attempt, %failure, again_after = ?next.again_after, "no signature");
            let reason = failure.to_string();
            if next.counts && !reported {
                reported = true;
                member.health.failed(start.elapsed(), &failure);
                let _ = reports.send(Report::Failed { member: member.index, failure }).await;
            }
            let Some(pause) = next.again_after else {
                Span::current().record("otel.status_code", "ERROR");
                Span::current().record("otel.status_description", reason);
                warn!(member = %member.name, hash = %job.asked.data_hash, attempt, "a member is left without a batch");
                return;
            };
            tokio::time::sleep(pause).await;
        }
    }
}
