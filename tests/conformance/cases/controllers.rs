//! What the other controllers do: StatefulSets, DaemonSets, budgets, taints of nodes, autoscalers.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::bodies::{pod, with, workload};
use super::super::case_context::CaseContext;

super::cases!(
    pods_of_a_stateful_set_come_and_go_in_order,
    a_stateful_set_in_parallel_makes_all_at_once,
    a_stateful_set_rolls_out_from_the_last_down_to_its_partition,
    a_stateful_set_on_delete_replaces_nothing,
    a_pod_of_a_stateful_set_has_its_name_and_claims,
    a_daemon_set_rolls_out_a_few_at_a_time,
    a_daemon_set_on_delete_replaces_nothing,
    a_daemon_set_keeps_away_from_taints,
    a_budget_expects_what_the_controllers_want,
    a_cordon_taints_its_node,
    an_autoscaler_keeps_its_bounds,
);

/// A condition in words; empty when there is none.
pub(super) fn condition(object: &Answer, kind: &str) -> String {
    let conditions = object.at("/status/conditions");
    let found = conditions
        .as_array()
        .into_iter()
        .flatten()
        .find(|found| found["type"] == kind);
    found.map_or_else(String::new, |found| {
        format!("{} {}: {}", found["status"], found["reason"], found["message"])
    })
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .filter(|condition| condition["type"] == "Ready")
        .count()
        > 0
}

fn live(pods: &Answer) -> Vec<Value> {
    let pods = pods.body["items"].as_array().cloned().unwrap_or_default();
    pods.into_iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .collect()
}

/// Waits until there are so many pods, and calls those ready that nobody has said anything of, as a kubelet would.
pub(super) async fn serve(lab: &CaseContext, number: usize) {
    let quiet = lab.quietly();
    let pods = quiet.until("pod", |pods| live(pods).len() == number).await;
    for pod in live(&pods).iter().filter(|pod| !is_ready(pod)) {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let status = json!({"status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": now(pod)}]}});
        quiet
            .merge(&format!("pod/{name}/status"), status)
            .await
            .has_code(200);
    }
}

/// The time of the pod's birth: the embedded cluster has a time of its own.
fn now(pod: &Value) -> Value {
    pod["metadata"]["creationTimestamp"].clone()
}

async fn until_names(lab: &CaseContext, wanted: &[&str]) {
    let there = |pods: &Answer| {
        let pods = live(pods);
        let names: Vec<&str> = pods
            .iter()
            .filter_map(|pod| pod["metadata"]["name"].as_str())
            .collect();
        names == wanted
    };
    lab.quietly().until("pod", there).await;
}

fn stateful(replicas: u32) -> Value {
    with(workload("a", replicas), "/spec/serviceName", json!("a"))
}

fn image(tag: u8) -> Value {
    let image = format!("registry.example/app:{tag}");
    json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}})
}

/// Waits until the live pods have these images, in order of their names.
async fn until_images(lab: &CaseContext, wanted: &[u8]) {
    let wanted: Vec<String> = wanted
        .iter()
        .map(|tag| format!("registry.example/app:{tag}"))
        .collect();
    let there = |pods: &Answer| {
        let pods = live(pods);
        let images: Vec<&str> = pods
            .iter()
            .filter_map(|pod| pod["spec"]["containers"][0]["image"].as_str())
            .collect();
        images == wanted
    };
    lab.quietly().until("pod", there).await;
}

async fn pods_of_a_stateful_set_come_and_go_in_order(lab: &CaseContext) {
    lab.given("sts", stateful(3)).await;
    until_names(lab, &["a-0"]).await;
    serve(lab, 1).await;
    until_names(lab, &["a-0", "a-1"]).await;
    serve(lab, 2).await;
    until_names(lab, &["a-0", "a-1", "a-2"]).await;
    serve(lab, 3).await;
    let all = |set: &Answer| set.at("/status/availableReplicas") == json!(3);
    let set = lab.quietly().until("sts/a", all).await;
    lab.call(&set.text("/status/updateRevision"), "a revision");
    let mut status = set.at("/status");
    status["collisionCount"] = Value::Null;
    lab.say("status", status);
    lab.quietly()
        .merge("sts/a", json!({"spec": {"replicas": 1}}))
        .await
        .has_code(200);
    until_names(lab, &["a-0"]).await;
}

