//! How a person takes back by hand what a failed workflow changed: lines to paste, last step first.

use kubernaut_crds::{Action, KubernetesExecution, RecordedRollback, TargetRef, UndoState};

use super::machine::WorkflowMachine;
use crate::actions::{kind_of, operation};
use crate::classify::cut;
use crate::execution_key::ExecutionKey;
use crate::plan::Plan;
use crate::undoing::{Changed, changed};

/// A longer line is pasted by nobody.
const LINE_MAX: usize = 900;

impl WorkflowMachine {
    /// One line for each step that changed something, or may have: in the order in which they are to be undone.
    pub(super) fn undo_hints(&self, plan: &Plan) -> Vec<String> {
        let steps = self.to_undo(plan).into_iter();
        steps
            .filter_map(|number| self.steps.executions.get(&ExecutionKey::step(number)))
            .filter_map(|execution| self.undo_hint(execution))
            .collect()
    }

    fn is_undone(&self, number: i32) -> bool {
        let mut steps = self.status.draft.step_statuses.iter();
        let step = steps.find(|step| step.step_number == number);
        step.and_then(|step| step.undo.as_ref())
            .is_some_and(|undo| undo.status == UndoState::Completed)
    }

    fn undo_hint(&self, execution: &KubernetesExecution) -> Option<String> {
        let status = execution.status.as_ref()?;
        if self.is_undone(execution.spec.step_number) {
            return None;
        }
        let changed = changed(execution, status)?;
        let steps = &self.workflow.spec.workflow_definition.steps;
        let number = execution.spec.step_number;
        let step = steps.iter().find(|step| step.step_number == number)?;
        let name = &step.name;
        let how = if let Some(spec) = &step.rollback_spec {
            let (workflow, uid) = (&self.workflow.metadata.name, &self.workflow.metadata.uid);
            format!(
                "do what its rollbackSpec says ({}), or create a WorkflowExecution with spec.rollbackOf \
                 {{name: {}, uid: {}}}",
                spec.action,
                workflow.as_deref().unwrap_or_default(),
                uid.as_deref().unwrap_or_default()
            )
        } else {
            let rollback = status
                .rollback_information
                .as_ref()
                .filter(|rollback| rollback.available)?;
            command(
                execution,
                rollback.rollback_parameters.as_ref()?,
                status.target.as_ref(),
            )
        };
        let target = status.target_name.as_deref().unwrap_or("its target");
        Some(cut(
            &match changed {
                Changed::Surely => format!("to undo step {number} ({name}): {how}"),
                Changed::Perhaps => {
                    format!("if step {number} ({name}) has changed {target}, to undo it: {how}")
                }
            },
            1000,
        ))
    }
}

/// For a shell; where kubectl has no command for it, where the state before stands.
fn command(
    execution: &KubernetesExecution,
    recorded: &RecordedRollback,
    target: Option<&TargetRef>,
) -> String {
    let action = Action::try_from(execution.spec.parameters.clone()).ok();
    let line = action.and_then(|action| {
        let variant = kind_of(&action)?.variant(&execution.spec.action);
        operation(&action).undo_by_hand(variant, recorded, target?)
    });
    line.filter(|line| line.len() <= LINE_MAX).unwrap_or_else(|| {
        format!(
            "the state before stands in status.rollbackInformation of kubernetesexecution {}",
            execution.metadata.name.as_deref().unwrap_or_default()
        )
    })
}
