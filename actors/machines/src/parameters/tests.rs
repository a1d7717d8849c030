//! What is wrong with parameters, named with its field.

mod payloads;

use serde_json::{Value, json};

use super::*;

fn settings() -> Settings {
    Settings {
        apply_manifest_kinds: vec!["ConfigMap".to_owned()],
        ..Settings::default()
    }
}

/// An execution that cordons a node, with another spec where `fields` say so.
fn execution(fields: &Value) -> KubernetesExecution {
    let mut spec = json!({"action": "cordon-node", "parameters": {"cordonNode": {"node": "n1"}}});
    for (key, value) in fields.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1"}, "spec": spec
    }))
    .expect("an execution")
}

fn problems_with(fields: &Value, settings: &Settings) -> Vec<String> {
    let problems = check(&execution(fields), settings).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

fn problems(fields: &Value) -> Vec<String> {
    problems_with(fields, &settings())
}

/// A good execution of each action: spelling, member, parameters.
fn good() -> Vec<(&'static str, &'static str, Value)> {
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: flags, namespace: shop}";
    vec![
        (
            "scale-deployment",
            "scaleDeployment",
            json!({"namespace": "shop", "deployment": "web", "replicas": 3}),
        ),
        (
            "rollout-restart",
            "rolloutRestart",
            json!({"namespace": "shop", "deployment": "web"}),
        ),
        (
            "delete-pod",
            "deletePod",
            json!({"namespace": "shop", "pod": "web-1"}),
        ),
        (
            "patch-deployment",
            "patchDeployment",
            json!({"namespace": "shop", "deployment": "web", "patchType": "merge", "patch": "{}"}),
        ),
        ("cordon-node", "cordonNode", json!({"node": "n1"})),
        ("uncordon-node", "uncordonNode", json!({"node": "n1"})),
        ("drain-node", "drainNode", json!({"node": "n1"})),
        (
            "update-configmap",
            "updateConfigMap",
            json!({"namespace": "shop", "configMap": "flags", "data": {"a": "x"}}),
        ),
        (
            "update-secret",
            "updateSecret",
            json!({"namespace": "shop", "secret": "keys", "data": {"k": "dg=="}}),
        ),
        ("apply-manifest", "applyManifest", json!({"manifest": manifest})),
    ]
}

/// The problems of an action whose member has another field.
fn with(member: &str, field: &str, value: &Value) -> Vec<String> {
    let (spelling, _, mut parameters) = good()
        .into_iter()
        .find(|(_, known, _)| *known == member)
        .expect("a known member");
    parameters[field] = value.clone();
    problems(&json!({"action": spelling, "parameters": {member: parameters}}))
}

fn one_problem(found: &[String], words: &str) {
    assert!(
        found.len() == 1 && found[0].contains(words),
        "{words:?} is not the one problem of {found:?}"
    );
}

#[test]
fn a_good_execution_of_each_action_has_nothing_wrong() {
    for (spelling, member, parameters) in good() {
        let fields = json!({"action": spelling, "parameters": {member: parameters}});
        let checked = check(&execution(&fields), &settings()).expect(member);
        assert_eq!(checked.action.member(), member);
        assert_eq!(checked.kind.canonical(), spelling);
        assert_eq!(checked.timeout, Duration::from_secs(300), "the default");
        assert!(
            !checked.rights.is_empty() && checked.warnings.is_empty(),
            "{member}"
        );
    }
}

#[test]
fn an_action_that_is_left_out_is_refused_by_name_and_what_was_begun_before_goes_on() {
    for (spelling, member, parameters) in good() {
        let fields = json!({"action": spelling, "parameters": {member: parameters}});
        let mut without = settings();
        without.actions.retain(|kind| kind.canonical() != spelling);
        one_problem(
            &problems_with(&fields, &without),
            &format!(
                "action: {spelling} is not installed in this cluster: whoever runs kubernaut can add it to --actions"
            ),
        );
        assert!(check(&execution(&fields), &without.without_limits()).is_ok());
    }
}

