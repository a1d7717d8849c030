//! The target before the first Job: may it be changed, and how is it taken back?

use kubernaut_crds::{ErrorType, KubernetesExecution, PodRef, RollbackInformation};
use serde_json::Value;

use crate::Settings;
use crate::actions::{Examination, operation, target_name};
use crate::parameters::ValidatedExecution;
use crate::reads::{Read, ReadResults};
use crate::target_state::state_of;

/// Labels and annotations by which Argo CD and Flux mark what is theirs.
pub const GITOPS: [&str; 4] = [
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/tracking-id",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
];
/// What was found before the first Job.
#[derive(Clone, Debug, PartialEq)]
pub struct Preflight {
    /// metadata.generation of the target.
    pub generation: Option<i64>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// How it can be taken back.
    pub rollback: RollbackInformation,
    /// The pods that are acted on.
    pub pods: Vec<PodRef>,
    /// Of the containers whose image is set, those that are init containers.
    pub init_containers: Vec<String>,
    /// The part that changes, in words.
    pub state_summary: String,
    /// The part that changes as it shall be, in words; empty where nothing can be said of it before.
    pub wanted: String,
    /// What will change, in words.
    pub impact: String,
    /// What is wanted is there already, and no Job is needed: an undo alone says so.
    pub is_done: bool,
    /// What policies are told of the target; null where there are none.
    pub state: Value,
}

/// Why it can't be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its class.
    pub error_type: ErrorType,
    /// For a person.
    pub message: String,
}

impl Preflight {
    /// One that says nothing yet.
    pub(crate) fn empty() -> Self {
        Self {
            generation: None,
            warnings: Vec::new(),
            rollback: RollbackInformation::default(),
            pods: Vec::new(),
            init_containers: Vec::new(),
            state_summary: String::new(),
            wanted: String::new(),
            impact: String::new(),
            is_done: false,
            state: Value::Null,
        }
    }

    /// Takes down the part that changes: as it is, and as it shall be.
    pub(crate) fn change(&mut self, before: impl Into<String>, wanted: impl Into<String>) {
        self.state_summary = before.into();
        self.wanted = wanted.into();
    }

    /// How many objects would change: none where the target is already as it shall be.
    pub fn affected(&self) -> usize {
        if !self.wanted.is_empty() && self.wanted == self.state_summary {
            return 0;
        }
        self.pods.len().max(1)
    }
}

pub(crate) fn refuse<T>(error_type: ErrorType, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        error_type,
        message: message.into(),
    })
}

/// What may be read besides the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The lock is held. All nodes are read only then: of many steps that wait for it, each would read them for a note.
    pub locked: bool,
    /// The workflow's account may do what the optional right of the action asks.
    pub optional: bool,
}

/// What has to be read before the first Job. A Secret is never read.
pub fn reads(checked: &ValidatedExecution, scope: Scope) -> Vec<Read> {
    let more = operation(&checked.action).reads_before(scope);
    target_read(checked).into_iter().chain(more).collect()
}

/// What has to be read before a later attempt: the pods are those of the first one, whatever the selector matches by now.
pub(crate) fn reads_again(
    execution: &KubernetesExecution,
    checked: &ValidatedExecution,
    scope: Scope,
) -> Vec<Read> {
    let namespace = checked.target.namespace.as_deref();
    match pods_before(execution, checked) {
        Some(pods) => pods
            .iter()
            .map(|pod| Read::get("v1", "Pod", namespace, &pod.name))
            .collect(),
        None => reads(checked, scope),
    }
}

/// The read of the target itself; `None` where there is not one, or it may not be read.
pub(crate) fn target_read(checked: &ValidatedExecution) -> Option<Read> {
    let target = &checked.target;
    let api_version = operation(&checked.action).target_version(checked.manifest.as_ref())?;
    let namespace = target.namespace.as_deref();
    Some(Read::get(&api_version, &target.kind, namespace, &target.name))
}

/// Checks the target and takes down its state (docs/executions.md, Validation).
pub fn check(
    execution: &KubernetesExecution,
    checked: &ValidatedExecution,
    facts: &ReadResults,
    settings: &Settings,
) -> Result<Preflight, Refusal> {
    let name = target_name(&checked.target);
    let mut preflight = Preflight {
        impact: format!("{} {name}", checked.kind.canonical()),
        ..Preflight::empty()
    };
    let operation = operation(&checked.action);
    let read = target_read(checked);
    let object = read
        .as_ref()
        .and_then(|read| facts.get(read))
        .and_then(|found| found.first());
    let earlier = pods_before(execution, checked);
    let may_be_absent = operation.may_create_its_target() || read.is_none() || earlier.is_some();
    if object.is_none() && !may_be_absent {
        return refuse(ErrorType::ResourceNotFound, format!("{name} does not exist"));
    }
    if let Some(object) = object {
        preflight.generation = object["metadata"]["generation"].as_i64();
        // A pod of that name may be another one by now.
        if earlier.is_none() {
            refuse_gitops(object, &name, settings)?;
        }
    }
    let at = Examination {
        checked,
        object: object.unwrap_or(&Value::Null),
        earlier,
        facts,
        settings,
    };
    operation.examine(at, &mut preflight)?;
    if settings.policy {
        preflight.state = state_of(&checked.target, object, read.is_some());
        if checked.kind.definition().acts_on_pods {
            let pods = preflight.pods.iter().map(|pod| pod.name.as_str());
            preflight.state["pods"] = pods.collect();
        }
    }
    Ok(preflight)
}

fn gitops_owner(object: &Value) -> Option<&'static str> {
    let marked = |map: &Value, key: &str| map.get(key).is_some();
    let metadata = &object["metadata"];
    GITOPS
        .into_iter()
        .find(|key| marked(&metadata["labels"], key) || marked(&metadata["annotations"], key))
}

pub(crate) fn refuse_gitops(object: &Value, name: &str, settings: &Settings) -> Result<(), Refusal> {
    match gitops_owner(object).filter(|_| !settings.allow_gitops_managed) {
        Some(owner) => refuse(
            ErrorType::GitopsManaged,
            format!(
                "{name} is managed by GitOps ({owner}): change it there, or start the controller with --allow-gitops-managed"
            ),
        ),
        None => Ok(()),
    }
}

/// The pods of the first attempt, once it has ended: they were resolved for all attempts.
fn pods_before<'a>(execution: &'a KubernetesExecution, checked: &ValidatedExecution) -> Option<&'a [PodRef]> {
    let first = execution.attempts().first_ended()?;
    (checked.kind.definition().acts_on_pods).then_some(&first.pods)
}

#[cfg(test)]
mod tests;
