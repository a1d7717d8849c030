//! Objects as a real cluster shows them, made fit for the embedded one: what its controllers work out for themselves goes, and
//! everything else stays as it is: pods in whatever state they are, finalizers, deletions, and owners.
//!
//! # Guarantees
//! Names, uids, states and what people wrote stay. What can't be taken is named.
//!
//! # Caveats
//! An owner that is not shown is taken to be there. What it would do is guessed from its pods: a ReplicaSet, a StatefulSet or a
//! DaemonSet is made again from them; of any other, pods that serve are brought back when they go.

use std::collections::{BTreeMap, BTreeSet};

use kubernaut_crds::names::LAST_APPLIED;
use kubernaut_machines::Settings;
use serde_json::{Value, json};

use super::{Manifest, stand_in};
use crate::manifests as installation;
use embedded_cluster::EmbeddedCluster;

/// What only its own cluster has a use for: records of its past, and what would decide about requests there.
const LEFT_OUT: [&str; 8] = [
    "Event",
    "ControllerRevision",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "APIService",
];

/// Kinds of which the embedded cluster may have an object already, with a uid of its own.
const IN_EVERY_CLUSTER: [&str; 6] = [
    "Namespace",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
];

/// Kinds whose controllers are here, and write the status anew. That of a StatefulSet says which pods are of the present
/// template.
const COUNTED_HERE: [&str; 5] = [
    "Deployment",
    "ReplicaSet",
    "DaemonSet",
    "PodDisruptionBudget",
    "Namespace",
];

/// The Job controller takes it from a pod that it has counted; the one here counts by other means.
const JOB_TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// So many names in a note are read; of more there is a count.
const NAMED: usize = 5;

/// What was made of the objects of a real cluster.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Those that are taken.
    pub(super) manifests: Vec<Manifest>,
    /// What had to be added.
    pub(super) added: Vec<Value>,
    /// The uids of owners that are not shown.
    pub(super) outside: BTreeSet<String>,
    /// What to say of it.
    pub(super) notes: Vec<String>,
}

/// Makes objects of a real cluster fit for the embedded one.
pub(super) fn take(installed: &EmbeddedCluster, shown: Vec<Manifest>, settings: &Settings) -> Taken {
    let own = [
        installation::CONTROLLER_NAMESPACE,
        settings.executor_namespace.as_str(),
    ];
    let part_of = "/metadata/labels/app.kubernetes.io~1part-of";
    let installed_here: BTreeSet<[String; 4]> = installed
        .objects()
        .iter()
        .filter(|object| object.pointer(part_of) == Some(&json!("kubernaut")))
        .map(key)
        .collect();
    let mut left_out = LeftOut::default();
    let mut manifests: Vec<Manifest> = Vec::new();
    let mut last = BTreeMap::new();
    for mut manifest in shown {
        let of_kubernaut = own.contains(&manifest.metadata("namespace"))
            || manifest.is_kind("", "Namespace") && own.contains(&manifest.metadata("name"))
            || installed_here.contains(&key(&manifest.object));
        if of_kubernaut {
            left_out.of_kubernaut += 1;
            continue;
        }
        if LEFT_OUT.contains(&manifest.text("kind")) {
            left_out.useless.add(&manifest);
            continue;
        }
        clean(&mut manifest.object);
        let Some(known) = installed.known_part(&manifest.object) else {
            left_out.unknown.add(&manifest);
            continue;
        };
        manifest.object = known;
        manifest.taken = true;
        // The last word counts, where several are shown of one object.
        let at = *last.entry(key(&manifest.object)).or_insert(manifests.len());
        match manifests.get_mut(at) {
            Some(earlier) => *earlier = manifest,
            None => manifests.push(manifest),
        }
    }
    let manifests = without_jobs_to_run(manifests, &mut left_out);
    let mut taken = Taken {
        notes: left_out.notes(),
        manifests,
        ..Taken::default()
    };
    taken.know_owners();
    taken
}

/// The group, the kind, the namespace and the name of an object.
fn key(object: &Value) -> [String; 4] {
    let group = text(&object["apiVersion"])
        .split_once('/')
        .map_or("", |(group, _)| group);
    let metadata = &object["metadata"];
    let parts =
        [&object["kind"], &metadata["namespace"], &metadata["name"]].map(|part| text(part).to_owned());
    let [kind, namespace, name] = parts;
    [group.to_owned(), kind, namespace, name]
}

/// A Job that is at work, and whose pods are not shown, would do it here a second time.
fn without_jobs_to_run(manifests: Vec<Manifest>, left_out: &mut LeftOut) -> Vec<Manifest> {
    let pods = manifests.iter().filter(|manifest| manifest.is_kind("", "Pod"));
    let owners: BTreeSet<String> = pods
        .filter_map(|pod| Some(text(&controller_of(&pod.object)?["uid"]).to_owned()))
        .collect();
    let (taken, to_run): (Vec<Manifest>, Vec<Manifest>) = manifests.into_iter().partition(|manifest| {
        let object = &manifest.object;
        let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        !manifest.is_kind("batch", "Job")
            || object["spec"]["suspend"] == true
            || owners.contains(text(&object["metadata"]["uid"]))
            || conditions
                .any(|one| matches!(text(&one["type"]), "Complete" | "Failed") && one["status"] == "True")
    });
    for manifest in &to_run {
        left_out.to_run.add(manifest);
    }
    taken
}

/// What was not taken.
#[derive(Default)]
struct LeftOut {
    of_kubernaut: usize,
    useless: Named,
    to_run: Named,
    unknown: Named,
}

