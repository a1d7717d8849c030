//! safetyChecks: what is looked at before the first step, and what a check that fails means.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    ConditionReason, ErrorType, KubernetesExecutionSpec, SafetyCheck, SafetyCheckType, TargetRef,
};
use serde_json::Value;

use super::WorkflowCommand;
use super::machine::{Purpose, WorkflowMachine};
use super::progress::step_name;
use super::validating::Gate;
use crate::actions::{ActionKind, operation, takes_pods, target_name};
use crate::api_command::{ApiCommand, ApiFailure, FailureClass};
use crate::classify::cut;
use crate::parameters::{self, ValidatedExecution};
use crate::plan::{Plan, PlannedStep};
use crate::preflight::{self, Scope};
use crate::quantity::quantity;
use crate::reads::{Read, ReadResults};
use crate::status_draft::MESSAGE_MAX;
use crate::time::later;

/// The API server has this long for a cheap answer (docs/workflows.md, Validating).
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// As often it is asked before it is called slow: a call waits for its turn among our own, too.
const ASKED: u32 = 3;
/// What is counted of nodes and pods, and what it is called.
const RESOURCES: [(&str, &str); 3] = [("cpu", "CPU"), ("memory", "memory"), ("pods", "places for pods")];

/// What was found out for the safety checks; it is asked for once in the life of a machine.
#[derive(Debug, Default)]
pub(super) struct Safety {
    facts: Option<Result<ReadResults, ApiFailure>>,
    network: Network,
}

#[derive(Debug, Default)]
struct Network {
    sent: Option<Timestamp>,
    tries: u32,
    answer: Option<Result<(), String>>,
}

impl Safety {
    pub(super) fn read(&mut self, facts: Result<ReadResults, ApiFailure>) {
        self.facts = Some(facts);
    }

    /// The cheap read was answered.
    pub(super) fn answered(&mut self, now: Timestamp) {
        let sent = self.network.sent.take().unwrap_or(now);
        if now <= later(sent, ANSWER_WITHIN) {
            self.network.answer = Some(Ok(()));
        } else {
            self.failed_once("it took longer".to_owned());
        }
    }

    /// It failed. A refusal is an answer, too.
    pub(super) fn not_answered(&mut self, failure: &ApiFailure) {
        if failure.class.is_transient() {
            self.failed_once(failure.message.clone());
        } else {
            self.network.answer = Some(Ok(()));
        }
    }

    fn failed_once(&mut self, why: String) {
        self.network.sent = None;
        self.network.tries += 1;
        if self.network.tries >= ASKED {
            self.network.answer = Some(Err(why));
        }
    }
}

/// A check that failed: the step that it failed for, the class, and what is wrong.
struct Finding {
    step: Option<i32>,
    error_type: ErrorType,
    message: String,
}

