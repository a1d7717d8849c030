//! What stands in the input, and what never does.

use base64::Engine as _;
use kubernaut_crds::{KubernetesExecution, names};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Settings;
use crate::parameters;
use crate::preflight;
use crate::reads::{Read, ReadResults};
use crate::target_state::state_of;

fn settings() -> Settings {
    Settings {
        policy: true,
        apply_manifest_kinds: crate::manifest_kinds::known_kinds(),
        ..Settings::default()
    }
}

fn execution(spec: &Value) -> KubernetesExecution {
    let mut execution = json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": "fix-step-3", "namespace": "shop", "uid": "u"},
        "spec": {"workflowExecutionRef": {"name": "fix", "namespace": "shop", "uid": "w"}, "stepNumber": 3},
    });
    for (name, value) in spec.as_object().unwrap() {
        execution["spec"][name] = value.clone();
    }
    serde_json::from_value(execution).unwrap()
}

/// The input for a target as it is; `None` of one that is not there.
fn input(execution: &KubernetesExecution, object: Option<&Value>) -> Value {
    let settings = settings();
    let checked = parameters::check(execution, &settings).unwrap();
    let scope = preflight::Scope {
        locked: true,
        optional: false,
    };
    let target = preflight::target_read(&checked);
    let reads = preflight::reads(&checked, scope);
    let found = |read: &Read| match object {
        Some(object) if Some(read) == target.as_ref() => vec![object.clone()],
        Some(_) | None => Vec::new(),
    };
    let facts: ReadResults = reads
        .into_iter()
        .map(|read| (read.clone(), found(&read)))
        .collect();
    let preflight = preflight::check(execution, &checked, &facts, &settings).unwrap();
    policy_input(
        execution,
        &checked,
        &preflight,
        Timestamp::from_second(1_800_000_000).unwrap(),
    )
}

#[test]
fn the_input_says_what_is_done_to_what_and_for_whom() {
    let execution = execution(&json!({
        "action": "scale_deployment", "timeout": "90s", "maxRetries": 1, "approvalReceived": true,
        "serviceAccountName": "fixer",
        "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 2}},
    }));
    let deployment = json!({
        "metadata": {"name": "web", "namespace": "shop", "generation": 4, "labels": {"tier": "front"}},
        "spec": {"replicas": 5, "template": {"spec": {"containers": [{"name": "app", "env": [{"name": "TOKEN", "value": "planted"}]}]}}},
        "status": {"readyReplicas": 4, "availableReplicas": 4, "updatedReplicas": 5},
    });
    let input = input(&execution, Some(&deployment));
    assert_eq!(
        input,
        json!({
            "action": "scale-deployment",
            "target": {"kind": "Deployment", "namespace": "shop", "name": "web"},
            "state": {"exists": true, "labels": {"tier": "front"}, "replicas": 5, "readyReplicas": 4, "availableReplicas": 4,
                      "updatedReplicas": 5, "paused": false},
            "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 2}},
            "executing": [],
            "workflow": {"name": "fix", "namespace": "shop"},
            "namespace": "shop",
            "serviceAccountName": "fixer",
            "stepNumber": 3,
            "targetCluster": "",
            "maxRetries": 1,
            "timeoutSeconds": 90.0,
            "approvalReceived": true,
            "rollback": false,
            "dryRun": false,
            "now": "2027-01-15T08:00:00Z",
        })
    );
    let target = TargetRef {
        kind: "Node".to_owned(),
        namespace: None,
        name: "n1".to_owned(),
    };
    let other = Other {
        action: "drain-node",
        target,
        rollback: false,
    };
    let asked = with_others(input, &[other]);
    assert_eq!(
        asked["executing"],
        json!([{"action": "drain-node", "target": {"kind": "Node", "name": "n1"}, "rollback": false}])
    );
}

#[test]
fn what_takes_back_what_another_did_is_a_rollback() {
    let mut execution = execution(&json!({
        "action": "scale-deployment",
        "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 2}},
    }));
    assert!(!is_rollback(&execution));
    // A rollbackSpec is what somebody wrote: nothing says that it takes anything back.
    execution.metadata.labels = Some([(names::LABEL_ROLLBACK.to_owned(), "true".to_owned())].into());
    assert!(!is_rollback(&execution));
    execution.spec.parameters = serde_json::from_value(json!({"undo": {
        "of": "scale-deployment", "patch": "[]",
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "uid": "u"},
    }}))
    .expect("parameters");
    assert!(is_rollback(&execution));
}

#[test]
fn of_a_config_map_policies_see_its_keys_and_of_a_secret_nothing() {
    let target = |kind: &str| TargetRef {
        kind: kind.to_owned(),
        namespace: Some("shop".to_owned()),
        name: "x".to_owned(),
    };
    let map = json!({"metadata": {"name": "x"}, "data": {"b": "planted", "a": "planted"}});
    assert_eq!(
        state_of(&target("ConfigMap"), Some(&map), true),
        json!({"exists": true, "labels": {}, "keys": ["a", "b"]})
    );
    assert_eq!(state_of(&target("Secret"), None, false), json!({}));
    assert_eq!(
        state_of(&target("ConfigMap"), None, true),
        json!({"exists": false})
    );
}

/// Whichever action has values that nobody may see: they are no part of the input.
#[test]
fn no_secret_of_any_action_is_part_of_its_input() {
    let mut seen = 0;
    for kind in ActionKind::ALL {
        for (_, parameters) in kind.samples() {
            let execution = execution(&json!({"action": kind.canonical(), "parameters": parameters}));
            let input = without_values(&execution.spec.parameters).to_string();
            for (operation, _) in crate::actions::unchecked(&execution.spec.parameters) {
                for secret in operation.secrets() {
                    seen += 1;
                    assert!(!input.contains(secret), "{}: {input}", kind.canonical());
                }
            }
        }
    }
    assert!(seen > 0, "an action has secrets");
}

proptest! {
    /// Neither as they are written nor decoded, nor in what is read of the target.
    #[test]
    fn planted_secret_values_never_stand_in_the_input(
        values in prop::collection::btree_map("[a-z]{1,8}", "PLANTED[ -~]{4,40}", 1..6),
        env in "PLANTED[a-zA-Z0-9]{8}",
    ) {
        let encode = |value: &String| base64::engine::general_purpose::STANDARD.encode(value);
        let data: serde_json::Map<String, Value> =
            values.iter().map(|(key, value)| (key.clone(), json!(encode(value)))).collect();
        let secret = execution(&json!({
            "action": "update-secret",
            "parameters": {"updateSecret": {"namespace": "shop", "secret": "db", "data": data}},
        }));
        let text = input(&secret, None).to_string();
        prop_assert!(!text.contains("PLANTED"), "{text}");
        for value in values.values() {
            prop_assert!(!text.contains(&encode(value)), "{text}");
        }
        for key in values.keys() {
            let key = format!("\"{key}\":\"{REMOVED}\"");
            prop_assert!(text.contains(&key), "{text}");
        }
        let restart = execution(&json!({
            "action": "rollout-restart",
            "parameters": {"rolloutRestart": {"namespace": "shop", "deployment": "web"}},
        }));
        let deployment = json!({
            "metadata": {"name": "web", "namespace": "shop", "annotations": {"note": env}},
            "spec": {"template": {"spec": {"containers": [{"name": "app", "env": [{"name": "TOKEN", "value": env}]}]}}},
        });
        let text = input(&restart, Some(&deployment)).to_string();
        prop_assert!(!text.contains("PLANTED"), "{text}");
    }
}
