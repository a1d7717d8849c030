//! The parameters of an execution, checked for objects of any shape.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubernaut_crds::{Action, KubernetesExecution, TargetRef, names};
use serde_json::{Value, json};

use crate::Settings;
use crate::actions::{
    AccessRequest, ActionKind, allowed_kind, check_spelling, container_rule, kind_of, optional_right,
    rights_of, target_of,
};
use crate::classify::plain;
use crate::duration::parse_go;
use crate::images::patched_images;
use crate::label_selector;
use crate::manifest_kinds::{ParsedManifest, check_kind, known_kinds, parse_manifest};
use crate::mapping::not_base64;
use crate::render::PAYLOAD_MAX;

/// Shortest timeout of a step.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Shortest timeout of a drain.
const DRAIN_TIMEOUT_MIN: Duration = Duration::from_secs(30);
/// Longest name of a namespace.
const NAMESPACE_MAX: usize = 63;
/// Longest name of anything else.
const NAME_MAX: usize = 253;

/// An execution that can be run, read once.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What is done.
    pub action: Action,
    /// Its row in the table.
    pub kind: ActionKind,
    /// What it is done to.
    pub target: TargetRef,
    /// The budget of all attempts together.
    pub timeout: Duration,
    /// What the workflow's account must be allowed.
    pub rights: Vec<AccessRequest>,
    /// What it may be allowed besides, and the action can do without.
    pub optional_right: Option<AccessRequest>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The manifest of an applyManifest, read once: rights, looks at the target and the Job all ask for it.
    pub manifest: Option<ParsedManifest>,
}

/// Checks everything that needs no cluster (the executor's specification, 1.1), for objects of any shape: what the
/// API server checks is checked again, since a stored object may be older than its rules.
///
/// # Errors
/// All that is wrong, each with its field.
pub fn check(execution: &KubernetesExecution, settings: &Settings) -> Result<Checked, Vec<String>> {
    if let Some(size) = oversize(&execution.metadata) {
        return Err(vec![format!("spec: {}", too_long(size))]);
    }
    let spec = &execution.spec;
    let action = Action::try_from(spec.parameters.clone()).map_err(|error| vec![error.to_string()])?;
    let mut problems = Vec::new();
    if let Err(problem) = check_spelling(&spec.action, &action) {
        problems.push(problem);
    }
    let frame = check_frame(
        &Frame {
            timeout: &spec.timeout,
            is_drain: matches!(action, Action::DrainNode(_)),
            max_retries: spec.max_retries,
            target_cluster: &spec.target_cluster,
        },
        settings,
    );
    problems.extend(frame.problems);
    let (manifest, wrong) = match read_manifest(&action, settings) {
        Ok(manifest) => (manifest, None),
        Err(problem) => (None, Some(problem)),
    };
    problems.extend(
        check_action(&action, manifest.as_ref(), settings)
            .into_iter()
            .chain(wrong)
            .map(|problem| format!("parameters.{}: {problem}", action.member())),
    );
    if let Action::PatchDeployment(patch) = &action
        && container_rule(&spec.action)
        && bad_patch(patch).is_none()
        && let Err(problem) = patched_images(patch)
    {
        problems.push(format!(
            "action {:?} needs a patch that sets images of containers by their names and nothing else ({problem}); others are \
             for patch-deployment",
            spec.action
        ));
    }
    let Some(kind) = kind_of(&action) else {
        problems.push("parameters.undo.of is not an action".to_owned());
        return Err(problems);
    };
    if !settings.actions.contains(&kind) {
        problems.push(format!(
            "action: {} is not installed in this cluster: whoever runs kubernaut can add it to --actions",
            kind.canonical()
        ));
    }
    if !problems.is_empty() {
        // They quote what somebody wrote.
        return Err(problems
            .iter()
            .map(|problem| plain(problem).into_owned())
            .collect());
    }
    Ok(Checked {
        target: target_of(&action, manifest.as_ref()),
        rights: rights_of(&action, manifest.as_ref(), settings),
        optional_right: optional_right(&action),
        action,
        kind,
        timeout: frame.timeout,
        warnings: frame.warnings,
        manifest,
    })
}

