use ractor::ActorRef;

use crate::supervisor::SupervisorMessage;

/// The right to run one execution. There is one at a time for each uid, made by the supervisor; whoever drops it has
/// ended, or has never begun: the supervisor hears of it either way. It lives in the state of the step actor, so that no
/// crash, stop or kill can lose it.
pub(crate) struct Claim {
    uid: String,
    number: u64,
    finished_at: Option<u64>,
    supervisor: ActorRef<SupervisorMessage>,
}

impl Claim {
    pub(crate) fn new(uid: String, number: u64, supervisor: ActorRef<SupervisorMessage>) -> Self {
        Self {
            uid,
            number,
            finished_at: None,
            supervisor,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn finished_at(&self) -> Option<u64> {
        self.finished_at
    }

    /// The machine said that nothing is left to do for the object of this version.
    pub(crate) fn finish(&mut self, version: u64) {
        self.finished_at = Some(version);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let ended = SupervisorMessage::RunEnded {
            uid: std::mem::take(&mut self.uid),
            number: self.number,
            finished_at: self.finished_at,
        };
        // A supervisor that has ended has no use for it.
        let _ = self.supervisor.cast(ended);
    }
}

#[cfg(test)]
impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "claim {} on {}", self.number, self.uid)
    }
}
