//! What machines tell people: Events, log lines, counts.

use kubernaut_crds::{ErrorType, ExecutionPhase, ObjectRef, WorkflowPhase};

/// A Kubernetes event to publish (events.k8s.io/v1): off the critical path, may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// In one CamelCase word.
    pub reason: &'static str,
    /// Warning instead of Normal.
    pub warning: bool,
    /// What was done.
    pub action: &'static str,
    /// For a person.
    pub note: String,
    /// Another object that it is about, such as the execution of a step.
    pub related: Option<ObjectRef>,
}

/// A transition for the log and the metrics: one line, one count.
#[derive(Clone, Debug, PartialEq)]
pub enum Announcement {
    /// A `KubernetesExecution` entered a phase.
    Execution {
        /// The phase.
        phase: ExecutionPhase,
        /// The phase before and how long it was in it, in seconds.
        before: Option<(ExecutionPhase, f64)>,
        /// Canonical action, where it is known.
        action: &'static str,
        /// The current attempt.
        attempt: i32,
        /// Class of the failure.
        error_type: Option<ErrorType>,
        /// The message for a person.
        message: String,
    },
    /// An attempt ended.
    Attempt {
        /// Canonical action.
        action: &'static str,
        /// Its number.
        attempt: i32,
        /// How it ended.
        outcome: kubernaut_crds::AttemptOutcome,
        /// Class of the failure.
        error_type: Option<ErrorType>,
        /// Seconds from record to end.
        seconds: f64,
        /// The message for a person.
        message: String,
    },
    /// A `WorkflowExecution` entered a phase.
    Workflow {
        /// The phase.
        phase: WorkflowPhase,
        /// The phase before and how long it was in it, in seconds.
        before: Option<(WorkflowPhase, f64)>,
        /// Class of the failure.
        error_type: Option<ErrorType>,
        /// The message for a person.
        message: String,
    },
    /// A call was answered with something else than was asked for: a defect of this program.
    Unfitting {
        /// What was asked for.
        asked: String,
        /// What came.
        answered: &'static str,
    },
}
