use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::{cluster, config_map, config_maps, create_object, status, typed};

#[tokio::test(start_paused = true)]
async fn a_created_object_has_what_the_server_sets() {
    let (_cluster, client) = cluster();
    let made = config_maps(&client)
        .create(&PostParams::default(), &config_map("a", json!({"k": "v"})))
        .await
        .unwrap();
    assert_eq!(made.namespace().as_deref(), Some("default"));
    assert_eq!(made.uid().unwrap().len(), 36);
    assert!(made.creation_timestamp().is_some() && made.resource_version().is_some());
    assert_eq!(made.metadata.generation, None);
}

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
async fn a_name_can_be_used_once() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    api.create(&PostParams::default(), &config_map("a", json!({})))
        .await
        .unwrap();
    let refused = status(
        api.create(&PostParams::default(), &config_map("a", json!({})))
            .await,
    );
    assert_eq!((refused.code, refused.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(refused.message, "configmaps \"a\" already exists");
}

#[tokio::test(start_paused = true)]
async fn generated_names_differ() {
    let (_cluster, client) = cluster();
    let object: ConfigMap = typed(json!({"metadata": {"generateName": "x-"}}));
    let api = config_maps(&client);
    let a = api
        .create(&PostParams::default(), &object)
        .await
        .unwrap()
        .name_any();
    let b = api
        .create(&PostParams::default(), &object)
        .await
        .unwrap()
        .name_any();
    assert!(a != b && a.len() == 7, "{a} {b}");
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_not_found() {
    let (_cluster, client) = cluster();
    let missing = status(config_maps(&client).get("a").await);
    assert_eq!((missing.code, missing.reason.as_str()), (404, "NotFound"));
    assert_eq!(missing.message, "configmaps \"a\" not found");
    let details = missing.details.unwrap();
    assert_eq!(
        (details.name.as_str(), details.kind.as_str()),
        ("a", "configmaps")
    );
    let nowhere: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    let refused = status(
        nowhere
            .create(&PostParams::default(), &config_map("a", json!({})))
            .await,
    );
    assert_eq!(refused.message, "namespaces \"nowhere\" not found");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_resource_is_404() {
    let (_cluster, client) = cluster();
    let object = json!({"apiVersion": "nobody.io/v1", "kind": "Thing", "metadata": {"name": "a"}});
    assert_eq!(status(create_object(&client, object).await).code, 404);
}

#[tokio::test(start_paused = true)]
async fn a_write_on_an_old_version_conflicts() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    let first = api
        .create(&PostParams::default(), &config_map("a", json!({"k": "1"})))
        .await
        .unwrap();
    let mut second = first.clone();
    second.data = Some([("k".to_owned(), "2".to_owned())].into());
    api.replace("a", &PostParams::default(), &second).await.unwrap();
    let refused = status(api.replace("a", &PostParams::default(), &first).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        refused.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_changes_nothing_keeps_the_version() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    let first = api
        .create(&PostParams::default(), &config_map("a", json!({"k": "1"})))
        .await
        .unwrap();
    let again = api.replace("a", &PostParams::default(), &first).await.unwrap();
    assert_eq!(first.resource_version(), again.resource_version());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_stores_nothing() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&params, &config_map("a", json!({}))).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn lists_select_by_label_and_field_and_come_in_pages() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    for i in 0..5 {
        let mut object = config_map(&format!("c{i}"), json!({}));
        object.labels_mut().insert("odd".to_owned(), (i % 2).to_string());
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let names = |list: kube::core::ObjectList<ConfigMap>| -> Vec<String> {
        list.items.iter().map(ResourceExt::name_any).collect()
    };
    assert_eq!(
        names(api.list(&ListParams::default().labels("odd=1")).await.unwrap()),
        ["c1", "c3"]
    );
    assert_eq!(
        names(
            api.list(&ListParams::default().labels("odd notin (1)"))
                .await
                .unwrap()
        )
        .len(),
        3
    );
    assert_eq!(
        names(
            api.list(&ListParams::default().fields("metadata.name=c2"))
                .await
                .unwrap()
        ),
        ["c2"]
    );
    let refused = status(api.list(&ListParams::default().fields("data.k=1")).await);
    assert!(
        refused.message.contains("field label not supported: data.k"),
        "{}",
        refused.message
    );
    let page = api.list(&ListParams::default().limit(2)).await.unwrap();
    let token = page.metadata.continue_.clone().unwrap();
    assert_eq!(names(page), ["c0", "c1"]);
    let rest = api
        .list(&ListParams::default().continue_token(&token))
        .await
        .unwrap();
    assert_eq!(names(rest), ["c2", "c3", "c4"]);
}

#[tokio::test(start_paused = true)]
async fn the_spec_counts_generations_and_status_is_a_world_of_its_own() {
    let (_cluster, client) = cluster();
    crate::support::create_deployment(&client, "web", 1).await;
    let api: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(client.clone(), "default");
    let mut changed = api.get("web").await.unwrap();
    assert_eq!(changed.metadata.generation, Some(1));
    changed.status.as_mut().unwrap().ready_replicas = Some(17);
    changed.spec.as_mut().unwrap().min_ready_seconds = Some(1);
    let written = api
        .replace("web", &PostParams::default(), &changed)
        .await
        .unwrap();
    assert_eq!(written.metadata.generation, Some(2));
    assert_eq!(written.status.unwrap().ready_replicas, Some(1));
    let mut changed = api.get("web").await.unwrap();
    changed.spec.as_mut().unwrap().min_ready_seconds = Some(9);
    changed.status.as_mut().unwrap().collision_count = Some(3);
    let written = api
        .replace_status("web", &PostParams::default(), &changed)
        .await
        .unwrap();
    assert_eq!(written.spec.unwrap().min_ready_seconds, Some(1));
    assert_eq!(written.status.unwrap().collision_count, Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_type_and_a_wrong_value_are_refused() {
    let (_cluster, client) = cluster();
    let mut object = crate::support::deployment("web", 1);
    object["spec"]["replicas"] = json!("three");
    assert_eq!(status(create_object(&client, object).await).code, 400);
    let mut object = crate::support::deployment("web", 1);
    object["spec"]["replicas"] = json!(-1);
    let refused = status(create_object(&client, object).await);
    assert_eq!(
        refused.message,
        "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_object_is_a_bad_request() {
    let (_cluster, client) = cluster();
    for body in ["[]", "7", "{", "{\"metadata\": 3}"] {
        let request = http::Request::post("/api/v1/namespaces/default/configmaps");
        let refused = status(client.request::<Value>(request.body(body.into()).unwrap()).await);
        assert_eq!(refused.code, 400, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_says_which_version_it_is_and_what_it_serves() {
    let (_cluster, client) = cluster();
    assert_eq!(client.apiserver_version().await.unwrap().minor, "35");
    let groups = client.list_api_groups().await.unwrap();
    assert!(groups.groups.iter().any(|g| g.name == "apps"));
    let core = client.list_core_api_resources("v1").await.unwrap();
    assert!(core.resources.iter().any(|r| r.name == "pods/eviction"));
}

#[tokio::test(start_paused = true)]
async fn both_event_apis_show_the_same_event() {
    let (_cluster, client) = cluster();
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "e", "namespace": "default"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "hello", "reason": "Test",
        "type": "Normal", "action": "Act", "reportingController": "c", "reportingInstance": "i",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    });
    create_object(&client, event).await.unwrap();
    let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client.clone(), "default");
    let seen = api
        .list(&ListParams::default().fields("involvedObject.name=p"))
        .await
        .unwrap();
    assert_eq!(seen.items[0].message.as_deref(), Some("hello"));
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
