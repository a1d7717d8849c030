//! Rights: what is refused to whom, in which words, and what reviews say of it.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::bodies::{named, pod, workload};
use super::super::case_context::CaseContext;

super::cases!(
    nobody_may_do_anything_at_first,
    a_refusal_names_the_subresource,
    a_refusal_names_the_scope,
    a_role_gives_its_verbs_on_its_names_in_its_namespace,
    a_cluster_role_may_be_bound_in_a_namespace,
    a_cluster_binding_holds_everywhere,
    a_role_that_is_missing_gives_nothing,
    a_star_stands_for_all,
    a_right_on_a_subresource_is_one_of_its_own,
    a_right_on_a_collection_is_none_on_names,
    a_patch_that_creates_needs_the_right_to,
    a_review_says_what_a_request_would_get,
    a_review_tells_its_reason,
    a_review_of_a_path_is_one_of_its_own,
    a_review_is_checked,
    a_review_of_a_group_is_enough,
    a_review_of_oneself_tells_the_same,
    a_stranger_can_not_review_others,
    the_view_role_sees_no_secrets,
    a_missing_object_is_no_way_around,
);

fn bot(lab: &CaseContext) -> CaseContext {
    lab.user(
        "system:serviceaccount:{ns}:bot",
        &["system:serviceaccounts", "system:serviceaccounts:{ns}"],
    )
}

const GROUP: &str = "rbac.authorization.k8s.io";

async fn bind(lab: &CaseContext, rules: Value) {
    lab.given("role", json!({"metadata": {"name": "r"}, "rules": rules}))
        .await;
    lab.given("binding", binding("b", "Role", "r")).await;
}

fn binding(name: &str, kind: &str, role: &str) -> Value {
    json!({"metadata": {"name": name}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "{ns}"}]})
}

/// A binding is known to the server a moment after it was made.
async fn until_allowed(lab: &CaseContext, attributes: Value) {
    for _ in 0..200 {
        if ask(&lab.quietly(), attributes.clone())
            .await
            .at("/status/allowed")
            == json!(true)
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("never allowed: {attributes}");
}

async fn ask(lab: &CaseContext, attributes: Value) -> Answer {
    let spec = json!({"user": "system:serviceaccount:{ns}:bot",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:{ns}", "system:authenticated"],
        "resourceAttributes": attributes});
    lab.post("review", json!({"spec": spec})).await
}

async fn nobody_may_do_anything_at_first(lab: &CaseContext) {
    let bot = bot(lab);
    lab.given("deploy", workload("web", 0)).await;
    let words = format!(
        "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:{0}:bot\" cannot patch resource \
         \"deployments\" in API group \"apps\" in the namespace \"{0}\"",
        lab.namespace()
    );
    bot.merge("deploy/web", json!({}))
        .await
        .refused(403, "Forbidden", &words);
    bot.get("deploy/web")
        .await
        .refused(403, "Forbidden", "cannot get resource \"deployments\"");
    bot.get("deploy")
        .await
        .refused(403, "Forbidden", "deployments.apps is forbidden");
    bot.post("deploy", workload("x", 0))
        .await
        .refused(403, "Forbidden", "cannot create resource");
    bot.put("deploy/web", workload("web", 0))
        .await
        .refused(403, "Forbidden", "cannot update resource");
    bot.delete("deploy/web")
        .await
        .refused(403, "Forbidden", "cannot delete resource");
    bot.delete("deploy")
        .await
        .refused(403, "Forbidden", "cannot deletecollection resource");
    bot.get("deploy?watch=true")
        .await
        .refused(403, "Forbidden", "cannot watch resource");
    bot.get("cm/a")
        .await
        .refused(403, "Forbidden", "in API group \"\" in the namespace");
    bot.get("plan/a").await.refused(
        403,
        "Forbidden",
        "plans.conformance.kubernaut.io \"a\" is forbidden",
    );
}

async fn a_refusal_names_the_subresource(lab: &CaseContext) {
    let bot = bot(lab);
    bot.merge("deploy/web/scale", json!({})).await.refused(
        403,
        "Forbidden",
        "resource \"deployments/scale\"",
    );
    bot.merge("plan/a/status", json!({}))
        .await
        .refused(403, "Forbidden", "resource \"plans/status\"");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    bot.post("pod/a/eviction", eviction).await.refused(
        403,
        "Forbidden",
        "cannot create resource \"pods/eviction\"",
    );
    bot.get("pod/a/log")
        .await
        .refused(403, "Forbidden", "cannot get resource \"pods/log\"");
}

async fn a_refusal_names_the_scope(lab: &CaseContext) {
    let bot = bot(lab);
    let words = format!(
        "nodes is forbidden: User \"system:serviceaccount:{}:bot\" cannot list resource \"nodes\" in API group \"\" at \
         the cluster scope",
        lab.namespace()
    );
    bot.get("node").await.refused(403, "Forbidden", &words);
    bot.merge("node/x", json!({}))
        .await
        .refused(403, "Forbidden", "nodes \"x\" is forbidden");
    bot.get("/api/v1/pods")
        .await
        .refused(403, "Forbidden", "at the cluster scope");
    bot.get("ns")
        .await
        .refused(403, "Forbidden", "at the cluster scope");
    bot.get("ns/{ns}")
        .await
        .refused(403, "Forbidden", "cannot get resource \"namespaces\"");
    bot.post("ns", named("{ns}-x"))
        .await
        .refused(403, "Forbidden", "");
    bot.get("crd").await.refused(403, "Forbidden", "");
    bot.get("/metrics")
        .await
        .refused(403, "Forbidden", "cannot get path \"/metrics\"");
    bot.get("/apis/nobody.io/v1/things").await.has_code(403);
    bot.quietly().get("/version").await.has_code(200);
    bot.quietly().get("/api").await.has_code(200);
}

async fn a_role_gives_its_verbs_on_its_names_in_its_namespace(lab: &CaseContext) {
    bind(
        lab,
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"],
        "resourceNames": ["mine"]}]),
    )
    .await;
    let get = json!({"verb": "get", "resource": "configmaps", "namespace": "{ns}", "name": "mine"});
    until_allowed(lab, get).await;
    lab.given("cm", named("mine")).await;
    lab.given("cm", named("other")).await;
    let bot = bot(lab);
    bot.get("cm/mine").await.has_code(200);
    bot.merge("cm/mine", json!({"data": {"k": "v"}}))
        .await
        .has_code(200);
    bot.get("cm/other").await.has_code(403);
    bot.get("cm").await.has_code(403);
    bot.delete("cm/mine").await.has_code(403);
    bot.get("/api/v1/namespaces/default/configmaps/mine")
        .await
        .has_code(403);
    bot.get("/api/v1/configmaps").await.has_code(403);
    bot.get("secret/mine").await.has_code(403);
}