async fn a_stateful_set_in_parallel_makes_all_at_once(lab: &CaseContext) {
    let mut body = with(stateful(3), "/spec/podManagementPolicy", json!("Parallel"));
    body["spec"]["ordinals"] = json!({"start": 2});
    lab.given("sts", body).await;
    until_names(lab, &["a-2", "a-3", "a-4"]).await;
    lab.quietly()
        .merge("sts/a", json!({"spec": {"replicas": 1}}))
        .await
        .has_code(200);
    until_names(lab, &["a-2"]).await;
}

async fn standing(lab: &CaseContext, body: Value) {
    let body = with(body, "/spec/podManagementPolicy", json!("Parallel"));
    lab.given("sts", body).await;
    serve(lab, 3).await;
    let all = |set: &Answer| set.at("/status/availableReplicas") == json!(3);
    lab.quietly().until("sts/a", all).await;
}

async fn a_stateful_set_rolls_out_from_the_last_down_to_its_partition(lab: &CaseContext) {
    let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    standing(lab, with(stateful(3), "/spec/updateStrategy", partition)).await;
    lab.quietly().strategic("sts/a", image(2)).await.has_code(200);
    until_images(lab, &[1, 1, 2]).await;
    serve(lab, 3).await;
    until_images(lab, &[1, 2, 2]).await;
    serve(lab, 3).await;
    let rolled = |set: &Answer| {
        set.at("/status/updatedReplicas") == json!(2) && set.at("/status/readyReplicas") == json!(3)
    };
    let set = lab.quietly().until("sts/a", rolled).await;
    lab.say("current", set.at("/status/currentReplicas"));
    assert_ne!(
        set.at("/status/currentRevision"),
        set.at("/status/updateRevision")
    );
    // One below the partition comes back as it was.
    lab.quietly()
        .delete("pod/a-0?gracePeriodSeconds=0")
        .await
        .has_code(200);
    until_images(lab, &[1, 2, 2]).await;
    serve(lab, 3).await;
    let whole = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}});
    lab.quietly().merge("sts/a", whole).await.has_code(200);
    until_images(lab, &[2, 2, 2]).await;
    serve(lab, 3).await;
    let done = |set: &Answer| set.at("/status/currentRevision") == set.at("/status/updateRevision");
    lab.quietly().until("sts/a", done).await;
}

async fn a_stateful_set_on_delete_replaces_nothing(lab: &CaseContext) {
    standing(
        lab,
        with(stateful(3), "/spec/updateStrategy", json!({"type": "OnDelete"})),
    )
    .await;
    lab.quietly().strategic("sts/a", image(2)).await.has_code(200);
    let seen = |set: &Answer| set.at("/status/observedGeneration") == json!(2);
    lab.quietly().until("sts/a", seen).await;
    until_images(lab, &[1, 1, 1]).await;
    lab.quietly()
        .delete("pod/a-1?gracePeriodSeconds=0")
        .await
        .has_code(200);
    until_images(lab, &[1, 2, 1]).await;
}

async fn a_pod_of_a_stateful_set_has_its_name_and_claims(lab: &CaseContext) {
    let mut body = stateful(1);
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    body["spec"]["volumeClaimTemplates"] =
        json!([{"metadata": {"name": "data", "labels": {"x": "y"}}, "spec": claim}]);
    lab.given("sts", body).await;
    until_names(lab, &["a-0"]).await;
    let pod = lab.quietly().get("pod/a-0").await;
    lab.call(
        &pod.text("/metadata/labels/controller-revision-hash"),
        "a revision",
    );
    lab.say("labels", pod.at("/metadata/labels"));
    lab.say(
        "host",
        json!([pod.at("/spec/hostname"), pod.at("/spec/subdomain")]),
    );
    let volumes = pod.at("/spec/volumes");
    let claims = volumes.as_array().into_iter().flatten();
    let claims: Vec<&Value> = claims
        .filter(|volume| !volume["persistentVolumeClaim"].is_null())
        .collect();
    lab.say("volumes", json!(claims));
    let claim = lab.quietly().get("pvc/data-a-0").await;
    lab.say(
        "claim",
        json!([claim.at("/metadata/labels"), claim.at("/spec/accessModes")]),
    );
    lab.quietly().delete("sts/a").await.has_code(200);
    lab.quietly().until("pod", |pods| live(pods).is_empty()).await;
    lab.quietly().get("pvc/data-a-0").await.has_code(200);
}

