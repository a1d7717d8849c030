//! Who belongs to whom, what is poked for a change, and what is kept of what has ended.

use k8s_openapi::api::core::v1::Namespace;
use kubernaut_crds::Approval;
use serde_json::{Value, json};

use super::*;
use crate::watch::approvals::{AdmissionBinding, AdmissionPolicy};

fn execution(uid: &str, version: u32, workflow: Option<&str>) -> KubernetesExecution {
    let owners: Vec<Value> = workflow
        .map(|uid| {
            json!({"apiVersion": names::WORKFLOW_API_VERSION, "kind": names::WORKFLOW_KIND, "name": "w", "uid": uid, "controller": true})
        })
        .into_iter()
        .collect();
    serde_json::from_value(json!({
        "apiVersion": names::EXECUTION_API_VERSION, "kind": names::EXECUTION_KIND,
        "metadata": {"name": uid, "namespace": "shop", "uid": uid, "resourceVersion": version.to_string(), "ownerReferences": owners},
        "spec": {"action": "cordon-node", "parameters": {"cordonNode": {"node": "n"}}},
    }))
    .unwrap()
}

fn job(name: &str, execution_uid: &str) -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": format!("uid-of-{name}"), "resourceVersion": "1", "labels": {
            names::LABEL_EXECUTION_UID: execution_uid, names::LABEL_EXECUTION_NAME: "step", names::LABEL_EXECUTION_NAMESPACE: "shop",
        }},
    }))
    .unwrap()
}

fn put_in<K: Kept>(store: &Store, object: K) -> Vec<Change> {
    store.put(object, 100)
}

fn uids(store: &Store, workflow: &str) -> Vec<String> {
    store
        .execution_versions_of(workflow)
        .into_iter()
        .map(|(uid, _)| uid)
        .collect()
}

#[test]
fn executions_are_found_by_the_workflow_that_controls_them_now() {
    let store = Store::default();
    put_in(&store, execution("a", 1, Some("w1")));
    put_in(&store, execution("b", 1, Some("w1")));
    assert_eq!(uids(&store, "w1"), ["a", "b"]);
    put_in(&store, execution("a", 2, None));
    assert_eq!(uids(&store, "w1"), ["b"]);
    let changes = store.remove::<KubernetesExecution>("b");
    assert_eq!(
        changes,
        [Change::Execution("b".into()), Change::Workflow("w1".into())]
    );
    assert!(uids(&store, "w1").is_empty());
}

#[test]
fn a_list_pokes_for_what_changed_and_for_what_is_gone() {
    let store = Store::default();
    put_in(&store, execution("same", 1, None));
    put_in(&store, execution("changed", 1, None));
    put_in(&store, execution("gone", 1, None));
    let uids = ["same", "changed", "new", "unreadable"].map(str::to_owned).into();
    let mut changes = put_in(&store, execution("same", 1, None));
    changes.extend(put_in(&store, execution("changed", 2, None)));
    changes.extend(put_in(&store, execution("new", 3, None)));
    changes.extend(store.listed::<KubernetesExecution>(&uids));
    let poked = ["changed", "new", "gone"].map(|uid| Change::Execution(uid.into()));
    assert_eq!(changes, poked);
}

#[test]
fn what_can_t_be_read_any_more_is_not_gone() {
    let store = Store::default();
    put_in(&store, execution("a", 1, None));
    assert!(
        store
            .listed::<KubernetesExecution>(&["a".to_owned()].into())
            .is_empty()
    );
    assert!(store.execution("a").is_some());
}

#[test]
fn a_store_that_begins_again_keeps_what_it_has_and_is_complete_after_a_list_of_each_kind() {
    let store = Store::default();
    let lists = || {
        store.listed::<WorkflowExecution>(&BTreeSet::new());
        store.listed::<KubernetesExecution>(&["a".to_owned()].into());
        store.listed::<Job>(&BTreeSet::new());
        store.listed::<Approval>(&BTreeSet::new());
        store.listed::<Namespace>(&BTreeSet::new());
        store.listed::<AdmissionPolicy>(&BTreeSet::new());
        store.listed::<AdmissionBinding>(&BTreeSet::new());
        assert!(!store.is_complete());
        store.listed::<Pod>(&BTreeSet::new());
        assert!(store.is_complete());
    };
    lists();
    put_in(&store, execution("a", 1, None));
    store.begin_again();
    assert!(!store.is_complete());
    assert!(store.execution("a").is_some());
    lists();
}

#[test]
fn jobs_are_found_by_the_execution_that_their_label_names() {
    let store = Store::default();
    assert_eq!(put_in(&store, job("j1", "e")), [Change::Jobs("e".into())]);
    put_in(&store, job("j2", "other"));
    let found = store.job_refs_of("e");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].execution.to_string(), "shop/step");
    assert!(found[0].view.live);
    assert_eq!(store.jobs_of("e").len(), 1);
    assert_eq!(store.uids_with_jobs(), ["e", "other"]);
}

#[test]
fn a_job_names_its_execution_although_a_label_is_too_short_for_the_name() {
    let store = Store::default();
    let name = "step-".repeat(20) + "a";
    let mut long = job("j", "e");
    let labels = long.metadata.labels.get_or_insert_default();
    labels.insert(names::LABEL_EXECUTION_NAME.to_owned(), name[..63].to_owned());
    let annotations = long.metadata.annotations.get_or_insert_default();
    annotations.insert(names::ANNOTATION_EXECUTION_NAME.to_owned(), name.clone());
    put_in(&store, long);
    assert_eq!(store.job_refs_of("e")[0].execution.name, name);
}

