//! What is refused and what is taken down before the first Job, for each action.

mod state;

use kubernaut_crds::ObjectRef;
use serde_json::json;

use super::*;
use crate::actions::ActionKind;

const MANIFEST: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: flags, namespace: shop}\ndata: {a: x}";

fn settings() -> Settings {
    Settings {
        apply_manifest_kinds: vec!["ConfigMap".to_owned()],
        ..Settings::default()
    }
}

fn execution(spelling: &str, parameters: &Value) -> KubernetesExecution {
    serde_json::from_value(json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1"},
        "spec": {"action": spelling, "parameters": parameters}
    }))
    .expect("an execution")
}

fn checked(spelling: &str, parameters: &Value) -> ValidatedExecution {
    crate::parameters::check(&execution(spelling, parameters), &settings()).expect("good parameters")
}

/// The lock is held, and the account may all.
const ALL: Scope = Scope {
    locked: true,
    optional: true,
};

/// What a cluster that holds these objects answers. Label selectors are not evaluated.
fn answers(reads: Vec<Read>, objects: &[Value]) -> ReadResults {
    let matches_kind = |object: &Value, kind: &str, namespace: Option<&str>| {
        object["kind"] == kind
            && namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
    };
    let found = |read: &Read| {
        let fits = |object: &&Value| match read {
            Read::Get {
                kind,
                namespace,
                name,
                ..
            } => {
                matches_kind(object, kind, namespace.as_deref())
                    && object["metadata"]["name"] == name.as_str()
            }
            Read::List {
                kind,
                namespace,
                field_selector,
                ..
            } => {
                let terms = field_selector.iter().flat_map(|text| text.split(','));
                matches_kind(object, kind, namespace.as_deref())
                    && terms.into_iter().all(|term| has_field(object, term))
            }
        };
        let limit = match read {
            Read::List {
                limit: Some(limit), ..
            } => *limit as usize,
            Read::List { .. } | Read::Get { .. } => usize::MAX,
        };
        objects.iter().filter(fits).take(limit).cloned().collect()
    };
    reads
        .into_iter()
        .map(|read| (read.clone(), found(&read)))
        .collect()
}

/// One term of a field selector, `a.b=c` or `a.b!=c`.
fn has_field(object: &Value, term: &str) -> bool {
    let (path, wanted) = term.split_once('=').expect("a term");
    let has = |path: &str| object.pointer(&format!("/{}", path.replace('.', "/"))) == Some(&json!(wanted));
    match path.strip_suffix('!') {
        Some(path) => !has(path),
        None => has(path),
    }
}

fn examined_with(
    spelling: &str,
    parameters: &Value,
    objects: &[Value],
    settings: &Settings,
) -> Result<Preflight, Refusal> {
    let checked = checked(spelling, parameters);
    let facts = answers(reads(&checked, ALL), objects);
    check(&execution(spelling, parameters), &checked, &facts, settings)
}

fn examined(spelling: &str, parameters: &Value, objects: &[Value]) -> Result<Preflight, Refusal> {
    examined_with(spelling, parameters, objects, &settings())
}

fn refused(spelling: &str, parameters: &Value, objects: &[Value], class: ErrorType, words: &str) {
    let refusal = examined(spelling, parameters, objects).expect_err(words);
    assert_eq!(refusal.error_type, class, "{}", refusal.message);
    assert!(
        refusal.message.contains(words),
        "{words:?} is not in {:?}",
        refusal.message
    );
}

