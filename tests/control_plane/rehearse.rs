//! `kubernaut rehearse --from-cluster`: what a real cluster has is read with a person's own rights, and nothing is written there.

use std::path::Path;
use std::process::Output;

use kubernaut_testbed::ControlPlane;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::audit::is_write;
use crate::bed::{BedOptions, FakeNodes};

const WORLD: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: people}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: server, image: 'registry.example/server:1'}]}
---
{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web, namespace: shop}, spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: shop}, data: {timeout: 1s}}
---
{apiVersion: v1, kind: Secret, metadata: {name: db, namespace: shop}, data: {password: b2xkLXNlY3JldA==}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: fixer, namespace: shop}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: fixer, namespace: shop}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: ServiceAccount, name: fixer, namespace: shop}]}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: viewer, namespace: people}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: auditor, namespace: people}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: careless, namespace: people}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: nobody, namespace: people}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: people-nodes}
rules: [{apiGroups: [''], resources: [nodes], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: people-all}
rules: [{apiGroups: ['*'], resources: ['*'], verbs: [get, list]}]
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: people-view}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: ServiceAccount, name: viewer, namespace: people}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: people-nodes}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: people-nodes}, subjects: [{kind: ServiceAccount, name: viewer, namespace: people}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: people-all}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: people-all}, subjects: [{kind: ServiceAccount, name: auditor, namespace: people}, {kind: ServiceAccount, name: careless, namespace: people}]}
";

/// A cluster that knows nothing of kubernaut.
async fn cluster() -> &'static FakeNodes {
    static CLUSTER: OnceCell<FakeNodes> = OnceCell::const_new();
    CLUSTER
        .get_or_init(async || {
            let nodes = FakeNodes::start(BedOptions::default()).await;
            nodes.apply_yaml(WORLD).await.expect("applied");
            let rolled_out = [
                "rollout",
                "status",
                "deployment/web",
                "--namespace=shop",
                "--timeout=60s",
            ];
            nodes.run_kubectl(&rolled_out).await.expect("three pods");
            nodes
        })
        .await
}

fn workflow(steps: &str) -> String {
    format!(
        "
apiVersion: workflow.kubernaut.io/v1
kind: WorkflowExecution
metadata: {{name: fix, namespace: shop}}
spec:
  serviceAccountName: fixer
  workflowDefinition:
    name: fix
    version: v1
    steps:
{steps}"
    )
}

async fn run(cluster: &ControlPlane, user: &str, arguments: &[&str], input: &str) -> Output {
    let kubeconfig = cluster
        .kubeconfig_for_service_account("people", user, None)
        .await
        .expect("a kubeconfig");
    run_with(&kubeconfig, arguments, input)
}

fn run_with(kubeconfig: &Path, arguments: &[&str], input: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("workflow.yaml");
    std::fs::write(&file, input).expect("written");
    std::process::Command::new(env!("CARGO_BIN_EXE_kubernaut"))
        .arg("rehearse")
        .arg(file)
        .arg("--from-cluster")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .output()
        .expect("the program")
}

/// In a world as kubectl shows it, without a cluster.
fn run_in(world: &Path, file: &Path) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_kubernaut"))
        .arg("rehearse")
        .arg(file)
        .arg("--world")
        .arg(world)
        .output()
        .expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn all(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// What a user of namespace people asked for.
fn asked(cluster: &ControlPlane, user: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(cluster.audit_log()).expect("an audit log");
    let user = format!("system:serviceaccount:people:{user}");
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|entry| entry["user"]["username"] == user.as_str())
        .collect()
}

async fn state(cluster: &ControlPlane) -> String {
    let columns =
        "--output=custom-columns=K:.kind,N:.metadata.name,U:.metadata.uid,V:.metadata.resourceVersion";
    let of_namespace = [
        "get",
        "deploy,rs,pod,cm,secret,pdb,sa",
        "--namespace=shop",
        columns,
    ];
    cluster.run_kubectl(&of_namespace).await.expect("a list")
}

