//! Whether an object has what was applied.

use serde_json::Value;

/// Whether `object` has everything of `applied`: the server adds fields, also within the elements of lists.
///
/// Where it `took` the object, what it spells in its own way is the same: zero values that it leaves out, and quantities
/// in their canonical form (`1000m` comes back as `1`). Where it may not have, only what is literally there counts.
///
/// What is too large to compare is taken to be there where the server took it, and not to be there where it may not have.
pub(crate) fn has_applied(object: &Value, applied: &Value, took: bool) -> bool {
    Comparison { took, left: WORK_MAX }
        .has(object, applied)
        .unwrap_or(took)
}

/// The first field of a patch, of whatever type, that an object has not, as a path: the API server drops fields that it does not know
/// without a failure. A field that has another value is not told: somebody may have changed it since.
pub(crate) fn first_dropped(object: &Value, patch: &Value) -> Option<String> {
    let mut left = WORK_MAX;
    match patch.as_array() {
        Some(operations) => operations
            .iter()
            .find_map(|operation| added_and_dropped(object, operation, operations)),
        None => dropped(object, patch, &mut left),
    }
}

/// What an operation of a JSON patch added, where no other one may have moved it.
fn added_and_dropped(object: &Value, operation: &Value, operations: &[Value]) -> Option<String> {
    let adds = |operation: &Value| matches!(operation["op"].as_str(), Some("add" | "replace" | "test"));
    let path = operation["path"].as_str()?.strip_prefix('/')?;
    let (parent, last) = path.rsplit_once('/')?;
    let parent = object.pointer(&format!("/{parent}"))?.as_object()?;
    let key = last.replace("~1", "/").replace("~0", "~");
    let dropped = operations.iter().all(adds)
        && !operation.get("value").is_none_or(is_zero)
        && !parent.contains_key(&key);
    dropped.then(|| path.replace('/', "."))
}

fn dropped(object: &Value, patch: &Value, left: &mut u32) -> Option<String> {
    *left = left.checked_sub(1)?;
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => patch
            .iter()
            // Of a strategic patch, words to the API server; a null takes a field away, and zero values are left out.
            .filter(|(key, wanted)| !key.starts_with('$') && !is_zero(wanted))
            .find_map(|(key, wanted)| match object.get(key) {
                None => Some(key.clone()),
                Some(there) => dropped(there, wanted, left).map(|rest| match rest.strip_prefix('[') {
                    Some(_) => format!("{key}{rest}"),
                    None => format!("{key}.{rest}"),
                }),
            }),
        // Elements without a name, and those that are not there, may have been put where they are by other rules.
        (Value::Array(object), Value::Array(patch)) => patch.iter().find_map(|wanted| {
            let name = wanted.get("name").and_then(Value::as_str)?;
            let there = object.iter().find(|there| there["name"] == name)?;
            dropped(there, wanted, left).map(|rest| format!("[{name}].{rest}"))
        }),
        _ => None,
    }
}

/// Values that are compared at most: lists whose elements the server keeps in another order are compared each with each, and that
/// is squared with each list within. So many take some ten milliseconds.
const WORK_MAX: u32 = 200_000;

struct Comparison {
    took: bool,
    left: u32,
}

impl Comparison {
    /// `None` when it is too much.
    fn has(&mut self, object: &Value, applied: &Value) -> Option<bool> {
        self.left = self.left.checked_sub(1)?;
        Some(match (object, applied) {
            (Value::Object(object), Value::Object(applied)) => {
                for (key, wanted) in applied {
                    let there = match object.get(key) {
                        _ if wanted.is_null() => true,
                        None | Some(Value::Null) => self.took && is_zero(wanted),
                        Some(there) => self.has(there, wanted)?,
                    };
                    if !there {
                        return Some(false);
                    }
                }
                true
            }
            (Value::Array(object), Value::Array(applied)) => {
                for (index, wanted) in applied.iter().enumerate() {
                    if !self.has_element(object, index, wanted)? {
                        return Some(false);
                    }
                }
                true
            }
            (there, wanted) => there == wanted || self.took && same_quantity(there, wanted),
        })
    }

    /// Mostly it stands where it stood.
    fn has_element(&mut self, list: &[Value], index: usize, wanted: &Value) -> Option<bool> {
        let at = list.get(index);
        let others = list.iter().enumerate().filter(|(other, _)| *other != index);
        for there in at.into_iter().chain(others.map(|(_, there)| there)) {
            if self.has(there, wanted)? {
                return Some(true);
            }
        }
        Some(false)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_list_in_its_order_is_compared_in_one_pass_and_in_another_order_found_all_the_same() {
        let list = |numbers: &mut dyn Iterator<Item = u32>| -> Value {
            numbers.map(|n| json!({"name": n})).collect()
        };
        let long = list(&mut (0..30_000));
        assert!(has_applied(&long, &long, false));
        let short = list(&mut (0..100));
        assert!(has_applied(&short, &list(&mut (0..100).rev()), false));
        assert!(!has_applied(&short, &list(&mut (0..101)), true));
    }

    #[test]
    fn a_field_of_a_patch_that_is_not_there_afterwards_is_named() {
        let object = json!({"spec": {"replicas": 3, "template": {"spec": {"containers": [
            {"name": "log", "image": "log:1"}, {"name": "server", "image": "server:2"}]}}}});
        let container = |fields: Value| json!({"spec": {"template": {"spec": {"containers": [fields]}}}});
        let dropped = |patch: Value| first_dropped(&object, &patch);
        assert_eq!(
            dropped(container(
                json!({"name": "server", "resourcs": {"limits": {"cpu": "1"}}})
            ))
            .as_deref(),
            Some("spec.template.spec.containers[server].resourcs")
        );
        assert_eq!(
            dropped(json!({"spec": {"replica": 4}})).as_deref(),
            Some("spec.replica")
        );
        assert_eq!(
            dropped(
                json!([{"op": "add", "path": "/spec/template/spec/containers/1/resourcs", "value": {"a": 1}}])
            )
            .as_deref(),
            Some("spec.template.spec.containers.1.resourcs")
        );
        for nothing in [
            json!([{"op": "add", "path": "/spec/x", "value": 1}, {"op": "remove", "path": "/spec/x"}]),
            json!([{"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "new"}}]),
            json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]),
            container(json!({"name": "server", "image": "server:2"})),
            // Somebody else was faster.
            container(json!({"name": "server", "image": "server:9"})),
            container(json!({"name": "old", "$patch": "delete"})),
            json!({"spec": {"paused": null, "minReadySeconds": 0, "$setElementOrder/a": ["b"]}}),
            json!({"spec": {"template": {"spec": {"hostNetwork": false, "nodeSelector": {}}}}}),
            json!("text"),
        ] {
            assert_eq!(dropped(nothing.clone()), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_too_large_to_compare_is_there_only_where_the_server_took_it() {
        // Nested, so that each level squares the work.
        let list = |depth: u32, last: &str| (0..depth).fold(json!(last), |inner, _| json!(vec![inner; 24]));
        let (there, wanted) = (list(4, "a"), list(4, "b"));
        assert!(!has_applied(&there, &wanted, false));
        assert!(has_applied(&there, &wanted, true));
    }
}
