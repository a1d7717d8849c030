//! What an installation brings is taken and stored, also what is not acted on here.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kubernaut::manifests::Installation;
use serde_json::json;

use crate::support::{cluster, create_object};

#[tokio::test(start_paused = true)]
async fn the_policies_of_an_installation_are_stored_and_not_evaluated() {
    let (cluster, client) = cluster();
    let objects = kubernaut::manifests::objects(&Installation::default()).expect("manifests");
    let count = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).count();
    let (policies, bindings) = (
        count("ValidatingAdmissionPolicy"),
        count("ValidatingAdmissionPolicyBinding"),
    );
    assert!(policies > 0 && policies == bindings);
    cluster.load(objects.clone()).expect("loaded");
    let all = ListParams::default();
    let stored: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bound: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let stored = stored.list(&all).await.expect("a list").items;
    assert_eq!(stored.len(), policies);
    assert_eq!(bound.list(&all).await.expect("a list").items.len(), bindings);
    assert!(roles.get("kubernaut-approve").await.is_ok());
    // What was stored is what was given, down to the expressions.
    for policy in stored {
        let stored = serde_json::to_value(&policy.spec).expect("JSON");
        let given = objects.iter().find(|object| {
            object["kind"] == "ValidatingAdmissionPolicy"
                && object["metadata"]["name"].as_str() == policy.metadata.name.as_deref()
        });
        assert_eq!(stored, given.expect("given")["spec"]);
    }

    // A real API server refuses this.
    let protected = json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": "here", "namespace": "kube-public"},
        "spec": {"action": "cordon-node", "parameters": {"cordonNode": {"node": "n1"}}, "approvalReceived": true},
    });
    create_object(&client, protected).await.expect("not evaluated");
    let executions: Api<kubernaut_crds::KubernetesExecution> = Api::namespaced(client, "kube-public");
    let forged = Patch::Merge(json!({"metadata": {"annotations": {"kubernaut.io/created-by": "anybody"}}}));
    executions
        .patch("here", &PatchParams::default(), &forged)
        .await
        .expect("not evaluated");
}
