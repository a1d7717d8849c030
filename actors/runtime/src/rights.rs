use std::time::Duration;

use dashmap::DashMap;
use jiff::{SignedDuration, Timestamp};
use kubernaut_machines::actions::AccessRequest;

use crate::ports::Account;

/// How long a yes counts: a workflow's steps ask for the same within seconds, and a right that is taken away must
/// not live on for long (the figure of the executor's specification).
pub(crate) const YES_COUNTS_FOR: Duration = Duration::from_secs(30);

/// From this size on, answers that no longer count are thrown out.
const SWEEP_AT: usize = 4096;

/// Answers that were yes. A no is asked again each time, so that a right that is given helps at once.
#[derive(Default)]
pub(crate) struct RightsCache {
    until: DashMap<Question, Timestamp>,
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
        if self.until.len() >= SWEEP_AT {
            self.until.retain(|_, until| now < *until);
        }
        let span = SignedDuration::try_from(YES_COUNTS_FOR).unwrap_or(SignedDuration::ZERO);
        if let Ok(until) = now.checked_add(span) {
            self.until.insert(question, until);
        }
    }
}