fn scale() -> Value {
    json!({"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 5}})
}

fn scale_set() -> Value {
    json!({"scaleStatefulSet": {"namespace": "shop", "name": "db", "replicas": 5}})
}

fn stateful_set() -> Value {
    json!({"kind": "StatefulSet", "metadata": {"name": "db", "namespace": "shop", "generation": 2},
           "spec": {"replicas": 3}})
}

fn restart() -> Value {
    json!({"rolloutRestart": {"namespace": "shop", "deployment": "web"}})
}

fn patch(patch: &Value) -> Value {
    json!({"patchDeployment": {"namespace": "shop", "deployment": "web", "patchType": "strategic",
                               "patch": patch.to_string()}})
}

fn image(container: &str, image: &str) -> Value {
    patch(&json!({"spec": {"template": {"spec": {"containers": [{"name": container, "image": image}]}}}}))
}

fn pod_by_name() -> Value {
    json!({"deletePod": {"namespace": "shop", "pod": "web-a"}})
}

fn pods_by_selector() -> Value {
    json!({"deletePod": {"namespace": "shop", "labelSelector": "app=web"}})
}

fn pods_on(node: &str) -> Value {
    json!({"deletePod": {"namespace": "shop", "labelSelector": "app=web", "nodeName": node}})
}

fn config() -> Value {
    json!({"updateConfigMap": {"namespace": "shop", "configMap": "flags", "data": {"a": "new", "b": "added"}}})
}

fn secret() -> Value {
    json!({"updateSecret": {"namespace": "shop", "secret": "keys", "data": {"k": "dg=="}}})
}

fn apply() -> Value {
    json!({"applyManifest": {"manifest": MANIFEST}})
}

fn node_action(member: &str) -> Value {
    json!({member: {"node": "n1"}})
}

fn deployment() -> Value {
    json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "generation": 7},
           "spec": {"replicas": 3, "template": {"spec": {"containers": [
               {"name": "log", "image": "log:1"}, {"name": "app", "image": "app:1"}]}}}})
}

fn pod(name: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}"),
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d", "uid": "rs",
                             "controller": true}]},
        "status": {"phase": "Running"}})
}

fn node(name: &str, cordoned: bool) -> Value {
    json!({"kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": cordoned}})
}

fn config_map() -> Value {
    json!({"kind": "ConfigMap", "metadata": {"name": "flags", "namespace": "shop"},
           "data": {"a": "old", "other": "stays"}})
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a parent")[key] = value;
    object
}

/// Every action that reads one object first, and that object.
fn with_a_target() -> Vec<(&'static str, Value, Value, &'static str)> {
    vec![
        ("scale-deployment", scale(), deployment(), "deployment/shop/web"),
        (
            "scale-stateful-set",
            scale_set(),
            stateful_set(),
            "statefulset/shop/db",
        ),
        ("rollout-restart", restart(), deployment(), "deployment/shop/web"),
        (
            "patch-deployment",
            patch(&json!({})),
            deployment(),
            "deployment/shop/web",
        ),
        (
            "update-image",
            image("app", "app:2"),
            deployment(),
            "deployment/shop/web",
        ),
        ("delete-pod", pod_by_name(), pod("web-a"), "pod/shop/web-a"),
        (
            "cordon-node",
            node_action("cordonNode"),
            node("n1", false),
            "node/n1",
        ),
        (
            "uncordon-node",
            node_action("uncordonNode"),
            node("n1", true),
            "node/n1",
        ),
        (
            "drain-node",
            node_action("drainNode"),
            node("n1", false),
            "node/n1",
        ),
        ("update-configmap", config(), config_map(), "configmap/shop/flags"),
    ]
}

#[test]
fn the_target_is_read_and_only_what_the_checks_need_beside_it() {
    let deployment = Read::get("apps/v1", "Deployment", Some("shop"), "web");
    let nodes = Read::list("v1", "Node", None, None);
    let n1 = Read::get("v1", "Node", None, "n1");
    let flags = Read::get("v1", "ConfigMap", Some("shop"), "flags");
    let hpas = Read::list("autoscaling/v2", "HorizontalPodAutoscaler", Some("shop"), None);
    let pods = Read::pods_of("shop", "app=web", None, 21);
    let pods_there = Read::pods_of("shop", "app=web", Some("n1"), 21);
    let cases = [
        (
            "scale-deployment",
            scale(),
            vec![deployment.clone(), hpas.clone()],
        ),
        (
            "scale-stateful-set",
            scale_set(),
            vec![Read::get("apps/v1", "StatefulSet", Some("shop"), "db"), hpas],
        ),
        ("rollout-restart", restart(), vec![deployment.clone()]),
        ("patch-deployment", patch(&json!({})), vec![deployment]),
        (
            "delete-pod",
            pod_by_name(),
            vec![Read::get("v1", "Pod", Some("shop"), "web-a")],
        ),
        ("restart-pods", pods_by_selector(), vec![pods]),
        ("restart-pods", pods_on("n1"), vec![pods_there]),
        (
            "cordon-node",
            node_action("cordonNode"),
            vec![n1.clone(), nodes.clone()],
        ),
        ("uncordon-node", node_action("uncordonNode"), vec![n1.clone()]),
        ("drain-node", node_action("drainNode"), vec![n1, nodes]),
        ("update-configmap", config(), vec![flags.clone()]),
        // Nobody here may read Secrets.
        ("update-secret", secret(), vec![]),
        ("apply-manifest", apply(), vec![flags]),
    ];
    for (spelling, parameters, wanted) in &cases {
        assert_eq!(reads(&checked(spelling, parameters), ALL), *wanted, "{spelling}");
    }
    assert_eq!(
        ActionKind::lacking(&cases.map(|(spelling, ..)| spelling)),
        [""; 0]
    );
}

