//! Quantities as Kubernetes writes them: `500m`, `1.5Gi`, `12e6`.

use serde_json::Value;

/// Suffixes, and what they multiply by.
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

/// The quantity in its unit: cores, bytes, pods. 0 where there is none, or none that can be read: the API server takes no
/// others.
pub(crate) fn quantity(value: &Value) -> f64 {
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Number(number) => return number.as_f64().unwrap_or(0.0),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return 0.0,
    };
    let suffix = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (digits, factor) = suffix.map_or((text, 1.0), |(suffix, factor)| {
        (text.strip_suffix(suffix).unwrap_or(text), *factor)
    });
    let number: f64 = digits.parse().unwrap_or(0.0);
    if number.is_finite() { number * factor } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_server_reads_them() {
        for (text, wanted) in [
            (json!("500m"), 0.5),
            (json!("2"), 2.0),
            (json!(2), 2.0),
            (json!("64Mi"), 67_108_864.0),
            (json!("1.5Gi"), 1_610_612_736.0),
            (json!("12e6"), 12e6),
            (json!("12E6"), 12e6),
            (json!("3E"), 3e18),
            (json!("129M"), 129e6),
            (json!("100k"), 1e5),
            (json!("250000000n"), 0.25),
            (json!("inf"), 0.0),
            (json!("much"), 0.0),
            (json!(null), 0.0),
        ] {
            let read = quantity(&text);
            assert!((read - wanted).abs() <= wanted * 1e-9, "{text}: {read}");
        }
    }
}
