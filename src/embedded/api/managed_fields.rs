//! Who owns which field, and what server-side apply makes of it.
//!
//! Owners are kept per leaf beside the object, not as metadata.managedFields. Lists whose items have a key are
//! followed by key, all others are one leaf.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use crate::api::kinds::Kind;
use crate::api::patch::merge_key;
use crate::api::status::ApiError;

/// Who wrote a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) apply: bool,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

impl Manager {
    fn label(&self) -> String {
        match (self.apply, self.subresource.as_str()) {
            (true, "") => format!("{:?}", self.name),
            (true, sub) => format!("{:?} with subresource {sub:?}", self.name),
            (false, "") => format!("{:?} using {}", self.name, self.api_version),
            (false, sub) => format!(
                "{:?} with subresource {sub:?} using {}",
                self.name, self.api_version
            ),
        }
    }
}

/// A step of a path: a field, or a list item by its keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Field(String),
    Item(Identity),
    /// An item of a list of plain values without order.
    Member(String),
}

type Path = Vec<Step>;

/// What tells an item of a list from the others: its keys with their values, as JSON.
type Identity = Vec<(String, String)>;

/// The owners of one object's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldOwners(BTreeMap<Manager, BTreeSet<Path>>);

/// The owners of one object's fields, and the writes that are not worked into them yet: only server-side apply asks for owners,
/// and most objects never meet one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    known: FieldOwners,
    writes: Vec<Write>,
}

/// An ordinary write: only what it changed, or an object would keep all its former states for as long as it is there.
#[derive(Clone, Debug)]
struct Write {
    manager: Manager,
    old: Value,
    new: Arc<Value>,
}

/// So many writes wait to be worked in.
const MOST_WRITES: usize = 16;

impl Owners {
    /// An ordinary write: whoever changes a field owns it alone.
    pub(crate) fn written(&mut self, kind: &Kind, manager: Manager, old: Option<&Value>, new: &Arc<Value>) {
        let (old, new) = match old {
            None => (Value::Null, Arc::clone(new)),
            Some(old) => match differing(old, new) {
                Some((old, new)) => (old, Arc::new(new)),
                None => return,
            },
        };
        self.writes.push(Write { manager, old, new });
        if self.writes.len() > MOST_WRITES {
            self.known = self.known(kind);
            self.writes.clear();
        }
    }

    /// The owners after all writes.
    pub(crate) fn known(&self, kind: &Kind) -> FieldOwners {
        let mut known = self.known.clone();
        for write in &self.writes {
            known.updated(kind, &write.manager, &write.old, &write.new);
        }
        known
    }
}

impl From<FieldOwners> for Owners {
    fn from(known: FieldOwners) -> Self {
        Self {
            known,
            writes: Vec::new(),
        }
    }
}

impl FieldOwners {
    /// An ordinary write: whoever changes a field owns it alone.
    fn updated(&mut self, kind: &Kind, manager: &Manager, old: &Value, new: &Value) {
        let Some((old, new)) = differing(old, new) else {
            return;
        };
        let before = leaves(kind, &old);
        let after = leaves(kind, &new);
        for path in before.keys().filter(|path| !after.contains_key(*path)) {
            for paths in self.0.values_mut() {
                paths.remove(path);
            }
        }
        for (path, value) in &after {
            if before.get(path) != Some(value) {
                for paths in self.0.values_mut() {
                    paths.remove(path);
                }
                self.0.entry(manager.clone()).or_default().insert(path.clone());
            }
        }
        self.0.retain(|_, paths| !paths.is_empty());
    }

    fn forget_missing(&mut self, present: &BTreeMap<Path, Value>) {
        for paths in self.0.values_mut() {
            paths.retain(|path| present.contains_key(path));
        }
        self.0.retain(|_, paths| !paths.is_empty());
    }

