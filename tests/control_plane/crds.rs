//! What kubectl makes of the custom resources. Their rules are cases of the conformance suite.

use kube::Api;
use kube::api::PostParams;
use kubernaut_crds::{Approval, KubernetesExecution};
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
    Api::<KubernetesExecution>::namespaced(client.clone(), "default")
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
            "wfe,ke",
            "-n",
            "default",
            "--field-selector=status.phase=completed",
        ])
        .await
        .expect("by phase");
    assert!(!none.contains("columns"), "{none}");
    let object = json!({
        "metadata": {"name": "a-word"},
        "spec": {"objectRef": {"kind": "KubernetesExecution", "name": "columns", "uid": "u"}, "decision": "Rejected",
                 "approver": "ana"},
    });
    let typed = serde_json::from_value(object).expect("an object");
    Api::<Approval>::namespaced(client, "default")
        .create(&PostParams::default(), &typed)
        .await
        .expect("created");
    let approvals = ["get", "wfa", "-n", "default"];
    let approvals = control_plane.run_kubectl(&approvals).await.expect("listed");
    for word in [
        "FOR", "columns", "KIND", "DECISION", "Rejected", "APPROVER", "ana", "AGE",
    ] {
        assert!(approvals.contains(word), "{word} is missing: {approvals}");
    }
    let all = ["get", "kubernaut", "-n", "default"];
    let all = control_plane.run_kubectl(&all).await.expect("the category");
    assert!(all.contains("columns") && all.contains("a-word"), "{all}");
}
