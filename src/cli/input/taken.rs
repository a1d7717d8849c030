//! Objects as a real cluster shows them, made fit for the embedded one: what a server sets goes, what its controllers make
//! is left to the controllers here, and what is left keeps its owners.
//!
//! # Guarantees
//! Names, uids and what people wrote stay. Pods keep their names where their owner can be known, so that a step may name
//! one.
//!
//! # Caveats
//! Pods of StatefulSets and DaemonSets are made anew. Pods of other owners get a ReplicaSet of the owner's name.

use std::collections::{BTreeMap, BTreeSet};

use kubernaut_crds::names::LAST_APPLIED;
use kubernaut_machines::Settings;
use serde_json::{Value, json};

use super::Manifest;
use crate::manifests as installation;
use crate::memory::MemoryCluster;

/// What only its cluster has a use for, or what would go on working here: Jobs would run a second time.
const LEFT_OUT: [&str; 13] = [
    "Event",
    "Lease",
    "Endpoints",
    "EndpointSlice",
    "ControllerRevision",
    "Job",
    "CronJob",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "APIService",
];

/// Kinds whose objects keep their uid.
const OWNERS: [&str; 6] = [
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Pod",
    "Node",
];

/// The label by which a Deployment tells its ReplicaSets apart.
const HASH: &str = "pod-template-hash";

/// Makes objects of a real cluster fit for the embedded one; the second list is what had to be added.
pub(super) fn take(
    installed: &MemoryCluster,
    shown: Vec<Manifest>,
    settings: &Settings,
    notes: &mut Vec<String>,
) -> (Vec<Manifest>, Vec<Value>) {
    let own = [
        installation::CONTROLLER_NAMESPACE,
        settings.executor_namespace.as_str(),
    ];
    let key = |object: &Value| {
        let metadata = &object["metadata"];
        [&object["kind"], &metadata["namespace"], &metadata["name"]].map(|part| text(part).to_owned())
    };
    let part_of = "/metadata/labels/app.kubernetes.io~1part-of";
    let installed_here: BTreeSet<[String; 3]> = installed
        .objects()
        .iter()
        .filter(|object| object.pointer(part_of) == Some(&json!("kubernaut")))
        .map(key)
        .collect();
    let mut unknown = BTreeSet::new();
    let mut manifests: Vec<Manifest> = Vec::new();
    let mut last = BTreeMap::new();
    for mut manifest in shown {
        // Here they are installed already, in this version.
        let of_kubernaut = own.contains(&manifest.metadata("namespace"))
            || manifest.is("", "Namespace") && own.contains(&manifest.metadata("name"))
            || installed_here.contains(&key(&manifest.object));
        if of_kubernaut || !is_taken(&manifest.object) {
            continue;
        }
        clean(&mut manifest.object);
        match installed.known_part(&manifest.object) {
            Some(known) => {
                manifest.object = known;
                manifest.taken = true;
                // The last word counts, where several are shown of one object.
                let at = *last.entry(key(&manifest.object)).or_insert(manifests.len());
                match manifests.get_mut(at) {
                    Some(earlier) => *earlier = manifest,
                    None => manifests.push(manifest),
                }
            }
            None => {
                unknown.insert(manifest.text("kind").to_owned());
            }
        }
    }
    if !unknown.is_empty() {
        let kinds: Vec<String> = unknown.into_iter().collect();
        notes.push(format!(
            "Left out, since the embedded cluster does not know them: {}.",
            kinds.join(", ")
        ));
    }
    let objects = manifests.iter().map(Manifest::stored).collect();
    let (kept, added) = with_owners(objects);
    let kept = manifests
        .into_iter()
        .zip(kept)
        .filter_map(|(manifest, object)| {
            Some(Manifest {
                object: object?,
                ..manifest
            })
        })
        .collect();
    (kept, added)
}

/// Whether the embedded cluster takes such an object of a real one at all.
fn is_taken(object: &Value) -> bool {
    let kind = text(&object["kind"]);
    let ended = kind == "Pod" && matches!(text(&object["status"]["phase"]), "Succeeded" | "Failed");
    !LEFT_OUT.contains(&kind) && object["metadata"]["deletionTimestamp"].is_null() && !ended
}

/// Drops what the server sets.
fn clean(object: &mut Value) {
    // The state of pods and nodes is nobody's work here; all other status is written by the controllers.
    let kind = text(&object["kind"]).to_owned();
    let keeps_status = matches!(kind.as_str(), "Pod" | "Node");
    if let Some(map) = object.as_object_mut()
        && !keeps_status
    {
        map.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "managedFields",
            "resourceVersion",
            "generation",
            "selfLink",
            "generateName",
            // Nobody here would remove them.
            "finalizers",
        ] {
            metadata.remove(field);
        }
        // Owners are known by it. Others may be here already, as accounts and roles that every cluster has.
        if !OWNERS.contains(&kind.as_str()) {
            metadata.remove("uid");
        }
    }
    if let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        // kubectl's copy of the object, with the values of Secrets.
        annotations.remove(LAST_APPLIED);
    }
}

