//! What policies are told of a target.

use kubernaut_crds::TargetRef;
use serde_json::{Map, Value, json};

/// What policies can know of a target: few fields, by their names in the objects. A ConfigMap shows its keys, and of an object of
/// any other kind it shows that it is there.
pub(crate) fn state_of(target: &TargetRef, object: Option<&Value>, was_read: bool) -> Value {
    let mut state = Map::new();
    let Some(object) = object else {
        // A Secret is never read, and of several pods there is no one target.
        if was_read {
            state.insert("exists".to_owned(), json!(false));
        }
        return Value::Object(state);
    };
    let mut note = |name: &str, value: Value| state.insert(name.to_owned(), value);
    let labels = &object["metadata"]["labels"];
    note("exists", json!(true));
    note(
        "labels",
        if labels.is_object() {
            labels.clone()
        } else {
            json!({})
        },
    );
    let number = |value: &Value, default: i64| json!(value.as_i64().unwrap_or(default));
    let (spec, status) = (&object["spec"], &object["status"]);
    match target.kind.as_str() {
        "Deployment" | "StatefulSet" => {
            note("replicas", number(&spec["replicas"], 1));
            note("paused", json!(spec["paused"] == true));
            for count in ["readyReplicas", "availableReplicas", "updatedReplicas"] {
                note(count, number(&status[count], 0));
            }
        }
        "Node" => {
            note("unschedulable", json!(spec["unschedulable"] == true));
            note("ready", json!(is_ready(status)));
        }
        "Pod" => {
            note("phase", status["phase"].clone());
            note("ready", json!(is_ready(status)));
            note("nodeName", spec["nodeName"].clone());
        }
        "ConfigMap" => {
            let keys = object["data"].as_object().map(Map::keys);
            note("keys", json!(keys.into_iter().flatten().collect::<Vec<_>>()));
        }
        _ => {}
    }
    Value::Object(state)
}

fn is_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
