//! An autoscaler without metrics: it keeps its bounds.

use kube::Client;
use serde_json::{Value, json};

use crate::support::{cluster, deployment, get, items, merge, seconds};

const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";

async fn replicas(client: &Client) -> Value {
    get(client, WEB).await["spec"]["replicas"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_count_outside_of_its_bounds_is_taken_back() {
    let (cluster, client) = cluster();
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"minReplicas": 2, "maxReplicas": 6,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    cluster.load(vec![deployment("web", 3), autoscaler]).unwrap();
    for (asked, becomes) in [(10, 6), (1, 2), (5, 5), (0, 0)] {
        merge(&client, WEB, json!({"spec": {"replicas": asked}})).await;
        seconds(10).await;
        assert_eq!(replicas(&client).await, asked, "it does not look at once");
        seconds(10).await;
        assert_eq!(replicas(&client).await, becomes, "{asked}");
    }
    let events = items(&client, "/api/v1/namespaces/default/events").await;
    let said: Vec<&Value> = events
        .iter()
        .filter(|event| event["reason"] == "SuccessfulRescale")
        .map(|event| &event["message"])
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said.contains(&&json!(
            "New size: 6; reason: Current number of replicas above Spec.MaxReplicas"
        )),
        "{said:?}"
    );
}
