//! The Job of an attempt.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kubernaut_crds::{Attempt, KubernetesExecution, names};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Settings;
use crate::actions::{ActionKind, JobContext, Payload, operation};
use crate::defect::{Defect, planted};
use crate::mapping::label_value;
use crate::parameters::ValidatedExecution;
use crate::toleration::Toleration;

/// Longest payload, in bytes: an annotation may hold 256 KiB together with all others.
pub(crate) const PAYLOAD_MAX: usize = 240 * 1024;
/// Where kubectl looks for the account that it acts as.
const ACCESS_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token is good for: the shortest that an API server gives. The one that is mounted by itself is asked for
/// an hour, and most API servers make a year of that hour.
const TOKEN_SECONDS: u32 = 600;
/// Longest name of a Job whose pods still get it as a label.
const NAME_MAX: usize = 63;

/// A Job ready to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The Job.
    pub job: Job,
    /// Payload that must not stand in the Job.
    pub secret: Option<Secret>,
    /// Hash of all of it; the Job carries it as an annotation.
    pub hash: String,
}

/// Why no Job can be made of an execution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The payload is too large to travel with the Job.
    #[error("the payload has {0} bytes; at most {PAYLOAD_MAX} can travel with a Job")]
    PayloadTooLarge(usize),
    /// A patch of type json is no list of operations.
    #[error("parameters.patchDeployment.patch must be a JSON array of operations: {0}")]
    BadPatch(String),
    /// A patch of an update-image that is for more than images.
    #[error(
        "parameters.patchDeployment.patch must set images of containers by their names and nothing else: {0}"
    )]
    BadImages(String),
    /// A manifest that could not be read.
    #[error("parameters.applyManifest: the manifest was not read")]
    NoManifest,
    /// A kind whose plural nobody knows.
    #[error("kind {0:?} is not known here")]
    UnknownKind(String),
    /// Without a pod the request would be for all of them.
    #[error("there is no pod to delete")]
    NoPods,
    /// A call of kubectl in a dry run would not be one.
    #[error("kubectl {0} has no form by which it changes nothing: it can't be tried by a dry run")]
    NotDry(String),
    /// What was put together is no Job.
    #[error("the Job could not be put together: {0}")]
    Malformed(String),
}

/// Name of an attempt's Job: the same for the same execution and attempt, different for any other.
pub fn job_name(execution_name: &str, execution_uid: &str, attempt: i32) -> String {
    let hash = hex(execution_uid.as_bytes(), 10);
    let tail = format!("-{hash}-{attempt}");
    let mut head: String = execution_name
        .chars()
        .map(|c| if c == '.' { '-' } else { c })
        .collect();
    head.truncate(head.floor_char_boundary(NAME_MAX.saturating_sub(tail.len())));
    format!("{}{tail}", head.trim_end_matches('-'))
}

/// The first hex digits of the SHA-256 of `bytes`.
pub(crate) fn hex(bytes: &[u8], digits: usize) -> String {
    // Two digits a byte.
    Sha256::digest(bytes)
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .take(digits)
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// Under this name the API server keeps what our Jobs change, whatever account they run as. `kubectl scale`, `cordon` and `drain`
/// take no such flag.
pub(crate) const FIELD_MANAGER: &str = "--field-manager=kubernaut";
/// The file of a patch, and the flag that names it.
pub(crate) const PATCH_FILE: &str = "patch.json";
/// See [`PATCH_FILE`].
pub(crate) const PATCH_FLAG: &str = "--patch-file=/payload/patch.json";

/// By this kubectl asks the API server to do all but store what comes of it.
const DRY_RUN_FLAG: &str = "--dry-run=server";
/// Says that nothing is stored, at the end of a path.
const RAW_DRY_RUN: &str = "?dryRun=All";

/// Says the same in the DeleteOptions of a request that is sent as it is, also those of an eviction.
pub(crate) fn dry_options(options: &mut Value, dry_run: bool) {
    if dry_run {
        options["dryRun"] = json!(["All"]);
    }
}

/// A request by its path. A dry run says so here as well as in its options: admission webhooks are told only what stands here, and
/// some proxies drop the body of a DELETE.
pub(crate) fn raw(path: &str, dry_run: bool) -> String {
    let query = if dry_run { RAW_DRY_RUN } else { "" };
    format!("--raw={path}{query}")
}

/// What kubectl is called with, and what it reads. No --request-timeout: with it kubectl takes its configuration for one that
/// a person made, and asks localhost:8080 instead of the cluster that its pod runs in. The Job's deadline bounds each request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    /// One list of arguments for each container, in order; all but the last are init containers.
    argv: Vec<Vec<String>>,
    /// File name below /payload and its content.
    files: Vec<(String, String)>,
}

