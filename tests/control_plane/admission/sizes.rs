//! How much one object may hold, and how costly it is to find out.

use serde_json::{Map, Value, json};

use super::backend::{TEAM, at, developer, single};
use super::way::{Way, all_are_refused, create, way};
use crate::scene::{execution, step, workflow};

const MOST: usize = 256 * 1024;
const WORDS: &str = "bytes together: at most 262144 are taken";

/// As many entries, with so many bytes together.
fn entries(count: usize, bytes: usize) -> Value {
    let each = bytes / count;
    let data: Map<String, Value> = (0..count)
        .map(|number| {
            let key = format!("key-{number:04}");
            let value = "QUFB".repeat(each / 4);
            let value = value[..value.len().min(each - key.len()) / 4 * 4].to_owned();
            (key, json!(value))
        })
        .collect();
    Value::Object(data)
}

fn one_step(action: &str, parameters: Value) -> Value {
    at(TEAM, execution("large", action, parameters, json!({})))
}

fn too_large(tried: &'static str, large: Value, small: Value) -> Way {
    way(
        tried,
        create(large),
        WORDS,
        "the same with less in it is created",
        create(small),
    )
}

#[tokio::test]
async fn an_execution_or_a_workflow_that_holds_more_than_a_plan_takes_is_refused() {
    let config = |data: Value| {
        one_step(
            "update-configmap",
            json!({"updateConfigMap": {"namespace": TEAM, "configMap": "one", "data": data}}),
        )
    };
    let secret = |data: Value| {
        one_step(
            "update-secret",
            json!({"updateSecret": {"namespace": TEAM, "secret": "one", "data": data}}),
        )
    };
    let text = |bytes: usize| "x".repeat(bytes);
    let flow = |steps: Vec<Value>| at(TEAM, workflow("large", json!(steps), json!({})));
    let steps = |count: i64, keys: usize, bytes: usize| {
        let update_step = |number: i64| {
            let update = json!({"updateConfigMap": {"namespace": TEAM, "name": "one", "dataUpdates": entries(keys, bytes)}});
            step(number, "update-configmap", update, json!({}))
        };
        flow((1..=count).map(update_step).collect())
    };
    let apply = |config: Value| {
        let custom = json!({"custom": {"actionType": "apply-manifest", "config": config}});
        flow(vec![step(1, "apply-manifest", custom, json!({}))])
    };
    let undone = |snapshot: usize| {
        let update =
            json!({"updateConfigMap": {"namespace": TEAM, "name": "one", "dataUpdates": {"a": "b"}}});
        let undo = json!({"rollbackSpec": {"action": "restore", "parameters": {"restorePreviousConfig": {
            "namespace": TEAM, "name": "one", "type": "ConfigMap", "snapshot": text(snapshot)}}}});
        let update_step = |number: i64| step(number, "update-configmap", update.clone(), undo.clone());
        flow(vec![update_step(1), update_step(2)])
    };
    // Three bytes a letter.
    let wide = |letters: usize| json!({"a": "\u{20ac}".repeat(letters)});
    let ways = vec![
        too_large(
            "a ConfigMap's data is too much",
            config(entries(100, MOST + 4000)),
            config(entries(100, MOST - 4000)),
        ),
        too_large(
            "the most that etcd takes",
            config(entries(100, 1_300_000)),
            config(json!({"a": "b"})),
        ),
        too_large(
            "it is much in bytes and not in letters",
            config(wide(100_000)),
            config(wide(80_000)),
        ),
        too_large(
            "a Secret's data is too much",
            secret(entries(100, MOST + 4000)),
            secret(entries(100, MOST - 4000)),
        ),
        too_large(
            "steps hold too much together",
            steps(10, 10, MOST / 10 + 1000),
            steps(10, 10, MOST / 10 - 1000),
        ),
        too_large(
            "as many steps and keys as there may be hold too much",
            steps(100, 100, MOST / 50),
            steps(100, 100, MOST / 110),
        ),
        too_large(
            "a manifest and what stands beside it are too much",
            apply(json!({"manifest": text(150_000), "other": text(150_000)})),
            apply(json!({"manifest": text(150_000)})),
        ),
        too_large(
            "what undoes the steps is too much",
            undone(150_000),
            undone(100_000),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
}

#[tokio::test]
async fn what_holds_nothing_is_not_measured_wrong() {
    let client = developer().await;
    let scale = json!({"scaleDeployment": {"namespace": TEAM, "deployment": "web", "replicas": 1}});
    let undoing = json!({"rollbackOf": {"name": "a", "uid": "1-2-3"}});
    let empty = at(TEAM, workflow("small", json!([]), undoing));
    for object in [
        single("small", json!({})),
        one_step("scale-deployment", scale),
        empty,
    ] {
        super::way::send(&client, &create(object), true)
            .await
            .expect("accepted");
    }
}
