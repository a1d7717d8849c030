//! The CustomResourceDefinitions, made of the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{Approval, KubernetesExecution, WorkflowExecution, names};

/// The manifest of `WorkflowExecution`.
pub fn workflow_crd() -> CustomResourceDefinition {
    finished(WorkflowExecution::crd())
}

/// The manifest of `KubernetesExecution`.
pub fn execution_crd() -> CustomResourceDefinition {
    finished(KubernetesExecution::crd())
}

/// The manifest of `Approval`.
pub fn approval_crd() -> CustomResourceDefinition {
    finished(Approval::crd())
}

/// Every kind that is installed.
pub fn crds() -> [CustomResourceDefinition; 3] {
    [workflow_crd(), execution_crd(), approval_crd()]
}

/// A manifest as the committed file has it.
///
/// # Errors
/// When the serializer fails, which it does for no manifest made here.
pub fn manifest_yaml(crd: &CustomResourceDefinition) -> Result<String, Box<dyn std::error::Error>> {
    // Through a Value, so that keys stand in one order whatever the types do.
    let value = serde_json::to_value(crd)?;
    Ok(format!(
        "# Made by crdgen from crds/src: change the types, then run ./dev fix.\n{}",
        serde_saphyr::to_string(&value)?
    ))
}

fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata.labels = Some([("app.kubernetes.io/part-of".to_owned(), "kubernaut".to_owned())].into());
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
        {
            finish(schema);
            as_one_field(schema, &["status"]);
            if crd.spec.names.kind != names::WORKFLOW_KIND {
                as_one_field(schema, &["spec"]);
            }
            as_one_field(schema, &["spec", "workflowDefinition"]);
            as_one_field(schema, &["spec", "parameters"]);
        }
    }
    crd
}

/// Has the API server note one owner of all that is in this field, and not one of each of its parts: one writer writes all of it,
/// and the notes were as long as the object and read and written with it each time.
fn as_one_field(schema: &mut JSONSchemaProps, path: &[&str]) {
    let mut field = Some(schema);
    for name in path {
        field = field.and_then(|field| field.properties.as_mut()?.get_mut(*name));
    }
    if let Some(field) = field {
        field.x_kubernetes_map_type = Some("atomic".to_owned());
    }
}

/// Bounds every string, list and map that its type left open, and drops `nullable`: the API server then drops
/// nulls before it counts members, so that `{a: null}` is no member.
fn finish(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    // Formats of Rust's integers that Kubernetes does not know.
    match schema.type_.as_deref() {
        Some("string") if schema.enum_.is_none() => {
            let max = if schema.format.as_deref() == Some("date-time") {
                64
            } else {
                i64::try_from(names::TEXT_MAX).unwrap_or(i64::MAX)
            };
            schema.max_length.get_or_insert(max);
        }
        Some("array") => {
            schema.max_items.get_or_insert(100);
        }
        Some("object") if schema.properties.is_none() && schema.additional_properties.is_some() => {
            schema.max_properties.get_or_insert(100);
        }
        _ => {}
    }
    if schema.default.as_ref().is_some_and(|default| default.0.is_null()) {
        schema.default = None;
    }
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        finish(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => finish(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(finish),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        finish(values);
    }
}
