//! Where the policy that makes Approvals true is missing, a real API server takes any of them, and none counts.

use kube::api::{DeleteParams, PostParams};
use kubernaut::manifests::{Installation, objects};
use kubernaut_crds::names;
use serde_json::{Value, json};

use crate::bed::{Bed, BedOptions};
use crate::scene::{CONFIG_MAP, Scene, api, merge, step, workflow};

const NAMESPACE: &str = "unguarded";

/// The policy, and what binds it.
fn guard() -> Vec<Value> {
    let installed = objects(&Installation::default()).expect("manifests");
    let found = installed.into_iter().filter(|object| {
        object["metadata"]["name"] == names::APPROVALS_POLICY
            && object["kind"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("ValidatingAdmission"))
    });
    found.collect()
}

fn kind_of(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().expect("a text").to_owned();
    format!("{}/{}", text("apiVersion"), text("kind"))
}

fn approval(name: &str, approver: &str, uid: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "Approval", "metadata": {"name": name},
        "spec": {"objectRef": {"kind": "WorkflowExecution", "name": "asks", "uid": uid},
                 "decision": "Approved", "approver": approver},
    });
    merge(&mut object["spec"], more);
    object
}

async fn message(scene: &Scene<'_>) -> String {
    let workflow = scene.workflow("asks").await;
    workflow["status"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn says(scene: &Scene<'_>, words: &str) {
    scene
        .eventually(words, async || message(scene).await.contains(words).then_some(()))
        .await;
}

#[tokio::test]
async fn without_the_policy_none_of_more_than_fifty_forged_approvals_counts() {
    let bed = Bed::start(BedOptions::default()).await;
    let scene = Scene::new(&bed, NAMESPACE).await;
    scene.config_map("settings", json!({})).await;
    for object in guard() {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let all = api(&scene.client, &kind_of(&object), "");
        all.delete(&name, &DeleteParams::default())
            .await
            .expect("it was there");
    }
    let update =
        json!({"updateConfigMap": {"namespace": NAMESPACE, "name": "settings", "dataUpdates": {"k": "v"}}});
    let steps = json!([step(1, "update-configmap", update, json!({}))]);
    let mut asks = workflow(
        "asks",
        steps,
        json!({"executionStrategy": {"approvalRequired": true}}),
    );
    asks["metadata"]["annotations"] = json!({names::ANNOTATION_CREATED_BY: "admin"});
    let asks = scene.create(asks).await;
    let uid = asks["metadata"]["uid"].as_str().expect("a uid").to_owned();
    says(&scene, "nobody's Approval counts").await;

    let people = [
        "alice",
        "bob",
        "admin",
        "system:masters",
        "system:anonymous",
        "ALICE",
        "alice,bob",
        "*",
        "\u{430}lice",
        "system:serviceaccount:kubernaut-system:kubernaut-controller",
        "kubernaut",
        "root",
        "system:admin",
    ];
    let plan = scene.workflow("asks").await["status"]["executionPlan"]["digest"].clone();
    let forms = [
        json!({}),
        json!({"planDigest": plan}),
        json!({"reason": "looked at"}),
        json!({"decision": "Rejected", "reason": "no"}),
    ];
    // The API server forgets the policy a moment after it is gone.
    scene
        .eventually("the policy keeps nothing out", async || {
            let forged = approval("forged-0", "alice", &uid, json!({}));
            scene.try_create(forged).await.ok()
        })
        .await;
    let mut made = 0;
    for person in people {
        for form in &forms {
            made += 1;
            let forged = approval(&format!("forged-{made}"), person, &uid, form.clone());
            scene.try_create(forged).await.expect("nothing keeps it out");
        }
    }
    assert!(made > 50, "{made}");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    says(&scene, "nobody's Approval counts").await;
    assert_eq!(scene.workflow("asks").await["status"]["phase"], "validating");
    assert_eq!(scene.jobs().await, Vec::<Value>::new());

    // Nor does any of them once the policy stands again: only what is made after it.
    for object in guard() {
        let all = api(&scene.client, &kind_of(&object), "");
        let object = serde_json::from_value(object).expect("an object");
        all.create(&PostParams::default(), &object)
            .await
            .expect("it is made");
    }
    says(&scene, "make another one").await;
    assert_eq!(scene.workflow("asks").await["status"]["phase"], "validating");
    // The API server takes it up a moment later, and lets forged ones in until then.
    let scene = &scene;
    scene
        .eventually("a forged approval is refused", async || {
            let forged = approval("late", "alice", &uid, json!({}));
            let refused = scene.try_create(forged).await.err()?;
            refused
                .to_string()
                .contains("must be your own name")
                .then_some(())
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    let asks = scene.workflow("asks").await;
    assert_eq!(asks["status"]["phase"], "validating", "{}", message(scene).await);
    assert_eq!(asks["status"]["approval"], Value::Null);
    assert_eq!(scene.jobs().await, Vec::<Value>::new());
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"], Value::Null);
}
