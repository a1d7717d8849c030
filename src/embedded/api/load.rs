//! Loading a state, and checking objects without storing them.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde_json::{Value, json};

use crate::api::events_api::to_stored;
use crate::api::kinds::Kind;
use crate::api::state::State;
use crate::api::store::Key;
use crate::api::write::WriteOptions;
use crate::api::{FieldError, admission, typed};

/// Why an object could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// Position in the list that was given, from 0.
    pub index: usize,
    /// Such as `Deployment/web`.
    pub object: String,
    /// Path of the field that is wrong; empty when it is the whole object.
    pub field: String,
    /// What is wrong, in the API server's words.
    pub reason: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {} ({}): ", self.index, self.object)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for LoadError {}

impl State {
    /// Stores objects with their status; nothing is stored when anything is wrong with any of them, definitions
    /// excepted: the others are checked against these.
    pub(crate) fn load(&mut self, objects: Vec<Value>) -> Result<(), Vec<LoadError>> {
        let mut errors = Vec::new();
        let mut numbered: Vec<(usize, Value)> = objects.into_iter().enumerate().collect();
        numbered.sort_by_key(|(index, object)| (rank(object), *index));
        let (definitions, rest): (Vec<_>, Vec<_>) =
            numbered.into_iter().partition(|(_, object)| rank(object) == 0);
        for (index, object) in definitions {
            if let Some((key, object)) = self.load_one(index, object, &mut errors) {
                self.restore_identity(&key, &object);
            }
        }
        for (index, object) in &rest {
            errors.extend(self.validate(object).into_iter().map(|e| LoadError {
                index: *index,
                object: title(object),
                field: e.field,
                reason: e.message,
            }));
        }
        if !errors.is_empty() {
            errors.sort_by_key(|e| e.index);
            return Err(errors);
        }
        let declared: Vec<&Value> = rest
            .iter()
            .filter(|(_, object)| rank(object) == 1)
            .map(|(_, object)| &object["metadata"]["name"])
            .collect();
        let needed: BTreeSet<String> = rest
            .iter()
            .filter_map(|(_, object)| self.kind_of(object).map(|kind| namespace_of(&kind, object)))
            .filter(|name| !name.is_empty() && !declared.contains(&&json!(name)))
            .collect();
        for name in needed {
            if self.store.find("namespaces", "", &name).is_none() {
                self.make_namespace(&name);
            }
        }
        let mut loaded = Vec::new();
        for (index, object) in rest {
            let is_namespace = rank(&object) == 1;
            loaded.extend(self.load_one(index, object, &mut errors));
            if is_namespace {
                self.settle();
            }
        }
        // Last: in what is on its way out nothing new can be.
        for (key, object) in loaded {
            self.restore_identity(&key, &object);
        }
        self.settle();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Stores one object; where it lies, and as what it came.
    fn load_one(&mut self, index: usize, object: Value, errors: &mut Vec<LoadError>) -> Option<(Key, Value)> {
        let name = title(&object);
        let mut fail = |field: &str, reason: &str| {
            errors.push(LoadError {
                index,
                object: name.clone(),
                field: field.to_owned(),
                reason: reason.to_owned(),
            });
        };
        let Some(kind) = self.kind_of(&object) else {
            fail("kind", "no such kind is served");
            return None;
        };
        let mut object = to_stored(&kind, object);
        let namespace = namespace_of(&kind, &object);
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let options = WriteOptions {
            keep_status: true,
            strict: true,
            ..WriteOptions::system("load")
        };
        let key = Key::of(
            &kind,
            &namespace,
            object["metadata"]["name"].as_str().unwrap_or(""),
        );
        let loaded = object.clone();
        let result = if self.store.get(&key).is_some() {
            self.update(&kind, &key, crate::api::write::Part::Main, object, &options)
        } else {
            self.create(&kind, &namespace, object, &options)
        };
        match result {
            Ok(_) => Some((key, loaded)),
            Err(error) => {
                fail("", error.message());
                None
            }
        }
    }

    /// A loaded object keeps the deletion and generation that it came with.
    fn restore_identity(&mut self, key: &Key, loaded: &Value) {
        let Some(stored) = self.store.get(key).cloned() else {
            return;
        };
        let mut new = Value::clone(&stored);
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
            if !loaded["metadata"][field].is_null() {
                new["metadata"][field] = loaded["metadata"][field].clone();
            }
        }
        let since = new["metadata"]["deletionTimestamp"].as_str();
        let since = since.and_then(|time| time.parse::<jiff::Timestamp>().ok());
        if key.resource.as_ref() == "pods" && since.is_some_and(|since| since <= self.now()) {
            self.keep_from_stopping(&new);
        }
        if since.is_some() && key.resource.as_ref() == "namespaces" {
            new["status"]["phase"] = json!("Terminating");
        }
        if new != *stored {
            self.store.put(key.clone(), new);
        }
    }

