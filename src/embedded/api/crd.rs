//! Custom resource definitions: a loaded one is served at once.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::kinds::{Kind, resource_name};
use crate::api::schema::CustomSchema;
use crate::api::state::State;
use crate::api::status::FieldError;
use crate::api::store::Key;

impl State {
    /// Checks a definition; that its rules compile is seen when it is stored, or here when it is not.
    pub(crate) fn check_crd(crd: &Value, dry_run: bool) -> Result<(), Vec<FieldError>> {
        let spec = &crd["spec"];
        let mut errors = Vec::new();
        for (field, value) in [
            ("spec.group", &spec["group"]),
            ("spec.names.kind", &spec["names"]["kind"]),
        ] {
            if value.as_str().is_none_or(str::is_empty) {
                errors.push(FieldError::required(field, ""));
            }
        }
        if !["Cluster", "Namespaced"].contains(&spec["scope"].as_str().unwrap_or("")) {
            let supported = ["Cluster", "Namespaced"].map(ToOwned::to_owned);
            errors.push(FieldError::not_supported(
                "spec.scope",
                &spec["scope"],
                &supported,
            ));
        }
        for (i, version) in spec["versions"].as_array().into_iter().flatten().enumerate() {
            if !version["schema"]["openAPIV3Schema"].is_object() {
                let field = format!("spec.versions[{i}].schema.openAPIV3Schema");
                errors.push(FieldError::required(&field, ""));
            }
        }
        if dry_run {
            errors.extend(served(crd).err().into_iter().flatten());
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Serves the versions of a definition, and writes the conditions that clients wait for.
    pub(crate) fn register_crd(&mut self, crd: &mut Value) -> Result<(), Vec<FieldError>> {
        let (served, stored) = served(crd)?;
        let resource = crd["metadata"]["name"].as_str().unwrap_or("").to_owned();
        if self.store.list(&resource, "").next().is_some() {
            self.redefined.insert(Arc::from(resource.as_str()));
        }
        self.kinds.remove(&resource);
        for kind in served {
            self.kinds.insert(kind);
        }
        let spec = crd["spec"].clone();
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
    pub(crate) fn unregister_crd(&mut self, crd: &Value) {
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

/// The kinds that a definition serves, and the names of its stored versions.
fn served(crd: &Value) -> Result<(Vec<Kind>, Vec<Value>), Vec<FieldError>> {
    let spec = &crd["spec"];
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
    if errors.is_empty() {
        Ok((served, stored))
    } else {
        Err(errors)
    }
}