    /// Server-side apply of `config` on `live`: the merged object, with the owners changed to match.
    ///
    /// Errors: 409 when another manager owns a field with another value and `force` is false.
    pub(crate) fn apply(
        &mut self,
        kind: &Kind,
        manager: &Manager,
        live: &Value,
        config: &Value,
        force: bool,
    ) -> Result<Value, ApiError> {
        let wanted = leaves(kind, config);
        let present = leaves(kind, live);
        let mut conflicts: BTreeMap<Manager, Vec<String>> = BTreeMap::new();
        for (path, value) in &wanted {
            if present.get(path) == Some(value) {
                continue;
            }
            for (other, paths) in &self.0 {
                if (other.name != manager.name || !other.apply) && paths.contains(path) {
                    conflicts.entry(other.clone()).or_default().push(text(path));
                }
            }
        }
        if !conflicts.is_empty() && !force {
            return Err(conflict_error(&conflicts));
        }
        let mut out = live.clone();
        // What this manager applied before and no longer wants goes, unless someone else owns it too.
        let previous = self.0.get(manager).cloned().unwrap_or_default();
        for path in previous.iter().filter(|p| !wanted.contains_key(*p)) {
            let shared = self
                .0
                .iter()
                .any(|(other, paths)| other != manager && paths.contains(path));
            if !shared {
                remove(&mut out, path);
            }
        }
        merge(kind, &mut Vec::new(), &mut out, config);
        for paths in self.0.values_mut() {
            paths.retain(|path| match wanted.get(path) {
                Some(value) => present.get(path) == Some(value),
                None => true,
            });
        }
        self.0.insert(manager.clone(), wanted.keys().cloned().collect());
        self.forget_missing(&leaves(kind, &out));
        Ok(out)
    }
}

fn conflict_error(conflicts: &BTreeMap<Manager, Vec<String>>) -> ApiError {
    let count: usize = conflicts.values().map(Vec::len).sum();
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for (manager, paths) in conflicts {
        let label = manager.label();
        lines.push(format!("conflicts with {label}:"));
        for path in paths {
            lines.push(format!("- {path}"));
            causes.push(json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {label}"),
                "field": path,
            }));
        }
    }
    let message = match (count, conflicts.iter().next()) {
        (1, Some((manager, paths))) => {
            format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                manager.label(),
                paths.join("")
            )
        }
        _ => format!("Apply failed with {count} conflicts: {}", lines.join("\n")),
    };
    ApiError::apply_conflict(&message, &causes)
}

fn text(path: &Path) -> String {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Item(identity) => {
                let keys: Vec<String> = identity
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                format!("[{}]", keys.join(","))
            }
            Step::Member(value) => format!("[={value}]"),
        })
        .collect()
}

/// The fields that identify the items of the list at a path; none where it is one value.
fn list_keys(kind: &Kind, path: &[Step]) -> Vec<String> {
    let names: Vec<&str> = path
        .iter()
        .filter_map(|s| match s {
            Step::Field(name) => Some(name.as_str()),
            Step::Item(_) | Step::Member(_) => None,
        })
        .collect();
    if let Some(custom) = &kind.custom {
        return custom.list_keys(&names).unwrap_or_default();
    }
    let Some((field, rest)) = names.split_last() else {
        return Vec::new();
    };
    // Where a patch knows an item by one field, an apply may need two.
    let second = match *field {
        "ports" => Some("protocol"),
        "topologySpreadConstraints" => Some("whenUnsatisfiable"),
        _ => None,
    };
    merge_key(rest.last().copied().unwrap_or(""), field)
        .into_iter()
        .flat_map(|first| std::iter::once(first).chain(second))
        .map(ToOwned::to_owned)
        .collect()
}

/// The identity of an item; none without one of its keys.
fn identity(keys: &[String], item: &Value) -> Option<Identity> {
    keys.iter()
        .map(|key| match item.get(key) {
            Some(value) => Some((key.clone(), value.to_string())),
            None if key == "protocol" => Some((key.clone(), "\"TCP\"".to_owned())),
            None => None,
        })
        .collect::<Option<Identity>>()
        .filter(|identity| !identity.is_empty())
}

/// The identities of all items; none when one of them has none.
fn identities(keys: &[String], items: &[Value]) -> Option<Vec<Identity>> {
    let found: Option<Vec<Identity>> = items.iter().map(|item| identity(keys, item)).collect();
    found.filter(|_| !keys.is_empty())
}

/// Whether the list at a path is a set.
fn is_set(kind: &Kind, path: &[Step]) -> bool {
    let field = |name: &str| Step::Field(name.to_owned());
    let names = path.iter().map(|step| match step {
        Step::Field(name) => name.as_str(),
        Step::Item(_) | Step::Member(_) => "",
    });
    *path == [field("metadata"), field("finalizers")]
        || kind.custom.as_ref().is_some_and(|custom| {
            let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
            custom.is_set(&names)
        })
}

