mod apply;
mod deployments;

use kubernaut_crds::{MicroTime, ObjectRef, PodRef};
use serde_json::json;

use super::*;
use crate::Settings;

use AfterWhat::{Failure, Lost, Success};

fn execution(spelling: &str, parameters: &Value) -> KubernetesExecution {
    serde_json::from_value(json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1"},
        "spec": {"action": spelling, "parameters": parameters}
    }))
    .expect("an execution")
}

fn attempt(pods: Vec<PodRef>) -> Attempt {
    let start = MicroTime(jiff::Timestamp::UNIX_EPOCH);
    let mut attempt: Attempt = serde_json::from_value(json!({
        "attempt": 1, "jobName": "j", "jobHash": "", "startTime": start, "deadline": start,
        "targetGeneration": 6}))
    .expect("an attempt");
    attempt.pods = pods;
    attempt
}

/// One look: what it needs is read from these objects, and nothing else.
struct Look<'a> {
    spelling: &'a str,
    parameters: Value,
    pods: Vec<PodRef>,
    what: AfterWhat,
    said: Option<&'a str>,
}

impl<'a> Look<'a> {
    fn new(spelling: &'a str, parameters: Value) -> Self {
        Self {
            spelling,
            parameters,
            pods: Vec::new(),
            what: Success,
            said: None,
        }
    }

    fn checked(&self) -> (KubernetesExecution, Checked) {
        let settings = Settings {
            apply_manifest_kinds: vec!["ConfigMap".to_owned(), "apps/Deployment".to_owned()],
            ..Settings::default()
        };
        let execution = execution(self.spelling, &self.parameters);
        let checked = crate::parameters::check(&execution, &settings).expect("good parameters");
        (execution, checked)
    }

    fn reads(&self) -> Vec<Read> {
        reads_after(&self.checked().1, &attempt(self.pods.clone()), &Facts::new())
    }

    fn sees(&self, objects: &[Value]) -> Postcondition {
        let found = |read: &Read| {
            let fits = |object: &&Value| match read {
                Read::Get { kind, name, .. } => {
                    object["kind"] == kind.as_str() && object["metadata"]["name"] == name.as_str()
                }
                Read::List { kind, .. } => object["kind"] == kind.as_str(),
            };
            objects.iter().filter(fits).cloned().collect()
        };
        let facts: Facts = self
            .reads()
            .into_iter()
            .map(|read| (read.clone(), found(&read)))
            .collect();
        let (execution, checked) = self.checked();
        let attempt = attempt(self.pods.clone());
        assert_eq!(reads_after(&checked, &attempt, &facts), [], "all was read");
        postcondition(&execution, &checked, &attempt, &facts, self.what, self.said)
    }

    /// Each case: what is seen, and what that means.
    fn expects(&self, cases: impl IntoIterator<Item = (Value, Postcondition)>) {
        for (object, expected) in cases {
            assert_eq!(self.sees(std::slice::from_ref(&object)), expected, "{object:#}");
        }
    }
}

fn never(why: &str) -> Postcondition {
    Postcondition::Never { why: why.to_owned() }
}

fn unprovable(why: &str) -> Postcondition {
    Postcondition::Unprovable { why: why.to_owned() }
}

/// Generation 7; the attempt began at 6.
#[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
fn deployment(spec: Value, status: Value) -> Value {
    json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "generation": 7},
           "spec": spec, "status": status})
}

/// Status of a Deployment whose controller has seen generation 7.
fn counts(total: i64, updated: i64, ready: i64) -> Value {
    json!({"observedGeneration": 7, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready})
}

fn stuck(mut status: Value) -> Value {
    status["conditions"] = json!([
        {"type": "Available", "status": "True"},
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
    ]);
    status
}

fn scale(replicas: i32) -> Look<'static> {
    let parameters =
        json!({"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": replicas}});
    Look::new("scale-deployment", parameters)
}

fn restart() -> Look<'static> {
    let parameters = json!({"rolloutRestart": {"namespace": "shop", "deployment": "web"}});
    Look::new("rollout-restart", parameters)
}

fn patch(spelling: &str) -> Look<'_> {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "app:2"}]}}}});
    let parameters = json!({"patchDeployment": {"namespace": "shop", "deployment": "web",
        "patchType": "strategic", "patch": patch.to_string()}});
    Look::new(spelling, parameters)
}

fn node(spelling: &'static str, member: &str) -> Look<'static> {
    Look::new(spelling, json!({member: {"node": "n1"}}))
}

fn apply(object: &Value) -> Look<'static> {
    Look::new(
        "apply-manifest",
        json!({"applyManifest": {"manifest": object.to_string()}}),
    )
}

fn web_pod(name: &str, uid: &str, controller: Option<&str>) -> PodRef {
    PodRef {
        name: name.into(),
        uid: uid.into(),
        controller: controller.map(|kind| ObjectRef {
            api_version: Some("apps/v1".into()),
            kind: Some(kind.into()),
            name: "owner".into(),
            namespace: Some("shop".into()),
            uid: Some("owner-uid".into()),
        }),
    }
}