/// Gives everything an owner that is there, or none: what has lost all of its owners would be collected as garbage.
/// `Some` are kept, in place; the second list is what had to be added.
fn with_owners(objects: Vec<Value>) -> (Vec<Option<Value>>, Vec<Value>) {
    let there: BTreeSet<String> = objects
        .iter()
        .map(|object| text(&object["metadata"]["uid"]).to_owned())
        .collect();
    let deployments: Vec<Value> = objects
        .iter()
        .filter(|object| object["kind"] == "Deployment")
        .cloned()
        .collect();
    let mut added: BTreeMap<String, Value> = BTreeMap::new();
    let kept = objects
        .into_iter()
        .map(|mut object| {
            let controller = controller_of(&object).cloned();
            if let (Some(controller), "Pod") = (controller, text(&object["kind"])) {
                let owner_is_there = there.contains(text(&controller["uid"]));
                match text(&controller["kind"]) {
                    "StatefulSet" | "DaemonSet" | "Job" => return None,
                    // A static pod's owner is its node.
                    "ReplicaSet" | "Node" if owner_is_there => return Some(object),
                    _ => {
                        let set = stand_in(&controller, &object, &deployments)?;
                        object["metadata"]["ownerReferences"] = json!([reference(&set)]);
                        let set = added.entry(text(&controller["uid"]).to_owned()).or_insert(set);
                        // One of a Deployment has its count.
                        if set["metadata"]["ownerReferences"].is_null() {
                            set["spec"]["replicas"] =
                                json!(set["spec"]["replicas"].as_u64().unwrap_or(0) + 1);
                        }
                    }
                }
                return Some(object);
            }
            if let Some(owners) = object
                .pointer_mut("/metadata/ownerReferences")
                .and_then(Value::as_array_mut)
            {
                owners.retain(|owner| there.contains(text(&owner["uid"])));
            }
            Some(object)
        })
        .collect();
    (kept, added.into_values().collect())
}

/// A ReplicaSet in the place of a pod's owner, which is not there; `None` where a Deployment makes one by itself.
fn stand_in(controller: &Value, pod: &Value, deployments: &[Value]) -> Option<Value> {
    let mut labels = pod["metadata"]["labels"].clone();
    if labels.as_object().is_none_or(serde_json::Map::is_empty) {
        labels = json!({"kubernaut.io/owner": controller["uid"]});
    }
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": controller["name"], "namespace": pod["metadata"]["namespace"], "uid": controller["uid"],
            "labels": labels,
        },
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template_of(pod)},
        },
    });
    let of = deployments.iter().find(|deployment| {
        let selector = &deployment["spec"]["selector"]["matchLabels"];
        let mut wanted = selector.as_object().into_iter().flatten();
        controller["kind"] == "ReplicaSet"
            && deployment["metadata"]["namespace"] == pod["metadata"]["namespace"]
            && wanted.all(|(key, value)| labels.get(key) == Some(value))
    });
    if let Some(deployment) = of {
        let hash = labels.get(HASH)?;
        deployment["metadata"]["uid"].as_str()?;
        set["metadata"]["ownerReferences"] = json!([reference(deployment)]);
        for part in ["replicas", "template", "selector"] {
            set["spec"][part] = deployment["spec"][part].clone();
        }
        set["spec"]["template"]["metadata"]["labels"][HASH] = hash.clone();
        set["spec"]["selector"]["matchLabels"][HASH] = hash.clone();
    }
    Some(set)
}

/// The pod's own spec without the place it was put on and what a server fills in.
fn template_of(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    if let Some(map) = spec.as_object_mut() {
        for field in ["nodeName", "priority", "preemptionPolicy", "hostname"] {
            map.remove(field);
        }
    }
    spec
}

/// The account that pods run as. One that is not there is made, or their pods would not be.
pub(super) fn account_of(object: &Value) -> Option<(String, String)> {
    let spec = match text(&object["kind"]) {
        "Pod" => &object["spec"],
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => &object["spec"]["template"]["spec"],
        _ => return None,
    };
    let account = text(&spec["serviceAccountName"]);
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    (!account.is_empty() && account != "default").then(|| (namespace.to_owned(), account.to_owned()))
}

fn controller_of(object: &Value) -> Option<&Value> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)
}

fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
