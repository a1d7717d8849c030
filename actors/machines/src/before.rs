//! The target before the first Job: may it be changed, and how is it taken back?

use kubernaut_crds::{
    Action, DeletePod, ErrorType, KubernetesExecution, NodeAction, ObjectRef, PatchDeployment, PodRef,
    RecordedConfig, RecordedCustom, RecordedRollback, RollbackInformation, ScaleToPrevious,
};
use serde_json::{Value, json};

use crate::Settings;
use crate::actions::{container_rule, owner_rule, target_name};
use crate::images::{image_of, patched_images};
use crate::parameters::Checked;
use crate::reads::{Facts, Read};

/// Labels and annotations by which Argo CD and Flux mark what is theirs.
const GITOPS: [&str; 4] = [
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/tracking-id",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
];
/// Most pods that a selector may resolve to.
const PODS_MAX: u32 = 20;
/// A larger state before is not stored (the API's specification, 4).
const PREVIOUS_MAX: usize = 256 * 1024;

/// What was found before the first Job.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
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
    pub before: String,
    /// What will change, in words.
    pub impact: String,
}

/// Why it can't be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its class.
    pub error_type: ErrorType,
    /// For a person.
    pub message: String,
}

fn refuse<T>(error_type: ErrorType, message: impl Into<String>) -> Result<T, Refusal> {
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
    /// The workflow's account may do what [`optional_right`](crate::actions::optional_right) asks.
    pub optional: bool,
}

/// What has to be read before the first Job. A Secret is never read.
pub fn reads_before(checked: &Checked, scope: Scope) -> Vec<Read> {
    let mut reads: Vec<Read> = target_read(checked).into_iter().collect();
    match &checked.action {
        Action::ScaleDeployment(scale) if scope.optional => {
            reads.push(Read::list(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                Some(&scale.namespace),
                None,
            ));
        }
        Action::CordonNode(_) | Action::DrainNode(_) if scope.locked => {
            reads.push(Read::list("v1", "Node", None, None));
        }
        Action::DeletePod(delete) => reads.extend(selected_pods(delete)),
        Action::ScaleDeployment(_)
        | Action::CordonNode(_)
        | Action::DrainNode(_)
        | Action::RolloutRestart(_)
        | Action::PatchDeployment(_)
        | Action::UncordonNode(_)
        | Action::UpdateConfigMap(_)
        | Action::UpdateSecret(_)
        | Action::ApplyManifest(_)
        | Action::Undo(_) => {}
    }
    reads
}

/// The same before a later attempt: the pods are those of the first one, whatever the selector matches by now.
pub(crate) fn reads_again(execution: &KubernetesExecution, checked: &Checked, scope: Scope) -> Vec<Read> {
    let namespace = checked.target.namespace.as_deref();
    match pods_before(execution, checked) {
        Some(pods) => pods
            .iter()
            .map(|pod| Read::get("v1", "Pod", namespace, &pod.name))
            .collect(),
        None => reads_before(checked, scope),
    }
}

/// The read of the pods of a selector: one more than may be evicted tells that there are too many.
fn selected_pods(delete: &DeletePod) -> Option<Read> {
    let selector = delete.label_selector.as_deref()?;
    let node = delete.node_name.as_deref();
    Some(Read::pods_of(&delete.namespace, selector, node, PODS_MAX + 1))
}

/// The read of the target itself; `None` where there is not one, or it may not be read.
pub(crate) fn target_read(checked: &Checked) -> Option<Read> {
    let target = &checked.target;
    let namespace = target.namespace.as_deref();
    let api_version = match &checked.action {
        Action::ScaleDeployment(_) | Action::RolloutRestart(_) | Action::PatchDeployment(_) => {
            "apps/v1".to_owned()
        }
        Action::DeletePod(DeletePod {
            label_selector: Some(_),
            ..
        })
        | Action::UpdateSecret(_) => return None,
        Action::DeletePod(_)
        | Action::CordonNode(_)
        | Action::UncordonNode(_)
        | Action::DrainNode(_)
        | Action::UpdateConfigMap(_) => "v1".to_owned(),
        Action::ApplyManifest(_) => checked.manifest.as_ref()?.api_version.clone(),
        Action::Undo(undo) => undo.target.api_version.clone(),
    };
    Some(Read::get(&api_version, &target.kind, namespace, &target.name))
}

