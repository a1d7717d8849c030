//! The parameters of an execution, checked for objects of any shape.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubernaut_crds::{Action, KubernetesExecution, TargetRef, names};

use crate::Settings;
use crate::actions::{
    AccessRequest, ActionKind, CheckContext, LEAST_TIMEOUT, Variant, bad_number, check_spelling, kind_of,
    operation,
};
use crate::duration::parse_go;
use crate::manifest_kinds::{ParsedManifest, parse_manifest};
use crate::problem::Problem;
use crate::render::PAYLOAD_MAX;

/// An execution that can be run, read once.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedExecution {
    /// What is done.
    pub action: Action,
    /// Which of the actions that is.
    pub kind: ActionKind,
    /// What its name promises.
    pub variant: Variant,
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

/// Checks everything that needs no cluster (docs/executions.md, Validation), for objects of any shape: what the
/// API server checks is checked again, since a stored object may be older than its rules.
///
/// # Errors
/// All that is wrong, each with its field.
pub fn check(
    execution: &KubernetesExecution,
    settings: &Settings,
) -> Result<ValidatedExecution, Vec<Problem>> {
    if let Some(size) = oversize(&execution.metadata) {
        return Err(vec![Problem::new("", format!("the spec {}", too_long(size)))]);
    }
    let spec = &execution.spec;
    let action = Action::try_from(spec.parameters.clone())
        .map_err(|error| vec![Problem::new("", error.to_string())])?;
    let mut problems: Vec<Problem> = check_spelling(&spec.action, &action).into_iter().collect();
    let kind = kind_of(&action);
    let frame = check_frame(
        &CommonFields {
            timeout: &spec.timeout,
            kind,
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
    let variant = kind.map_or(Variant::Plain, |kind| kind.variant(&spec.action));
    let context = CheckContext {
        variant,
        spelling: &spec.action,
        manifest: manifest.as_ref(),
        settings,
    };
    problems.extend(
        check_action(&action, context)
            .into_iter()
            .chain(wrong)
            .map(|problem| problem.within(&format!("parameters.{}", action.member()))),
    );
    problems.extend(operation(&action).problem_of_variant(context));
    let Some(kind) = kind else {
        problems.push(Problem::new("parameters.undo.of", "is not an action"));
        return Err(problems);
    };
    if !settings.actions.contains(&kind) {
        let message = format!(
            "{} is not installed in this cluster: whoever runs kubernaut can add it to --actions",
            kind.canonical()
        );
        problems.push(Problem::new("action", message));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let operation = operation(&action);
    let target = operation.target(manifest.as_ref());
    Ok(ValidatedExecution {
        rights: operation.rights(&kind.rules(settings), &target, manifest.as_ref()),
        optional_right: operation.optional_right(),
        target,
        kind,
        variant,
        timeout: frame.timeout,
        warnings: frame.warnings,
        action: action.clone(),
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
pub(crate) struct CommonFields<'a> {
    /// Go duration.
    pub(crate) timeout: &'a str,
    /// Some need a longer one.
    pub(crate) kind: Option<ActionKind>,
    pub(crate) max_retries: i32,
    pub(crate) target_cluster: &'a str,
}

pub(crate) struct CheckedFrame {
    /// Zero where it is wrong.
    timeout: Duration,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
}

/// Checks timeout, retries and cluster.
pub(crate) fn check_frame(frame: &CommonFields<'_>, settings: &Settings) -> CheckedFrame {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let timeout = check_timeout(frame.timeout, frame.kind, settings).unwrap_or_else(|problem| {
        problems.push(Problem::new("timeout", problem));
        Duration::ZERO
    });
    problems.extend(bad_number("maxRetries", frame.max_retries.into(), 0, 5));
    match (&settings.cluster_name, frame.target_cluster) {
        (_, "") => {}
        (Some(own), other) if own == other => {}
        (Some(own), other) => {
            let message = format!("{other:?} is not this cluster, {own:?} (--cluster-name)");
            problems.push(Problem::new("targetCluster", message));
        }
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
fn check_timeout(text: &str, kind: Option<ActionKind>, settings: &Settings) -> Result<Duration, String> {
    let timeout = parse_go(text).map_err(|error| error.to_string())?;
    let least = kind.map_or(LEAST_TIMEOUT, |kind| kind.definition().least_timeout);
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
fn check_action(action: &Action, context: CheckContext<'_>) -> Vec<Problem> {
    let operation = operation(action);
    let mut problems = operation.problems(context);
    if let Some(namespace) = operation.target(context.manifest).namespace
        && context.settings.protected_namespaces.contains(&namespace)
    {
        let message = format!("{namespace} is protected: nothing is changed there (--protected-namespaces)");
        problems.push(Problem::new("namespace", message));
    }
    // A payload that no Job could carry: planning says so, and not the step when its turn has come.
    if let Some((field, size)) = operation.payload_size(context.manifest)
        && size > PAYLOAD_MAX
    {
        let message = format!("has {size} bytes as JSON; at most {PAYLOAD_MAX} can travel with a Job");
        problems.push(Problem::new(field, message));
    }
    problems
}

/// Stands for an entry of --apply-manifest-kinds where no manifest was read.
pub const ANY_KIND: &str = "[GROUP/]KIND";

/// Reads the manifest of an applyManifest, once: whoever needs something of it is given what was read. Where no kind
/// may be applied nothing is read.
fn read_manifest(action: &Action, settings: &Settings) -> Result<Option<ParsedManifest>, Problem> {
    let operation = operation(action);
    let Some(text) = operation.manifest() else {
        return Ok(None);
    };
    if settings.apply_manifest_kinds.is_empty() {
        let message = format!(
            "no kind may be applied in this cluster: allow the one that is needed with --apply-manifest-kinds={ANY_KIND}"
        );
        return Err(Problem::new("manifest", message));
    }
    parse_manifest(text)
        .map(Some)
        .map_err(|problem| Problem::new("manifest", problem))
}

#[cfg(test)]
mod tests;
