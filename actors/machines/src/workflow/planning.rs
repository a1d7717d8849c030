//! Planning as a piece of work of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubernaut_crds::{WorkflowExecution, WorkflowPhase};

use super::machine::{Begun, WorkflowMachine};
use crate::Settings;
use crate::api_command::RightsQuestion;
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

impl WorkflowMachine {
    /// What has to be planned before this machine can decide anything; `None` when nothing is left to plan.
    pub fn planning(&self) -> Option<Planning> {
        let ended = self
            .status
            .persisted
            .phase
            .is_some_and(WorkflowPhase::is_terminal);
        let needed = self.plan.is_none() && !ended && self.workflow.metadata.deletion_timestamp.is_none();
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
        }
    }

    pub(super) fn plan_once(&mut self) -> Planned {
        if let Some(planned) = &self.plan {
            return planned.clone();
        }
        let planned = self.to_plan().make();
        self.plan.insert(planned).clone()
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
