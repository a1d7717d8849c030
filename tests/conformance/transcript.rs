//! What a case asked and heard, without what is random.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// What controllers change at any moment: their status and version say nothing of the API server.
const RESTLESS: &[&str] = &[
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "Job",
    "Pod",
    "PodDisruptionBudget",
    "Scale",
    "Namespace",
    "ServiceAccount",
    "CustomResourceDefinition",
    "DaemonSet",
    "Node",
];

/// Notes as they are taken.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    entries: Vec<(String, Value)>,
    /// Random text, and what stands for it.
    names: Vec<(String, String)>,
    pub(super) failures: Vec<String>,
}

/// Requests, each with the lines of its answer as path and value.
pub(crate) type Transcript = Vec<(String, BTreeMap<String, String>)>;

impl Notes {
    pub(super) fn add(&mut self, what: &str, value: Value) {
        self.entries.push((what.to_owned(), value));
    }

    pub(super) fn call(&mut self, random: &str, name: &str) {
        if !random.is_empty() {
            self.names.push((random.to_owned(), format!("<{name}>")));
        }
    }

    /// The transcript: uids are numbered as they appear, versions by their order, times are only there or not.
    pub(super) fn finish(&self) -> Transcript {
        let mut names = self.names.clone();
        let mut versions = BTreeSet::new();
        for (_, value) in &self.entries {
            collect(value, &mut names, &mut versions);
        }
        let places: BTreeMap<u64, usize> = versions.into_iter().zip(1..).collect();
        self.entries
            .iter()
            .map(|(what, value)| {
                let mut lines = BTreeMap::new();
                let settled = settle(value, &places);
                flatten("", &settled, &names, &mut lines);
                (rename(what, &names), lines)
            })
            .collect()
    }
}

fn is_list(object: &Map<String, Value>) -> bool {
    object.contains_key("items") && object.contains_key("metadata")
}

/// Items of lists have no kind, but these fields.
fn is_restless(object: &Map<String, Value>) -> bool {
    let kind = object.get("kind").and_then(Value::as_str);
    let unnamed = || {
        let pod = |spec: &Value| spec["containers"].is_array();
        let node = |status: &Value| !status["nodeInfo"].is_null() || status == &json!({});
        object.get("spec").is_some_and(pod) || object.get("status").is_some_and(node)
    };
    kind.map_or_else(unnamed, |kind| RESTLESS.contains(&kind))
}

/// What plugins that no rule depends on add to each pod of the real server: a token, tolerations, a priority.
fn without_admission(spec: &mut Value) {
    let is_token = |name: &Value| {
        name.as_str()
            .is_some_and(|name| name.starts_with("kube-api-access-"))
    };
    // A node without a kubelet is tainted, and a cordoned one soon after.
    if let Some(taints) = spec.get_mut("taints").and_then(Value::as_array_mut) {
        let restless = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unschedulable"];
        taints.retain(|taint| !restless.iter().any(|key| taint["key"] == *key));
        remove_empty(spec, "taints");
    }
    if !spec["containers"].is_array() {
        return;
    }
    for list in ["containers", "volumes", "tolerations"] {
        let Some(items) = spec.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        items.retain(|item| !is_token(&item["name"]) && item["tolerationSeconds"] != 300);
        for item in items {
            if let Some(mounts) = item.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                mounts.retain(|mount| !is_token(&mount["name"]));
            }
            remove_empty(item, "volumeMounts");
        }
        remove_empty(spec, list);
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("priority");
        spec.remove("preemptionPolicy");
    }
}

fn remove_empty(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut()
        && (object.get(field) == Some(&json!([])) || object.get(field) == Some(&json!({})))
    {
        object.remove(field);
    }
}

fn version_of(object: &Map<String, Value>) -> Option<u64> {
    object
        .get("metadata")?
        .get("resourceVersion")?
        .as_str()?
        .parse()
        .ok()
}

