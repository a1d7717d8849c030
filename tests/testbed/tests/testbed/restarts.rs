//! A fake kubelet that stops and comes back, and nodes that take nothing.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use kubernaut_testbed::{ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, Part};
use serde_json::json;

use crate::scene::{Namespaced, SCALE, SCENE, eventually, job, phase, terminated};

#[tokio::test]
async fn a_restart_runs_no_pod_twice_and_loses_none() {
    let control_plane = ControlPlane::start(ControlPlaneOptions::default())
        .await
        .expect("a control plane");
    let start = async || {
        FakeKubelet::start(&control_plane, FakeKubeletOptions::default())
            .await
            .expect("a fake kubelet")
    };
    control_plane
        .apply_yaml(&SCENE.replace("NAMESPACE", "restart"))
        .await
        .expect("the scene");
    let client = control_plane.admin_client().await.expect("a client");
    let api = Namespaced::new(&client, "restart");

    let first = start().await;
    api.create(&job(
        "watch",
        "scaler",
        &["get", "deployment/web", "--watch"],
        &json!({}),
    ))
    .await;
    api.pod_when("watch", |pod| phase(pod) == "Running").await;
    let web = eventually("a pod of the Deployment", async || running_web(&api).await).await;
    first.stop();

    api.create(&job("scale", "scaler", &SCALE, &json!({}))).await;
    api.pod_when("scale", |pod| phase(pod) == "Pending").await;
    let second = start().await;
    assert_eq!(
        api.end_of("scale").await.0,
        "Complete",
        "what came in between is run"
    );
    assert_eq!(api.end_of("watch").await.0, "Failed");
    let (code, reason, _) = terminated(&api.pods_of("watch").await[0]);
    assert_eq!((code, reason.as_str()), (137, "ContainerStatusUnknown"));
    let runs: Vec<_> = second.runs().into_iter().map(|run| run.argv[1].clone()).collect();
    assert_eq!(runs, ["scale"], "the lost one is not run again");
    let web = api.pods.get(&web.name_any()).await.expect("the pod");
    assert_eq!(phase(&web), "Running", "other pods just go on");

    control_plane
        .run_kubectl(&["cordon", "node-1", "node-2"])
        .await
        .expect("cordoned");
    second.stop();
    let third = start().await;
    api.create(&job("waits", "scaler", &["get", "deployment/web"], &json!({})))
        .await;
    let events = Api::<Event>::namespaced(client.clone(), "restart");
    eventually("an event for a person", async || {
        let events = events.list(&ListParams::default()).await.expect("a list");
        events
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("FailedScheduling"))
    })
    .await;
    assert!(third.runs().is_empty());
    control_plane
        .run_kubectl(&["uncordon", "node-2"])
        .await
        .expect("uncordoned");
    assert_eq!(api.end_of("waits").await.0, "Complete");
    let node = api.pods_of("waits").await[0]
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone());
    assert_eq!(node.as_deref(), Some("node-2"));

    control_plane.kill_part(Part::ApiServer).await.expect("killed");
    control_plane.start_part(Part::ApiServer).await.expect("started");
    api.create(&job("after", "scaler", &["get", "deployment/web"], &json!({})))
        .await;
    assert_eq!(
        api.end_of("after").await.0,
        "Complete",
        "a fake kubelet outlives its API server"
    );
}

async fn running_web(api: &Namespaced) -> Option<Pod> {
    let pods = api
        .pods
        .list(&ListParams::default().labels("app=web"))
        .await
        .expect("a list");
    pods.into_iter().find(|pod| phase(pod) == "Running")
}
