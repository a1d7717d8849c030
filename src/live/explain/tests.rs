//! Each class of errors, and each wait, as a person would meet it.

use kubernaut_crds::ErrorType;
use kubernaut_machines::waiting::WaitingPod;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-30T03:12:00Z";

fn workflow(status: &Value) -> WorkflowExecution {
    serde_json::from_value(json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
        "metadata": {"name": "fix", "namespace": "shop", "uid": "u-1", "creationTimestamp": "2026-11-30T03:10:00Z",
                     "annotations": {"kubernaut.io/created-by": "ana"}},
        "spec": {"workflowDefinition": {"name": "fix", "version": "1", "steps": [
            {"stepNumber": 1, "name": "more", "action": "scale-deployment",
             "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 3}}},
            {"stepNumber": 2, "name": "anew", "action": "restart-deployment", "dependsOn": [1],
             "parameters": {"restartDeployment": {"namespace": "shop", "deployment": "web"}}},
        ]}},
        "status": status,
    }))
    .expect("a workflow")
}

fn execution(status: &Value) -> KubernetesExecution {
    serde_json::from_value(json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "u-2"},
        "spec": {"stepNumber": 1, "action": "scale-deployment", "timeout": "5m",
                 "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 3}}},
        "status": status,
    }))
    .expect("an execution")
}

fn explanation(
    workflow: &WorkflowExecution,
    executions: &[KubernetesExecution],
    looks: &Looks,
) -> Explanation {
    explained(&Case {
        workflow,
        executions,
        looks,
        named: "-n shop fix".to_owned(),
        flags: String::new(),
        cluster: "east".to_owned(),
        executor_namespace: "kubernaut-executor".to_owned(),
        controller_namespace: crate::manifests::CONTROLLER_NAMESPACE.to_owned(),
        now: NOW.parse().expect("a time"),
    })
}

/// A workflow whose first step failed so.
fn failed(error_type: ErrorType, message: &str) -> WorkflowExecution {
    workflow(&json!({
        "phase": "failed", "errorType": error_type, "message": format!("step 1 (more): {message}"),
        "failedStep": 1, "completionTime": "2026-11-30T03:11:30.000000Z",
        "workflowResult": {"outcome": "failed", "effectivenessScore": 0.0, "resourceHealth": "unknown"},
        "stepStatuses": [
            {"stepNumber": 1, "name": "more", "action": "scale-deployment", "status": "failed", "errorType": error_type,
             "errorMessage": message, "target": "deployment/shop/web", "attempt": 2},
            {"stepNumber": 2, "name": "anew", "action": "restart-deployment", "status": "skipped",
             "errorType": "dependency_failed", "errorMessage": "step 1 (more) failed"},
        ],
    }))
}

