//! Planning as a piece of work of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubernaut_crds::{WorkflowExecution, WorkflowPhase};

use super::WorkflowCommand;
use super::machine::{Begun, Purpose, WorkflowMachine};
use crate::Settings;
use crate::api_command::{ApiCommand, RightsQuestion};
use crate::plan::{Plan, PlanError, plan, plan_of_begun};
use crate::plan::{Undone, plan_undo};

/// What came of planning.
pub type Planned = Result<Arc<Plan>, Vec<PlanError>>;

/// Planning reads every manifest of a workflow, and others would wait meanwhile: whoever runs a machine may do it
/// elsewhere, and give the machine what came of it.
#[derive(Clone, Debug)]
pub struct Planning {
    pub(super) settings: Arc<Settings>,
    pub(super) workflow: Arc<WorkflowExecution>,
    pub(super) begun: bool,
    /// What it undoes, where it undoes another workflow.
    pub(super) undone: Option<Arc<Undone>>,
}

impl Planning {
    /// Plans.
    pub fn make(&self) -> Planned {
        let planned = if let Some(undone) = &self.undone {
            let settings = if self.begun {
                &self.settings.without_limits()
            } else {
                &*self.settings
            };
            plan_undo(&self.workflow, undone, settings)
        } else if self.begun {
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

impl WorkflowMachine {
    /// What has to be planned before this machine can decide anything; `None` when nothing is left to plan.
    pub fn planning(&self) -> Option<Planning> {
        let ended = self
            .status
            .persisted
            .phase
            .is_some_and(WorkflowPhase::is_terminal);
        let needed = self.plan.is_none() && !ended && self.workflow.metadata.deletion_timestamp.is_none();
        let needed = needed && !self.lacks_what_it_undoes();
        needed.then(|| self.to_plan())
    }

    /// Takes in what came of [`Self::planning`]; without it the machine plans by itself when it has to.
    pub fn planned(&mut self, planned: Planned) {
        self.plan.get_or_insert(planned);
    }

    fn to_plan(&self) -> Planning {
        Planning {
            settings: Arc::clone(&self.settings),
            workflow: Arc::clone(&self.workflow),
            begun: self.has_begun(),
            undone: self.steps.undone.clone(),
        }
    }

    pub(super) fn plan_once(&mut self) -> Planned {
        if let Some(planned) = &self.plan {
            return planned.clone();
        }
        let planned = self.to_plan().make();
        self.plan.insert(planned).clone()
    }

    /// The workflow that it undoes has to be read before it can be planned.
    pub(super) fn lacks_what_it_undoes(&self) -> bool {
        self.workflow.spec.rollback_of.is_some() && self.steps.undone.is_none() && self.plan.is_none()
    }

    /// Asks for the workflow that it undoes, and for its executions.
    pub(super) fn read_what_it_undoes(&mut self, out: &mut Vec<WorkflowCommand>) {
        let Some(of) = self.workflow.spec.rollback_of.clone() else {
            return;
        };
        if !self.calls.is_under_way(Purpose::Undone) {
            let namespace = self.namespace();
            let command = ApiCommand::GetUndone {
                namespace,
                name: of.name,
            };
            self.call(Purpose::Undone, command, out);
        }
    }

    /// A step of it was seen that the status does not tell of.
    pub(super) fn note_begun(&mut self) {
        if !self.has_begun() {
            self.begun = Begun::Here;
            self.plan = None;
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun != Begun::No
    }

    pub(super) fn question(&self, plan: &Plan) -> RightsQuestion {
        let requests: BTreeSet<_> = plan
            .steps
            .values()
            .flat_map(|step| step.rights.iter().cloned())
            .collect();
        let accounts: BTreeSet<_> = plan
            .steps
            .values()
            .map(|step| step.kind.service_account().to_owned())
            .collect();
        RightsQuestion {
            namespace: self.namespace(),
            service_account: self.workflow.spec.service_account_name.clone(),
            requests: requests.into_iter().collect(),
            executor_accounts: accounts.into_iter().collect(),
        }
    }
}
