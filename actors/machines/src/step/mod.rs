//! The phases of a KubernetesExecution: what happened comes in, what is to be done goes out.

mod approval;
mod attempts;
mod checking;
mod deletion;
mod dry_run;
mod execute;
mod machine;
mod policy;
mod status;
mod validate;
mod verify;

use std::sync::Arc;

use kubernaut_crds::{KubernetesExecution, TargetRef};

use crate::announcement::{Announcement, EventRecord};
use crate::api_command::{ApiCommand, ApiFailure, ApiOutcome, CommandId, Terms};
use crate::approval::Seen;
use crate::job_view::JobView;

pub use crate::job_run::UNREACHABLE_AFTER;
pub use checking::{CheckResult, Checking};
pub use deletion::{is_lock_released, is_stray};
pub use machine::StepMachine;
pub(crate) use status::told_elsewhere;
pub(crate) use validate::refusal_of;

/// What happened to a step.
#[derive(Clone, Debug)]
pub enum StepEvent {
    /// The execution as the store or the API has it.
    Observed(Arc<KubernetesExecution>),
    /// The execution no longer exists.
    Gone,
    /// The Jobs (and pods) of this execution as the store has them: all of them, each time.
    JobsObserved(Vec<JobView>),
    /// What of the cluster an approval depends on has changed.
    ApprovalsSeen(Arc<Seen>),
    /// An API command ended.
    Finished {
        /// The command.
        id: CommandId,
        /// What came of it.
        result: Result<ApiOutcome, ApiFailure>,
    },
    /// The lock that was asked for is held.
    LockGranted,
    /// The lock is held by somebody else; `LockGranted` follows when it is this step's turn.
    LockBusy {
        /// Target of the lock in a word and who holds it, `deployment/shop/web is held by shop/a-step-1`.
        reason: String,
    },
    /// A place among the running Jobs is held.
    SlotGranted,
    /// All places are taken; `SlotGranted` follows.
    SlotBusy,
    /// The workflow has recorded how this step ended: the finalizer may go.
    Released,
    /// Its workflow is being deleted: what runs is stopped, and nothing more begins.
    WorkflowDeleted,
    /// The time that `next_deadline` named has come.
    Tick,
}

/// What is to be done for a step.
#[derive(Clone, Debug, PartialEq)]
pub enum StepCommand {
    /// Call the API and answer with `Finished`.
    Api {
        /// To be given back with the result.
        id: CommandId,
        /// What to do.
        command: ApiCommand,
        /// Until when, and with which others it waits for its turn.
        terms: Terms,
    },
    /// Ask for the lock on the target; answered with `LockGranted` or `LockBusy`. It is kept until after `Stop`
    /// where it is not given back.
    AcquireLock {
        /// The target.
        target: TargetRef,
        /// Also the cluster-wide lock on nodes.
        nodes: bool,
    },
    /// Give the lock back, or stop waiting for it: nothing of this execution acts on the target, or will.
    ReleaseLock,
    /// Ask for a place among the running Jobs; answered with `SlotGranted` or `SlotBusy`.
    AcquireSlot,
    /// Give the place back, or stop waiting for it: no Job of this execution lives.
    ReleaseSlot,
    /// Tell the parent what the execution now is.
    Report(Arc<KubernetesExecution>),
    /// Publish an event on the execution.
    Publish(EventRecord),
    /// Log and count a transition.
    Announce(Announcement),
    /// Nothing is left to do for this execution: the actor ends. Lock and place are given back when no Job of it lives.
    Stop,
}
