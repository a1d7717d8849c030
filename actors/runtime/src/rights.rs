use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kubernaut_machines::actions::AccessRequest;

use crate::ports::Account;

/// How long a yes counts: a workflow's steps ask for the same within seconds, and a right that is taken away must
/// not live on for long (the figure of the executor's specification).
const YES_COUNTS_FOR: SignedDuration = SignedDuration::from_secs(30);

/// From this size on, answers that no longer count are thrown out.
const SWEEP_AT: usize = 4096;

/// Answers that were yes. A no is asked again each time, so that a right that is given helps at once.
#[derive(Default)]
pub(crate) struct RightsCache {
    until: Mutex<BTreeMap<Question, Timestamp>>,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    Exists(Account),
    May(Account, AccessRequest),
}

impl RightsCache {
    pub(crate) fn is_yes(&self, question: &Question, now: Timestamp) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(question).is_some_and(|until| now < *until)
    }

    pub(crate) fn note_yes(&self, question: Question, now: Timestamp) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= SWEEP_AT {
            until.retain(|_, until| now < *until);
        }
        if let Ok(end) = now.checked_add(YES_COUNTS_FOR) {
            until.insert(question, end);
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
}