/// Length of a spec of which nothing was kept: it is longer than any that is run.
pub(crate) fn oversize(metadata: &ObjectMeta) -> Option<&str> {
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(names::ANNOTATION_OVERSIZE).map(String::as_str)
}

pub(crate) fn too_long(size: impl std::fmt::Display) -> String {
    format!(
        "has {size} bytes as JSON; at most {} are allowed",
        names::SPEC_MAX_BYTES
    )
}

/// What stands around the parameters of an action, and can be checked where they are wrong.
pub(crate) struct Frame<'a> {
    /// Go duration.
    pub(crate) timeout: &'a str,
    /// A drain needs a longer one.
    pub(crate) is_drain: bool,
    pub(crate) max_retries: i32,
    pub(crate) target_cluster: &'a str,
}

pub(crate) struct CheckedFrame {
    /// Zero where it is wrong.
    timeout: Duration,
    pub(crate) problems: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Checks timeout, retries and cluster.
pub(crate) fn check_frame(frame: &Frame<'_>, settings: &Settings) -> CheckedFrame {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let timeout = check_timeout(frame.timeout, frame.is_drain, settings).unwrap_or_else(|problem| {
        problems.push(format!("timeout: {problem}"));
        Duration::ZERO
    });
    if !(0..=5).contains(&frame.max_retries) {
        problems.push(format!("maxRetries: {} is not within 0 to 5", frame.max_retries));
    }
    match (&settings.cluster_name, frame.target_cluster) {
        (_, "") => {}
        (Some(own), other) if own == other => {}
        (Some(own), other) => problems.push(format!(
            "targetCluster: {other:?} is not this cluster, {own:?} (--cluster-name)"
        )),
        (None, other) => warnings.push(format!(
            "targetCluster {other:?} is taken for this cluster: --cluster-name is not set"
        )),
    }
    CheckedFrame {
        timeout,
        problems,
        warnings,
    }
}

/// A step's timeout, within its bounds.
fn check_timeout(text: &str, is_drain: bool, settings: &Settings) -> Result<Duration, String> {
    let timeout = parse_go(text).map_err(|error| error.to_string())?;
    let least = if is_drain { DRAIN_TIMEOUT_MIN } else { TIMEOUT_MIN };
    if timeout < least {
        return Err(format!("{text} is too short: at least {} s", least.as_secs()));
    }
    if timeout > settings.max_step_timeout {
        let most = crate::duration::format_go(settings.max_step_timeout);
        return Err(format!("{text} is too long: at most {most} (--max-step-timeout)"));
    }
    Ok(timeout)
}

