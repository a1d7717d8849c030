//! What a rehearsal says of a workflow in the end: steps by their names, undo by kubectl, warnings, rights to paste.

use super::world::workflow;
use super::{DEPLOYMENT, run, text};

const CONFIG: &str =
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: conf, namespace: shop}, data: {a: \"it's\"}}
---
";
const NODES: &str = "{apiVersion: v1, kind: Node, metadata: {name: n1}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {unschedulable: true}}
---
{apiVersion: v1, kind: Node, metadata: {name: n3}}
---
";
const SCALE: &str = "action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 3}}";
const FAILS: &str = "criticalStep: true, action: cordon-node, parameters: {cordonNode: {nodeName: gone}}";

/// What is said from the verdict on, of what ended with this code.
fn verdict(code: i32, input: &str, flags: &[&str]) -> String {
    let output = run(&[&["-"], flags].concat(), input);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{said}{}", text(&output.stderr));
    let (_, verdict) = said.split_once("\nworkflow ").expect("a verdict");
    verdict.to_owned()
}

#[test]
fn what_a_failed_workflow_changed_is_undone_by_lines_to_paste_the_last_step_first() {
    let steps = by_hand(&[
        SCALE,
        "action: update-image, parameters: {updateImage: {namespace: shop, deployment: web, container: web, newImage: 'web:2'}}",
        "action: update-configmap, parameters: {updateConfigMap: {namespace: shop, name: conf, dataUpdates: {a: x, b: 'y'}}}",
        "action: cordon-node, parameters: {cordonNode: {nodeName: n1}}",
        "action: uncordon-node, parameters: {uncordonNode: {nodeName: n2}}",
        "action: apply-manifest, parameters: {custom: {actionType: apply-manifest, config: {manifest: '{apiVersion: v1, kind: ConfigMap, metadata: {name: new, namespace: shop}, data: {a: z}}'}}}",
        FAILS,
    ]);
    let said = verdict(
        1,
        &format!("{NODES}{CONFIG}{DEPLOYMENT}{steps}"),
        &["--apply-manifest-kinds=ConfigMap"],
    );
    let undo: Vec<&str> = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("to undo step "))
        .collect();
    assert_eq!(
        undo,
        [
            "6 (s6): kubectl -n shop delete configmap/new",
            "5 (s5): kubectl cordon n2",
            "4 (s4): kubectl uncordon n1",
            "3 (s3): kubectl -n shop patch configmap/conf --type=merge -p '{\"data\":{\"a\":\"it'\\''s\",\"b\":null}}'",
            "2 (s2): kubectl -n shop set image deployment/web web=web:1",
            "1 (s1): kubectl -n shop scale deployment/web --replicas=1",
        ],
        "{said}"
    );
    assert_eq!(said.matches("Nothing was undone.").count(), 1, "{said}");
    assert!(!said.contains("rollbackStrategy"), "{said}");
}

/// A workflow of which a person undoes what is to be undone.
fn by_hand(steps: &[&str]) -> String {
    workflow(steps).replacen(
        "spec:\n",
        "spec:\n  executionStrategy: {rollbackStrategy: manual}\n",
        1,
    )
}

#[test]
fn where_nothing_was_changed_nothing_is_to_be_undone() {
    let apply = "criticalStep: true, action: apply-manifest, parameters: {custom: {actionType: apply-manifest, config: {manifest: '{apiVersion: v1, kind: ConfigMap, metadata: {name: new, namespace: shop}, data: {a: 5}}'}}}";
    for step in [apply, FAILS] {
        let said = verdict(
            1,
            &format!("{NODES}{CONFIG}{}", by_hand(&[step])),
            &["--apply-manifest-kinds=ConfigMap"],
        );
        assert!(!said.contains("undo"), "{said}");
        let said = verdict(
            1,
            &format!("{NODES}{CONFIG}{}", workflow(&[step])),
            &["--apply-manifest-kinds=ConfigMap"],
        );
        assert!(said.contains("nothing was to be undone"), "{said}");
    }
}

#[test]
fn steps_are_told_by_their_names_with_their_targets_while_they_run_and_in_the_end() {
    let output = run(&["-"], &format!("{DEPLOYMENT}{}", super::WORKFLOW));
    let said = text(&output.stdout);
    for words in [
        "execution shop/fix-step-1 scale  completed",
        "\n  step 1   scale    completed  deployment/shop/web: ",
        "\n  step 2   restart  completed  deployment/shop/web: ",
        "\n  2 of 2 steps completed\n",
    ] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
}

