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
        path: path.to_owned(),
        // Their bodies say that nothing is stored.
        query: "",
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
            let named = format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]));
            let namespace = object["metadata"]["namespace"].as_str();
            DryRequest::patch(path_of(&named, namespace)?, "application/apply-patch+yaml", body)
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
    let root = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let place = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    Ok(format!("{root}{place}/{plural}/{name}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Settings;
    use crate::actions::ActionKind;

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
                    let body: Value = serde_json::from_str(&request.body).expect("JSON");
                    let options = if body["kind"] == "Eviction" {
                        &body["deleteOptions"]
                    } else {
                        &body
                    };
                    assert!(
                        request.query.contains("dryRun=All") || options["dryRun"] == json!(["All"]),
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
