//! Answers to questions about rights, kept for a while.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kubernaut_machines::actions::AccessRequest;

use crate::ports::Account;

/// How long a yes counts: a workflow's steps ask for the same within seconds, and a right that is taken away must
/// not live on for long (docs/executions.md, Validation).
const YES_COUNTS_FOR: SignedDuration = SignedDuration::from_secs(30);

/// From this size on, answers that no longer count are thrown out; the next time at twice what then was left, so that
/// many answers that count don't make each new one a walk through all.
const SWEEP_AT: usize = 4096;

/// Answers that were yes. A no is asked again each time, so that a right that is given helps at once.
pub(crate) struct RightsCache {
    answers: Mutex<Answers>,
}

struct Answers {
    until: BTreeMap<Question, Timestamp>,
    sweep_at: usize,
}

impl Default for RightsCache {
    fn default() -> Self {
        Self {
            answers: Mutex::new(Answers {
                until: BTreeMap::new(),
                sweep_at: SWEEP_AT,
            }),
        }
    }
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    Exists(Account),
    May(Account, AccessRequest),
}

impl RightsCache {
    pub(crate) fn is_yes(&self, question: &Question, now: Timestamp) -> bool {
        self.lock().until.get(question).is_some_and(|until| now < *until)
    }

    pub(crate) fn note_yes(&self, question: Question, now: Timestamp) {
        let mut answers = self.lock();
        if answers.until.len() >= answers.sweep_at {
            answers.until.retain(|_, until| now < *until);
            answers.sweep_at = SWEEP_AT.max(2 * answers.until.len());
        }
        if let Ok(end) = now.checked_add(YES_COUNTS_FOR) {
            answers.until.insert(question, end);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        // Nothing in here panics between two changes that belong together.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(cache.lock().sweep_at, 2 * SWEEP_AT);
        cache.note_yes(exists(0), now + YES_COUNTS_FOR);
        assert_eq!(cache.lock().until.len(), 1);
        assert_eq!(cache.lock().sweep_at, SWEEP_AT);
    }
}
