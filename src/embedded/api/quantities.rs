//! Amounts such as `500m` and `2Gi`: where they stand in objects, and what they look like.

use serde_json::Value;

const FORM: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The first amount that is none, in the words of the server.
pub(crate) fn check(object: &Value) -> Result<(), String> {
    let spec = &object["spec"];
    for pod in [
        spec,
        &spec["template"]["spec"],
        &spec["jobTemplate"]["spec"]["template"]["spec"],
    ] {
        check_pod(pod)?;
    }
    for claim in spec["volumeClaimTemplates"].as_array().into_iter().flatten() {
        check_resources(&claim["spec"]["resources"])?;
    }
    check_resources(&spec["resources"])?;
    for amounts in [&spec["hard"], &spec["capacity"]] {
        check_all(amounts)?;
    }
    for limit in spec["limits"].as_array().into_iter().flatten() {
        for field in ["min", "max", "default", "defaultRequest", "maxLimitRequestRatio"] {
            check_all(&limit[field])?;
        }
    }
    for metric in spec["metrics"].as_array().into_iter().flatten() {
        for target in metric.as_object().into_iter().flat_map(|metric| metric.values()) {
            check_all(&target["target"])?;
        }
    }
    Ok(())
}

fn check_pod(spec: &Value) -> Result<(), String> {
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            check_resources(&container["resources"])?;
        }
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        check_one(&volume["emptyDir"]["sizeLimit"])?;
        check_resources(&volume["ephemeral"]["volumeClaimTemplate"]["spec"]["resources"])?;
    }
    check_all(&spec["overhead"])
}

fn check_resources(resources: &Value) -> Result<(), String> {
    check_all(&resources["requests"])?;
    check_all(&resources["limits"])
}

/// Of a metric's target, only what is an amount.
fn check_all(amounts: &Value) -> Result<(), String> {
    amounts
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !matches!(name.as_str(), "type" | "averageUtilization"))
        .try_for_each(|(_, amount)| check_one(amount))
}

fn check_one(amount: &Value) -> Result<(), String> {
    match amount {
        Value::String(text) if !is_quantity(text) => Err(FORM.to_owned()),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => Ok(()),
    }
}

/// A number with a suffix of the decimal or the binary kind, or an exponent.
fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let is_number = number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() <= 1;
    let suffixes = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let is_exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    is_number && (suffixes.contains(&suffix) || is_exponent)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_those_of_the_api_server() {
        for good in [
            "1", "+1", "-1", "0.5", ".5", "5.", "500m", "2Gi", "1e3", "1E-3", "12E", "1k",
        ] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "2GiB", "2gb", "1.2.3", "e3", "1e", "1 Gi", "Gi", "1K", "one"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }

    #[test]
    fn they_are_found_wherever_pods_and_claims_say_them() {
        let bad = json!({"memory": "2GiB"});
        for object in [
            json!({"spec": {"containers": [{"resources": {"limits": bad}}]}}),
            json!({"spec": {"template": {"spec": {"initContainers": [{"resources": {"requests": bad}}]}}}}),
            json!({"spec": {"template": {"spec": {"volumes": [{"emptyDir": {"sizeLimit": "x"}}]}}}}),
            json!({"spec": {"volumeClaimTemplates": [{"spec": {"resources": {"requests": bad}}}]}}),
            json!({"spec": {"hard": bad}}),
            json!({"spec": {"limits": [{"max": bad}]}}),
            json!({"spec": {"metrics": [{"resource": {"target": {"type": "Value", "value": "2GiB"}}}]}}),
        ] {
            assert_eq!(check(&object), Err(FORM.to_owned()), "{object}");
        }
        assert_eq!(
            check(&json!({"spec": {"containers": [{"resources": {"limits": {"cpu": 1}}}]}})),
            Ok(())
        );
    }
}