impl WorkflowMachine {
    /// Open when each check that is asked for was made, and none that is required has failed. Nothing is read where none is asked
    /// for; that of the rights is the gate before this one.
    pub(super) fn safety_gate(
        &mut self,
        plan: &Plan,
        now: Timestamp,
        out: &mut Vec<WorkflowCommand>,
    ) -> Gate {
        // A draft that is thrown away has to be made anew, with what is there by then.
        let recorded = self.status.draft.validation_results.as_ref();
        let checks = self.safety_checks();
        if checks.is_empty() || recorded.is_some_and(|results| results.safety_checks_passed) {
            return Gate::Open;
        }
        self.steps.starts.want(1);
        let asks = |wanted: SafetyCheckType| checks.iter().any(|check| check.r#type == wanted);
        let mut waits = false;
        if asks(SafetyCheckType::Network) && self.gates.safety.network.answer.is_none() {
            self.ask_the_network(now, out);
            waits = true;
        }
        let looks = asks(SafetyCheckType::Health) || asks(SafetyCheckType::Capacity);
        if looks && self.gates.safety.facts.is_none() {
            if !self.calls.is_under_way(Purpose::Safety) {
                let reads = self.safety_reads(plan, asks(SafetyCheckType::Capacity));
                self.call(Purpose::Safety, ApiCommand::Read(reads), out);
            }
            waits = true;
        }
        if waits {
            return Gate::Waits;
        }
        self.judge(plan, &checks, now)
    }

    /// The checks but those of the rights.
    fn safety_checks(&self) -> Vec<SafetyCheck> {
        let checks = self.workflow.spec.execution_strategy.safety_checks.iter();
        let checks = checks.flatten();
        checks
            .filter(|check| check.r#type != SafetyCheckType::Rbac)
            .cloned()
            .collect()
    }

    fn ask_the_network(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        if self.calls.is_under_way(Purpose::Network) {
            return;
        }
        self.gates.safety.network.sent = Some(now);
        let cheap = Read::List {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            namespace: None,
            label_selector: None,
            field_selector: None,
            limit: Some(1),
        };
        self.call(Purpose::Network, ApiCommand::Read(vec![cheap]), out);
    }

    /// The targets, each once; with nodes and pods where room is asked for.
    fn safety_reads(&self, plan: &Plan, capacity: bool) -> Vec<Read> {
        let mut reads = BTreeSet::new();
        let mut grows = false;
        for step in plan.steps.values() {
            let Some(checked) = self.checked(step) else {
                continue;
            };
            reads.extend(target_reads(&checked));
            grows |= replicas_wanted(&step.execution.spec).is_some();
        }
        if capacity && grows {
            reads.extend([nodes(), pods()]);
        }
        reads.into_iter().collect()
    }

    fn checked(&self, step: &PlannedStep) -> Option<ValidatedExecution> {
        // It was checked when the workflow was planned.
        parameters::check(&step.execution, &self.settings).ok()
    }

    fn judge(&mut self, plan: &Plan, checks: &[SafetyCheck], now: Timestamp) -> Gate {
        let mut failed: Option<Finding> = None;
        let mut warnings = Vec::new();
        for check in checks {
            for finding in self.findings(plan, check.r#type) {
                let kind = name_of(check.r#type);
                let step = finding.step.map_or_else(String::new, |number| {
                    format!("step {}: ", step_name(plan, number))
                });
                let what = check.description.as_deref().filter(|text| !text.is_empty());
                let what = what.map_or_else(String::new, |text| format!(" ({})", cut(text, 200)));
                let message = format!("safety check {kind}{what} failed: {step}{}", finding.message);
                // There may be room by the time that it is needed.
                let stops = check.required && check.r#type != SafetyCheckType::Capacity;
                if stops && failed.is_none() {
                    failed = Some(Finding { message, ..finding });
                } else {
                    warnings.push(cut(&message, MESSAGE_MAX));
                }
            }
        }
        let passed = failed.is_none();
        // All pods of a cluster may be among them.
        self.gates.safety = Safety::default();
        let results = self.validation_results();
        let new: Vec<String> = warnings
            .into_iter()
            .filter(|warning| !results.warnings.contains(warning))
            .collect();
        results.warnings.extend(new);
        results.warnings.truncate(200);
        results.safety_checks_passed = passed;
        let Some(failed) = failed else {
            return Gate::Open;
        };
        self.refuse_to_begin(
            plan,
            failed.step,
            failed.error_type,
            ConditionReason::SafetyCheckFailed,
            &failed.message,
            now,
        );
        Gate::Failed
    }

    fn findings(&self, plan: &Plan, check: SafetyCheckType) -> Vec<Finding> {
        let facts = match (check, &self.gates.safety.facts) {
            (SafetyCheckType::Rbac, _) => return Vec::new(),
            (SafetyCheckType::Network, _) => return self.network_finding().into_iter().collect(),
            (SafetyCheckType::Health | SafetyCheckType::Capacity, None) => return Vec::new(),
            (SafetyCheckType::Health | SafetyCheckType::Capacity, Some(Err(failure))) => {
                let error_type = if failure.class == FailureClass::Forbidden {
                    ErrorType::InsufficientPermissions
                } else {
                    ErrorType::UnknownError
                };
                return vec![Finding {
                    step: None,
                    error_type,
                    message: format!("it could not be made: {}", failure.message),
                }];
            }
            (SafetyCheckType::Health | SafetyCheckType::Capacity, Some(Ok(facts))) => facts,
        };
        if check == SafetyCheckType::Capacity {
            return self.without_room(plan, facts);
        }
        let sick = plan.steps.iter().filter_map(|(number, step)| {
            let (error_type, message) = self.sick(plan, *number, step, facts)?;
            Some(Finding {
                step: Some(*number),
                error_type,
                message,
            })
        });
        sick.collect()
    }

    fn network_finding(&self) -> Option<Finding> {
        let why = self.gates.safety.network.answer.clone()?.err()?;
        Some(Finding {
            step: None,
            error_type: ErrorType::Timeout,
            message: format!(
                "the API server gave no answer within {} s, asked {ASKED} times; last: {why}",
                ANSWER_WITHIN.as_secs()
            ),
        })
    }

    /// Why the target of a step is no good; `None` where it is, or is made by a step before.
    fn sick(
        &self,
        plan: &Plan,
        number: i32,
        step: &PlannedStep,
        facts: &ReadResults,
    ) -> Option<(ErrorType, String)> {
        let checked = self.checked(step)?;
        let name = target_name(&step.target);
        let Some(read) = preflight::target_read(&checked) else {
            // Pods of a selector; of a Secret nothing is read.
            let found = target_reads(&checked).into_iter().next()?;
            let none = facts.get(&found).is_some_and(Vec::is_empty);
            let message = format!("no running pod matches {name}");
            return none.then_some((ErrorType::ResourceNotFound, message));
        };
        match facts.get(&read).and_then(|found| found.first()) {
            Some(object) => {
                let why = degraded(object)?;
                Some((ErrorType::ValidationError, format!("{name} is degraded: {why}")))
            }
            None if operation(&checked.action).may_create_its_target() => None,
            None if is_made_before(plan, number, &step.target) => None,
            None => Some((ErrorType::ResourceNotFound, format!("{name} does not exist"))),
        }
    }

    /// The steps that scale up beyond what the nodes that take pods have free, by what pods ask for.
    fn without_room(&self, plan: &Plan, facts: &ReadResults) -> Vec<Finding> {
        let found = |read: &Read| facts.get(read).map(Vec::as_slice).unwrap_or_default();
        let open: Vec<&Value> = found(&nodes()).iter().filter(|node| takes_pods(node)).collect();
        let names: BTreeSet<&str> = open
            .iter()
            .filter_map(|node| node["metadata"]["name"].as_str())
            .collect();
        let on_them = |pod: &&Value| {
            pod["spec"]["nodeName"]
                .as_str()
                .is_some_and(|node| names.contains(node))
        };
        let mut free = RESOURCES.map(|(resource, _)| {
            // A node that does not say what it has may have enough.
            let allocatable = |node: &&Value| {
                let has = &node["status"]["allocatable"][resource];
                if has.is_null() {
                    f64::INFINITY
                } else {
                    quantity(has)
                }
            };
            let all: f64 = open.iter().map(allocatable).sum();
            let taken: f64 = found(&pods())
                .iter()
                .filter(on_them)
                .map(|pod| request(&pod["spec"], resource))
                .sum();
            all - taken
        });
        let mut findings = Vec::new();
        for (number, step) in &plan.steps {
            let Some(wanted) = replicas_wanted(&step.execution.spec) else {
                continue;
            };
            let read = self
                .checked(step)
                .and_then(|checked| preflight::target_read(&checked));
            let Some(object) = read.and_then(|read| facts.get(&read)?.first()) else {
                continue;
            };
            let more = wanted - object["spec"]["replicas"].as_i64().unwrap_or(1);
            let Ok(more) = u32::try_from(more) else { continue };
            let pod = &object["spec"]["template"]["spec"];
            let mut short = Vec::new();
            for (left, (resource, word)) in free.iter_mut().zip(RESOURCES) {
                let asked = f64::from(more) * request(pod, resource);
                if asked > *left {
                    short.push(word);
                }
                *left -= asked;
            }
            if more > 0 && !short.is_empty() {
                // Not how much: whoever reads workflows need not know the cluster.
                let message = format!(
                    "{more} more pods of {} ask for more {} than the nodes that take pods have left",
                    target_name(&step.target),
                    short.join(" and ")
                );
                findings.push(Finding {
                    step: Some(*number),
                    error_type: ErrorType::ResourceQuotaExceeded,
                    message,
                });
            }
        }
        findings
    }
}

/// The type of a check as the spec spells it.
fn name_of(check: SafetyCheckType) -> &'static str {
    match check {
        SafetyCheckType::Rbac => "rbac",
        SafetyCheckType::Capacity => "capacity",
        SafetyCheckType::Health => "health",
        SafetyCheckType::Network => "network",
    }
}

/// What tells whether the target is there.
fn target_reads(checked: &ValidatedExecution) -> Vec<Read> {
    let scope = Scope {
        locked: false,
        optional: false,
    };
    preflight::reads(checked, scope)
}

fn nodes() -> Read {
    Read::list("v1", "Node", None, None)
}

/// Those that have not ended: what they ask for is taken.
fn pods() -> Read {
    Read::List {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: None,
        label_selector: None,
        field_selector: Some("status.phase!=Succeeded,status.phase!=Failed".to_owned()),
        limit: None,
    }
}

/// The number of replicas that a step sets.
fn replicas_wanted(spec: &KubernetesExecutionSpec) -> Option<i64> {
    let deployment = spec.parameters.scale_deployment.as_ref();
    let stateful_set = spec.parameters.scale_stateful_set.as_ref();
    deployment
        .map(|scale| scale.replicas)
        .or(stateful_set.map(|scale| scale.replicas))
        .map(i64::from)
}

/// What one pod asks for. Init containers ask for no more than what is free again when the others begin, as a rule.
fn request(pod: &Value, resource: &str) -> f64 {
    if resource == "pods" {
        return 1.0;
    }
    let containers = pod["containers"].as_array().into_iter().flatten();
    containers
        .map(|container| quantity(&container["resources"]["requests"][resource]))
        .sum()
}

/// A step that runs before this one applies a manifest of its target.
fn is_made_before(plan: &Plan, number: i32, target: &TargetRef) -> bool {
    plan.steps.iter().any(|(earlier, step)| {
        step.kind == ActionKind::ApplyManifest
            && step.target == *target
            && plan.graph.dependents_of(*earlier).contains(&number)
    })
}

/// What is wrong with an object before anything is done to it.
fn degraded(object: &Value) -> Option<String> {
    let status = &object["status"];
    let condition = |wanted: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions
            .filter(|condition| condition["type"] == wanted)
            .find_map(|condition| condition["status"].as_str())
    };
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
    match object["kind"].as_str()? {
        "Deployment" => {
            let available = status["availableReplicas"].as_i64().unwrap_or(0);
            if condition("Progressing") == Some("False") {
                return Some("its rollout does not make progress".to_owned());
            }
            (available < replicas).then(|| format!("{available} of {replicas} replicas are available"))
        }
        "StatefulSet" => {
            let ready = status["readyReplicas"].as_i64().unwrap_or(0);
            (ready < replicas).then(|| format!("{ready} of {replicas} replicas are ready"))
        }
        "Node" => (condition("Ready") == Some("False") || condition("Ready") == Some("Unknown"))
            .then(|| "it is not Ready".to_owned()),
        _ => None,
    }
}
