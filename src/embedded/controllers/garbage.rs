//! Garbage collection by owner references, and the end of namespaces.

use serde_json::{Value, json};

use crate::api::delete::{DeleteOptions, FOREGROUND, ORPHAN};
use crate::api::state::State;
use crate::api::store::{Change, Commit, Key};
use crate::api::write::set_or_remove;
use crate::controllers::{is_deleting, trusted};

impl State {
    pub(crate) fn collect_garbage(&mut self, commit: &Commit) {
        match commit.change {
            Change::Deleted => {
                let uid = commit.object["metadata"]["uid"].as_str().unwrap_or("").to_owned();
                for key in self.store.dependents(&uid) {
                    self.collect_dependent(&key);
                }
                self.tell_owners(&commit.object);
            }
            Change::Added => self.collect_dependent(&commit.key),
            Change::Modified => {
                if is_deleting(&commit.object) {
                    self.continue_deletion(&commit.key);
                }
                let before = commit
                    .previous
                    .as_ref()
                    .map(|p| &p["metadata"]["ownerReferences"]);
                if before != Some(&commit.object["metadata"]["ownerReferences"]) {
                    self.collect_dependent(&commit.key);
                }
            }
        }
    }

    /// Deletes an object whose owners are all gone; forgets the gone ones when some are left.
    fn collect_dependent(&mut self, key: &Key) {
        let Some(object) = self.store.get(key).cloned() else {
            return;
        };
        let references: Vec<Value> = object["metadata"]["ownerReferences"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if references.is_empty() || is_deleting(&object) {
            return;
        }
        let (alive, gone): (Vec<Value>, Vec<Value>) = references.into_iter().partition(|r| {
            r["uid"]
                .as_str()
                .is_some_and(|uid| self.store.owner_exists(uid, &key.namespace) || self.outside.contains(uid))
        });
        if gone.is_empty() {
            return;
        }
        if alive.is_empty() {
            self.remove_object(key, &DeleteOptions::background());
        } else {
            self.write(key, |object| {
                object["metadata"]["ownerReferences"] = json!(alive);
            });
        }
    }

    /// The part of a deletion that dependents have to do with.
    fn continue_deletion(&mut self, key: &Key) {
        let Some(object) = self.store.get(key).cloned() else {
            return;
        };
        let has = |finalizer: &str| {
            object["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|f| f.contains(&json!(finalizer)))
        };
        let uid = object["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        if has(ORPHAN) {
            for dependent in self.store.dependents(&uid) {
                self.write(&dependent, |object| {
                    let left: Vec<Value> = object["metadata"]["ownerReferences"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter(|r| r["uid"] != uid.as_str())
                        .cloned()
                        .collect();
                    set_or_remove(
                        &mut object["metadata"],
                        "ownerReferences",
                        (!left.is_empty()).then(|| json!(left)),
                    );
                });
            }
            self.remove_finalizer(key, ORPHAN);
        } else if has(FOREGROUND) {
            for dependent in self.store.dependents(&uid) {
                let Some(found) = self.store.get(&dependent).cloned() else {
                    continue;
                };
                if !is_deleting(&found) {
                    // A dependent goes the same way, so that its own dependents go first.
                    let foreground = DeleteOptions {
                        propagation: Some("Foreground".to_owned()),
                        ..DeleteOptions::default()
                    };
                    self.remove_object(&dependent, &foreground);
                }
            }
            self.finish_foreground(key);
        }
    }

    fn finish_foreground(&mut self, key: &Key) {
        let Some(object) = self.store.get(key).cloned() else {
            return;
        };
        let waiting = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|f| f.contains(&json!(FOREGROUND)));
        if !waiting || !is_deleting(&object) {
            return;
        }
        let uid = object["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        let blocked = self.store.dependents(&uid).iter().any(|dependent| {
            self.store.get(dependent).is_some_and(|object| {
                object["metadata"]["ownerReferences"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|r| r["uid"] == uid.as_str() && r["blockOwnerDeletion"] == true)
            })
        });
        if !blocked {
            self.remove_finalizer(key, FOREGROUND);
        }
    }

    /// An owner in foreground deletion may go when its last dependent is gone.
    fn tell_owners(&mut self, object: &Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("");
        for reference in object["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let text = |field: &str| reference[field].as_str().unwrap_or("");
            if let Some(kind) = self.kinds.by_kind(text("apiVersion"), text("kind")).cloned() {
                self.finish_foreground(&Key::of(&kind, namespace, text("name")));
            }
        }
    }

    /// A new namespace gets its ServiceAccount, one in deletion is emptied.
    pub(crate) fn sync_namespace(&mut self, key: &Key) {
        let Some(object) = self.store.get(key).cloned() else {
            return;
        };
        if !is_deleting(&object) {
            if self.store.find("serviceaccounts", &key.name, "default").is_none()
                && let Some(kind) = self.kinds.by_storage("serviceaccounts").cloned()
            {
                let account = json!({
                    "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
                });
                let _ = self.create(&kind, &key.name, account, &trusted());
            }
            return;
        }
        let inside: Vec<Key> = self
            .store
            .all()
            .filter(|(k, object)| k.namespace == key.name && !is_deleting(object))
            .map(|(k, _)| k.clone())
            .collect();
        for inner in inside {
            self.remove_object(&inner, &DeleteOptions::background());
        }
        self.finish_namespace(&key.name);
    }

    /// Lets a namespace in deletion go when nothing is left in it.
    pub(crate) fn finish_namespace(&mut self, name: &str) {
        let key = Key::new("namespaces", "", name);
        let Some(object) = self.store.get(&key).cloned() else {
            return;
        };
        if is_deleting(&object)
            && !self.store.all().any(|(k, _)| k.namespace == name)
            && object["metadata"]["finalizers"]
                .as_array()
                .is_none_or(Vec::is_empty)
        {
            self.store.remove(&key);
        }
    }
}
