//! What is only tried changes nothing; workflows that try all first, and look before.

use std::collections::BTreeMap;
use std::time::Duration;

use embedded_cluster::{PodScript, Rbac};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::Request;
use kubernaut_crds::{ErrorType, ExecutionPhase, KubernetesExecution, Outcome, WorkflowPhase};
use kubernaut_machines::actions::ActionKind;
use serde_json::{Value, json};

use crate::scene::{Scene, eventually, execution, step, workflow};

const APPLY: &str = "--apply-manifest-kinds=ConfigMap";

/// Two nodes, and one object of each kind that an action acts on.
async fn furnished(flags: &[&str]) -> Scene {
    let scene = Scene::with(Rbac::AllowAll, flags).await;
    let labels = json!({"app": "db"});
    scene
        .cluster
        .load(vec![
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2"}}),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-3"},
                   "spec": {"unschedulable": true}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flags", "namespace": "shop"},
                   "data": {"mode": "slow"}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "shop"},
                   "data": {"password": "b2xk"}}),
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "shop"},
                   "spec": {"replicas": 1, "serviceName": "db", "selector": {"matchLabels": labels},
                            "template": {"metadata": {"labels": labels},
                                         "spec": {"containers": [{"name": "db", "image": "example/db:1"}]}}}}),
        ])
        .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene
}

/// The uid and version of each object that an action could change.
async fn versions(scene: &Scene) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::new();
    for path in [
        "/apis/apps/v1/namespaces/shop/deployments",
        "/apis/apps/v1/namespaces/shop/replicasets",
        "/apis/apps/v1/namespaces/shop/statefulsets",
        "/api/v1/namespaces/shop/pods",
        "/api/v1/namespaces/shop/configmaps",
        "/api/v1/namespaces/shop/secrets",
        "/api/v1/nodes",
    ] {
        let request = Request::new(path).list(&ListParams::default()).unwrap();
        let list: Value = scene.client.request(request).await.unwrap();
        for object in list["items"].as_array().unwrap() {
            let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
            let key = format!("{path}/{}", text("name"));
            found.insert(key, (text("uid"), text("resourceVersion")));
        }
    }
    found
}

