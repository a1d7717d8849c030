//! The calls to the API that a machine has under way, its pauses after those that failed, and when it wants to be woken.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api_command::CommandId;
use crate::time::{call_backoff, later};

/// What a machine has asked of the API; `P` says why.
#[derive(Debug)]
pub(crate) struct Calls<P> {
    last_id: u64,
    under_way: BTreeMap<CommandId, P>,
    /// The machine's own object must be read again before anything is decided.
    pub(crate) reread: bool,
    /// How many calls in a row failed of what may succeed later.
    failures: u32,
    /// What failed last of it.
    failing: Option<P>,
    paused_until: Option<Timestamp>,
    pub(crate) alarm: Alarm,
}

/// When a machine wants to look again, and why: the earliest of several times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alarm(Option<(Timestamp, &'static str)>);

impl Alarm {
    /// Sets it, unless it is set to an earlier time.
    pub(crate) fn set(&mut self, at: Timestamp, why: &'static str) {
        if self.0.is_none_or(|(earlier, _)| at < earlier) {
            self.0 = Some((at, why));
        }
    }
}

impl<P> Default for Calls<P> {
    fn default() -> Self {
        Self {
            last_id: 0,
            under_way: BTreeMap::new(),
            reread: false,
            failures: 0,
            failing: None,
            paused_until: None,
            alarm: Alarm::default(),
        }
    }
}

impl<P: Copy + PartialEq> Calls<P> {
    /// A call is sent.
    pub(crate) fn begin(&mut self, purpose: P) -> CommandId {
        self.last_id += 1;
        let id = CommandId(self.last_id);
        self.under_way.insert(id, purpose);
        id
    }

    /// It was answered; `None` when nobody waits for that answer.
    pub(crate) fn end(&mut self, id: CommandId) -> Option<P> {
        self.under_way.remove(&id)
    }

    /// Nobody waits for answers to this any more.
    pub(crate) fn forget(&mut self, purpose: P) {
        self.under_way.retain(|_, other| *other != purpose);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(crate) fn is_under_way(&self, purpose: P) -> bool {
        self.under_way.values().any(|other| *other == purpose)
    }

    /// How many are under way of those that `is_meant` says.
    pub(crate) fn count(&self, is_meant: impl Fn(P) -> bool) -> usize {
        self.under_way
            .values()
            .filter(|purpose| is_meant(**purpose))
            .count()
    }

    /// A call failed that may succeed later: nothing is sent for a while.
    pub(crate) fn pause(&mut self, now: Timestamp, purpose: P) {
        self.failing = Some(purpose);
        self.failures = self.failures.saturating_add(1);
        self.paused_until = Some(later(now, call_backoff(self.failures)));
    }

    /// Makes the pause end at this time.
    pub(crate) fn pause_until(&mut self, at: Timestamp) {
        self.paused_until = Some(at);
    }

    /// A call succeeded. That another one did, under way at the same time, is no success of what failed.
    pub(crate) fn succeeded(&mut self, purpose: P) {
        if self.failing.is_none_or(|failing| failing == purpose) {
            self.recovered();
        }
    }

    /// What failed has succeeded.
    pub(crate) fn recovered(&mut self) {
        self.failures = 0;
        self.failing = None;
        self.paused_until = None;
    }

    /// The pause is over; what failed may fail again, and the next pause is longer.
    pub(crate) fn resume(&mut self) {
        self.paused_until = None;
    }

    /// Whether nothing may be sent yet.
    pub(crate) fn is_paused(&mut self, now: Timestamp) -> bool {
        self.paused_until = self.paused_until.filter(|until| now < *until);
        self.paused_until.is_some()
    }

    /// When the machine is to be woken, and why.
    pub(crate) fn deadline(&self) -> Option<(Timestamp, &'static str)> {
        let pause = self.paused_until.map(|until| (until, "retry of an API call"));
        pause.into_iter().chain(self.alarm.0).min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_success_ends_the_pauses_of_what_failed_alone() {
        let now = Timestamp::UNIX_EPOCH;
        let mut calls = Calls::default();
        let write = calls.begin("write");
        assert_eq!(calls.end(write), Some("write"));
        assert_eq!(calls.end(write), None);
        calls.pause(now, "write");
        calls.succeeded("read");
        assert!(calls.is_paused(now));
        calls.pause(now, "write");
        let second = later(now, Duration::from_millis(400));
        assert_eq!(calls.deadline(), Some((second, "retry of an API call")));
        assert!(!calls.is_paused(second));
        calls.pause(now, "write");
        calls.succeeded("write");
        assert!(!calls.is_paused(now));
        calls.pause(now, "write");
        assert!(!calls.is_paused(later(now, Duration::from_millis(200))));
    }

    #[test]
    fn the_earliest_of_several_times_is_the_one_that_counts() {
        let mut calls: Calls<()> = Calls::default();
        for (second, why) in [(7, "late"), (3, "early"), (5, "between")] {
            calls.alarm.set(Timestamp::from_second(second).unwrap(), why);
        }
        assert_eq!(
            calls.deadline(),
            Some((Timestamp::from_second(3).unwrap(), "early"))
        );
    }
}
