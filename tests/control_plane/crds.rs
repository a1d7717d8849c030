//! What kubectl makes of the custom resources. Their rules are cases of the conformance suite.

use kube::Api;
use kube::api::PostParams;
use kubernaut_crds::KubernetesExecution;
use serde_json::json;

use crate::bed::api_server;

#[tokio::test]
async fn each_kind_is_listed_by_its_selectable_fields_and_printed_by_its_columns() {
    let control_plane = api_server().await;
    let client = control_plane.admin_client().await.expect("a client");
    let object = json!({
        "metadata": {"name": "columns"},
        "spec": {"action": "cordon-node", "parameters": {"cordonNode": {"node": "n1"}}},
    });
    let typed = serde_json::from_value(object).expect("an object");
    Api::<KubernetesExecution>::namespaced(client, "default")
        .create(&PostParams::default(), &typed)
        .await
        .expect("created");
    let listed = control_plane
        .run_kubectl(&[
            "get",
            "ke",
            "-n",
            "default",
            "--field-selector=spec.action=cordon-node",
            "-o",
            "wide",
        ])
        .await
        .expect("listed");
    assert!(listed.contains("columns"), "{listed}");
    for column in ["PHASE", "ACTION", "TARGET", "ATTEMPT", "AGE"] {
        assert!(listed.contains(column), "{column} is missing: {listed}");
    }
    let none = control_plane
        .run_kubectl(&[
            "get",
            "kubernaut",
            "-n",
            "default",
            "--field-selector=status.phase=completed",
        ])
        .await
        .expect("the category");
    assert!(!none.contains("columns"), "{none}");
}