impl Call {
    /// One command.
    pub(crate) fn of(arguments: impl IntoIterator<Item = String>) -> Self {
        Self {
            argv: vec![arguments.into_iter().collect()],
            files: Vec::new(),
        }
    }

    /// With a file below /payload.
    pub(crate) fn with_file(mut self, name: &str, content: String) -> Self {
        self.files.push((name.to_owned(), content));
        self
    }

    /// Where it is to be tried: in the form by which the API server does all but store what comes of it. Not for what is sent
    /// with --raw, where kubectl ignores the flag and would change things: see [`dry_options`].
    pub(crate) fn dry(mut self, dry_run: bool) -> Self {
        if dry_run {
            let argv = self.argv.iter_mut();
            argv.for_each(|arguments| arguments.push(DRY_RUN_FLAG.to_owned()));
        }
        self
    }

    /// The arguments of each command.
    pub(crate) fn commands(&self) -> impl Iterator<Item = &[String]> {
        self.argv.iter().map(Vec::as_slice)
    }

    /// What a file below /payload holds.
    pub(crate) fn file(&self, name: &str) -> Option<&str> {
        let mut files = self.files.iter();
        files.find_map(|(known, content)| (known == name).then_some(content.as_str()))
    }

    /// The first command that would change something: neither the flag nor its request says that it is a dry run.
    pub(crate) fn changing(&self) -> Option<&str> {
        let changing = self.argv.iter().find(|arguments| !self.is_dry(arguments))?;
        Some(changing.first().map_or("", String::as_str))
    }

    fn is_dry(&self, arguments: &[String]) -> bool {
        let Some(raw) = arguments.iter().find(|argument| argument.starts_with("--raw=")) else {
            return arguments.iter().any(|argument| argument == DRY_RUN_FLAG);
        };
        let mut arguments = arguments.iter();
        let file = arguments.find_map(|argument| argument.strip_prefix("--filename=/payload/"));
        let content = file.and_then(|file| self.files.iter().find(|(name, _)| name == file));
        let body: Value = content
            .and_then(|(_, content)| serde_json::from_str(content).ok())
            .unwrap_or_default();
        let all = json!(["All"]);
        let options = if body["kind"] == "Eviction" {
            &body["deleteOptions"]
        } else {
            &body
        };
        options["dryRun"] == all && raw.ends_with(RAW_DRY_RUN)
    }

    /// And after it another one.
    pub(crate) fn then(mut self, other: Self) -> Self {
        self.argv.extend(other.argv);
        self.files.extend(other.files);
        self
    }
}

