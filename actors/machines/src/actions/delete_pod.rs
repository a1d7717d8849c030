//! delete-pod: deletes one pod by its name, or evicts those of a selector. As restart-pod something brings them back.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{
    Attempt, DeletePod, DeletePodStep, ErrorType, ObjectRef, PodRef, RecordedRollback, RestartPodStep,
    TargetRef,
};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests, rule};
use super::checks::{LEAST_TIMEOUT, bad_grace, bad_name, bad_namespace};
use super::rollback::not_reversible;
use super::{
    Changes, CheckContext, Definition, Examination, JobContext, Look, Payload, Rollout, Spelling, Subject,
    Variant, namespaced, replaced_pods, target_name,
};
use crate::label_selector;
use crate::manifest_kinds::ParsedManifest;
use crate::mapping::{MappingError, grace_seconds};
use crate::preflight::{Preflight, Refusal, Scope, refuse, refuse_gitops};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, RenderError, dry_options, raw};
use crate::verify::Postcondition;

/// Most pods that a selector may resolve to.
const PODS_MAX: u32 = 20;

pub(super) const DEFINITION: Definition = Definition {
    spellings: &[
        Spelling {
            variant: Variant::Plain,
            step_member: "deletePod",
            names: &["delete-pod", "delete_pod"],
            step_fields: &[("pod", "podName"), ("gracePeriodSeconds", "gracePeriod")],
        },
        Spelling {
            variant: Variant::RestartPod,
            step_member: "restartPod",
            names: &["restart-pod", "restart-pods", "restart_pod"],
            step_fields: &[
                ("pod", "podName"),
                ("labelSelector", "selector"),
                ("gracePeriodSeconds", "gracePeriod"),
            ],
        },
    ],
    service_account: "delete-pod-sa",
    rules: |_| {
        vec![
            rule("", "pods", &["delete"]),
            rule("", "pods/eviction", &["create"]),
        ]
    },
    changes: Changes::Pods,
    noun: "pod",
    on_node: false,
    acts_on_pods: true,
    rollout: Rollout::None,
    payload: Payload::Annotations,
    least_timeout: LEAST_TIMEOUT,
    provable_when_lost: true,
    fails_half_done: false,
    records_its_time: false,
    samples: || {
        vec![
            (
                Variant::Plain,
                json!({"deletePod": {"namespace": "shop", "pod": "web-1"}}),
            ),
            (
                Variant::RestartPod,
                json!({"deletePod": {"namespace": "shop", "labelSelector": "app=web"}}),
            ),
        ]
    },
};

/// From a step that deletes one pod.
pub(crate) fn from_step(step: DeletePodStep) -> Result<DeletePod, MappingError> {
    Ok(DeletePod {
        grace_period_seconds: grace_seconds(step.grace_period.as_deref())?,
        namespace: step.namespace,
        pod: Some(step.pod_name),
        label_selector: None,
        node_name: None,
    })
}

/// From a step that restarts pods.
pub(crate) fn from_restart_step(step: RestartPodStep) -> Result<DeletePod, MappingError> {
    if step.pod_name.is_some() == step.selector.is_some() {
        return Err(MappingError::PodOrSelector);
    }
    if step.node_name.is_some() && step.selector.is_none() {
        return Err(MappingError::NodeWithoutSelector);
    }
    Ok(DeletePod {
        grace_period_seconds: grace_seconds(step.grace_period.as_deref())?,
        namespace: step.namespace,
        pod: step.pod_name,
        label_selector: step.selector,
        node_name: step.node_name,
    })
}

/// What the API server would refuse is refused before it is asked.
fn bad_selector(text: &str) -> Option<Problem> {
    label_selector::problem(text).map(|why| {
        let message = format!("{text:?} is not a label selector, such as app=web,tier!=cache: {why}");
        Problem::new("labelSelector", message)
    })
}

/// Those on their way out, and those that ended, need no help.
fn is_running(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Those of them that nobody has deleted yet. None may be left.
fn still_there(pods: &[PodRef], facts: &ReadResults) -> Vec<PodRef> {
    let there = |pod: &&PodRef| {
        facts
            .values()
            .flatten()
            .any(|found| found["metadata"]["uid"] == pod.uid.as_str() && is_running(found))
    };
    pods.iter().filter(there).cloned().collect()
}

pub(super) struct Operation<'a>(pub(super) &'a DeletePod);

