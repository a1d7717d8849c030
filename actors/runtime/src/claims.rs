use ractor::ActorRef;

use crate::supervisor::SupervisorMessage;

/// What the last one who ran an execution knew: whoever comes next must not begin with less, and the store may lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunEnd {
    /// Version of the execution.
    pub(crate) version: u64,
    /// Nothing is left to do for this version.
    pub(crate) finished: bool,
}

/// The right to run one execution. There is one at a time for each uid, made by the supervisor; whoever drops it has
/// ended, or has never begun: the supervisor hears of it either way. It lives in the state of the step actor, so that no
/// crash, stop or kill can lose it.
pub(crate) struct Claim {
    uid: String,
    number: u64,
    end: RunEnd,
    supervisor: ActorRef<SupervisorMessage>,
}

impl Claim {
    pub(crate) fn new(uid: String, number: u64, supervisor: ActorRef<SupervisorMessage>) -> Self {
        Self {
            uid,
            number,
            end: RunEnd::default(),
            supervisor,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn end(&self) -> RunEnd {
        self.end
    }

    /// The machine knows the object in this version.
    pub(crate) fn seen(&mut self, version: u64) {
        self.end.version = self.end.version.max(version);
    }

    /// The machine said that nothing is left to do for the object as it knows it.
    pub(crate) fn finish(&mut self) {
        self.end.finished = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let ended = SupervisorMessage::RunEnded {
            uid: std::mem::take(&mut self.uid),
            number: self.number,
            end: self.end,
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