    fn make_namespace(&mut self, name: &str) {
        if let Some(kind) = self.kinds.by_storage("namespaces").cloned() {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            let _ = self.create(&kind, "", object, &WriteOptions::system("load"));
            // Its ServiceAccount must be there before its pods are.
            self.settle();
        }
    }

    pub(crate) fn kind_of(&self, object: &Value) -> Option<Arc<Kind>> {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        self.kinds
            .by_kind(&text(&object["apiVersion"]), &text(&object["kind"]))
            .cloned()
    }

    /// The object without the fields that the server does not know; `None` when it serves no such kind.
    pub(crate) fn known_part(&self, object: &Value) -> Option<Value> {
        let kind = self.kind_of(object)?;
        let mut known = to_stored(&kind, object.clone());
        admission::prune_metadata(&mut known);
        match &kind.custom {
            Some(custom) => drop(custom.prune(&mut known, None)),
            // One that can't be read as its type is refused in the words of a create.
            None => drop(typed::prune(&kind, &mut known)),
        }
        Some(known)
    }

    /// What a create under strict field validation would find wrong, namespaces apart.
    pub(crate) fn validate(&self, object: &Value) -> Vec<FieldError> {
        let Some(kind) = self.kind_of(object) else {
            return vec![FieldError::invalid(
                "kind",
                &object["kind"],
                &format!("no kind of this name is served in {}", object["apiVersion"]),
            )];
        };
        let mut object = to_stored(&kind, object.clone());
        let mut unknown = admission::prune_metadata(&mut object);
        if let Some(custom) = &kind.custom {
            unknown.extend(custom.prune(&mut object, None));
            custom.default(&mut object, None);
        } else {
            match typed::prune(&kind, &mut object) {
                Ok(found) => unknown.extend(found),
                Err(error) => {
                    let wrong = self.wrong_type(&object);
                    return vec![wrong.unwrap_or_else(|| FieldError::omitted("", error.message()))];
                }
            }
        }
        let mut errors: Vec<FieldError> = unknown
            .iter()
            .map(|path| FieldError::unknown_field(path))
            .collect();
        let generated = object["metadata"]["generateName"]
            .as_str()
            .map(|base| format!("{base}xxxxx"));
        if object["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            let Some(name) = generated else {
                errors.push(FieldError::required(
                    "metadata.name",
                    "name or generateName is required",
                ));
                return errors;
            };
            object["metadata"]["name"] = json!(name);
        }
        // What a Job selects by; each gets one.
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
        }
        admission::prepare_create(&kind, &mut object);
        errors.extend(self.validate_stored(&kind, &object, None));
        errors
    }
}

fn rank(object: &Value) -> u8 {
    match object["kind"].as_str() {
        Some("CustomResourceDefinition") => 0,
        Some("Namespace") => 1,
        Some("ServiceAccount" | "Node" | "ClusterRole" | "Role") => 2,
        _ => 3,
    }
}

fn title(object: &Value) -> String {
    format!(
        "{}/{}",
        object["kind"].as_str().unwrap_or("?"),
        object["metadata"]["name"].as_str().unwrap_or("?")
    )
}

fn namespace_of(kind: &Kind, object: &Value) -> String {
    if kind.namespaced {
        object["metadata"]["namespace"]
            .as_str()
            .filter(|n| !n.is_empty())
            .unwrap_or("default")
            .to_owned()
    } else {
        String::new()
    }
}
