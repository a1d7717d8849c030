//! What the fake kubelet does with pods, seen through Jobs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::json;

use crate::scene::{Namespaced, SCALE, bed, eventually, job, phase, terminated};

#[tokio::test]
async fn a_job_of_kubectl_changes_the_cluster_with_the_rights_of_its_account() {
    let bed = bed().await;
    bed.namespace("scale").await;
    let api = Namespaced::new(&bed.client().await, "scale");
    api.create(&job("scale", "scaler", &SCALE, &json!({}))).await;
    assert_eq!(api.end_of("scale").await.0, "Complete");
    eventually("three ready replicas", async || {
        let status = api.deployments.get("web").await.expect("the Deployment").status?;
        (status.ready_replicas == Some(3)).then_some(())
    })
    .await;
    let pods = api.pods_of("scale").await;
    assert_eq!(terminated(&pods[0]), (0, "Completed".into(), String::new()));
    let runs = bed.runs_of(&pods);
    assert_eq!(runs.len(), 1);
    assert_eq!(
        runs[0].argv,
        ["kubectl", "scale", "deployment/web", "--replicas=3"]
    );
    assert_eq!(runs[0].exit_code, Some(0));
}

#[tokio::test]
async fn a_missing_right_fails_the_job_and_its_pod_says_why() {
    let bed = bed().await;
    bed.namespace("forbidden").await;
    let api = Namespaced::new(&bed.client().await, "forbidden");
    api.create(&job(
        "delete",
        "scaler",
        &["delete", "deployment/web"],
        &json!({}),
    ))
    .await;
    assert_eq!(
        api.end_of("delete").await,
        ("Failed".into(), "BackoffLimitExceeded".into())
    );
    let (code, reason, message) = terminated(&api.pods_of("delete").await[0]);
    assert_eq!((code, reason.as_str()), (1, "Error"));
    assert!(message.contains("Error from server (Forbidden)"), "{message}");
}

#[tokio::test]
async fn kubectl_acts_with_the_token_of_its_pod_and_without_one_finds_no_cluster() {
    let bed = bed().await;
    bed.namespace("tokens").await;
    let api = Namespaced::new(&bed.client().await, "tokens");
    let mut without = job("without", "scaler", &SCALE, &json!({}));
    let spec = without.spec.as_mut().and_then(|job| job.template.spec.as_mut());
    spec.expect("a pod").automount_service_account_token = Some(false);
    api.create(&without).await;
    assert_eq!(api.end_of("without").await.0, "Failed");
    let (_, _, message) = terminated(&api.pods_of("without").await[0]);
    assert!(
        message.contains("The connection to the server localhost:8080 was refused"),
        "{message}"
    );

    api.create(&job("with", "scaler", &SCALE, &json!({}))).await;
    assert_eq!(api.end_of("with").await.0, "Complete");
    let pod = api.pods_of("with").await[0].name_any();
    let log = std::fs::read_to_string(bed.control_plane.audit_log()).expect("an audit log");
    let requests = log
        .lines()
        .filter(|line| line.contains("system:serviceaccount:tokens:scaler"));
    let requests: Vec<serde_json::Value> = requests
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(!requests.is_empty());
    for request in requests {
        let named = &request["user"]["extra"]["authentication.kubernetes.io/pod-name"];
        assert_eq!(*named, json!([pod]), "{request}");
    }
}

#[tokio::test]
async fn a_payload_travels_as_an_annotation_and_is_read_from_its_mount() {
    let bed = bed().await;
    bed.namespace("payload").await;
    let api = Namespaced::new(&bed.client().await, "payload");
    let args = [
        "patch",
        "deployment/web",
        "--subresource=scale",
        "--type=merge",
        "--patch-file=/payload/patch.json",
    ];
    let payload = json!({"kubernaut.io/payload": "{\"spec\":{\"replicas\":2}}"});
    api.create(&job("patch", "scaler", &args, &payload)).await;
    assert_eq!(api.end_of("patch").await.0, "Complete");
    assert_eq!(api.replicas().await, Some(2));
}

#[tokio::test]
async fn a_hanging_pod_goes_only_after_its_end_is_confirmed() {
    let bed = bed().await;
    bed.namespace("hang").await;
    let api = Namespaced::new(&bed.client().await, "hang");
    api.create(&job("hang", "scaler", &SCALE, &json!({"script": "hang"})))
        .await;
    api.pod_when("hang", |pod| phase(pod) == "Running").await;
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..Default::default()
    };
    api.jobs
        .delete("hang", &foreground)
        .await
        .expect("the deletion is accepted");
    eventually("the Job is gone", async || {
        api.jobs
            .get_opt("hang")
            .await
            .expect("an answer")
            .is_none()
            .then_some(())
    })
    .await;
    assert!(
        api.pods_of("hang").await.is_empty(),
        "a foreground deletion ends after the pod's"
    );
    assert_eq!(api.replicas().await, Some(1), "a script that hangs runs nothing");
}