/// Nodes with a label of the case, and a DaemonSet for them that tolerates what a node without a kubelet has.
async fn daemons(lab: &CaseContext, nodes: usize, update: Value) {
    for number in 1..=nodes {
        let node = json!({"metadata": {"name": format!("{{ns}}-{number}"), "labels": {"case": "{ns}"}}});
        lab.given("node", node).await;
    }
    let mut body = with(workload("a", 0), "/spec/replicas", Value::Null);
    body["spec"]["updateStrategy"] = update;
    body["spec"]["template"]["spec"]["nodeSelector"] = json!({"case": "{ns}"});
    let tolerated = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists"});
    body["spec"]["template"]["spec"]["tolerations"] =
        json!([tolerated("not-ready"), tolerated("unreachable")]);
    lab.given("ds", body).await;
}

async fn end_nodes(lab: &CaseContext, nodes: usize) {
    for number in 1..=nodes {
        lab.quietly()
            .delete(&format!("node/{{ns}}-{number}"))
            .await
            .has_code(200);
    }
}

/// How many live pods are of the new image.
async fn until_new(lab: &CaseContext, new: usize, all: usize) {
    let there = |pods: &Answer| {
        let pods = live(pods);
        let is_new = |pod: &&Value| pod["spec"]["containers"][0]["image"] == "registry.example/app:2";
        pods.len() == all && pods.iter().filter(is_new).count() == new
    };
    lab.quietly().until("pod", there).await;
}

/// Confirms that pods have stopped, as a kubelet would.
async fn bury(lab: &CaseContext) {
    for pod in lab.quietly().get("pod").await.body["items"]
        .as_array()
        .into_iter()
        .flatten()
    {
        if pod["metadata"]["deletionTimestamp"].is_string() {
            let name = pod["metadata"]["name"].as_str().expect("a name");
            lab.quietly()
                .delete(&format!("pod/{name}?gracePeriodSeconds=0"))
                .await;
        }
    }
}

async fn a_daemon_set_rolls_out_a_few_at_a_time(lab: &CaseContext) {
    let update = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}});
    daemons(lab, 4, update).await;
    serve(lab, 4).await;
    let all = |set: &Answer| set.at("/status/numberAvailable") == json!(4);
    let set = lab.quietly().until("ds/a", all).await;
    lab.say("status", set.at("/status"));
    lab.quietly().strategic("ds/a", image(2)).await.has_code(200);
    for new in [2, 4] {
        let gone = |pods: &Answer| live(pods).iter().filter(|pod| is_ready(pod)).count() == 2;
        lab.quietly().until("pod", gone).await;
        bury(lab).await;
        until_new(lab, new, 4).await;
        serve(lab, 4).await;
    }
    let done = |set: &Answer| {
        set.at("/status/updatedNumberScheduled") == json!(4) && set.at("/status/numberAvailable") == json!(4)
    };
    lab.quietly().until("ds/a", done).await;
    end_nodes(lab, 4).await;
}

async fn a_daemon_set_on_delete_replaces_nothing(lab: &CaseContext) {
    daemons(lab, 2, json!({"type": "OnDelete"})).await;
    serve(lab, 2).await;
    lab.quietly().strategic("ds/a", image(2)).await.has_code(200);
    let seen = |set: &Answer| set.at("/status/observedGeneration") == json!(2);
    lab.quietly().until("ds/a", seen).await;
    until_new(lab, 0, 2).await;
    let first = lab.quietly().get("pod").await.names().remove(0);
    lab.quietly()
        .delete(&format!("pod/{first}?gracePeriodSeconds=0"))
        .await
        .has_code(200);
    until_new(lab, 1, 2).await;
    end_nodes(lab, 2).await;
}

async fn a_daemon_set_keeps_away_from_taints(lab: &CaseContext) {
    daemons(lab, 2, json!({"type": "OnDelete"})).await;
    serve(lab, 2).await;
    let cordoned = json!({"spec": {"unschedulable": true}});
    lab.quietly().merge("node/{ns}-1", cordoned).await.has_code(200);
    let taint = json!({"spec": {"taints": [{"key": "dedicated", "effect": "NoSchedule"}]}});
    lab.quietly().strategic("node/{ns}-2", taint).await.has_code(200);
    let astray = |set: &Answer| set.at("/status/numberMisscheduled") == json!(1);
    let set = lab.quietly().until("ds/a", astray).await;
    lab.say("wanted", set.at("/status/desiredNumberScheduled"));
    assert_eq!(live(&lab.quietly().get("pod").await).len(), 2);
    end_nodes(lab, 2).await;
}

