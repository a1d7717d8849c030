//! Each action, whichever it is: denied by a policy, waiting for an approval, tried again, out of time, without its outcome, and
//! with its outcome although its Job failed.

use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{ErrorType, ExecutionPhase};
use kubernaut_machines::actions::{ActionKind, Variant};
use kubernaut_machines::approval::{Requirement, Seen};
use kubernaut_machines::policy::Verdict;
use kubernaut_machines::step::StepEvent;
use serde_json::{Value, json};

use crate::step_harness::{StepHarness, deployment};

/// Objects that an action of each kind finds, as they are before it.
fn world() -> Vec<Value> {
    let mut web = deployment(
        1,
        json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}}}),
        json!({}),
    );
    web["apiVersion"] = json!("apps/v1");
    web["metadata"]["uid"] = json!("web-uid");
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7", "uid": "rs-uid", "controller": true}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "pod-uid", "labels": {"app": "web"}, "ownerReferences": owner},
        "spec": {"nodeName": "node-1"}, "status": {"phase": "Running"}});
    let node = |name: &str, cordoned: Option<bool>| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}, "spec": {"unschedulable": cordoned}});
    vec![
        web,
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "db", "namespace": "shop", "uid": "db-uid", "generation": 1},
            "spec": {"replicas": 1}, "status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1}}),
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web-7", "namespace": "shop", "uid": "rs-uid"},
            "spec": {"replicas": 1}, "status": {"replicas": 1, "readyReplicas": 1}}),
        pod,
        node("node-1", None),
        node("node-2", None),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop", "uid": "cm-uid"},
            "data": {"timeout": "1s"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "shop", "uid": "s-uid"}}),
    ]
}

struct Sample {
    kind: ActionKind,
    spelling: &'static str,
    parameters: Value,
}

/// One of each action and of each of its spellings that promises something.
fn samples() -> Vec<Sample> {
    let all = ActionKind::ALL.into_iter();
    let samples = all.flat_map(|kind| {
        kind.samples()
            .into_iter()
            .map(move |(variant, parameters)| Sample {
                kind,
                spelling: match variant {
                    Variant::Plain => kind.canonical(),
                    Variant::RestartPod => "restart-pod",
                    Variant::UpdateImage => "update-image",
                },
                parameters,
            })
    });
    samples.collect()
}

fn bed(sample: &Sample, more: &Value) -> StepHarness {
    let mut spec = json!({"action": sample.spelling, "parameters": sample.parameters, "timeout": "2m"});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let mut bed = StepHarness::new(spec).with(world());
    bed.settings.apply_manifest_kinds = vec!["ConfigMap".to_owned()];
    if sample.kind == ActionKind::UncordonNode {
        let mut node = bed.objects[4].clone();
        node["spec"]["unschedulable"] = json!(true);
        bed.set(node);
    }
    bed
}

/// Every object is as the action of this sample wants it.
fn done(bed: &mut StepHarness, sample: &Sample) {
    let mut objects = bed.objects.clone();
    for object in &mut objects {
        match (sample.kind, object["kind"].as_str().unwrap_or_default()) {
            (ActionKind::ScaleDeployment, "Deployment") | (ActionKind::ScaleStatefulSet, "StatefulSet") => {
                object["spec"]["replicas"] = json!(3);
                object["status"] =
                    json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3});
            }
            (ActionKind::RolloutRestart, "Deployment") => {
                object["spec"]["template"]["metadata"]["annotations"] =
                    json!({"kubernaut.io/restarted-by": "uid-1"});
            }
            (ActionKind::PatchDeployment, "Deployment") => {
                object["spec"]["minReadySeconds"] = json!(5);
                object["spec"]["template"]["spec"]["containers"] = json!([{"name": "app", "image": "app:2"}]);
                object["metadata"]["generation"] = json!(2);
                object["status"]["observedGeneration"] = json!(2);
            }
            (ActionKind::CordonNode | ActionKind::DrainNode, "Node")
                if object["metadata"]["name"] == "node-1" =>
            {
                object["spec"]["unschedulable"] = json!(true);
            }
            (ActionKind::UncordonNode, "Node") => object["spec"]["unschedulable"] = Value::Null,
            (ActionKind::UpdateConfigMap, "ConfigMap") => object["data"] = json!({"timeout": "5s"}),
            (ActionKind::ApplyManifest, "ConfigMap") => object["data"] = json!({"a": "b"}),
            _ => {}
        }
    }
    if matches!(sample.kind, ActionKind::DeletePod | ActionKind::DrainNode) {
        objects.retain(|object| object["kind"] != "Pod");
    }
    bed.objects = objects;
}

#[test]
fn a_policy_that_denies_any_action_leaves_it_undone() {
    for sample in samples() {
        let mut bed = bed(&sample, &json!({}));
        bed.settings.policy = true;
        bed.verdict = Verdict::denied("kubernaut.execution@1", "not on Fridays");
        bed.start();
        assert_eq!(
            bed.status().error_type,
            Some(ErrorType::PolicyDenied),
            "{}: {}",
            sample.spelling,
            bed.message()
        );
        assert!(bed.made.is_empty(), "{}", sample.spelling);
    }
}