/// What is wrong with an action: names, ranges, namespaces, patches, manifests.
fn check_action(action: &Action, manifest: Option<&ParsedManifest>, settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    let target = target_of(action, manifest);
    let mut name = |field: &str, text: &str, max: usize| {
        if let Some(problem) = bad_name(text, max) {
            problems.push(format!("{field}: {problem}"));
        }
    };
    match action {
        Action::ScaleDeployment(scale) => name("deployment", &scale.deployment, NAME_MAX),
        Action::RolloutRestart(restart) => name("deployment", &restart.deployment, NAME_MAX),
        Action::PatchDeployment(patch) => name("deployment", &patch.deployment, NAME_MAX),
        Action::DeletePod(delete) => {
            if let Some(pod) = &delete.pod {
                name("pod", pod, NAME_MAX);
            }
        }
        Action::CordonNode(node) | Action::UncordonNode(node) => name("node", &node.node, NAME_MAX),
        Action::DrainNode(drain) => name("node", &drain.node, NAME_MAX),
        Action::UpdateConfigMap(update) => name("configMap", &update.config_map, NAME_MAX),
        Action::UpdateSecret(update) => name("secret", &update.secret, NAME_MAX),
        Action::Undo(undo) => name("target.name", &undo.target.name, NAME_MAX),
        Action::ApplyManifest(_) => {}
    }
    if let (Some(namespace), false) = (&target.namespace, matches!(action, Action::ApplyManifest(_))) {
        name("namespace", namespace, NAMESPACE_MAX);
    }
    if let Some(namespace) = &target.namespace
        && settings.protected_namespaces.contains(namespace)
    {
        problems.push(format!(
            "namespace: {namespace} is protected: nothing is changed there (--protected-namespaces)"
        ));
    }
    problems.extend(too_large(action, manifest));
    match action {
        Action::ScaleDeployment(scale) if !(0..=1000).contains(&scale.replicas) => {
            problems.push(format!("replicas: {} is not within 0 to 1000", scale.replicas));
        }
        Action::DeletePod(delete) => {
            if delete.pod.is_some() == delete.label_selector.is_some() {
                problems.push("exactly one of pod and labelSelector is needed".to_owned());
            }
            if let Some(problem) = delete.label_selector.as_deref().and_then(bad_selector) {
                problems.push(format!("labelSelector: {problem}"));
            }
            if let Some(node) = &delete.node_name {
                problems.extend(bad_name(node, NAME_MAX).map(|problem| format!("nodeName: {problem}")));
                if delete.label_selector.is_none() {
                    problems.push("nodeName goes with labelSelector".to_owned());
                }
            }
            problems.extend(bad_grace(delete.grace_period_seconds.unwrap_or(0)));
        }
        Action::DrainNode(drain) => problems.extend(bad_grace(drain.grace_period_seconds)),
        Action::PatchDeployment(patch) => problems.extend(bad_patch(patch)),
        Action::UpdateConfigMap(update) => problems.extend(bad_keys(update.data.keys())),
        Action::UpdateSecret(update) => {
            problems.extend(bad_keys(update.data.keys()));
            problems.extend(
                not_base64(&update.data)
                    .map(|key| format!("data.{key}: is not base64 (standard alphabet, padded)")),
            );
        }
        Action::ApplyManifest(_) => {
            problems.extend(manifest.and_then(|manifest| bad_manifest(manifest, settings)));
        }
        Action::ScaleDeployment(_)
        | Action::RolloutRestart(_)
        | Action::CordonNode(_)
        | Action::UncordonNode(_)
        | Action::Undo(_) => {}
    }
    problems
}

fn bad_grace(seconds: i64) -> Option<String> {
    (!(0..=3600).contains(&seconds)).then(|| format!("gracePeriodSeconds: {seconds} is not within 0 to 3600"))
}

/// DNS-1123: no name can begin with `-` and be taken for an option.
fn bad_name(text: &str, max: usize) -> Option<String> {
    let inner = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (c == '.' && max > NAMESPACE_MAX)
    };
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let good =
        text.len() <= max && text.chars().all(inner) && end(text.chars().next()) && end(text.chars().last());
    (!good).then(|| format!("{text:?} is not a name: lower case letters, digits and -, at most {max}, beginning and ending with a letter or digit"))
}

fn bad_keys<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut keys = keys.peekable();
    if keys.peek().is_none() {
        return vec!["data: no key is set".to_owned()];
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    keys.filter(|key| key.is_empty() || key.len() > NAME_MAX || !key.chars().all(good))
        .map(|key| format!("data: {key:?} is not a key: letters, digits, -, _ and ."))
        .collect()
}

