//! Jobs whose create was sent and that no watch has shown yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use kubernaut_machines::job_view::JobView;
use kubernaut_machines::time::{CREATE_WINDOW, later};
use ractor::ActorRef;

use crate::supervisor::SupervisorMessage;

/// What the last one who ran an execution knew: whoever comes next must not begin with less, and the store may lag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunEnd {
    /// Version of the execution.
    pub(crate) version: u64,
    /// Nothing is left to do for this version.
    pub(crate) finished: bool,
    /// The store has shown the execution: when it shows it no longer, it is gone.
    pub(crate) stored: bool,
    /// A Job that was asked for and that the store had not shown.
    pub(crate) unseen: Option<UnseenJob>,
}

/// A Job that may exist although the store does not show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnseenJob {
    name: String,
    sent: Sent,
}

/// When something of a call was last sent. A call waits for its turn, and may be sent minutes after it was asked for:
/// what it can still do counts from then.
#[derive(Clone, Debug)]
pub(crate) struct Sent(Arc<AtomicI64>);

impl Sent {
    /// Nothing was sent yet; it was asked for at `now`.
    pub(crate) fn asked_for(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.as_microsecond())))
    }

    /// Something of it may be sent now.
    pub(crate) fn note(&self, now: Timestamp) {
        self.0.fetch_max(now.as_microsecond(), Ordering::AcqRel);
    }

    fn last(&self) -> Timestamp {
        let micros = self.0.load(Ordering::Acquire);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }
}

impl PartialEq for Sent {
    fn eq(&self, other: &Self) -> bool {
        self.last() == other.last()
    }
}

impl Eq for Sent {}

impl UnseenJob {
    pub(crate) fn new(name: String, sent: Sent) -> Self {
        Self { name, sent }
    }

    /// Until when it may still come; `None` when it can't any more, or is among the Jobs in the store.
    pub(crate) fn awaited_until(&self, jobs: &[JobView], now: Timestamp) -> Option<Timestamp> {
        let until = later(self.sent.last(), CREATE_WINDOW);
        let awaited = now < until && !self.is_among(jobs);
        awaited.then_some(until)
    }

    fn is_among(&self, jobs: &[JobView]) -> bool {
        // A view without a uid is of pods whose Job was not seen.
        jobs.iter()
            .any(|job| job.name == self.name && !job.uid.is_empty())
    }
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
        self.end.clone()
    }

    /// The machine knows the object in this version.
    pub(crate) fn seen(&mut self, version: u64) {
        self.end.version = self.end.version.max(version);
    }

    /// The store shows the execution.
    pub(crate) fn stored(&mut self) {
        self.end.stored = true;
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.end.stored
    }

    /// A Job is asked for.
    pub(crate) fn asked_for(&mut self, job: UnseenJob) {
        self.end.unseen = Some(job);
    }

    /// The Job that was asked for was refused.
    pub(crate) fn refused(&mut self) {
        self.end.unseen = None;
    }

    /// The store shows these Jobs.
    pub(crate) fn shown(&mut self, jobs: &[JobView]) {
        if self.end.unseen.as_ref().is_some_and(|job| job.is_among(jobs)) {
            self.end.unseen = None;
        }
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
            end: std::mem::take(&mut self.end),
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_job_is_awaited_from_when_its_call_was_sent_and_not_from_when_it_was_asked_for() {
        let asked = Timestamp::from_second(1_800_000_000).unwrap();
        let after = |seconds: i64| asked + SignedDuration::from_secs(seconds);
        let sent = Sent::asked_for(asked);
        let job = UnseenJob::new("j".into(), sent.clone());
        assert_eq!(job.awaited_until(&[], after(59)), Some(after(60)));
        assert_eq!(job.awaited_until(&[], after(60)), None);
        sent.note(after(94));
        assert_eq!(job.awaited_until(&[], after(153)), Some(after(154)));
        assert_eq!(job.awaited_until(&[], after(154)), None);
    }
}
