use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::SubjectAccessReview,
    core::v1::{ConfigMap, Node},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use kubernaut::memory::{MemoryCluster, User};
use serde_json::{Value, json};

use crate::support::{create_deployment, status, strict_cluster, typed};

fn bind(cluster: &MemoryCluster, role: &Value, namespace: &str) {
    let mut role = role.clone();
    role["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
    role["kind"] = json!("Role");
    role["metadata"] = json!({"name": "r", "namespace": namespace});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "team"}],
    });
    cluster.load(vec![role, binding]).unwrap();
}

fn bot(cluster: &MemoryCluster) -> Client {
    cluster.client(User::service_account("team", "bot"))
}

#[tokio::test(start_paused = true)]
async fn without_a_role_a_request_is_refused_in_the_words_of_the_server() {
    let (cluster, admin) = strict_cluster();
    create_deployment(&admin, "web", 1).await;
    let api: Api<Deployment> = Api::namespaced(bot(&cluster), "default");
    let patch = Patch::Merge(json!({"spec": {"replicas": 2}}));
    let refused = status(api.patch("web", &PatchParams::default(), &patch).await);
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        refused.message,
        "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:team:bot\" cannot patch resource \
         \"deployments\" in API group \"apps\" in the namespace \"default\""
    );
    let refused = status(api.patch_scale("web", &PatchParams::default(), &patch).await);
    assert!(
        refused
            .message
            .contains("cannot patch resource \"deployments/scale\""),
        "{}",
        refused.message
    );
    let nodes: Api<Node> = Api::all(bot(&cluster));
    assert_eq!(
        status(nodes.list(&ListParams::default()).await).message,
        "nodes is forbidden: User \"system:serviceaccount:team:bot\" cannot list resource \"nodes\" in API group \
         \"\" at the cluster scope"
    );
}

#[tokio::test(start_paused = true)]
async fn a_role_gives_its_verbs_on_its_names_in_its_namespace() {
    let (cluster, admin) = strict_cluster();
    bind(
        &cluster,
        &json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "update"],
            "resourceNames": ["mine"]}]}),
        "default",
    );
    let all: Api<ConfigMap> = Api::namespaced(admin, "default");
    for name in ["mine", "other"] {
        all.create(
            &PostParams::default(),
            &typed(json!({"metadata": {"name": name}})),
        )
        .await
        .unwrap();
    }
    let api: Api<ConfigMap> = Api::namespaced(bot(&cluster), "default");
    api.get("mine").await.unwrap();
    assert_eq!(status(api.get("other").await).code, 403);
    assert_eq!(status(api.list(&ListParams::default()).await).code, 403);
    let elsewhere: Api<ConfigMap> = Api::namespaced(bot(&cluster), "kube-system");
    assert_eq!(status(elsewhere.get("mine").await).code, 403);
}

async fn allowed(client: &Client, account: &str, groups: &[&str], attributes: Value) -> bool {
    let review: SubjectAccessReview = typed(json!({"spec": {
        "user": format!("system:serviceaccount:team:{account}"), "groups": groups,
        "resourceAttributes": attributes,
    }}));
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    api.create(&PostParams::default(), &review)
        .await
        .unwrap()
        .status
        .unwrap()
        .allowed
}

#[tokio::test(start_paused = true)]
async fn an_access_review_says_what_a_request_would_get() {
    let (cluster, admin) = strict_cluster();
    bind(
        &cluster,
        &json!({"rules": [{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]}]}),
        "default",
    );
    let scale = json!({"verb": "patch", "group": "apps", "resource": "deployments", "subresource": "scale",
        "namespace": "default", "name": "web"});
    let whole = json!({"verb": "patch", "group": "apps", "resource": "deployments", "namespace": "default"});
    assert!(allowed(&admin, "bot", &[], scale.clone()).await);
    assert!(!allowed(&admin, "bot", &[], whole).await);
    assert!(!allowed(&admin, "nobody", &[], scale).await);
}

#[tokio::test(start_paused = true)]
async fn a_group_of_service_accounts_can_be_bound_to_a_cluster_role() {
    let (cluster, admin) = strict_cluster();
    cluster
        .load(vec![json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "all-view"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "Group", "name": "system:serviceaccounts:team"}],
        })])
        .unwrap();
    let get = json!({"verb": "get", "group": "apps", "resource": "deployments", "namespace": "default"});
    let secret = json!({"verb": "get", "group": "", "resource": "secrets", "namespace": "default"});
    assert!(allowed(&admin, "x", &["system:serviceaccounts:team"], get.clone()).await);
    assert!(!allowed(&admin, "x", &["system:serviceaccounts:other"], get).await);
    assert!(!allowed(&admin, "x", &["system:serviceaccounts:team"], secret).await);
}
