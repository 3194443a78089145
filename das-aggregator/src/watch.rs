//! Looks after the members: asks each for its health and its expiration policy, and raises alarms.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use das_common::alarm::Alarms;
use das_common::fault::{self, Fault};
use das_common::store_auth::StoreKey;
use das_common::wire::ExpirationPolicy;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fan_out::FanOut;
use crate::health::Trouble;
use crate::member::Member;

/// Time between two looks. A look costs a Nitro member a small file, so it is not taken more often than needed.
const INTERVAL: Duration = Duration::from_secs(30);
/// The same while somebody is not well.
const ANXIOUS_INTERVAL: Duration = Duration::from_secs(5);
/// A look stands for this long.
const FRESH: Duration = Duration::from_secs(2);
/// A member that admits our key is not asked about it again for this long.
const KEY_FRESH: Duration = Duration::from_secs(600);
/// Who asks how the committee is waits at most so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known about the committee as a whole. Cheap to clone.
#[derive(Clone)]
pub struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    fan_out: FanOut,
    alarms: Alarms,
    timeout: Duration,
    /// What the aggregator stores in its own name is signed with it.
    key: Option<Arc<StoreKey>>,
    /// What each member thinks of the key, and since when.
    admitted: Mutex<HashMap<usize, (bool, Instant)>>,
    policy: Mutex<Option<ExpirationPolicy>>,
    /// The last look, which may still be under way.
    look: Mutex<Option<Look>>,
}

#[derive(Clone)]
struct Look {
    began: Instant,
    progress: watch::Receiver<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    healthy: usize,
    ended: bool,
}

/// The committee at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitteeHealth {
    /// Members that answered that they are well.
    pub healthy: usize,
    /// How many of them a certificate needs.
    pub needed: usize,
}

impl CommitteeHealth {
    /// Can certificates be made?
    pub fn is_enough(&self) -> bool {
        self.healthy >= self.needed
    }
}

impl Watch {
    /// Watches the members that `fan_out` sends to; each has `timeout` to answer. They are asked about the key, too.
    pub fn new(fan_out: FanOut, alarms: Alarms, timeout: Duration, key: Option<Arc<StoreKey>>) -> Self {
        let (policy, look, admitted) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { fan_out, alarms, timeout, key, admitted, policy, look }) }
    }

    /// Looks from time to time until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let mut progress = self.begin();
            let all_well = async {
                // The sender goes away only after it said that the look has ended.
                let _ = progress.wait_for(|progress| progress.ended).await;
                self.health().healthy == self.shared.fan_out.members().len()
            };
            let pause = tokio::select! {
                all_well = all_well => if all_well { INTERVAL } else { ANXIOUS_INTERVAL },
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Asks all members at once, unless that was just done, and says whether enough are well. It waits for no more
    /// members than that takes, and not long for any: members that hang do not make the committee's health hang.
    pub async fn look(&self) -> CommitteeHealth {
        let needed = self.shared.fan_out.threshold();
        let mut progress = self.begin();
        // Probes have little patience; whoever has not answered by now is not well enough to count.
        let decided = progress.wait_for(|progress| progress.ended || progress.healthy >= needed);
        let _ = tokio::time::timeout(PATIENCE, decided).await;
        let healthy = progress.borrow().healthy;
        CommitteeHealth { healthy, needed }
    }

    /// Begins a look, unless there is a fresh one.
    fn begin(&self) -> watch::Receiver<Progress> {
        let mut look = self.shared.look.lock();
        if let Some(last) =
            look.as_ref().filter(|last| last.began.elapsed() < FRESH || !last.progress.borrow().ended)
        {
            return last.progress.clone();
        }
        let (sender, progress) = watch::channel(Progress::default());
        *look = Some(Look { began: Instant::now(), progress: progress.clone() });
        let shared = self.shared.clone();
        tokio::spawn(async move { shared.ask_all(&sender).await });
        progress
    }

    /// Begins a look, unless one was just taken, and does not wait for it.
    pub fn glance(&self) {
        drop(self.begin());
    }

    /// What the last look, and the stores since, have shown.
    pub fn health(&self) -> CommitteeHealth {
        let members = self.shared.fan_out.members();
        let healthy = members.iter().filter(|member| member.health.is_healthy() == Some(true)).count();
        CommitteeHealth { healthy, needed: self.shared.fan_out.threshold() }
    }

    /// What the members say, if they agree. Who asks before any member said so waits for a look, but not long.
    pub async fn expiration_policy(&self) -> ExpirationPolicy {
        if self.shared.policy.lock().is_none() {
            let mut progress = self.begin();
            let _ = tokio::time::timeout(PATIENCE, progress.wait_for(|progress| progress.ended)).await;
        }
        self.known_expiration_policy()
    }

    /// What the members have said so far, if they agree.
    pub fn known_expiration_policy(&self) -> ExpirationPolicy {
        self.shared.policy.lock().unwrap_or(ExpirationPolicy::MixedTimeout)
    }
}

