//! Each command of the executor's Jobs, done and refused.

use embedded_cluster::EmbeddedCluster;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::{
    config_map, config_maps, create_deployment, executor, get_deployment, job, jobs, pods, run_job,
    strict_cluster,
};

fn ready(rules: &Value) -> (EmbeddedCluster, Client) {
    let (cluster, client) = strict_cluster();
    cluster.load(executor(rules)).unwrap();
    (cluster, client)
}

fn output(cluster: &EmbeddedCluster) -> Vec<String> {
    cluster
        .requests()
        .into_iter()
        .filter(|r| r.request.user.name.ends_with(":acting"))
        .map(|r| {
            let sub = if r.request.subresource.is_empty() {
                String::new()
            } else {
                format!("/{}", r.request.subresource)
            };
            format!("{} {}{sub} {}", r.request.verb, r.request.resource, r.code)
        })
        .collect()
}

fn done() -> (String, String) {
    ("Complete".to_owned(), String::new())
}

fn failed(words: &str) -> (String, String) {
    ("Failed".to_owned(), format!("{words}\n"))
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_is_scaled_by_the_same_two_verbs() {
    let rules = json!([
        {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["statefulsets/scale"], "verbs": ["get", "patch"]},
    ]);
    let (cluster, client) = ready(&rules);
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "db", "image": "db:1"}]},
            },
        },
    });
    cluster.load(vec![set]).unwrap();
    let arguments = ["scale", "statefulset/db", "--namespace=default", "--replicas=3"];
    assert_eq!(run_job(&client, job("j", &arguments, "")).await, done());
    let sets: kube::Api<k8s_openapi::api::apps::v1::StatefulSet> =
        kube::Api::namespaced(client.clone(), "default");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let status = sets.get("db").await.unwrap().status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas), (3, Some(3)));
    assert_eq!(
        output(&cluster),
        ["get statefulsets 200", "patch statefulsets/scale 200"]
    );
}

#[tokio::test(start_paused = true)]
async fn scale_needs_exactly_its_two_verbs() {
    let rules = json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]},
    ]);
    let (cluster, client) = ready(&rules);
    create_deployment(&client, "web", 1).await;
    let arguments = ["scale", "deployment/web", "--namespace=default", "--replicas=3"];
    assert_eq!(run_job(&client, job("j", &arguments, "")).await, done());
    let web = get_deployment(&client, "web").await;
    assert_eq!(web.spec.unwrap().replicas, Some(3));
    assert_eq!(web.status.unwrap().ready_replicas, Some(3));
    assert_eq!(
        output(&cluster),
        ["get deployments 200", "patch deployments/scale 200"]
    );
    let missing = [
        "scale",
        "deployment/nobody",
        "--namespace=default",
        "--replicas=3",
    ];
    assert_eq!(
        run_job(&client, job("k", &missing, "")).await,
        failed("Error from server (NotFound): deployments.apps \"nobody\" not found")
    );
}

#[tokio::test(start_paused = true)]
async fn a_verb_that_is_missing_is_reported_as_forbidden() {
    let (_cluster, client) =
        ready(&json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]));
    create_deployment(&client, "web", 1).await;
    let arguments = ["scale", "deployment/web", "--namespace=default", "--replicas=3"];
    assert_eq!(
        run_job(&client, job("j", &arguments, "")).await,
        failed(
            "Error from server (Forbidden): deployments.apps \"web\" is forbidden: User \
             \"system:serviceaccount:executor:acting\" cannot patch resource \"deployments/scale\" in API group \
             \"apps\" in the namespace \"default\""
        )
    );
}