async fn a_cluster_role_may_be_bound_in_a_namespace(lab: &CaseContext) {
    let rules =
        json!([{"apiGroups": ["", "apps"], "resources": ["configmaps", "deployments"], "verbs": ["list"]}]);
    lab.given(
        "clusterrole",
        json!({"metadata": {"name": "{ns}"}, "rules": rules}),
    )
    .await;
    lab.given("binding", binding("b", "ClusterRole", "{ns}")).await;
    until_allowed(
        lab,
        json!({"verb": "list", "resource": "configmaps", "namespace": "{ns}"}),
    )
    .await;
    let bot = bot(lab);
    bot.get("cm?labelSelector=none").await.has_code(200);
    bot.get("deploy").await.has_code(200);
    bot.get("/api/v1/configmaps").await.has_code(403);
    bot.get("/api/v1/namespaces/default/configmaps")
        .await
        .has_code(403);
    lab.quietly().delete("clusterrole/{ns}").await.has_code(200);
}

async fn a_cluster_binding_holds_everywhere(lab: &CaseContext) {
    let rules = json!([{"apiGroups": [""], "resources": ["nodes", "configmaps"], "verbs": ["list"]}]);
    lab.given(
        "clusterrole",
        json!({"metadata": {"name": "{ns}"}, "rules": rules}),
    )
    .await;
    lab.given("clusterbinding", binding("{ns}", "ClusterRole", "{ns}"))
        .await;
    until_allowed(lab, json!({"verb": "list", "resource": "nodes"})).await;
    let bot = bot(lab);
    bot.get("node?labelSelector=none").await.has_code(200);
    bot.get("/api/v1/configmaps?labelSelector=none")
        .await
        .has_code(200);
    bot.get("cm?labelSelector=none").await.has_code(200);
    bot.get("node/x").await.has_code(403);
    lab.quietly().delete("clusterbinding/{ns}").await.has_code(200);
    lab.quietly().delete("clusterrole/{ns}").await.has_code(200);
}

