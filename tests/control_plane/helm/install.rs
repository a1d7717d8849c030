//! An operator's way with helm in a cluster: install, upgrade, work, and uninstall in the order of the README.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{chart_path, helm};
use crate::bed::{Bed, BedOptions, FakeNodes};
use crate::scene::{CONFIG_MAP, JOB, Scene, step, workflow};

const NAMESPACE: &str = "kubernaut-system";
const CRDS: [&str; 3] = [
    "approvals.workflow.kubernaut.io",
    "kubernetesexecutions.kubernetesexecution.kubernaut.io",
    "workflowexecutions.workflow.kubernaut.io",
];

/// helm with the rights of an administrator. Off the test's thread, which may be what keeps the cluster's nodes.
async fn operate(nodes: &FakeNodes, arguments: &[&str]) -> String {
    let kubeconfig = nodes.admin_kubeconfig();
    let mut arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    arguments.extend([
        "--namespace".to_owned(),
        NAMESPACE.to_owned(),
        "--kubeconfig".to_owned(),
        kubeconfig.to_str().expect("a path").to_owned(),
    ]);
    let run = move || helm(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let done = tokio::task::spawn_blocking(run).await.expect("no panic");
    done.expect("helm succeeds")
}

async fn install(nodes: &FakeNodes) -> String {
    let chart = chart_path();
    let chart = chart.to_str().expect("a path");
    operate(nodes, &["install", "kubernaut", chart, "--create-namespace"]).await
}

/// Of every object of the release what changes when somebody changes it, and not when its controller says how it is.
async fn revisions(nodes: &FakeNodes) -> BTreeMap<String, String> {
    let manifest = operate(nodes, &["get", "manifest", "kubernaut"]).await;
    let file = nodes.state_dir().join("release.yaml");
    std::fs::write(&file, manifest).expect("a file");
    let file = file.to_str().expect("a path");
    let found = nodes
        .run_kubectl(&["get", "--filename", file, "--output=json"])
        .await;
    let list: Value = serde_json::from_str(&found.expect("everything is there")).expect("JSON");
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|object| {
            let metadata = &object["metadata"];
            let revision = if metadata["generation"].is_null() {
                &metadata["resourceVersion"]
            } else {
                &metadata["generation"]
            };
            let name = format!(
                "{} {} {}",
                object["kind"], metadata["namespace"], metadata["name"]
            );
            (name, revision.to_string())
        })
        .collect()
}

/// All that is labelled as a part of kubernaut, as resource/name.
async fn left(nodes: &FakeNodes) -> Vec<String> {
    let resources = nodes
        .run_kubectl(&["api-resources", "--verbs=list", "--output=name"])
        .await
        .expect("resources");
    let resources = resources.split_whitespace().collect::<Vec<_>>().join(",");
    let found = nodes
        .run_kubectl(&[
            "get",
            &resources,
            "--all-namespaces",
            "--selector=app.kubernetes.io/part-of=kubernaut",
            "--output=name",
        ])
        .await
        .expect("a list");
    found.lines().map(str::to_owned).collect()
}

/// Nothing is installed; but helm wants to see a cluster.
async fn the_notes_warn_of_policies_that_hold_nobody(nodes: &FakeNodes) {
    let notes = async |value: &str| {
        let chart = chart_path();
        let chart = chart.to_str().expect("a path");
        let said = operate(
            nodes,
            &[
                "install",
                "kubernaut",
                chart,
                "--dry-run=client",
                "--set-json",
                value,
            ],
        )
        .await;
        said.rsplit_once("NOTES:").expect("notes").1.to_owned()
    };
    let usual = notes("pods.replicas=2").await;
    assert!(
        !usual.contains("WARNING") && usual.contains("To name yours"),
        "{usual}"
    );
    for (value, words) in [
        ("policy.enabled=false", "policy.enabled is false"),
        (
            "policy.validationActions=[\"Audit\"]",
            "policy.validationActions has no Deny",
        ),
        (
            "policy.failurePolicy=\"Ignore\"",
            "policy.failurePolicy is Ignore",
        ),
    ] {
        let said = notes(value).await;
        assert!(said.contains(words), "{said}");
    }
    let named = notes("networkPolicy.apiServerPeers=[{\"ipBlock\":{\"cidr\":\"10.0.0.1/32\"}}]").await;
    assert!(!named.contains("To name yours"), "{named}");
}

#[tokio::test]
async fn a_release_is_installed_upgraded_used_and_uninstalled_with_nothing_left_hanging() {
    let nodes = FakeNodes::start(BedOptions::default()).await;
    the_notes_warn_of_policies_that_hold_nobody(&nodes).await;
    let said = install(&nodes).await;
    assert!(said.contains("To uninstall, delete workflows"), "{said}");
    let bed = Bed::on(nodes, Vec::new()).await;

    // The same again changes no object.
    let before = revisions(&bed.cluster).await;
    assert!(before.len() > 50, "{before:?}");
    let chart = chart_path();
    operate(
        &bed.cluster,
        &["upgrade", "kubernaut", chart.to_str().expect("a path")],
    )
    .await;
    assert_eq!(revisions(&bed.cluster).await, before);

    // It works, and the policies of this release are in force.
    bed.start_controller().await;
    let scene = Scene::new(&bed, "shop").await;
    scene.config_map("settings", json!({})).await;
    let update =
        json!({"updateConfigMap": {"namespace": "shop", "name": "settings", "dataUpdates": {"k": "v"}}});
    let steps = json!([step(1, "update-configmap", update, json!({}))]);
    scene.run("repair", steps.clone()).await;
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"]["k"], "v");
    let mut here = workflow("here", steps.clone(), json!({}));
    here["metadata"]["namespace"] = json!(NAMESPACE);
    let refused = scene.try_create(here).await.expect_err("refused").to_string();
    assert!(refused.contains("it is protected"), "{refused}");

    // One has ended, one is at work: while the controller runs, both go.
    scene.start("hang", steps, json!({})).await;
    let jobs = crate::scene::api(&scene.client, JOB, "kubernaut-executor");
    scene
        .eventually("a Job of each workflow", async || {
            let jobs = jobs
                .list(&kube::api::ListParams::default())
                .await
                .expect("a list");
            (jobs.items.len() == 2).then_some(())
        })
        .await;
    let both = "workflowexecutions,kubernetesexecutions";
    let kubectl = async |arguments: &[&str]| {
        bed.cluster
            .run_kubectl(arguments)
            .await
            .expect("kubectl succeeds")
    };
    kubectl(&["delete", both, "--all", "--all-namespaces", "--timeout=60s"]).await;
    assert_eq!(
        kubectl(&["get", both, "--all-namespaces", "--output=name"]).await,
        ""
    );
    bed.kill_controller();
    operate(&bed.cluster, &["uninstall", "kubernaut", "--wait"]).await;
    let crds = CRDS.map(|name| format!("customresourcedefinition.apiextensions.k8s.io/{name}"));
    assert_eq!(left(&bed.cluster).await, crds);

    // What stayed is taken up by a release of the same name, and goes last.
    install(&bed.cluster).await;
    operate(&bed.cluster, &["uninstall", "kubernaut", "--wait"]).await;
    kubectl(&[
        "delete",
        "customresourcedefinitions",
        CRDS[0],
        CRDS[1],
        CRDS[2],
        "--timeout=60s",
    ])
    .await;
    kubectl(&["delete", "namespace", NAMESPACE, "--timeout=60s"]).await;
    assert_eq!(left(&bed.cluster).await, Vec::<String>::new());
}
