//! A small world for workflows that come without one: two nodes, and what the steps name.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use kubernaut_machines::actions::Subject;
use serde_json::{Map, Value, json};

use super::Manifest;
use super::planned_actions::PlannedAction;
use embedded_cluster::labels_of_selector;

/// With fewer, nothing could leave a node.
const NODES: usize = 2;
/// Enough that a rollout or an eviction is one of several.
const REPLICAS: u32 = 3;
/// With its ending it is a name that is allowed.
const SET_NAME_MAX: usize = 200;
/// What everything runs, and held, before the workflow.
const BEFORE: &str = "before";
/// The label of pods that belong to nothing that a step names, with what they are for.
const MADE_UP_FOR: &str = "kubernaut.io/made-up-for";
/// A DaemonSet, and pods with local data and a budget: what a drain meets on nearly every node.
const AGENT: &str = "node-agent";
const CACHE: &str = "cache";

/// Objects that were made up, and what to say of them.
#[derive(Debug, Default)]
pub(super) struct Invented {
    pub(super) objects: Vec<Value>,
    /// One for each object that a person would look for.
    pub(super) words: Vec<String>,
}

/// Whether an object is one that a workflow may act on, not one that says who may or what there is.
pub(super) fn is_of_the_world(manifest: &Manifest) -> bool {
    let rights = manifest
        .text("apiVersion")
        .starts_with("rbac.authorization.k8s.io/");
    !(rights
        || manifest.is_definition()
        || manifest.runs()
        || manifest.is_kind("", "ServiceAccount")
        || manifest.is_kind("", "Namespace"))
}

type Place = (String, String);

#[derive(Default)]
struct Workload {
    containers: BTreeSet<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Default)]
struct Plan {
    /// By kind, namespace and name.
    workloads: BTreeMap<(String, Place), Workload>,
    config_maps: BTreeMap<Place, BTreeSet<String>>,
    secrets: BTreeMap<Place, BTreeSet<String>>,
    /// Those that are given back before they were taken: they begin cordoned.
    nodes: BTreeMap<String, bool>,
    /// Whether something has to bring the pod back.
    pods: BTreeMap<Place, bool>,
    selectors: BTreeSet<Place>,
    /// Selectors of pods on a node that a step names: only a DaemonSet surely has one there, whatever else happens to the node.
    everywhere: BTreeSet<Place>,
    /// Nodes that are emptied: they have what is on nearly every node, and stands in the way.
    drained: BTreeSet<String>,
}

/// Makes up what these actions need.
pub(super) fn invent(planned: &[PlannedAction]) -> Invented {
    let mut plan = Plan::default();
    for action in planned {
        plan.need(action);
    }
    plan.place_selectors();
    plan.made()
}

impl Plan {
    fn need(&mut self, action: &PlannedAction) {
        let place = (
            action.target.namespace.clone().unwrap_or_default(),
            action.target.name.clone(),
        );
        match &action.subject {
            Subject::Workload { containers } => {
                let key = (action.target.kind.clone(), place);
                let workload = self.workloads.entry(key).or_default();
                let named = containers
                    .iter()
                    .filter(|name| super::manifest::is_label(name) && !name.is_empty());
                workload.containers.extend(named.cloned());
            }
            Subject::Pod { controlled } => *self.pods.entry(place).or_default() |= controlled,
            Subject::Pods { selector, node: None } => {
                self.selectors.insert((place.0, selector.clone()));
            }
            Subject::Pods {
                selector,
                node: Some(node),
            } => {
                self.nodes.entry(node.clone()).or_insert(false);
                self.everywhere.insert((place.0, selector.clone()));
            }
            Subject::Node { cordoned, emptied } => {
                self.nodes.entry(action.target.name.clone()).or_insert(*cordoned);
                if *emptied {
                    self.drained.insert(action.target.name.clone());
                }
            }
            Subject::ConfigMap { keys } => {
                self.config_maps
                    .entry(place)
                    .or_default()
                    .extend(keys.iter().cloned());
            }
            Subject::Secret { keys } => {
                self.secrets
                    .entry(place)
                    .or_default()
                    .extend(keys.iter().cloned());
            }
            // It need not be there.
            Subject::Any { .. } => {}
        }
    }

    /// Pods of a selector belong to a Deployment with these labels: the one that a step names, where the names agree.
    fn place_selectors(&mut self) {
        for (namespace, selector) in std::mem::take(&mut self.selectors) {
            // One that can't be read fails in words of its own.
            let Some(labels) = labels_of_selector(&selector) else {
                continue;
            };
            let name = name_of(&labels);
            let key = ("Deployment".to_owned(), (namespace, name));
            let deployment = self.workloads.entry(key).or_default();
            deployment.labels.extend(labels);
        }
    }

