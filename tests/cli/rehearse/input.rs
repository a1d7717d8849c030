//! What is wrong with the input is refused in a person's words, with its place, and nothing is run.

use super::{DEPLOYMENT, WORKFLOW, run, text};

/// Runs the workflow with one text replaced by another; it must be refused before anything runs, in these words.
fn refused(from: &str, to: &str, words: &[&str]) {
    assert!(WORKFLOW.contains(from), "nothing to replace: {from}");
    refused_input(&WORKFLOW.replacen(from, to, 1), words);
}

pub(super) fn refused_input(input: &str, words: &[&str]) {
    let output = run(&["-"], input);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{}{errors}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "", "something ran");
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
}

#[test]
fn files_that_are_no_manifests_are_refused_with_file_and_line() {
    refused_input("a: b\nc: [\n", &["-:", "is not YAML"]);
    refused_input("just a text", &["not a Kubernetes object"]);
    refused_input("kind: Pod\nmetadata: {name: a}\n", &["apiVersion", "is missing"]);
    refused_input(
        DEPLOYMENT,
        &["neither a WorkflowExecution nor a KubernetesExecution"],
    );
    let output = run(&["no-such-file.yaml"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("no-such-file.yaml: can't be read"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn what_is_wrong_is_named_with_its_field_before_anything_runs() {
    let steps = "spec.workflowDefinition.steps[0]";
    refused(
        "dependsOn: [1]",
        "dependsOn: [7]",
        &["WorkflowExecution shop/fix", "dependsOn"],
    );
    refused(
        "stepNumber: 2",
        "stepNumber: 1",
        &["spec.workflowDefinition.steps"],
    );
    refused("    - stepNumber: 1\n      name", "    - name", &["stepNumber"]);
    refused("      timeout: 2m\n", "      dependsOn: [2]\n", &["1 -> 2 -> 1"]);
    refused(
        "action: scale-deployment",
        "action: drain-node",
        &[steps, "\"drain-node\" does not fit parameters.scaleDeployment"],
    );
    for duration in ["5 minutes", "-5m", "99999999999999999999h"] {
        refused(
            "timeout: 2m",
            &format!("timeout: \"{duration}\""),
            &["steps[0].timeout"],
        );
    }
    refused(
        "timeout: 2m",
        "timeout: 16m",
        &["steps[0].timeout", "--max-step-timeout"],
    );
    refused(
        "deployment: web, replicas: 3",
        "deployment: \"-web\", replicas: 3",
        &["deployment"],
    );
    refused(
        "replicas: 3}",
        "replicas: 3}\n        cordonNode: {nodeName: a}",
        &["exactly one is needed"],
    );
    refused("replicas: 3", "replica: 3", &["replica"]);
    refused(
        "name: fix, namespace",
        &format!("name: {}, namespace", "a".repeat(53)),
        &["52"],
    );
    refused(
        "namespace: shop}\nspec",
        "namespace: kube-system}\nspec",
        &["kube-system", "protected"],
    );
}

#[test]
fn what_is_wrong_is_named_with_its_own_line() {
    refused("replicas: 3", "replica: 3", &["-:15: WorkflowExecution shop/fix"]);
    refused("name: restart", "name: true", &["-:17: ", "put it in quotes"]);
    refused(
        "dependsOn: [1]",
        "dependsOn: one",
        &["-:19: ", "must be of type array, not string"],
    );
    refused("timeout: 2m", "timeout: 16m", &["-:13: "]);
    // What is missing is missing in the step that begins here.
    refused(
        "      name: restart\n",
        "",
        &["-:16: ", "steps[1].name: Required value"],
    );
    refused(
        "      timeout: 2m\n",
        "      timeout: 2m\n      timeout: 3m\n",
        &["-:14: is not YAML: duplicate"],
    );
    let list = WORKFLOW.replace('\n', "\n  ");
    let list = list.trim_start().replacen("timeout: 2m", "timeout: 2", 1);
    refused_input(
        &format!("apiVersion: v1\nkind: List\nitems:\n- {list}"),
        &["-:15: "],
    );
}

#[test]
fn problems_are_told_in_a_reader_s_words() {
    for (from, to) in [
        ("replicas: 3", "replicas: three"),
        ("replicas: 3", "replicas: 1001"),
        ("stepNumber: 2", "stepNumbr: 2"),
        (
            "name: fix, namespace",
            "name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, namespace",
        ),
        ("timeout: 2m", "timeout: 2m\n      timeout: 3m"),
        ("spec:\n", "...\nspec:\n"),
        (
            "timeout: 2m",
            "timeout: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        ),
    ] {
        let output = run(&["-"], &WORKFLOW.replacen(from, to, 1));
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{to}: {errors}");
        for word in [
            "<nil>",
            " in body ",
            "some validation rules",
            "Options",
            "from_str",
            "budget",
            "error: line",
            ".0",
        ] {
            assert!(!errors.contains(word), "{word:?} is in: {errors}");
        }
    }
}

#[test]
fn a_name_that_is_no_text_is_not_called_missing() {
    refused(
        "name: fix, namespace",
        "name: 123, namespace",
        &["metadata.name: must be of type string"],
    );
    refused(
        "namespace: shop}\nspec",
        "namespace: 1}\nspec",
        &["metadata.namespace: must be of type string"],
    );
    refused(
        "namespace: shop}\nspec",
        "namespace: -shop}\nspec",
        &["metadata.namespace: is not the name of"],
    );
}

#[test]
fn a_typo_in_a_kind_is_not_taken_for_nothing_to_run() {
    refused(
        "kind: WorkflowExecution",
        "kind: WorkflowExecutoin",
        &["-:3: ", "kind", "no kind of this name"],
    );
    let output = run(&["/dev/null", "-"], "");
    assert!(
        text(&output.stderr).contains("/dev/null, -: hold neither"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn the_same_workflow_twice_is_refused_with_both_places() {
    let input = format!("{WORKFLOW}---\n{WORKFLOW}");
    refused_input(
        &input,
        &[
            "-:26: WorkflowExecution shop/fix: metadata.name: is here a second time",
            "is -:2",
        ],
    );
}

#[test]
fn flags_that_nothing_can_honour_are_refused() {
    let input = format!("{DEPLOYMENT}{WORKFLOW}");
    for (flag, word) in [
        ("--apply-manifest-kinds=Deploymnt", "Deploymnt"),
        (
            "--kubectl-image=mirror/tools:1",
            "images that have kubectl in their name",
        ),
    ] {
        let output = run(&[flag, "-"], &input);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag}: {errors}");
        assert!(errors.contains(word), "{errors}");
    }
    // A switch does not take the file for its value.
    let output = run(&["--allow-gitops-managed", "-"], &input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn bad_base64_is_refused_without_showing_the_value() {
    let bad = WORKFLOW
        .replacen("action: scale-deployment", "action: update-secret", 1)
        .replacen(
            "scaleDeployment: {namespace: shop, deployment: web, replicas: 3}",
            "updateSecret: {namespace: shop, name: db, dataUpdates: {password: hunter2!}}",
            1,
        );
    let output = run(&["-"], &bad);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("dataUpdates"), "{errors}");
    assert!(!errors.contains("hunter2"), "the value is shown: {errors}");
}

#[test]
fn bad_base64_of_a_secret_is_named_with_its_key_and_not_shown() {
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\ndata:\n  user: YQ==\n  password: hunter2!\n---";
    let output = run(&["-"], &format!("{secret}{WORKFLOW}"));
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("-:6: Secret db: data.password: is not base64"),
        "{errors}"
    );
    assert!(!errors.contains("hunter2"), "the value is shown: {errors}");
}
