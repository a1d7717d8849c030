//! The kinds that applyManifest may apply, and how one document is read.

use kubernaut_crds::names;
use serde_json::Value;

use crate::Settings;
use crate::yaml::{self, Limits};

/// The largest objects that people write have a few thousand values; a text of 256 KiB can hold a hundred thousand, and each costs
/// time and memory that are everybody's. None of what aliases make of a few lines.
const LIMITS: Limits = Limits {
    values: 10_000,
    copies: 0,
};

/// A kind of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct ManifestKind {
    /// API group; empty for the core one.
    pub group: &'static str,
    /// Versions of the group that serve the kind, the preferred one first.
    pub versions: &'static [&'static str],
    /// Kind.
    pub kind: &'static str,
    /// Resource in the plural.
    pub plural: &'static str,
}

impl ManifestKind {
    /// Every apiVersion that a manifest of this kind may carry, such as `apps/v1`.
    pub fn api_versions(&self) -> Vec<String> {
        let of_group = |version: &&str| match self.group {
            "" => (*version).to_owned(),
            group => format!("{group}/{version}"),
        };
        self.versions.iter().map(of_group).collect()
    }
}

/// Kinds that may be named in --apply-manifest-kinds. Never here, whatever the flag says: Secret, ServiceAccount,
/// RBAC, CRDs, admission, our own kinds, and what is not namespaced (docs/actions.md).
const KINDS: [ManifestKind; 15] = [
    ManifestKind {
        group: "",
        versions: &["v1"],
        kind: "ConfigMap",
        plural: "configmaps",
    },
    ManifestKind {
        group: "",
        versions: &["v1"],
        kind: "Service",
        plural: "services",
    },
    ManifestKind {
        group: "",
        versions: &["v1"],
        kind: "Pod",
        plural: "pods",
    },
    ManifestKind {
        group: "",
        versions: &["v1"],
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
    },
    ManifestKind {
        group: "",
        versions: &["v1"],
        kind: "ResourceQuota",
        plural: "resourcequotas",
    },
    ManifestKind {
        group: "",
        versions: &["v1"],
        kind: "LimitRange",
        plural: "limitranges",
    },
    ManifestKind {
        group: "apps",
        versions: &["v1"],
        kind: "Deployment",
        plural: "deployments",
    },
    ManifestKind {
        group: "apps",
        versions: &["v1"],
        kind: "StatefulSet",
        plural: "statefulsets",
    },
    ManifestKind {
        group: "apps",
        versions: &["v1"],
        kind: "DaemonSet",
        plural: "daemonsets",
    },
    ManifestKind {
        group: "batch",
        versions: &["v1"],
        kind: "Job",
        plural: "jobs",
    },
    ManifestKind {
        group: "batch",
        versions: &["v1"],
        kind: "CronJob",
        plural: "cronjobs",
    },
    ManifestKind {
        group: "autoscaling",
        versions: &["v2", "v1"],
        kind: "HorizontalPodAutoscaler",
        plural: "horizontalpodautoscalers",
    },
    ManifestKind {
        group: "networking.k8s.io",
        versions: &["v1"],
        kind: "NetworkPolicy",
        plural: "networkpolicies",
    },
    ManifestKind {
        group: "networking.k8s.io",
        versions: &["v1"],
        kind: "Ingress",
        plural: "ingresses",
    },
    ManifestKind {
        group: "policy",
        versions: &["v1"],
        kind: "PodDisruptionBudget",
        plural: "poddisruptionbudgets",
    },
];

/// The kinds that the flag allows, written `ConfigMap` or `apps/Deployment`; what the table does not know is left out.
pub fn allowed_kinds(settings: &Settings) -> Vec<&'static ManifestKind> {
    KINDS
        .iter()
        .filter(|known| {
            settings
                .apply_manifest_kinds
                .iter()
                .any(|text| match text.rsplit_once('/') {
                    Some((group, kind)) => group == known.group && kind == known.kind,
                    None => *text == known.kind,
                })
        })
        .collect()
}

