//! `kubernaut manifests` as an operator meets it, and what becomes of a step whose action is left out.

use crate::rehearse::{program, run, text};

fn refused(arguments: &[&str], words: &[&str]) {
    let output = program("manifests", arguments, "");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert_eq!(text(&output.stdout), "", "something was printed");
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
}

#[test]
fn a_namespace_of_the_cluster_or_of_others_is_not_taken() {
    for flag in ["--executor-namespace", "--controller-namespace"] {
        for namespace in ["kube-system", "kube-node-lease", "default"] {
            refused(
                &[flag, namespace],
                &[flag, namespace, "name one that is kubernaut's alone"],
            );
        }
    }
    refused(
        &["--executor-namespace=vault", "--protected-namespaces=vault"],
        &["--executor-namespace vault", "--protected-namespaces names it"],
    );
}

#[test]
fn what_no_image_or_cluster_is_called_is_refused() {
    refused(&["--image", "bad image!!"], &["--image", "not an image"]);
    refused(&["--kubectl-image", ""], &["--kubectl-image", "not an image"]);
    refused(&["--cluster-name", "X Y"], &["--cluster-name", "no spaces"]);
}

#[test]
fn an_image_without_a_registry_is_printed_with_a_warning() {
    for (image, warned) in [
        ("kubernaut:v1", true),
        ("team/kubernaut:v1", true),
        ("registry.example/kubernaut:v1", false),
        ("localhost:5000/kubernaut:v1", false),
    ] {
        let output = program("manifests", &["--image", image], "");
        assert_eq!(output.status.code(), Some(0));
        assert!(
            text(&output.stdout).contains(&format!("image: {image}")),
            "{image}"
        );
        let errors = text(&output.stderr);
        assert_eq!(errors.contains("names no registry"), warned, "{errors}");
    }
    let output = program("manifests", &["--without-pods"], "");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn every_object_says_what_it_is_of_and_which_version_made_it() {
    let output = program("manifests", &["--image=registry.example/kubernaut:v1"], "");
    let printed = text(&output.stdout);
    assert!(!printed.contains("./dev"), "an operator has no such script");
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&printed).expect("YAML");
    assert!(objects.len() > 50);
    for object in objects {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/name"], "kubernaut", "{object}");
        assert_eq!(
            labels["app.kubernetes.io/version"],
            concat!("v", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(labels["app.kubernetes.io/managed-by"], "kubernaut-manifests");
        // A Deployment can't take another selector with the next version.
        let selector = object["spec"]["selector"]["matchLabels"].as_object();
        assert!(!selector.is_some_and(|labels| labels.contains_key("app.kubernetes.io/version")));
    }
}

#[test]
fn a_step_whose_action_is_left_out_is_refused_before_anything_runs_and_has_no_account() {
    let left = "--actions=rollout-restart,scale-deployment";
    let output = program("manifests", &["--without-pods", left], "");
    let printed = text(&output.stdout);
    assert!(printed.contains("name: rollout-restart-sa") && printed.contains("name: scale-deployment-sa"));
    for account in [
        "update-secret-sa",
        "patch-deployment-sa",
        "apply-manifest-sa",
        "drain-node-sa",
    ] {
        assert!(!printed.contains(&format!("  name: {account}")), "{account}");
    }
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples/rotate-secret.yaml");
    let output = run(&[left, sample], "");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("update-secret is not installed in this cluster") && errors.contains("--actions"),
        "{errors}"
    );
}

#[test]
fn a_config_map_of_policies_is_mounted_whole_and_named_to_the_controller() {
    let output = program(
        "manifests",
        &[
            "--policy-config-map=our-policy",
            "--image=registry.example/kubernaut:v1",
        ],
        "",
    );
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        said.contains("- --policy-dir=/etc/kubernaut/policy\n")
            || said.contains("\"--policy-dir=/etc/kubernaut/policy\""),
        "{said}"
    );
    assert!(
        said.contains("mountPath: /etc/kubernaut/policy") && said.contains("name: our-policy"),
        "{said}"
    );
    assert!(
        !said.contains("subPath"),
        "what is mounted as a single file never changes"
    );
    let usual = text(&program("manifests", &[], "").stdout);
    assert!(!usual.contains("volumeMounts") && !usual.contains("policy-dir"));

    refused(&["--policy-dir=/here"], &["--policy-dir", "--policy-config-map"]);
    refused(
        &["--policy-config-map=Our Policy"],
        &["is not the name of a ConfigMap"],
    );
    refused(
        &["--policy-config-map=p", "--policy-dir=/here"],
        &["cannot be used with"],
    );
}
