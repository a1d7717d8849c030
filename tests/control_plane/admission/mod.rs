//! Ways to get more than one's part: each is tried and refused with a reason that a person can act on, and beside each
//! stands what the same person may do, which passes.
//!
//! Those who try have the built-in role edit in one namespace. Where RBAC lets them through nowhere, it is an
//! administrator who tries: the policies exempt nobody for that.

mod backend;
mod way;

mod approvals;
mod elsewhere;
mod executions;
mod executor;
mod label;
mod owners;
mod payloads;
mod reach;
mod sizes;
mod specs;
mod system;

use serde_json::{Value, json};

use crate::bed::bed;
use crate::scene::Scene;

#[tokio::test]
async fn the_api_server_finds_nothing_to_warn_of_in_any_policy() {
    let scene = Scene::new(bed().await, "adm-policies").await;
    let ours = "app.kubernetes.io/part-of=kubernaut";
    let kind = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy";
    let checked = scene
        .eventually("every policy is checked", async || {
            let policies = scene.list(kind, ours).await;
            let all = policies
                .iter()
                .all(|policy| policy["status"]["typeChecking"].is_object());
            all.then_some(policies)
        })
        .await;
    let bindings = scene.list(&format!("{kind}Binding"), ours).await;
    assert!(checked.len() >= 22, "{} policies", checked.len());
    assert_eq!(bindings.len(), checked.len(), "each is bound");
    for policy in checked {
        let name = &policy["metadata"]["name"];
        assert_eq!(policy["status"]["typeChecking"], json!({}), "{name}");
        assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{name}");
        assert_ne!(
            policy["metadata"]["annotations"]["kubernetes.io/description"],
            Value::Null,
            "{name}"
        );
    }
}