#[tokio::test]
async fn what_a_cluster_has_is_rehearsed_and_nothing_is_written_there() {
    let cluster = cluster().await;
    let pods = [
        "get",
        "pod",
        "--namespace=shop",
        "--output=jsonpath={.items[0].metadata.name} {.items[0].spec.nodeName}",
    ];
    let pod = cluster.run_kubectl(&pods).await.expect("a pod");
    let (pod, node) = pod.split_once(' ').expect("a pod on a node");
    let before = state(cluster).await;
    let steps = format!(
        "    - {{stepNumber: 1, name: a, action: scale-deployment, parameters: {{scaleDeployment: {{namespace: shop, deployment: web, replicas: 5}}}}}}
    - {{stepNumber: 2, name: b, action: update-configmap, parameters: {{updateConfigMap: {{namespace: shop, name: settings, dataUpdates: {{timeout: 5s}}}}}}}}
    - {{stepNumber: 3, name: c, action: update-secret, parameters: {{updateSecret: {{namespace: shop, name: db, dataUpdates: {{password: bmV3LXNlY3JldA==}}}}}}}}
    - {{stepNumber: 4, name: d, action: restart-pod, dependsOn: [1], parameters: {{restartPod: {{namespace: shop, podName: {pod}}}}}}}
    - {{stepNumber: 5, name: e, action: drain-node, dependsOn: [4], parameters: {{drainNode: {{nodeName: {node}, ignoreDaemonSets: true, deleteLocalData: true}}}}}}
    - {{stepNumber: 6, name: f, action: restart-deployment, dependsOn: [5], parameters: {{restartDeployment: {{namespace: shop, deployment: web}}}}}}
"
    );
    let output = run(cluster, "viewer", &[], &workflow(&steps)).await;
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    for words in [
        "Read from test (https://127.0.0.1:",
        "Deployment shop/web",
        "PodDisruptionBudget shop/web",
        "3 Pods",
        "2 Nodes",
        "Not allowed to read: ClusterRoleBindings, ClusterRoles, ",
        "Secret shop/db (taken to be there, with the keys of the step)",
        "rights are not checked",
        "  -   replicas: 3\n  +   replicas: 5\n",
        &format!("deleted: {pod}"),
    ] {
        assert!(said.contains(words), "{words} is not in: {said}");
    }
    assert_eq!(state(cluster).await, before, "something was written");
    let asked = asked(cluster, "viewer");
    assert!(asked.len() > 5, "the audit log shows what was read: {asked:?}");
    assert!(
        asked
            .iter()
            .all(|entry| !is_write(entry)
                && ["get", "list"].contains(&entry["verb"].as_str().unwrap_or_default())),
        "{asked:?}"
    );
}

#[tokio::test]
async fn rights_are_those_of_the_cluster_where_they_may_be_read() {
    let cluster = cluster().await;
    let steps = "    - {stepNumber: 1, name: a, action: update-secret, parameters: {updateSecret: {namespace: shop, name: db, dataUpdates: {password: bmV3LXNlY3JldA==}}}}
";
    let output = run(cluster, "auditor", &[], &workflow(steps)).await;
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    assert!(
        said.contains("ServiceAccount shop/fixer may not get secrets named db in namespace shop"),
        "{said}"
    );
    assert!(!said.contains("Not allowed to read"), "{said}");
    // A file grants what the cluster does not.
    let grant = "---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: more, namespace: shop}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}, subjects: [{kind: ServiceAccount, name: fixer, namespace: shop}]}
";
    let input = format!("{}{grant}", workflow(steps));
    for form in ["text", "json", "yaml"] {
        let output = run(
            cluster,
            "auditor",
            &["--output", form, "--log-level", "debug"],
            &input,
        )
        .await;
        assert_eq!(output.status.code(), Some(0), "{}", all(&output));
        for secret in ["b2xkLXNlY3JldA==", "old-secret", "bmV3LXNlY3JldA==", "new-secret"] {
            assert!(!all(&output).contains(secret), "{form} shows {secret}");
        }
    }
    assert!(asked(cluster, "auditor").iter().all(|entry| !is_write(entry)));
}