fn delete(pods: Vec<PodRef>) -> Look<'static> {
    let parameters = json!({"deletePod": {"namespace": "shop", "labelSelector": "app=web"}});
    Look {
        pods,
        ..Look::new("restart-pods", parameters)
    }
}

/// Every action on a Deployment with a spec in which it has taken effect.
fn on_deployments() -> Vec<(Look<'static>, Value)> {
    let template = json!({"metadata": {"annotations": {"kubernaut.io/restarted-by": "uid-1"}},
                          "spec": {"containers": [{"name": "app", "image": "app:2"}]}});
    let spec = json!({"replicas": 2, "template": template});
    vec![
        (scale(2), spec.clone()),
        (restart(), spec.clone()),
        (patch("update-image"), spec.clone()),
        (patch("patch-deployment"), spec),
    ]
}

#[test]
fn a_target_that_is_gone_never_comes_true() {
    let gone = never("the target does not exist any more");
    let config =
        json!({"updateConfigMap": {"namespace": "shop", "configMap": "flags", "data": {"a": "new"}}});
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap",
                          "metadata": {"name": "flags", "namespace": "shop"}});
    let looks = [
        Look::new("update-configmap", config),
        apply(&manifest),
        node("cordon-node", "cordonNode"),
        node("uncordon-node", "uncordonNode"),
        node("drain-node", "drainNode"),
    ];
    for look in on_deployments().into_iter().map(|(look, _)| look).chain(looks) {
        assert_eq!(look.sees(&[]), gone, "{}", look.spelling);
    }
}

#[test]
fn a_pod_is_deleted_when_that_uid_is_gone() {
    let pod = |uid: &str| json!({"kind": "Pod", "metadata": {"name": "web-a", "uid": uid}});
    let look = delete(vec![
        web_pod("web-a", "u1", None),
        web_pod("web-b", "u2", Some("Job")),
    ]);
    assert_eq!(look.sees(&[]), holds("deleted: web-a, web-b"));
    look.expects([
        (pod("u1"), not_yet("pod web-a is still there")),
        // A replacement of the same name.
        (pod("another"), holds("deleted: web-a, web-b")),
    ]);
}

#[test]
fn a_deleted_pod_is_waited_for_until_its_controller_is_back_at_its_count() {
    let owner = |kind: &str, spec: Value, status: Value| json!({"kind": kind, "metadata": {"name": "owner"}, "spec": spec, "status": status});
    let missing = |ready: i64, wanted: i64| not_yet(format!("owner has {ready} of {wanted} pods ready"));
    for kind in ["ReplicaSet", "StatefulSet"] {
        let look = delete(vec![web_pod("web-a", "u1", Some(kind))]);
        let two = json!({"replicas": 2});
        look.expects([
            (
                owner(kind, two.clone(), json!({"readyReplicas": 2})),
                holds("deleted: web-a"),
            ),
            (
                owner(kind, two.clone(), json!({"readyReplicas": 1})),
                missing(1, 2),
            ),
            (owner(kind, two.clone(), json!({})), missing(0, 2)),
            (owner(kind, two, Value::Null), missing(0, 2)),
            (owner(kind, json!({}), json!({})), missing(0, 1)),
            (
                owner(kind, json!({"replicas": 0}), json!({})),
                holds("deleted: web-a"),
            ),
        ]);
        // Nobody waits for a controller that was deleted too.
        assert_eq!(look.sees(&[]), holds("deleted: web-a"));
    }
    let look = delete(vec![web_pod("web-a", "u1", Some("DaemonSet"))]);
    let status = |ready: i64| json!({"desiredNumberScheduled": 3, "numberReady": ready});
    look.expects([
        (owner("DaemonSet", json!({}), status(3)), holds("deleted: web-a")),
        (owner("DaemonSet", json!({}), status(2)), missing(2, 3)),
    ]);
}

#[test]
fn after_a_deletion_the_pods_and_their_controllers_are_read_once_each() {
    let look = delete(vec![
        web_pod("web-a", "u1", Some("ReplicaSet")),
        web_pod("web-b", "u2", Some("ReplicaSet")),
        web_pod("web-c", "u3", Some("Job")),
        web_pod("web-d", "u4", None),
    ]);
    let pod = |name: &str| Read::get("v1", "Pod", Some("shop"), name);
    let expected = [
        Read::get("apps/v1", "ReplicaSet", Some("shop"), "owner"),
        pod("web-a"),
        pod("web-b"),
        pod("web-c"),
        pod("web-d"),
    ];
    assert_eq!(look.reads(), expected);
}