/// Checks the target and takes down its state (the executor's specification, 1.3 and the last column of 5).
pub fn examine(
    execution: &KubernetesExecution,
    checked: &Checked,
    facts: &Facts,
    settings: &Settings,
) -> Result<Before, Refusal> {
    let mut before = Before {
        generation: None,
        warnings: Vec::new(),
        rollback: not_reversible("it can't be taken back"),
        pods: Vec::new(),
        init_containers: Vec::new(),
        before: String::new(),
        impact: format!("{} {}", checked.kind.canonical(), target_name(&checked.target)),
    };
    let object = target_read(checked)
        .and_then(|read| facts.get(&read))
        .and_then(|found| found.first());
    let earlier = pods_before(execution, checked);
    let may_be_absent = matches!(checked.action, Action::ApplyManifest(_))
        || target_read(checked).is_none()
        || earlier.is_some();
    if object.is_none() && !may_be_absent {
        return refuse(
            ErrorType::ResourceNotFound,
            format!("{} does not exist", target_name(&checked.target)),
        );
    }
    if let Some(object) = object {
        before.generation = object["metadata"]["generation"].as_i64();
        // A pod of that name may be another one by now.
        if earlier.is_none() {
            refuse_gitops(object, &target_name(&checked.target), settings)?;
        }
    }
    let none = Value::Null;
    let object = object.unwrap_or(&none);
    let spelling = execution.spec.action.as_str();
    match &checked.action {
        Action::ScaleDeployment(scale) => {
            let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
            before.before = format!("replicas: {replicas}");
            before.impact = format!("Replicas: {replicas} -> {}", scale.replicas);
            let hpas = facts.iter().find(
                |(read, _)| matches!(read, Read::List { kind, .. } if kind == "HorizontalPodAutoscaler"),
            );
            for hpa in hpas.map(|(_, found)| found.as_slice()).unwrap_or_default() {
                let of = &hpa["spec"]["scaleTargetRef"];
                if of["kind"] == "Deployment" && of["name"] == scale.deployment.as_str() {
                    let name = hpa["metadata"]["name"].as_str().unwrap_or_default();
                    before.warnings.push(format!(
                        "HorizontalPodAutoscaler {name} scales this Deployment too and may change it back"
                    ));
                }
            }
            before.rollback = reversible(
                "scale-deployment",
                RecordedRollback {
                    scale_to_previous: Some(ScaleToPrevious {
                        namespace: scale.namespace.clone(),
                        deployment: scale.deployment.clone(),
                        previous_replicas: i32::try_from(replicas).unwrap_or(0),
                    }),
                    ..RecordedRollback::default()
                },
            );
        }
        Action::RolloutRestart(_) => {
            refuse_paused(object, checked)?;
            before.rollback = not_reversible("a restart can't be taken back");
        }
        Action::PatchDeployment(patch) => {
            refuse_paused(object, checked)?;
            if container_rule(spelling) {
                before_images(patch, checked, object, &mut before)?;
            }
            before.rollback = previous(
                checked,
                "Deployment",
                &json!({"template": object["spec"]["template"]}),
            );
        }
        Action::DeletePod(delete) => {
            before.pods = match earlier {
                Some(earlier) => still_there(earlier, facts),
                None => pods_to_delete(delete, spelling, checked, facts, object, settings)?,
            };
            before.before = format!(
                "pods: {}",
                before
                    .pods
                    .iter()
                    .map(|p| p.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            before.rollback = not_reversible("a deleted pod can't be brought back");
        }
        Action::CordonNode(node) => before_cordon(&node.node, checked, object, facts, &mut before)?,
        Action::DrainNode(drain) => before_cordon(&drain.node, checked, object, facts, &mut before)?,
        Action::UncordonNode(node) => {
            let cordoned = object["spec"]["unschedulable"] == true;
            before.before = schedulable_words(cordoned).to_owned();
            before.rollback = if cordoned {
                let cordon_node = Some(NodeAction {
                    node: node.node.clone(),
                });
                reversible(
                    "cordon-node",
                    RecordedRollback {
                        cordon_node,
                        ..RecordedRollback::default()
                    },
                )
            } else {
                not_reversible("the node was schedulable before: there is nothing to take back")
            };
        }
        Action::UpdateConfigMap(update) => {
            let old: serde_json::Map<String, Value> = update
                .data
                .keys()
                .map(|key| (key.clone(), object["data"][key].clone()))
                .collect();
            before.before = format!(
                "keys: {}",
                update.data.keys().cloned().collect::<Vec<_>>().join(", ")
            );
            before.rollback = previous(checked, "ConfigMap", &json!({"data": old}));
        }
        Action::UpdateSecret(_) => {
            before.rollback =
                not_reversible("the controller may not read Secrets, so the state before is not known");
        }
        Action::ApplyManifest(_) if object.is_null() => {
            before.before = "does not exist".to_owned();
            let custom = Some(RecordedCustom {
                description: "delete the object that was created".to_owned(),
                parameters: None,
            });
            before.rollback = reversible(
                "delete",
                RecordedRollback {
                    custom,
                    ..RecordedRollback::default()
                },
            );
        }
        Action::ApplyManifest(_) => {
            let mut old = object.clone();
            if let Some(old) = old.as_object_mut() {
                old.remove("status");
            }
            if let Some(metadata) = old["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            before.rollback = previous(checked, &checked.target.kind, &old);
        }
        Action::Undo(_) => before.rollback = not_reversible("an undo is never itself undone"),
    }
    Ok(before)
}

fn gitops_owner(object: &Value) -> Option<&'static str> {
    let marked = |map: &Value, key: &str| map.get(key).is_some();
    let metadata = &object["metadata"];
    GITOPS
        .into_iter()
        .find(|key| marked(&metadata["labels"], key) || marked(&metadata["annotations"], key))
}

fn refuse_gitops(object: &Value, name: &str, settings: &Settings) -> Result<(), Refusal> {
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

fn refuse_paused(deployment: &Value, checked: &Checked) -> Result<(), Refusal> {
    if deployment["spec"]["paused"] == true {
        let message = format!(
            "{} is paused, so its pods would not change: resume it first",
            target_name(&checked.target)
        );
        return refuse(ErrorType::ValidationError, message);
    }
    Ok(())
}

/// The pods of the first attempt, once it has ended: they were resolved for all attempts.
fn pods_before<'a>(execution: &'a KubernetesExecution, checked: &Checked) -> Option<&'a [PodRef]> {
    let first = execution.status.as_ref()?.attempts.first()?;
    (matches!(checked.action, Action::DeletePod(_)) && first.outcome.is_some()).then_some(&first.pods)
}

/// Those of them that nobody has deleted yet. None may be left.
fn still_there(pods: &[PodRef], facts: &Facts) -> Vec<PodRef> {
    let there = |pod: &&PodRef| {
        facts
            .values()
            .flatten()
            .any(|found| found["metadata"]["uid"] == pod.uid.as_str() && is_running(found))
    };
    pods.iter().filter(there).cloned().collect()
}

/// Those on their way out, and those that ended, need no help.
fn is_running(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn pods_to_delete(
    delete: &DeletePod,
    spelling: &str,
    checked: &Checked,
    facts: &Facts,
    pod: &Value,
    settings: &Settings,
) -> Result<Vec<PodRef>, Refusal> {
    let found: Vec<&Value> = match selected_pods(delete) {
        Some(read) => facts.get(&read).into_iter().flatten().collect(),
        None => vec![pod],
    };
    if found.len() > PODS_MAX as usize {
        let message = format!(
            "{} matches more than {PODS_MAX} pods, which is the most that are evicted at once: narrow the selector",
            target_name(&checked.target)
        );
        return refuse(ErrorType::ValidationError, message);
    }
    let by_name = delete.label_selector.is_none();
    let found: Vec<&Value> = found
        .into_iter()
        .filter(|pod| by_name || is_running(pod))
        .collect();
    if found.is_empty() {
        return refuse(
            ErrorType::ResourceNotFound,
            format!("no running pod matches {}", target_name(&checked.target)),
        );
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut pods = Vec::new();
    for pod in found {
        let owners = pod["metadata"]["ownerReferences"].as_array();
        let controller = owners
            .into_iter()
            .flatten()
            .find(|owner| owner["controller"] == true);
        let name = text(&pod["metadata"]["name"]);
        refuse_gitops(pod, &format!("pod/{}/{name}", delete.namespace), settings)?;
        if controller.is_none() && owner_rule(spelling, delete) {
            let message = format!(
                "pod {name} has no controller that would bring it back: use delete-pod with its name to delete it for good"
            );
            return refuse(ErrorType::ValidationError, message);
        }
        pods.push(PodRef {
            name,
            uid: text(&pod["metadata"]["uid"]),
            controller: controller.map(|owner| ObjectRef {
                api_version: Some(text(&owner["apiVersion"])),
                kind: Some(text(&owner["kind"])),
                name: text(&owner["name"]),
                namespace: Some(delete.namespace.clone()),
                uid: Some(text(&owner["uid"])),
            }),
        });
    }
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pods)
}

/// Each container has to be there: a patch would add one.
fn before_images(
    patch: &PatchDeployment,
    checked: &Checked,
    deployment: &Value,
    before: &mut Before,
) -> Result<(), Refusal> {
    let images = match patched_images(patch) {
        Ok(images) => images,
        Err(problem) => return refuse(ErrorType::ValidationError, format!("patch: {problem}")),
    };
    let (mut old, mut change) = (Vec::new(), Vec::new());
    for (container, image) in images {
        let Some((there, is_init)) = image_of(deployment, &container) else {
            let message = format!(
                "{} has no container {container:?}: a patch would add one",
                target_name(&checked.target)
            );
            return refuse(ErrorType::ValidationError, message);
        };
        old.push(format!("image of {container}: {there}"));
        change.push(format!("Image of {container}: {there} -> {image}"));
        if is_init {
            before.init_containers.push(container);
        }
    }
    before.before = old.join(", ");
    before.impact = change.join(", ");
    Ok(())
}

fn schedulable_words(cordoned: bool) -> &'static str {
    if cordoned { "cordoned" } else { "schedulable" }
}

/// Whether a pod that tolerates nothing may be scheduled there. A node that says nothing of its kubelet is taken for Ready.
fn takes_pods(node: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let keeps_out = |taint: &Value| matches!(taint["effect"].as_str(), Some("NoSchedule" | "NoExecute"));
    let is_not_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] != "True";
    node["spec"]["unschedulable"] != true
        && !list(&node["spec"]["taints"]).iter().any(keeps_out)
        && !list(&node["status"]["conditions"]).iter().any(is_not_ready)
}

