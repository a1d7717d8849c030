//! The way of a write: admission, validation, commit. The world's controllers make objects this way, too; what they change was
//! checked before.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::api::delete::may_go;
use crate::api::kinds::Kind;
use crate::api::managed_fields::Manager;
use crate::api::state::State;
use crate::api::status::{ApiError, FieldError};
use crate::api::store::Key;
use crate::api::system_metadata::{
    check_type, check_version, immutable_metadata, keep_system_metadata, validate_metadata_update,
};
use crate::api::{admission, names, typed};

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but status, for kinds that have a status subresource.
    Main,
    /// Only status.
    Status,
}

/// How a write is made.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) manager: String,
    pub(crate) subresource: String,
    pub(crate) dry_run: bool,
    /// Unknown fields are an error, not dropped.
    pub(crate) strict: bool,
    /// Status comes with the object, as when a stored state is loaded.
    pub(crate) keep_status: bool,
    /// Made by a patch: unknown fields are then reported as a fault of the patch.
    pub(crate) by_patch: bool,
    /// A create by the world's own controllers: its fields are known, and its spec is that of a template that was checked.
    pub(crate) trusted: bool,
}

impl WriteOptions {
    /// A write of one of the world's own controllers.
    pub(crate) fn system(manager: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn manager(&self, kind: &Kind, apply: bool) -> Manager {
        Manager {
            name: self.manager.clone(),
            apply,
            api_version: kind.api_version(),
            subresource: self.subresource.clone(),
        }
    }
}

impl State {
    /// Creates an object in stored form.
    pub(crate) fn create(
        &mut self,
        kind: &Arc<Kind>,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, ApiError> {
        check_type(kind, &object)?;
        decode(kind, &mut object, None, options)?;
        let name = self.prepare_metadata(kind, namespace, &mut object, options)?;
        self.check_namespace(kind, namespace, &name)?;
        self.check_service_account(kind, namespace, &mut object)?;
        if kind.status
            && !options.keep_status
            && !kind.is_resource("nodes")
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        admission::prepare_create(kind, &mut object);
        let errors = if options.trusted {
            names::validate_metadata(kind, &object)
        } else {
            self.validate_stored(kind, &object, None)
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind, &name, &errors));
        }
        self.check_quotas(kind, namespace, &name)?;
        if kind.is_resource("customresourcedefinitions.apiextensions.k8s.io") {
            Self::check_crd(&object, options.dry_run)
                .map_err(|errors| ApiError::invalid(kind, &name, &errors))?;
        }
        let key = Key::of(kind, namespace, &name);
        if self.store.get(&key).is_some() {
            return Err(ApiError::already_exists(kind, &name));
        }
        if options.dry_run {
            return Ok(Arc::new(object));
        }
        if kind.is_resource("customresourcedefinitions.apiextensions.k8s.io") {
            self.register_crd(&mut object)
                .map_err(|errors| ApiError::invalid(kind, &name, &errors))?;
        }
        let manager = options.manager(kind, false);
        let object = self.store.put(key.clone(), object);
        if self.options.field_owners {
            let owners = self.store.owners.entry(key.clone()).or_default();
            Arc::make_mut(owners).written(kind, manager, None, &object);
        }
        if kind.is_resource("events") || kind.is_resource("events.events.k8s.io") {
            self.events.push_back(key);
            if self.events.len() > self.options.events
                && let Some(oldest) = self.events.pop_front()
            {
                self.store.remove(&oldest);
            }
        }
        Ok(object)
    }