#[test]
fn a_cordon_and_an_uncordon_hold_when_the_node_is_as_wanted() {
    let seen = |spec: Value| json!({"kind": "Node", "metadata": {"name": "n1"}, "spec": spec});
    let cordoned = seen(json!({"unschedulable": true}));
    let schedulable = [
        seen(json!({"unschedulable": false})),
        seen(json!({})),
        seen(Value::Null),
    ];
    let cordon = node("cordon-node", "cordonNode");
    let uncordon = node("uncordon-node", "uncordonNode");
    cordon.expects([(cordoned.clone(), holds("cordoned"))]);
    uncordon.expects([(cordoned, not_yet("the node is cordoned"))]);
    for node in schedulable {
        cordon.expects([(node.clone(), not_yet("the node is schedulable"))]);
        uncordon.expects([(node, holds("schedulable"))]);
    }
}

#[test]
fn a_drain_holds_when_no_pod_is_left_that_kubectl_would_evict() {
    let look = node("drain-node", "drainNode");
    let n1 = |cordoned: bool| json!({"kind": "Node", "metadata": {"name": "n1"}, "spec": {"unschedulable": cordoned}});
    let pod = |metadata: Value, phase: &str| {
        let mut pod = json!({"kind": "Pod", "metadata": metadata, "status": {"phase": phase}});
        pod["metadata"]["name"] = json!("p");
        pod
    };
    let owned = |kind: &str, controller: bool| json!({"ownerReferences": [{"kind": kind, "name": "o", "controller": controller}]});
    let left = not_yet("1 pods are left, such as p");
    let empty = holds("cordoned and empty");
    let cases = [
        (
            "mirror",
            pod(
                json!({"annotations": {"kubernetes.io/config.mirror": "x"}}),
                "Running",
            ),
            &empty,
        ),
        ("succeeded", pod(json!({}), "Succeeded"), &empty),
        ("failed", pod(json!({}), "Failed"), &empty),
        ("of a DaemonSet", pod(owned("DaemonSet", true), "Running"), &empty),
        (
            "the executor's",
            pod(json!({"labels": {"kubernaut.io/execution-uid": "u"}}), "Running"),
            &empty,
        ),
        (
            "of a ReplicaSet",
            pod(owned("ReplicaSet", true), "Running"),
            &left,
        ),
        (
            "only owned by a DaemonSet",
            pod(owned("DaemonSet", false), "Running"),
            &left,
        ),
        ("bare", pod(json!({}), "Running"), &left),
        ("pending", pod(json!({}), "Pending"), &left),
        (
            "on its way out",
            pod(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), "Running"),
            &left,
        ),
        (
            "with other marks",
            pod(
                json!({"labels": {"app": "web"}, "annotations": {"kubernetes.io/config.hash": "x"}}),
                "Running",
            ),
            &left,
        ),
    ];
    for (case, pod, expected) in cases {
        assert_eq!(&look.sees(&[n1(true), pod]), expected, "{case}");
    }
    assert_eq!(look.sees(&[n1(true)]), empty);
    assert_eq!(look.sees(&[n1(false)]), not_yet("the node is schedulable"));
    let two = [n1(true), pod(json!({}), "Running"), pod(json!({}), "Running")];
    assert_eq!(look.sees(&two), not_yet("2 pods are left, such as p"));
    assert_eq!(
        look.reads(),
        [Read::get("v1", "Node", None, "n1"), Read::pods_on("n1")]
    );
}

#[test]
fn a_config_map_holds_when_each_key_has_its_value() {
    let data = json!({"a": "new", "b": ""});
    let parameters = json!({"updateConfigMap": {"namespace": "shop", "configMap": "flags", "data": data}});
    let seen = |data: Value| json!({"kind": "ConfigMap", "metadata": {"name": "flags"}, "data": data});
    Look::new("update-configmap", parameters).expects([
        (seen(json!({"a": "new", "b": ""})), holds("keys set: a, b")),
        (
            seen(json!({"a": "new", "b": "", "c": "another"})),
            holds("keys set: a, b"),
        ),
        (
            seen(json!({"a": "old", "b": ""})),
            not_yet("key a has another value"),
        ),
        (seen(json!({"a": "new"})), not_yet("key b has another value")),
        (seen(Value::Null), not_yet("key a has another value")),
    ]);
}

#[test]
fn a_secret_is_never_read_and_kubectls_success_is_the_proof() {
    let parameters = json!({"updateSecret": {"namespace": "shop", "secret": "keys", "data": {"k": "dg=="}}});
    let mut look = Look::new("update-secret", parameters);
    assert_eq!(look.reads(), []);
    assert_eq!(look.sees(&[]), holds("kubectl's success is the proof"));
    for what in [Failure, Lost] {
        look.what = what;
        assert_eq!(look.sees(&[]), unprovable("nobody here may read Secrets"));
    }
}

#[test]
fn an_undo_is_proved_by_kubectls_success_alone() {
    let parameters = json!({"undo": {"of": "scale-deployment", "patch": "[]",
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"}}});
    let mut look = Look::new("undo", parameters);
    let there = || deployment(json!({}), Value::Null);
    look.expects([(there(), holds("kubectl's success is the proof"))]);
    look.what = Failure;
    look.expects([(there(), unprovable("nothing shows that the undo took effect"))]);
}