fn bad_patch(patch: &kubernaut_crds::PatchDeployment) -> Option<String> {
    let value: Result<Value, _> = serde_json::from_str(&patch.patch);
    let json = patch.patch_type == kubernaut_crds::PatchType::Json;
    match value {
        Err(error) => Some(format!("patch: is not JSON: {error}")),
        Ok(Value::Array(_)) if json => None,
        Ok(_) if json => Some("patch: of patchType json must be an array of operations".to_owned()),
        Ok(Value::Object(_)) => None,
        Ok(_) => Some("patch: must be a JSON object".to_owned()),
    }
}

/// A payload that no Job could carry: planning says so, and not the step when its turn has come.
fn too_large(action: &Action, manifest: Option<&ParsedManifest>) -> Option<String> {
    let (field, size) = match action {
        Action::PatchDeployment(patch) => ("patch", patch.patch.len()),
        Action::UpdateConfigMap(update) => ("data", json!({"data": update.data}).to_string().len()),
        Action::UpdateSecret(update) => ("data", json!({"data": update.data}).to_string().len()),
        Action::ApplyManifest(_) => ("manifest", manifest?.object.to_string().len()),
        Action::ScaleDeployment(_)
        | Action::RolloutRestart(_)
        | Action::DeletePod(_)
        | Action::CordonNode(_)
        | Action::UncordonNode(_)
        | Action::DrainNode(_)
        | Action::Undo(_) => return None,
    };
    (size > PAYLOAD_MAX)
        .then(|| format!("{field}: has {size} bytes as JSON; at most {PAYLOAD_MAX} can travel with a Job"))
}

/// Stands for an entry of --apply-manifest-kinds where no manifest was read.
pub const ANY_KIND: &str = "[GROUP/]KIND";

/// Reads the manifest of an applyManifest, once: whoever needs something of it is given what was read. Where no kind
/// may be applied nothing is read.
fn read_manifest(action: &Action, settings: &Settings) -> Result<Option<ParsedManifest>, String> {
    let Action::ApplyManifest(apply) = action else {
        return Ok(None);
    };
    if settings.apply_manifest_kinds.is_empty() {
        return Err(format!(
            "manifest: no kind may be applied in this cluster: allow the one that is needed with --apply-manifest-kinds={ANY_KIND}"
        ));
    }
    parse_manifest(&apply.manifest).map(Some)
}

/// Why a kind may not be applied, and what would allow it, if anything can.
fn not_allowed(manifest: &ParsedManifest) -> String {
    let (kind, entry) = (&manifest.kind, manifest.entry());
    if check_kind(&entry).is_none() {
        format!("manifest: kind {kind} is not allowed: allow it with --apply-manifest-kinds={entry}")
    } else {
        let known = known_kinds().join(", ");
        format!(
            "manifest: kind {kind:?} of {:?} may never be applied; those that --apply-manifest-kinds can allow are {known}",
            manifest.api_version
        )
    }
}

fn bad_manifest(manifest: &ParsedManifest, settings: &Settings) -> Option<String> {
    if let Some(problem) = bad_name(&manifest.namespace, NAMESPACE_MAX) {
        return Some(format!("manifest: metadata.namespace: {problem}"));
    }
    if let Some(problem) = bad_name(&manifest.name, NAME_MAX) {
        return Some(format!("manifest: metadata.name: {problem}"));
    }
    let Some(kind) = allowed_kind(&manifest.group, &manifest.kind, settings) else {
        return Some(not_allowed(manifest));
    };
    // The text becomes a part of URLs: it is one of the table's, to the letter.
    let known = kind.api_versions();
    (!known.contains(&manifest.api_version)).then(|| {
        format!(
            "manifest: apiVersion {:?} of kind {} is not known here: write {}",
            manifest.api_version,
            kind.kind,
            known.join(" or ")
        )
    })
}

/// What the API server would refuse is refused before it is asked.
fn bad_selector(text: &str) -> Option<String> {
    label_selector::problem(text)
        .map(|why| format!("{text:?} is not a label selector, such as app=web,tier!=cache: {why}"))
}

#[cfg(test)]
mod tests;
