//! Texts of objects that look like parts of a URL: the controller asks for nothing that they would lead to.

use serde_json::{Value, json};

use crate::bed::{Bed, CONTROLLER, bed};
use crate::scene::{CONFIG_MAP, POD, Scene, execution, pretty};

/// Whatever the controller asked the API server for until now: a path of names, and nothing of this namespace.
fn asked_plainly(bed: &Bed, not_of: &str) {
    let good = |c: char| c.is_ascii_alphanumeric() || "/.-_".contains(c);
    let mut seen = 0;
    for entry in bed.audit() {
        if entry["user"]["username"] != CONTROLLER {
            continue;
        }
        seen += 1;
        let uri = entry["requestURI"].as_str().expect("a URI");
        let path = uri.split('?').next().unwrap_or_default();
        assert!(path.chars().all(good) && !path.contains(".."), "{uri}");
        assert!(!uri.contains(not_of), "{uri}");
    }
    assert!(seen > 0, "the controller asked for something");
}

#[tokio::test]
async fn a_version_that_looks_like_a_path_is_refused_in_planning() {
    let scene = Scene::new(bed().await, "addr-manifest").await;
    let elsewhere = Scene::new(bed().await, "addr-elsewhere").await;
    elsewhere.config_map("x", json!({"password": "hunter2"})).await;
    let versions = [
        "/v1/namespaces/addr-elsewhere/configmaps/x?y=",
        "v1/namespaces/addr-elsewhere/configmaps/x?y=",
        "../../api/v1/namespaces/addr-elsewhere/configmaps/x",
        "v1%2Fnamespaces%2Faddr-elsewhere%2Fconfigmaps%2Fx",
        "v1?x",
        "v1#",
        "v99",
        "v1\nfoo",
        " v1",
    ];
    for (number, version) in versions.iter().enumerate() {
        let manifest = json!({"apiVersion": version, "kind": "ConfigMap", "data": {"a": "b"},
                              "metadata": {"name": "mine", "namespace": "addr-manifest"}});
        let apply = json!({"applyManifest": {"manifest": manifest.to_string()}});
        let name = format!("version-{number}");
        scene
            .create(execution(&name, "apply-manifest", apply, json!({})))
            .await;
    }
    for (number, version) in versions.iter().enumerate() {
        let status = scene.execution_ended(&format!("version-{number}")).await["status"].take();
        assert_eq!(status["phase"], "failed", "{version}: {}", pretty(&status));
        assert_eq!(
            status["errorType"],
            "validation_error",
            "{version}: {}",
            pretty(&status)
        );
        assert!(!status.to_string().contains("hunter2"), "{}", pretty(&status));
    }
    assert_eq!(scene.jobs().await, Vec::<Value>::new());
    assert_eq!(scene.find(CONFIG_MAP, "mine").await, None);
    asked_plainly(scene.bed, "addr-elsewhere");
}

#[tokio::test]
async fn what_a_pod_says_of_its_owner_leads_nowhere() {
    let scene = Scene::new(bed().await, "addr-owner").await;
    let owners = [
        ("v1%2Fpods?x=", "ReplicaSet", "x"),
        ("apps/v1", "ReplicaSet", "../../../../api/v1/secrets"),
        ("apps/v1", "ReplicaSet/status", "x"),
        ("apps/v1", "ReplicaSet", "x?watch=1"),
    ];
    for (number, (version, kind, name)) in owners.iter().enumerate() {
        let pod = format!("forged-{number}");
        scene
            .create(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod, "ownerReferences": [{"apiVersion": version, "kind": kind, "name": name,
                             "uid": "4f2f0b6e-7d0a-4b57-9d52-000000000000", "controller": true}]},
                "spec": {"containers": [{"name": "main", "image": "registry.example/any:1"}],
                         "nodeSelector": {"kubernetes.io/hostname": "nowhere"}},
            }))
            .await;
        let delete = json!({"deletePod": {"namespace": "addr-owner", "pod": pod, "gracePeriodSeconds": 0}});
        let name = format!("delete-{number}");
        scene
            .create(execution(&name, "delete-pod", delete, json!({"timeout": "40s"})))
            .await;
    }
    for (number, owner) in owners.iter().enumerate() {
        let ended = scene.execution_ended(&format!("delete-{number}")).await;
        println!("{owner:?}: {}", ended["status"]["message"]);
        let left = scene.find(POD, &format!("forged-{number}")).await;
        assert_eq!(left, None, "{owner:?}: {}", pretty(&ended["status"]));
    }
    asked_plainly(scene.bed, "addr-owner/secrets");
}
