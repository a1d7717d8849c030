//! The executor namespace. Its accounts may scale, patch, drain and write Secrets everywhere: who gets a pod or a token
//! of theirs, or a word into a Job of theirs, has their rights.

use kubernaut_crds::names;
use kubernaut_machines::Settings;
use serde_json::{Value, json};

use super::{Policy, asked_by, namespaces, quoted, requests};

/// `controller`: its user name, in quotes.
pub(super) fn policies(settings: &Settings, controller: &str) -> Vec<Policy> {
    let executor = settings.executor_namespace.as_str();
    vec![
        makers(executor, controller),
        workloads(executor),
        kept(executor),
        binding(executor),
        access(executor),
    ]
}

fn within(executor: &str, rules: &[Value]) -> Value {
    json!({"resourceRules": rules, "namespaceSelector": namespaces("In", &[executor])})
}

fn resource_is(resource: &str) -> String {
    format!("request.resource.resource == '{resource}'")
}

/// Jobs by the controller, their pods by the Job controller, their payloads by the controller: nothing else is made there.
///
/// Nodes make no pods there either: a mirror pod names no account, but could take the name of ours.
fn makers(executor: &str, controller: &str) -> Policy {
    let rules = [
        requests("batch", &["jobs"], &["CREATE"]),
        requests("", &["pods"], &["CREATE"]),
        // A payload is read by kubectl whenever its pod starts.
        requests("", &["secrets"], &["CREATE", "UPDATE"]),
    ];
    let label = format!("metadata.?labels[{}]", quoted(names::LABEL_EXECUTION_UID));
    Policy::new(
        "kubernaut-executor-makers",
        format!(
            "In namespace {executor} only the controller makes Jobs and payloads, and only the Job controller makes pods."
        ),
        within(executor, &rules),
    )
    .must(
        format!("!({}) || request.userInfo.username == {controller}", resource_is("jobs")),
        format!(
            "Jobs in namespace {executor} are made by the controller alone: create a WorkflowExecution in your own \
             namespace"
        ),
    )
    // The Job controller has only Jobs of ours to make pods of. Where all controllers ask as one user, the owner tells.
    .must(
        format!(
            "!({}) || ({} && object.metadata.?ownerReferences.orValue([]).exists(owner, \
             owner.?controller.orValue(false) && owner.apiVersion == 'batch/v1' && owner.kind == 'Job'))",
            resource_is("pods"),
            asked_by(&["job-controller"])
        ),
        format!(
            "pods in namespace {executor} run with rights on the whole cluster and come from the Jobs of the controller \
             alone: create yours in another namespace"
        ),
    )
    // Credentials for a mirror of the image are an administrator's to bring; they can't be taken for a payload.
    // A token of an account (kubernetes.io/service-account-token) is what must not be had this way.
    // Secrets are also written again as they are, when the key that encrypts them is changed. A finalizer would keep a
    // payload that the controller has deleted.
    .must(
        format!(
            "!({}) || request.userInfo.username == {controller} || \
             (oldObject != null && object.?data == oldObject.?data && object.{label} == oldObject.{label} && \
             object.metadata.?finalizers.orValue([]).all(name, name in oldObject.metadata.?finalizers.orValue([]))) || \
             (object.?type.orValue('') in ['kubernetes.io/dockerconfigjson', 'kubernetes.io/dockercfg'] && \
             object.?data.orValue({{}}).all(key, key in ['.dockerconfigjson', '.dockercfg']) && \
             !object.{label}.hasValue() && (oldObject == null || !oldObject.{label}.hasValue()))",
            resource_is("secrets")
        ),
        format!(
            "Secrets in namespace {executor} are payloads of Jobs, made by the controller alone; others can bring only \
             credentials of an image registry (type kubernetes.io/dockerconfigjson, with that key alone)"
        ),
    )
    .looked_at_once()
}

/// Said early, to the person who would wait in vain for pods of them.
fn workloads(executor: &str) -> Policy {
    let rules = [
        requests(
            "apps",
            &["deployments", "replicasets", "statefulsets", "daemonsets"],
            &["CREATE"],
        ),
        requests("batch", &["cronjobs"], &["CREATE"]),
        requests("", &["replicationcontrollers"], &["CREATE"]),
    ];
    Policy::new(
        "kubernaut-executor-workloads",
        format!("In namespace {executor} nothing runs but the Jobs of the controller."),
        within(executor, &rules),
    )
    .must(
        "false",
        format!("nothing runs in namespace {executor} but the Jobs of the controller: create it in another namespace"),
    )
}