fn ended(uid: &str, version: u32, workflow: Option<&str>) -> KubernetesExecution {
    let mut ended = execution(uid, version, workflow);
    ended.spec.parameters = serde_json::from_value(json!({"updateConfigMap": {
        "namespace": "shop", "configMap": "flags", "data": {"key": "x".repeat(100_000)}}}))
    .unwrap();
    ended.status = serde_json::from_value(json!({
        "phase": "completed",
        "rollbackInformation": {"available": true, "rollbackParameters": {"restorePreviousConfig": {
            "resourceKind": "ConfigMap", "namespace": "shop", "name": "flags", "previousSpec": "y".repeat(100_000)}}},
    }))
    .unwrap();
    ended
}

fn workflow(uid: &str, version: u32, phase: &str) -> WorkflowExecution {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "shop", "uid": uid, "resourceVersion": version.to_string()},
        "spec": {"workflowDefinition": {"name": "w", "version": "1", "steps": [
            {"stepNumber": 1, "name": "a", "action": "cordon-node", "parameters": {"cordonNode": {"nodeName": "n"}}}]}},
        "status": {"phase": phase},
    }))
    .unwrap()
}

/// Length of what is kept of an execution: of its spec, and of its status.
fn kept(store: &Store, uid: &str) -> (usize, usize) {
    let execution = store.execution(uid).unwrap();
    let spec = serde_json::to_string(&execution.spec).unwrap();
    (
        spec.len(),
        serde_json::to_string(&execution.status).unwrap().len(),
    )
}

/// What is kept of a workflow's steps.
fn steps(store: &Store, uid: &str) -> Vec<kubernaut_crds::WorkflowStep> {
    store
        .workflow(uid)
        .unwrap()
        .spec
        .workflow_definition
        .steps
        .clone()
}

#[test]
fn before_anybody_runs_it_what_has_ended_is_kept_short() {
    let store = Store::default();
    store.put(ended("by-hand", 1, None), 200_000);
    store.put(ended("step", 1, Some("w")), 200_000);
    let (spec, status) = kept(&store, "by-hand");
    assert!(spec < 1000 && status < 2000, "{spec} {status}");
    // Its workflow may still compare it.
    let (spec, status) = kept(&store, "step");
    assert!(spec > 100_000 && status < 2000, "{spec} {status}");
    store.put(workflow("w", 1, "executing"), 1000);
    assert!(kept(&store, "step").0 > 100_000);
    store.put(workflow("w", 2, "completed"), 1000);
    assert!(kept(&store, "step").0 < 1000);
    assert!(steps(&store, "w").is_empty());
    assert!(store.amount::<KubernetesExecution>().1 < 10_000);
    store.remove::<KubernetesExecution>("step");
    store.remove::<KubernetesExecution>("by-hand");
    assert_eq!(store.amount::<KubernetesExecution>(), (0, 0));
}

#[test]
fn what_somebody_runs_is_kept_whole_until_he_is_done_with_it() {
    let store = Store::default();
    store.follow();
    store.put(execution("step", 1, Some("w")), 1000);
    store.put(workflow("w", 1, "executing"), 1000);
    store.put(ended("step", 2, Some("w")), 200_000);
    let (spec, status) = kept(&store, "step");
    assert!(spec > 100_000 && status > 100_000, "{spec} {status}");
    store.settled("step");
    let (spec, status) = kept(&store, "step");
    assert!(spec > 100_000 && status < 2000, "{spec} {status}");
    store.put(workflow("w", 2, "completed"), 1000);
    store.settled("w");
    store.settled("step");
    assert!(kept(&store, "step").0 < 1000);
    assert!(steps(&store, "w").is_empty());
}

#[test]
fn what_waits_and_what_has_ended_is_read_as_it_was_however_it_is_kept() {
    let store = Store::default();
    let parked = workflow("parked", 1, "planning");
    let running = workflow("running", 2, "executing");
    let step = execution("step", 3, Some("running"));
    // Before anybody follows: what has not begun is kept as a text.
    put_in(&store, parked.clone());
    put_in(&store, running.clone());
    put_in(&store, step.clone());
    assert_eq!(*store.workflow("parked").unwrap(), parked);
    assert_eq!(*store.workflow("running").unwrap(), running);
    assert_eq!(*store.execution("step").unwrap(), step);
    store.follow();
    put_in(&store, workflow("other", 4, "planning"));
    store.parked("other");
    assert_eq!(
        *store.workflow("other").unwrap(),
        workflow("other", 4, "planning")
    );
    // Its version is known, and the next one is taken.
    assert!(put_in(&store, workflow("other", 4, "planning")).is_empty());
    assert_eq!(
        put_in(&store, workflow("other", 5, "executing")),
        [Change::Workflow("other".into())]
    );
    assert_eq!(
        store
            .workflow("other")
            .unwrap()
            .metadata
            .resource_version
            .as_deref(),
        Some("5")
    );
    // Jobs of what is done with are still found.
    put_in(&store, job("j", "done"));
    put_in(&store, ended("done", 6, None));
    let before = store.jobs_of("done");
    store.settled("done");
    assert_eq!(store.jobs_of("done"), before);
    assert!(store.is_ended("done") && !store.is_ended("step"));
    assert_eq!(store.execution_uids(), ["step", "done"]);
}