fn before_cordon(
    name: &str,
    checked: &Checked,
    node: &Value,
    facts: &Facts,
    before: &mut Before,
) -> Result<(), Refusal> {
    let cordoned = node["spec"]["unschedulable"] == true;
    // Without the lock they are not read, and nothing is decided.
    let nodes = facts.get(&Read::list("v1", "Node", None, None));
    let others: Option<Vec<&Value>> = nodes.map(|nodes| {
        let others = nodes.iter().filter(|node| node["metadata"]["name"] != name);
        others.collect()
    });
    if let Some(others) = others
        && takes_pods(node)
        && !others.iter().any(|node| takes_pods(node))
    {
        let why = if others.is_empty() {
            "there is no other"
        } else {
            "each of the others is cordoned, not Ready or tainted against pods"
        };
        let message = format!(
            "{} is the last schedulable node: {why}, so nothing could be scheduled any more",
            target_name(&checked.target)
        );
        return refuse(ErrorType::ValidationError, message);
    }
    before.before = schedulable_words(cordoned).to_owned();
    before.rollback = if cordoned {
        not_reversible("the node was cordoned before: there is nothing to take back")
    } else {
        let uncordon_node = Some(NodeAction {
            node: name.to_owned(),
        });
        reversible(
            "uncordon-node",
            RecordedRollback {
                uncordon_node,
                ..RecordedRollback::default()
            },
        )
    };
    Ok(())
}

fn reversible(action: &str, parameters: RecordedRollback) -> RollbackInformation {
    RollbackInformation {
        available: true,
        reason: None,
        rollback_action: Some(action.to_owned()),
        rollback_parameters: Some(parameters),
        estimated_duration: None,
    }
}

fn not_reversible(reason: &str) -> RollbackInformation {
    RollbackInformation {
        available: false,
        reason: Some(reason.to_owned()),
        ..RollbackInformation::default()
    }
}

fn previous(checked: &Checked, kind: &str, spec: &Value) -> RollbackInformation {
    let text = spec.to_string();
    if text.len() > PREVIOUS_MAX {
        return not_reversible("the state before is larger than 256 KiB and was not stored");
    }
    let restore_previous_config = Some(RecordedConfig {
        resource_kind: kind.to_owned(),
        namespace: checked.target.namespace.clone().unwrap_or_default(),
        name: checked.target.name.clone(),
        previous_spec: text,
    });
    reversible(
        "restore",
        RecordedRollback {
            restore_previous_config,
            ..RecordedRollback::default()
        },
    )
}

#[cfg(test)]
mod tests;
