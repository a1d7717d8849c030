//! The outcome: is it what was wanted?

use std::collections::BTreeSet;

use kubernaut_crds::{Action, Attempt, KubernetesExecution};
use serde_json::Value;

use crate::actions::{Look, Rollout, operation, rollout};
use crate::parameters::ValidatedExecution;
use crate::preflight::target_read;
use crate::reads::{Read, ReadResults};

pub use crate::actions::Waits;

/// What came before the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// kubectl ended well.
    Success,
    /// kubectl failed, or never ran.
    Failure,
    /// The Job vanished.
    Lost,
}

/// Whether the outcome is what was wanted (docs/actions.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Postcondition {
    /// It is.
    Holds {
        /// The part that changed, in words.
        after: String,
    },
    /// The change is made, and what follows from it is under way.
    InProgress {
        /// What is missing.
        why: String,
    },
    /// The change is not made, or not all of it.
    NotThere {
        /// What is missing.
        why: String,
    },
    /// The change is made, and what should follow from it will not.
    Stuck {
        /// What went wrong.
        why: String,
    },
    /// The change can't be made any more.
    Never {
        /// What went wrong.
        why: String,
    },
    /// Nothing that may be read shows it.
    Unprovable {
        /// Why not.
        why: String,
    },
}

/// What still has to be read for [`postcondition`], given what was read; empty when nothing.
pub fn reads(checked: &ValidatedExecution, attempt: &Attempt, facts: &ReadResults) -> Vec<Read> {
    let target = target_in(checked, facts);
    let more = operation(&checked.action).reads_after(attempt, target, facts);
    // Deleted pods are looked for by their own names, with those that took their places.
    let itself = target_read(checked).filter(|_| !checked.kind.definition().acts_on_pods);
    let mut reads: BTreeSet<Read> = itself.into_iter().chain(more).collect();
    reads.retain(|read| !facts.contains_key(read));
    reads.into_iter().collect()
}

/// What the pods of a rollout wait for, as far as it was read.
pub fn waits(checked: &ValidatedExecution, facts: &ReadResults) -> Waits {
    let rolls_out = checked.kind.definition().rollout != Rollout::None;
    let target = target_in(checked, facts).filter(|_| rolls_out);
    target.map_or_else(Waits::default, |workload| rollout::waits(workload, facts))
}

/// Whether a read only tells more of a rollout: without it the outcome is known all the same.
pub(crate) fn is_detail(checked: &ValidatedExecution, read: &Read) -> bool {
    checked.kind.definition().rollout != Rollout::None && matches!(read, Read::List { .. })
}

/// The target, when it was read.
pub(crate) fn target_in<'a>(checked: &ValidatedExecution, facts: &'a ReadResults) -> Option<&'a Value> {
    facts.get(&target_read(checked)?)?.first()
}

pub(crate) fn holds(after: impl Into<String>) -> Postcondition {
    Postcondition::Holds { after: after.into() }
}

pub(crate) fn in_progress(why: impl Into<String>) -> Postcondition {
    Postcondition::InProgress { why: why.into() }
}

pub(crate) fn not_there(why: impl Into<String>) -> Postcondition {
    Postcondition::NotThere { why: why.into() }
}

/// Compares what was read with what was wanted.
pub fn postcondition(
    execution: &KubernetesExecution,
    checked: &ValidatedExecution,
    attempt: &Attempt,
    facts: &ReadResults,
    what: JobResult,
) -> Postcondition {
    let object = target_in(checked, facts);
    // What is not read is not missing, and what was deleted is not there.
    let is_missing = object.is_none() && target_read(checked).is_some();
    let is_deleted = matches!(&checked.action, Action::Undo(undo) if undo.delete == Some(true));
    if is_missing && !checked.kind.definition().acts_on_pods && !is_deleted {
        return Postcondition::Never {
            why: "the target does not exist any more".to_owned(),
        };
    }
    operation(&checked.action).outcome(Look {
        execution,
        checked,
        attempt,
        object: object.unwrap_or(&Value::Null),
        facts,
        what,
    })
}

#[cfg(test)]
mod tests;