impl Shared {
    async fn ask_all(&self, progress: &watch::Sender<Progress>) {
        let members = self.fan_out.members();
        let answers = join_all(members.iter().map(|member| async {
            let error = member.client().health_check(self.timeout).await.err().map(|error| error.to_string());
            member.health.probed(error.clone());
            if error.is_none() {
                progress.send_modify(|progress| progress.healthy += 1);
            }
            let policy = member.client().expiration_policy(self.timeout).await.ok();
            if error.is_none() {
                self.show_key(member).await;
            }
            (error, policy)
        }))
        .await;
        *self.policy.lock() = agreed(answers.iter().filter_map(|(_, policy)| *policy));
        let down = members.iter().zip(&answers).filter_map(|(member, (error, _))| {
            error.as_ref().map(|error| format!("{}: {error}", member.name))
        });
        self.note_alarms(&down.collect::<Vec<_>>());
        progress.send_modify(|progress| progress.ended = true);
    }

    /// Finds out whether the member takes what is signed with our key, before the sequencer's next batch does.
    async fn show_key(&self, member: &Member) {
        let Some(key) = &self.key else { return };
        let is_known = |known: &(bool, Instant)| known.0 && known.1.elapsed() < KEY_FRESH;
        if self.admitted.lock().get(&member.index).is_some_and(is_known) {
            return;
        }
        // Who cannot tell now, or knows no chunks, is no better and no worse than before.
        if let Ok(admits) = member.client().admits(key, self.timeout).await {
            self.admitted.lock().insert(member.index, (admits, Instant::now()));
        }
    }

    fn note_alarms(&self, down: &[String]) {
        self.set(fault::MEMBER_DOWN, down);
        let members = self.fan_out.members();
        let in_trouble = |wanted: Trouble| -> Vec<String> {
            let troubles = members.iter().filter_map(|member| Some((member, member.health.trouble()?)));
            let wanted = troubles.filter(|(_, (trouble, _))| *trouble == wanted);
            wanted.map(|(member, (_, reason))| format!("{}: {reason}", member.name)).collect()
        };
        self.set(fault::MEMBER_REFUSES, &in_trouble(Trouble::Refuses));
        self.set(fault::MEMBER_WRONG, &in_trouble(Trouble::Wrong));
        let admitted = self.admitted.lock().clone();
        let refuses = |member: &&Arc<Member>| admitted.get(&member.index).is_some_and(|(admits, _)| !admits);
        let refusing: Vec<String> =
            members.iter().filter(refuses).map(|member| member.name.clone()).collect();
        let of_key = |key: &Arc<StoreKey>| format!("{} of {}", key.address(), refusing.join(", "));
        let reason = self.key.as_ref().filter(|_| !refusing.is_empty()).map(of_key);
        self.set(fault::MEMBER_KEY, reason.as_slice());
        let needed = self.fan_out.threshold();
        let healthy = members.len() - down.len();
        let thin = (!down.is_empty() && healthy <= needed)
            .then(|| format!("{healthy} of {} members are well, {needed} are needed", members.len()));
        self.set(fault::QUORUM_THIN, thin.as_slice());
    }

    fn set(&self, fault: &'static Fault, reasons: &[String]) {
        if reasons.is_empty() {
            self.alarms.clear(fault.code);
        } else {
            self.alarms.raise_fault(fault, reasons.join("; "));
        }
    }
}

/// The one policy that all name, or that they differ; nothing when nobody said.
fn agreed(mut policies: impl Iterator<Item = ExpirationPolicy>) -> Option<ExpirationPolicy> {
    let first = policies.next()?;
    Some(if policies.all(|policy| policy == first) { first } else { ExpirationPolicy::MixedTimeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_differ_are_mixed() {
        use ExpirationPolicy::{DiscardAfterDataTimeout, KeepForever, MixedTimeout};
        assert_eq!(agreed([].into_iter()), None);
        assert_eq!(agreed([KeepForever, KeepForever].into_iter()), Some(KeepForever));
        assert_eq!(agreed([KeepForever, DiscardAfterDataTimeout].into_iter()), Some(MixedTimeout));
    }
}
