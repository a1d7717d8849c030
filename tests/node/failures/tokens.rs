//! A token that somebody with root on a node took from there.

use k8s_openapi::ByteString;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::BlockedDrain;
use crate::bed::bed_alone;
use crate::scene::{EXECUTION, EXECUTOR, NODE, POD, Scene, api};

/// What the second part of a token says.
fn claims(token: &str) -> Value {
    let mut part = token
        .split('.')
        .nth(1)
        .expect("claims")
        .replace('-', "+")
        .replace('_', "/");
    while !part.len().is_multiple_of(4) {
        part.push('=');
    }
    let bytes: ByteString = serde_json::from_value(json!(part)).expect("base64");
    serde_json::from_slice(&bytes.0).expect("JSON")
}

#[tokio::test]
async fn a_token_that_was_taken_from_a_node_does_one_action_for_ten_minutes_and_ends_with_its_pod() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "taken").await;
    let drain = BlockedDrain::new(&scene, "node-2").await;
    drain.start(&scene, json!({})).await;
    let name = drain.waiting_pod(&scene).await;
    let pod = api(&scene.client, POD, EXECUTOR)
        .get(&name)
        .await
        .expect("the pod");
    let node = pod.data["spec"]["nodeName"].as_str().expect("a node");
    let number = node
        .rsplit('-')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number");
    let uid = pod.metadata.uid.as_deref().expect("a uid");
    let file = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~projected/access/token");
    let token = bed
        .cluster
        .run_on_node(number, &["cat", &file])
        .await
        .expect("the token");
    let said = claims(&token);
    let lifetime = said["exp"].as_i64().expect("an end") - said["iat"].as_i64().expect("a start");
    assert_eq!(lifetime, 600, "{said}");
    assert_eq!(said["kubernetes.io"]["pod"]["name"], name.as_str(), "{said}");
    assert_eq!(
        said["kubernetes.io"]["warnafter"],
        Value::Null,
        "not one that is stretched: {said}"
    );

    let thief = bed
        .cluster
        .client_for_token(token.trim())
        .await
        .expect("a client");
    let nodes = api(&thief, NODE, "");
    let change = async |change: Value| {
        let dry = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let answer = nodes.patch("node-1", &dry, &Patch::Merge(&change)).await;
        answer.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(change(json!({"spec": {"unschedulable": true}})).await, Ok(()));
    for (taken, words) in [
        (
            json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
            "drain-node-sa changes spec.unschedulable of a node and nothing else",
        ),
        (
            json!({"metadata": {"labels": {"a": "b"}}}),
            "drain-node-sa leaves labels",
        ),
    ] {
        let refused = change(taken).await.expect_err("refused");
        assert!(refused.contains(words), "{refused}");
    }

    scene
        .api(EXECUTION)
        .delete(BlockedDrain::NAME, &DeleteParams::default())
        .await
        .expect("deleted");
    // The API server keeps what it found of a token for some seconds.
    let refused = scene
        .eventually("the token is good for nothing", async || {
            nodes.get("node-1").await.err()
        })
        .await;
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 401));
    drain.let_go(&scene).await;
    drain.uncordon(&scene).await;
}
