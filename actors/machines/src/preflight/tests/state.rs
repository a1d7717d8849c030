//! The state before: what of it is recorded to take the action back.

use super::*;

#[test]
fn what_takes_an_action_back_is_recorded_from_the_state_before() {
    let objects = [
        deployment(),
        pod("web-a"),
        config_map(),
        node("n1", false),
        node("n2", false),
    ];
    let cordoned = [node("n1", true), node("n2", false)];
    let restore = |kind: &str, name: &str, spec: Value| {
        json!({"restorePreviousConfig": {"resourceKind": kind, "namespace": "shop", "name": name,
                                         "previousSpec": spec.to_string()}})
    };
    let template = json!({"template": deployment()["spec"]["template"]});
    let cases = [
        (
            "scale-deployment",
            scale(),
            &objects[..],
            "scale-deployment",
            json!({"scaleToPrevious": {"namespace": "shop", "deployment": "web", "previousReplicas": 3}}),
        ),
        (
            "patch-deployment",
            patch(&json!({"spec": {"minReadySeconds": 5}})),
            &objects,
            "restore",
            // What the patch speaks of, and nothing else.
            restore("Deployment", "web", json!({"minReadySeconds": Value::Null})),
        ),
        (
            "update-image",
            image("app", "app:2"),
            &objects,
            "restore",
            restore("Deployment", "web", template),
        ),
        (
            "cordon-node",
            node_action("cordonNode"),
            &objects,
            "uncordon-node",
            json!({"uncordonNode": {"node": "n1"}}),
        ),
        (
            "drain-node",
            node_action("drainNode"),
            &objects,
            "uncordon-node",
            json!({"uncordonNode": {"node": "n1"}}),
        ),
        (
            "uncordon-node",
            node_action("uncordonNode"),
            &cordoned,
            "cordon-node",
            json!({"cordonNode": {"node": "n1"}}),
        ),
        (
            "update-configmap",
            config(),
            &objects,
            "restore",
            // A key that is added has no value before; keys that are not touched are not recorded.
            restore(
                "ConfigMap",
                "flags",
                json!({"data": {"a": "old", "b": Value::Null}}),
            ),
        ),
        (
            "apply-manifest",
            apply(),
            &objects,
            "restore",
            restore("ConfigMap", "flags", config_map()),
        ),
        (
            "apply-manifest",
            apply(),
            &[],
            "delete",
            json!({"custom": {"description": "delete the object that was created"}}),
        ),
    ];
    for (spelling, parameters, objects, action, recorded) in cases {
        let preflight = examined(spelling, &parameters, objects).expect("no refusal");
        assert_eq!(
            serde_json::to_value(&preflight.rollback).expect("JSON"),
            json!({"available": true, "rollbackAction": action, "rollbackParameters": recorded}),
            "{spelling}"
        );
    }
}

#[test]
fn what_can_not_be_taken_back_says_why() {
    let schedulable = [node("n1", false), node("n2", false)];
    let cordoned = [node("n1", true), node("n2", false)];
    let cases = [
        ("rollout-restart", restart(), &[deployment()][..], "a restart"),
        ("delete-pod", pod_by_name(), &[pod("web-a")], "a deleted pod"),
        (
            "restart-pods",
            pods_by_selector(),
            &[pod("web-a")],
            "a deleted pod",
        ),
        ("update-secret", secret(), &[], "may not read Secrets"),
        (
            "cordon-node",
            node_action("cordonNode"),
            &cordoned,
            "was cordoned before",
        ),
        (
            "drain-node",
            node_action("drainNode"),
            &cordoned,
            "was cordoned before",
        ),
        (
            "uncordon-node",
            node_action("uncordonNode"),
            &schedulable,
            "was schedulable before",
        ),
    ];
    for (spelling, parameters, objects, words) in cases {
        let rollback = examined(spelling, &parameters, objects)
            .expect("no refusal")
            .rollback;
        let reason = rollback.reason.expect("a reason");
        assert!(
            !rollback.available && rollback.rollback_parameters.is_none() && reason.contains(words),
            "{spelling}: {reason}"
        );
    }
}

#[test]
fn a_deployment_that_does_not_say_its_replicas_has_one() {
    let unsaid = with(deployment(), "/spec/replicas", Value::Null);
    let preflight = examined("scale-deployment", &scale(), &[unsaid]).expect("no refusal");
    assert_eq!(
        (preflight.state_summary.as_str(), preflight.impact.as_str()),
        ("replicas: 1", "Replicas: 1 -> 5")
    );
    let to_zero = with(deployment(), "/spec/replicas", json!(0));
    let preflight = examined("scale-deployment", &scale(), &[to_zero]).expect("no refusal");
    let recorded = preflight.rollback.rollback_parameters.expect("recorded");
    assert_eq!(recorded.scale_to_previous.expect("replicas").previous_replicas, 0);
}

#[test]
fn a_state_before_of_more_than_256_kib_is_not_stored() {
    let value_of = |length: usize| with(config_map(), "/data/a", json!("x".repeat(length)));
    let rollback = |length: usize| {
        examined("update-configmap", &config(), &[value_of(length)])
            .expect("no refusal")
            .rollback
    };
    let around = json!({"data": {"a": "", "b": Value::Null}}).to_string().len();
    let fits = rollback(256 * 1024 - around);
    let recorded = fits
        .rollback_parameters
        .and_then(|parameters| parameters.restore_previous_config);
    assert_eq!(recorded.expect("recorded").previous_spec.len(), 256 * 1024);
    let too_large = rollback(256 * 1024 - around + 1);
    assert!(!too_large.available && too_large.rollback_parameters.is_none());
    assert!(
        too_large
            .reason
            .expect("a reason")
            .contains("larger than 256 KiB")
    );
}

#[test]
fn the_object_before_an_apply_is_recorded_without_what_the_server_keeps_for_itself() {
    let stored = with(
        config_map(),
        "/metadata/managedFields",
        json!([{"manager": "kubectl"}]),
    );
    let stored = with(stored, "/status", json!({"phase": "x"}));
    let preflight = examined("apply-manifest", &apply(), &[stored]).expect("no refusal");
    let recorded = preflight
        .rollback
        .rollback_parameters
        .and_then(|parameters| parameters.restore_previous_config)
        .expect("recorded");
    assert_eq!(recorded.previous_spec, config_map().to_string());
}

#[test]
fn the_generation_that_was_read_is_kept_for_the_attempt() {
    let preflight = examined("rollout-restart", &restart(), &[deployment()]).expect("no refusal");
    assert_eq!(preflight.generation, Some(7));
    let preflight = examined("update-secret", &secret(), &[]).expect("no refusal");
    assert_eq!(preflight.generation, None);
}
