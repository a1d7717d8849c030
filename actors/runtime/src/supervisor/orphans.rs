//! Jobs that nobody answers for.

use std::sync::Arc;

use kubernaut_machines::api_command::FailureClass;

use super::{SupervisorMessage, SupervisorState, TRY_AGAIN};
use crate::changes::Change;

impl SupervisorState {
    /// Nobody runs this execution: has it Jobs that nobody answers for? What the store says only raises the question.
    pub(super) fn sweep_jobs_of(&mut self, execution_uid: &str) {
        let gone = self.context.store.execution(execution_uid).is_none();
        for job in self.context.store.job_refs_of(execution_uid) {
            if job.view.deleting || !(gone || job.view.live) || !self.sweeping.insert(job.view.uid.clone()) {
                continue;
            }
            let effects = Arc::clone(&self.context.effects);
            let myself = self.myself.clone();
            self.context.effects.spawn(&mut self.tasks, async move {
                let done = match effects.sweep(&job).await {
                    Ok(_) => true,
                    // Another one of this name by now, or this one was changed just then: the store tells, a little later.
                    Err(failure) if failure.class == FailureClass::Conflict => false,
                    Err(failure) => {
                        tracing::warn!(
                            job = job.view.name,
                            failure = failure.message,
                            "a Job without an owner could not be looked at"
                        );
                        false
                    }
                };
                let (job, execution) = (job.view.uid, job.execution_uid);
                let _ = myself.cast(SupervisorMessage::Swept { job, execution, done });
            });
        }
    }

    pub(super) fn swept(&mut self, job: &str, execution: String, done: bool) {
        self.sweeping.remove(job);
        if !done {
            self.again_after(TRY_AGAIN, Change::Jobs(execution));
        }
    }
}
