//! So many a second, all together.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Between two, when there are more than a few at once.
const INTERVAL: SignedDuration = SignedDuration::from_millis(500);
/// So many may come at once after a pause.
const AT_ONCE: i32 = 4;

/// What is asked for only to tell people more: two a second. When a node is full or a registry is slow, every Job wants it at once,
/// and the API server has enough to do.
#[derive(Default)]
pub(crate) struct Budget {
    /// When all that was taken would have come at the usual interval.
    spent_until: Mutex<Option<Timestamp>>,
}

impl Budget {
    /// Whether there is one more, which then is taken.
    pub(crate) fn takes(&self, now: Timestamp) -> bool {
        let mut spent_until = self.spent_until.lock().unwrap_or_else(PoisonError::into_inner);
        let next = spent_until.map_or(now, |until| until.max(now)) + INTERVAL;
        if next > now + INTERVAL * AT_ONCE {
            return false;
        }
        *spent_until = Some(next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_come_at_once_and_then_two_a_second() {
        let budget = Budget::default();
        let start = Timestamp::from_second(1_800_000_000).expect("a time");
        let taken = |millis| {
            (0..10)
                .filter(|_| budget.takes(start + SignedDuration::from_millis(millis)))
                .count()
        };
        assert_eq!(taken(0), 4);
        assert_eq!(taken(400), 0);
        assert_eq!(taken(1_000), 2);
        assert_eq!(taken(60_000), 4);
    }
}