impl Operation<'_> {
    fn by_selector(&self) -> bool {
        self.0.label_selector.is_some()
    }

    /// Pods without a controller are not deleted: nothing would bring them back.
    fn needs_a_controller(&self, variant: Variant) -> bool {
        variant == Variant::RestartPod || self.by_selector()
    }

    /// The read of the pods of a selector: one more than may be evicted tells that there are too many.
    fn selected_pods(&self) -> Option<Read> {
        let selector = self.0.label_selector.as_deref()?;
        let node = self.0.node_name.as_deref();
        Some(Read::pods_of(&self.0.namespace, selector, node, PODS_MAX + 1))
    }

    fn pods_to_delete(&self, at: Examination<'_>) -> Result<Vec<PodRef>, Refusal> {
        let target = target_name(&at.checked.target);
        let found: Vec<&Value> = match self.selected_pods() {
            Some(read) => at.facts.get(&read).into_iter().flatten().collect(),
            None => vec![at.object],
        };
        if found.len() > PODS_MAX as usize {
            let message = format!(
                "{target} matches more than {PODS_MAX} pods, which is the most that are evicted at once: narrow the selector"
            );
            return refuse(ErrorType::ValidationError, message);
        }
        let found: Vec<&Value> = found
            .into_iter()
            .filter(|pod| !self.by_selector() || is_running(pod))
            .collect();
        if found.is_empty() {
            return refuse(
                ErrorType::ResourceNotFound,
                format!("no running pod matches {target}"),
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
            refuse_gitops(pod, &format!("pod/{}/{name}", self.0.namespace), at.settings)?;
            if controller.is_none() && self.needs_a_controller(at.checked.variant) {
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
                    namespace: Some(self.0.namespace.clone()),
                    uid: Some(text(&owner["uid"])),
                }),
            });
        }
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }
}

