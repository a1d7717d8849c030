//! The outcome of each action, looked at through objects as a cluster would show them.

mod apply;
mod deployments;
mod pods;

use kubernaut_crds::{MicroTime, ObjectRef, PodRef};
use serde_json::json;

use super::*;
use crate::Settings;

use JobResult::{Failure, Lost, Success};

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
    what: JobResult,
}

impl<'a> Look<'a> {
    fn new(spelling: &'a str, parameters: Value) -> Self {
        Self {
            spelling,
            parameters,
            pods: Vec::new(),
            what: Success,
        }
    }

    fn checked(&self) -> (KubernetesExecution, ValidatedExecution) {
        let settings = Settings {
            apply_manifest_kinds: vec!["ConfigMap".to_owned(), "apps/Deployment".to_owned()],
            ..Settings::default()
        };
        let execution = execution(self.spelling, &self.parameters);
        let checked = crate::parameters::check(&execution, &settings).expect("good parameters");
        (execution, checked)
    }

    fn reads(&self) -> Vec<Read> {
        reads(
            &self.checked().1,
            &attempt(self.pods.clone()),
            &ReadResults::new(),
        )
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
        let (execution, checked) = self.checked();
        let attempt = attempt(self.pods.clone());
        let mut facts = ReadResults::new();
        loop {
            let reads = super::reads(&checked, &attempt, &facts);
            if reads.is_empty() {
                return postcondition(&execution, &checked, &attempt, &facts, self.what);
            }
            facts.extend(reads.into_iter().map(|read| (read.clone(), found(&read))));
        }
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

fn stuck_at(why: &str) -> Postcondition {
    Postcondition::Stuck { why: why.to_owned() }
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
            api_version: Some(
                if kind == "ReplicationController" {
                    "v1"
                } else {
                    "apps/v1"
                }
                .into(),
            ),
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
    uncordon.expects([(cordoned, not_there("the node is cordoned"))]);
    for node in schedulable {
        cordon.expects([(node.clone(), not_there("the node is schedulable"))]);
        uncordon.expects([(node, holds("schedulable"))]);
    }
}

#[test]
fn a_drain_holds_when_no_pod_is_left_that_kubectl_would_evict() {
    let look = Look::new(
        "drain-node",
        json!({"drainNode": {"node": "n1", "ignoreDaemonSets": true}}),
    );
    let n1 = |cordoned: bool| json!({"kind": "Node", "metadata": {"name": "n1"}, "spec": {"unschedulable": cordoned}});
    let pod = |metadata: Value, phase: &str| {
        let mut pod = json!({"kind": "Pod", "metadata": metadata, "status": {"phase": phase}});
        pod["metadata"]["name"] = json!("p");
        pod
    };
    let owned = |kind: &str, controller: bool| json!({"ownerReferences": [{"kind": kind, "name": "o", "controller": controller}]});
    let left = not_there("1 pods are left, such as p");
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
    // Where they are not ignored, kubectl refuses to drain at all.
    let daemon = pod(owned("DaemonSet", true), "Running");
    assert_eq!(node("drain-node", "drainNode").sees(&[n1(true), daemon]), left);
    assert_eq!(look.sees(&[n1(true)]), empty);
    assert_eq!(look.sees(&[n1(false)]), not_there("the node is schedulable"));
    let two = [n1(true), pod(json!({}), "Running"), pod(json!({}), "Running")];
    assert_eq!(look.sees(&two), not_there("2 pods are left, such as p"));
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
            not_there("key a has another value"),
        ),
        (seen(json!({"a": "new"})), not_there("key b has another value")),
        (seen(Value::Null), not_there("key a has another value")),
    ]);
}

#[test]
fn a_secret_is_never_read_and_kubectls_success_is_the_proof() {
    let parameters = json!({"updateSecret": {"namespace": "shop", "secret": "keys", "data": {"k": "dg=="}}});
    let mut look = Look::new("update-secret", parameters);
    assert_eq!(look.reads(), []);
    assert_eq!(
        look.sees(&[]),
        holds("set (not read back: nothing here may read Secrets)")
    );
    for what in [Failure, Lost] {
        look.what = what;
        assert_eq!(look.sees(&[]), unprovable("nobody here may read Secrets"));
    }
}

#[test]
fn an_undo_holds_when_the_fields_are_as_before_however_its_job_ended() {
    let patch = json!([{"op": "test", "path": "/spec/replicas", "value": 5},
                       {"op": "replace", "path": "/spec/replicas", "value": 2}]);
    let parameters = json!({"undo": {"of": "scale-deployment", "patch": patch.to_string(),
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"}}});
    let mut look = Look::new("undo", parameters);
    let scaled = |replicas: i64| deployment(json!({"replicas": replicas}), Value::Null);
    for what in [JobResult::Success, Failure] {
        look.what = what;
        look.expects([
            (scaled(2), holds("as before")),
            (scaled(5), not_there("it is as the action had set it")),
            (scaled(7), not_there("/spec/replicas was set to 5 and is 7 now")),
        ]);
    }
}

#[test]
fn an_undo_that_deletes_holds_when_that_object_is_gone() {
    let parameters = json!({"undo": {"of": "apply-manifest", "delete": true,
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "uid": "u"}}});
    let mut look = Look::new("undo", parameters);
    let with_uid = |uid: &str| {
        let mut object = deployment(json!({}), Value::Null);
        object["metadata"]["uid"] = json!(uid);
        object
    };
    let mut going = with_uid("u");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for what in [JobResult::Success, Failure] {
        look.what = what;
        look.expects([
            (with_uid("u"), not_there("it is still there")),
            (going.clone(), in_progress("it is on its way out")),
            (with_uid("v"), holds("deleted")),
        ]);
        assert_eq!(look.sees(&[]), holds("deleted"));
    }
}
