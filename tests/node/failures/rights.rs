//! The Job's account lacks a right: the step fails at once and names it.

use kube::api::{DeleteParams, ListParams};
use kubernaut_machines::actions::ActionKind;
use serde_json::{Value, json};

use super::{Targets, drain, failed_at_once, spare_node, start_all};
use crate::bed::bed_alone;
use crate::scene::{NODE, Scene, api, execution, pretty};
use crate::traces::{effects, only_ended_jobs_remain};

const BINDING: &str = "rbac.authorization.k8s.io/v1/ClusterRoleBinding";
const ROLE: &str = "rbac.authorization.k8s.io/v1/ClusterRole";

/// Takes all rights from the executor's accounts. What is returned gives them back.
async fn take_bindings(scene: &Scene<'_>) -> Vec<Value> {
    let bindings = api(&scene.client, BINDING, "");
    let ours = ListParams::default().labels("app.kubernetes.io/component=executor");
    let mut taken = Vec::new();
    for binding in bindings.list(&ours).await.expect("a list") {
        let name = binding.metadata.name.clone().expect("a name");
        bindings
            .delete(&name, &DeleteParams::default())
            .await
            .expect("deleted");
        let mut kept = scene_json(&binding);
        let metadata = kept["metadata"].as_object_mut().expect("metadata");
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "labels"));
        kept["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        kept["kind"] = json!("ClusterRoleBinding");
        taken.push(kept);
    }
    taken
}

fn scene_json(object: &kube::api::DynamicObject) -> Value {
    serde_json::to_value(object).expect("JSON")
}

#[tokio::test]
async fn an_account_without_rights_fails_each_action_at_once_and_the_message_names_what_is_missing() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "no-rights").await;
    let targets = Targets::make(&scene).await;
    let mut actions = targets.actions(&scene);
    for (node, cordoned) in [
        ("spare-cordon", false),
        ("spare-uncordon", true),
        ("spare-drain", false),
    ] {
        spare_node(&scene, node, cordoned).await;
    }
    actions.extend([
        ("cordon-node", json!({"cordonNode": {"nodeName": "spare-cordon"}})),
        (
            "uncordon-node",
            json!({"uncordonNode": {"nodeName": "spare-uncordon"}}),
        ),
        ("drain-node", drain("spare-drain")),
    ]);
    let taken = take_bindings(&scene).await;
    let accounts = taken.len();
    start_all(&scene, "all", &actions).await;
    let ended = scene.ended("all").await;
    for binding in taken {
        scene.create(binding).await;
    }
    assert_eq!(accounts, ActionKind::ALL.len(), "one for each account");
    let spellings: Vec<&str> = actions.iter().map(|(action, _)| *action).collect();
    assert_eq!(ActionKind::lacking(&spellings), [""; 0]);
    assert_eq!(ended["status"]["phase"], "failed", "{}", pretty(&ended["status"]));
    let missing = [
        (
            "scale-deployment-sa",
            r#"cannot get resource "deployments" in API group "apps""#,
        ),
        (
            "rollout-restart-sa",
            r#"cannot get resource "deployments" in API group "apps""#,
        ),
        (
            "patch-deployment-sa",
            r#"cannot get resource "deployments" in API group "apps""#,
        ),
        (
            "patch-deployment-sa",
            r#"cannot get resource "deployments" in API group "apps""#,
        ),
        (
            "delete-pod-sa",
            r#"cannot delete resource "pods" in API group """#,
        ),
        (
            "delete-pod-sa",
            r#"cannot create resource "pods/eviction" in API group """#,
        ),
        (
            "update-configmap-sa",
            r#"cannot get resource "configmaps" in API group """#,
        ),
        (
            "update-secret-sa",
            r#"cannot get resource "secrets" in API group """#,
        ),
        (
            "apply-manifest-sa",
            r#"cannot patch resource "configmaps" in API group """#,
        ),
        (
            "scale-stateful-set-sa",
            r#"cannot get resource "statefulsets" in API group "apps""#,
        ),
        ("cordon-node-sa", r#"cannot get resource "nodes" in API group """#),
        (
            "uncordon-node-sa",
            r#"cannot get resource "nodes" in API group """#,
        ),
        ("drain-node-sa", r#"cannot get resource "nodes" in API group """#),
    ];
    for (number, (account, right)) in (1..).zip(missing) {
        let failed = scene.execution(&format!("all-step-{number}")).await;
        let account = format!("system:serviceaccount:kubernaut-executor:{account}");
        failed_at_once(&failed, "insufficient_permissions", &[&account, right]);
    }
    assert_eq!(effects(&scene), Vec::<String>::new());
    only_ended_jobs_remain(&scene).await;
    for node in ["spare-cordon", "spare-uncordon", "spare-drain"] {
        scene.delete(NODE, node).await;
    }
}

#[tokio::test]
async fn a_drain_that_may_not_evict_fails_at_once_and_says_so() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "no-evictions").await;
    scene.deployment("web", 2).await;
    let kept = scene.get(ROLE, "kubernaut-drain-node").await["rules"].clone();
    let mut rules = kept.clone();
    rules
        .as_array_mut()
        .expect("rules")
        .retain(|rule| rule["resources"] != json!(["pods/eviction"]));
    assert_ne!(rules, kept);
    scene
        .patch(ROLE, "kubernaut-drain-node", &json!({"rules": rules}))
        .await;
    let parameters = json!({"drainNode": {"node": "node-2", "gracePeriodSeconds": 1, "ignoreDaemonSets": true,
                                          "deleteLocalData": true, "force": false}});
    scene
        .create(execution("empty", "drain-node", parameters, json!({})))
        .await;
    let failed = scene.execution_ended("empty").await;
    scene
        .patch(ROLE, "kubernaut-drain-node", &json!({"rules": kept}))
        .await;
    let node = scene.get(NODE, "node-2").await;
    scene
        .patch(NODE, "node-2", &json!({"spec": {"unschedulable": null}}))
        .await;
    failed_at_once(
        &failed,
        "insufficient_permissions",
        &["drain-node-sa", r#"cannot create resource "pods/eviction""#],
    );
    assert_eq!(
        node["spec"]["unschedulable"], true,
        "that much was done, and can be taken back"
    );
    assert_eq!(
        failed["status"]["rollbackInformation"]["available"],
        true,
        "{}",
        pretty(&failed)
    );
    only_ended_jobs_remain(&scene).await;
}
