use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use crate::support::{cluster, config_map, config_maps, create_deployment, pods, status, typed};

#[tokio::test(start_paused = true)]
async fn a_wrong_uid_in_the_precondition_saves_the_object() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    let made = api
        .create(&PostParams::default(), &config_map("a", json!({})))
        .await
        .unwrap();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some("other".to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let refused = status(api.delete("a", &params).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        refused.message,
        format!(
            "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match \
             the UID in record ({}). The object might have been deleted and then recreated",
            made.uid().unwrap()
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_holds_an_object_until_it_is_taken_away() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    let mut object = config_map("a", json!({}));
    object.finalizers_mut().push("example.com/hold".to_owned());
    api.create(&PostParams::default(), &object).await.unwrap();
    api.delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .expect("still there");
    let held = api.get("a").await.unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}));
    let refused = status(api.patch("a", &PatchParams::default(), &more).await);
    assert!(
        refused.message.contains("no new finalizers can be added"),
        "{}",
        refused.message
    );
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("a", &PatchParams::default(), &none).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

async fn owner_and_child(client: &kube::Client, blocking: bool) {
    let api = config_maps(client);
    let owner = api
        .create(&PostParams::default(), &config_map("owner", json!({})))
        .await
        .unwrap();
    let child: ConfigMap = typed(json!({"metadata": {"name": "child", "ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid(),
        "blockOwnerDeletion": blocking,
    }]}}));
    api.create(&PostParams::default(), &child).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dependents_go_with_their_owner() {
    let (_cluster, client) = cluster();
    owner_and_child(&client, true).await;
    let api = config_maps(&client);
    api.delete("owner", &DeleteParams::background()).await.unwrap();
    assert!(api.get_opt("child").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_orphan_keeps_living_without_its_reference() {
    let (_cluster, client) = cluster();
    owner_and_child(&client, true).await;
    let api = config_maps(&client);
    api.delete("owner", &DeleteParams::orphan()).await.unwrap();
    assert!(api.get_opt("owner").await.unwrap().is_none());
    assert!(api.get("child").await.unwrap().owner_references().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_foreground_deletion_waits_for_a_blocking_dependent() {
    let (_cluster, client) = cluster();
    owner_and_child(&client, true).await;
    let api = config_maps(&client);
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    api.patch("child", &PatchParams::default(), &hold).await.unwrap();
    api.delete("owner", &DeleteParams::foreground()).await.unwrap();
    assert_eq!(
        api.get("owner").await.unwrap().finalizers(),
        ["foregroundDeletion"]
    );
    assert!(
        api.get("child")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("child", &PatchParams::default(), &none).await.unwrap();
    assert!(api.get_opt("owner").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_child_of_an_owner_that_never_was_is_collected() {
    let (_cluster, client) = cluster();
    let child: ConfigMap = typed(json!({"metadata": {"name": "child", "ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "nobody",
    }]}}));
    let api = config_maps(&client);
    api.create(&PostParams::default(), &child).await.unwrap();
    assert!(api.get_opt("child").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_everything_in_it_and_takes_nothing_new() {
    let (_cluster, client) = cluster();
    let spaces: Api<Namespace> = Api::all(client.clone());
    spaces
        .create(
            &PostParams::default(),
            &typed(json!({"metadata": {"name": "shop"}})),
        )
        .await
        .unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
    let mut held = config_map("held", json!({}));
    held.finalizers_mut().push("example.com/hold".to_owned());
    api.create(&PostParams::default(), &held).await.unwrap();
    api.create(&PostParams::default(), &config_map("free", json!({})))
        .await
        .unwrap();
    spaces.delete("shop", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("free").await.unwrap().is_none());
    let refused = status(
        api.create(&PostParams::default(), &config_map("new", json!({})))
            .await,
    );
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        refused.message,
        "configmaps \"new\" is forbidden: unable to create new content in namespace shop because it is being \
         terminated"
    );
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("held", &PatchParams::default(), &none).await.unwrap();
    assert!(spaces.get_opt("shop").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_running_pod_is_first_marked_and_then_gone() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 1).await;
    let pod = pods(&client, "app=web").await.remove(0);
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let marked = api
        .delete(&pod.name_any(), &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = pods(&client, "app=web").await;
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].name_any(), pod.name_any());
}

#[tokio::test(start_paused = true)]
async fn a_collection_is_deleted_by_selector() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    for name in ["a", "b"] {
        let mut object = config_map(name, json!({}));
        object.labels_mut().insert("name".to_owned(), name.to_owned());
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels("name=a"))
        .await
        .unwrap();
    let left = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(
        left.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["b"]
    );
}
