//! The inverse of a change: a JSON patch (RFC 6902) that tests first that what was set is still there, so that the API server
//! itself refuses where somebody has changed it since.

use std::collections::BTreeSet;

use kubernaut_crds::{RecordedRollback, RecordedUndo};
use serde_json::{Map, Value, json};

/// Longest inverse, in bytes: as long as the parameters of an undo may be.
const INVERSE_MAX: usize = 200_000;

/// How an object stands to an inverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is as the inverse leaves it.
    AsBefore,
    /// It is as the inverse expects it.
    AsSet,
    /// It is neither: somebody has changed it since. In words.
    Changed(String),
}

/// What takes a change back, as the target is now. Part of a target is what the action changes of it; where it names fields of that,
/// the others are somebody else's.
pub(super) fn inverse_of(
    recorded: &RecordedRollback,
    object: &Value,
    named: Option<&Value>,
    part: impl Fn(&Value) -> Option<Value>,
) -> Option<RecordedUndo> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let uid = text(&object["metadata"]["uid"]);
    let api_version = text(&object["apiVersion"])?;
    if recorded.custom.is_some() {
        return Some(RecordedUndo {
            api_version,
            uid: Some(uid?),
            patch: None,
            delete: Some(true),
        });
    }
    let before = part(&recorded_object(recorded)?)?;
    let mut difference = Difference::default();
    difference.compare("", Some(&before), Some(&part(object)?), named);
    let Difference { mut tests, changes } = difference;
    if let Some(uid) = uid.as_ref().filter(|_| !changes.is_empty()) {
        tests.insert(0, json!({"op": "test", "path": "/metadata/uid", "value": uid}));
    }
    tests.extend(changes);
    let operations = tests;
    let patch = Value::Array(operations).to_string();
    (patch.len() <= INVERSE_MAX).then_some(RecordedUndo {
        api_version,
        uid,
        patch: Some(patch),
        delete: None,
    })
}

/// The state before as a piece of the object.
fn recorded_object(recorded: &RecordedRollback) -> Option<Value> {
    if let Some(scale) = &recorded.scale_to_previous {
        return Some(json!({"spec": {"replicas": scale.previous_replicas}}));
    }
    if recorded.uncordon_node.is_some() {
        return Some(json!({"spec": {}}));
    }
    if recorded.cordon_node.is_some() {
        return Some(json!({"spec": {"unschedulable": true}}));
    }
    let config = recorded.restore_previous_config.as_ref()?;
    let previous: Value = serde_json::from_str(&config.previous_spec).ok()?;
    // Of a workload that was scaled or patched, members of its spec; of one that was applied, the object.
    let is_spec = config.resource_kind != "ConfigMap" && previous.get("apiVersion").is_none();
    Some(if is_spec {
        json!({"spec": previous})
    } else {
        previous
    })
}

/// What stands under a key; a null is as good as nothing.
fn member<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// Tests of what is there, and changes to what was there before, where these differ.
#[derive(Debug, Default)]
struct Difference {
    tests: Vec<Value>,
    changes: Vec<Value>,
}

impl Difference {
    /// Compares what was with what is: of objects the members that are named, of lists of named objects those of the same names,
    /// and where nothing of that shape is named, all of it.
    fn compare(&mut self, path: &str, before: Option<&Value>, now: Option<&Value>, named: Option<&Value>) {
        match (before, now) {
            (None, None) => {}
            (Some(Value::Object(before)), Some(Value::Object(now))) => {
                let named = named.and_then(members_named);
                let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
                let keys = keys.into_iter();
                for key in keys.filter(|key| named.is_none_or(|named| named.contains_key(*key))) {
                    let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                    let named = named.and_then(|named| named.get(key));
                    self.compare(&path, member(before, key), member(now, key), named);
                }
            }
            (Some(Value::Array(before)), Some(Value::Array(now)))
                if before != now && have_same_names(before, now) =>
            {
                let named = named.and_then(elements_named);
                for (index, (before, now)) in before.iter().zip(now).enumerate() {
                    let of_name = |element: &&Value| element["name"] == now["name"];
                    let element = named.map(|named| named.iter().find(of_name));
                    let mut below = Self::default();
                    let path = format!("{path}/{index}");
                    match element {
                        Some(None) => {}
                        Some(Some(element)) => below.compare(&path, Some(before), Some(now), Some(element)),
                        None => below.compare(&path, Some(before), Some(now), None),
                    }
                    if !below.changes.is_empty() {
                        let name =
                            json!({"op": "test", "path": format!("{path}/name"), "value": now["name"]});
                        self.tests.push(name);
                        self.tests.extend(below.tests);
                        self.changes.extend(below.changes);
                    }
                }
            }
            (Some(before), Some(now)) if before == now => {}
            (Some(before), now) => {
                // A test of null holds where nothing is.
                self.tests.push(json!({"op": "test", "path": path, "value": now}));
                let op = if now.is_some() { "replace" } else { "add" };
                self.changes
                    .push(json!({"op": op, "path": path, "value": before}));
            }
            (None, Some(now)) => {
                self.tests.push(json!({"op": "test", "path": path, "value": now}));
                self.changes.push(json!({"op": "remove", "path": path}));
            }
        }
    }
}

