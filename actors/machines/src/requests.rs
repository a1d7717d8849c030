//! What kubectl sends for an action, each request in the form by which the API server does all but store what comes of it: for
//! who wants to see what a step would change, and has no Job.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kubernaut_crds::{Attempt, KubernetesExecution};
use serde_json::{Value, json};

use crate::actions::{JobContext, operation};
use crate::manifest_kinds::known_kind_of;
use crate::parameters::ValidatedExecution;
use crate::preflight::Preflight;
use crate::render::{Call, RenderError};

/// By this the API server stores nothing.
const DRY_RUN: &str = "dryRun=All&fieldManager=kubernaut";

/// A request that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRequest {
    /// `PATCH`, `POST` or `DELETE`.
    pub method: &'static str,
    /// The path of the object, or of its subresource.
    pub path: String,
    /// What stands behind it.
    pub query: &'static str,
    /// Of the body.
    pub content_type: &'static str,
    /// What is sent.
    pub body: String,
}

impl DryRequest {
    fn patch(path: String, content_type: &'static str, body: String) -> Self {
        Self {
            method: "PATCH",
            path,
            query: DRY_RUN,
            content_type,
            body,
        }
    }
}

/// The requests of an execution's first attempt; of a drain only that of its cordon.
///
/// # Errors
/// As where its Job is made.
pub fn dry_requests(
    execution: &KubernetesExecution,
    checked: &ValidatedExecution,
    preflight: &Preflight,
    now: Timestamp,
) -> Result<Vec<DryRequest>, RenderError> {
    let attempt = Attempt {
        attempt: 0,
        job_name: String::new(),
        job_hash: String::new(),
        target_generation: preflight.generation,
        start_time: MicroTime(now),
        deadline: MicroTime(now),
        pods: preflight.pods.clone(),
        restarted_at: Some(now.to_string()),
        init_containers: preflight.init_containers.clone(),
        end_time: None,
        outcome: None,
        error_type: None,
        retry: None,
        message: None,
    };
    let call = operation(&checked.action).call(JobContext {
        execution,
        checked,
        attempt: &attempt,
        patience: 0,
        dry_run: true,
    })?;
    if let Some(verb) = call.changing() {
        return Err(RenderError::NotDry(verb.to_owned()));
    }
    let requests = call.commands().map(|arguments| request(&call, arguments));
    requests.collect()
}

/// The request that kubectl makes of a command.
fn request(call: &Call, arguments: &[String]) -> Result<DryRequest, RenderError> {
    let flag = |name: &str| {
        let mut all = arguments.iter();
        all.find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    };
    let file = |flag: &str| {
        let name = flag.strip_prefix("/payload/").unwrap_or(flag);
        call.file(name).unwrap_or_default().to_owned()
    };
    let verb = arguments.first().map_or("", String::as_str);
    let target = arguments.get(1).map_or("", String::as_str);
    let node = |unschedulable: Option<bool>| {
        let body = json!({"spec": {"unschedulable": unschedulable}}).to_string();
        let path = format!("/api/v1/nodes/{target}");
        DryRequest::patch(path, "application/strategic-merge-patch+json", body)
    };
    let raw = |method: &'static str, path: &str| DryRequest {
        method,
        // What stands behind it is said anew.
        path: path.split('?').next().unwrap_or_default().to_owned(),
        query: DRY_RUN,
        content_type: "application/json",
        body: file(flag("--filename").unwrap_or_default()),
    };
    let namespace = flag("--namespace");
    Ok(match (verb, flag("--raw")) {
        ("create", Some(path)) => raw("POST", path),
        ("delete", Some(path)) => raw("DELETE", path),
        ("cordon" | "drain", None) => node(Some(true)),
        ("uncordon", None) => node(None),
        ("scale", None) => {
            let replicas: i64 = flag("--replicas")
                .and_then(|text| text.parse().ok())
                .unwrap_or_default();
            let body = json!({"spec": {"replicas": replicas}}).to_string();
            let path = format!("{}/scale", path_of(target, namespace)?);
            DryRequest::patch(path, "application/merge-patch+json", body)
        }
        ("patch", None) => {
            let content_type = match flag("--type") {
                Some("json") => "application/json-patch+json",
                Some("merge") => "application/merge-patch+json",
                Some(_) | None => "application/strategic-merge-patch+json",
            };
            let body = match (flag("--patch"), flag("--patch-file")) {
                (Some(patch), _) => patch.to_owned(),
                (None, Some(name)) => file(name),
                (None, None) => String::new(),
            };
            let subresource = flag("--subresource").map(|name| format!("/{name}"));
            let path = format!(
                "{}{}",
                path_of(target, namespace)?,
                subresource.unwrap_or_default()
            );
            DryRequest::patch(path, content_type, body)
        }
        ("apply", None) => {
            let body = file(flag("--filename").unwrap_or_default());
            let object: Value = serde_json::from_str(&body).unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let kind = text(&object["kind"]);
            let known = known_kind_of(&kind).ok_or(RenderError::UnknownKind(kind))?;
            // Its own version: the API server takes no other one at the path of this one.
            let version = text(&object["apiVersion"]);
            let version = version.rsplit('/').next().unwrap_or_default();
            let namespace = object["metadata"]["namespace"].as_str();
            let name = text(&object["metadata"]["name"]);
            let path = path_in(known.group, version, namespace, known.plural, &name);
            DryRequest::patch(path, "application/apply-patch+yaml", body)
        }
        (other, _) => return Err(RenderError::NotDry(other.to_owned())),
    })
}