async fn a_role_that_is_missing_gives_nothing(lab: &CaseContext) {
    lab.given("binding", binding("b", "Role", "r")).await;
    let bot = bot(lab);
    let told = |answer: &Answer| {
        answer
            .message()
            .contains("RBAC: role.rbac.authorization.k8s.io \"r\" not found")
    };
    bot.until("cm/a", told).await;
    let review = ask(
        lab,
        json!({"verb": "get", "resource": "configmaps", "namespace": "{ns}", "name": "a"}),
    )
    .await;
    review.has_code(201).has("/status/allowed", false);
    lab.given("clusterbinding", binding("{ns}", "ClusterRole", "{ns}"))
        .await;
    let told = |answer: &Answer| answer.message().contains("clusterrole.rbac.authorization.k8s.io");
    bot.until("cm/a", told).await;
    lab.quietly().delete("clusterbinding/{ns}").await.has_code(200);
}

async fn a_star_stands_for_all(lab: &CaseContext) {
    bind(
        lab,
        json!([
            {"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["*"]},
            {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["get"]},
            {"apiGroups": ["conformance.kubernaut.io"], "resources": ["plans"], "verbs": ["*"]},
        ]),
    )
    .await;
    until_allowed(
        lab,
        json!({"verb": "get", "group": "apps", "resource": "deployments", "namespace": "{ns}"}),
    )
    .await;
    lab.given("deploy", workload("web", 0)).await;
    let bot = bot(lab);
    bot.get("deploy/web").await.has_code(200);
    bot.get("deploy/web/scale").await.has_code(200);
    bot.get("deploy/web/status").await.has_code(200);
    bot.merge("deploy/web/scale", json!({"spec": {"replicas": 0}}))
        .await
        .has_code(200);
    bot.merge("deploy/web", json!({})).await.has_code(403);
    bot.get("plan").await.has_code(200);
    bot.merge("plan/a/status", json!({})).await.has_code(403);
    bot.get("cm").await.has_code(403);
}

async fn a_right_on_a_subresource_is_one_of_its_own(lab: &CaseContext) {
    bind(
        lab,
        json!([{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}]),
    )
    .await;
    let patch = json!({"verb": "patch", "group": "apps", "resource": "deployments", "subresource": "scale",
        "namespace": "{ns}"});
    until_allowed(lab, patch).await;
    lab.given("deploy", workload("web", 0)).await;
    lab.given("pod", pod("p")).await;
    let bot = bot(lab);
    bot.merge("deploy/web/scale", json!({"spec": {"replicas": 0}}))
        .await
        .has_code(200);
    bot.merge("deploy/web", json!({})).await.has_code(403);
    bot.get("deploy/web/scale").await.has_code(403);
    bot.delete("pod/p").await.has_code(403);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    bot.post("pod/p/eviction", eviction).await.has_code(201);
}

async fn a_right_on_a_collection_is_none_on_names(lab: &CaseContext) {
    bind(
        lab,
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch", "create"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"], "resourceNames": ["one"]}]),
    )
    .await;
    until_allowed(
        lab,
        json!({"verb": "list", "resource": "configmaps", "namespace": "{ns}"}),
    )
    .await;
    let bot = bot(lab);
    bot.get("cm?labelSelector=none").await.has_code(200);
    bot.post("cm", named("a")).await.has_code(201);
    bot.get("cm/a").await.has_code(403);
    bot.delete("cm").await.has_code(403);
    bot.get("secret").await.has_code(403);
    bot.get("secret?fieldSelector=metadata.name%3Done")
        .await
        .has_code(200);
    bot.get("secret?fieldSelector=metadata.name%3Dtwo")
        .await
        .has_code(403);
}

async fn a_patch_that_creates_needs_the_right_to(lab: &CaseContext) {
    bind(
        lab,
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]),
    )
    .await;
    until_allowed(
        lab,
        json!({"verb": "patch", "resource": "configmaps", "namespace": "{ns}"}),
    )
    .await;
    let bot = bot(lab);
    bot.apply("cm/a?fieldManager=one", named("a"))
        .await
        .refused(403, "Forbidden", "cannot create resource");
    lab.given("cm", named("a")).await;
    bot.apply("cm/a?fieldManager=one", named("a")).await.has_code(200);
}

