//! Selectors, patches and manifests.

use super::*;

#[test]
fn pods_are_named_by_exactly_one_of_name_and_selector() {
    let delete = |fields: Value| {
        let mut parameters = json!({"namespace": "shop"});
        for (key, value) in fields.as_object().expect("fields") {
            parameters[key] = value.clone();
        }
        problems(&json!({"action": "delete-pod", "parameters": {"deletePod": parameters}}))
    };
    let words = "exactly one of pod and labelSelector";
    one_problem(&delete(json!({})), words);
    one_problem(&delete(json!({"pod": "a", "labelSelector": "app=web"})), words);
    for good in [
        "app=web",
        "app==web",
        "app=web,tier!=cache",
        "env in (a, b),!old",
        "example.com/app notin (x)",
        "app",
        "size>1",
        "app in ()",
    ] {
        assert_eq!(delete(json!({"labelSelector": good})), [""; 0], "{good}");
    }
    for bad in [
        "",
        " ",
        ",",
        "app=web,",
        "--all",
        "=web",
        "app=web&limit=1",
        "a in (b",
        "a in b)",
        "a in ((b))",
        "app web",
        "app in web",
        "app=web=x",
        "app=web tier=db",
        "a/b/c=d",
        "app=web-",
        "size>-5",
    ] {
        one_problem(&delete(json!({"labelSelector": bad})), "is not a label selector");
    }
}

#[test]
fn a_patch_is_json_of_the_form_that_its_type_asks_for() {
    let patch = |kind: &str, patch: &str| {
        problems(
            &json!({"action": "patch-deployment", "parameters": {"patchDeployment":
            {"namespace": "shop", "deployment": "web", "patchType": kind, "patch": patch}}}),
        )
    };
    for kind in ["strategic", "merge"] {
        assert_eq!(patch(kind, r#"{"spec": {}}"#), [""; 0]);
        for bad in ["[]", "1", "null", "\"x\""] {
            one_problem(&patch(kind, bad), "patch: must be a JSON object");
        }
    }
    assert_eq!(patch("json", "[]"), [""; 0]);
    one_problem(&patch("json", "{}"), "patch: of patchType json must be an array");
    for kind in ["strategic", "merge", "json"] {
        for bad in ["", "spec: {}", "{", "{} {}"] {
            one_problem(&patch(kind, bad), "patch: is not JSON");
        }
    }
}

#[test]
fn an_image_is_set_by_a_patch_that_names_its_container() {
    let patch = |spelling: &str, kind: &str, patch: Value| {
        problems(&json!({"action": spelling, "parameters": {"patchDeployment":
            {"namespace": "shop", "deployment": "web", "patchType": kind, "patch": patch.to_string()}}}))
    };
    let containers = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    let good = containers(json!([{"name": "app", "image": "app:2"}]));
    let replace =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "app:2"}]);
    for spelling in ["update-image", "update_image"] {
        assert_eq!(patch(spelling, "strategic", good.clone()), [""; 0]);
        for (kind, bad) in [
            ("json", replace.clone()),
            ("strategic", json!({"spec": {"replicas": 3}})),
            ("strategic", containers(json!([]))),
            ("strategic", containers(json!([{"image": "app:2"}]))),
            ("strategic", containers(json!([{"name": "app"}]))),
            ("merge", good.clone()),
            (
                "strategic",
                containers(json!([{"name": "app", "image": "app:2", "command": ["sh"]}])),
            ),
        ] {
            let words =
                format!("action: {spelling:?} needs a patch that sets images of containers by their names");
            one_problem(&patch(spelling, kind, bad), &words);
        }
    }
    assert_eq!(patch("patch-deployment", "json", replace), [""; 0]);
}

#[test]
fn a_manifest_is_one_document_of_a_kind_that_may_be_applied() {
    let apply = |manifest: &str| with("applyManifest", "manifest", &json!(manifest));
    let manifest_of = |api_version: &str, kind: &str| {
        format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}")
    };
    let config = manifest_of("v1", "ConfigMap");
    assert_eq!(apply(&format!("---\n{config}\n---\n")), [""; 0]);
    for (bad, words) in [
        (String::new(), "exactly one document"),
        (format!("{config}\n---\n{config}"), "exactly one document"),
        ("a: [".to_owned(), "is not YAML"),
        ("just a text".to_owned(), "has no apiVersion"),
        (
            "apiVersion: v1\nmetadata: {name: a, namespace: b}".to_owned(),
            "has no kind",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}".to_owned(),
            "has no metadata.namespace",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: a}".to_owned(),
            "has no metadata.name",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: -b}".to_owned(),
            "\"-b\" is not a name",
        ),
        (
            manifest_of("apps/v1", "ConfigMap"),
            "kind \"ConfigMap\" of \"apps/v1\" may never be applied",
        ),
        // The text becomes a part of a URL.
        (manifest_of("v99", "ConfigMap"), "is not known here: write v1"),
        (manifest_of("v1/../v1", "ConfigMap"), "may never be applied"),
        (
            manifest_of("v1?dryRun=All#", "ConfigMap"),
            "is not known here: write v1",
        ),
        (
            manifest_of("v1", "Service"),
            "kind Service is not allowed: allow it with --apply-manifest-kinds=Service",
        ),
    ] {
        one_problem(&apply(&bad), words);
    }
}

