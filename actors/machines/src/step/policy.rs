//! validating: what the policies say, once the state before was read.

use jiff::Timestamp;
use kubernaut_crds::{ConditionReason, ConditionType, ErrorType, PolicyValidation, ValidationResults};

use super::StepCommand;
use super::machine::{Purpose, StepMachine};
use super::validate::Validation;
use crate::api_command::ApiCommand;
use crate::parameters::ValidatedExecution;
use crate::policy_input::policy_input;
use crate::preflight::Preflight;

impl Validation {
    /// The policies ask for a dry run before the first attempt.
    pub(super) fn requires_dry_run(&self) -> bool {
        self.verdict
            .as_ref()
            .is_some_and(|verdict| verdict.requires_dry_run)
    }
}

impl StepMachine {
    /// The state before, where it lets the execution run and the policies do. `None` while one of them is asked.
    ///
    /// A verdict belongs to the state that it was made about: with another reading it is asked for again.
    pub(super) fn admitted(
        &mut self,
        checked: &ValidatedExecution,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Result<Option<Preflight>, (ErrorType, String)> {
        let Some(preflight) = self.state_before(checked, out)? else {
            return Ok(None);
        };
        if !self.settings.policy {
            return Ok(Some(preflight));
        }
        let Some(verdict) = &self.validation.verdict else {
            let input = policy_input(&self.execution, checked, &preflight, now);
            self.call(Purpose::Policy, ApiCommand::Judge(input), out);
            return Ok(None);
        };
        match verdict.refusal() {
            Some(refusal) => Err((ErrorType::PolicyDenied, refusal)),
            None => Ok(Some(preflight)),
        }
    }

    /// The policies ask for a person's approval, by their last verdict: approvalReceived without approvedBy is none. What was asked for
    /// stands in the status, where a controller that takes over finds it.
    pub(super) fn policy_requires_approval(&self) -> bool {
        let by_the_workflow = self
            .execution
            .spec
            .approved_by
            .as_ref()
            .is_some_and(|by| !by.is_empty());
        if !self.settings.policy || by_the_workflow {
            return false;
        }
        match &self.validation.verdict {
            Some(verdict) => verdict.requires_approval,
            None => self.recorded().is_some_and(|policy| policy.required_approval),
        }
    }

    fn recorded(&self) -> Option<&PolicyValidation> {
        let results = self.status.draft.validation_results.as_ref()?;
        results.policy_validation.as_ref()
    }

    /// What a wait for approval says, with the policy that asks for it.
    pub(super) fn with_the_policy(&self, words: &str) -> String {
        let policy = self.recorded().and_then(|policy| policy.policy_name.as_deref());
        match policy.filter(|_| self.policy_requires_approval()) {
            Some(policy) => format!("{words}; the policy {policy} asks for it"),
            None => words.to_owned(),
        }
    }

    /// The policies let it run.
    pub(super) fn note_permission(&mut self, now: Timestamp) {
        if self.validation.verdict.is_some() {
            self.condition(
                ConditionType::PolicyAllowed,
                true,
                ConditionReason::Passed,
                "the policies let it run",
                now,
            );
        }
    }

    /// The policies do not let it run: everything before them was in order.
    pub(super) fn note_denial(&mut self, message: &str, now: Timestamp) {
        let Some(verdict) = &self.validation.verdict else {
            return;
        };
        let mut policy = verdict.validation();
        policy.allowed = false;
        let results = self
            .status
            .draft
            .validation_results
            .get_or_insert_with(ValidationResults::default);
        results.parameter_validation = true;
        results.rbac_validation = true;
        results.resource_exists = true;
        results.policy_validation = Some(policy);
        self.condition(
            ConditionType::PolicyAllowed,
            false,
            ConditionReason::PolicyDenied,
            message,
            now,
        );
    }
}