fn collect(value: &Value, names: &mut Vec<(String, String)>, versions: &mut BTreeSet<u64>) {
    match value {
        Value::Object(object) => {
            let bookmark = object.get("type") == Some(&json!("BOOKMARK"));
            if let Some(version) = version_of(object).filter(|_| !is_list(object) && !is_restless(object)) {
                versions.insert(version);
            }
            if let Some(uid) = object.get("uid").and_then(Value::as_str)
                && uid.len() == 36
                && !names.iter().any(|(known, _)| known == uid)
            {
                let number = names.iter().filter(|(_, name)| name.starts_with("<uid ")).count() + 1;
                names.push((uid.to_owned(), format!("<uid {number}>")));
            }
            for value in object.values().filter(|_| !bookmark) {
                collect(value, names, versions);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names, versions)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Replaces what is random in a place of its own.
fn settle(value: &Value, places: &BTreeMap<u64, usize>) -> Value {
    match value {
        Value::Object(object) => {
            let mut out: Map<String, Value> = object
                .iter()
                .filter(|(name, _)| *name != "managedFields")
                .map(|(name, value)| (name.clone(), settle(value, places)))
                .collect();
            if let Some(version) = version_of(object) {
                let place = places
                    .get(&version)
                    .filter(|_| !is_list(object) && !is_restless(object));
                let text = place.map_or_else(|| "<version>".to_owned(), |place| format!("<version {place}>"));
                out["metadata"]["resourceVersion"] = json!(text);
            }
            if object.get("type") == Some(&json!("BOOKMARK")) {
                out["object"]["metadata"]["resourceVersion"] = json!("<version>");
            }
            if is_list(object)
                && out["metadata"]["continue"]
                    .as_str()
                    .is_some_and(|token| !token.is_empty())
            {
                out["metadata"]["continue"] = json!("<more>");
            }
            if let Some(spec) = out.get_mut("spec") {
                without_admission(spec);
            }
            if out.get("spec") == Some(&json!({})) && is_restless(object) && !out.contains_key("data") {
                out.remove("spec");
            }
            if is_restless(object) {
                out.remove("status");
                if let Some(Value::Object(annotations)) = out
                    .get_mut("metadata")
                    .and_then(|metadata| metadata.get_mut("annotations"))
                {
                    annotations.remove("deployment.kubernetes.io/revision");
                    annotations.remove("node.alpha.kubernetes.io/ttl");
                }
                if let Some(metadata) = out.get_mut("metadata") {
                    remove_empty(metadata, "annotations");
                }
            }
            if out.get("kind") == Some(&json!("Status")) {
                out = plain(out);
            }
            Value::Object(out)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| settle(item, places)).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Rules are checked in no particular order: where a message lists exactly the causes, they say it all.
fn plain(mut status: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Array(mut causes)) = status.get("details").and_then(|d| d.get("causes")).cloned() else {
        return status;
    };
    let line = |cause: &Value| {
        let text = |field: &str| cause[field].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("field"), text("message"))
    };
    let mut lines: Vec<String> = Vec::new();
    for line in causes.iter().map(line) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let message = status.get("message").and_then(Value::as_str).unwrap_or_default();
    if lines.len() > 1
        && let Some(head) = message.strip_suffix(&format!("[{}]", lines.join(", ")))
    {
        let head = format!("{head}<causes>");
        status.insert("message".to_owned(), json!(head));
    }
    // Some rules are asked twice of an update.
    causes.sort_by_cached_key(Value::to_string);
    causes.dedup();
    if let Some(details) = status.get_mut("details") {
        details["causes"] = Value::Array(causes);
    }
    status
}

fn flatten(path: &str, value: &Value, names: &[(String, String)], lines: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (name, value) in object {
                flatten(&format!("{path}/{}", rename(name, names)), value, names, lines);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}/{index}"), item, names, lines);
            }
        }
        Value::String(text) => {
            lines.insert(path.to_owned(), format!("{:?}", word(text, names)));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Array(_) => {
            lines.insert(path.to_owned(), value.to_string());
        }
    }
}

fn word(text: &str, names: &[(String, String)]) -> String {
    let is_time = text.len() >= 20 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok();
    match (is_time, text.contains('.')) {
        (true, true) => "<time with a fraction>".to_owned(),
        (true, false) => "<time>".to_owned(),
        (false, _) => rename(&without_object(text), names),
    }
}

/// Objects are told with their fields in the order of Go's types, and a refused patch with all of the object.
fn without_object(text: &str) -> String {
    for open in ["alue: {", "alue: [{", "alue: \"{"] {
        let Some((head, rest)) = text.split_once(open) else {
            continue;
        };
        let ends = ["}: ", "}]: ", "}\": "];
        let tail = ends
            .iter()
            .filter_map(|end| rest.rsplit_once(end))
            .map(|(_, tail)| tail);
        if let Some(tail) = tail.min_by_key(|tail| tail.len()) {
            return format!("{head}alue: <object>: {tail}");
        }
    }
    text.to_owned()
}

/// Replaces random words where they stand alone: a short number may be a part of another.
fn rename(text: &str, names: &[(String, String)]) -> String {
    let mut out = text.to_owned();
    for (random, name) in names {
        let mut rest = out.as_str();
        let mut renamed = String::new();
        while let Some(at) = rest.find(random.as_str()) {
            let (before, after) = (&rest[..at], &rest[at + random.len()..]);
            let alone = !before.ends_with(|c: char| c.is_ascii_alphanumeric())
                && !after.starts_with(|c: char| c.is_ascii_alphanumeric());
            renamed.push_str(before);
            renamed.push_str(if alone { name } else { random });
            rest = after;
        }
        renamed.push_str(rest);
        out = renamed;
    }
    out
}