/// Both without the fields in which they are the same; none when there is no other. Most writes change little.
fn differing(old: &Value, new: &Value) -> Option<(Value, Value)> {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            let (mut old, mut new) = (Map::new(), Map::new());
            for (name, value) in before {
                match after.get(name) {
                    Some(other) => {
                        if let Some((value, other)) = differing(value, other) {
                            old.insert(name.clone(), value);
                            new.insert(name.clone(), other);
                        }
                    }
                    None => drop(old.insert(name.clone(), value.clone())),
                }
            }
            for (name, value) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
                new.insert(name.clone(), value.clone());
            }
            let differ = !(old.is_empty() && new.is_empty()) || before.is_empty() != after.is_empty();
            differ.then_some((Value::Object(old), Value::Object(new)))
        }
        (old, new) => (old != new).then(|| (old.clone(), new.clone())),
    }
}

/// Every owned leaf of an object; identity and server-made metadata have no owner.
fn leaves(kind: &Kind, object: &Value) -> BTreeMap<Path, Value> {
    let mut out = BTreeMap::new();
    if let Some(map) = object.as_object() {
        for (name, value) in map {
            match name.as_str() {
                "apiVersion" | "kind" => {}
                "metadata" => {
                    for part in ["labels", "annotations", "finalizers", "ownerReferences"] {
                        if let Some(value) = value.get(part) {
                            let mut path = vec![Step::Field(name.clone()), Step::Field(part.to_owned())];
                            collect(kind, &mut path, value, &mut out);
                        }
                    }
                }
                _ => collect(kind, &mut vec![Step::Field(name.clone())], value, &mut out),
            }
        }
    }
    out
}

fn collect(kind: &Kind, path: &mut Path, value: &Value, out: &mut BTreeMap<Path, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                path.push(Step::Field(name.clone()));
                collect(kind, path, value, out);
                path.pop();
            }
        }
        Value::Array(items) if is_set(kind, path) => {
            for item in items {
                path.push(Step::Member(item.to_string()));
                out.insert(path.clone(), item.clone());
                path.pop();
            }
        }
        Value::Array(items) => match identities(&list_keys(kind, path), items) {
            Some(identities) => {
                for (identity, item) in identities.into_iter().zip(items) {
                    path.push(Step::Item(identity));
                    collect(kind, path, item, out);
                    path.pop();
                }
            }
            None => {
                out.insert(path.clone(), value.clone());
            }
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            out.insert(path.clone(), value.clone());
        }
    }
}

fn merge(kind: &Kind, path: &mut Path, target: &mut Value, config: &Value) {
    match config {
        Value::Object(config) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            if let Some(map) = target.as_object_mut() {
                for (name, value) in config {
                    path.push(Step::Field(name.clone()));
                    merge(kind, path, map.entry(name.clone()).or_insert(Value::Null), value);
                    path.pop();
                }
            }
        }
        Value::Array(items) if is_set(kind, path) && target.is_array() => {
            if let Some(current) = target.as_array_mut() {
                for item in items {
                    if !current.contains(item) {
                        current.push(item.clone());
                    }
                }
            }
        }
        Value::Array(items) => {
            let keys = list_keys(kind, path);
            match (identities(&keys, items), target.as_array_mut()) {
                (Some(identities), Some(current)) => {
                    for (wanted, item) in identities.into_iter().zip(items) {
                        let mut others = current.iter_mut();
                        let found = others.find(|other| identity(&keys, other).as_ref() == Some(&wanted));
                        path.push(Step::Item(wanted));
                        match found {
                            Some(existing) => merge(kind, path, existing, item),
                            None => current.push(item.clone()),
                        }
                        path.pop();
                    }
                }
                _ => *target = config.clone(),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => *target = config.clone(),
    }
}

fn remove(target: &mut Value, path: &[Step]) {
    match path {
        [Step::Field(name)] => {
            if let Some(map) = target.as_object_mut() {
                map.remove(name);
            }
        }
        [Step::Field(name), rest @ ..] => {
            if let Some(inner) = target.get_mut(name) {
                remove(inner, rest);
            }
        }
        [Step::Item(wanted), rest @ ..] => {
            let Some(items) = target.as_array_mut() else {
                return;
            };
            let keys: Vec<String> = wanted.iter().map(|(key, _)| key.clone()).collect();
            let Some(i) = items
                .iter()
                .position(|item| identity(&keys, item).as_ref() == Some(wanted))
            else {
                return;
            };
            // Without its keys an item is nothing.
            if let [Step::Field(field)] = rest
                && keys.contains(field)
            {
                items.remove(i);
            } else {
                remove(&mut items[i], rest);
            }
        }
        [Step::Member(value), ..] => {
            if let Some(items) = target.as_array_mut() {
                let gone: Option<Value> = serde_json::from_str(value).ok();
                items.retain(|item| gone.as_ref() != Some(item));
            }
        }
        [] => {}
    }
}
