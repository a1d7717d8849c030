//! Complaints that would be told again and again, told now and then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kubernaut_machines::api_command::FailureClass;

/// One complaint about one object is told once in this time.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);
/// More than that many are looked through for those that are over.
const MANY: usize = 1024;

/// What was complained of lately: a call that fails again and again is told of once, and then once a minute.
#[derive(Default)]
pub(crate) struct Complaints {
    lately: Mutex<HashMap<(String, FailureClass), Told>>,
}

#[derive(Clone, Copy)]
struct Told {
    at: Timestamp,
    since: u32,
}

impl Complaints {
    /// Whether to tell now of a failed call for the object of this uid, and how many were not told of since the last time.
    pub(crate) fn is_due(&self, uid: &str, class: FailureClass, now: Timestamp) -> Option<u32> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |told: &Told| now.duration_since(told.at) >= PAUSE;
        if lately.len() > MANY {
            lately.retain(|_, told| !is_over(told));
        }
        let told = lately.get_mut(&(uid.to_owned(), class));
        if let Some(told) = told.filter(|told| !is_over(told)) {
            told.since = told.since.saturating_add(1);
            return None;
        }
        let before = lately.insert((uid.to_owned(), class), Told { at: now, since: 0 });
        Some(before.map_or(0, |told| told.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_told_of_once_and_then_once_a_minute() {
        let complaints = Complaints::default();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let due = |uid: &str, class: FailureClass, second: i64| {
            complaints.is_due(uid, class, start + SignedDuration::from_secs(second))
        };
        assert_eq!(due("a", FailureClass::Rejected, 0), Some(0));
        for second in 1..60 {
            assert_eq!(due("a", FailureClass::Rejected, second), None);
        }
        assert_eq!(due("a", FailureClass::Unknown, 1), Some(0));
        assert_eq!(due("b", FailureClass::Rejected, 1), Some(0));
        assert_eq!(due("a", FailureClass::Rejected, 60), Some(59));
        assert_eq!(due("a", FailureClass::Rejected, 61), None);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let complaints = Complaints::default();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        for number in 0..=MANY {
            complaints.is_due(&number.to_string(), FailureClass::Unknown, start);
        }
        complaints.is_due("late", FailureClass::Unknown, start + PAUSE);
        assert_eq!(complaints.lately.lock().unwrap().len(), 1);
    }
}
