//! Whether an object has what was applied.

use serde_json::Value;

/// Whether `object` has everything of `applied`: the server adds fields, also within the elements of lists.
///
/// Where it `took` the object, what it spells in its own way is the same: zero values that it leaves out, and quantities
/// in their canonical form (`1000m` comes back as `1`). Where it may not have, only what is literally there counts.
pub(crate) fn has_applied(object: &Value, applied: &Value, took: bool) -> bool {
    match (object, applied) {
        (Value::Object(object), Value::Object(applied)) => {
            applied.iter().all(|(key, wanted)| match object.get(key) {
                _ if wanted.is_null() => true,
                None | Some(Value::Null) => took && is_zero(wanted),
                Some(there) => has_applied(there, wanted, took),
            })
        }
        (Value::Array(object), Value::Array(applied)) => applied
            .iter()
            .all(|wanted| object.iter().any(|there| has_applied(there, wanted, took))),
        (there, wanted) => there == wanted || took && same_quantity(there, wanted),
    }
}

/// What Kubernetes' `omitempty` leaves out, and objects of nothing else.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.values().all(is_zero),
    }
}

fn same_quantity(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (quantity(one), quantity(other)) else {
        return false;
    };
    // Multiplying by a suffix rounds; the server itself keeps no more than nine digits after the point.
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}

/// The value of a quantity, as close as a comparison needs
/// (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).
fn quantity(value: &Value) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let Value::String(text) = value else {
        return value.as_f64();
    };
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
        .unwrap_or((text, 1.0));
    let good = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E');
    let number: f64 = number.chars().all(good).then(|| number.parse().ok())??;
    Some(number * factor)
}
