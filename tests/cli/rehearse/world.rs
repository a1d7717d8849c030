//! Where the objects come from that a workflow acts on: its own files, `--world`, or nowhere.

use std::fmt::Write as _;

use serde_json::Value;

use super::{DEPLOYMENT, WORKFLOW, program, run, text};

/// A workflow with these steps, in the order given.
pub(crate) fn workflow(steps: &[&str]) -> String {
    let mut listed = String::new();
    for (number, step) in (1..).zip(steps) {
        let depends = match number {
            1 => String::new(),
            _ => format!("dependsOn: [{}], ", number - 1),
        };
        let _ = writeln!(
            listed,
            "    - {{stepNumber: {number}, name: s{number}, {depends}{step}}}"
        );
    }
    format!(
        "---
apiVersion: workflow.kubernaut.io/v1
kind: WorkflowExecution
metadata: {{name: fix, namespace: shop}}
spec:
  workflowDefinition:
    name: fix
    version: v1
    steps:
{listed}"
    )
}

#[test]
fn a_workflow_without_any_object_gets_a_world_that_every_step_succeeds_in() {
    let input = workflow(&[
        "action: cordon-node, parameters: {cordonNode: {nodeName: n7}}",
        "action: drain-node, parameters: {drainNode: {nodeName: n7, ignoreDaemonSets: true, deleteLocalData: true}}",
        "action: uncordon-node, parameters: {uncordonNode: {nodeName: n8}}",
        "action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 5}}",
        "action: update-image, parameters: {updateImage: {namespace: shop, deployment: web, container: api, newImage: \"api:2\"}}",
        "action: update-configmap, parameters: {updateConfigMap: {namespace: shop, name: conf, dataUpdates: {timeout: 5s}}}",
        "action: update-secret, parameters: {updateSecret: {namespace: db, name: login, dataUpdates: {password: aGVsbG8=}}}",
        "action: restart-pod, parameters: {restartPod: {namespace: shop, podName: cart-6d4-xyz}}",
        "action: restart-pod, parameters: {restartPod: {namespace: shop, selector: 'app=web,tier in (front, back),!old'}}",
        "action: delete-pod, parameters: {deletePod: {namespace: shop, podName: lonely}}",
        "action: restart-deployment, parameters: {restartDeployment: {namespace: shop, deployment: web}}",
        "action: patch-deployment, parameters: {patchDeployment: {namespace: shop, deployment: other, patchType: merge, patch: '{\"spec\":{\"minReadySeconds\":1}}'}}",
    ]);
    let output = run(&["-"], &input);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    for made in [
        "No objects in the files: made up Node n7, ",
        "Node n8 (cordoned), Node node-1, ",
        "Deployment shop/web (3 replicas, container api)",
        "ConfigMap shop/conf (with timeout)",
        "Secret db/login (with password)",
        "Pod shop/cart-6d4-xyz (of a ReplicaSet)",
        "Pod shop/lonely, ",
    ] {
        assert!(said.contains(made), "{made} is not in: {said}");
    }
}

#[test]
fn a_drain_in_a_world_that_is_made_up_meets_what_stands_in_its_way_in_a_cluster() {
    let drain = |flags: &str| {
        let step = format!("action: drain-node, parameters: {{drainNode: {{nodeName: n7, {flags}}}}}");
        let output = run(&["-"], &workflow(&[&step]));
        (output.status.code(), text(&output.stdout))
    };
    let (code, said) = drain("ignoreDaemonSets: false, deleteLocalData: false");
    assert_eq!(code, Some(1), "{said}");
    for words in [
        "DaemonSet kube-system/node-agent (a pod on each node)",
        "ReplicaSet default/cache (2 pods with an emptyDir, and a PodDisruptionBudget of maxUnavailable 1)",
        "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): kube-system/node-agent-",
        "cannot delete Pods with local storage (use --delete-emptydir-data to override): default/cache-n7",
    ] {
        assert!(said.contains(words), "{words} is not in: {said}");
    }
    let (code, said) = drain("ignoreDaemonSets: true, deleteLocalData: true");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("ReplicaSet default/cache: 1 pod replaced"),
        "{said}"
    );
}