async fn a_review_says_what_a_request_would_get(lab: &CaseContext) {
    bind(
        lab,
        json!([{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]}]),
    )
    .await;
    let scale = json!({"verb": "patch", "group": "apps", "resource": "deployments", "subresource": "scale",
        "namespace": "{ns}", "name": "web"});
    until_allowed(lab, scale.clone()).await;
    ask(lab, scale.clone())
        .await
        .has_code(201)
        .has("/status/allowed", true);
    for (field, value) in [
        ("verb", "get"),
        ("group", ""),
        ("subresource", ""),
        ("namespace", "default"),
        ("resource", "x"),
    ] {
        let mut other = scale.clone();
        other[field] = json!(value);
        ask(lab, other).await.has_code(201).has("/status/allowed", false);
    }
    let everywhere =
        json!({"verb": "patch", "group": "apps", "resource": "deployments", "subresource": "scale"});
    ask(lab, everywhere).await.has("/status/allowed", false);
}

async fn a_review_tells_its_reason(lab: &CaseContext) {
    bind(
        lab,
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]),
    )
    .await;
    let get = json!({"verb": "get", "resource": "configmaps", "namespace": "{ns}"});
    until_allowed(lab, get.clone()).await;
    let review = ask(lab, get).await;
    let reason = review.text("/status/reason");
    let words = format!(
        "RBAC: allowed by RoleBinding \"b/{0}\" of Role \"r\" to ServiceAccount \"bot/{0}\"",
        lab.namespace()
    );
    assert_eq!(reason, words);
    let admin = json!({"spec": {"user": "x", "groups": ["system:masters"],
        "resourceAttributes": {"verb": "get", "resource": "configmaps"}}});
    lab.post("review", admin).await.has("/status/allowed", true);
}

async fn a_review_of_a_path_is_one_of_its_own(lab: &CaseContext) {
    let rules = json!([{"nonResourceURLs": ["/metrics", "/logs/*"], "verbs": ["get"]}]);
    lab.given(
        "clusterrole",
        json!({"metadata": {"name": "{ns}"}, "rules": rules}),
    )
    .await;
    lab.given("clusterbinding", binding("{ns}", "ClusterRole", "{ns}"))
        .await;
    let ask = async |path: &str, verb: &str| {
        let spec = json!({"user": "system:serviceaccount:{ns}:bot",
            "nonResourceAttributes": {"path": path, "verb": verb}});
        lab.post("review", json!({"spec": spec})).await
    };
    let quiet = lab.quietly();
    for _ in 0..100 {
        let spec = json!({"user": "system:serviceaccount:{ns}:bot",
            "nonResourceAttributes": {"path": "/metrics", "verb": "get"}});
        if quiet
            .post("review", json!({"spec": spec}))
            .await
            .at("/status/allowed")
            == json!(true)
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    ask("/metrics", "get").await.has("/status/allowed", true);
    ask("/metrics", "post").await.has("/status/allowed", false);
    ask("/logs/a/b", "get").await.has("/status/allowed", true);
    ask("/other", "get").await.has("/status/allowed", false);
    lab.quietly().delete("clusterbinding/{ns}").await.has_code(200);
    lab.quietly().delete("clusterrole/{ns}").await.has_code(200);
}

async fn a_review_is_checked(lab: &CaseContext) {
    lab.post("review", json!({"spec": {"user": "x"}}))
        .await
        .has_code(422);
    let both = json!({"user": "x", "resourceAttributes": {"verb": "get", "resource": "pods"},
        "nonResourceAttributes": {"verb": "get", "path": "/x"}});
    lab.post("review", json!({"spec": both})).await.has_code(422);
    let nobody = json!({"resourceAttributes": {"verb": "get", "resource": "pods"}});
    lab.post("review", json!({"spec": nobody})).await.has_code(422);
    lab.post("review", json!({"spec": {"user": "x", "resourceAttributes": {}}}))
        .await;
    lab.post("selfreview", json!({"spec": {}})).await.has_code(422);
    lab.post(
        "review?fieldValidation=Strict",
        json!({"spec": {"user": "x", "odd": 1,
        "resourceAttributes": {"verb": "get", "resource": "pods"}}}),
    )
    .await
    .has_code(400);
}

async fn a_review_of_a_group_is_enough(lab: &CaseContext) {
    lab.given(
        "role",
        json!({"metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
    )
    .await;
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "r"},
        "subjects": [{"kind": "Group", "apiGroup": GROUP, "name": "system:serviceaccounts:{ns}"}]});
    lab.given("binding", binding).await;
    let attributes = json!({"verb": "get", "resource": "pods", "namespace": "{ns}"});
    until_allowed(lab, attributes.clone()).await;
    let spec = json!({"groups": ["system:serviceaccounts:{ns}"], "resourceAttributes": attributes});
    lab.post("review", json!({"spec": spec}))
        .await
        .has_code(201)
        .has("/status/allowed", true);
    let spec = json!({"groups": ["other"], "resourceAttributes": attributes});
    lab.post("review", json!({"spec": spec}))
        .await
        .has_code(201)
        .has("/status/allowed", false);
    let user = json!({"verb": "get", "resource": "pods", "namespace": "{ns}", "version": "v1"});
    ask(lab, user).await.has("/status/allowed", true);
}