#[tokio::test]
async fn scripts_show_a_job_every_way_to_fail() {
    let bed = bed().await;
    bed.namespace("scripts").await;
    let api = Namespaced::new(&bed.client().await, "scripts");
    for (name, script) in [
        ("image", "image"),
        ("exit", "exit"),
        ("lie", "run then exit"),
        ("evict", "evict"),
        ("unreachable", "unreachable"),
        ("delay", "delay"),
    ] {
        api.create(&job(name, "scaler", &SCALE, &json!({"script": script})))
            .await;
    }

    let waiting = api.pod_when("image", |pod| {
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.clone())
            .unwrap_or_default();
        let reasons = statuses
            .into_iter()
            .filter_map(|status| status.state?.waiting?.reason);
        reasons.collect::<Vec<_>>() == ["ErrImagePull"]
    });
    assert_eq!(phase(&waiting.await), "Pending");

    assert_eq!(
        api.end_of("exit").await,
        ("Failed".into(), "BackoffLimitExceeded".into())
    );
    let pods = api.pods_of("exit").await;
    assert_eq!(terminated(&pods[0]), (3, "Error".into(), "three".into()));
    assert!(bed.runs_of(&pods).is_empty());

    assert_eq!(api.end_of("lie").await.0, "Failed");
    let pods = api.pods_of("lie").await;
    assert_eq!(terminated(&pods[0]), (1, "Error".into(), "lied".into()));
    assert_eq!(
        bed.runs_of(&pods)[0].exit_code,
        Some(0),
        "the effect is there all the same"
    );

    assert_eq!(
        api.end_of("evict").await,
        ("Failed".into(), "PodFailurePolicy".into())
    );
    let pods = api.pods_of("evict").await;
    assert_eq!(
        pods[0]
            .status
            .as_ref()
            .and_then(|status| status.reason.as_deref()),
        Some("Evicted")
    );
    assert_eq!(bed.runs_of(&pods).len(), 1);

    assert_eq!(api.end_of("delay").await.0, "Complete");

    let pod = api.pod_when("unreachable", |pod| phase(pod) == "Running").await;
    eventually("the unreachable node's work", async || {
        (bed.runs_of(std::slice::from_ref(&pod)).first()?.exit_code == Some(0)).then_some(())
    })
    .await;
    api.pods
        .delete(&pod.name_any(), &DeleteParams::default())
        .await
        .expect("the deletion is accepted");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let still_there = api.pods.get(&pod.name_any()).await.expect("the pod stays");
    assert!(still_there.metadata.deletion_timestamp.is_some());
    assert_eq!(phase(&still_there), "Running");
    let force = DeleteParams::default().grace_period(0);
    api.pods
        .delete(&pod.name_any(), &force)
        .await
        .expect("a person can let it go");
}

#[tokio::test]
async fn init_containers_run_first_and_a_failed_one_stops_the_pod() {
    let bed = bed().await;
    bed.namespace("init").await;
    let api = Namespaced::new(&bed.client().await, "init");
    let mut two_steps = job("two-steps", "scaler", &SCALE, &json!({}));
    let spec = two_steps
        .spec
        .as_mut()
        .and_then(|spec| spec.template.spec.as_mut())
        .expect("a pod spec");
    let step = |name: &str, args: &[&str]| {
        let mut container = spec.containers[0].clone();
        container.name = name.into();
        container.args = Some(args.iter().map(ToString::to_string).collect());
        container
    };
    spec.init_containers = Some(vec![
        step("first", &["get", "deployment/web"]),
        step("second", &["get", "deployment/none"]),
    ]);
    api.create(&two_steps).await;
    assert_eq!(api.end_of("two-steps").await.0, "Failed");
    let pods = api.pods_of("two-steps").await;
    let init = pods[0]
        .status
        .clone()
        .and_then(|status| status.init_container_statuses)
        .expect("statuses");
    let ends = init
        .into_iter()
        .map(|status| status.state.and_then(|state| state.terminated).expect("an end"));
    let ends: Vec<_> = ends
        .map(|end| (end.exit_code, end.message.unwrap_or_default()))
        .collect();
    assert_eq!(ends[0], (0, String::new()));
    assert!(ends[1].0 == 1 && ends[1].1.contains("(NotFound)"), "{ends:?}");
    assert_eq!(
        api.replicas().await,
        Some(1),
        "the container after them never ran"
    );
}