#[test]
fn a_workflow_that_did_only_a_part_says_so_in_capitals() {
    let gone = SCALE.replace("deployment: web", "deployment: gone");
    let said = verdict(1, &format!("{DEPLOYMENT}{}", workflow(&[SCALE, &gone])), &[]);
    assert!(
        said.contains("NOT ALL OF IT WAS DONE: 1 of 2 steps completed; failed: 2 (s2)"),
        "{said}"
    );
}

#[test]
fn an_autoscaler_on_what_is_scaled_is_a_warning() {
    let hpa = "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: keeper, namespace: shop}, spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, minReplicas: 1, maxReplicas: 9}}\n---\n";
    let said = verdict(0, &format!("{hpa}{DEPLOYMENT}{}", workflow(&[SCALE])), &[]);
    assert!(
        said.contains("warning: HorizontalPodAutoscaler keeper scales this Deployment too"),
        "{said}"
    );
}

#[test]
fn what_kubectl_said_is_told_once_and_its_last_error_first() {
    let alone = "{apiVersion: v1, kind: Pod, metadata: {name: alone, namespace: shop}, spec: {nodeName: n1, containers: [{name: a, image: 'a:1'}]}}\n---\n";
    let drain = "criticalStep: true, action: drain-node, timeout: 1m, parameters: {drainNode: {nodeName: n1, ignoreDaemonSets: true, deleteLocalData: true}}";
    let said = verdict(1, &format!("{NODES}{alone}{}", by_hand(&[drain])), &[]);
    let head = said.lines().nth(1).unwrap_or_default();
    assert!(
        head.contains("critical step 1 (s1) failed: error: cannot delete Pods"),
        "{said}"
    );
    assert_eq!(
        said.matches("There are pending nodes to be drained").count(),
        1,
        "{said}"
    );
    assert!(
        said.contains("if step 1 (s1) has changed node/n1, to undo it: kubectl uncordon n1"),
        "{said}"
    );
}

#[test]
fn rights_that_are_missing_come_as_roles_that_a_second_rehearsal_is_satisfied_with() {
    let none = "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: none, namespace: shop}, rules: []}\n---\n";
    let input = format!("{none}{DEPLOYMENT}{}", workflow(&[SCALE]));
    let said = verdict(1, &input, &[]);
    let (_, roles) = said.split_once("without rights:\n").expect("roles");
    let (roles, _) = roles.split_once("\n\nRehearsal only").expect("the last line");
    let roles: Vec<&str> = roles
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect();
    let granted = format!("{}\n---\n{input}", roles.join("\n"));
    verdict(0, &granted, &[]);
}

#[test]
fn another_attempt_has_a_line_of_the_log() {
    let refused = "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: tight, namespace: shop}, spec: {maxUnavailable: 0, selector: {matchLabels: {app: web}}}}\n---\n";
    let restart =
        "action: restart-pod, timeout: 1m, parameters: {restartPod: {namespace: shop, selector: app=web}}";
    let output = run(&["-"], &format!("{refused}{DEPLOYMENT}{}", workflow(&[restart])));
    let said = text(&output.stdout);
    assert!(
        said.contains("execution shop/fix-step-1 s1  attempt 2  "),
        "{said}"
    );
}

#[test]
fn a_workflow_is_rehearsed_with_its_dry_runs_and_safety_checks_and_says_what_they_found() {
    let first = "spec:\n  executionStrategy:\n    dryRunFirst: true\n    safetyChecks:\n    - {type: health, required: true}\n    \
                 - {type: network, required: true}\n    - {type: capacity}\n    - {type: rbac, required: true}\n";
    let steps = workflow(&[
        SCALE,
        "action: apply-manifest, parameters: {custom: {actionType: apply-manifest, config: {manifest: '{apiVersion: v1, kind: ConfigMap, metadata: {name: new, namespace: shop}, data: {a: z}}'}}}",
        "action: update-configmap, parameters: {updateConfigMap: {namespace: shop, name: new, dataUpdates: {a: x}}}",
    ]);
    let steps = steps.replacen("spec:\n", first, 1);
    let said = verdict(
        0,
        &format!("{NODES}{DEPLOYMENT}{steps}"),
        &["--apply-manifest-kinds=ConfigMap"],
    );
    let issue = "dry run: step 3 (s3) can't be tried now; it runs after 2 (s2)";
    assert!(said.contains(issue), "{said}");
    assert!(!said.contains("warning: "), "{said}");
    let missing = "action: cordon-node, parameters: {cordonNode: {nodeName: gone}}";
    let steps = workflow(&[SCALE, missing]).replacen("spec:\n", first, 1);
    let said = verdict(1, &format!("{NODES}{DEPLOYMENT}{steps}"), &[]);
    assert!(
        said.contains("safety check health failed: step 2 (s2): node/gone does not exist"),
        "{said}"
    );
}