async fn a_pod(scene: &Scene) -> String {
    let path = "/api/v1/namespaces/shop/pods";
    let request = Request::new(path)
        .list(&ListParams::default().labels("app=web-1"))
        .unwrap();
    let list: Value = scene.client.request(request).await.unwrap();
    list["items"][0]["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Each action, with words that its estimated impact has.
fn actions(pod: &str) -> Vec<(&'static str, Value, &'static str)> {
    let web = |more: Value| {
        let mut member = json!({"namespace": "shop", "deployment": "web-1"});
        member
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        member
    };
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "example/app:2"}]}}}});
    let manifest = |name: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
               "metadata": {"name": name, "namespace": "shop"}})
        .to_string()
    };
    vec![
        (
            "scale-deployment",
            json!({"scaleDeployment": web(json!({"replicas": 3}))}),
            "Replicas: 1 -> 3",
        ),
        (
            "scale-stateful-set",
            json!({"scaleStatefulSet": {"namespace": "shop", "name": "db", "replicas": 2}}),
            "Replicas: 1 -> 2",
        ),
        (
            "rollout-restart",
            json!({"rolloutRestart": web(json!({}))}),
            "deployment/shop/web-1",
        ),
        (
            "delete-pod",
            json!({"deletePod": {"namespace": "shop", "pod": pod}}),
            "Pods deleted: web-1-",
        ),
        (
            "restart-pod",
            json!({"deletePod": {"namespace": "shop", "labelSelector": "app=web-2"}}),
            "Pods deleted: web-2-",
        ),
        (
            "update-image",
            json!({"patchDeployment": web(json!({"patchType": "strategic", "patch": image.to_string()}))}),
            "Image of app: example/app:1 -> example/app:2",
        ),
        (
            "patch-deployment",
            json!({"patchDeployment": web(json!({"patchType": "json",
             "patch": r#"[{"op": "replace", "path": "/spec/replicas", "value": 4}]"#}))}),
            "deployment/shop/web-1",
        ),
        (
            "cordon-node",
            json!({"cordonNode": {"node": "node-1"}}),
            "schedulable -> cordoned",
        ),
        (
            "uncordon-node",
            json!({"uncordonNode": {"node": "node-3"}}),
            "cordoned -> schedulable",
        ),
        (
            "drain-node",
            json!({"drainNode": {"node": "node-1", "gracePeriodSeconds": 30, "force": false,
                              "ignoreDaemonSets": true, "deleteLocalData": true}}),
            "cordoned and empty",
        ),
        (
            "update-configmap",
            json!({"updateConfigMap": {"namespace": "shop", "configMap": "flags", "data": {"mode": "fast"}}}),
            "Keys set: mode",
        ),
        (
            "update-secret",
            json!({"updateSecret": {"namespace": "shop", "secret": "db", "data": {"password": "bmV3"}}}),
            "Keys set: password",
        ),
        (
            "apply-manifest",
            json!({"applyManifest": {"manifest": manifest("made")}}),
            "does not exist -> exists",
        ),
        (
            "apply-manifest",
            json!({"applyManifest": {"manifest": manifest("flags")}}),
            "configmap/shop/flags",
        ),
    ]
}

async fn try_out(scene: &Scene, name: &str, action: &str, parameters: &Value) -> KubernetesExecution {
    let mut tried = execution(name, "web-1");
    tried["spec"] = json!({"action": action, "parameters": parameters, "dryRun": true});
    scene.submit_execution(tried).await;
    scene.finished_execution(name).await
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_each_action_changes_nothing_and_says_what_would_change() {
    let scene = furnished(&[APPLY]).await;
    let cases = actions(&a_pod(&scene).await);
    let spellings: Vec<&str> = cases.iter().map(|(action, ..)| *action).collect();
    assert_eq!(ActionKind::lacking(&spellings), Vec::<&str>::new());
    let before = versions(&scene).await;
    for (index, (action, parameters, words)) in cases.iter().enumerate() {
        let tried = try_out(&scene, &format!("try-{index}"), action, parameters).await;
        let status = tried.status.unwrap();
        assert_eq!(
            status.phase,
            Some(ExecutionPhase::Completed),
            "{action}: {:?}",
            status.failure_reason
        );
        let results = status.validation_results.unwrap().dry_run_results.unwrap();
        assert!(results.performed && results.success, "{action}");
        let impact = results.estimated_impact.unwrap();
        assert_eq!(impact.resources_affected, 1, "{action}");
        let description = impact.description.unwrap();
        assert!(description.contains(words), "{action}: {description}");
        assert!(status.rollback_information.is_none(), "{action}");
        assert_eq!(status.attempts.len(), 1);
        assert!(status.job_name.unwrap().ends_with("-0"));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(versions(&scene).await, before);
    assert!(!scene.has_payload().await);
    assert_eq!(scene.actors("step"), 0);
    assert_eq!(scene.holds(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_the_api_server_would_say() {
    let scene = furnished(&[]).await;
    let patch = r#"[{"op": "replace", "path": "/spec/replicas", "value": -1}]"#;
    let parameters = json!({"patchDeployment": {"namespace": "shop", "deployment": "web-1", "patchType": "json", "patch": patch}});
    let tried = try_out(&scene, "bad", "patch-deployment", &parameters).await;
    let status = tried.status.unwrap();
    assert_eq!(status.error_type, Some(ErrorType::ValidationError));
    let reason = status.failure_reason.unwrap();
    assert!(
        reason.starts_with("the dry run failed: ") && reason.contains("spec.replicas"),
        "{reason}"
    );
    let results = status.validation_results.unwrap().dry_run_results.unwrap();
    assert!(results.performed && !results.success && results.errors.len() == 1);
    assert_eq!(scene.replicas("web-1").await, 1);
}

fn tried_first(name: &str, steps: &[Value]) -> Value {
    let mut object = workflow(name, steps);
    object["spec"]["executionStrategy"] = json!({"dryRunFirst": true});
    object
}

#[tokio::test(start_paused = true)]
async fn all_steps_are_tried_before_the_first_one_runs() {
    let scene = Scene::new().await;
    scene.pods_take(3);
    scene
        .submit(tried_first("w", &[step(1, &[]), step(2, &[1]), step(3, &[1])]))
        .await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(
        status.phase,
        Some(WorkflowPhase::Completed),
        "{:?}",
        status.failure_reason
    );
    assert_eq!(status.workflow_result.unwrap().outcome, Outcome::Success);
    let results = status.validation_results.unwrap().dry_run_results.unwrap();
    assert!(results.overall_success && results.steps_simulated == 3);
    assert_eq!(
        results.resource_changes[0],
        "deployment/shop/web-1: Replicas: 1 -> 2"
    );
    let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
    let is_dry = |name: &str| name.contains("-dryrun-");
    let mut made: Vec<(jiff::Timestamp, bool)> = jobs
        .iter()
        .map(|job| {
            (
                job.metadata.creation_timestamp.as_ref().unwrap().0,
                is_dry(&job.name_any()),
            )
        })
        .collect();
    made.sort_unstable();
    assert_eq!(made.iter().filter(|(_, dry)| *dry).count(), 3);
    assert_eq!(made.len(), 6);
    assert!(made[..3].iter().all(|(_, dry)| *dry), "{made:?}");
    for number in 1..=3 {
        assert_eq!(scene.replicas(&format!("web-{number}")).await, 2);
    }
    assert_eq!((scene.actors("workflow"), scene.actors("step")), (0, 0));
    scene.delete_workflow("w").await;
    scene.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_workflow_whose_dry_run_fails_changes_nothing() {
    let scene = Scene::new().await;
    let mut steps = [step(1, &[]), step(2, &[])];
    steps[1]["parameters"]["scaleDeployment"]["deployment"] = json!("nobody");
    scene.submit(tried_first("w", &steps)).await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(status.phase, Some(WorkflowPhase::Failed));
    assert_eq!(status.error_type, Some(ErrorType::ResourceNotFound));
    assert_eq!(status.failed_step, Some(2));
    assert_eq!(scene.replicas("web-1").await, 1);
    let made = scene
        .executions()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert!(made.iter().all(|execution| execution.spec.dry_run == Some(true)));
}

#[tokio::test(start_paused = true)]
async fn actors_that_crash_anywhere_in_a_dry_run_are_followed_by_ones_that_go_on() {
    for spared in 0..14 {
        let scene = Scene::new().await;
        let actor = if spared % 2 == 0 {
            "workflow shop/w"
        } else {
            "step shop/w-dryrun-1"
        };
        scene.crash_after(actor, spared / 2, 1);
        scene
            .submit(tried_first("w", &[step(1, &[]), step(2, &[1])]))
            .await;
        let status = scene.finished("w").await.status.unwrap();
        assert_eq!(
            status.phase,
            Some(WorkflowPhase::Completed),
            "{spared}: {:?}",
            status.failure_reason
        );
        let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(jobs.len(), 4, "{spared}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_starts_while_steps_are_tried_goes_on_with_them() {
    let mut scene = Scene::new().await;
    scene.pods_take(5);
    for seconds in [0, 1, 3, 6, 9] {
        let name = format!("w{seconds}");
        let mut object = tried_first(&name, &[step(1, &[]), step(2, &[1])]);
        // Each asks for another number, so that there is something to do.
        for step in object["spec"]["workflowDefinition"]["steps"]
            .as_array_mut()
            .unwrap()
        {
            step["parameters"]["scaleDeployment"]["replicas"] = json!(seconds + 2);
        }
        scene.submit(object).await;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        scene.stop().await;
        scene.start().await;
        let status = scene.finished(&name).await.status.unwrap();
        assert_eq!(
            status.phase,
            Some(WorkflowPhase::Completed),
            "{seconds}: {:?}",
            status.failure_reason
        );
        assert!(
            status
                .validation_results
                .unwrap()
                .dry_run_results
                .unwrap()
                .overall_success
        );
        assert_eq!(scene.replicas("web-2").await, i32::try_from(seconds).unwrap() + 2);
        let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
        let of_this = jobs
            .iter()
            .filter(|job| job.name_any().starts_with(&format!("{name}-")));
        assert_eq!(of_this.count(), 4, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_is_deleted_while_its_steps_are_tried_leaves_nothing() {
    let scene = Scene::new().await;
    scene.hang_pods();
    scene
        .submit(tried_first("w", &[step(1, &[]), step(2, &[1])]))
        .await;
    eventually("a dry run has a Job", async || {
        !scene
            .jobs()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    })
    .await;
    scene.delete_workflow("w").await;
    scene.is_clean().await;
    assert_eq!(scene.replicas("web-1").await, 1);
    assert_eq!(scene.holds(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_is_shut_down_while_its_steps_are_tried_is_cancelled() {
    let scene = Scene::new().await;
    scene.cluster.script_pods(std::sync::Arc::new(|pod| {
        let ours = pod["metadata"]["namespace"] == "kubernaut-executor";
        ours.then_some(PodScript::Hang)
    }));
    scene.submit(tried_first("w", &[step(1, &[])])).await;
    eventually("a dry run has a Job", async || {
        !scene
            .jobs()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    })
    .await;
    let shutdown = Patch::Merge(json!({"spec": {"shutdown": "Cancel"}}));
    scene
        .workflows()
        .patch("w", &PatchParams::default(), &shutdown)
        .await
        .unwrap();
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(
        status.error_type,
        Some(ErrorType::Cancelled),
        "{:?}",
        status.failure_reason
    );
    assert_eq!(status.workflow_result.unwrap().outcome, Outcome::Cancelled);
    assert_eq!(scene.replicas("web-1").await, 1);
}

fn checked(name: &str, steps: &[Value], checks: &[(&str, bool)]) -> Value {
    let checks: Vec<Value> = checks
        .iter()
        .map(|(kind, required)| json!({"type": kind, "required": required}))
        .collect();
    let mut object = workflow(name, steps);
    object["spec"]["executionStrategy"] = json!({"safetyChecks": checks});
    object
}

#[tokio::test(start_paused = true)]
async fn safety_checks_look_at_the_cluster_before_the_first_step() {
    let scene = Scene::new().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let all = [
        ("rbac", true),
        ("health", true),
        ("capacity", true),
        ("network", true),
    ];
    scene.submit(checked("good", &[step(1, &[])], &all)).await;
    let status = scene.finished("good").await.status.unwrap();
    assert_eq!(
        status.phase,
        Some(WorkflowPhase::Completed),
        "{:?}",
        status.failure_reason
    );
    let results = status.validation_results.unwrap();
    assert!(results.safety_checks_passed);
    assert_eq!(results.warnings, Vec::<String>::new());

    let mut missing = step(2, &[]);
    missing["parameters"]["scaleDeployment"]["deployment"] = json!("nobody");
    scene.submit(checked("bad", &[step(3, &[]), missing], &all)).await;
    let status = scene.finished("bad").await.status.unwrap();
    assert_eq!(status.error_type, Some(ErrorType::ResourceNotFound));
    assert_eq!(status.failed_step, Some(2));
    assert_eq!(scene.replicas("web-3").await, 1);

    let allocatable = json!({"status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}});
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(scene.client.clone());
    nodes
        .patch_status("node-1", &PatchParams::default(), &Patch::Merge(allocatable))
        .await
        .unwrap();
    let mut more = step(4, &[]);
    more["parameters"]["scaleDeployment"]["replicas"] = json!(151);
    more["timeout"] = json!("40s");
    scene
        .submit(checked("large", &[more], &[("capacity", true)]))
        .await;
    let status = scene.finished("large").await.status.unwrap();
    let warnings = status.validation_results.unwrap().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("150 more pods of deployment/shop/web-4 ask for more"),
        "{warnings:?}"
    );
}