#[test]
fn a_target_that_does_not_exist_is_refused_by_name() {
    for (spelling, parameters, _, name) in with_a_target() {
        let words = format!("{name} does not exist");
        refused(spelling, &parameters, &[], ErrorType::ResourceNotFound, &words);
    }
}

#[test]
fn a_secret_and_an_object_to_be_applied_need_not_be_there() {
    assert!(examined("update-secret", &secret(), &[]).is_ok());
    assert!(examined("apply-manifest", &apply(), &[]).is_ok());
}

#[test]
fn each_mark_of_gitops_is_refused_as_label_and_as_annotation() {
    for mark in [
        "argocd.argoproj.io/instance",
        "argocd.argoproj.io/tracking-id",
        "kustomize.toolkit.fluxcd.io/name",
        "helm.toolkit.fluxcd.io/name",
    ] {
        for place in ["labels", "annotations"] {
            let managed = with(
                deployment(),
                &format!("/metadata/{place}"),
                json!({mark: "shop", "x": "y"}),
            );
            let words = format!("deployment/shop/web is managed by GitOps ({mark})");
            refused(
                "scale-deployment",
                &scale(),
                &[managed],
                ErrorType::GitopsManaged,
                &words,
            );
        }
    }
}

#[test]
fn what_gitops_manages_is_refused_for_every_action_unless_the_flag_allows_it() {
    let allowing = Settings {
        allow_gitops_managed: true,
        ..settings()
    };
    let mut cases = with_a_target();
    cases.push(("apply-manifest", apply(), config_map(), "configmap/shop/flags"));
    for (spelling, parameters, object, name) in cases {
        let managed = with(
            object,
            "/metadata/labels",
            json!({"helm.toolkit.fluxcd.io/name": "shop"}),
        );
        let objects = [managed, node("n2", false)];
        let words = format!("{name} is managed by GitOps");
        refused(spelling, &parameters, &objects, ErrorType::GitopsManaged, &words);
        let allowed = examined_with(spelling, &parameters, &objects, &allowing);
        assert!(allowed.is_ok(), "{spelling}: {allowed:?}");
    }
}

#[test]
fn a_pod_that_gitops_manages_is_refused_among_those_of_a_selector() {
    let managed = with(
        pod("web-b"),
        "/metadata/annotations",
        json!({"argocd.argoproj.io/tracking-id": "shop:/Pod:shop/web-b"}),
    );
    let objects = [pod("web-a"), managed];
    let words = "pod/shop/web-b is managed by GitOps (argocd.argoproj.io/tracking-id)";
    refused(
        "restart-pods",
        &pods_by_selector(),
        &objects,
        ErrorType::GitopsManaged,
        words,
    );
    let allowing = Settings {
        allow_gitops_managed: true,
        ..settings()
    };
    let allowed = examined_with("restart-pods", &pods_by_selector(), &objects, &allowing);
    assert_eq!(allowed.expect("allowed").pods.len(), 2);
}