/// The path of `kind/name`.
fn path_of(target: &str, namespace: Option<&str>) -> Result<String, RenderError> {
    let (kind, name) = target.split_once('/').unwrap_or((target, ""));
    let (group, version, plural) = match (kind, known_kind_of(kind)) {
        ("secret", _) => ("", "v1", "secrets"),
        (_, Some(known)) => (
            known.group,
            known.versions.first().copied().unwrap_or("v1"),
            known.plural,
        ),
        (_, None) => return Err(RenderError::UnknownKind(kind.to_owned())),
    };
    Ok(path_in(group, version, namespace, plural, name))
}

fn path_in(group: &str, version: &str, namespace: Option<&str>, plural: &str, name: &str) -> String {
    let root = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let place = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    format!("{root}{place}/{plural}/{name}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Settings;
    use crate::actions::ActionKind;

    #[test]
    fn what_is_applied_goes_to_the_version_that_it_has() {
        let applied = json!({"applyManifest": {"manifest": json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}}).to_string()}});
        let execution: KubernetesExecution = serde_json::from_value(json!({
            "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
            "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1"},
            "spec": {"action": "apply-manifest", "parameters": applied, "timeout": "1m"}
        }))
        .expect("an execution");
        let checked =
            crate::parameters::check(&execution, &Settings::default().without_limits()).expect("sound");
        let requests = dry_requests(&execution, &checked, &Preflight::empty(), Timestamp::UNIX_EPOCH);
        assert_eq!(
            requests.expect("a request")[0].path,
            "/apis/autoscaling/v1/namespaces/shop/horizontalpodautoscalers/web"
        );
    }

    #[test]
    fn each_action_has_requests_that_store_nothing() {
        let settings = Settings::default().without_limits();
        let mut seen = BTreeMap::new();
        for kind in ActionKind::ALL {
            for (_, parameters) in kind.samples() {
                let execution: KubernetesExecution = serde_json::from_value(json!({
                    "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
                    "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1"},
                    "spec": {"action": kind.canonical(), "parameters": parameters, "timeout": "1m"}
                }))
                .expect("an execution");
                let checked = crate::parameters::check(&execution, &settings).expect("sound");
                let preflight = Preflight {
                    pods: serde_json::from_value(json!([{"name": "web-1", "uid": "u"}])).expect("pods"),
                    ..Preflight::empty()
                };
                for request in
                    dry_requests(&execution, &checked, &preflight, Timestamp::UNIX_EPOCH).expect("requests")
                {
                    assert!(
                        request.query.contains("dryRun=All") && !request.path.contains('?'),
                        "{request:?}"
                    );
                    seen.insert(kind.canonical(), format!("{} {}", request.method, request.path));
                }
            }
        }
        let expected = [
            (
                "apply-manifest",
                "PATCH /api/v1/namespaces/shop/configmaps/settings",
            ),
            ("cordon-node", "PATCH /api/v1/nodes/node-1"),
            ("delete-pod", "POST /api/v1/namespaces/shop/pods/web-1/eviction"),
            ("drain-node", "PATCH /api/v1/nodes/node-1"),
            (
                "patch-deployment",
                "PATCH /apis/apps/v1/namespaces/shop/deployments/web",
            ),
            (
                "rollout-restart",
                "PATCH /apis/apps/v1/namespaces/shop/deployments/web",
            ),
            (
                "scale-deployment",
                "PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale",
            ),
            (
                "scale-stateful-set",
                "PATCH /apis/apps/v1/namespaces/shop/statefulsets/db/scale",
            ),
            ("uncordon-node", "PATCH /api/v1/nodes/node-1"),
            (
                "update-configmap",
                "PATCH /api/v1/namespaces/shop/configmaps/settings",
            ),
            ("update-secret", "PATCH /api/v1/namespaces/shop/secrets/keys"),
        ];
        let expected = expected.map(|(kind, words)| (kind, words.to_owned()));
        assert_eq!(seen, BTreeMap::from(expected));
    }
}