#[test]
fn rights_that_come_alone_count_in_the_world_that_is_made_up() {
    let rights = "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: fixer, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default, namespace: shop}]
---
";
    let output = run(&["-"], &format!("{rights}{WORKFLOW}"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
    assert!(
        said.contains("made up Node node-1, Node node-2, Deployment shop/web"),
        "{said}"
    );
    assert!(said.contains("may not patch deployments"), "{said}");
}

#[test]
fn what_was_made_up_is_told_beside_json_and_not_in_it() {
    for (command, flags) in [
        ("rehearse", &["-", "--output=json"][..]),
        ("simulate", &["-", "--output=json", "--seeds=1"]),
    ] {
        let output = program(command, flags, WORKFLOW);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{errors}");
        assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
        assert!(errors.contains("made up"), "{command}: {errors}");
    }
}

#[test]
fn where_there_are_objects_a_missing_target_is_a_finding_and_not_made_up() {
    for input in [
        format!(
            "{}{WORKFLOW}",
            DEPLOYMENT.replace("name: web, namespace", "name: other, namespace")
        ),
        format!("{WORKFLOW}---\n{{apiVersion: v1, kind: Node, metadata: {{name: n1}}}}\n"),
    ] {
        let output = run(&["-"], &input);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
        assert!(!said.contains("No objects in the files"), "{said}");
        assert!(said.contains("deployment/shop/web does not exist"), "{said}");
    }
}

const SHOWN: &str = "tests/cli/rehearse/as-kubectl-shows-it.yaml";

#[test]
fn what_kubectl_shows_of_a_cluster_is_a_world() {
    let input = workflow(&[
        "action: delete-pod, parameters: {deletePod: {namespace: shop, podName: web-5c6d7-aaaaa}}",
        "action: drain-node, parameters: {drainNode: {nodeName: worker-1, ignoreDaemonSets: true, deleteLocalData: true}}",
        "action: uncordon-node, parameters: {uncordonNode: {nodeName: worker-1}}",
        "action: restart-pod, parameters: {restartPod: {namespace: shop, selector: db=main}}",
        "action: update-configmap, parameters: {updateConfigMap: {namespace: shop, name: web, dataUpdates: {timeout: 5s}}}",
        "action: update-secret, parameters: {updateSecret: {namespace: shop, name: web, dataUpdates: {password: aGVsbG8=}}}",
        "action: restart-deployment, parameters: {restartDeployment: {namespace: shop, deployment: web}}",
        "action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 4}}",
    ]);
    let output = run(&["-", "--world", SHOWN], &input);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(said.contains("deleted: web-5c6d7-aaaaa"), "{said}");
    assert!(
        said.contains("Left out, since the embedded cluster does not know them: Widget shop/w."),
        "{said}"
    );
    assert!(!said.contains("No objects in the files"), "{said}");

    let output = run(&["-", "--world", SHOWN, "--output", "json"], &input);
    let all = text(&output.stdout);
    assert!(!all.contains("b2xkLXNlY3JldA=="), "a secret is shown");
    let list: Value = serde_json::from_str(&all).expect("JSON");
    let items = list["items"].as_array().expect("items");
    let of_kind = |kind: &'static str| {
        items
            .iter()
            .filter(move |item| item["kind"] == kind && item["metadata"]["namespace"] == "shop")
    };
    let web = of_kind("Deployment").next().expect("web");
    assert_eq!(web["spec"]["fieldOfALaterVersion"], Value::Null);
    assert_eq!(web["status"]["readyReplicas"], 4);
    // The pods were those of the Deployment, and not there beside others.
    assert_eq!(
        of_kind("Pod")
            .filter(|pod| pod["metadata"]["labels"]["app"] == "web")
            .count(),
        4
    );
    assert_eq!(
        of_kind("Pod")
            .filter(|pod| pod["metadata"]["labels"]["db"] == "main")
            .count(),
        1
    );
    // Beside them are one of a DaemonSet, one that has ended, and one that is on its way out and held there.
    assert_eq!(of_kind("Pod").count(), 8);
}

#[test]
fn a_folder_is_a_world_and_what_the_files_say_counts_more() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.yaml"), DEPLOYMENT).expect("written");
    std::fs::write(folder.path().join("notes.txt"), "not a manifest: [").expect("written");
    let folder = folder.path().to_str().expect("a path");
    let output = run(&["-", "--world", folder], WORKFLOW);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));

    let seven = DEPLOYMENT.replace("replicas: 1", "replicas: 7");
    let output = run(&["-", "--world", folder], &format!("{seven}{WORKFLOW}"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("Replicas: 7 -> 3"), "{said}");
}

#[test]
fn what_is_wrong_with_a_world_is_said_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let empty = tempfile::tempdir().expect("a folder");
    let empty = empty.path().to_str().expect("a path");
    for (world, words) in [
        (
            file("w.yaml", WORKFLOW),
            "w.yaml:2: WorkflowExecution shop/fix: is to be run: name its file without --world",
        ),
        (
            file(
                "b.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: 3\n",
            ),
            "b.yaml:",
        ),
        (empty.to_owned(), "is a folder without manifests"),
        ("nowhere.yaml".to_owned(), "nowhere.yaml: can't be read"),
        ("-".to_owned(), "standard input can be read only once"),
    ] {
        let output = run(&["-", "--world", &world], WORKFLOW);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{}{errors}", text(&output.stdout));
        assert!(errors.contains(words), "{words} is not in: {errors}");
    }
}

#[test]
fn a_cluster_that_can_t_be_read_is_told_in_plain_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = |name: &str, current: &str| {
        let path = folder.path().join(name);
        let content = format!(
            "apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:9'}}}}]
users: [{{name: u, user: {{token: x}}}}]
contexts: [{{name: home, context: {{cluster: c, user: u}}}}]
{current}"
        );
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let home = kubeconfig("home", "current-context: home\n");
    let open = kubeconfig("open", "");
    for (arguments, words) in [
        (
            vec!["--kubeconfig", "/nowhere"],
            "--kubeconfig=/nowhere: the kubeconfig /nowhere can't be read: No such file",
        ),
        (
            vec!["--kubeconfig", &home],
            "error: the cluster home (https://127.0.0.1:9/) can't be reached: Connection refused",
        ),
        (
            vec!["--kubeconfig", &home, "--context", "away"],
            "the kubeconfig has no context \"away\": choose one with --context; there is home",
        ),
        (
            vec!["--kubeconfig", &open],
            "the kubeconfig names no current context: choose one with --context; there is home",
        ),
    ] {
        let arguments = [vec!["-", "--from-cluster"], arguments].concat();
        let output = run(&arguments, WORKFLOW);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{}{errors}", text(&output.stdout));
        assert!(errors.contains(words), "{words} is not in: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let output = run(&["-", "--context", "home"], WORKFLOW);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("--from-cluster"),
        "{}",
        text(&output.stderr)
    );
}