#[test]
fn any_action_waits_for_the_approval_that_it_needs() {
    for sample in samples() {
        let mut bed = bed(&sample, &json!({"approvalReceived": false}));
        bed.execution.metadata.annotations =
            Some([("kubernaut.io/created-by".to_owned(), "eve".to_owned())].into());
        bed.start();
        let made = bed.now;
        let sees = |bed: &mut StepHarness, approved: bool| {
            let approval = json!({
                "apiVersion": "workflow.kubernaut.io/v1", "kind": "Approval",
                "metadata": {"name": "by-ana", "namespace": "shop", "creationTimestamp": made.to_string()},
                "spec": {"objectRef": {"kind": "KubernetesExecution", "name": "fix-step-1", "uid": "uid-1"},
                         "decision": "Approved", "approver": "ana"},
            });
            let approval = Arc::new(serde_json::from_value(approval).expect("an Approval"));
            bed.event(StepEvent::ApprovalsSeen(Arc::new(Seen {
                requirement: Requirement::None,
                guard: Ok(Timestamp::UNIX_EPOCH),
                approvals: approved.then_some(approval).into_iter().collect(),
            })));
        };
        sees(&mut bed, false);
        bed.wait(10);
        assert_eq!(
            bed.phase(),
            Some(ExecutionPhase::WaitingApproval),
            "{}: {}",
            sample.spelling,
            bed.message()
        );
        assert!(bed.made.is_empty(), "{}", sample.spelling);
        sees(&mut bed, true);
        assert_eq!(bed.made.len(), 1, "{}: {}", sample.spelling, bed.message());
    }
}

#[test]
fn any_action_that_failed_for_a_moment_is_tried_again() {
    for sample in samples() {
        let mut bed = bed(&sample, &json!({"maxRetries": 1}));
        bed.start();
        bed.pod_fails("Unable to connect to the server: net/http: TLS handshake timeout");
        bed.run_until(|bed| bed.made.len() == 2 || bed.phase() == Some(ExecutionPhase::Failed));
        assert_eq!(bed.made.len(), 2, "{}: {}", sample.spelling, bed.message());
    }
}

#[test]
fn any_action_that_takes_too_long_ends_as_a_time_out() {
    for sample in samples() {
        let mut bed = bed(&sample, &json!({}));
        bed.start();
        bed.pod_runs();
        bed.run_to_the_end();
        assert_eq!(
            bed.status().error_type,
            Some(ErrorType::Timeout),
            "{}: {}",
            sample.spelling,
            bed.message()
        );
        assert_eq!(bed.made.len(), 1, "{}", sample.spelling);
    }
}

/// A Secret is never read, and of a patch of anything and of an applied object kubectl's success is the proof that it was taken.
#[test]
fn an_outcome_that_is_not_there_fails_any_action_whatever_its_job_said() {
    for sample in samples() {
        let mut bed = bed(&sample, &json!({}));
        bed.start();
        if sample.spelling == "patch-deployment" {
            // It was taken, and the new pods do not come.
            let mut web = bed
                .objects
                .iter()
                .find(|object| object["kind"] == "Deployment")
                .expect("it")
                .clone();
            web["metadata"]["generation"] = json!(2);
            web["spec"]["minReadySeconds"] = json!(5);
            web["status"] =
                json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 0, "readyReplicas": 1});
            bed.set(web);
        }
        bed.pod_succeeds("done");
        if sample.spelling == "update-secret" {
            bed.run_to_the_end();
            assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
            continue;
        }
        bed.run_to_the_end();
        let status = bed.status();
        assert_eq!(
            status.error_type,
            Some(ErrorType::VerificationFailed),
            "{}: {}",
            sample.spelling,
            bed.message()
        );
        let rollback = status
            .rollback_information
            .expect("it is recorded before the Job");
        let has_inverse = !["rollout-restart", "delete-pod", "restart-pod"].contains(&sample.spelling);
        assert_eq!(rollback.available, has_inverse, "{}", sample.spelling);
        assert_eq!(rollback.undo.is_some(), has_inverse, "{}", sample.spelling);
    }
}

#[test]
fn an_outcome_that_is_there_completes_any_action_whatever_its_job_said() {
    for sample in samples() {
        let mut bed = bed(&sample, &json!({"maxRetries": 0}));
        bed.start();
        done(&mut bed, &sample);
        bed.pod_fails("error: connection reset by peer");
        bed.run_to_the_end();
        // Nothing shows that a patch took effect, and nobody reads a Secret.
        let provable = !["patch-deployment", "update-secret"].contains(&sample.spelling);
        let expected = if provable {
            ExecutionPhase::Completed
        } else {
            ExecutionPhase::Failed
        };
        assert_eq!(
            bed.phase(),
            Some(expected),
            "{}: {}",
            sample.spelling,
            bed.message()
        );
        if provable {
            let results = bed
                .status()
                .validation_results
                .and_then(|results| results.dry_run_results);
            let warnings = results.map(|results| results.warnings).unwrap_or_default();
            assert!(
                warnings
                    .iter()
                    .any(|warning| warning.contains("its effect is there")),
                "{warnings:?}"
            );
        }
    }
}

#[test]
fn a_job_that_vanished_is_lost_where_nothing_can_show_its_effect() {
    for sample in samples() {
        let mut bed = bed(&sample, &json!({"maxRetries": 0}));
        bed.start();
        bed.pod_runs();
        bed.lose_jobs();
        bed.run_to_the_end();
        assert_eq!(
            bed.status().error_type,
            Some(ErrorType::JobLost),
            "{}: {}",
            sample.spelling,
            bed.message()
        );
    }
}