/// The members of an object that are named; `None` where this names no members. Words to the API server may mean all of it.
fn members_named(named: &Value) -> Option<&Map<String, Value>> {
    let members = named.as_object()?;
    (!members.keys().any(|key| key.starts_with('$'))).then_some(members)
}

/// The elements of a list that are named by their names.
fn elements_named(named: &Value) -> Option<&Vec<Value>> {
    let elements = named.as_array()?;
    let is_plain = |element: &Value| element["name"].is_string() && members_named(element).is_some();
    elements.iter().all(is_plain).then_some(elements)
}

/// Lists of objects of the same names in the same order.
fn have_same_names(before: &[Value], now: &[Value]) -> bool {
    before.len() == now.len()
        && before
            .iter()
            .zip(now)
            .all(|(before, now)| before["name"].is_string() && before["name"] == now["name"])
}

/// How an object stands to an inverse.
///
/// # Errors
/// In words, where the text is no list of tests followed by changes.
pub(super) fn standing(object: &Value, patch: &str) -> Result<Standing, String> {
    let operations: Vec<Value> =
        serde_json::from_str(patch).map_err(|error| format!("is not JSON: {error}"))?;
    let mut changed = None;
    let mut is_before = true;
    for operation in &operations {
        let (Some(op), Some(path)) = (operation["op"].as_str(), operation["path"].as_str()) else {
            return Err("must be a list of operations, each with op and path".to_owned());
        };
        let found = object.pointer(path).unwrap_or(&Value::Null);
        match op {
            "test" if path == "/metadata/uid" && *found != operation["value"] => {
                return Ok(Standing::Changed("it is another object of its name".to_owned()));
            }
            "test" if *found != operation["value"] => {
                let words = || format!("{path} was set to {} and is {found} now", operation["value"]);
                changed = changed.or_else(|| Some(words()));
            }
            "test" => {}
            "add" | "replace" => is_before &= *found == operation["value"],
            "remove" => is_before &= found.is_null(),
            other => {
                return Err(format!(
                    "has the operation {other:?}; test, add, replace and remove are known"
                ));
            }
        }
    }
    Ok(match changed {
        _ if is_before => Standing::AsBefore,
        None => Standing::AsSet,
        Some(words) => Standing::Changed(words),
    })
}

