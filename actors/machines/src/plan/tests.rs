//! What planning takes, and what it refuses with which words.

use kubernaut_crds::{PlanStrategy, RollbackStrategy};
use serde_json::{Value, json};

use super::*;

/// A step that cordons a node of its own.
fn step(number: i64, depends_on: &[i64]) -> Value {
    json!({"stepNumber": number, "name": format!("s{number}"), "action": "cordon-node", "dependsOn": depends_on,
           "parameters": {"cordonNode": {"nodeName": format!("n{number}")}}})
}

fn workflow(steps: &[Value]) -> Value {
    json!({"apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
           "metadata": {"name": "fix", "namespace": "shop", "uid": "uid-w"},
           "spec": {"workflowDefinition": {"name": "fix", "version": "1", "steps": steps}}})
}

// What is no workflow is a failed test.
#[allow(clippy::unwrap_in_result)]
fn planned(workflow: &Value) -> Result<Plan, Vec<PlanError>> {
    let workflow = serde_json::from_value(workflow.clone()).expect("a workflow");
    let settings = Settings {
        apply_manifest_kinds: vec!["ConfigMap".to_owned()],
        ..Settings::default()
    };
    plan(&workflow, &settings)
}

fn errors(workflow: &Value) -> Vec<String> {
    let errors = planned(workflow).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

/// A workflow of one good step, changed at one place.
fn with(pointer: &str, value: Value) -> Value {
    let mut workflow = workflow(&[step(1, &[])]);
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    workflow.pointer_mut(parent).expect("a parent")[key] = value;
    workflow
}

fn with_step(field: &str, value: Value) -> Value {
    with(&format!("/spec/workflowDefinition/steps/0/{field}"), value)
}

/// A workflow of one step with this action.
fn doing(action: &str, parameters: Value) -> Value {
    let mut workflow = with_step("action", json!(action));
    workflow["spec"]["workflowDefinition"]["steps"][0]["parameters"] = parameters;
    workflow
}

fn one_error(workflow: &Value, place: &str, words: &str) {
    let found = errors(workflow);
    assert!(
        found.len() == 1 && found[0].starts_with(&format!("{place}: ")) && found[0].contains(words),
        "{words:?} at {place} is not the one error of {found:#?}"
    );
}

const STEP: &str = "spec.workflowDefinition.steps[0]";

#[test]
fn a_good_workflow_becomes_the_executions_of_its_steps() {
    let mut definition = workflow(&[step(2, &[1]), step(1, &[])]);
    definition["spec"]["workflowDefinition"]["steps"][0]["criticalStep"] = json!(true);
    let plan = planned(&definition).expect("a plan");
    assert_eq!(plan.steps.keys().copied().collect::<Vec<_>>(), [1, 2]);
    let second = &plan.steps[&2];
    assert_eq!((second.name.as_str(), second.critical), ("s2", true));
    assert_eq!(second.kind, ActionKind::CordonNode);
    assert_eq!(second.target.name, "n2");
    assert_eq!(second.execution.metadata.name.as_deref(), Some("fix-step-2"));
    let rights: Vec<String> = second.rights.iter().map(ToString::to_string).collect();
    assert_eq!(rights, ["get nodes named n2", "patch nodes named n2"]);
    assert!(!plan.steps[&1].critical && plan.warnings.is_empty());
}

#[test]
fn a_workflow_has_one_to_a_hundred_steps() {
    let steps = |count: i64| {
        let steps: Vec<Value> = (1..=count).map(|number| step(number, &[])).collect();
        workflow(&steps)
    };
    let place = "spec.workflowDefinition.steps";
    one_error(&steps(0), place, "has 0 steps; 1 to 100 are needed");
    one_error(&steps(101), place, "has 101 steps; 1 to 100 are needed");
    assert_eq!(errors(&steps(1)), [""; 0]);
    assert_eq!(errors(&steps(100)), [""; 0]);
}

#[test]
fn numbers_and_names_of_steps_are_unique() {
    let mut same_name = step(2, &[]);
    same_name["name"] = json!("s1");
    one_error(
        &workflow(&[step(1, &[]), same_name]),
        "spec.workflowDefinition.steps[1].name",
        "steps[1] (\"s1\"): name: steps[0] has this name",
    );
    let mut same_number = step(1, &[]);
    same_number["name"] = json!("other");
    one_error(
        &workflow(&[step(1, &[]), same_number]),
        "spec.workflowDefinition.steps[1].stepNumber",
        "steps[1] (\"other\"): stepNumber = 1: steps[0] has this number",
    );
}

#[test]
fn numbers_of_steps_are_within_a_thousand() {
    for good in [1, 1000] {
        assert_eq!(errors(&with_step("stepNumber", json!(good))), [""; 0], "{good}");
    }
    for bad in [0, -1, 1001] {
        let words = format!("step {bad} (s1): {bad} is not within 1 to 1000");
        one_error(
            &with_step("stepNumber", json!(bad)),
            &format!("{STEP}.stepNumber"),
            &words,
        );
    }
}

#[test]
fn dependencies_exist_and_are_other_steps() {
    one_error(
        &workflow(&[step(1, &[7])]),
        &format!("{STEP}.dependsOn[0]"),
        "dependsOn[0] = 7: no step has this number",
    );
    one_error(
        &workflow(&[step(1, &[1])]),
        &format!("{STEP}.dependsOn[0]"),
        "dependsOn[0] = 1: a step can't wait for itself",
    );
    let by_name = |dependencies: Value| {
        let mut workflow = workflow(&[step(1, &[]), step(2, &[])]);
        workflow["spec"]["workflowDefinition"]["dependencies"] = dependencies;
        workflow
    };
    one_error(
        &by_name(json!({"s3": ["s1"]})),
        "spec.workflowDefinition.dependencies[s3]",
        "dependencies[\"s3\"]: no step has this name",
    );
    one_error(
        &by_name(json!({"s2": ["s3"]})),
        "spec.workflowDefinition.dependencies[s2][0]",
        "dependencies[\"s2\"][0] = \"s3\": no step has this name",
    );
    one_error(
        &by_name(json!({"s2": ["s2"]})),
        "spec.workflowDefinition.dependencies[s2][0]",
        "dependencies[\"s2\"][0]: a step can't wait for itself",
    );
    assert_eq!(errors(&by_name(json!({"s2": ["s1"]}))), [""; 0]);
}

#[test]
fn a_cycle_is_printed_as_the_path_that_it_is() {
    let steps = [step(1, &[]), step(2, &[5]), step(3, &[2]), step(5, &[3, 1])];
    one_error(
        &workflow(&steps),
        "spec.workflowDefinition.steps",
        "2 -> 5 -> 3 -> 2",
    );
    // Half by number, half by name.
    let mut workflow = workflow(&[step(1, &[2]), step(2, &[])]);
    workflow["spec"]["workflowDefinition"]["dependencies"] = json!({"s2": ["s1"]});
    one_error(&workflow, "spec.workflowDefinition.steps", "1 -> 2 -> 1");
}

#[test]
fn every_conversion_that_fails_is_told_with_its_step() {
    let cases = [
        (json!({}), "", "no known member"),
        (
            json!({"cordonNode": {"nodeName": "n"}, "uncordonNode": {"nodeName": "n"}}),
            "",
            "2 members (cordonNode, uncordonNode)",
        ),
        (
            json!({"deletePod": {"namespace": "shop", "podName": "p", "gracePeriod": "soon"}}),
            ".deletePod.gracePeriod",
            "\"soon\" is not a duration",
        ),
        (
            json!({"drainNode": {"nodeName": "n", "gracePeriod": "61m"}}),
            ".drainNode.gracePeriod",
            "\"61m\" is longer than an hour",
        ),
        (
            json!({"restartPod": {"namespace": "shop"}}),
            ".restartPod",
            "exactly one of podName and selector",
        ),
        (
            json!({"custom": {"actionType": "shell", "config": {}}}),
            ".custom.actionType",
            "\"shell\" is not supported",
        ),
        (
            json!({"custom": {"actionType": "apply-manifest", "config": {}}}),
            ".custom.config.manifest",
            "is missing: it holds",
        ),
        (
            json!({"updateSecret": {"namespace": "shop", "name": "s", "dataUpdates": {"k": "hunter2!"}}}),
            ".updateSecret.dataUpdates.k",
            "is not base64",
        ),
    ];
    for (parameters, field, words) in cases {
        let spelling = match parameters.as_object().and_then(|members| members.keys().next()) {
            Some(member) if member == "deletePod" => "delete-pod",
            Some(member) if member == "drainNode" => "drain-node",
            Some(member) if member == "restartPod" => "restart-pod",
            Some(member) if member == "custom" => "custom",
            Some(member) if member == "updateSecret" => "update-secret",
            _ => "cordon-node",
        };
        let workflow = doing(spelling, parameters);
        one_error(&workflow, &format!("{STEP}.parameters{field}"), words);
        let found = errors(&workflow);
        assert!(
            found[0].contains("step 1 (s1): ") && !found[0].contains("hunter2"),
            "{found:?}"
        );
    }
}

#[test]
fn what_the_executor_would_refuse_is_refused_in_planning() {
    let cases = [
        (
            doing(
                "scale-deployment",
                json!({"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 1001}}),
            ),
            "parameters.scaleDeployment.replicas",
            "1001 is not within 0 to 1000",
        ),
        (
            doing(
                "scale-deployment",
                json!({"scaleDeployment": {"namespace": "kube-system", "deployment": "web", "replicas": 1}}),
            ),
            "parameters.scaleDeployment.namespace",
            "kube-system is protected",
        ),
        (
            doing(
                "restart-pod",
                json!({"restartPod": {"namespace": "shop", "podName": "--all"}}),
            ),
            "parameters.restartPod.podName",
            "\"--all\" is not a name",
        ),
        (
            doing(
                "custom",
                json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": "kind: X"}}}),
            ),
            "parameters.custom.config.manifest",
            "manifest has no apiVersion",
        ),
        (
            with_step("maxRetries", json!(6)),
            "maxRetries",
            "6 is not within 0 to 5",
        ),
    ];
    for (workflow, place, words) in cases {
        one_error(&workflow, &format!("{STEP}.{place}"), words);
    }
}

#[test]
fn a_spelling_goes_with_its_own_member_alone() {
    let by_name = json!({"namespace": "shop", "podName": "p"});
    let image = json!({"namespace": "shop", "deployment": "web", "container": "app", "newImage": "i:2"});
    let patch = json!({"namespace": "shop", "deployment": "web", "patchType": "merge", "patch": "{}"});
    let cases = [
        ("delete-pod", json!({"deletePod": by_name}), true),
        ("restart-pod", json!({"deletePod": by_name}), false),
        ("restart-pod", json!({"restartPod": by_name}), true),
        ("restart-pods", json!({"restartPod": by_name}), true),
        ("delete-pod", json!({"restartPod": by_name}), false),
        ("update-image", json!({"updateImage": image}), true),
        ("patch-deployment", json!({"updateImage": image}), false),
        ("patch-deployment", json!({"patchDeployment": patch}), true),
        ("update-image", json!({"patchDeployment": patch}), false),
        ("drain-node", json!({"cordonNode": {"nodeName": "n"}}), false),
        ("reboot-node", json!({"cordonNode": {"nodeName": "n"}}), false),
    ];
    for (spelling, parameters, fits) in cases {
        let member = parameters.as_object().and_then(|members| members.keys().next());
        let member = member.expect("a member").clone();
        let workflow = doing(spelling, parameters);
        if fits {
            assert_eq!(errors(&workflow), [""; 0], "{spelling}");
        } else {
            let words = format!("{spelling:?} does not fit parameters.{member}: write ");
            one_error(&workflow, &format!("{STEP}.action"), &words);
        }
    }
}

#[test]
fn a_name_that_does_not_fit_hides_no_action_that_is_left_out() {
    let workflow = doing("drain-node", json!({"cordonNode": {"nodeName": "n"}}));
    let workflow = serde_json::from_value(workflow).expect("a workflow");
    let mut settings = Settings::default();
    settings.actions.remove(&ActionKind::CordonNode);
    let found = plan(&workflow, &settings).expect_err("two errors");
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(
        found.len() == 2
            && found[0].contains("does not fit")
            && found[1].contains("cordon-node is not installed"),
        "{found:#?}"
    );
}

#[test]
fn a_bad_timeout_is_told_with_its_step_and_its_text() {
    for (bad, words) in [
        ("soon", "step 1 (s1): \"soon\" is not a duration"),
        ("0s", "0s is too short"),
        ("16m", "16m is too long: at most 15m0s (--max-step-timeout)"),
    ] {
        one_error(
            &with_step("timeout", json!(bad)),
            &format!("{STEP}.timeout"),
            words,
        );
    }
    let mut drain = doing("drain-node", json!({"drainNode": {"nodeName": "n"}}));
    drain["spec"]["workflowDefinition"]["steps"][0]["timeout"] = json!("29s");
    one_error(&drain, &format!("{STEP}.timeout"), "at least 30 s");
}

#[test]
fn a_rollback_spec_that_could_never_run_is_refused() {
    let config = |kind: &str, snapshot: &str| json!({"restorePreviousConfig": {"namespace": "shop", "name": "s", "type": kind, "snapshot": snapshot}});
    let rollback = |parameters: Value, timeout: &str| {
        with_step(
            "rollbackSpec",
            json!({"action": "undo", "parameters": parameters, "timeout": timeout}),
        )
    };
    let uncordon = json!({"uncordonNode": {"nodeName": "n"}});
    let data = r#"{"data": {"a": "1"}}"#;
    for good in [uncordon.clone(), config("ConfigMap", data)] {
        assert_eq!(errors(&rollback(good, "1m")), [""; 0]);
    }
    let place = format!("{STEP}.rollbackSpec");
    one_error(
        &rollback(config("Secret", data), "1m"),
        &place,
        "updateSecret is not reversible",
    );
    one_error(
        &rollback(config("ConfigMap", "{}"), "1m"),
        &place,
        "snapshot has no data",
    );
    one_error(
        &rollback(config("ConfigMap", "{"), "1m"),
        &place,
        "snapshot is not JSON",
    );
    let scale =
        json!({"scaleToPrevious": {"namespace": "kube-system", "deployment": "dns", "previousReplicas": 2}});
    one_error(&rollback(scale, "1m"), &place, "kube-system is protected");
    one_error(&rollback(json!({}), "1m"), &place, "no known member");
    one_error(
        &rollback(uncordon, "later"),
        &place,
        "timeout: \"later\" is not a duration",
    );
    one_error(
        &rollback(json!({"custom": {"actionType": "shell", "config": {}}}), "1m"),
        &place,
        "\"shell\" is not supported",
    );
}

#[test]
fn the_previous_deployment_is_what_the_step_records() {
    let restore = |parameters: Value, deployment: &str, revision: i64| {
        let mut step = step(1, &[]);
        step["action"] = json!(if parameters.get("scaleDeployment").is_some() {
            "scale-deployment"
        } else {
            "restart-deployment"
        });
        step["parameters"] = parameters;
        step["rollbackSpec"] = json!({"action": "restore", "parameters": {"restorePreviousDeployment": {
            "namespace": "shop", "deployment": deployment, "revision": revision}}});
        workflow(&[step])
    };
    let scale = json!({"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 2}});
    let restart = json!({"restartDeployment": {"namespace": "shop", "deployment": "web"}});
    assert_eq!(errors(&restore(scale.clone(), "web", 0)), [""; 0]);
    let place = format!("{STEP}.rollbackSpec");
    one_error(
        &restore(scale.clone(), "web", 4),
        &place,
        "revision 4 is not supported",
    );
    one_error(
        &restore(scale, "other", 0),
        &place,
        "the step records nothing of it",
    );
    one_error(
        &restore(restart, "web", 0),
        &place,
        "the step records nothing of it",
    );
}

#[test]
fn a_spec_of_more_than_256_kib_is_refused() {
    // Two steps: no Job could carry all of it.
    let with_sizes = |values: [usize; 2]| {
        let update = |number: i64| {
            let mut step = step(number, &[]);
            let data = json!({"a": "x".repeat(values[usize::from(number == 2)])});
            step["action"] = json!("update-configmap");
            step["parameters"] =
                json!({"updateConfigMap": {"namespace": "shop", "name": "c", "dataUpdates": data}});
            step
        };
        workflow(&[update(1), update(2)])
    };
    let size = |workflow: &Value| {
        let workflow: WorkflowExecution = serde_json::from_value(workflow.clone()).expect("a workflow");
        serde_json::to_string(&workflow.spec).expect("JSON").len()
    };
    let rest = 256 * 1024 - size(&with_sizes([100_000, 0]));
    let fits = with_sizes([100_000, rest]);
    assert_eq!((size(&fits), errors(&fits)), (256 * 1024, Vec::new()));
    one_error(
        &with_sizes([100_000, rest + 1]),
        "spec",
        "has 262145 bytes as JSON; at most 262144 are allowed",
    );
}

#[test]
fn the_whole_workflow_is_held_to_its_limits() {
    let long = "w".repeat(53);
    one_error(
        &with("/metadata/name", json!(long)),
        "metadata.name",
        "has 53 characters; at most 52",
    );
    assert_eq!(errors(&with("/metadata/name", json!("w".repeat(52)))), [""; 0]);
    for namespace in ["kube-system", "kubernaut-system", "kubernaut-executor"] {
        let workflow = with("/metadata/namespace", json!(namespace));
        one_error(&workflow, "metadata.namespace", "it is protected");
    }
    for (parallel, good) in [(0, false), (1, true), (20, true), (21, false)] {
        let workflow = with("/spec/maxParallelSteps", json!(parallel));
        if good {
            assert_eq!(errors(&workflow), [""; 0], "{parallel}");
        } else {
            one_error(&workflow, "spec.maxParallelSteps", "is not within 1 to 20");
        }
    }
    let mut own = with("/spec/executionStrategy", json!({"maxRetries": 6}));
    own["spec"]["workflowDefinition"]["steps"][0]["maxRetries"] = json!(1);
    one_error(&own, "spec.executionStrategy.maxRetries", "is not within 0 to 5");
}

#[test]
fn what_a_person_asks_of_a_workflow_is_not_for_planning() {
    for (field, value) in [("suspend", json!(true)), ("shutdown", json!("Cancel"))] {
        assert!(
            planned(&with(&format!("/spec/{field}"), value)).is_ok(),
            "{field}"
        );
    }
}

#[test]
fn a_step_that_always_runs_needs_steps_to_clean_up_after() {
    let mut workflow = workflow(&[step(1, &[]), step(2, &[1])]);
    workflow["spec"]["workflowDefinition"]["steps"][1]["always"] = json!(true);
    assert!(planned(&workflow).is_ok());
    workflow["spec"]["workflowDefinition"]["steps"][0]["always"] = json!(true);
    one_error(&workflow, &format!("{STEP}.always"), "needs dependsOn");
}

#[test]
fn warnings_name_their_step() {
    let mut workflow = doing(
        "restart-deployment",
        json!({"restartDeployment": {"namespace": "shop", "deployment": "web", "gracePeriod": "10s"}}),
    );
    workflow["spec"]["workflowDefinition"]["steps"][0]["targetCluster"] = json!("west");
    let warnings = planned(&workflow).expect("a plan").warnings;
    assert_eq!(
        warnings,
        [
            "steps[0] (s1): restartDeployment.gracePeriod has no effect: the pods' own grace period holds",
            "steps[0] (s1): targetCluster \"west\" is taken for this cluster: --cluster-name is not set",
        ]
    );
}

#[test]
fn errors_of_the_workflow_its_graph_and_several_steps_are_reported_at_once() {
    let mut first = step(1, &[2]);
    first["timeout"] = json!("soon");
    let mut second = step(2, &[1]);
    second["action"] = json!("drain-node");
    let mut third = step(3, &[9]);
    third["parameters"] = json!({"cordonNode": {"nodeName": "-n"}});
    let mut workflow = workflow(&[first, second, third]);
    workflow["spec"]["maxParallelSteps"] = json!(0);
    workflow["metadata"]["name"] = json!("w".repeat(60));
    let errors = planned(&workflow).expect_err("errors");
    let places: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        places,
        [
            "metadata.name",
            "spec.maxParallelSteps",
            "spec.workflowDefinition.steps[2].dependsOn[0]",
            "spec.workflowDefinition.steps",
            "spec.workflowDefinition.steps[0].timeout",
            "spec.workflowDefinition.steps[1].action",
            "spec.workflowDefinition.steps[2].parameters.cordonNode.nodeName",
        ]
    );
    assert!(errors[2].message.contains("= 9: no step") && errors[3].message.contains("1 -> 2 -> 1"));
}

#[test]
fn a_step_whose_parameters_can_not_be_converted_tells_its_other_errors_too() {
    let unconvertible = [
        json!({}),
        json!({"cordonNode": {"nodeName": "n"}, "uncordonNode": {"nodeName": "n"}}),
        json!({"drainNode": {"nodeName": "n", "gracePeriod": "soon"}}),
    ];
    for parameters in unconvertible {
        let mut workflow = doing("drain-node", parameters);
        let step = &mut workflow["spec"]["workflowDefinition"]["steps"][0];
        step["stepNumber"] = json!(0);
        step["timeout"] = json!("29s");
        step["maxRetries"] = json!(6);
        step["rollbackSpec"] = json!({"action": "undo", "parameters": {}});
        let is_drain = step["parameters"].get("drainNode").is_some();
        let mut expected = vec!["stepNumber", "rollbackSpec"];
        if is_drain {
            expected.extend(["parameters.drainNode.gracePeriod", "timeout"]);
        } else {
            expected.push("parameters");
        }
        expected.push("maxRetries");
        let errors = planned(&workflow).expect_err("errors");
        let places: Vec<&str> = errors
            .iter()
            .filter_map(|error| error.field.strip_prefix("spec.workflowDefinition.steps[0]."))
            .collect();
        assert_eq!(places, expected);
    }
}

#[test]
fn batches_and_strategy_show_what_can_run_beside_what() {
    use PlanStrategy::{Parallel, Sequential, SequentialWithParallel};
    let cases = [
        (vec![step(1, &[])], Sequential, vec![vec![1]]),
        (
            vec![step(2, &[1]), step(1, &[]), step(3, &[2])],
            Sequential,
            vec![vec![1], vec![2], vec![3]],
        ),
        (vec![step(1, &[]), step(2, &[])], Parallel, vec![vec![1, 2]]),
        (
            vec![step(1, &[]), step(3, &[1]), step(2, &[1]), step(4, &[2, 3])],
            SequentialWithParallel,
            vec![vec![1], vec![2, 3], vec![4]],
        ),
    ];
    for (steps, strategy, batches) in cases {
        let plan = planned(&workflow(&steps)).expect("a plan").execution_plan;
        assert_eq!(plan.strategy, strategy);
        let found: Vec<Vec<i32>> = plan.batches.iter().map(|batch| batch.steps.clone()).collect();
        assert_eq!(found, batches);
        let numbers: Vec<i32> = plan.batches.iter().map(|batch| batch.batch_number).collect();
        assert_eq!(numbers, (1..).take(batches.len()).collect::<Vec<_>>());
    }
}

#[test]
fn the_estimate_is_the_longest_chain_of_timeouts() {
    let mut steps = [step(1, &[]), step(2, &[1]), step(3, &[]), step(4, &[2, 3])];
    for (step, timeout) in steps.iter_mut().zip(["1m", "30s", "10m", "1m30s"]) {
        step["timeout"] = json!(timeout);
    }
    let estimate = |steps: &[Value]| {
        planned(&workflow(steps))
            .expect("a plan")
            .execution_plan
            .estimated_duration
    };
    assert_eq!(estimate(&steps).as_deref(), Some("11m30s"));
    steps[2]["timeout"] = json!("1s");
    assert_eq!(estimate(&steps).as_deref(), Some("3m0s"));
    assert_eq!(estimate(&[step(1, &[])]).as_deref(), Some("5m0s"), "the default");
}

#[test]
fn the_plan_repeats_the_strategy_of_the_workflow() {
    let strategy =
        json!({"rollbackStrategy": "manual", "safetyChecks": [{"type": "rbac", "required": true}]});
    let plan = planned(&with("/spec/executionStrategy", strategy))
        .expect("a plan")
        .execution_plan;
    assert_eq!(plan.rollback_strategy, RollbackStrategy::Manual);
    assert_eq!(plan.safety_checks.len(), 1);
    let plan = planned(&workflow(&[step(1, &[])]))
        .expect("a plan")
        .execution_plan;
    assert_eq!(plan.rollback_strategy, RollbackStrategy::Automatic);
}