/// The Job of an attempt (docs/executions.md, Attempts and Jobs). Pure: the same record gives the same Job.
pub fn render(
    execution: &KubernetesExecution,
    checked: &ValidatedExecution,
    attempt: &Attempt,
    settings: &Settings,
) -> Result<Rendered, RenderError> {
    let ValidatedExecution { action, kind, .. } = checked;
    let operation = operation(action);
    let (left, patience) = budget(attempt.start_time.0, attempt.deadline.0);
    let call = operation.call(JobContext {
        execution,
        checked,
        attempt,
        patience,
        dry_run: attempt.is_dry_run(),
    })?;
    if attempt.is_dry_run()
        && let Some(verb) = call.changing()
    {
        return Err(RenderError::NotDry(verb.to_owned()));
    }
    let size: usize = call.files.iter().map(|(_, content)| content.len()).sum();
    if size > PAYLOAD_MAX {
        return Err(RenderError::PayloadTooLarge(size));
    }

    let labels = labels(execution, attempt);
    let annotations = execution.metadata.annotations.as_ref();
    let correlation = annotations
        .and_then(|annotations| annotations.get(names::ANNOTATION_CORRELATION_ID))
        .or(execution.metadata.uid.as_ref())
        .map_or("", String::as_str);
    let secret = (kind.definition().payload == Payload::Secret).then(|| Secret {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some(attempt.job_name.clone()),
            namespace: Some(settings.executor_namespace.clone()),
            labels: Some(labels.clone()),
            ..Default::default()
        },
        data: Some(
            call.files
                .iter()
                .map(|(file, text)| (file.clone(), ByteString(text.clone().into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    });
    let mut pod_annotations = BTreeMap::from([(
        names::ANNOTATION_CORRELATION_ID.to_owned(),
        correlation.to_owned(),
    )]);
    if secret.is_none() {
        for (index, (_, content)) in call.files.iter().enumerate() {
            pod_annotations.insert(payload_annotation(index, call.files.len()), content.clone());
        }
    }
    let mut pod = pod(&call, *kind, attempt, correlation, secret.is_some(), settings);
    if let Some(node) = operation.avoids_node() {
        // Preferred, not required: there may be only one node.
        pod["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "preference": {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [node]}]},
        }]}});
    }
    let name = execution.metadata.name.as_deref().unwrap_or_default();
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": attempt.job_name,
            "namespace": settings.executor_namespace,
            "labels": labels,
            "annotations": {names::ANNOTATION_CORRELATION_ID: correlation, names::ANNOTATION_EXECUTION_NAME: name},
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": left,
            "ttlSecondsAfterFinished": settings.job_ttl_seconds,
            "podReplacementPolicy": "Failed",
            // An evicted pod is not a failed action.
            "podFailurePolicy": {"rules": [
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]},
            "template": {"metadata": {"labels": labels, "annotations": pod_annotations}, "spec": pod},
        },
    });
    // Not what a Secret holds: whoever reads Jobs could try values until the hash fits. It follows from the spec, which nobody
    // can change.
    let payload = secret.is_some().then(|| {
        let names = call.files.iter().map(|(name, _)| name);
        names.collect::<Vec<_>>()
    });
    let hash = hex(json!([job, payload]).to_string().as_bytes(), 32);
    job["metadata"]["annotations"][names::ANNOTATION_JOB_HASH] = json!(hash);
    let job: Job = serde_json::from_value(job).map_err(|error| RenderError::Malformed(error.to_string()))?;
    Ok(Rendered { job, secret, hash })
}

/// Of a Job, its pod and its payload.
fn labels(execution: &KubernetesExecution, attempt: &Attempt) -> BTreeMap<String, String> {
    let metadata = &execution.metadata;
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "kubernaut-job".to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), "kubernaut".to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "kubernaut".to_owned()),
        (
            names::LABEL_EXECUTION_UID.to_owned(),
            metadata.uid.clone().unwrap_or_default(),
        ),
        (
            names::LABEL_EXECUTION_NAME.to_owned(),
            label_value(metadata.name.as_deref().unwrap_or_default()),
        ),
        (
            names::LABEL_EXECUTION_NAMESPACE.to_owned(),
            label_value(metadata.namespace.as_deref().unwrap_or_default()),
        ),
        (
            names::LABEL_ACTION.to_owned(),
            label_value(&execution.spec.action),
        ),
        (names::LABEL_ATTEMPT.to_owned(), attempt.attempt.to_string()),
    ]);
    let of_execution = metadata.labels.as_ref();
    if let Some(workflow) = of_execution.and_then(|labels| labels.get(names::LABEL_WORKFLOW)) {
        labels.insert(names::LABEL_WORKFLOW.to_owned(), label_value(workflow));
    }
    labels
}