#[test]
fn marks_of_other_tools_are_no_gitops() {
    let labelled = with(
        deployment(),
        "/metadata/labels",
        json!({"app.kubernetes.io/managed-by": "Helm", "argocd.argoproj.io/instances": "x"}),
    );
    assert!(examined("scale-deployment", &scale(), &[labelled]).is_ok());
}

#[test]
fn a_paused_deployment_is_refused_for_restart_image_and_patch_but_can_be_scaled() {
    let paused = [with(deployment(), "/spec/paused", json!(true))];
    for (spelling, parameters) in [
        ("rollout-restart", restart()),
        ("update-image", image("app", "app:2")),
        ("patch-deployment", patch(&json!({}))),
    ] {
        let words = "deployment/shop/web is paused";
        refused(spelling, &parameters, &paused, ErrorType::ValidationError, words);
        let resumed = [with(deployment(), "/spec/paused", json!(false))];
        assert!(examined(spelling, &parameters, &resumed).is_ok(), "{spelling}");
    }
    assert!(examined("scale-deployment", &scale(), &paused).is_ok());
}

#[test]
fn an_image_is_set_only_in_a_container_that_exists() {
    let objects = [deployment()];
    for spelling in ["update-image", "update_image"] {
        let preflight = examined(spelling, &image("app", "app:2"), &objects).expect("a container");
        assert_eq!(preflight.state_summary, "image of app: app:1");
        assert_eq!(preflight.impact, "Image of app: app:1 -> app:2");
        let words = "has no container \"ap\": a patch would add one";
        refused(
            spelling,
            &image("ap", "app:2"),
            &objects,
            ErrorType::ValidationError,
            words,
        );
    }
    // A native sidecar is an init container.
    let mut sidecar = deployment();
    sidecar["spec"]["template"]["spec"]["initContainers"] =
        json!([{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}]);
    let preflight = examined("update-image", &image("proxy", "proxy:2"), &[sidecar]).expect("a container");
    assert_eq!(preflight.impact, "Image of proxy: proxy:1 -> proxy:2");
    assert_eq!(preflight.init_containers, ["proxy"]);
    // Who patches may add a container.
    assert!(examined("patch-deployment", &image("new", "new:1"), &objects).is_ok());
}

fn tainted(name: &str, effect: &str) -> Value {
    let taint = json!([{"key": "node-role.kubernetes.io/control-plane", "effect": effect}]);
    with(node(name, false), "/spec/taints", taint)
}