#[tokio::test]
async fn a_file_of_somebody_else_leads_to_nothing_but_what_its_kinds_are() {
    let cluster = cluster().await;
    let places = [
        "v1/namespaces/shop/secrets/db?x=",
        "/api/v1/namespaces/shop/secrets/db?x=",
        "v1/namespaces/shop/services/http:web:80/proxy",
        "v1/namespaces/shop/pods/web/exec?command=id&x=",
        "v1%2Fnamespaces%2Fshop%2Fsecrets",
    ];
    for place in places {
        for steps in [
            format!(
                "    - {{stepNumber: 1, name: a, action: apply-manifest, parameters: {{custom: {{actionType: apply-manifest, config: {{manifest: '{{\"apiVersion\": \"{place}\", \"kind\": \"ConfigMap\", \"metadata\": {{\"name\": \"a\", \"namespace\": \"shop\"}}}}'}}}}}}}}\n"
            ),
            format!(
                "    - {{stepNumber: 1, name: a, action: scale-deployment, parameters: {{scaleDeployment: {{namespace: shop, deployment: '../{place}', replicas: 5}}}}}}\n"
            ),
        ] {
            let flags = ["--apply-manifest-kinds=ConfigMap"];
            let output = run(cluster, "careless", &flags, &workflow(&steps)).await;
            assert!(
                matches!(output.status.code(), Some(1 | 2)),
                "{place}: {}",
                all(&output)
            );
            for secret in ["b2xkLXNlY3JldA", "old-secret"] {
                assert!(!all(&output).contains(secret), "{place}: {}", all(&output));
            }
        }
    }
    // An object whose kind is none, and one with words for a terminal in its name.
    let input = "{apiVersion: v1, kind: Pod/exec, metadata: {name: \"a\\e[2Jb\", namespace: shop}}\n";
    let output = run(cluster, "careless", &[], input).await;
    assert_eq!(output.status.code(), Some(2), "{}", all(&output));
    assert!(!all(&output).contains('\u{1b}'), "{:?}", all(&output));
    for entry in asked(cluster, "careless") {
        let uri = entry["requestURI"].as_str().expect("a URI");
        let read = ["get", "list"].contains(&entry["verb"].as_str().unwrap_or_default());
        let elsewhere = ["/secrets", "proxy", "exec", "%2F", ".."]
            .iter()
            .any(|part| uri.contains(part));
        assert!(read && !elsewhere, "{uri}");
    }
}

#[tokio::test]
async fn who_may_read_nothing_and_whom_nobody_knows_is_told_so() {
    let cluster = cluster().await;
    let steps = "    - {stepNumber: 1, name: a, action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 5}}}
";
    let output = run(cluster, "nobody", &[], &workflow(steps)).await;
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    assert!(
        said.contains("Not allowed to read: ") && said.contains("Deployment shop/web"),
        "{said}"
    );
    assert!(said.contains("to do: "), "{said}");

    let kubeconfig = cluster
        .kubeconfig_for_service_account("people", "nobody", None)
        .await
        .expect("a kubeconfig");
    let mut known: Value =
        serde_json::from_str(&std::fs::read_to_string(kubeconfig).expect("a file")).expect("JSON");
    known["users"][0]["user"]["token"] = "stale".into();
    let folder = tempfile::tempdir().expect("a folder");
    let stale = folder.path().join("stale");
    std::fs::write(&stale, known.to_string()).expect("written");
    let output = run_with(&stale, &[], &workflow(steps));
    assert_eq!(output.status.code(), Some(2), "{}", all(&output));
    assert!(
        text(&output.stderr).contains("does not accept the credentials of the kubeconfig: log in again"),
        "{}",
        all(&output)
    );
}

#[tokio::test]
async fn what_kubectl_shows_of_everything_is_a_world() {
    let cluster = cluster().await;
    let kinds = "deploy,rs,sts,ds,pod,cm,secret,sa,node,pdb,ns,svc,endpoints,endpointslices,events,leases,priorityclasses,crd";
    let rights = "roles,rolebindings,clusterroles,clusterrolebindings";
    let steps = "    - {stepNumber: 1, name: a, action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 5}}}
    - {stepNumber: 2, name: b, action: update-secret, parameters: {updateSecret: {namespace: shop, name: db, dataUpdates: {password: bmV3LXNlY3JldA==}}}}
";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("workflow.yaml");
    std::fs::write(&file, workflow(steps)).expect("written");
    for (kinds, words) in [
        (kinds.to_owned(), "workflow shop/fix: completed, success"),
        // The account may view and nothing else.
        (
            format!("{kinds},{rights}"),
            "nor patch deployments/scale in group apps named web",
        ),
    ] {
        for form in ["yaml", "json"] {
            let shown = cluster
                .run_kubectl(&["get", &kinds, "--all-namespaces", &format!("--output={form}")])
                .await
                .expect("a list");
            let world = folder.path().join("world.yaml");
            std::fs::write(&world, shown).expect("written");
            let output = run_in(&world, &file);
            let said = all(&output);
            assert!(said.contains(words), "{words} is not in: {said}");
            assert!(!said.contains("b2xkLXNlY3JldA=="), "a secret is shown");
        }
    }
}