/// What the controller says of each class, and what a person is told to run.
const FAILURES: [(ErrorType, &str, &str); 23] = [
    (
        ErrorType::ValidationError,
        "parameters.newImage: has no container \"app\"",
        "describe deployment web",
    ),
    (
        ErrorType::ValidationError,
        "deployment/shop/web is paused",
        "rollout resume deployment/web",
    ),
    (
        ErrorType::ValidationError,
        "node-1 is the last schedulable node",
        "get nodes",
    ),
    (
        ErrorType::ValidationError,
        "timeout: 20m is longer than 15m",
        "kubernaut plan FILE -n shop",
    ),
    (
        ErrorType::InsufficientPermissions,
        "ServiceAccount shop/default may not patch deployments/scale in group apps named web in namespace shop; grant it with a Role",
        "kubectl auth reconcile -f - <<'EOF'\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n",
    ),
    (
        ErrorType::InsufficientPermissions,
        "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:kubernaut-executor:scale-deployment-sa\" cannot patch",
        "kubernaut manifests [FLAGS] | kubectl diff",
    ),
    (
        ErrorType::InsufficientPermissions,
        "ServiceAccount shop/fixer does not exist",
        "",
    ),
    (
        ErrorType::InsufficientPermissions,
        "forbidden",
        "kubernaut rights FILE",
    ),
    (
        ErrorType::ResourceNotFound,
        "deployment/shop/web does not exist",
        "kubectl -n shop get deployments",
    ),
    (ErrorType::ResourceConflict, "Apply failed with 1 conflict", ""),
    (
        ErrorType::ResourceConflict,
        "deployment/shop/web was changed since, and is left as it is",
        "describe deployment web",
    ),
    (
        ErrorType::ResourceConflict,
        "the object has been modified",
        "kubernaut history 'deployment/shop/web'",
    ),
    (
        ErrorType::ResourceQuotaExceeded,
        "exceeded quota: pods",
        "kubectl -n shop describe resourcequota",
    ),
    (
        ErrorType::PolicyDenied,
        "at most half of the replicas may go at once",
        "",
    ),
    (
        ErrorType::GitopsManaged,
        "deployment/shop/web is managed by Argo CD",
        "",
    ),
    (
        ErrorType::ApprovalRejected,
        "rejected by bob: the database is migrating",
        "",
    ),
    (
        ErrorType::ApprovalTimeout,
        "not approved in time: 0 of 1 approvals within 1h",
        "",
    ),
    (
        ErrorType::Timeout,
        "the step's 5m are over",
        "kubernaut logs -n shop fix 1",
    ),
    (
        ErrorType::JobFailed,
        "kubectl: error",
        "kubernaut logs -n shop fix 1",
    ),
    (
        ErrorType::JobLost,
        "its Job was deleted",
        "describe deployment web",
    ),
    (
        ErrorType::VerificationFailed,
        "2 of 3 pods are ready",
        "-n shop get pods",
    ),
    (ErrorType::Cancelled, "cancelled", ""),
    (
        ErrorType::UnknownError,
        "the API server said something new",
        "logs -l app.kubernetes.io/part-of=kubernaut,app.kubernetes.io/component=controller",
    ),
];

#[test]
fn each_class_of_errors_says_what_happened_why_and_what_to_do() {
    for (error_type, message, command) in FAILURES {
        let explanation = explanation(&failed(error_type, message), &[], &Looks::default());
        let text = explanation.text();
        let class = error_type.as_str();
        assert!(
            text.starts_with(&format!(
                "Workflow shop/fix failed after 1m 30s ({class}): 0 of 2 steps completed.\n"
            )),
            "{text}"
        );
        let why = format!("Step 1 (more) failed after 2 attempts ({class}): {message}");
        assert!(explanation.why.contains(&why), "{text}");
        assert!(text.contains("Not run because of it: step 2."), "{text}");
        let first = explanation.to_do.first().expect("something to do");
        assert!(!first.words.is_empty());
        let commands: Vec<&str> = explanation
            .to_do
            .iter()
            .filter_map(|to_do| to_do.command.as_deref())
            .collect();
        assert!(
            command.is_empty() || commands.iter().any(|one| one.contains(command)),
            "{command} in {text}"
        );
        let is_wrong = matches!(
            error_type,
            ErrorType::ValidationError | ErrorType::ResourceNotFound
        );
        let again = if is_wrong {
            "kubernaut start FILE --name NAME --watch -n shop"
        } else {
            "kubernaut retry -n shop fix"
        };
        assert!(commands.contains(&again), "{text}");
        // A text for standard input is pasted as it stands.
        assert!(!text.contains("<<'EOF'") || text.contains("\nEOF\n"), "{text}");
    }
    // Of a step that was not run the one before it says more.
    let mut told: Vec<&str> = FAILURES.iter().map(|(class, ..)| class.as_str()).collect();
    told.push(ErrorType::DependencyFailed.as_str());
    let schema = serde_json::to_value(schemars::schema_for!(ErrorType)).expect("JSON");
    let classes: Vec<&str> = schema["oneOf"]
        .as_array()
        .expect("values")
        .iter()
        .filter_map(|class| class["const"].as_str())
        .collect();
    assert_eq!(classes.len(), 16);
    for class in classes {
        assert!(told.contains(&class), "{class}");
    }
}