impl super::Operation for Operation<'_> {
    fn target(&self, _: Option<&ParsedManifest>) -> TargetRef {
        let delete = self.0;
        match (&delete.pod, &delete.label_selector) {
            (None, Some(selector)) => {
                let node = delete.node_name.as_ref();
                let on = node.map_or_else(String::new, |node| format!(" on node {node}"));
                TargetRef::selected("Pod", &delete.namespace, &format!("{selector}{on}"))
            }
            (name, _) => namespaced("Pod", &delete.namespace, name.as_deref().unwrap_or_default()),
        }
    }

    fn manifest(&self) -> Option<&str> {
        None
    }

    fn problems(&self, _: CheckContext<'_>) -> Vec<Problem> {
        let delete = self.0;
        let name = |field, text: &Option<String>| text.as_deref().and_then(|text| bad_name(field, text));
        let one_of_two = (delete.pod.is_some() == delete.label_selector.is_some())
            .then(|| Problem::new("", "exactly one of pod and labelSelector is needed"));
        let alone = (delete.node_name.is_some() && delete.label_selector.is_none())
            .then(|| Problem::new("", "nodeName goes with labelSelector"));
        let problems = [
            name("pod", &delete.pod),
            bad_namespace("namespace", &delete.namespace),
            one_of_two,
            delete.label_selector.as_deref().and_then(bad_selector),
            name("nodeName", &delete.node_name),
            alone,
            bad_grace(delete.grace_period_seconds.unwrap_or(0)),
        ];
        problems.into_iter().flatten().collect()
    }

    fn problem_of_variant(&self, _: CheckContext<'_>) -> Option<Problem> {
        None
    }

    fn payload_size(&self, _: Option<&ParsedManifest>) -> Option<(&'static str, usize)> {
        None
    }

    fn secrets(&self) -> Vec<&str> {
        Vec::new()
    }

    fn rights(
        &self,
        rules: &[PolicyRule],
        target: &TargetRef,
        _: Option<&ParsedManifest>,
    ) -> Vec<AccessRequest> {
        let by_selector = self.by_selector();
        // Deleting one pod by name asks for delete, evicting those of a selector for evictions.
        let reach = |_: &str, _: &str, subresource: Option<&str>| {
            let reach = if by_selector {
                Reach::Namespace
            } else {
                Reach::Target
            };
            ((subresource == Some("eviction")) == by_selector).then_some(reach)
        };
        let mut rights = requests(rules, target, reach);
        // The pods have to be found first, and are looked at: nobody learns of them who may not read them.
        rights.push(AccessRequest {
            group: String::new(),
            resource: "pods".to_owned(),
            subresource: None,
            verb: if by_selector { "list" } else { "get" }.to_owned(),
            namespace: target.namespace.clone(),
            name: (!by_selector).then(|| target.name.clone()),
        });
        rights
    }

    fn optional_right(&self) -> Option<AccessRequest> {
        None
    }

    fn target_version(&self, _: Option<&ParsedManifest>) -> Option<String> {
        (!self.by_selector()).then(|| "v1".to_owned())
    }

    fn may_create_its_target(&self) -> bool {
        false
    }

    fn reads_before(&self, _: Scope) -> Vec<Read> {
        self.selected_pods().into_iter().collect()
    }

    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        preflight.pods = match at.earlier {
            Some(earlier) => still_there(earlier, at.facts),
            None => self.pods_to_delete(at)?,
        };
        let names: Vec<&str> = preflight.pods.iter().map(|pod| pod.name.as_str()).collect();
        let names = names.join(", ");
        preflight.change(format!("pods: {names}"), "deleted");
        preflight.impact = format!("Pods deleted: {names}");
        preflight.rollback = not_reversible("a deleted pod can't be brought back");
        Ok(())
    }

    fn keeps_first_generation(&self) -> bool {
        false
    }

    fn avoids_node(&self) -> Option<&str> {
        None
    }

    /// A pod that is named is deleted, those of a selector are evicted; each by its uid, so that another one of that name is not
    /// hit.
    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError> {
        let namespace = &self.0.namespace;
        let path = |name: &str| format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let options = |uid: &str| {
            let mut options = json!({"preconditions": {"uid": uid}});
            if let Some(grace) = self.0.grace_period_seconds {
                options["gracePeriodSeconds"] = json!(grace);
            }
            dry_options(&mut options, job.dry_run);
            options
        };
        let pods = &job.attempt.pods;
        let Some(first) = pods.first() else {
            return Err(RenderError::NoPods);
        };
        if !self.by_selector() {
            let mut options = options(&first.uid);
            options["apiVersion"] = json!("v1");
            options["kind"] = json!("DeleteOptions");
            let call = Call::of([
                "delete".to_owned(),
                raw(&path(&first.name), job.dry_run),
                "--filename=/payload/options.json".to_owned(),
            ]);
            return Ok(call.with_file("options.json", options.to_string()));
        }
        let evictions = pods.iter().enumerate().map(|(index, pod)| {
            let file = format!("eviction-{index}.json");
            let eviction = json!({
                "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": pod.name, "namespace": namespace},
                "deleteOptions": options(&pod.uid),
            });
            let call = Call::of([
                "create".to_owned(),
                raw(&format!("{}/eviction", path(&pod.name)), job.dry_run),
                format!("--filename=/payload/{file}"),
            ]);
            call.with_file(&file, eviction.to_string())
        });
        Ok(evictions.reduce(Call::then).unwrap_or_default())
    }

    fn reads_after(&self, attempt: &Attempt, _: Option<&Value>, facts: &ReadResults) -> Vec<Read> {
        replaced_pods::reads(&self.0.namespace, attempt, facts)
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        replaced_pods::outcome(&self.0.namespace, look.attempt, look.facts)
    }

    fn part(&self, _: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        None
    }

    fn undo_by_hand(&self, _: Variant, _: &RecordedRollback, _: &TargetRef) -> Option<String> {
        None
    }

    fn subject(&self, variant: Variant, _: Option<&ParsedManifest>) -> Subject {
        match &self.0.label_selector {
            Some(selector) => Subject::Pods {
                selector: selector.clone(),
                node: self.0.node_name.clone(),
            },
            None => Subject::Pod {
                controlled: self.needs_a_controller(variant),
            },
        }
    }
}
