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
        }
    }
}

/// What was read: each read that was asked for has its entry; a `Get` that found nothing has an empty one.
pub type Facts = BTreeMap<Read, Vec<Value>>;