async fn a_review_of_oneself_tells_the_same(lab: &CaseContext) {
    bind(
        lab,
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]),
    )
    .await;
    until_allowed(
        lab,
        json!({"verb": "get", "resource": "configmaps", "namespace": "{ns}"}),
    )
    .await;
    let bot = bot(lab);
    let ask = |verb: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "configmaps", "namespace": "{ns}"}}});
    bot.post("selfreview", ask("get"))
        .await
        .has_code(201)
        .has("/status/allowed", true);
    bot.post("selfreview", ask("list"))
        .await
        .has_code(201)
        .has("/status/allowed", false);
}

async fn a_stranger_can_not_review_others(lab: &CaseContext) {
    let words = "cannot create resource \"subjectaccessreviews\" in API group \"authorization.k8s.io\" at the cluster scope";
    let refused = ask(&bot(lab), json!({"verb": "get", "resource": "pods"})).await;
    refused.refused(403, "Forbidden", words);
}

async fn the_view_role_sees_no_secrets(lab: &CaseContext) {
    lab.given("binding", binding("b", "ClusterRole", "view")).await;
    until_allowed(
        lab,
        json!({"verb": "get", "resource": "pods", "namespace": "{ns}"}),
    )
    .await;
    let ask = async |verb: &str, group: &str, resource: &str| {
        let attributes = json!({"verb": verb, "group": group, "resource": resource, "namespace": "{ns}"});
        ask(lab, attributes).await.at("/status/allowed") == json!(true)
    };
    for (group, resource, sees) in [
        ("", "configmaps", true),
        ("", "secrets", false),
        ("", "events", true),
        ("", "namespaces", true),
        ("", "serviceaccounts", true),
        ("", "limitranges", true),
        ("", "resourcequotas", true),
        ("", "endpoints", true),
        ("", "nodes", false),
        ("apps", "deployments", true),
        ("batch", "jobs", true),
        ("policy", "poddisruptionbudgets", true),
        ("networking.k8s.io", "networkpolicies", true),
        ("autoscaling", "horizontalpodautoscalers", true),
        ("discovery.k8s.io", "endpointslices", true),
        ("coordination.k8s.io", "leases", false),
        ("events.k8s.io", "events", true),
        (GROUP, "roles", false),
    ] {
        assert_eq!(
            ask("get", group, resource).await,
            sees,
            "view of {group}/{resource}"
        );
        assert!(
            !ask("patch", group, resource).await,
            "patch of {group}/{resource}"
        );
    }
    lab.given("binding", binding("c", "ClusterRole", "edit")).await;
    until_allowed(
        lab,
        json!({"verb": "patch", "resource": "pods", "namespace": "{ns}"}),
    )
    .await;
    for (verb, group, resource, may) in [
        ("get", "", "secrets", true),
        ("patch", "", "secrets", true),
        ("patch", "apps", "deployments", true),
        ("delete", "", "pods", true),
        ("create", "", "events", true),
        ("patch", "", "events", true),
        ("patch", "", "resourcequotas", false),
        ("patch", "", "limitranges", false),
        ("patch", "", "namespaces", false),
        ("create", "coordination.k8s.io", "leases", true),
        ("get", GROUP, "roles", false),
        ("impersonate", "", "serviceaccounts", true),
        ("delete", "batch", "jobs", true),
        ("patch", "policy", "poddisruptionbudgets", true),
    ] {
        assert_eq!(
            ask(verb, group, resource).await,
            may,
            "{verb} of {group}/{resource}"
        );
    }
}

async fn a_missing_object_is_no_way_around(lab: &CaseContext) {
    let bot = bot(lab);
    bot.get("cm/missing").await.has_code(403);
    bot.get("/api/v1/namespaces/{ns}-none/configmaps/missing")
        .await
        .has_code(403);
    bot.post("/api/v1/namespaces/{ns}-none/configmaps", named("a"))
        .await
        .has_code(403);
    bot.merge("ke/missing", json!({})).await.has_code(403);
    let anybody = lab.user("somebody", &[]);
    anybody
        .get("cm/a")
        .await
        .refused(403, "Forbidden", "User \"somebody\" cannot get resource");
}