/// What binds a pod to a node brings annotations along, a payload, say, and chooses who has the pod's token.
fn binding(executor: &str) -> Policy {
    let ours = |field: &str| {
        format!("object.?metadata.?{field}.orValue({{}}).all(key, !key.startsWith('kubernaut.io/'))")
    };
    Policy::new(
        "kubernaut-executor-binding",
        format!("Only the scheduler chooses nodes for pods of namespace {executor}, and brings nothing of ours along."),
        within(
            executor,
            &[requests("", &["pods/binding", "bindings"], &["CREATE"])],
        ),
    )
    .must(
        "request.userInfo.username == 'system:kube-scheduler'",
        format!(
            "pods of namespace {executor} are bound by the scheduler alone: --executor-node-selector and \
             --executor-tolerations say where they may run"
        ),
    )
    .must(
        format!("{} && {}", ours("labels"), ours("annotations")),
        format!("labels and annotations of kubernaut.io on pods of namespace {executor} are the controller's alone"),
    )
    .looked_at_once()
}

/// What was made stays as it was made: the image, the account and the arguments, which are the spec, and the payload and
/// the record of whose it is, which are annotations and labels. No exception is needed: the system changes other things
/// (finalizers, owner references, status, annotations of the network).
fn kept(executor: &str) -> Policy {
    let rules = [
        // Not its status, although labels and annotations can be changed by that as well: a Job writes it four times, each look
        // costs the API server as much as the write, and who may say how a Job ended gains nothing by its labels. What its pods do
        // is in the template, which no status changes.
        requests("batch", &["jobs"], &["UPDATE"]),
        // A pod's annotations are what it does: its status is looked at, too.
        requests("", &["pods", "pods/status", "pods/resize"], &["UPDATE"]),
    ];
    let unchanged = |field: &str| {
        let ours = |these: &str, those: &str| {
            format!(
                "{these}.metadata.?{field}.orValue({{}}).all(key, !key.startsWith('kubernaut.io/') || \
                 {these}.metadata.?{field}[key] == {those}.metadata.?{field}[key])"
            )
        };
        format!(
            "{} && {}",
            ours("object", "oldObject"),
            ours("oldObject", "object")
        )
    };
    let words = format!(
        "what the controller made in namespace {executor} stays as it was made: delete the KubernetesExecution to stop it"
    );
    Policy::new(
        "kubernaut-executor-kept",
        format!(
            "In namespace {executor} nobody changes the spec, or the labels and annotations of kubernaut.io, of a Job or a pod."
        ),
        within(executor, &rules),
    )
    // Also not what is left: without its owner a pod would be made again.
    .must(
        format!(
            "!request.userInfo.username.startsWith({})",
            quoted(&format!("system:serviceaccount:{executor}:"))
        ),
        format!("the accounts of namespace {executor} change no pod and no Job there"),
    )
    .must("object.?spec == oldObject.?spec", words.as_str())
    .must(unchanged("labels"), words.as_str())
    .must(unchanged("annotations"), words)
    .looked_at_once()
}

/// Into a pod that runs, and around pods by a token.
fn access(executor: &str) -> Policy {
    let rules = [
        requests(
            "",
            &["pods/exec", "pods/attach", "pods/portforward", "pods/proxy"],
            &["CONNECT"],
        ),
        requests("", &["pods/ephemeralcontainers"], &["UPDATE"]),
        requests("", &["serviceaccounts/token"], &["CREATE"]),
    ];
    Policy::new(
        "kubernaut-executor-access",
        format!(
            "Nobody gets into a pod of namespace {executor}, and nobody but a node gets a token of its ServiceAccounts."
        ),
        within(executor, &rules),
    )
    .must(
        format!("!({})", resource_is("pods")),
        format!(
            "pods in namespace {executor} run with rights on the whole cluster and nobody gets into them: their last words \
             stand in status.executionResults of the KubernetesExecution"
        ),
    )
    // A kubelet asks for the token of each pod that it starts.
    .must(
        format!(
            "!({}) || (has(request.userInfo.groups) && 'system:nodes' in request.userInfo.groups)",
            resource_is("serviceaccounts")
        ),
        format!(
            "tokens of the ServiceAccounts of namespace {executor} are for the nodes that run its pods: use an account of \
             your own"
        ),
    )
}