#[test]
fn a_step_that_was_taken_back_and_one_that_was_not_are_told() {
    let mut workflow = failed(ErrorType::JobFailed, "kubectl: error");
    let status = workflow.status.as_mut().expect("a status");
    let steps = json!([
        {"stepNumber": 1, "name": "more", "action": "scale-deployment", "status": "completed",
         "undo": {"status": "completed", "message": "as before"}},
        {"stepNumber": 2, "name": "anew", "action": "restart-deployment", "status": "completed",
         "undo": {"status": "failed", "message": "it was changed since"}},
    ]);
    status.step_statuses = serde_json::from_value(steps).expect("steps");
    let text = explanation(&workflow, &[], &Looks::default()).text();
    for words in [
        "Step 1 (more) was undone. as before",
        "Step 2 (anew) could not be undone: it was changed since",
        "kubernaut rollback -n shop fix",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn a_workflow_that_went_well_leaves_nothing_to_do() {
    let workflow = workflow(&json!({
        "phase": "completed", "message": "all steps completed", "completionTime": "2026-11-30T03:11:30.000000Z",
        "workflowResult": {"outcome": "success", "effectivenessScore": 1.0, "resourceHealth": "healthy"},
        "stepStatuses": [
            {"stepNumber": 1, "name": "more", "action": "scale-deployment", "status": "completed"},
            {"stepNumber": 2, "name": "anew", "action": "restart-deployment", "status": "completed"},
        ],
    }));
    let explanation = explanation(&workflow, &[], &Looks::default());
    assert!(explanation.to_do.is_empty(), "{}", explanation.text());
    assert!(
        explanation
            .text()
            .contains("completed successfully after 1m 30s: 2 of 2 steps")
    );
}

/// A wait: the workflow's status, its first step's, what else was seen, and words of the explanation.
type Waiting = (Value, Value, Looks, &'static [&'static str]);

fn pod(why: &str) -> WaitingPod {
    WaitingPod {
        name: "web-1".to_owned(),
        uid: "u-3".to_owned(),
        obstacle: None,
        why: why.to_owned(),
    }
}

/// Those of the whole workflow.
fn waits_of_workflows() -> Vec<Waiting> {
    let asks = json!({
        "phase": "validating", "message": "waits for approval (0 of 1): whoever may create Approvals in namespace shop",
        "executionPlan": {"digest": "sha256:abc", "strategy": "sequential", "estimatedDuration": "1m"},
        "conditions": [{"type": "Approved", "status": "False", "reason": "ApprovalRequired", "message": "",
                        "lastTransitionTime": "2026-11-30T03:10:05Z"}],
    });
    let may = |may_approve| Looks {
        may_approve: Some(may_approve),
        ..Looks::default()
    };
    let gone = Looks {
        leader_sought: true,
        ..Looks::default()
    };
    let led = Looks {
        leader: Some("kubernaut-controller-7d".to_owned()),
        leader_sought: true,
        ..Looks::default()
    };
    vec![
        (
            Value::Null,
            Value::Null,
            gone,
            &["No controller holds the lease", "get deployments,pods"],
        ),
        (
            Value::Null,
            Value::Null,
            led,
            &["The lease names kubernaut-controller-7d"],
        ),
        (
            asks.clone(),
            Value::Null,
            may(true),
            &[
                "Waits for approval",
                "You may approve it (unless you are ana",
                "kubernaut approve -n shop fix",
                "sha256:abc",
            ],
        ),
        (
            asks,
            Value::Null,
            may(false),
            &["You may not approve it", "kubernaut cancel -n shop fix"],
        ),
        (
            json!({"phase": "paused", "message": "paused: no new step starts"}),
            Value::Null,
            Looks::default(),
            &["Paused", "kubernaut resume -n shop fix"],
        ),
        (
            json!({"phase": "planning", "message": "waits to be started: as many Jobs run as --max-running-jobs allows"}),
            Value::Null,
            Looks::default(),
            &["kubernaut list -A", "--max-running-jobs"],
        ),
        (
            json!({"phase": "monitoring", "message": "looked at until 03:15"}),
            Value::Null,
            Looks::default(),
            &["monitoring window", "kubernaut watch -n shop fix"],
        ),
        (
            json!({"phase": "rolling_back", "message": "undoing step 1 (more)", "rollbackReason": "step 2 failed"}),
            Value::Null,
            Looks::default(),
            &["Undoing step 1 (more)", "because step 2 failed"],
        ),
    ]
}

/// Those of a step.
fn waits_of_steps() -> Vec<Waiting> {
    let may = |may_approve| Looks {
        may_approve: Some(may_approve),
        ..Looks::default()
    };
    let runs = |message: &str| json!({"phase": "executing", "message": message, "stepStatuses": []});
    let step = |phase: &str, message: &str| {
        json!({"phase": phase, "message": message, "targetName": "deployment/shop/web", "attempt": 2,
               "startTime": "2026-11-30T03:11:00.000000Z"})
    };
    let stuck = Looks {
        waiting: vec![(1, pod("ImagePullBackOff: Back-off pulling image \"web:9\""))],
        ..Looks::default()
    };
    vec![
        (
            runs("running: step 1 (more)"),
            step("executing", "attempt 2 runs"),
            stuck,
            &[
                "Step 1 (scale-deployment on deployment/shop/web) is executing, attempt 2, for 1m: attempt 2 runs",
                "Pod web-1 does not run: ImagePullBackOff",
                "kubernaut logs -n shop fix 1 --follow",
            ],
        ),
        (
            runs("step 1 waits"),
            step(
                "validating",
                "waits: deployment/shop/web is held by shop/other-step-1",
            ),
            Looks::default(),
            &["kubectl -n shop get kubernetesexecution other-step-1"],
        ),
        (
            runs("running: step 1 (more)"),
            step("executing", "waits for quota: exceeded quota: pods"),
            Looks::default(),
            &["kubectl -n kubernaut-executor describe resourcequota"],
        ),
        (
            runs("step 1 waits"),
            step("waiting_approval", "waits for approval (0 of 1)"),
            may(true),
            &[
                "has to be approved",
                "objectRef: {kind: KubernetesExecution, name: fix-step-1, uid: u-2}",
            ],
        ),
    ]
}

#[test]
fn each_wait_says_what_is_waited_for_and_what_to_do() {
    for (status, of_step, looks, words) in waits_of_workflows().into_iter().chain(waits_of_steps()) {
        let executions = if of_step.is_null() {
            Vec::new()
        } else {
            vec![execution(&of_step)]
        };
        let explanation = explanation(&workflow(&status), &executions, &looks);
        let text = explanation.text();
        for words in words {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(
            !explanation.why.is_empty() && !explanation.to_do.is_empty(),
            "{text}"
        );
    }
}

#[test]
fn what_was_told_to_stop_or_is_deleted_says_so() {
    let mut stopped = workflow(&json!({"phase": "executing", "message": "running: step 1 (more)"}));
    stopped.spec.shutdown = Some(Shutdown::Rollback);
    let text = explanation(&stopped, &[], &Looks::default()).text();
    assert!(text.contains("what was done is undone"), "{text}");
    let mut deleted = workflow(&json!({"phase": "executing", "message": "running: step 1 (more)"}));
    deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
    deleted.metadata.finalizers = Some(vec!["example.com/mine".to_owned()]);
    let text = explanation(&deleted, &[], &Looks::default()).text();
    assert!(
        text.contains("Somebody deleted it") && text.contains("example.com/mine"),
        "{text}"
    );
}
