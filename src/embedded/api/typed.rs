//! The types of built-in kinds: which fields they have, and of what type.

use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        },
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        authorization::v1::{SelfSubjectAccessReview, SubjectAccessReview},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        coordination::v1::Lease,
        core::v1::{
            ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
            PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service, ServiceAccount,
        },
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        scheduling::v1::PriorityClass,
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::api::kinds::Kind;
use crate::api::schema::child;
use crate::api::status::ApiError;

macro_rules! typed {
    ($($resource:literal => $type:ty,)*) => {
        /// Removes unknown fields of a built-in object by reading it into its type and back.
        ///
        /// Errors: 400 when a field has the wrong type.
        pub(crate) fn prune(kind: &Kind, object: &mut Value) -> Result<Vec<String>, ApiError> {
            match kind.resource.as_str() {
                $($resource => prune_as::<$type>(kind, object),)*
                _ => Ok(Vec::new()),
            }
        }

        /// What OpenAPI says of a resource; null of one that has no type here.
        pub(crate) fn schema(resource: &str) -> Value {
            match resource {
                $($resource => schemars::schema_for!($type).to_value(),)*
                _ => Value::Null,
            }
        }
    };
}

typed! {
    "clusterrolebindings.rbac.authorization.k8s.io" => ClusterRoleBinding,
    "clusterroles.rbac.authorization.k8s.io" => ClusterRole,
    "configmaps" => ConfigMap,
    "cronjobs.batch" => CronJob,
    "daemonsets.apps" => DaemonSet,
    "deployments.apps" => Deployment,
    "endpoints" => Endpoints,
    "endpointslices.discovery.k8s.io" => EndpointSlice,
    "events" => Event,
    // Both are stored in the core form.
    "events.events.k8s.io" => Event,
    "horizontalpodautoscalers.autoscaling" => HorizontalPodAutoscaler,
    "ingressclasses.networking.k8s.io" => IngressClass,
    "ingresses.networking.k8s.io" => Ingress,
    "jobs.batch" => Job,
    "leases.coordination.k8s.io" => Lease,
    "limitranges" => LimitRange,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io" => MutatingWebhookConfiguration,
    "namespaces" => Namespace,
    "networkpolicies.networking.k8s.io" => NetworkPolicy,
    "nodes" => Node,
    "persistentvolumeclaims" => PersistentVolumeClaim,
    "persistentvolumes" => PersistentVolume,
    "poddisruptionbudgets.policy" => PodDisruptionBudget,
    "pods" => Pod,
    "priorityclasses.scheduling.k8s.io" => PriorityClass,
    "replicasets.apps" => ReplicaSet,
    "resourcequotas" => ResourceQuota,
    "rolebindings.rbac.authorization.k8s.io" => RoleBinding,
    "roles.rbac.authorization.k8s.io" => Role,
    "secrets" => Secret,
    "selfsubjectaccessreviews.authorization.k8s.io" => SelfSubjectAccessReview,
    "serviceaccounts" => ServiceAccount,
    "services" => Service,
    "statefulsets.apps" => StatefulSet,
    "storageclasses.storage.k8s.io" => StorageClass,
    "subjectaccessreviews.authorization.k8s.io" => SubjectAccessReview,
    "validatingadmissionpolicies.admissionregistration.k8s.io" => ValidatingAdmissionPolicy,
    "validatingadmissionpolicybindings.admissionregistration.k8s.io" => ValidatingAdmissionPolicyBinding,
    "validatingwebhookconfigurations.admissionregistration.k8s.io" => ValidatingWebhookConfiguration,
}

fn prune_as<T: DeserializeOwned + Serialize>(
    kind: &Kind,
    object: &mut Value,
) -> Result<Vec<String>, ApiError> {
    // Times that were never set arrive as null from some clients.
    drop_nulls(object);
    unwrap_lines(kind, object);
    let typed = T::deserialize(&*object).map_err(|error| wrong_type(kind, &error.to_string()))?;
    crate::api::quantities::check(object).map_err(|problem| wrong_type(kind, &problem))?;
    let known = serde_json::to_value(&typed).map_err(|e| ApiError::internal(&e.to_string()))?;
    let mut unknown = Vec::new();
    retain_known(object, &known, "", &mut unknown);
    Ok(unknown)
}

/// Base64 may have line breaks, as Go reads it, and is stored without.
fn unwrap_lines(kind: &Kind, object: &mut Value) {
    let field = match kind.resource.as_str() {
        "secrets" => "data",
        "configmaps" => "binaryData",
        _ => return,
    };
    let values = object.get_mut(field).and_then(Value::as_object_mut);
    for value in values.into_iter().flat_map(serde_json::Map::values_mut) {
        if let Some(text) = value.as_str().filter(|text| text.contains(['\r', '\n'])) {
            *value = json!(text.replace(['\r', '\n'], ""));
        }
    }
}

/// Errors: 400 when a field of the metadata has the wrong type.
pub(crate) fn check_metadata(kind: &Kind, object: &mut Value) -> Result<(), ApiError> {
    // A text that is null is an empty one.
    for field in ["labels", "annotations"] {
        for value in object["metadata"]
            .get_mut(field)
            .and_then(Value::as_object_mut)
            .into_iter()
            .flat_map(serde_json::Map::values_mut)
        {
            if value.is_null() {
                *value = json!("");
            }
        }
    }
    let mut metadata = object["metadata"].clone();
    drop_nulls(&mut metadata);
    serde_json::from_value::<ObjectMeta>(metadata)
        .map(drop)
        .map_err(|error| wrong_type(kind, &error.to_string()))
}

fn wrong_type(kind: &Kind, problem: &str) -> ApiError {
    ApiError::bad_request(&format!(
        "{k} in version \"{}\" cannot be handled as a {k}: json: {problem}",
        kind.version,
        k = kind.kind
    ))
}

/// An object without its nulls: for the server's types they are the same as nothing.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn retain_known(value: &mut Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (value, known) {
        (Value::Object(map), Value::Object(known)) => {
            map.retain(|name, value| {
                let ok = known.contains_key(name);
                if !ok && !value.is_null() {
                    unknown.push(child(path, name));
                }
                ok
            });
            for (name, value) in map.iter_mut() {
                if let Some(known) = known.get(name) {
                    retain_known(value, known, &child(path, name), unknown);
                }
            }
        }
        (Value::Array(items), Value::Array(known)) => {
            for (i, (item, known)) in items.iter_mut().zip(known).enumerate() {
                retain_known(item, known, &format!("{path}[{i}]"), unknown);
            }
        }
        _ => {}
    }
}
