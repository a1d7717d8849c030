//! Workloads that are not shown, made again from their pods: ReplicaSets, StatefulSets and DaemonSets, which are known by what
//! they make. They keep what is there as it is, and bring back what goes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The label by which a Deployment tells its ReplicaSets apart.
const HASH: &str = "pod-template-hash";

/// Labels that a controller gives to each pod for itself.
const OF_ONE_POD: [&str; 4] = [
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

/// Whether an owner of this kind is made again.
pub(super) fn is_made(owner: &Value) -> bool {
    let kind = text(&owner["kind"]);
    text(&owner["apiVersion"]).starts_with("apps/")
        && matches!(kind, "ReplicaSet" | "StatefulSet" | "DaemonSet")
}

/// The owner of these pods, of which there is at least one. A ReplicaSet may belong to one of the Deployments.
pub(super) fn stand_in_for(owner: &Value, pods: &[&Value], deployments: &[&Value]) -> Value {
    let Some(pod) = pods.first() else {
        return Value::Null;
    };
    let mut labels = common_labels(pods);
    if labels.is_empty() {
        labels.insert("kubernaut.io/owner".to_owned(), owner["uid"].clone());
    }
    let template = json!({"metadata": {"labels": labels}, "spec": template_of(pod)});
    let mut made = json!({
        "apiVersion": "apps/v1", "kind": owner["kind"],
        "metadata": {
            "name": owner["name"], "namespace": pod["metadata"]["namespace"], "uid": owner["uid"],
            "labels": labels,
        },
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    });
    match text(&owner["kind"]) {
        "StatefulSet" => stateful_set(&mut made, pods),
        "DaemonSet" => daemon_set(&mut made, pods),
        _ => replica_set(&mut made, pods, deployments),
    }
    made
}

fn replica_set(made: &mut Value, pods: &[&Value], deployments: &[&Value]) {
    let alive = pods.iter().filter(|pod| {
        let ended = matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed");
        !ended && pod["metadata"]["deletionTimestamp"].is_null()
    });
    made["spec"]["replicas"] = json!(alive.count());
    let labels = made["metadata"]["labels"].clone();
    let maker = deployments.iter().find(|deployment| {
        let selector = &deployment["spec"]["selector"]["matchLabels"];
        let mut wanted = selector.as_object().into_iter().flatten();
        deployment["metadata"]["namespace"] == made["metadata"]["namespace"]
            && wanted.all(|(key, value)| labels.get(key) == Some(value))
    });
    // The Deployment shall find its own template in it, and make no other.
    if let (Some(deployment), Some(hash)) = (maker, labels.get(HASH)) {
        made["metadata"]["ownerReferences"] = json!([{
            "apiVersion": deployment["apiVersion"], "kind": deployment["kind"],
            "name": deployment["metadata"]["name"], "uid": deployment["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true,
        }]);
        for part in ["replicas", "template", "selector"] {
            made["spec"][part] = deployment["spec"][part].clone();
        }
        made["spec"]["template"]["metadata"]["labels"][HASH] = hash.clone();
        made["spec"]["selector"]["matchLabels"][HASH] = hash.clone();
    }
}

fn stateful_set(made: &mut Value, pods: &[&Value]) {
    let number = |pod: &&Value| {
        text(&pod["metadata"]["name"])
            .rsplit('-')
            .next()?
            .parse::<u64>()
            .ok()
    };
    let numbers = || pods.iter().filter_map(number);
    let first = numbers().min().unwrap_or(0);
    made["spec"]["ordinals"] = json!({"start": first});
    made["spec"]["replicas"] = json!(numbers().max().map_or(0, |last| last + 1 - first));
    made["spec"]["podManagementPolicy"] = json!("Parallel");
    made["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let pod = pods.first().map_or(&Value::Null, |pod| *pod);
    if let Some(service) = pod["spec"]["subdomain"].as_str() {
        made["spec"]["serviceName"] = json!(service);
    }
    let name = text(&pod["metadata"]["name"]);
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    // A claim of its own is one that the set makes for each.
    let (own, others): (Vec<Value>, Vec<Value>) = volumes.into_iter().partition(|volume| {
        let claim = text(&volume["persistentVolumeClaim"]["claimName"]);
        claim == format!("{}-{name}", text(&volume["name"]))
    });
    made["spec"]["template"]["spec"]["volumes"] = json!(others);
    let claims = own.iter().map(|volume| {
        json!({
            "metadata": {"name": volume["name"]},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        })
    });
    made["spec"]["volumeClaimTemplates"] = json!(claims.collect::<Vec<Value>>());
}

fn daemon_set(made: &mut Value, pods: &[&Value]) {
    made["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    // Where it has none it wanted none, or could not.
    let nodes: Vec<&Value> = pods
        .iter()
        .map(|pod| &pod["spec"]["nodeName"])
        .filter(|node| node.is_string())
        .collect();
    let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": nodes}]});
    made["spec"]["template"]["spec"]["affinity"] = json!({
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}},
    });
}

/// The labels that all of them have, without those that each has for itself.
fn common_labels(pods: &[&Value]) -> Map<String, Value> {
    let all: Vec<&Value> = pods.iter().map(|pod| &pod["metadata"]["labels"]).collect();
    let first: BTreeMap<&String, &Value> = all
        .first()
        .and_then(|labels| labels.as_object())
        .into_iter()
        .flatten()
        .collect();
    first
        .into_iter()
        .filter(|(key, value)| {
            !OF_ONE_POD.contains(&key.as_str()) && all.iter().all(|labels| labels.get(key) == Some(value))
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The pod's own spec without the place it was put on and what a server fills in.
fn template_of(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    if let Some(map) = spec.as_object_mut() {
        for field in [
            "nodeName",
            "priority",
            "preemptionPolicy",
            "hostname",
            "subdomain",
        ] {
            map.remove(field);
        }
    }
    spec
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
