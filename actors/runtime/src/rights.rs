//! Answers to questions about rights, kept for a while.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use jiff::{SignedDuration, Timestamp};
use kubernaut_machines::actions::AccessRequest;

use crate::ports::Account;

/// How long a yes counts: a workflow's steps ask for the same within seconds, and a right that is taken away must
/// not live on for long (docs/executions.md, Validation).
const YES_COUNTS_FOR: SignedDuration = SignedDuration::from_secs(30);

/// From this size on, answers that no longer count are thrown out; the next time at twice what then was left, so that
/// many answers that count don't make each new one a walk through all.
const SWEEP_AT: usize = 4096;

/// Answers that were yes. A no is asked again each time, so that a right that is given helps at once. Every step looks here before
/// it asks, many at once, and writes rarely.
pub(crate) struct RightsCache {
    until: DashMap<Question, Timestamp>,
    sweep_at: AtomicUsize,
}

impl Default for RightsCache {
    fn default() -> Self {
        Self {
            until: DashMap::new(),
            sweep_at: AtomicUsize::new(SWEEP_AT),
        }
    }
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    Exists(Account),
    May(Account, AccessRequest),
}

impl RightsCache {
    pub(crate) fn is_yes(&self, question: &Question, now: Timestamp) -> bool {
        self.until.get(question).is_some_and(|until| now < *until)
    }

    pub(crate) fn note_yes(&self, question: Question, now: Timestamp) {
        if self.until.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.until.retain(|_, until| now < *until);
            let next = SWEEP_AT.max(2 * self.until.len());
            self.sweep_at.store(next, Ordering::Relaxed);
        }
        if let Ok(end) = now.checked_add(YES_COUNTS_FOR) {
            self.until.insert(question, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_counts_for_thirty_seconds() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let account = Account {
            namespace: "shop".to_owned(),
            name: "default".to_owned(),
        };
        let question = Question::Exists(account);
        let cache = RightsCache::default();
        assert!(!cache.is_yes(&question, now));
        cache.note_yes(question.clone(), now);
        assert!(cache.is_yes(&question, now + SignedDuration::from_secs(29)));
        assert!(!cache.is_yes(&question, now + SignedDuration::from_secs(30)));
    }

    #[test]
    fn answers_that_still_count_are_walked_through_only_each_time_they_have_doubled() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let exists = |number: usize| {
            Question::Exists(Account {
                namespace: "shop".to_owned(),
                name: number.to_string(),
            })
        };
        let cache = RightsCache::default();
        for number in 0..2 * SWEEP_AT {
            cache.note_yes(exists(number), now);
        }
        assert_eq!(cache.sweep_at.load(Ordering::Relaxed), 2 * SWEEP_AT);
        cache.note_yes(exists(0), now + YES_COUNTS_FOR);
        assert_eq!(cache.until.len(), 1);
        assert_eq!(cache.sweep_at.load(Ordering::Relaxed), SWEEP_AT);
    }
}
