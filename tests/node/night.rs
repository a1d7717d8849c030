//! The night of the guide, as its chapter has it: by the program and kubectl, on real nodes.

use std::path::{Path, PathBuf};

use kubernaut_crds::names;
use serde_json::{Value, json};

use crate::bed::{WEB, bed};
use crate::scene::{Scene, api};
use crate::transcript::Shell;

const NAMESPACE: &str = "shop";

/// The kubeconfig of the admin, with a context for each person, who is impersonated.
fn kubeconfig(admin: &Path, directory: &Path, people: &[&str]) -> PathBuf {
    let text = std::fs::read_to_string(admin).expect("a kubeconfig");
    let mut config: Value = serde_saphyr::from_str(&text).expect("YAML");
    let user = config["users"][0]["user"].clone();
    let cluster = config["clusters"][0]["name"].clone();
    let mut users = Vec::new();
    let mut contexts = Vec::new();
    for person in people {
        let mut own = user.clone();
        own["as"] = json!(person);
        users.push(json!({"name": person, "user": own}));
        contexts.push(json!({
            "name": person,
            "context": {"cluster": cluster, "user": person, "namespace": NAMESPACE},
        }));
    }
    config["users"] = json!(users);
    config["contexts"] = json!(contexts);
    config["current-context"] = json!(people[0]);
    let path = directory.join("kubeconfig");
    std::fs::write(&path, config.to_string()).expect("written");
    path
}

async fn bind(scene: &Scene<'_>, person: &str, role: &str) {
    scene
        .create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("{person}-{role}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": person}],
        }))
        .await;
}

#[tokio::test]
async fn the_night_of_the_guide_goes_as_it_is_told() {
    let scene = Scene::bare(bed().await, NAMESPACE).await;
    scene.deployment("checkout", 2).await;
    // Whoever is on call may do what is in the namespace, and ask for the rights of others.
    bind(&scene, "ana", "admin").await;
    bind(&scene, "bob", "admin").await;
    bind(&scene, "bob", "kubernaut-approve").await;
    bind(&scene, "cleo", "admin").await;
    bind(&scene, "cleo", "kubernaut-approve").await;
    let ask = json!([
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["namespaces", "nodes"], "verbs": ["get", "list"]},
        {"apiGroups": [names::EXECUTION_GROUP, names::WORKFLOW_GROUP], "resources": ["*"], "verbs": ["get", "list"]},
    ]);
    let role = "rbac.authorization.k8s.io/v1";
    scene
        .create(
            json!({"apiVersion": role, "kind": "ClusterRole", "metadata": {"name": "oncall"}, "rules": ask}),
        )
        .await;
    scene
        .create(json!({
            "apiVersion": role, "kind": "ClusterRoleBinding", "metadata": {"name": "oncall"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "oncall"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ana"}],
        }))
        .await;
    scene
        .eventually("Approvals count", async || {
            let kind = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy";
            let policy = api(&scene.client, kind, "")
                .get(names::APPROVALS_POLICY)
                .await
                .ok()?;
            let created = policy.metadata.creation_timestamp?.0;
            (jiff::Timestamp::now().duration_since(created).as_secs() > 12).then_some(())
        })
        .await;

    let directory = tempfile::tempdir().expect("a directory");
    let cluster = &scene.bed.cluster;
    let config = kubeconfig(
        &cluster.admin_kubeconfig(),
        directory.path(),
        &["ana", "bob", "cleo"],
    );
    let program = Path::new(env!("CARGO_BIN_EXE_kubernaut"))
        .parent()
        .expect("a directory");
    let kubectl = cluster.kubectl();
    let shell = Shell {
        directory: directory.path().to_owned(),
        path: vec![
            program.to_owned(),
            kubectl.parent().expect("a directory").to_owned(),
        ],
        environment: vec![("KUBECONFIG".to_owned(), config.display().to_string())],
    };
    let document = format!("{}/docs/guide/src/night.md", env!("CARGO_MANIFEST_DIR"));
    tokio::task::spawn_blocking(move || shell.run(Path::new(&document), "night"))
        .await
        .expect("as the guide has it");
    let checkout = scene.get(crate::scene::DEPLOYMENT, "checkout").await;
    assert_eq!(
        (
            &checkout["spec"]["replicas"],
            &checkout["spec"]["template"]["spec"]["containers"][0]["image"]
        ),
        (&json!(2), &json!(WEB))
    );
}
