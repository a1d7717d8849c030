//! The paths that are no resource: version, health and discovery.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::kinds::Kinds;

/// The answer to a path without a resource, if it is served.
pub(crate) fn answer(kinds: &Kinds, path: &str) -> Option<Value> {
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    match segments.as_slice() {
        ["version"] => Some(json!({
            "major": "1", "minor": "35", "gitVersion": "v1.35.4", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "memory",
        })),
        ["healthz" | "livez" | "readyz"] => Some(json!("ok")),
        ["api"] => Some(json!({
            "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [],
        })),
        ["apis"] => Some(groups(kinds)),
        ["api", version] => resources(kinds, "", version),
        ["apis", group, version] => resources(kinds, group, version),
        ["apis", group] => {
            let all = groups(kinds);
            all["groups"]
                .as_array()?
                .iter()
                .find(|g| g["name"] == *group)
                .map(|found| {
                    let mut found = found.clone();
                    found["kind"] = json!("APIGroup");
                    found["apiVersion"] = json!("v1");
                    found
                })
        }
        _ => None,
    }
}

fn groups(kinds: &Kinds) -> Value {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for kind in kinds.all().filter(|k| !k.group.is_empty()) {
        versions.entry(&kind.group).or_default().insert(&kind.version);
    }
    let groups: Vec<Value> = versions
        .iter()
        .map(|(group, versions)| {
            let list: Vec<Value> = versions
                .iter()
                .map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v}))
                .collect();
            json!({"name": group, "preferredVersion": list.last(), "versions": list})
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for kind in kinds.all().filter(|k| k.group == group && k.version == version) {
        let singular = kind.kind.to_lowercase();
        let verbs: &[&str] = if kind.create_only {
            &["create"]
        } else {
            &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ]
        };
        list.push(json!({
            "name": kind.plural, "singularName": singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": verbs,
        }));
        if kind.status {
            list.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": ["get", "patch", "update"],
            }));
        }
        if kind.scale {
            list.push(json!({
                "name": format!("{}/scale", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"],
            }));
        }
        if kind.is_resource("pods") {
            list.push(json!({
                "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy",
                "version": "v1", "kind": "Eviction", "verbs": ["create"],
            }));
        }
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    (!list.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list,
        })
    })
}
