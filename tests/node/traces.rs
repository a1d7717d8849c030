//! What the executor's Jobs did, and what is left of them.

use kube::api::ListParams;
use serde_json::{Value, json};

use crate::scene::{EXECUTOR, POD, Scene, api, pretty};

/// What the executor's accounts changed in the scene's namespace, in order: verb, resource and name.
pub(crate) fn effects(scene: &Scene<'_>) -> Vec<String> {
    effects_where(scene, |object| object["namespace"] == scene.namespace.as_str())
}

/// What the executor's accounts changed of a node.
pub(crate) fn effects_on_node(scene: &Scene<'_>, node: &str) -> Vec<String> {
    effects_where(scene, |object| {
        object["resource"] == "nodes" && object["name"] == node
    })
}

fn effects_where(scene: &Scene<'_>, counts: impl Fn(&Value) -> bool) -> Vec<String> {
    let audit = scene.bed.audit_about("system:serviceaccount:kubernaut-executor:");
    let took_effect = audit.iter().filter(|entry| {
        let changes =
            ["create", "update", "patch", "delete"].contains(&entry["verb"].as_str().unwrap_or_default());
        changes
            && entry["responseStatus"]["code"]
                .as_i64()
                .is_some_and(|code| code < 300)
    });
    took_effect
        .map(|entry| (&entry["verb"], &entry["objectRef"]))
        .filter(|(_, object)| counts(object))
        .map(|(verb, object)| {
            let part = object["subresource"]
                .as_str()
                .map_or(String::new(), |part| format!("/{part}"));
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {}{part} {}",
                text(verb),
                text(&object["resource"]),
                text(&object["name"])
            )
        })
        .collect()
}

/// Sees that nothing of the scene's executions is left in the executor's namespace but Jobs and pods that ended, one for
/// each attempt at most, and that no execution keeps a Job to itself that its attempts don't name.
pub(crate) async fn only_ended_jobs_remain(scene: &Scene<'_>) {
    let ours = ListParams::default().labels(&format!("kubernaut.io/execution-namespace={}", scene.namespace));
    let pods = api(&scene.client, POD, EXECUTOR);
    let secrets = api(&scene.client, "v1/Secret", EXECUTOR);
    // A Job may say a moment later than its pod that it ended.
    scene
        .eventually("Jobs and pods that ended, and no Secret", async || {
            let ended = |job: &Value| {
                let conditions = job["status"]["conditions"].as_array();
                conditions.into_iter().flatten().any(|condition| {
                    condition["status"] == "True"
                        && [json!("Complete"), json!("Failed")].contains(&condition["type"])
                })
            };
            let pods = pods.list(&ours).await.expect("a list").items;
            let gone =
                |pod: &Value| pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed";
            let secrets = secrets.list(&ours).await.expect("a list").items;
            let settled = scene.jobs().await.iter().all(ended) && pods.iter().all(|pod| gone(&pod.data));
            (settled && secrets.is_empty()).then_some(())
        })
        .await;
    let executions = scene.list(crate::scene::EXECUTION, "").await;
    let attempts: Vec<&Value> = executions
        .iter()
        .flat_map(|execution| execution["status"]["attempts"].as_array().into_iter().flatten())
        .map(|attempt| &attempt["jobName"])
        .collect();
    for job in scene.jobs().await {
        assert!(
            attempts.contains(&&job["metadata"]["name"]),
            "no attempt names this Job: {}",
            pretty(&job)
        );
    }
}
