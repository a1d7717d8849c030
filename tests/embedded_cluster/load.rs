//! A state that is loaded, and objects that are checked without a request.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use serde_json::{Value, json};

use crate::conformance::suite::definition;
use crate::support::{cluster, config_maps};

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_cluster() {
    let mut states = Vec::new();
    for _ in 0..2 {
        let (cluster, client) = cluster();
        crate::support::create_deployment(&client, "web", 2).await;
        states.push(cluster.objects());
    }
    assert_eq!(states[0], states[1]);
}

#[tokio::test(start_paused = true)]
async fn a_loaded_state_is_kept_and_its_errors_have_places() {
    let (cluster, client) = cluster();
    let mut web = crate::support::deployment("web", 2);
    web["metadata"]["namespace"] = json!("shop");
    cluster.load(vec![web]).unwrap();
    let spaces: Api<Namespace> = Api::all(client.clone());
    assert!(spaces.get_opt("shop").await.unwrap().is_some());
    let mut bad = crate::support::deployment("Bad_Name", 2);
    bad["spec"]["nonsense"] = json!(1);
    let errors = cluster.load(vec![config("ok"), bad]).unwrap_err();
    let fields: Vec<(usize, &str)> = errors.iter().map(|e| (e.index, e.field.as_str())).collect();
    assert_eq!(fields, [(1, "spec.nonsense"), (1, "metadata.name")]);
    assert_eq!(errors[0].object, "Deployment/Bad_Name");
    assert!(config_maps(&client).get_opt("ok").await.unwrap().is_none());
}

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

#[tokio::test(start_paused = true)]
async fn an_object_can_be_checked_without_a_request() {
    let (cluster, _client) = cluster();
    cluster.load(vec![definition()]).unwrap();
    let mut object = json!({
        "apiVersion": "conformance.kubernaut.io/v1", "kind": "Plan", "metadata": {"name": "p"},
        "spec": {"size": 0, "extra": 1},
    });
    let errors = cluster.validate(&object);
    let found: Vec<(&str, &str)> = errors
        .iter()
        .map(|e| (e.field.as_str(), e.reason.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("spec.extra", "FieldValueUnknown"),
            ("spec.size", "FieldValueInvalid")
        ]
    );
    object["spec"] = json!({"size": 1});
    assert!(cluster.validate(&object).is_empty());
}
