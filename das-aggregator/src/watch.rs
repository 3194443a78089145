//! Looks after the members: asks each for its health and its expiration policy, and raises alarms.

use std::sync::Arc;
use std::time::Duration;

use das_common::alarm::Alarms;
use das_common::fault;
use das_common::wire::ExpirationPolicy;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::fan_out::FanOut;

/// Time between two looks. A look costs a Nitro member a small file, so it is not taken more often than needed.
const INTERVAL: Duration = Duration::from_secs(30);
/// A look taken for a caller stands for this long.
const FRESH: Duration = Duration::from_secs(2);

/// What is known about the committee as a whole. Cheap to clone.
#[derive(Clone)]
pub struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    fan_out: FanOut,
    alarms: Alarms,
    timeout: Duration,
    policy: Mutex<Option<ExpirationPolicy>>,
    /// When the last look ended. Held while one is taken, so that there is one at a time.
    looked: tokio::sync::Mutex<Option<tokio::time::Instant>>,
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
    /// Watches the members that `fan_out` sends to; each has `timeout` to answer.
    pub fn new(fan_out: FanOut, alarms: Alarms, timeout: Duration) -> Self {
        let (policy, looked) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { shared: Arc::new(Shared { fan_out, alarms, timeout, policy, looked }) }
    }

    /// Looks from time to time until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                _ = self.look() => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Asks all members at once, unless somebody just did.
    pub async fn look(&self) -> CommitteeHealth {
        let mut looked = self.shared.looked.lock().await;
        if looked.is_none_or(|at| at.elapsed() > FRESH) {
            self.shared.ask_all().await;
            *looked = Some(tokio::time::Instant::now());
        }
        self.health()
    }

    /// What the last look, and the stores since, have shown.
    pub fn health(&self) -> CommitteeHealth {
        let members = self.shared.fan_out.members();
        let healthy = members.iter().filter(|member| member.health.is_healthy() == Some(true)).count();
        CommitteeHealth { healthy, needed: self.shared.fan_out.threshold() }
    }

    /// What the members say, if they agree.
    pub fn expiration_policy(&self) -> ExpirationPolicy {
        self.shared.policy.lock().unwrap_or(ExpirationPolicy::MixedTimeout)
    }
}

impl Shared {
    async fn ask_all(&self) {
        let members = self.fan_out.members();
        let answers = join_all(members.iter().map(|member| async {
            let healthy = member.client().health_check(self.timeout).await;
            let policy = member.client().expiration_policy(self.timeout).await.ok();
            (healthy.err().map(|error| error.to_string()), policy)
        }))
        .await;
        let mut down = Vec::new();
        for (member, (error, _)) in members.iter().zip(&answers) {
            if let Some(error) = error {
                down.push(format!("{}: {error}", member.name));
            }
            member.health.probed(error.clone());
        }
        *self.policy.lock() = agreed(answers.iter().filter_map(|(_, policy)| *policy));
        self.note_alarms(&down);
    }

    fn note_alarms(&self, down: &[String]) {
        if down.is_empty() {
            self.alarms.clear(fault::MEMBER_DOWN.code);
        } else {
            self.alarms.raise_fault(fault::MEMBER_DOWN, down.join("; "));
        }
        let (members, needed) = (self.fan_out.members().len(), self.fan_out.threshold());
        let healthy = members - down.len();
        if down.is_empty() || healthy > needed {
            self.alarms.clear(fault::QUORUM_THIN.code);
        } else {
            let text = format!("{healthy} of {members} members are well, {needed} are needed");
            self.alarms.raise_fault(fault::QUORUM_THIN, text);
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