    fn made(self) -> Invented {
        let mut made = Invented::default();
        let mut nodes = self.nodes;
        // At least one that no step names: it takes what leaves the others.
        let others = NODES.saturating_sub(nodes.len()).max(1);
        let free = (1..).map(|number| format!("node-{number}"));
        let free: Vec<String> = free
            .filter(|name| !nodes.contains_key(name))
            .take(others)
            .collect();
        let quiet = free.first().cloned().unwrap_or_default();
        nodes.extend(free.into_iter().map(|name| (name, false)));
        for (name, cordoned) in nodes {
            made.words.push(format!(
                "Node {name}{}",
                if cordoned { " (cordoned)" } else { "" }
            ));
            made.objects.push(node(&name, cordoned));
        }
        for ((kind, place), workload) in self.workloads {
            made.workload(&kind, &place, workload);
        }
        for (place, keys) in self.config_maps {
            let data: Map<String, Value> = keys.iter().map(|key| (key.clone(), json!(BEFORE))).collect();
            made.keyed("ConfigMap", &place, &keys, &data);
        }
        let value = base64::engine::general_purpose::STANDARD.encode(BEFORE);
        for (place, keys) in self.secrets {
            let data = keys.iter().map(|key| (key.clone(), json!(value))).collect();
            made.keyed("Secret", &place, &keys, &data);
        }
        for (place, owned) in self.pods {
            made.pod(&place, owned, &quiet);
        }
        for (namespace, selector) in self.everywhere {
            if let Some(labels) = labels_of_selector(&selector) {
                made.daemon_set(&namespace, &name_of(&labels), &labels);
            }
        }
        if !self.drained.is_empty() {
            let labels = [(MADE_UP_FOR.to_owned(), AGENT.to_owned())];
            made.daemon_set("kube-system", AGENT, &labels.into());
            made.guarded(&self.drained);
        }
        made
    }
}

impl Invented {
    fn workload(&mut self, kind: &str, (namespace, name): &Place, workload: Workload) {
        let mut containers: Vec<String> = workload.containers.into_iter().collect();
        if containers.is_empty() {
            containers.push(label(name));
        }
        let mut labels = workload.labels;
        if labels.is_empty() {
            labels.insert("app".to_owned(), label(name));
        }
        let listed: Vec<Value> = containers.iter().map(|name| container(name)).collect();
        self.words.push(format!(
            "{kind} {namespace}/{name} ({REPLICAS} replicas, container {})",
            containers.join(", ")
        ));
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": REPLICAS, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": listed}},
            },
        });
        if kind == "StatefulSet" {
            object["spec"]["serviceName"] = json!(name);
        }
        self.objects.push(object);
    }

    fn daemon_set(&mut self, namespace: &str, name: &str, labels: &BTreeMap<String, String>) {
        self.words
            .push(format!("DaemonSet {namespace}/{name} (a pod on each node)"));
        self.objects.push(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container(&label(name))]}},
            },
        }));
    }

    /// A pod with local data on each of these nodes and one elsewhere, and a budget that lets one of them go at a time.
    fn guarded(&mut self, nodes: &BTreeSet<String>) {
        let labels = json!({MADE_UP_FOR: CACHE});
        let mut container = container(CACHE);
        container["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
        let spec = json!({"containers": [container], "volumes": [{"name": "scratch", "emptyDir": {}}]});
        let set = self.replica_set(("default", CACHE), &labels, &spec, nodes.len() + 1);
        for node in nodes {
            let mut spec = spec.clone();
            spec["nodeName"] = json!(node);
            self.objects.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": format!("{CACHE}-{}", label(node)), "namespace": "default", "labels": labels,
                    "ownerReferences": [set],
                },
                "spec": spec,
            }));
        }
        self.objects.push(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": CACHE, "namespace": "default"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
        }));
        self.words.push(format!(
            "ReplicaSet default/{CACHE} ({} pods with an emptyDir, and a PodDisruptionBudget of maxUnavailable 1)",
            nodes.len() + 1
        ));
    }

    /// Makes up a ReplicaSet; the reference by which its pods name it.
    fn replica_set(
        &mut self,
        (namespace, name): (&str, &str),
        labels: &Value,
        spec: &Value,
        replicas: usize,
    ) -> Value {
        // An owner is known by its uid, which is as long as others are.
        let uid = format!("00000000-0000-4000-8000-{:012}", self.objects.len());
        self.objects.push(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }));
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": true})
    }

    fn keyed(
        &mut self,
        kind: &str,
        (namespace, name): &Place,
        keys: &BTreeSet<String>,
        data: &Map<String, Value>,
    ) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.words
            .push(format!("{kind} {namespace}/{name} (with {})", keys.join(", ")));
        self.objects.push(json!({
            "apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "data": data,
        }));
    }

    /// On a node that no step names: it shall still be there when its step comes.
    fn pod(&mut self, (namespace, name): &Place, owned: bool, node: &str) {
        let labels = json!({MADE_UP_FOR: label(name)});
        let spec = json!({"containers": [container("app")]});
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": spec,
        });
        pod["spec"]["nodeName"] = json!(node);
        if owned {
            let short: String = name.chars().take(SET_NAME_MAX).collect();
            let set = format!("{}-set", short.trim_end_matches(['.', '-']));
            let reference = self.replica_set((namespace.as_str(), set.as_str()), &labels, &spec, 1);
            pod["metadata"]["ownerReferences"] = json!([reference]);
        }
        let owner = if owned { " (of a ReplicaSet)" } else { "" };
        self.words.push(format!("Pod {namespace}/{name}{owner}"));
        self.objects.push(pod);
    }
}

fn node(name: &str, cordoned: bool) -> Value {
    let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    if cordoned {
        node["spec"] = json!({"unschedulable": true});
    }
    node
}

/// What pods with these labels would be called.
fn name_of(labels: &BTreeMap<String, String>) -> String {
    let named = ["app.kubernetes.io/name", "app", "k8s-app"]
        .into_iter()
        .find_map(|key| labels.get(key))
        .or_else(|| labels.values().next())
        .filter(|value| super::manifest::is_label(value) && !value.is_empty());
    named.cloned().unwrap_or_else(|| "selected".to_owned())
}

fn container(name: &str) -> Value {
    json!({"name": name, "image": format!("{name}:{BEFORE}")})
}

/// A name may be longer than a label or a container's name, and hold dots.
fn label(name: &str) -> String {
    let short: String = name.chars().take(63).collect();
    short.replace('.', "-").trim_matches('-').to_owned()
}