impl LeftOut {
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.of_kubernaut > 0 {
            let objects = if self.of_kubernaut == 1 {
                "object"
            } else {
                "objects"
            };
            notes.push(format!(
                "Left out: {} {objects} of kubernaut, which is installed here in this version.",
                self.of_kubernaut
            ));
        }
        if let Some(words) = self.useless.words() {
            notes.push(format!(
                "Left out, since only their own cluster has a use for them: {words}."
            ));
        }
        if let Some(words) = self.to_run.words() {
            notes.push(format!(
                "Left out, since their pods are not shown, and they would run a second time: {words}."
            ));
        }
        if let Some(words) = self.unknown.words() {
            notes.push(format!(
                "Left out, since the embedded cluster does not know them: {words}."
            ));
        }
        notes
    }
}

/// Objects to be named, by kind.
#[derive(Debug, Default)]
pub(super) struct Named(BTreeMap<String, Vec<String>>);

impl Named {
    pub(super) fn add(&mut self, manifest: &Manifest) {
        let place = match manifest.metadata("namespace") {
            "" => manifest.metadata("name").to_owned(),
            namespace => format!("{namespace}/{}", manifest.metadata("name")),
        };
        let kind = manifest.text("kind").to_owned();
        self.0.entry(kind).or_default().push(place);
    }

    /// None when there is nothing to name.
    pub(super) fn words(&self) -> Option<String> {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|(kind, places)| match places.len() {
                0..=NAMED => format!("{kind} {}", places.join(", ")),
                many => format!("{many} of kind {kind}"),
            })
            .collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// Drops what a server sets for itself, and what is worked out anew.
fn clean(object: &mut Value) {
    let kind = text(&object["kind"]).to_owned();
    if let Some(map) = object.as_object_mut()
        && COUNTED_HERE.contains(&kind.as_str())
    {
        map.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "selfLink"] {
            metadata.remove(field);
        }
        if IN_EVERY_CLUSTER.contains(&kind.as_str()) {
            metadata.remove("uid");
        }
        if COUNTED_HERE.contains(&kind.as_str()) {
            metadata.remove("generation");
        }
        let finalizers = metadata.get_mut("finalizers").and_then(Value::as_array_mut);
        if let Some(finalizers) = finalizers.filter(|_| kind == "Pod") {
            finalizers.retain(|finalizer| finalizer != JOB_TRACKING);
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

impl Taken {
    /// Owners that are not shown are there all the same. Those that are known by their pods are made again.
    fn know_owners(&mut self) {
        let objects: Vec<&Value> = self.manifests.iter().map(|manifest| &manifest.object).collect();
        let there: BTreeSet<&str> = objects
            .iter()
            .map(|object| text(&object["metadata"]["uid"]))
            .collect();
        let of_kind = |kind: &str| {
            objects
                .iter()
                .copied()
                .filter(|object| object["kind"] == kind)
                .collect()
        };
        let (pods, deployments): (Vec<&Value>, Vec<&Value>) = (of_kind("Pod"), of_kind("Deployment"));
        let mut by_owner: BTreeMap<&str, (&Value, Vec<&Value>)> = BTreeMap::new();
        for pod in pods {
            if let Some(owner) = controller_of(pod).filter(|owner| !there.contains(text(&owner["uid"]))) {
                by_owner
                    .entry(text(&owner["uid"]))
                    .or_insert((owner, Vec::new()))
                    .1
                    .push(pod);
            }
        }
        let (made, left): (Vec<_>, Vec<_>) = by_owner
            .into_values()
            .partition(|(owner, _)| stand_in::is_made(owner));
        let added: Vec<Value> = made
            .iter()
            .map(|(owner, pods)| stand_in::stand_in_for(owner, pods, &deployments))
            .collect();
        let added_uids: BTreeSet<&str> = added
            .iter()
            .map(|object| text(&object["metadata"]["uid"]))
            .collect();
        let outside = objects
            .iter()
            .filter_map(|object| object["metadata"]["ownerReferences"].as_array())
            .flatten()
            .map(|owner| text(&owner["uid"]))
            .filter(|uid| !there.contains(uid) && !added_uids.contains(uid))
            .map(ToOwned::to_owned)
            .collect();
        let words = |(owner, pods): &(&Value, Vec<&Value>)| {
            let namespace = pods.first().map_or("", |pod| text(&pod["metadata"]["namespace"]));
            format!("{} {namespace}/{}", text(&owner["kind"]), text(&owner["name"]))
        };
        let made = listed(&made.iter().map(words).collect::<Vec<_>>());
        let left: Vec<String> = left
            .iter()
            .filter(|(owner, _)| owner["kind"] != "Node")
            .map(words)
            .collect();
        let left = listed(&left);
        let notes = [
            made.map(|made| format!("Not shown, and made again from their pods: {made}.")),
            left.map(|left| {
                format!("Not shown: {left}. Their pods stay as they are; one that serves is brought back by its name when it goes.")
            }),
        ];
        (self.added, self.outside) = (added, outside);
        self.notes.extend(notes.into_iter().flatten());
    }
}

/// Some of them, and how many more; none when there is none.
fn listed(words: &[String]) -> Option<String> {
    let more = match words.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first: Vec<&str> = words.iter().take(NAMED).map(String::as_str).collect();
    (!words.is_empty()).then(|| format!("{}{more}", first.join(", ")))
}

/// The account that pods run as. One that is not there is made, or their pods would not be.
pub(super) fn account_of(object: &Value) -> Option<(String, String)> {
    let spec = match text(&object["kind"]) {
        "Pod" => &object["spec"],
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => {
            &object["spec"]["template"]["spec"]
        }
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
