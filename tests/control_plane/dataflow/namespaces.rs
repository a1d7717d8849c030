//! Installed in namespaces of the operator's choice: accounts, rights, policies and the lease follow.

use serde_json::{Value, json};

use crate::bed::{Bed, BedOptions};
use crate::scene::{CONFIG_MAP, EXECUTOR, JOB, POD, Scene, api, step, workflow};

#[tokio::test]
async fn controller_and_jobs_live_where_the_manifests_were_told() {
    let bed = Bed::start(BedOptions {
        run_flags: &["--controller-namespace=ops", "--executor-namespace=repairs"],
        ..BedOptions::default()
    })
    .await;
    let scene = Scene::new(&bed, "shop").await;
    scene.config_map("settings", json!({})).await;
    let update =
        json!({"updateConfigMap": {"namespace": "shop", "name": "settings", "dataUpdates": {"k": "v"}}});
    let steps = json!([step(1, "update-configmap", update, json!({}))]);
    scene.run("repair", steps.clone()).await;
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"]["k"], "v");

    let names = async |kind: &str, namespace: &str| {
        let api = api(&scene.client, kind, namespace);
        let list = api.list(&kube::api::ListParams::default()).await.expect("a list");
        let names = list.items.into_iter().filter_map(|object| object.metadata.name);
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(JOB, "repairs").await.len(), 1);
    assert_eq!(
        names("coordination.k8s.io/v1/Lease", "ops").await,
        ["kubernaut-controller"]
    );
    for kind in [JOB, POD, "v1/ServiceAccount"] {
        assert_eq!(names(kind, EXECUTOR).await, Vec::<String>::new());
    }

    // The policies protect these namespaces, and not the usual ones.
    for (namespace, refused) in [("ops", true), ("repairs", true), ("kubernaut-system", false)] {
        if !refused {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            scene.create(object).await;
        }
        let mut here: Value = workflow("here", steps.clone(), json!({}));
        here["metadata"]["namespace"] = json!(namespace);
        match scene.try_create(here).await {
            Ok(_) => assert!(!refused, "{namespace}"),
            Err(error) => assert!(
                refused && error.to_string().contains("it is protected"),
                "{error}"
            ),
        }
    }
}