/// A kind of the table.
pub(crate) fn known_kind(group: &str, kind: &str) -> Option<&'static ManifestKind> {
    KINDS
        .iter()
        .find(|known| known.group == group && known.kind == kind)
}

/// A kind of the table by its name alone, however its letters are written.
pub(crate) fn known_kind_of(kind: &str) -> Option<&'static ManifestKind> {
    KINDS.iter().find(|known| known.kind.eq_ignore_ascii_case(kind))
}

/// A kind of the table, when the flag allows it.
pub(crate) fn allowed_kind(group: &str, kind: &str, settings: &Settings) -> Option<&'static ManifestKind> {
    allowed_kinds(settings)
        .into_iter()
        .find(|known| known.group == group && known.kind == kind)
}

/// All that could be named in the flag.
pub fn known_kinds() -> Vec<String> {
    KINDS.iter().map(|known| known.kind.to_owned()).collect()
}

/// What is wrong with an entry of --apply-manifest-kinds; `None` when it is known.
pub fn check_kind(text: &str) -> Option<String> {
    let settings = Settings {
        apply_manifest_kinds: vec![text.to_owned()],
        ..Settings::default()
    };
    if !allowed_kinds(&settings).is_empty() {
        return None;
    }
    let known: Vec<&str> = KINDS.iter().map(|kind| kind.kind).collect();
    Some(format!(
        "{text:?} can't be applied: known are {}",
        known.join(", ")
    ))
}

/// One document, as far as decisions depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedManifest {
    /// apiVersion.
    pub api_version: String,
    /// API group; empty for the core one.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The whole object.
    pub object: Value,
}

impl ParsedManifest {
    /// The entry of --apply-manifest-kinds that stands for its kind.
    pub fn entry(&self) -> String {
        match self.group.as_str() {
            "" => self.kind.clone(),
            group => format!("{group}/{}", self.kind),
        }
    }
}

/// Reads the one document of an applyManifest. Its cost is bounded by the length of the text: an alias stands for
/// another part of the document, and a kilobyte of them for millions of values, so there are none.
pub fn parse_manifest(text: &str) -> Result<ParsedManifest, String> {
    if text.len() > names::SPEC_MAX_BYTES {
        return Err(format!(
            "manifest has {} bytes; at most {} are read",
            text.len(),
            names::SPEC_MAX_BYTES
        ));
    }
    let documents =
        yaml::documents(text, LIMITS).map_err(|error| format!("manifest is not YAML: {error}"))?;
    let mut documents = documents
        .into_iter()
        .map(yaml::Node::into_value)
        .filter(|document| !document.is_null());
    let (Some(object), None) = (documents.next(), documents.next()) else {
        return Err("manifest must be exactly one document".to_owned());
    };
    if !object["items"].is_null() {
        // kubectl takes any object with items for a list, and applies the items, whatever its own kind and name say.
        return Err("manifest must be one object, not a list: it has items".to_owned());
    }
    let text = |field: &str, value: &Value| match value {
        Value::Null => Err(format!("manifest has no {field}")),
        Value::String(text) if text.is_empty() => Err(format!("manifest has no {field}")),
        Value::String(text) => Ok(text.clone()),
        // `y` and `on` are booleans for some, `1` is a number for all.
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Err(format!(
            "{field} is {other}, which is no text: write it in quotes"
        )),
    };
    let api_version = text("apiVersion", &object["apiVersion"])?;
    let kind = text("kind", &object["kind"])?;
    if kind.ends_with("List") {
        return Err(format!("manifest must be one object, not a {kind}"));
    }
    Ok(ParsedManifest {
        group: api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
            .to_owned(),
        kind,
        namespace: text("metadata.namespace", &object["metadata"]["namespace"])?,
        name: text("metadata.name", &object["metadata"]["name"])?,
        api_version,
        object,
    })
}