fn told_ready(name: &str, status: &str) -> Value {
    let conditions =
        json!([{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": status}]);
    with(node(name, false), "/status", json!({"conditions": conditions}))
}

#[test]
fn the_last_schedulable_node_is_neither_cordoned_nor_drained() {
    let cases = [
        (
            "the others are tainted against pods",
            vec![
                node("n1", false),
                tainted("n2", "NoSchedule"),
                tainted("n3", "NoExecute"),
            ],
            true,
        ),
        (
            "a taint of another is a wish",
            vec![node("n1", false), tainted("n2", "PreferNoSchedule")],
            false,
        ),
        (
            "the others are not Ready",
            vec![
                told_ready("n1", "True"),
                told_ready("n2", "False"),
                told_ready("n3", "Unknown"),
            ],
            true,
        ),
        (
            "another is Ready",
            vec![told_ready("n1", "True"), told_ready("n2", "True")],
            false,
        ),
        (
            "it takes no pods itself",
            vec![told_ready("n1", "Unknown"), node("n2", true)],
            false,
        ),
        ("it is tainted itself", vec![tainted("n1", "NoSchedule")], false),
        ("it is the only one", vec![node("n1", false)], true),
        (
            "the others are cordoned",
            vec![node("n1", false), node("n2", true), node("n3", true)],
            true,
        ),
        (
            "another is schedulable",
            vec![node("n1", false), node("n2", true), node("n3", false)],
            false,
        ),
        (
            "it is cordoned already",
            vec![node("n1", true), node("n2", true)],
            false,
        ),
    ];
    for (case, nodes, refuses) in cases {
        for (spelling, member) in [("cordon-node", "cordonNode"), ("drain-node", "drainNode")] {
            let examined = examined(spelling, &node_action(member), &nodes);
            let refused = examined.as_ref().is_err_and(|refusal| {
                refusal.error_type == ErrorType::ValidationError
                    && refusal
                        .message
                        .starts_with("node/n1 is the last schedulable node")
            });
            assert_eq!(
                (refused, examined.is_err()),
                (refuses, refuses),
                "{spelling}: {case}"
            );
        }
    }
    let only = [node("n1", true)];
    assert!(examined("uncordon-node", &node_action("uncordonNode"), &only).is_ok());
}

#[test]
fn an_autoscaler_of_the_deployment_that_is_scaled_is_a_warning() {
    let hpa = |kind: &str, name: &str| {
        json!({"kind": "HorizontalPodAutoscaler", "metadata": {"name": format!("of-{kind}-{name}"), "namespace": "shop"},
               "spec": {"scaleTargetRef": {"kind": kind, "name": name}}})
    };
    let warnings = |hpas: &[Value]| {
        let objects: Vec<Value> = hpas.iter().cloned().chain([deployment()]).collect();
        examined("scale-deployment", &scale(), &objects)
            .expect("no refusal")
            .warnings
    };
    assert_eq!(warnings(&[]), [""; 0]);
    assert_eq!(
        warnings(&[hpa("Deployment", "cart"), hpa("StatefulSet", "web")]),
        [""; 0]
    );
    assert_eq!(
        warnings(&[hpa("Deployment", "cart"), hpa("Deployment", "web")]),
        ["HorizontalPodAutoscaler of-Deployment-web scales this Deployment too and may change it back"]
    );
}

#[test]
fn a_pod_that_nothing_would_bring_back_is_deleted_by_its_name_alone() {
    let owned = |references: Value| with(pod("web-a"), "/metadata/ownerReferences", references);
    let orphans = [
        owned(Value::Null),
        owned(json!([])),
        owned(json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u"}])),
        owned(
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u", "controller": false}]),
        ),
    ];
    let cases = [
        ("delete-pod", pod_by_name(), false),
        ("delete_pod", pod_by_name(), false),
        ("restart-pod", pod_by_name(), true),
        ("restart-pods", pod_by_name(), true),
        ("restart_pod", pod_by_name(), true),
        ("restart-pod", pods_by_selector(), true),
        ("delete-pod", pods_by_selector(), true),
    ];
    for (spelling, parameters, refuses) in cases {
        for orphan in &orphans {
            let objects = [orphan.clone()];
            if refuses {
                let words = "pod web-a has no controller";
                refused(spelling, &parameters, &objects, ErrorType::ValidationError, words);
            } else {
                let preflight = examined(spelling, &parameters, &objects).expect("deleted for good");
                assert_eq!(preflight.pods[0].controller, None, "{spelling}");
            }
        }
        assert!(
            examined(spelling, &parameters, &[pod("web-a")]).is_ok(),
            "{spelling}"
        );
    }
}

#[test]
fn one_pod_without_a_controller_refuses_the_whole_selector() {
    let orphan = with(pod("web-b"), "/metadata/ownerReferences", json!([]));
    let objects = [pod("web-a"), orphan, pod("web-c")];
    let words = "pod web-b has no controller";
    refused(
        "restart-pod",
        &pods_by_selector(),
        &objects,
        ErrorType::ValidationError,
        words,
    );
}

#[test]
fn a_selector_takes_the_pods_that_run_in_the_order_of_their_names() {
    let objects = [
        pod("web-c"),
        with(
            pod("web-going"),
            "/metadata/deletionTimestamp",
            json!("2026-01-01T00:00:00Z"),
        ),
        with(pod("web-done"), "/status/phase", json!("Succeeded")),
        with(pod("web-broken"), "/status/phase", json!("Failed")),
        with(pod("web-b"), "/status/phase", json!("Pending")),
        pod("web-a"),
    ];
    let preflight = examined("restart-pods", &pods_by_selector(), &objects).expect("three pods");
    assert_eq!(preflight.state_summary, "pods: web-a, web-b, web-c");
    assert_eq!(
        preflight.pods[0],
        PodRef {
            name: "web-a".into(),
            uid: "uid-of-web-a".into(),
            controller: Some(ObjectRef {
                api_version: Some("apps/v1".into()),
                kind: Some("ReplicaSet".into()),
                name: "web-5d".into(),
                namespace: Some("shop".into()),
                uid: Some("rs".into()),
            }),
        }
    );
    let words = "no running pod matches pod/shop/(app=web)";
    for none in [&objects[1..4], &[]] {
        refused(
            "restart-pods",
            &pods_by_selector(),
            none,
            ErrorType::ResourceNotFound,
            words,
        );
    }
}

#[test]
fn autoscalers_are_read_only_for_who_may_list_them_and_nodes_only_under_the_lock() {
    let kinds = |spelling: &str, parameters: Value, scope: Scope| {
        let reads = super::reads(&checked(spelling, &parameters), scope);
        reads
            .into_iter()
            .map(|read| match read {
                Read::Get { kind, .. } => kind,
                Read::List { kind, .. } => format!("all {kind}"),
            })
            .collect::<Vec<_>>()
    };
    let less = Scope {
        locked: false,
        optional: false,
    };
    assert_eq!(kinds("scale-deployment", scale(), less), ["Deployment"]);
    assert_eq!(kinds("cordon-node", node_action("cordonNode"), less), ["Node"]);
    assert_eq!(kinds("drain-node", node_action("drainNode"), less), ["Node"]);
    // Nothing is refused for what was not read.
    let checked = checked("cordon-node", &node_action("cordonNode"));
    let facts = answers(reads(&checked, less), &[node("n1", false)]);
    let execution = execution("cordon-node", &node_action("cordonNode"));
    assert!(check(&execution, &checked, &facts, &settings()).is_ok());
}

#[test]
fn a_selector_with_a_node_takes_only_the_pods_that_are_there() {
    let on = |name: &str, node: &str| with(pod(name), "/spec", json!({"nodeName": node}));
    let objects = [
        on("web-a", "n1"),
        on("web-b", "n2"),
        pod("web-pending"),
        on("web-c", "n1"),
    ];
    let preflight = examined("restart-pods", &pods_on("n1"), &objects).expect("two pods");
    assert_eq!(preflight.state_summary, "pods: web-a, web-c");
    refused(
        "restart-pods",
        &pods_on("n3"),
        &objects,
        ErrorType::ResourceNotFound,
        "no running pod matches pod/shop/(app=web on node n3)",
    );
}

#[test]
fn a_later_attempt_reads_the_pods_of_the_first_one_and_not_what_the_selector_matches_by_then() {
    let selected = checked("restart-pods", &pods_by_selector());
    let mut execution = execution("restart-pods", &pods_by_selector());
    assert_eq!(reads_again(&execution, &selected, ALL), reads(&selected, ALL));
    execution.status = serde_json::from_value(json!({"attempts": [{
        "attempt": 1, "jobName": "j", "jobHash": "h", "startTime": "2026-01-01T00:00:00.000000Z",
        "deadline": "2026-01-01T00:05:00.000000Z", "outcome": "failed",
        "pods": [{"name": "web-a", "uid": "a"}, {"name": "web-b", "uid": "b"}],
    }]}))
    .expect("a status");
    let pod = |name: &str| Read::get("v1", "Pod", Some("shop"), name);
    assert_eq!(
        reads_again(&execution, &selected, ALL),
        [pod("web-a"), pod("web-b")]
    );
}

#[test]
fn a_selector_that_matches_more_than_twenty_running_pods_is_refused() {
    let ended = with(pod("ended"), "/status/phase", json!("Failed"));
    let pods = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|n| pod(&format!("web-{n:02}")))
            .chain([ended.clone()])
            .collect()
    };
    let preflight = examined("restart-pods", &pods_by_selector(), &pods(20)).expect("20 are allowed");
    assert_eq!(preflight.pods.len(), 20);
    let words = "pod/shop/(app=web) matches more than 20 pods";
    refused(
        "restart-pods",
        &pods_by_selector(),
        &pods(21),
        ErrorType::ValidationError,
        words,
    );
}