fn budget(spec: Value) -> Value {
    let mut budget = json!({"metadata": {"name": "budget"}, "spec": spec});
    budget["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
    budget
}

async fn a_budget_expects_what_the_controllers_want(lab: &CaseContext) {
    lab.given("deploy", workload("a", 4)).await;
    serve(lab, 4).await;
    // One of nobody's counts as healthy, and is not expected.
    lab.given("pod", with(pod("b"), "/metadata/labels/app", json!("a")))
        .await;
    serve(lab, 5).await;
    for (spec, wanted) in [
        (json!({"maxUnavailable": 1}), [5, 3, 4, 2]),
        (json!({"maxUnavailable": "30%"}), [5, 2, 4, 3]),
        (json!({"minAvailable": "30%"}), [5, 2, 4, 3]),
        (json!({"maxUnavailable": 9}), [5, 0, 4, 5]),
        (json!({"minAvailable": 3}), [5, 3, 5, 2]),
    ] {
        lab.given("pdb", budget(spec)).await;
        let fields = [
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
            "disruptionsAllowed",
        ];
        let counted = |budget: &Answer| {
            let counts = fields.map(|field| budget.at(&format!("/status/{field}")));
            counts == wanted.map(|count| json!(count))
        };
        let budget = lab.quietly().until("pdb/budget", counted).await;
        lab.say("said", json!(condition(&budget, "DisruptionAllowed")));
        lab.quietly().delete("pdb/budget").await.has_code(200);
    }
    let pods = live(&lab.quietly().get("pod").await);
    let unready = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    for pod in &pods[..3] {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        lab.quietly()
            .merge(&format!("pod/{name}/status"), unready.clone())
            .await
            .has_code(200);
    }
    lab.given("pdb", budget(json!({"maxUnavailable": 1}))).await;
    let none = |budget: &Answer| {
        budget.at("/status/currentHealthy") == json!(2) && budget.at("/status/disruptionsAllowed") == json!(0)
    };
    let budget = lab.quietly().until("pdb/budget", none).await;
    lab.say("said of too few", json!(condition(&budget, "DisruptionAllowed")));
}

fn cordon_taints(node: &Answer) -> Vec<Value> {
    let taints = node.at("/spec/taints");
    let mut taints: Vec<Value> = taints.as_array().cloned().unwrap_or_default();
    taints.retain(|taint| taint["key"] == "node.kubernetes.io/unschedulable" || taint["key"] == "dedicated");
    for taint in &mut taints {
        if taint["timeAdded"].is_string() {
            taint["timeAdded"] = json!("then");
        }
    }
    taints
}

async fn a_cordon_taints_its_node(lab: &CaseContext) {
    let taints = json!([{"key": "dedicated", "effect": "NoSchedule"}]);
    lab.given(
        "node",
        json!({"metadata": {"name": "{ns}"}, "spec": {"taints": taints}}),
    )
    .await;
    let cordon = |cordoned: bool| json!({"spec": {"unschedulable": cordoned}});
    lab.quietly().merge("node/{ns}", cordon(true)).await.has_code(200);
    let two = |node: &Answer| cordon_taints(node).len() == 2;
    let node = lab.quietly().until("node/{ns}", two).await;
    lab.say("cordoned", json!(cordon_taints(&node)));
    lab.quietly()
        .merge("node/{ns}", cordon(false))
        .await
        .has_code(200);
    let one = |node: &Answer| cordon_taints(node).len() == 1;
    let node = lab.quietly().until("node/{ns}", one).await;
    lab.say("given back", json!(cordon_taints(&node)));
    lab.quietly().delete("node/{ns}").await.has_code(200);
}

async fn an_autoscaler_keeps_its_bounds(lab: &CaseContext) {
    lab.given("deploy", workload("a", 9)).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"});
    let metric = json!([{"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    let spec = json!({"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 6, "metrics": metric});
    lab.given("hpa", json!({"metadata": {"name": "a"}, "spec": spec}))
        .await;
    let has_replicas =
        |count: u64| move |deployment: &Answer| deployment.at("/spec/replicas") == json!(count);
    lab.quietly().until("deploy/a", has_replicas(6)).await;
    lab.quietly()
        .merge("deploy/a", json!({"spec": {"replicas": 1}}))
        .await
        .has_code(200);
    lab.quietly().until("deploy/a", has_replicas(2)).await;
    let target = "event?fieldSelector=involvedObject.name%3Da,reason%3DSuccessfulRescale";
    let two = |events: &Answer| events.names().len() == 2;
    let events = lab.quietly().until(target, two).await;
    let mut said: Vec<Value> = vec![events.at("/items/0/message"), events.at("/items/1/message")];
    said.sort_by_key(Value::to_string);
    lab.say("said", json!(said));
}