#[test]
fn names_in_a_manifest_are_names_too() {
    let apply = |namespace: &str, name: &str| {
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap",
                              "metadata": {"namespace": namespace, "name": name}});
        with("applyManifest", "manifest", &json!(manifest.to_string()))
    };
    assert_eq!(apply("shop", "flags.v1"), [""; 0]);
    for bad in ["-n", "a/status", "../../secrets/keys", "a?watch=true", "A", "a b"] {
        one_problem(
            &apply(bad, "flags"),
            &format!("metadata.namespace: {bad:?} is not a name"),
        );
        one_problem(
            &apply("shop", bad),
            &format!("metadata.name: {bad:?} is not a name"),
        );
    }
}

#[test]
fn what_gives_rights_is_never_applied_whatever_the_flag_says() {
    for (api_version, kind) in [
        ("v1", "Secret"),
        ("v1", "ServiceAccount"),
        ("v1", "Namespace"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
        ),
        ("workflow.kubernaut.io/v1", "WorkflowExecution"),
        ("kubernetesexecution.kubernaut.io/v1", "KubernetesExecution"),
    ] {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let allowing = Settings {
            apply_manifest_kinds: vec![kind.to_owned(), format!("{group}/{kind}")],
            ..settings()
        };
        let manifest =
            format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}");
        let fields =
            json!({"action": "apply-manifest", "parameters": {"applyManifest": {"manifest": manifest}}});
        one_problem(&problems_with(&fields, &allowing), "may never be applied");
    }
    let none = Settings::default();
    let (spelling, member, parameters) = good().pop().expect("applyManifest is the last");
    let fields = json!({"action": spelling, "parameters": {member: parameters}});
    one_problem(&problems_with(&fields, &none), "no kind may be applied");
}

fn apply(manifest: &str, settings: &Settings) -> Vec<String> {
    let fields = json!({"action": "apply-manifest", "parameters": {"applyManifest": {"manifest": manifest}}});
    problems_with(&fields, settings)
}

const HEAD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n";

/// A kilobyte that stands for as many values as `levels` say: each level is ten of the one before.
fn bomb(levels: usize) -> String {
    let level = |number: usize| {
        let before = format!("*l{}", number - 1);
        format!("l{number}: &l{number} [{}]\n", vec![before; 10].join(","))
    };
    let levels: String = (1..=levels).map(level).collect();
    format!("{HEAD}l0: &l0 [v]\n{levels}")
}

#[test]
fn a_manifest_with_anchors_or_aliases_is_refused_before_they_are_written_out() {
    // Written out these are 10, and 10 to the 40th values.
    for manifest in [bomb(1), bomb(40), format!("{HEAD}data: &only {{k: v}}\n")] {
        one_problem(
            &apply(&manifest, &settings()),
            "has an anchor (&) or an alias (*)",
        );
    }
}

#[test]
fn a_manifest_of_more_values_than_anybody_writes_is_refused() {
    let with_values = |values: usize| format!("{HEAD}data: [{}]\n", vec!["v"; values].join(","));
    // The object, its fields, and theirs are 13 besides.
    assert_eq!(apply(&with_values(9_987), &settings()), [""; 0]);
    one_problem(
        &apply(&with_values(9_988), &settings()),
        "more values than are read of one manifest",
    );
}

#[test]
fn where_no_kind_may_be_applied_no_manifest_is_read() {
    for manifest in ["a: [", bomb(40).as_str(), HEAD] {
        one_problem(
            &apply(manifest, &Settings::default()),
            "no kind may be applied in this cluster: allow the one that is needed with --apply-manifest-kinds=[GROUP/]KIND",
        );
    }
}

#[test]
fn what_no_job_could_carry_is_refused_before_its_turn_comes() {
    let words = "at most 245760 can travel with a Job";
    let half = "x".repeat(125_000);
    let data = json!({"a": half, "b": half});
    let encoded = json!({"a": "AAAA".repeat(31_000), "b": "AAAA".repeat(31_000)});
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"},
                          "data": data});
    let patch = json!({"metadata": {"annotations": data}});
    for (member, field, value) in [
        ("applyManifest", "manifest", json!(manifest.to_string())),
        ("patchDeployment", "patch", json!(patch.to_string())),
        ("updateConfigMap", "data", data.clone()),
        ("updateSecret", "data", encoded),
    ] {
        one_problem(&with(member, field, &value), words);
    }
}
