//! What the spec of a workflow or an execution must say, and types and patterns can't, and that it stays so. A rule of the schema
//! would be worked out again at each write of the status, which changes no spec: those took a quarter of such a write. Planning
//! and validation refuse in code what no policy has refused.

use kubernaut_crds::{Action, RollbackAction, StepAction, names};
use serde_json::json;

use super::{Policy, but_the_controllers, quoted, requests};

/// `controller`: its user name, in quotes.
pub(super) fn policies(controller: &str) -> Vec<Policy> {
    vec![
        workflows(),
        executions(controller),
        workflows_stay(),
        executions_stay(controller),
    ]
}

/// A variable holds the steps that break a rule; the words are about the first of them.
fn workflows() -> Policy {
    let steps = |name: &'static str, broken: &str| (name, format!("variables.steps.filter(step, {broken})"));
    let variables = [
        steps(
            "namesakes",
            "!variables.steps.exists_one(other, other.name == step.name)",
        ),
        steps(
            "lost",
            "!step.?dependsOn.orValue([]).all(number, number != step.stepNumber && \
             variables.steps.exists(other, other.stepNumber == number))",
        ),
        steps("vague", "step.?parameters.orValue({}).size() != 1"),
        steps(
            "unsure",
            "step.?parameters.?restartPod.hasValue() && \
             step.parameters.restartPod.?podName.hasValue() == step.parameters.restartPod.?selector.hasValue()",
        ),
        steps(
            "misplaced",
            "step.?parameters.?restartPod.?nodeName.hasValue() && !step.parameters.restartPod.?selector.hasValue()",
        ),
        steps(
            "irreversible",
            "step.?rollbackSpec.hasValue() && step.rollbackSpec.?parameters.orValue({}).size() != 1",
        ),
    ];
    let mut policy = Policy::new(
        "kubernaut-workflow-spec",
        "The steps of a workflow have names of their own, wait for each other and say one thing to do each.",
        json!({"resourceRules": [requests(names::WORKFLOW_GROUP, &["workflowexecutions"], &["CREATE"])]}),
    )
    .variable(
        "steps",
        "dyn(object).?spec.?workflowDefinition.?steps.orValue([])",
    );
    for (name, expression) in variables {
        policy = policy.variable(name, expression);
    }
    let length = format!(
        "metadata.name must be at most {} characters, so that the names of its steps stay valid",
        names::WORKFLOW_NAME_MAX
    );
    let number = format!(
        "spec.workflowDefinition.steps must hold 1 to {} steps, and none exactly when spec.rollbackOf is set",
        names::STEPS_MAX
    );
    let mut policy = policy
        .valid_if(
            format!(
                "object.metadata.?name.orValue('').size() <= {}",
                names::WORKFLOW_NAME_MAX
            ),
            format!("'{length}: this one has ' + string(object.metadata.?name.orValue('').size())"),
            &length,
        )
        .valid_if(
            "dyn(object).?spec.?rollbackOf.hasValue() == (variables.steps.size() == 0)",
            format!("'{number}: here are ' + string(variables.steps.size())"),
            &number,
        );
    for (broken, field, must) in [
        (
            "namesakes",
            "name",
            "every step needs a name of its own".to_owned(),
        ),
        (
            "lost",
            "dependsOn",
            "must hold stepNumbers of other steps of this workflow".to_owned(),
        ),
        ("vague", "parameters", one_of(StepAction::MEMBERS)),
        (
            "unsure",
            "parameters.restartPod",
            "needs exactly one of podName and selector".to_owned(),
        ),
        (
            "misplaced",
            "parameters.restartPod.nodeName",
            "goes with selector: it takes those of the pods that are on that node".to_owned(),
        ),
        (
            "irreversible",
            "rollbackSpec.parameters",
            one_of(RollbackAction::MEMBERS),
        ),
    ] {
        policy = policy.valid_if(
            format!("variables.{broken}.size() == 0"),
            format!(
                "'step ' + string(variables.{broken}[0].stepNumber) + ' (' + variables.{broken}[0].name + '): {field}: {must}'"
            ),
            format!("{field} of a step: {must}"),
        );
    }
    policy
}