/// The fields that a patch changes, in words.
pub(super) fn changes_in(patch: &str) -> String {
    let operations: Vec<Value> = serde_json::from_str(patch).unwrap_or_default();
    let words = operations.iter().filter_map(|operation| {
        let path = operation["path"]
            .as_str()?
            .trim_start_matches('/')
            .replace('/', ".");
        match operation["op"].as_str()? {
            "add" | "replace" => Some(format!("{path} back to {}", operation["value"])),
            "remove" => Some(format!("{path} away")),
            _ => None,
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use kubernaut_crds::{RecordedConfig, ScaleToPrevious};

    use super::*;

    fn operations(before: &Value, now: &Value) -> Value {
        operations_of(before, now, None)
    }

    fn operations_of(before: &Value, now: &Value, named: Option<&Value>) -> Value {
        let mut difference = Difference::default();
        difference.compare("", Some(before), Some(now), named);
        difference.tests.extend(difference.changes);
        Value::Array(difference.tests)
    }

    #[test]
    fn what_the_action_does_not_name_is_somebody_elses() {
        let object = |image: &str, sidecar: &str, annotation: Option<&str>| {
            json!({"template": {"metadata": {"annotations": {"theirs": annotation}}, "containers": [
                {"name": "a", "image": sidecar}, {"name": "b", "image": image}]}})
        };
        let named = json!({"template": {"containers": [{"name": "b", "image": "2"}]}});
        let (before, now) = (object("1", "x", None), object("2", "y", Some("1")));
        assert_eq!(
            operations_of(&before, &now, Some(&named)),
            json!([
                {"op": "test", "path": "/template/containers/1/name", "value": "b"},
                {"op": "test", "path": "/template/containers/1/image", "value": "2"},
                {"op": "replace", "path": "/template/containers/1/image", "value": "1"},
            ])
        );
        // What is no list of names, and words to the API server, stand for all of it.
        for named in [
            json!({"template": {"containers": true}}),
            json!({"template": {"containers": [{"image": "2"}]}}),
            json!({"template": {"containers": [{"name": "b", "$patch": "replace"}]}}),
        ] {
            let operations = operations_of(&before, &now, Some(&named));
            assert_eq!(operations.as_array().map(Vec::len), Some(6), "{operations}");
        }
        let all = operations_of(&before, &now, Some(&json!({"$retainKeys": []})));
        assert_eq!(all.as_array().map(Vec::len), Some(8), "{all}");
    }

    #[test]
    fn each_change_is_tested_before_any_is_taken_back() {
        let before = json!({"spec": {"replicas": 1, "gone": "x", "a/b": 1}});
        let now = json!({"spec": {"replicas": 3, "new": true, "a/b": 2}});
        assert_eq!(
            operations(&before, &now),
            json!([
                {"op": "test", "path": "/spec/a~1b", "value": 2},
                {"op": "test", "path": "/spec/gone", "value": null},
                {"op": "test", "path": "/spec/new", "value": true},
                {"op": "test", "path": "/spec/replicas", "value": 3},
                {"op": "replace", "path": "/spec/a~1b", "value": 1},
                {"op": "add", "path": "/spec/gone", "value": "x"},
                {"op": "remove", "path": "/spec/new"},
                {"op": "replace", "path": "/spec/replicas", "value": 1},
            ])
        );
        assert_eq!(operations(&now, &now), json!([]));
        // A null is as good as nothing.
        assert_eq!(operations(&json!({"a": null}), &json!({})), json!([]));
    }

    #[test]
    fn containers_are_taken_back_one_by_one_where_their_names_stand_as_they_stood() {
        let list = |image: &str, name: &str| json!({"c": [{"name": "a", "image": "x"}, {"name": name, "image": image}]});
        assert_eq!(
            operations(&list("1", "b"), &list("2", "b")),
            json!([
                {"op": "test", "path": "/c/1/name", "value": "b"},
                {"op": "test", "path": "/c/1/image", "value": "2"},
                {"op": "replace", "path": "/c/1/image", "value": "1"},
            ])
        );
        let whole = operations(&list("1", "b"), &list("1", "z"));
        assert_eq!(whole[0]["path"], "/c");
        assert_eq!(
            whole[1],
            json!({"op": "replace", "path": "/c", "value": list("1", "b")["c"]})
        );
    }

    #[test]
    fn an_object_is_as_before_as_set_or_changed_since() {
        let recorded = RecordedRollback {
            scale_to_previous: Some(ScaleToPrevious {
                namespace: "shop".to_owned(),
                deployment: "web".to_owned(),
                previous_replicas: 1,
            }),
            ..RecordedRollback::default()
        };
        let object = |uid: &str, replicas: i32| json!({"apiVersion": "apps/v1", "metadata": {"uid": uid}, "spec": {"replicas": replicas}});
        let part = |object: &Value| Some(json!({"spec": {"replicas": object["spec"]["replicas"]}}));
        let undo = inverse_of(&recorded, &object("u", 3), None, part).expect("an inverse");
        let patch = undo.patch.expect("a patch");
        assert_eq!(standing(&object("u", 3), &patch), Ok(Standing::AsSet));
        assert_eq!(standing(&object("u", 1), &patch), Ok(Standing::AsBefore));
        assert_eq!(
            standing(&object("u", 5), &patch),
            Ok(Standing::Changed(
                "/spec/replicas was set to 3 and is 5 now".to_owned()
            ))
        );
        assert!(matches!(
            standing(&object("v", 3), &patch),
            Ok(Standing::Changed(_))
        ));
        assert_eq!(changes_in(&patch), "spec.replicas back to 1");
        // It changed nothing.
        let undo = inverse_of(&recorded, &object("u", 1), None, part).expect("an inverse");
        assert_eq!(undo.patch.as_deref(), Some("[]"));
    }

    #[test]
    fn what_is_no_inverse_is_said_to_be_none() {
        for patch in [
            "{",
            "{}",
            "[1]",
            r#"[{"op": "move", "path": "/a", "from": "/b"}]"#,
        ] {
            assert!(standing(&json!({}), patch).is_err(), "{patch}");
        }
    }

    #[test]
    fn a_state_before_that_is_no_json_has_no_inverse() {
        let recorded = RecordedRollback {
            restore_previous_config: Some(RecordedConfig {
                resource_kind: "ConfigMap".to_owned(),
                previous_spec: "{".to_owned(),
                ..RecordedConfig::default()
            }),
            ..RecordedRollback::default()
        };
        assert_eq!(
            inverse_of(&recorded, &json!({"apiVersion": "v1"}), None, |o| Some(o.clone())),
            None
        );
    }
}