    /// Replaces an object, or its status, by `incoming` in stored form. A write that changes nothing is not a write.
    pub(crate) fn update(
        &mut self,
        kind: &Arc<Kind>,
        key: &Key,
        part: Part,
        mut incoming: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Value>, ApiError> {
        let name = key.name.clone();
        let old = Arc::clone(
            self.store
                .get(key)
                .ok_or_else(|| ApiError::not_found(kind, &name))?,
        );
        check_type(kind, &incoming)?;
        let decoded = Some(&*old).filter(|_| !self.redefined.contains(&kind.storage));
        decode(kind, &mut incoming, decoded, options)?;
        check_version(kind, &name, &old, &incoming, part, options.by_patch)?;
        let mut new = match part {
            Part::Status => {
                let status = incoming.get_mut("status").map(Value::take);
                if differ_in_status_alone(&old, &incoming) {
                    set_or_remove(&mut incoming, "status", status);
                    incoming
                } else {
                    let mut new = with_status(&old, status);
                    // For these labels and annotations may come by the status too.
                    if matches!(kind.resource.as_str(), "pods" | "nodes") {
                        for field in ["labels", "annotations"] {
                            let value = incoming["metadata"].get(field).cloned();
                            set_or_remove(&mut new["metadata"], field, value);
                        }
                    }
                    new
                }
            }
            Part::Main => {
                if kind.status && !options.keep_status {
                    set_or_remove(&mut incoming, "status", old.get("status").cloned());
                }
                incoming
            }
        };
        let mut errors = immutable_metadata(&old, &new);
        keep_system_metadata(kind, &old, &mut new);
        admission::prepare_update(kind, &mut new, &old);
        if let Some(custom) = &kind.custom {
            custom.default(&mut new, decoded);
        }
        // A Deployment's annotations count too, unless its controller writes them.
        let annotated = kind.is_resource("deployments.apps")
            && old["metadata"]["annotations"] != new["metadata"]["annotations"];
        if part == Part::Main && (annotated || has_new_content(kind, &old, &new)) {
            count_generation(&old, &mut new);
        }
        errors.extend(validate_metadata_update(&old, &new));
        errors.extend(self.validate_stored(kind, &new, Some(&old)));
        if part == Part::Status {
            errors.iter_mut().for_each(FieldError::within_status);
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind, &name, &errors));
        }
        if options.dry_run {
            return Ok(Arc::new(new));
        }
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if new == *old {
            return Ok(old);
        }
        if kind.is_resource("customresourcedefinitions.apiextensions.k8s.io") && part == Part::Main {
            self.register_crd(&mut new)
                .map_err(|errors| ApiError::invalid(kind, &name, &errors))?;
        }
        let manager = options.manager(kind, false);
        Ok(self.succeed(kind, key, &old, new, Some(manager)))
    }

    /// Stores the next state of an object; when nothing holds it in its deletion any more, it goes.
    pub(crate) fn succeed(
        &mut self,
        kind: &Kind,
        key: &Key,
        old: &Value,
        new: Value,
        manager: Option<Manager>,
    ) -> Arc<Value> {
        if may_go(&new) {
            self.store.remove(key);
            return Arc::new(new);
        }
        let new = self.store.put(key.clone(), new);
        if let Some(manager) = manager.filter(|_| self.options.field_owners) {
            let owners = self.store.owners.entry(key.clone()).or_default();
            Arc::make_mut(owners).written(kind, manager, Some(old), &new);
        }
        new
    }

    /// All rules that hold for a stored object: names, schema, CEL, and what the kind itself asks for.
    pub(crate) fn validate_stored(
        &self,
        kind: &Kind,
        object: &Value,
        old: Option<&Value>,
    ) -> Vec<FieldError> {
        let is_new = old.is_none_or(|old| old["metadata"] != object["metadata"]);
        let mut errors = if is_new {
            names::validate_metadata(kind, object)
        } else {
            Vec::new()
        };
        if let Some(custom) = &kind.custom {
            return custom.validate(&self.cel, object, old, errors);
        }
        errors.extend(admission::validate(kind, object, old));
        errors
    }

    fn prepare_metadata(
        &mut self,
        kind: &Kind,
        namespace: &str,
        object: &mut Value,
        options: &WriteOptions,
    ) -> Result<String, ApiError> {
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let loaded = |field: &str, object: &Value| {
            object["metadata"][field]
                .as_str()
                .filter(|_| options.keep_status)
                .map(ToOwned::to_owned)
        };
        let now = loaded("creationTimestamp", object).unwrap_or_else(|| self.now_seconds());
        let given = object["metadata"]["namespace"].as_str().unwrap_or("");
        if kind.namespaced && !given.is_empty() && given != namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if object["metadata"]["resourceVersion"]
            .as_str()
            .is_some_and(|v| !v.is_empty() && v != "0")
        {
            return Err(ApiError::internal(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let mut name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        if name.is_empty()
            && let Some(base) = object["metadata"]["generateName"]
                .as_str()
                .filter(|b| !b.is_empty())
        {
            let base: String = base.chars().take(58).collect();
            name = format!("{base}{}", self.random.suffix());
        }
        if name.is_empty() {
            let errors = vec![FieldError::required(
                "metadata.name",
                "name or generateName is required",
            )];
            let errors = match &kind.custom {
                Some(custom) => custom.validate(&self.cel, object, None, errors),
                None => errors,
            };
            return Err(ApiError::invalid(kind, "", &errors));
        }
        let uid = loaded("uid", object).unwrap_or_else(|| self.random.uuid());
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for key in [
                "resourceVersion",
                "selfLink",
                "managedFields",
                "deletionTimestamp",
            ] {
                metadata.remove(key);
            }
            metadata.remove("deletionGracePeriodSeconds");
            metadata.remove("generation");
            metadata.insert("name".to_owned(), json!(name));
            metadata.insert("uid".to_owned(), json!(uid));
            metadata.insert("creationTimestamp".to_owned(), json!(now));
            if kind.namespaced {
                metadata.insert("namespace".to_owned(), json!(namespace));
            } else {
                metadata.remove("namespace");
            }
            if has_generation(kind) {
                metadata.insert("generation".to_owned(), json!(1));
            }
        }
        Ok(name)
    }

    fn check_namespace(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), ApiError> {
        if !kind.namespaced {
            return Ok(());
        }
        let Some(found) = self.store.find("namespaces", "", namespace) else {
            let Some(namespaces) = self.kinds.by_storage("namespaces") else {
                return Ok(());
            };
            return Err(ApiError::not_found(namespaces, namespace));
        };
        if found["metadata"]["deletionTimestamp"].is_string() {
            return Err(ApiError::terminating_namespace(kind, name, namespace));
        }
        Ok(())
    }
}

impl State {
    /// Every pod runs as a ServiceAccount that exists.
    fn check_service_account(
        &self,
        kind: &Kind,
        namespace: &str,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        if !kind.is_resource("pods") || !object["spec"].is_object() {
            return Ok(());
        }
        let account = object["spec"]["serviceAccountName"]
            .as_str()
            .filter(|name| !name.is_empty())
            .unwrap_or("default")
            .to_owned();
        if self.store.find("serviceaccounts", namespace, &account).is_none() {
            let shown = object["metadata"]["generateName"]
                .as_str()
                .or_else(|| object["metadata"]["name"].as_str())
                .unwrap_or("");
            return Err(ApiError::forbidden(
                kind,
                shown,
                &format!(
                    "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
                ),
            ));
        }
        object["spec"]["serviceAccountName"] = json!(account);
        Ok(())
    }
}

/// Drops or refuses fields that the kind does not know, and fills in a custom resource's defaults.
///
/// What is as it was in `old` has been through this.
fn decode(
    kind: &Arc<Kind>,
    object: &mut Value,
    old: Option<&Value>,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    let mut unknown = admission::prune_metadata(object);
    let wrong = |error: ApiError, object: &Value| match error.message().split_once(": ") {
        Some((_, why)) if options.by_patch => ApiError::bad_patch(object, why),
        _ => error,
    };
    if let Some(custom) = &kind.custom {
        unknown.extend(custom.prune(object, old));
        custom.default(object, old);
        if old.is_none_or(|old| old["metadata"] != object["metadata"]) {
            typed::check_metadata(kind, object).map_err(|error| wrong(error, object))?;
        }
    } else if options.trusted {
        typed::drop_nulls(object);
    } else {
        let found = typed::prune(kind, object);
        unknown.extend(found.map_err(|error| wrong(error, object))?);
    }
    if options.strict && !unknown.is_empty() {
        return Err(if options.by_patch {
            ApiError::bad_patch(object, &crate::api::status::strict_decoding_text(&unknown))
        } else {
            ApiError::strict_decoding(kind, &unknown)
        });
    }
    Ok(())
}

/// An object with another status.
pub(crate) fn with_status(object: &Value, status: Option<Value>) -> Value {
    let members = object.as_object().into_iter().flatten();
    let others = members.filter(|(name, _)| *name != "status");
    let mut map: Map<String, Value> = others
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    map.extend(status.map(|status| ("status".to_owned(), status)));
    Value::Object(map)
}

/// Whether all else is the same, as it is in a patch of a status; one of them may have none.
fn differ_in_status_alone(object: &Value, other: &Value) -> bool {
    let [object, other] = [object, other].map(|object| {
        let members = object.as_object().into_iter().flatten();
        members.filter(|(name, _)| *name != "status")
    });
    object.eq(other)
}

/// Whether anything but metadata and status is another, in a kind that counts that.
pub(crate) fn has_new_content(kind: &Kind, old: &Value, new: &Value) -> bool {
    let is_content = |(name, _): &(&String, &Value)| !matches!(name.as_str(), "metadata" | "status");
    let [old, new] = [old, new].map(|object| object.as_object().into_iter().flatten().filter(is_content));
    has_generation(kind) && !old.eq(new)
}

pub(crate) fn count_generation(old: &Value, new: &mut Value) {
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
    new["metadata"]["generation"] = json!(generation + 1);
}

/// Kinds whose objects count their specs.
fn has_generation(kind: &Kind) -> bool {
    kind.custom.is_some()
        || matches!(
            kind.resource.as_str(),
            "deployments.apps"
                | "replicasets.apps"
                | "statefulsets.apps"
                | "daemonsets.apps"
                | "jobs.batch"
                | "pods"
                | "poddisruptionbudgets.policy"
                | "networkpolicies.networking.k8s.io"
                | "ingresses.networking.k8s.io"
                | "customresourcedefinitions.apiextensions.k8s.io"
                | "validatingadmissionpolicies.admissionregistration.k8s.io"
                | "validatingadmissionpolicybindings.admissionregistration.k8s.io"
        )
}

pub(crate) fn set_or_remove(object: &mut Value, field: &str, value: Option<Value>) {
    if let Some(map) = object.as_object_mut() {
        match value {
            Some(value) => {
                map.insert(field.to_owned(), value);
            }
            None => {
                map.remove(field);
            }
        }
    }
}