/// The spec of its pod: a container for each call of kubectl, one after the other.
fn pod(
    call: &Call,
    kind: ActionKind,
    attempt: &Attempt,
    correlation: &str,
    in_secret: bool,
    settings: &Settings,
) -> Value {
    let mut containers: Vec<Value> = call
        .argv
        .iter()
        .enumerate()
        .map(|(index, argv)| container(index, argv, correlation, !call.files.is_empty(), settings))
        .collect();
    let last = containers.pop().unwrap_or_default();
    let mut pod = json!({
        "serviceAccountName": if planted(Defect::UseAnotherAccount) { "cordon-node-sa" } else { kind.service_account() },
        // The token of the volume `access` takes its place: that one lives for ten minutes.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [last],
        "volumes": volumes(&call.files, attempt, in_secret),
    });
    if !containers.is_empty() {
        pod["initContainers"] = Value::Array(containers);
    }
    let mut tolerations: Vec<Value> = settings
        .executor_tolerations
        .iter()
        .map(Toleration::of_a_pod)
        .collect();
    if kind.is_node_action() {
        // With every node cordoned the uncordon would otherwise wait until its deadline.
        tolerations.push(
            json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}),
        );
    }
    if !tolerations.is_empty() {
        pod["tolerations"] = Value::Array(tolerations);
    }
    if !settings.executor_node_selector.is_empty() {
        pod["nodeSelector"] = json!(settings.executor_node_selector);
    }
    pod
}

/// Seconds that the Job gets, and those that a drain gets: kubectl gives up before the Job controller would delete its pod,
/// and its message with it (docs/executions.md, Attempts and Jobs).
fn budget(from: Timestamp, to: Timestamp) -> (i64, i64) {
    let left = to.duration_since(from).as_millis();
    let patience = left - (left / 3).min(15_000);
    let seconds = |millis: i128| i64::try_from(millis / 1000).unwrap_or(i64::MAX).max(1);
    (seconds(left + 999), seconds(patience))
}

fn payload_annotation(index: usize, count: usize) -> String {
    if count == 1 {
        names::ANNOTATION_PAYLOAD.to_owned()
    } else {
        format!("{}-{index}", names::ANNOTATION_PAYLOAD)
    }
}

fn container(index: usize, argv: &[String], correlation: &str, payload: bool, settings: &Settings) -> Value {
    let mut mounts = vec![json!({"name": "access", "mountPath": ACCESS_PATH, "readOnly": true})];
    if payload {
        mounts.push(json!({"name": "payload", "mountPath": "/payload", "readOnly": true}));
    }
    json!({
        "name": if index == 0 { "kubectl".to_owned() } else { format!("kubectl-{index}") },
        "image": settings.kubectl_image,
        "imagePullPolicy": "IfNotPresent",
        "args": argv,
        "env": [
            {"name": "KUBECTL_KUBERC", "value": "false"},
            {"name": "KUBERNAUT_CORRELATION_ID", "value": correlation},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        // What it prints is on the node's disk, too. Nothing is asked for of that: a node whose kubelet does not count it has none
        // to give.
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "0"},
            "limits": {"cpu": "200m", "memory": "256Mi", "ephemeral-storage": "128Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    })
}

fn volumes(files: &[(String, String)], attempt: &Attempt, secret: bool) -> Value {
    // Nothing to write to: what kubectl would keep there of the API server's kinds serves one command alone, and each volume is
    // read and compared by the API server each time the Job's status is written.
    let mut volumes = vec![access()];
    if secret {
        volumes.push(json!({"name": "payload", "secret": {"secretName": attempt.job_name}}));
    } else if !files.is_empty() {
        let items: Vec<Value> = files
            .iter()
            .enumerate()
            .map(|(index, (file, _))| {
                let annotation = payload_annotation(index, files.len());
                json!({"path": file, "fieldRef": {"fieldPath": format!("metadata.annotations['{annotation}']")}})
            })
            .collect();
        volumes.push(json!({"name": "payload", "downwardAPI": {"items": items}}));
    }
    Value::Array(volumes)
}

/// What kubectl looks for in a pod: where the API server's certificate comes from, its namespace, and a token. A kubelet
/// brings a new one before the old one ends, and kubectl reads it again.
fn access() -> Value {
    json!({"name": "access", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[cfg(test)]
mod tests;