#[test]
fn no_member_and_two_members_are_refused_and_the_two_are_named() {
    assert_eq!(
        problems(&json!({"parameters": {}})),
        ["parameters has no known member; exactly one is needed"]
    );
    // The API server keeps what it does not know out; a stored object may have nothing else.
    assert_eq!(
        problems(&json!({"parameters": {"rebootNode": {"node": "n1"}}})),
        ["parameters has no known member; exactly one is needed"]
    );
    let two = json!({"uncordonNode": {"node": "n1"}, "cordonNode": {"node": "n1"}});
    assert_eq!(
        problems(&json!({"parameters": two})),
        ["parameters has 2 members (cordonNode, uncordonNode); exactly one is needed"]
    );
}

#[test]
fn an_action_that_does_not_fit_its_member_is_refused_and_both_are_named() {
    let spellings: Vec<&str> = good().iter().map(|(spelling, ..)| *spelling).collect();
    for (own, member, parameters) in good() {
        for spelling in spellings.iter().filter(|spelling| **spelling != own) {
            let found =
                problems(&json!({"action": spelling, "timeout": "1m", "parameters": {member: parameters}}));
            one_problem(
                &found,
                &format!("action: {spelling:?} does not fit parameters.{member}: write {own}"),
            );
        }
    }
    for spelling in ["cordon", "Cordon-Node", "cordon-node ", "", "undo"] {
        one_problem(
            &problems(&json!({"action": spelling})),
            "does not fit parameters.cordonNode",
        );
    }
}

#[test]
fn numbers_are_held_to_their_ranges_at_both_ends() {
    let cases = [
        ("scaleDeployment", "replicas", 0, 1000),
        ("deletePod", "gracePeriodSeconds", 0, 3600),
        ("drainNode", "gracePeriodSeconds", 0, 3600),
    ];
    for (member, field, least, most) in cases {
        for good in [least, most] {
            assert_eq!(with(member, field, &json!(good)), [""; 0], "{member}.{field}");
        }
        for bad in [least - 1, most + 1] {
            let words = format!("parameters.{member}.{field}: {bad} is not within {least} to {most}");
            one_problem(&with(member, field, &json!(bad)), &words);
        }
    }
    for good in [0, 5] {
        assert_eq!(problems(&json!({"maxRetries": good})), [""; 0]);
    }
    for bad in [-1, 6] {
        let words = format!("maxRetries: {bad} is not within 0 to 5");
        one_problem(&problems(&json!({"maxRetries": bad})), &words);
    }
}

/// Every field that holds a name; true: that of a namespace, which is shorter and has no points.
const NAMES: [(&str, &str, bool); 15] = [
    ("scaleDeployment", "deployment", false),
    ("scaleDeployment", "namespace", true),
    ("rolloutRestart", "deployment", false),
    ("rolloutRestart", "namespace", true),
    ("deletePod", "pod", false),
    ("deletePod", "namespace", true),
    ("patchDeployment", "deployment", false),
    ("patchDeployment", "namespace", true),
    ("cordonNode", "node", false),
    ("uncordonNode", "node", false),
    ("drainNode", "node", false),
    ("updateConfigMap", "configMap", false),
    ("updateConfigMap", "namespace", true),
    ("updateSecret", "secret", false),
    ("updateSecret", "namespace", true),
];

#[test]
fn no_name_can_be_taken_for_an_option_or_a_path() {
    for (member, field, _) in NAMES {
        for bad in [
            "-n",
            "--all",
            "--namespace=kube-system",
            "",
            ".",
            "..",
            "a/b",
            "../a",
            "a b",
            "a\n",
            "a-",
            "-",
            "a.",
            "A",
            "a_b",
            "a?b",
            "a%2f",
            "ä",
            "a,b",
            "a=b",
        ] {
            let words = format!("parameters.{member}.{field}: {bad:?} is not a name");
            one_problem(&with(member, field, &json!(bad)), &words);
        }
        for good in ["a", "0", "web-1", "a--b"] {
            assert_eq!(with(member, field, &json!(good)), [""; 0], "{member}.{field}");
        }
    }
}

#[test]
fn names_of_namespaces_are_shorter_and_have_no_points() {
    for (member, field, is_namespace) in NAMES {
        let most = if is_namespace { 63 } else { 253 };
        assert_eq!(
            with(member, field, &json!("a".repeat(most))),
            [""; 0],
            "{member}.{field}"
        );
        one_problem(
            &with(member, field, &json!("a".repeat(most + 1))),
            &format!("at most {most}"),
        );
        let pointed = with(member, field, &json!("n1.example.com"));
        assert_eq!(pointed.len(), usize::from(is_namespace), "{pointed:?}");
    }
}