#[tokio::test]
async fn a_secret_is_mounted_and_waited_for() {
    let bed = bed().await;
    bed.namespace("secret").await;
    let api = Namespaced::new(&bed.client().await, "secret");
    let args = [
        "patch",
        "deployment/web",
        "--subresource=scale",
        "--type=merge",
        "--patch-file=/secret/patch.json",
    ];
    let mut with_secret = job("secret", "scaler", &args, &json!({}));
    let spec = with_secret
        .spec
        .as_mut()
        .and_then(|spec| spec.template.spec.as_mut())
        .expect("a pod spec");
    spec.volumes.get_or_insert_default().push(
        serde_json::from_value(json!({"name": "secret", "secret": {"secretName": "patch"}}))
            .expect("a volume"),
    );
    spec.containers[0]
        .volume_mounts
        .get_or_insert_default()
        .push(serde_json::from_value(json!({"name": "secret", "mountPath": "/secret"})).expect("a mount"));
    api.create(&with_secret).await;
    let message = |pod: &Pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        statuses[0].state.as_ref()?.waiting.as_ref()?.message.clone()
    };
    api.pod_when("secret", |pod| {
        message(pod).is_some_and(|m| m.contains("not found"))
    })
    .await;
    bed.control_plane
        .apply_yaml(
            r#"{apiVersion: v1, kind: Secret, metadata: {name: patch, namespace: secret},
                stringData: {patch.json: '{"spec": {"replicas": 2}}'}}"#,
        )
        .await
        .expect("the secret");
    assert_eq!(api.end_of("secret").await.0, "Complete");
    assert_eq!(api.replicas().await, Some(2));
}

#[tokio::test]
async fn a_deleted_pods_process_is_gone_before_the_pod_is() {
    let bed = bed().await;
    bed.namespace("process").await;
    let api = Namespaced::new(&bed.client().await, "process");
    api.create(&job(
        "watch",
        "scaler",
        &["get", "deployment/web", "--watch"],
        &json!({}),
    ))
    .await;
    let pods = [api.pod_when("watch", |pod| phase(pod) == "Running").await];
    assert_eq!(bed.runs_of(&pods)[0].ended, None);
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..Default::default()
    };
    api.jobs
        .delete("watch", &foreground)
        .await
        .expect("the deletion is accepted");
    eventually("the pod is gone", async || {
        api.pods_of("watch").await.is_empty().then_some(())
    })
    .await;
    let run = &bed.runs_of(&pods)[0];
    assert!(run.ended.is_some() && run.exit_code.is_none(), "{run:?}");
}

/// A drain as an executor does it: it tolerates cordoned nodes, prefers another node than its target, and leaves
/// executors' pods alone.
#[tokio::test]
async fn a_drain_evicts_from_its_node_and_runs_on_another() {
    let bed = bed().await;
    bed.namespace("drain").await;
    bed.control_plane
        .apply_yaml(DRAIN)
        .await
        .expect("the rights and a pod on the node");
    let api = Namespaced::new(&bed.client().await, "drain");
    eventually("a running pod", async || {
        let pod = api.pods.get("evicted").await.expect("the pod");
        (phase(&pod) == "Running").then_some(())
    })
    .await;
    let args = [
        "drain",
        "node-3",
        "--grace-period=5",
        "--ignore-daemonsets=true",
        "--force=true",
        "--timeout=40s",
        "--pod-selector=!kubernaut.io/execution-uid",
    ];
    let mut drain = job("drain", "drainer", &args, &json!({}));
    let template = &mut drain.spec.as_mut().expect("a spec").template;
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert("kubernaut.io/execution-uid".into(), "1".into());
    let spec = template.spec.as_mut().expect("a pod spec");
    let other_node =
        json!({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-3"]}]});
    let preferred = json!({"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": other_node}]});
    spec.affinity = serde_json::from_value(json!({"nodeAffinity": preferred})).expect("an affinity");
    spec.tolerations = serde_json::from_value(json!([
        {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}]))
    .expect("a toleration");
    api.create(&drain).await;
    assert_eq!(api.end_of("drain").await.0, "Complete");
    assert_eq!(api.pods.get_opt("evicted").await.expect("an answer"), None);
    let node = api.pods_of("drain").await[0]
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone());
    assert_ne!(node.as_deref(), Some("node-3"));
}

const DRAIN: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: drainer, namespace: drain}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: drainer}
rules:
- {apiGroups: [''], resources: [nodes], verbs: [get, patch]}
- {apiGroups: [''], resources: [pods], verbs: [get, list]}
- {apiGroups: [''], resources: [pods/eviction], verbs: [create]}
- {apiGroups: [apps], resources: [daemonsets], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: drainer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: drainer}
subjects: [{kind: ServiceAccount, name: drainer, namespace: drain}]
---
apiVersion: v1
kind: Pod
metadata: {name: evicted, namespace: drain}
spec: {nodeName: node-3, containers: [{name: web, image: example.test/web}]}
";