fn executions(controller: &str) -> Policy {
    let own = Action::MEMBERS.iter().filter(|member| **member != "undo");
    let members = one_of(&own.copied().collect::<Vec<_>>());
    let policy = Policy::new(
        "kubernaut-execution-spec",
        "An execution says one thing to do.",
        json!({"resourceRules": [requests(names::EXECUTION_GROUP, &["kubernetesexecutions"], &["CREATE"])]}),
    );
    let policy = but_the_controllers(policy, controller)
        .variable("parameters", "dyn(object).?spec.?parameters.orValue({})")
        .variable("pods", "variables.parameters.?deletePod.orValue({})");
    [
        ("variables.parameters.size() == 1", "parameters", members.as_str()),
        (
            "!variables.parameters.?deletePod.hasValue() || \
             variables.pods.?pod.hasValue() != variables.pods.?labelSelector.hasValue()",
            "parameters.deletePod",
            "needs exactly one of pod and labelSelector",
        ),
        (
            "!variables.pods.?nodeName.hasValue() || variables.pods.?labelSelector.hasValue()",
            "parameters.deletePod.nodeName",
            "goes with labelSelector: it takes those of the pods that are on that node",
        ),
    ]
    .into_iter()
    .fold(policy, |policy, (holds, field, must)| {
        policy.valid_if(
            holds,
            format!("'spec.{field}: {must}'"),
            format!("spec.{field}: {must}"),
        )
    })
}

/// What was planned, approved and begun is what is run: another spec is another workflow.
fn workflows_stay() -> Policy {
    let policy = stays(
        "kubernaut-workflow-spec-kept",
        "workflowexecutions",
        names::WORKFLOW_GROUP,
    );
    let fixed = [
        "workflowDefinition",
        "executionStrategy",
        "remediationRequestRef",
        "adaptiveOrchestration",
        "serviceAccountName",
        "maxParallelSteps",
        "ttlSecondsAfterFinished",
        "rollbackOf",
    ];
    immutable(policy, &fixed, "WorkflowExecution").valid_if(SHUTDOWN_STAYS, quoted(SHUTDOWN), SHUTDOWN)
}

/// As a workflow's. Who approved it is held by kubernaut-execution-fields.
fn executions_stay(controller: &str) -> Policy {
    let policy = stays(
        "kubernaut-execution-spec-kept",
        "kubernetesexecutions",
        names::EXECUTION_GROUP,
    );
    let fixed = [
        "workflowExecutionRef",
        "stepNumber",
        "action",
        "parameters",
        "targetCluster",
        "maxRetries",
        "timeout",
        "dryRun",
        "serviceAccountName",
    ];
    let taken_back = "spec.approvalReceived can't be taken back";
    immutable(but_the_controllers(policy, controller), &fixed, "KubernetesExecution")
        .valid_if(SHUTDOWN_STAYS, quoted(SHUTDOWN), SHUTDOWN)
        .valid_if(
            "!variables.before.?approvalReceived.orValue(false) || variables.now.?approvalReceived.orValue(false)",
            quoted(taken_back),
            taken_back,
        )
}

const SHUTDOWN_STAYS: &str =
    "!variables.before.?shutdown.hasValue() || variables.before.?shutdown == variables.now.?shutdown";
const SHUTDOWN: &str = "spec.shutdown can be set once and not changed or taken back";

/// Of changes of the spec, and nothing else: a generation counts those.
fn stays(name: &'static str, resource: &str, group: &str) -> Policy {
    Policy::new(
        name,
        "What a workflow or an execution asks for stays what it was when it was made.",
        json!({"resourceRules": [requests(group, &[resource], &["UPDATE"])]}),
    )
    .when(
        "another-spec",
        "object.metadata.?generation != oldObject.metadata.?generation",
    )
    .variable("now", "dyn(object).?spec.orValue({})")
    .variable("before", "dyn(oldObject).?spec.orValue({})")
}

fn immutable(policy: Policy, fields: &[&str], kind: &str) -> Policy {
    fields.iter().fold(policy, |policy, field| {
        let words = format!("spec.{field} is immutable: create a new {kind} instead");
        policy.valid_if(
            format!("variables.before.?{field} == variables.now.?{field}"),
            quoted(&words),
            words,
        )
    })
}

/// In the words of a list.
fn one_of(members: &[&str]) -> String {
    let (last, others) = members.split_last().unwrap_or((&"", &[]));
    format!("must have exactly one member: {} or {last}", others.join(", "))
}
