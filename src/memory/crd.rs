//! Custom resource definitions: a loaded one is served at once.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    kinds::{Kind, resource_name},
    schema::CustomSchema,
    state::State,
    status::FieldError,
    store::Key,
};

impl State {
    /// Serves the versions of a definition, and writes the conditions that clients wait for.
    pub(super) fn register_crd(&mut self, crd: &mut Value) -> Result<(), Vec<FieldError>> {
        let spec = crd["spec"].clone();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let (group, plural, kind) = (
            text(&spec["group"]),
            text(&spec["names"]["plural"]),
            text(&spec["names"]["kind"]),
        );
        let mut errors = Vec::new();
        let resource = resource_name(&plural, &group);
        if crd["metadata"]["name"] != json!(resource) {
            errors.push(FieldError::invalid(
                "metadata.name",
                &crd["metadata"]["name"],
                "must be spec.names.plural+\".\"+spec.group",
            ));
        }
        let mut served = Vec::new();
        let mut stored = Vec::new();
        for (i, version) in spec["versions"].as_array().into_iter().flatten().enumerate() {
            if version["storage"] == true {
                stored.push(version["name"].clone());
            }
            match CustomSchema::new(version) {
                Ok(schema) if version["served"] == true => served.push(Kind {
                    group: group.clone(),
                    version: text(&version["name"]),
                    plural: plural.clone(),
                    kind: kind.clone(),
                    namespaced: spec["scope"] == "Namespaced",
                    status: version["subresources"]["status"].is_object(),
                    scale: false,
                    create_only: false,
                    resource: resource.clone(),
                    storage: Arc::from(resource.as_str()),
                    custom: Some(Arc::new(schema)),
                }),
                Ok(_) => {}
                Err(found) => errors.extend(found.into_iter().map(|mut e| {
                    e.field = format!("spec.versions[{i}].schema.{}", e.field);
                    e
                })),
            }
        }
        if stored.len() != 1 {
            errors.push(FieldError::invalid(
                "spec.versions",
                &json!(stored),
                "must have exactly one version marked as storage version",
            ));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.kinds.remove(&resource);
        for kind in served {
            self.kinds.insert(kind);
        }
        let now = self.now_seconds();
        let condition = |kind: &str, reason: &str, message: &str| {
            json!({
                "type": kind, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": now,
            })
        };
        crd["status"] = json!({
            "acceptedNames": spec["names"],
            "storedVersions": stored,
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
        });
        Ok(())
    }

    /// Stops serving a definition; its objects go with it.
    pub(super) fn unregister_crd(&mut self, crd: &Value) {
        let resource = crd["metadata"]["name"].as_str().unwrap_or("");
        let keys: Vec<Key> = self
            .store
            .list(resource, "")
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.store.remove(&key);
        }
        self.kinds.remove(resource);
    }
}
