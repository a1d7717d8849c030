//! Pairs for the rules of our own kinds: an object that passes, and one that is refused.

use serde_json::{Value, json};

use super::super::super::bodies::{execution, with, workflow};

const STEPS: &str = "/spec/workflowDefinition/steps";
const PARAMETERS: &str = "/spec/workflowDefinition/steps/0/parameters";

/// What is tried, an object that passes, one that does not, and what the answer must say.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn creations() -> Vec<(&'static str, Value, Value, &'static str)> {
    let we = || workflow("pair");
    let ke = || execution("pair");
    let set = |pointer: &str, value: Value| with(we(), pointer, value);
    let put = |pointer: &str, value: Value| with(ke(), pointer, value);
    let step = |number: i64| {
        json!({"stepNumber": number, "name": format!("s{number}"), "action": "cordon-node",
               "parameters": {"cordonNode": {"nodeName": "n1"}}})
    };
    let steps = |count: i64| Value::Array((1..=count).map(step).collect());
    let member = |member: Value| set(PARAMETERS, member);
    let delete_pod =
        |grace: &str| json!({"deletePod": {"namespace": "shop", "podName": "web-1", "gracePeriod": grace}});
    vec![
        (
            "100 steps",
            set(STEPS, steps(100)),
            set(STEPS, steps(101)),
            "must have at most 100 items",
        ),
        (
            "unique stepNumber",
            we(),
            set("/spec/workflowDefinition/steps/1/stepNumber", json!(1)),
            "Duplicate value",
        ),
        (
            "missing stepNumber",
            we(),
            set("/spec/workflowDefinition/steps/0/stepNumber", Value::Null),
            "stepNumber: Required value",
        ),
        (
            "stepNumber from 1",
            we(),
            set("/spec/workflowDefinition/steps/0/stepNumber", json!(0)),
            "greater than or equal to 1",
        ),
        (
            "timeout in words",
            set("/spec/workflowDefinition/steps/0/timeout", json!("1h30m")),
            set("/spec/workflowDefinition/steps/0/timeout", json!("5 minutes")),
            "timeout in body should match",
        ),
        (
            "negative timeout",
            set("/spec/workflowDefinition/steps/0/timeout", json!("1.5h")),
            set("/spec/workflowDefinition/steps/0/timeout", json!("-5m")),
            "timeout in body should match",
        ),
        (
            "endless timeout",
            set("/spec/workflowDefinition/steps/0/timeout", json!("9999999h")),
            set(
                "/spec/workflowDefinition/steps/0/timeout",
                json!("99999999999999999999h"),
            ),
            "timeout in body should match",
        ),
        (
            "maxRetries",
            set("/spec/workflowDefinition/steps/0/maxRetries", json!(5)),
            set("/spec/workflowDefinition/steps/0/maxRetries", json!(6)),
            "less than or equal to 5",
        ),
        (
            "strategy's maxRetries",
            set("/spec/executionStrategy", json!({"maxRetries": 0})),
            set("/spec/executionStrategy", json!({"maxRetries": -1})),
            "greater than or equal to 0",
        ),
        (
            "rollbackStrategy",
            set("/spec/executionStrategy", json!({"rollbackStrategy": "manual"})),
            set(
                "/spec/executionStrategy",
                json!({"rollbackStrategy": "sometimes"}),
            ),
            "Unsupported value",
        ),
        (
            "safety check",
            set(
                "/spec/executionStrategy",
                json!({"safetyChecks": [{"type": "rbac"}]}),
            ),
            set(
                "/spec/executionStrategy",
                json!({"safetyChecks": [{"type": "luck"}]}),
            ),
            "Unsupported value",
        ),
        (
            "maxParallelSteps",
            set("/spec/maxParallelSteps", json!(20)),
            set("/spec/maxParallelSteps", json!(21)),
            "less than or equal to 20",
        ),
        (
            "ttl",
            set("/spec/ttlSecondsAfterFinished", json!(0)),
            set("/spec/ttlSecondsAfterFinished", json!(-1)),
            "greater than or equal to 0",
        ),
        (
            "serviceAccountName",
            set("/spec/serviceAccountName", json!("fixer")),
            set("/spec/serviceAccountName", json!("-fixer")),
            "should match",
        ),
        (
            "shutdown",
            set("/spec/shutdown", json!("Cancel")),
            set("/spec/shutdown", json!("Now")),
            "Unsupported value",
        ),
        (
            "replicas",
            member(json!({"scaleDeployment": {"namespace": "a", "deployment": "b", "replicas": 1000}})),
            member(json!({"scaleDeployment": {"namespace": "a", "deployment": "b", "replicas": 1001}})),
            "less than or equal to 1000",
        ),
        (
            "names with a dash",
            we(),
            member(json!({"cordonNode": {"nodeName": "-n1"}})),
            "nodeName in body should match",
        ),
        (
            "namespace with a dash",
            we(),
            member(json!({"scaleDeployment": {"namespace": "-a", "deployment": "b", "replicas": 1}})),
            "namespace in body should match",
        ),
        (
            "gracePeriod",
            member(delete_pod("30s")),
            member(delete_pod("soon")),
            "gracePeriod in body should match",
        ),
        (
            "no data",
            member(json!({"updateConfigMap": {"namespace": "a", "name": "b", "dataUpdates": {"k": "v"}}})),
            member(json!({"updateConfigMap": {"namespace": "a", "name": "b", "dataUpdates": {}}})),
            "at least 1 properties",
        ),
        (
            "patchType",
            member(
                json!({"patchDeployment": {"namespace": "a", "deployment": "b", "patchType": "json", "patch": "[]"}}),
            ),
            member(
                json!({"patchDeployment": {"namespace": "a", "deployment": "b", "patchType": "best", "patch": "[]"}}),
            ),
            "Unsupported value",
        ),
        (
            "KE: action",
            put("/spec/action", json!("cordon_node")),
            put("/spec/action", json!("-cordon")),
            "action in body should match",
        ),
        (
            "KE: timeout",
            put("/spec/timeout", json!("500ms")),
            put("/spec/timeout", json!("5")),
            "timeout in body should match",
        ),
        (
            "KE: gracePeriodSeconds",
            put(
                "/spec/parameters",
                json!({"deletePod": {"namespace": "a", "pod": "b", "gracePeriodSeconds": 3600}}),
            ),
            put(
                "/spec/parameters",
                json!({"deletePod": {"namespace": "a", "pod": "b", "gracePeriodSeconds": 3601}}),
            ),
            "less than or equal to 3600",
        ),
        (
            "KE: shutdown",
            put("/spec/shutdown", json!("Cancel")),
            put("/spec/shutdown", json!("Rollback")),
            "Unsupported value",
        ),
    ]
}