#[test]
fn a_value_that_is_not_base64_is_refused_by_its_key_and_never_shown() {
    for bad in [
        "hunter2!",
        "aHVudGVyMg",
        "aHVudGVyMg=",
        "aHVudGVy Mg==",
        "aHVudGVy-_==",
        "=",
    ] {
        let found = with("updateSecret", "data", &json!({"good": "dg==", "password": bad}));
        one_problem(&found, "parameters.updateSecret.data.password: is not base64");
        assert!(!found[0].contains(bad), "{found:?} shows {bad:?}");
    }
    for good in ["aHVudGVyMg==", "aHVudGVy\r\nMg==\n", "", "+/+/"] {
        assert_eq!(
            with("updateSecret", "data", &json!({"password": good})),
            [""; 0],
            "{good:?}"
        );
    }
}

#[test]
fn keys_are_those_that_the_api_server_takes() {
    for member in ["updateConfigMap", "updateSecret"] {
        one_problem(&with(member, "data", &json!({})), "data: no key is set");
        for bad in ["", "a/b", "a b", "ä", &"a".repeat(254)] {
            let words = format!("data: {bad:?} is not a key");
            one_problem(&with(member, "data", &json!({bad: "dg=="})), &words);
        }
        for good in ["a", "-", "A_b.c-d", &"a".repeat(253)] {
            assert_eq!(with(member, "data", &json!({good: "dg=="})), [""; 0], "{good:?}");
        }
    }
}

#[test]
fn a_timeout_is_a_duration_within_its_bounds() {
    for bad in ["", "5", "soon", "-5m", "5 m", "1d", "12345678s", &"1s".repeat(17)] {
        let found = problems(&json!({"timeout": bad}));
        one_problem(&found, "is not a duration");
        assert!(found[0].starts_with("timeout: "), "{found:?}");
    }
    for (bad, words) in [
        ("999ms", "timeout: 999ms is too short: at least 1 s"),
        ("0s", "timeout: 0s is too short: at least 1 s"),
        (
            "15m0.001s",
            "timeout: 15m0.001s is too long: at most 15m0s (--max-step-timeout)",
        ),
        ("9999999h", "is too long"),
    ] {
        one_problem(&problems(&json!({"timeout": bad})), words);
    }
    for good in ["1s", "1000ms", "15m", "1.5m"] {
        assert_eq!(problems(&json!({"timeout": good})), [""; 0], "{good}");
    }
    let longer = Settings {
        max_step_timeout: Duration::from_secs(3600),
        ..settings()
    };
    assert_eq!(problems_with(&json!({"timeout": "1h"}), &longer), [""; 0]);
    one_problem(
        &problems_with(&json!({"timeout": "61m"}), &longer),
        "at most 1h0m0s",
    );
}

#[test]
fn a_drain_has_at_least_thirty_seconds_and_nothing_else_needs_them() {
    let drain = |timeout: &str| {
        problems(
            &json!({"action": "drain-node", "timeout": timeout, "parameters": {"drainNode": {"node": "n1"}}}),
        )
    };
    one_problem(&drain("29.999s"), "timeout: 29.999s is too short: at least 30 s");
    assert_eq!(drain("30s"), [""; 0]);
    for (spelling, member, parameters) in good()
        .into_iter()
        .filter(|(spelling, ..)| *spelling != "drain-node")
    {
        let found =
            problems(&json!({"action": spelling, "timeout": "1s", "parameters": {member: parameters}}));
        assert_eq!(found, [""; 0], "{spelling}");
    }
}

