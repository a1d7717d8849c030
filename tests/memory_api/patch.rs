use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::support::{cluster, config_map, config_maps, create_deployment, get_deployment, status, typed};

fn deployments(client: &kube::Client) -> Api<Deployment> {
    Api::namespaced(client.clone(), "default")
}

#[tokio::test(start_paused = true)]
async fn a_merge_patch_changes_the_named_keys_only() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    api.create(
        &PostParams::default(),
        &config_map("a", json!({"k": "1", "l": "2"})),
    )
    .await
    .unwrap();
    let patch = Patch::Merge(json!({"data": {"k": "3", "l": null}}));
    let patched = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(
        patched.data.unwrap().into_iter().collect::<Vec<_>>(),
        [("k".to_owned(), "3".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_carries_an_old_version_conflicts() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    let made = api
        .create(&PostParams::default(), &config_map("a", json!({})))
        .await
        .unwrap();
    let version = made.resource_version();
    let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "data": {"k": "1"}}));
    api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    let refused = status(api.patch("a", &PatchParams::default(), &patch).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_json_patch_changes_nothing_and_does_not_say_why() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    api.create(&PostParams::default(), &config_map("a", json!({"k": "1"})))
        .await
        .unwrap();
    let patch = Patch::Json::<ConfigMap>(typed(json!([
        {"op": "replace", "path": "/data/k", "value": "2"},
        {"op": "test", "path": "/data/k", "value": "1"},
    ])));
    let refused = status(api.patch("a", &PatchParams::default(), &patch).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    assert_eq!(
        refused.message,
        "the server rejected our request due to an error in our request"
    );
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_strategic_patch_finds_containers_by_name() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 1).await;
    let patch = json!({"spec": {"template": {
        "metadata": {"annotations": {"at": "now"}},
        "spec": {"containers": [{"name": "app", "image": "example/app:2"}, {"name": "side", "image": "s:1"}]},
    }}});
    deployments(&client)
        .patch("web", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    let spec = get_deployment(&client, "web").await.spec.unwrap();
    let images: Vec<String> = spec
        .template
        .spec
        .unwrap()
        .containers
        .into_iter()
        .filter_map(|c| c.image)
        .collect();
    assert_eq!(images, ["example/app:2", "s:1"]);
}

#[tokio::test(start_paused = true)]
async fn an_applied_field_of_another_manager_is_a_conflict_that_names_it() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    let object = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value}});
    api.patch("a", &PatchParams::apply("one"), &Patch::Apply(object("1")))
        .await
        .unwrap();
    let refused = status(
        api.patch("a", &PatchParams::apply("two"), &Patch::Apply(object("2")))
            .await,
    );
    assert_eq!(refused.code, 409);
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"one\": .data.k"
    );
    let forced = PatchParams::apply("two").force();
    api.patch("a", &forced, &Patch::Apply(object("2"))).await.unwrap();
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "2");
    let patch = Patch::Merge(json!({"data": {"k": "3"}}));
    let by_hand = PatchParams {
        field_manager: Some("hand".to_owned()),
        ..PatchParams::default()
    };
    api.patch("a", &by_hand, &patch).await.unwrap();
    let refused = status(
        api.patch("a", &PatchParams::apply("two"), &Patch::Apply(object("2")))
            .await,
    );
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"hand\" using v1: .data.k"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_applied_no_more_goes() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    let object =
        |data| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    let one = PatchParams::apply("one");
    api.patch("a", &one, &Patch::Apply(object(json!({"k": "1", "l": "1"}))))
        .await
        .unwrap();
    let left = api
        .patch("a", &one, &Patch::Apply(object(json!({"l": "1"}))))
        .await
        .unwrap();
    assert_eq!(left.data.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_scale_of_a_deployment_is_patched_apart() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 1).await;
    let api = deployments(&client);
    assert_eq!(
        api.get_scale("web").await.unwrap().spec.unwrap().replicas,
        Some(1)
    );
    let patch = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scale = api
        .patch_scale("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(3));
    assert_eq!(
        get_deployment(&client, "web")
            .await
            .status
            .unwrap()
            .ready_replicas,
        Some(3)
    );
}