/// Services with all that hangs on them.
const SERVICES: usize = 100;
/// Settings beside each of them.
const SETTINGS: usize = 9;

fn service(number: usize, image: usize) -> String {
    let name = format!("app-{number}");
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: big}}
spec:
  replicas: 2
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: server
        image: registry.example/{name}:{image}
        env: [{{name: A, value: {long}}}, {{name: B, value: {long}}}, {{name: C, value: {long}}}]
        resources: {{requests: {{cpu: 1m, memory: 1Mi}}}}
---
",
        long = "x".repeat(80)
    )
}

fn beside(number: usize) -> String {
    let name = format!("app-{number}");
    let settings: Vec<String> = (0..SETTINGS)
        .map(|which| {
            format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}-{which}, namespace: big}}, data: {{a: b}}}}\n---\n")
        })
        .collect();
    format!(
        "{}{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: big}}, spec: {{selector: {{app: {name}}}, ports: [{{port: 80}}]}}}}\n---\n\
         {{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {{name: {name}, namespace: big}}, spec: {{maxUnavailable: 1, selector: {{matchLabels: {{app: {name}}}}}}}}}\n---\n",
        settings.concat()
    )
}

#[tokio::test]
async fn a_cluster_of_1700_objects_as_kubectl_shows_it_is_rehearsed_at_once() {
    let cluster = FakeNodes::start(BedOptions::default()).await;
    let mut world = "{apiVersion: v1, kind: Namespace, metadata: {name: big}}\n---\n".to_owned();
    world.extend((0..SERVICES).map(beside));
    cluster.apply_yaml(&world).await.expect("applied");
    // Each change of the template leaves a ReplicaSet.
    for image in 1..=2 {
        let services: String = (0..SERVICES).map(|number| service(number, image)).collect();
        cluster.apply_yaml(&services).await.expect("applied");
        let rolled_out = [
            "rollout",
            "status",
            "deployment",
            "--namespace=big",
            "--timeout=300s",
        ];
        cluster.run_kubectl(&rolled_out).await.expect("two pods each");
    }
    let kinds = "deploy,rs,sts,ds,pod,cm,sa,node,pdb,ns,svc,endpoints,endpointslices,priorityclasses";
    let shown = cluster
        .run_kubectl(&["get", kinds, "--all-namespaces", "--output=yaml"])
        .await
        .expect("a list");
    let objects = shown
        .lines()
        .filter(|line| line.starts_with("- apiVersion:"))
        .count();
    assert!(objects >= 1_700, "{objects} objects");
    let folder = tempfile::tempdir().expect("a folder");
    let (file, world) = (
        folder.path().join("workflow.yaml"),
        folder.path().join("world.yaml"),
    );
    let steps = "    - {stepNumber: 1, name: a, action: restart-deployment, parameters: {restartDeployment: {namespace: big, deployment: app-7}}}\n";
    let workflow = workflow(steps)
        .replace("namespace: shop", "namespace: big")
        .replace("  serviceAccountName: fixer\n", "");
    std::fs::write(&file, workflow).expect("written");
    std::fs::write(&world, shown).expect("written");
    let begun = std::time::Instant::now();
    let output = run_in(&world, &file);
    let took = begun.elapsed();
    println!("{objects} objects were rehearsed in {took:?}");
    let said = all(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("Deployment big/app-7"), "{said}");
    assert!(
        !said.contains("Deployment big/app-8"),
        "others are as they were: {said}"
    );
    let most = if cfg!(debug_assertions) { 90 } else { 3 };
    assert!(took.as_secs() < most, "{took:?}");
}