fn deployment_rules() -> Value {
    json!([{"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["get", "patch"]}])
}

#[tokio::test(start_paused = true)]
async fn a_restart_replaces_every_pod() {
    let (_cluster, client) = ready(&deployment_rules());
    create_deployment(&client, "web", 2).await;
    let before: Vec<String> = pods(&client, "app=web")
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {
        "kubectl.kubernetes.io/restartedAt": "now", "kubernaut.io/restarted-by": "u"}}}}});
    let flag = format!("--patch={patch}");
    let arguments = [
        "patch",
        "deployment/web",
        "--namespace=default",
        "--type=strategic",
        &flag,
    ];
    assert_eq!(run_job(&client, job("j", &arguments, "")).await, done());
    let after: Vec<String> = pods(&client, "app=web")
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert!(
        after.len() == 2 && after.iter().all(|name| !before.contains(name)),
        "{before:?} {after:?}"
    );
    let web = get_deployment(&client, "web").await;
    assert_eq!(web.annotations()["deployment.kubernetes.io/revision"], "2");
    let status = web.status.unwrap();
    assert_eq!(status.observed_generation, web.metadata.generation);
    assert_eq!((status.updated_replicas, status.replicas), (Some(2), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_patch_file_is_read_from_the_pod_and_its_tests_hold() {
    let (_cluster, client) = ready(&deployment_rules());
    create_deployment(&client, "web", 1).await;
    let arguments = [
        "patch",
        "deployment/web",
        "--namespace=default",
        "--type=json",
        "--patch-file=/payload/patch.json",
    ];
    let patch = |generation: i64| {
        json!([
            {"op": "test", "path": "/metadata/generation", "value": generation},
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example/app:2"},
        ])
        .to_string()
    };
    assert_eq!(
        run_job(&client, job("a", &arguments, &patch(9))).await,
        failed("The request is invalid: the server rejected our request due to an error in our request")
    );
    assert_eq!(get_deployment(&client, "web").await.metadata.generation, Some(1));
    assert_eq!(run_job(&client, job("b", &arguments, &patch(1))).await, done());
    assert_eq!(get_deployment(&client, "web").await.metadata.generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_undo_patches_the_scale_only_if_it_is_still_ours() {
    let (_cluster, client) = ready(&deployment_rules());
    create_deployment(&client, "web", 5).await;
    let arguments = [
        "patch",
        "deployment/web",
        "--namespace=default",
        "--subresource=scale",
        "--type=json",
        "--patch-file=/payload/patch.json",
    ];
    let patch = json!([
        {"op": "test", "path": "/spec/replicas", "value": 5},
        {"op": "replace", "path": "/spec/replicas", "value": 2},
    ])
    .to_string();
    assert_eq!(run_job(&client, job("a", &arguments, &patch)).await, done());
    assert_eq!(
        get_deployment(&client, "web").await.spec.unwrap().replicas,
        Some(2)
    );
    assert_eq!(run_job(&client, job("b", &arguments, &patch)).await.0, "Failed");
    assert_eq!(
        get_deployment(&client, "web").await.spec.unwrap().replicas,
        Some(2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing() {
    let (_cluster, client) = ready(&deployment_rules());
    create_deployment(&client, "web", 1).await;
    let arguments = [
        "scale",
        "deployment/web",
        "--namespace=default",
        "--replicas=3",
        "--dry-run=server",
    ];
    assert_eq!(run_job(&client, job("j", &arguments, "")).await, done());
    assert_eq!(
        get_deployment(&client, "web").await.spec.unwrap().replicas,
        Some(1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_deleted_by_uid_and_comes_back() {
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}]);
    let (_cluster, client) = ready(&rules);
    create_deployment(&client, "web", 1).await;
    let pod = pods(&client, "app=web").await.remove(0);
    let path = format!("--raw=/api/v1/namespaces/default/pods/{}", pod.name_any());
    let arguments = ["delete", path.as_str(), "--filename=/payload/patch.json"];
    let options = |uid: &str, dry: bool| {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        if dry {
            options["dryRun"] = json!(["All"]);
        }
        options.to_string()
    };
    let uid = pod.uid().unwrap();
    let (end, words) = run_job(&client, job("a", &arguments, &options("other", false))).await;
    assert_eq!(end, "Failed");
    assert!(
        words.starts_with("Error from server (Conflict): Operation cannot be fulfilled on Pod"),
        "{words}"
    );
    assert_eq!(
        run_job(&client, job("b", &arguments, &options(&uid, true))).await,
        done()
    );
    assert_eq!(pods(&client, "app=web").await[0].uid().unwrap(), uid);
    assert_eq!(
        run_job(&client, job("c", &arguments, &options(&uid, false))).await,
        done()
    );
    let after = pods(&client, "app=web").await;
    assert_eq!(after.len(), 1);
    assert_ne!(after[0].uid().unwrap(), uid);
    assert!(
        run_job(&client, job("d", &arguments, &options(&uid, false)))
            .await
            .1
            .contains("(NotFound)")
    );
}

#[tokio::test(start_paused = true)]
async fn init_containers_evict_one_after_the_other_under_the_budget() {
    let rules = json!([{"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}]);
    let (cluster, client) = ready(&rules);
    create_deployment(&client, "web", 2).await;
    cluster
        .load(vec![json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
        })])
        .unwrap();
    let victims = pods(&client, "app=web").await;
    let object = |name: &str| {
        let mut object = job(name, &[], "");
        let template = &mut object["spec"]["template"];
        let (mut containers, mut files) = (Vec::new(), Vec::new());
        for (i, pod) in victims.iter().enumerate() {
            template["metadata"]["annotations"][format!("kubernaut.io/payload-{i}")] = json!(
                json!({"apiVersion": "policy/v1", "kind": "Eviction",
                    "metadata": {"name": pod.name_any(), "namespace": "default"},
                    "deleteOptions": {"preconditions": {"uid": pod.uid()}}})
                .to_string()
            );
            files.push(json!({
                "path": format!("{i}.json"),
                "fieldRef": {"fieldPath": format!("metadata.annotations['kubernaut.io/payload-{i}']")},
            }));
            let mut container = template["spec"]["containers"][0].clone();
            container["name"] = json!(format!("evict-{i}"));
            container["args"] = json!([
                "create",
                format!(
                    "--raw=/api/v1/namespaces/default/pods/{}/eviction",
                    pod.name_any()
                ),
                format!("--filename=/payload/{i}.json")
            ]);
            containers.push(container);
        }
        template["spec"]["volumes"][0]["downwardAPI"]["items"] = json!(files);
        let last = containers.pop().unwrap();
        template["spec"]["initContainers"] = json!(containers);
        template["spec"]["containers"] = json!([last]);
        object
    };
    assert_eq!(
        run_job(&client, object("a")).await,
        failed(
            "Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget."
        )
    );
    let budgets: Api<k8s_openapi::api::policy::v1::PodDisruptionBudget> =
        Api::namespaced(client.clone(), "default");
    budgets
        .patch(
            "web",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"minAvailable": 1}})),
        )
        .await
        .unwrap();
    assert_eq!(run_job(&client, object("b")).await, done());
    let after = pods(&client, "app=web").await;
    assert_eq!(after.len(), 2);
    assert!(
        after
            .iter()
            .all(|pod| victims.iter().all(|v| v.uid() != pod.uid()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_config_map_and_a_secret_are_patched() {
    let rules =
        json!([{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "patch"]}]);
    let (cluster, client) = ready(&rules);
    config_maps(&client)
        .create(
            &PostParams::default(),
            &config_map("c", json!({"a": "1", "b": "2"})),
        )
        .await
        .unwrap();
    let arguments = [
        "patch",
        "configmap/c",
        "--namespace=default",
        "--type=merge",
        "--patch-file=/payload/patch.json",
    ];
    let patch = json!({"data": {"a": "3"}}).to_string();
    assert_eq!(run_job(&client, job("j", &arguments, &patch)).await, done());
    let data = config_maps(&client).get("c").await.unwrap().data.unwrap();
    assert_eq!((data["a"].as_str(), data["b"].as_str()), ("3", "2"));

    let encoded = "eyJkYXRhIjp7InAiOiJjdz09In19"; // {"data":{"p":"cw=="}}
    cluster
        .load(vec![
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "payload", "namespace": "executor"},
                "data": {"patch.json": encoded}}),
        ])
        .unwrap();
    let arguments = [
        "patch",
        "secret/s",
        "--namespace=default",
        "--type=merge",
        "--patch-file=/payload/patch.json",
    ];
    let mut object = job("k", &arguments, "");
    object["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "payload", "secret": {"secretName": "payload"}}]);
    assert_eq!(run_job(&client, object).await, done());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    assert_eq!(secrets.get("s").await.unwrap().data.unwrap()["p"].0, b"s");
}

#[tokio::test(start_paused = true)]
async fn an_applied_manifest_creates_merges_and_conflicts() {
    let rules =
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch", "create"]}]);
    let (_cluster, client) = ready(&rules);
    let arguments = [
        "apply",
        "--server-side",
        "--field-manager=kubernaut",
        "--filename=/payload/patch.json",
    ];
    let manifest = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  namespace: default\ndata:\n  a: {value}\n"
        )
    };
    assert_eq!(
        run_job(&client, job("a", &arguments, &manifest("one"))).await,
        done()
    );
    assert_eq!(
        config_maps(&client).get("c").await.unwrap().data.unwrap()["a"],
        "one"
    );
    let params = PatchParams {
        field_manager: Some("person".to_owned()),
        ..PatchParams::default()
    };
    config_maps(&client)
        .patch("c", &params, &Patch::Merge(json!({"data": {"a": "mine"}})))
        .await
        .unwrap();
    let (end, words) = run_job(&client, job("b", &arguments, &manifest("two"))).await;
    assert_eq!(end, "Failed");
    assert!(
        words
            .starts_with("error: Apply failed with 1 conflict: conflict with \"person\" using v1: .data.a\n"),
        "{words}"
    );
    let map: Api<ConfigMap> = config_maps(&client);
    assert_eq!(map.get("c").await.unwrap().data.unwrap()["a"], "mine");
}

#[tokio::test(start_paused = true)]
async fn a_flag_that_kubectl_does_not_know_fails() {
    let (_cluster, client) = ready(&json!([]));
    let (end, words) = run_job(&client, job("j", &["cordon", "n1", "--nonsense"], "")).await;
    assert_eq!(
        (end.as_str(), words.as_str()),
        ("Failed", "error: unknown flag: --nonsense\n")
    );
    assert!(jobs(&client).get_opt("j").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn kubectl_finds_its_cluster_only_with_a_token_where_it_looks_for_one() {
    let (_cluster, client) = ready(&deployment_rules());
    create_deployment(&client, "web", 1).await;
    let arguments = ["scale", "deployment/web", "--namespace=default", "--replicas=3"];
    let nowhere =
        "The connection to the server localhost:8080 was refused - did you specify the right host or port?";
    let mut without = job("without", &arguments, "");
    without["spec"]["template"]["spec"]["automountServiceAccountToken"] = json!(false);
    let pod = |job: &mut Value, sources: Value| {
        let spec = &mut job["spec"]["template"]["spec"];
        let mount = json!({"name": "access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
        let mounts = &mut spec["containers"][0]["volumeMounts"];
        mounts.as_array_mut().expect("a list").push(mount);
        let volume = json!({"name": "access", "projected": {"sources": sources}});
        spec["volumes"].as_array_mut().expect("a list").push(volume);
    };
    let mut with = without.clone();
    with["metadata"]["name"] = json!("with");
    pod(
        &mut with,
        json!([{"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}]),
    );
    let mut empty = without.clone();
    empty["metadata"]["name"] = json!("empty");
    pod(&mut empty, json!([{"configMap": {"name": "kube-root-ca.crt"}}]));
    assert_eq!(run_job(&client, without).await, failed(nowhere));
    assert_eq!(run_job(&client, empty).await, failed(nowhere));
    assert_eq!(run_job(&client, with).await, done());
}
