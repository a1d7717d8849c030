//! Deletion: preconditions, grace periods, finalizers, propagation.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::kinds::Kind;
use crate::api::state::State;
use crate::api::status::ApiError;
use crate::api::store::Key;
use crate::api::write::set_or_remove;

/// The finalizer of a foreground deletion.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a deletion that leaves the dependents alone.
pub(crate) const ORPHAN: &str = "orphan";

/// What a delete asks for; a `DeleteOptions` object merged with the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<String>,
    pub(crate) grace: Option<i64>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    pub(crate) fn parse(body: &Value) -> Self {
        let text = |value: &Value| value.as_str().filter(|s| !s.is_empty()).map(ToOwned::to_owned);
        let orphan = body["orphanDependents"]
            .as_bool()
            .map(|orphan| if orphan { "Orphan" } else { "Background" }.to_owned());
        Self {
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            propagation: text(&body["propagationPolicy"]).or(orphan),
            grace: body["gracePeriodSeconds"].as_i64(),
            dry_run: body["dryRun"]
                .as_array()
                .is_some_and(|d| d.contains(&json!("All"))),
        }
    }

    pub(crate) fn background() -> Self {
        Self {
            propagation: Some("Background".to_owned()),
            ..Self::default()
        }
    }
}

/// What became of a delete.
pub(crate) enum Deleted {
    /// The object is gone; its last state.
    Gone(Arc<Value>),
    /// The object waits for finalizers or its grace period.
    Pending(Arc<Value>),
}

/// True when nothing holds an object in deletion any more.
pub(crate) fn may_go(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
        && object["metadata"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty)
        && object["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0)
            == 0
        && !(object["kind"] == "Namespace"
            && object["spec"]["finalizers"]
                .as_array()
                .is_some_and(|f| !f.is_empty()))
}

impl State {
    /// Deletes an object, or begins to.
    pub(crate) fn delete(
        &mut self,
        kind: &Arc<Kind>,
        key: &Key,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let old = Arc::clone(
            self.store
                .get(key)
                .ok_or_else(|| ApiError::not_found(kind, &key.name))?,
        );
        check_preconditions(kind, &key.name, &old, options)?;
        let grace = grace_period(kind, &old, options, self.options.kubelets);
        let mut new = Value::clone(&old);
        let deleting = old["metadata"]["deletionTimestamp"].is_string();
        add_propagation_finalizer(kind, &mut new, options);
        let held = new["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|f| !f.is_empty())
            || (kind.is_resource("namespaces") && !may_go(&with_deletion(&old)));
        if !held && grace == 0 {
            if options.dry_run {
                return Ok(Deleted::Gone(old));
            }
            self.forget_pod(&old);
            let mut gone = self.store.remove(key).unwrap_or(old);
            // A pod is marked before it goes at once.
            if kind.is_resource("pods") {
                let mut marked = Value::clone(&gone);
                marked["metadata"]["deletionGracePeriodSeconds"] = json!(0);
                if !deleting {
                    marked["metadata"]["deletionTimestamp"] = json!(self.now_seconds());
                    let generation = marked["metadata"]["generation"].as_i64().unwrap_or(0);
                    marked["metadata"]["generation"] = json!(generation + 1);
                }
                gone = Arc::new(marked);
            }
            if kind.is_resource("customresourcedefinitions.apiextensions.k8s.io") {
                self.unregister_crd(&gone);
            }
            return Ok(Deleted::Gone(gone));
        }
        let present = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
        if !deleting || present.is_some_and(|p| grace < p) {
            new["metadata"]["deletionTimestamp"] = json!(self.seconds_from_now(grace));
            if !kind.is_resource("namespaces") {
                new["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            }
            if !deleting && let Some(generation) = old["metadata"]["generation"].as_i64() {
                new["metadata"]["generation"] = json!(generation + 1);
            }
        }
        if kind.is_resource("namespaces") {
            new["status"]["phase"] = json!("Terminating");
        }
        if options.dry_run || new == *old {
            return Ok(Deleted::Pending(Arc::new(new)));
        }
        Ok(Deleted::Pending(self.store.put(key.clone(), new)))
    }

    /// Takes one finalizer away; the object goes when it was the last and deletion has begun.
    pub(crate) fn remove_finalizer(&mut self, key: &Key, finalizer: &str) {
        self.write(key, |object| {
            let finalizers = object["metadata"]["finalizers"].as_array();
            let left: Vec<&Value> = finalizers
                .into_iter()
                .flatten()
                .filter(|found| *found != finalizer)
                .collect();
            let left = (!left.is_empty()).then(|| json!(left));
            set_or_remove(&mut object["metadata"], "finalizers", left);
        });
    }
}

fn with_deletion(object: &Value) -> Value {
    let mut out = object.clone();
    out["metadata"]["deletionTimestamp"] = json!("now");
    out
}

fn check_preconditions(
    kind: &Kind,
    name: &str,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let uid = object["metadata"]["uid"].as_str().unwrap_or("");
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        return Err(ApiError::precondition(
            kind,
            name,
            &format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object \
                 might have been deleted and then recreated"
            ),
        ));
    }
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or("");
    if let Some(wanted) = options
        .resource_version
        .as_deref()
        .filter(|wanted| *wanted != version)
    {
        return Err(ApiError::precondition(
            kind,
            name,
            &format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in \
                 record ({version}). The object might have been modified"
            ),
        ));
    }
    Ok(())
}

/// Only pods die slowly, and only those that run. In a cluster without nodes they run without one.
fn grace_period(kind: &Kind, object: &Value, options: &DeleteOptions, kubelets: bool) -> i64 {
    if !kind.is_resource("pods") {
        return 0;
    }
    let phase = object["status"]["phase"].as_str().unwrap_or("");
    if matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    let unscheduled = object["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    if unscheduled && (phase == "Pending" || !kubelets) {
        return 0;
    }
    let asked = options
        .grace
        .or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(30);
    if asked < 0 { 1 } else { asked }
}

fn add_propagation_finalizer(kind: &Kind, object: &mut Value, options: &DeleteOptions) {
    // For compatibility batch/v1 leaves the pods of a Job alone when nobody says otherwise.
    let default = if kind.is_resource("jobs.batch") {
        "Orphan"
    } else {
        "Background"
    };
    let finalizer = match options.propagation.as_deref().unwrap_or(default) {
        "Foreground" => Some(FOREGROUND),
        "Orphan" if options.propagation.is_some() || kind.is_resource("jobs.batch") => Some(ORPHAN),
        _ => None,
    };
    let mut finalizers: Vec<Value> = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    // Without a wish of this request a deletion under way keeps its way.
    if options.propagation.is_some() || !object["metadata"]["deletionTimestamp"].is_string() {
        finalizers.retain(|f| f != FOREGROUND && f != ORPHAN);
        if let Some(finalizer) = finalizer {
            finalizers.push(json!(finalizer));
        }
    }
    set_or_remove(
        &mut object["metadata"],
        "finalizers",
        (!finalizers.is_empty()).then(|| json!(finalizers)),
    );
}
