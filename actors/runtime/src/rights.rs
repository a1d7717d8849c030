//! Answers to questions about rights, kept for a while.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use jiff::{SignedDuration, Timestamp};
use kubernaut_machines::actions::AccessRequest;

use crate::ports::Account;

/// How long an answer counts: a workflow's steps ask for the same within seconds, and a right that is taken away must
/// not live on for long (docs/executions.md, Validation).
const COUNTS_FOR: SignedDuration = SignedDuration::from_secs(30);

/// How long an account is taken to exist that did: whether it may do something is asked apart from that, and a Job whose account
/// is gone says so.
const EXISTS_FOR: SignedDuration = SignedDuration::from_mins(5);

/// From this size on, answers that no longer count are thrown out; the next time at twice what then was left, so that
/// many answers that count don't make each new one a walk through all.
const SWEEP_AT: usize = 4096;

/// Answers. Every step looks here before it asks, many at once, and writes rarely.
///
/// A no to what is wanted is not kept, so that a right that is given helps at once. That an account may not do something with
/// all objects of a namespace is: it is asked for one of them then.
pub(crate) struct RightsCache {
    answers: DashMap<Question, Answer>,
    sweep_at: AtomicUsize,
}

impl Default for RightsCache {
    fn default() -> Self {
        Self {
            answers: DashMap::new(),
            sweep_at: AtomicUsize::new(SWEEP_AT),
        }
    }
}

#[derive(Clone, Copy)]
struct Answer {
    yes: bool,
    until: Timestamp,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    Exists(Account),
    May(Account, AccessRequest),
}

impl Question {
    /// Whether the account may do it with all objects of the namespace; `None` where it is about no single one.
    pub(crate) fn for_all_names(&self) -> Option<Self> {
        match self {
            Question::May(account, request) if request.name.is_some() => Some(Question::May(
                account.clone(),
                AccessRequest {
                    name: None,
                    ..request.clone()
                },
            )),
            Question::May(..) | Question::Exists(_) => None,
        }
    }
}

impl RightsCache {
    /// The answer that still counts.
    pub(crate) fn answer(&self, question: &Question, now: Timestamp) -> Option<bool> {
        let answer = self.answers.get(question)?;
        (now < answer.until).then_some(answer.yes)
    }

    pub(crate) fn note(&self, question: Question, yes: bool, now: Timestamp) {
        if self.answers.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.answers.retain(|_, answer| now < answer.until);
            let next = SWEEP_AT.max(2 * self.answers.len());
            self.sweep_at.store(next, Ordering::Relaxed);
        }
        let counts_for = match question {
            Question::Exists(_) => EXISTS_FOR,
            Question::May(..) => COUNTS_FOR,
        };
        if let Ok(until) = now.checked_add(counts_for) {
            self.answers.insert(question, Answer { yes, until });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_thirty_seconds_and_that_an_account_exists_for_minutes() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let account = Account {
            namespace: "shop".to_owned(),
            name: "default".to_owned(),
        };
        let request = AccessRequest {
            group: String::new(),
            resource: "configmaps".to_owned(),
            subresource: None,
            verb: "patch".to_owned(),
            namespace: Some("shop".to_owned()),
            name: Some("flags".to_owned()),
        };
        let may = Question::May(account.clone(), request);
        let all = may.for_all_names().expect("one name");
        assert_eq!(all.for_all_names(), None);
        let cache = RightsCache::default();
        for (question, yes, seconds) in [
            (Question::Exists(account), true, 300),
            (may, true, 30),
            (all, false, 30),
        ] {
            assert_eq!(cache.answer(&question, now), None);
            cache.note(question.clone(), yes, now);
            let after = |seconds| cache.answer(&question, now + SignedDuration::from_secs(seconds));
            assert_eq!(after(seconds - 1), Some(yes));
            assert_eq!(after(seconds), None);
        }
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
            cache.note(exists(number), true, now);
        }
        assert_eq!(cache.sweep_at.load(Ordering::Relaxed), 2 * SWEEP_AT);
        cache.note(exists(0), true, now + EXISTS_FOR);
        assert_eq!(cache.answers.len(), 1);
        assert_eq!(cache.sweep_at.load(Ordering::Relaxed), SWEEP_AT);
    }
}
