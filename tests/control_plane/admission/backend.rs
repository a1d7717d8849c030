//! Who tries, and on what.

use kube::Client;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::approvals::approval;
use super::way::{create, send};
use crate::bed::{CONTROLLER, bed};
use crate::scene::{CONFIG_MAP, EXECUTOR, JOB, POD, Scene, api, execution, merge, step, workflow};

/// Where the developer has the role edit.
pub(super) const TEAM: &str = "adm-team";
/// Where the developer has nothing.
pub(super) const OTHER: &str = "adm-other";

/// What the executor runs for `hang-alone` of [`TEAM`].
pub(super) struct Backend {
    pub(super) job: String,
    pub(super) pod: String,
}

/// In [`TEAM`]: executions `hang-alone` (by hand, its Job runs), `hang-flow-step-1` (a workflow's, its Job runs), `ended` and
/// `unapproved`; workflows `hang-flow`, `ended` and `asks`, which waits for an approval; Approvals `alices` and `admins` of
/// nothing; a pod `own` without a node. In [`OTHER`] executions and workflows `theirs`, ended.
pub(super) async fn ground() -> &'static Backend {
    static GROUND: OnceCell<Backend> = OnceCell::const_new();
    GROUND.get_or_init(make).await
}

/// A ServiceAccount of [`TEAM`] that has the built-in role edit there, and nothing else.
pub(super) async fn developer() -> Client {
    client_as("system:serviceaccount:adm-team:developer").await
}

/// A person who has kubernaut-approve in [`TEAM`], and nothing else.
pub(super) async fn alice() -> Client {
    client_as("alice").await
}

/// A person who has the built-in role admin in [`TEAM`].
pub(super) async fn owner() -> Client {
    client_as("owner").await
}

/// The account of the controller itself.
pub(super) async fn controller() -> Client {
    client_as(CONTROLLER).await
}

/// system:masters.
pub(super) async fn administrator() -> Client {
    ground().await;
    bed().await.client().await
}

async fn client_as(user: &str) -> Client {
    ground().await;
    let client = bed().await.cluster.client_as(user, &[]).await;
    client.expect("a client")
}

pub(super) fn at(namespace: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

/// A workflow of [`TEAM`] that would run; `more` is merged into it.
pub(super) fn flow(name: &str, more: Value) -> Value {
    let update = json!({"updateConfigMap": {"namespace": TEAM, "name": "one", "dataUpdates": {"a": "new"}}});
    let steps = json!([step(1, "update-configmap", update, json!({}))]);
    let mut object = at(TEAM, workflow(name, steps, json!({})));
    merge(&mut object, more);
    object
}

/// An execution of [`TEAM`] that would run; `more` is merged into it.
pub(super) fn single(name: &str, more: Value) -> Value {
    let update = json!({"updateConfigMap": {"namespace": TEAM, "configMap": "two", "data": {"a": "new"}}});
    let mut object = at(TEAM, execution(name, "update-configmap", update, json!({})));
    merge(&mut object, more);
    object
}

/// A pod that every namespace takes.
pub(super) fn pod(namespace: &str, name: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": pod_spec(),
    });
    merge(&mut object, more);
    object
}

pub(super) fn pod_spec() -> Value {
    let container = json!({
        "name": "main", "image": "registry.example/any:1",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    json!({
        "restartPolicy": "Never", "containers": [container],
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
    })
}

async fn make() -> Backend {
    let team = Scene::new(bed().await, TEAM).await;
    let other = Scene::new(bed().await, OTHER).await;
    for name in ["one", "two"] {
        team.config_map(name, json!({"a": "old"})).await;
    }
    people(&team).await;
    let long = json!({"spec": {"timeout": "15m"}});
    team.create(single("hang-alone", long)).await;
    team.create(flow("hang-flow", json!({}))).await;
    // Shut down before they begin: they end at once, and rest.
    let ended = json!({"spec": {"shutdown": "Cancel"}});
    team.create(single("ended", ended.clone())).await;
    team.create(flow("ended", ended.clone())).await;
    other.create(at(OTHER, single("theirs", ended.clone()))).await;
    other.create(at(OTHER, flow("theirs", ended))).await;
    let by_admin = json!({"metadata": {"annotations": {"kubernaut.io/created-by": "admin"}}});
    let mut unapproved = single("unapproved", json!({"spec": {"approvalReceived": false}}));
    merge(&mut unapproved, by_admin.clone());
    team.create(unapproved).await;
    let mut asks = flow(
        "asks",
        json!({"spec": {"executionStrategy": {"approvalRequired": true}}}),
    );
    merge(&mut asks, by_admin);
    team.create(asks).await;
    let nowhere = json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": "nowhere"}}});
    team.create(pod(TEAM, "own", nowhere)).await;
    approve(&team).await;
    team.execution_ended("ended").await;
    team.ended("ended").await;
    assert_eq!(team.get(CONFIG_MAP, "two").await["data"]["a"], "old");
    running(&team).await
}

async fn people(team: &Scene<'_>) {
    team.create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "developer"}}))
        .await;
    let account = json!({"kind": "ServiceAccount", "name": "developer", "namespace": TEAM});
    let person = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    for (subject, role) in [
        (account, "edit"),
        (person("alice"), "kubernaut-approve"),
        (person("owner"), "admin"),
    ] {
        team.create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        }))
        .await;
    }
    // The built-in roles take in ours a moment after they were installed.
    let developer = bed()
        .await
        .cluster
        .client_as("system:serviceaccount:adm-team:developer", &[])
        .await
        .expect("a client");
    team.eventually("the role edit has taken in kubernaut-edit", async || {
        let tried = create(flow("probe", json!({})));
        send(&developer, &tried, true).await.ok()
    })
    .await;
}

async fn approve(team: &Scene<'_>) {
    let alice = team.bed.cluster.client_as("alice", &[]).await;
    let alice = alice.expect("a client");
    let alices = create(approval("alices", "alice", json!({"spec": {"reason": "seen"}})));
    send(&alice, &alices, false).await.expect("alice may approve");
    team.create(approval("admins", "admin", json!({}))).await;
}

async fn running(team: &Scene<'_>) -> Backend {
    let jobs = api(&team.client, JOB, EXECUTOR);
    let pods = api(&team.client, POD, EXECUTOR);
    let jobs_of = |execution: &str| {
        ListParams::default().labels(&format!(
            "kubernaut.io/execution-name={execution},kubernaut.io/execution-namespace={TEAM}"
        ))
    };
    let running_pod = async |execution: &str| {
        let list = pods.list(&jobs_of(execution)).await.expect("a list");
        let mut items = list.items.into_iter();
        let pod = items.find(|pod| pod.data["status"]["phase"] == "Running");
        pod.and_then(|pod| pod.metadata.name)
    };
    team.eventually("the workflow's pod hangs", async || {
        running_pod("hang-flow-step-1").await
    })
    .await;
    let pod = team
        .eventually("the pod hangs", async || running_pod("hang-alone").await)
        .await;
    let job = jobs
        .list(&jobs_of("hang-alone"))
        .await
        .expect("a list")
        .items
        .remove(0);
    Backend {
        job: job.metadata.name.expect("a name"),
        pod,
    }
}
