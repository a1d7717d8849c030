//! Changes of an object: one that passes and one that is refused, for each rule.

use serde_json::{Value, json};

use super::super::super::bodies::{execution, with, workflow};

/// What is tried, a base, merge patches that pass one after the other, then one that does not, and its words.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn updates() -> Vec<(&'static str, Value, Vec<Value>, Value, &'static str)> {
    let we = |name: &str| workflow(name);
    let ke = |name: &str| execution(name);
    let unapproved = |name: &str| with(ke(name), "/spec/approvalReceived", json!(false));
    vec![
        (
            "steps",
            we("u-steps"),
            vec![],
            json!({"spec": {"workflowDefinition": {"version": "v2"}}}),
            "workflowDefinition is immutable",
        ),
        (
            "strategy",
            we("u-strategy"),
            vec![],
            json!({"spec": {"executionStrategy": {"rollbackStrategy": "none"}}}),
            "executionStrategy is immutable",
        ),
        (
            "account",
            we("u-account"),
            vec![],
            json!({"spec": {"serviceAccountName": "other"}}),
            "serviceAccountName is immutable",
        ),
        (
            "parallel",
            we("u-parallel"),
            vec![],
            json!({"spec": {"maxParallelSteps": 2}}),
            "maxParallelSteps is immutable",
        ),
        (
            "ttl",
            we("u-ttl"),
            vec![],
            json!({"spec": {"ttlSecondsAfterFinished": 1}}),
            "ttlSecondsAfterFinished is immutable",
        ),
        (
            "lineage",
            we("u-lineage"),
            vec![],
            json!({"spec": {"remediationRequestRef": {"name": "x"}}}),
            "remediationRequestRef is immutable",
        ),
        (
            "adaptive",
            we("u-adaptive"),
            vec![],
            json!({"spec": {"adaptiveOrchestration": {}}}),
            "adaptiveOrchestration is immutable",
        ),
        (
            "rollbackOf",
            we("u-rollback"),
            vec![],
            json!({"spec": {"rollbackOf": {"name": "a", "uid": "b"}}}),
            "rollbackOf is immutable",
        ),
        (
            "suspend, then shutdown once",
            we("u-shutdown"),
            vec![
                json!({"spec": {"suspend": true}}),
                json!({"spec": {"suspend": false}}),
                json!({"spec": {"shutdown": "Cancel"}}),
            ],
            json!({"spec": {"shutdown": "Rollback"}}),
            "shutdown can be set once",
        ),
        (
            "shutdown stays",
            we("u-stays"),
            vec![json!({"spec": {"shutdown": "Cancel"}})],
            json!({"spec": {"shutdown": null}}),
            "shutdown can be set once",
        ),
        (
            "KE: parameters",
            ke("u-parameters"),
            vec![],
            json!({"spec": {"parameters": {"cordonNode": {"node": "n2"}}}}),
            "parameters are immutable",
        ),
        (
            "KE: action",
            ke("u-action"),
            vec![],
            json!({"spec": {"action": "cordon_node"}}),
            "action is immutable",
        ),
        (
            "KE: timeout",
            ke("u-timeout"),
            vec![],
            json!({"spec": {"timeout": "1m"}}),
            "timeout is immutable",
        ),
        (
            "KE: retries",
            ke("u-retries"),
            vec![],
            json!({"spec": {"maxRetries": 1}}),
            "maxRetries is immutable",
        ),
        (
            "KE: cluster",
            ke("u-cluster"),
            vec![],
            json!({"spec": {"targetCluster": "b"}}),
            "targetCluster is immutable",
        ),
        (
            "KE: number",
            ke("u-number"),
            vec![],
            json!({"spec": {"stepNumber": 9}}),
            "stepNumber is immutable",
        ),
        (
            "KE: account",
            ke("u-keaccount"),
            vec![],
            json!({"spec": {"serviceAccountName": "b"}}),
            "serviceAccountName is immutable",
        ),
        (
            "KE: dryRun",
            ke("u-dryrun"),
            vec![],
            json!({"spec": {"dryRun": true}}),
            "dryRun is immutable",
        ),
        (
            "KE: lineage",
            ke("u-kelineage"),
            vec![],
            json!({"spec": {"workflowExecutionRef": {"name": "a"}}}),
            "workflowExecutionRef is immutable",
        ),
        (
            "KE: approval stays",
            unapproved("u-approval"),
            vec![json!({"spec": {"approvalReceived": true, "approvedBy": "alice"}})],
            json!({"spec": {"approvalReceived": false}}),
            "approvalReceived can't be taken back",
        ),
        (
            "KE: approver with the approval",
            unapproved("u-approver"),
            vec![],
            json!({"spec": {"approvedBy": "mallory"}}),
            "approvedBy can be set once",
        ),
        (
            "KE: approver stays",
            unapproved("u-approver-stays"),
            vec![json!({"spec": {"approvalReceived": true, "approvedBy": "alice"}})],
            json!({"spec": {"approvedBy": "bob"}}),
            "approvedBy can be set once",
        ),
        (
            "KE: shutdown stays",
            ke("u-keshutdown"),
            vec![json!({"spec": {"shutdown": "Cancel"}})],
            json!({"spec": {"shutdown": null}}),
            "shutdown can be set once",
        ),
    ]
}
