//! The phases of a WorkflowExecution: what happened comes in, what is to be done goes out.

mod approval;
mod control;
mod dry_run;
mod finish;
mod machine;
mod monitoring;
mod planning;
mod progress;
mod rolling_back;
mod safety;
mod starting;
mod steps;
mod undo;
mod validating;

use std::sync::Arc;

use kubernaut_crds::{KubernetesExecution, WorkflowExecution};

use crate::announcement::{Announcement, EventRecord};
use crate::api_command::{ApiCommand, ApiFailure, ApiOutcome, CommandId, Terms};

use crate::approval::Seen;

pub use approval::waits_for_people;
pub use machine::{WorkflowMachine, expires_at};
pub use planning::{Planned, Planning};
pub use starting::{TELL_AFTER, has_begun, tell_of_the_wait};

/// What happened to a workflow.
#[derive(Clone, Debug)]
pub enum WorkflowEvent {
    /// The workflow as the store or the API has it.
    Observed(Arc<WorkflowExecution>),
    /// The workflow no longer exists.
    Gone,
    /// An execution whose controller is this workflow, as the store, the API or its step actor has it.
    StepObserved(Arc<KubernetesExecution>),
    /// The store no longer has an execution that it had (by its uid).
    StepAbsent {
        /// Uid of the execution.
        uid: String,
    },
    /// The actor of an execution crashed so often that it is given up.
    StepGivenUp {
        /// Uid of the execution.
        uid: String,
        /// What a person should know.
        reason: String,
    },
    /// This workflow's own actor crashed so often that the workflow must fail visibly.
    GiveUp {
        /// What a person should know.
        reason: String,
    },
    /// What of the cluster an approval depends on has changed.
    ApprovalsSeen(Arc<Seen>),
    /// An API command ended.
    Finished {
        /// The command.
        id: CommandId,
        /// What came of it.
        result: Result<ApiOutcome, ApiFailure>,
    },
    /// So many slots for running Jobs are kept for the steps of this workflow that are made next.
    SlotsKept(usize),
    /// The time that `next_deadline` named has come.
    Tick,
}

/// What is to be done for a workflow.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkflowCommand {
    /// Call the API and answer with `Finished`. Several may be under way.
    Api {
        /// To be given back with the result.
        id: CommandId,
        /// What to do.
        command: ApiCommand,
        /// Until when, and with which others it waits for its turn.
        terms: Terms,
    },
    /// Keep so many slots for running Jobs for the steps of this workflow that are made next, as soon as there are some. Answered
    /// with `SlotsKept` at once, and each time that another one is kept. What `EnsureStep` sees first takes one with it.
    KeepSlots(usize),
    /// See to it that this execution has a step actor (it is not terminal, or it is in deletion).
    EnsureStep(Arc<KubernetesExecution>),
    /// The status says how this execution ended: its finalizer may go.
    ReleaseStep {
        /// Uid of the execution.
        uid: String,
    },
    /// Publish an event on the workflow.
    Publish(EventRecord),
    /// Log and count a transition.
    Announce(Announcement),
    /// The workflow is terminal or gone: the actor ends, its steps are handed over.
    Stop,
}

/// `2 (drain)`: a step, where a message speaks of it.
fn step_words(number: i32, name: &str) -> String {
    format!("{number} ({name})")
}
