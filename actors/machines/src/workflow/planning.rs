//! Planning as a piece of work of its own.

use std::sync::Arc;

use kubernaut_crds::{WorkflowExecution, WorkflowPhase};

use crate::Settings;
use crate::plan::{Plan, PlanError, plan, plan_of_begun};

/// What came of planning.
pub type Planned = Result<Arc<Plan>, Vec<PlanError>>;

/// Planning reads every manifest of a workflow, and others would wait meanwhile: whoever runs a machine may do it
/// elsewhere, and give the machine what came of it.
#[derive(Clone, Debug)]
pub struct Planning {
    pub(super) settings: Arc<Settings>,
    pub(super) workflow: Arc<WorkflowExecution>,
    pub(super) begun: bool,
}

impl Planning {
    /// Plans.
    pub fn make(&self) -> Planned {
        let planned = if self.begun {
            plan_of_begun(&self.workflow, &self.settings)
        } else {
            plan(&self.workflow, &self.settings)
        };
        planned.map(Arc::new)
    }
}

pub(super) fn is_begun(phase: Option<WorkflowPhase>) -> bool {
    !matches!(
        phase,
        None | Some(WorkflowPhase::Planning | WorkflowPhase::Validating)
    )
}
