//! What has to be read, and what was.

use std::collections::BTreeMap;

use serde_json::Value;

/// Something to be read from the API server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    /// One object.
    Get {
        /// apiVersion, such as `apps/v1`.
        api_version: String,
        /// Kind.
        kind: String,
        /// Namespace; `None` for cluster-wide kinds.
        namespace: Option<String>,
        /// Name.
        name: String,
    },
    /// Objects of one kind.
    List {
        /// apiVersion, such as `apps/v1`.
        api_version: String,
        /// Kind.
        kind: String,
        /// Namespace; `None` for all.
        namespace: Option<String>,
        /// Label selector.
        label_selector: Option<String>,
        /// Field selector.
        field_selector: Option<String>,
        /// At most so many; all where it is `None`.
        limit: Option<u32>,
    },
}

impl Read {
    /// One object.
    pub fn get(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Self {
        Read::Get {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    /// Objects of one kind, by label.
    pub fn list(
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        label_selector: Option<&str>,
    ) -> Self {
        Read::List {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            label_selector: label_selector.map(str::to_owned),
            field_selector: None,
            limit: None,
        }
    }

    /// Pods of a namespace that match a selector and have not ended, at most so many; those on one node, where it is given.
    pub fn pods_of(namespace: &str, selector: &str, node: Option<&str>, limit: u32) -> Self {
        let unended = "status.phase!=Succeeded,status.phase!=Failed";
        let on = node.map_or_else(String::new, |node| format!(",spec.nodeName={node}"));
        Read::List {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: Some(namespace.to_owned()),
            label_selector: Some(selector.to_owned()),
            field_selector: Some(format!("{unended}{on}")),
            limit: Some(limit),
        }
    }

    /// Pods bound to a node, in all namespaces.
    pub fn pods_on(node: &str) -> Self {
        Read::List {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: None,
            label_selector: None,
            field_selector: Some(format!("spec.nodeName={node}")),
            limit: None,
        }
    }
}

/// The selector of a controller as the API takes it; `None` where it selects nothing.
pub fn selector_text(selector: &Value) -> Option<String> {
    let is_map = |value: &Value| {
        value
            .as_object()
            .is_some_and(|map| map.values().all(Value::is_string))
    };
    // That of a ReplicationController is a map of labels and nothing else.
    let labels = if is_map(selector) {
        selector
    } else {
        &selector["matchLabels"]
    };
    let equal = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let others = expressions.filter_map(|expression| {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        Some(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        })
    });
    let terms: Vec<String> = equal.chain(others).collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

/// What was read: each read that was asked for has its entry; a `Get` that found nothing has an empty one.
pub type ReadResults = BTreeMap<Read, Vec<Value>>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_expressions_both_select() {
        let selector = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "zone", "operator": "NotIn", "values": ["x"]},
                {"key": "new", "operator": "Exists"},
            ],
        });
        assert_eq!(
            selector_text(&selector).as_deref(),
            Some("app=web,tier in (a,b),!old,zone notin (x),new")
        );
        assert_eq!(selector_text(&json!({"app": "web"})).as_deref(), Some("app=web"));
        assert_eq!(selector_text(&json!({})), None);
    }
}
