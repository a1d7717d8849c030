//! How soon an actor that crashed is started again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Crashes after which an actor is given up.
pub(crate) const MAX_RESTARTS: u32 = 5;
/// An actor that has lived this long has recovered: its crashes are forgotten.
const RECOVERED_AFTER: SignedDuration = SignedDuration::from_mins(5);
/// Longest pause before a restart.
const LONGEST_PAUSE: u64 = 30;

/// How often an actor has crashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restarts {
    crashes: u32,
    started: Option<Timestamp>,
}

impl Restarts {
    /// It was started.
    pub(crate) fn started(&mut self, now: Timestamp) {
        self.started = Some(now);
    }

    /// It crashed: the pause before it is started again (1, 2, 4 .. 30 s), or `None` when it is given up.
    pub(crate) fn crashed(&mut self, now: Timestamp) -> Option<Duration> {
        if self
            .started
            .is_some_and(|started| now.duration_since(started) >= RECOVERED_AFTER)
        {
            self.crashes = 0;
        }
        self.crashes = self.crashes.saturating_add(1);
        if self.crashes > MAX_RESTARTS {
            return None;
        }
        Some(Duration::from_secs(
            (1_u64 << (self.crashes - 1)).min(LONGEST_PAUSE),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_the_sixth_crash_is_the_last() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut restarts = Restarts::default();
        restarts.started(now);
        let pauses: Vec<_> = (0..6)
            .map(|_| restarts.crashed(now).map(|pause| pause.as_secs()))
            .collect();
        assert_eq!(pauses, [Some(1), Some(2), Some(4), Some(8), Some(16), None]);
    }

    #[test]
    fn an_actor_that_lived_for_five_minutes_begins_anew() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut restarts = Restarts::default();
        for _ in 0..5 {
            restarts.crashed(now);
        }
        restarts.started(now);
        let later = now + SignedDuration::from_mins(5);
        assert_eq!(restarts.crashed(later), Some(Duration::from_secs(1)));
    }
}
