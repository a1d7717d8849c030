//! The two versions of a HorizontalPodAutoscaler, which are one stored object: that of v2.

use serde_json::{Value, json};

use crate::api::rules::{one_of, positive};
use crate::api::status::FieldError;

/// What the first version can't say, it keeps in an annotation.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CPU: &str = "targetCPUUtilizationPercentage";

/// An object of v1 in the form of v2.
pub(crate) fn to_v2(mut object: Value) -> Value {
    object["apiVersion"] = json!("autoscaling/v2");
    let kept = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
        .and_then(|annotations| annotations.remove(METRICS));
    let others: Option<Vec<Value>> = kept
        .as_ref()
        .and_then(|text| serde_json::from_str(text.as_str()?).ok());
    let mut metrics = others.unwrap_or_default();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(percent) = spec.remove(CPU)
    {
        metrics.push(cpu(&percent));
        spec.insert("metrics".to_owned(), json!(metrics));
    } else if !metrics.is_empty() {
        object["spec"]["metrics"] = json!(metrics);
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("currentCPUUtilizationPercentage");
    }
    object
}

/// A stored object in the form of v1.
pub(crate) fn to_v1(mut object: Value) -> Value {
    object["apiVersion"] = json!("autoscaling/v1");
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return object;
    };
    spec.remove("behavior");
    let metrics = spec.remove("metrics").unwrap_or_default();
    let metrics = metrics.as_array().cloned().unwrap_or_default();
    let (of_cpu, others): (Vec<Value>, Vec<Value>) = metrics.into_iter().partition(|metric| {
        metric["resource"]["name"] == "cpu" && metric["resource"]["target"]["type"] == "Utilization"
    });
    if let Some(metric) = of_cpu.first() {
        let percent = metric["resource"]["target"]["averageUtilization"].clone();
        spec.insert(CPU.to_owned(), percent);
    }
    if !others.is_empty() {
        object["metadata"]["annotations"][METRICS] = json!(json!(others).to_string());
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        for field in ["currentMetrics", "conditions"] {
            status.remove(field);
        }
    }
    object
}

fn cpu(percent: &Value) -> Value {
    json!({
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
    })
}

/// What is wrong with the spec of one.
pub(crate) fn rules(spec: &Value, errors: &mut Vec<FieldError>) {
    let none = json!(0);
    let (least, most) = (&spec["minReplicas"], &spec["maxReplicas"]);
    let most = if most.is_null() { &none } else { most };
    if least.as_i64().is_some_and(|replicas| replicas < 1) {
        errors.push(FieldError::invalid(
            "spec.minReplicas",
            least,
            "must be greater than or equal to 1",
        ));
    }
    positive(most, "spec.maxReplicas", errors);
    let (low, high) = (least.as_i64().unwrap_or(1), most.as_i64().unwrap_or(0));
    if high < low {
        errors.push(FieldError::invalid(
            "spec.maxReplicas",
            most,
            "must be greater than or equal to `minReplicas`",
        ));
    }
    for field in ["kind", "name"] {
        if spec["scaleTargetRef"][field].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(&format!("spec.scaleTargetRef.{field}"), ""));
        }
    }
    for (i, metric) in spec["metrics"].as_array().into_iter().flatten().enumerate() {
        metric_rules(metric, &format!("spec.metrics[{i}]"), errors);
    }
}

/// The sources of metrics by type: their member, and the types of targets that they have.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

fn metric_rules(metric: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let Some((_, member)) = SOURCES.iter().find(|(kind, _)| metric["type"] == *kind) else {
        let known = SOURCES.map(|(kind, _)| kind);
        if metric["type"].as_str().is_none_or(str::is_empty) {
            let why = "must specify a metric source type";
            errors.push(FieldError::required(&format!("{at}.type"), why));
        } else {
            one_of(&metric["type"], &known, &format!("{at}.type"), errors);
        }
        return;
    };
    let (source, at) = (&metric[member], format!("{at}.{member}"));
    if !source.is_object() {
        let why = "must populate information for the given metric source";
        errors.push(FieldError::required(&at, why));
        return;
    }
    let named = if member.ends_with("esource") {
        (&source["name"], format!("{at}.name"))
    } else {
        (&source["metric"]["name"], format!("{at}.metric.name"))
    };
    if named.0.as_str().is_none_or(str::is_empty) {
        errors.push(FieldError::required(&named.1, "must specify a resource name"));
    }
    let (target, at) = (&source["target"], format!("{at}.target"));
    one_of(
        &target["type"],
        &["AverageValue", "Utilization", "Value"],
        &format!("{at}.type"),
        errors,
    );
    positive(
        &target["averageUtilization"],
        &format!("{at}.averageUtilization"),
        errors,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_version_says_the_other_says_too() {
        let v1 = json!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, CPU: 80},
        });
        let v2 = to_v2(v1.clone());
        assert_eq!(v2["spec"]["metrics"], json!([cpu(&json!(80))]));
        assert_eq!(v2["spec"].get(CPU), None);
        assert_eq!(to_v1(v2.clone()), v1);
        let mut more = v2;
        more["spec"]["metrics"] = json!([{"type": "Pods"}, cpu(&json!(5))]);
        let shown = to_v1(more.clone());
        assert_eq!(shown["spec"][CPU], 5);
        let mut back = to_v2(shown);
        back["metadata"]
            .as_object_mut()
            .expect("metadata")
            .remove("annotations");
        assert_eq!(back, more);
    }
}