#[test]
fn nothing_is_changed_in_a_protected_namespace() {
    for namespace in [
        "kube-system",
        "kube-public",
        "kube-node-lease",
        "kubernaut-system",
        "kubernaut-executor",
    ] {
        for (member, field, _) in NAMES.iter().filter(|(.., is_namespace)| *is_namespace) {
            let words = format!("namespace: {namespace} is protected");
            one_problem(&with(member, field, &json!(namespace)), &words);
        }
        let manifest =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: {namespace}}}");
        one_problem(
            &with("applyManifest", "manifest", &json!(manifest)),
            "is protected",
        );
    }
    let own = Settings {
        protected_namespaces: ["shop".to_owned()].into(),
        ..settings()
    };
    let scale = |namespace: &str| {
        json!({"action": "scale-deployment", "parameters": {
            "scaleDeployment": {"namespace": namespace, "deployment": "web", "replicas": 1}}})
    };
    one_problem(&problems_with(&scale("shop"), &own), "shop is protected");
    assert_eq!(problems_with(&scale("kube-system"), &own), [""; 0]);
}

#[test]
fn another_cluster_is_refused_and_without_a_name_of_our_own_taken_for_ours() {
    let named = Settings {
        cluster_name: Some("east".to_owned()),
        ..settings()
    };
    let checked =
        |target: &str, settings: &Settings| check(&execution(&json!({"targetCluster": target})), settings);
    for own in ["", "east"] {
        assert_eq!(checked(own, &named).expect("our own").warnings, [""; 0]);
    }
    for other in ["west", "East", "east "] {
        let problems = checked(other, &named).expect_err("another cluster");
        let words = format!("targetCluster: {other:?} is not this cluster, \"east\" (--cluster-name)");
        assert_eq!(Problem::joined(&problems), words);
    }
    assert_eq!(checked("", &settings()).expect("the local one").warnings, [""; 0]);
    assert_eq!(
        checked("west", &settings()).expect("run locally").warnings,
        ["targetCluster \"west\" is taken for this cluster: --cluster-name is not set"]
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let fields = json!({"action": "drain-node", "timeout": "soon", "maxRetries": 9, "targetCluster": "west",
        "parameters": {"scaleDeployment": {"namespace": "kube-system", "deployment": "-x", "replicas": -1}}});
    let named = Settings {
        cluster_name: Some("east".to_owned()),
        ..settings()
    };
    let found = problems_with(&fields, &named);
    for words in [
        "action: \"drain-node\"",
        "timeout: ",
        "maxRetries: ",
        "targetCluster: ",
        "scaleDeployment.deployment: ",
        "scaleDeployment.namespace: ",
        "scaleDeployment.replicas: ",
    ] {
        assert_eq!(
            found.iter().filter(|problem| problem.contains(words)).count(),
            1,
            "{words:?} in {found:?}"
        );
    }
    assert_eq!(found.len(), 7, "{found:?}");
}

#[test]
fn an_undo_runs_as_what_it_undoes() {
    let undo = |kind: &str, name: &str| {
        json!({"action": "undo", "parameters": {"undo": {"of": kind, "patch": "[]",
            "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": name}}}})
    };
    let checked = check(&execution(&undo("scale-deployment", "web")), &settings()).expect("an undo");
    assert_eq!(checked.kind, ActionKind::ScaleDeployment);
    one_problem(
        &problems(&undo("undo", "web")),
        "parameters.undo.of: is not an action",
    );
    one_problem(
        &problems(&undo("scale-deployment", "-w")),
        "target.name: \"-w\" is not a name",
    );
    let mut both = undo("scale-deployment", "web");
    both["parameters"]["undo"]["delete"] = json!(true);
    both["parameters"]["undo"]["target"]["uid"] = json!("u");
    one_problem(
        &problems(&both),
        "parameters.undo: exactly one of patch and delete: true is needed",
    );
    let mut unheld = undo("scale-deployment", "web");
    unheld["parameters"]["undo"] = json!({"of": "apply-manifest", "delete": true,
        "target": unheld["parameters"]["undo"]["target"]});
    one_problem(&problems(&unheld), "parameters.undo.target.uid: is needed");
    let mut wild = undo("scale-deployment", "web");
    wild["parameters"]["undo"]["patch"] = json!(r#"[{"op": "copy", "path": "/a", "from": "/b"}]"#);
    one_problem(
        &problems(&wild),
        "parameters.undo.patch: has the operation \"copy\"",
    );
    let mut other = undo("scale-deployment", "web");
    other["action"] = json!("scale-deployment");
    one_problem(&problems(&other), "does not fit parameters.undo: write undo");
}
