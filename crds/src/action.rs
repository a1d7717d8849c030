//! Parameters of actions in the executor's terms: those of a KubernetesExecution.

use std::collections::BTreeMap;
use std::fmt;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::parameters::{PatchDeployment, ScaleDeployment, ScaleStatefulSet};

/// The number of populated members of a parameter union was not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOneMember {
    /// The populated members, as they are spelled in YAML; empty when there was none.
    pub found: Vec<&'static str>,
}

impl fmt::Display for NotOneMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.found.is_empty() {
            write!(f, "parameters has no known member; exactly one is needed")
        } else {
            write!(
                f,
                "parameters has {} members ({}); exactly one is needed",
                self.found.len(),
                self.found.join(", ")
            )
        }
    }
}

impl std::error::Error for NotOneMember {}

/// A union is a struct of optional members on the wire (a structural schema knows no other) and an enum inside.
macro_rules! union {
    ($(#[$doc:meta])* $wire:ident => $inside:ident { $($field:ident $spelling:literal => $variant:ident($params:ty)),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $inside { $(
            #[doc = concat!("`", $spelling, "`")]
            $variant($params)
        ),* }

        impl TryFrom<$wire> for $inside {
            type Error = NotOneMember;

            fn try_from(wire: $wire) -> Result<Self, NotOneMember> {
                let mut found = Vec::new();
                let mut member = None;
                $(if let Some(params) = wire.$field {
                    found.push($spelling);
                    member = Some($inside::$variant(params));
                })*
                match member {
                    Some(member) if found.len() == 1 => Ok(member),
                    _ => Err(NotOneMember { found }),
                }
            }
        }

        impl From<$inside> for $wire {
            fn from(inside: $inside) -> Self {
                let mut wire = $wire::default();
                match inside { $($inside::$variant(params) => wire.$field = Some(params)),* }
                wire
            }
        }

        impl $inside {
            /// Every member there is, as it is spelled in YAML.
            pub const MEMBERS: &[&str] = &[$($spelling),*];

            /// The member's spelling in YAML.
            pub fn member(&self) -> &'static str {
                match self { $($inside::$variant(_) => $spelling),* }
            }
        }
    };
}
pub(crate) use union;

/// What an action needs to know, in the executor's terms: exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionParameters {
    /// Set the number of replicas of a Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_deployment: Option<ScaleDeployment>,
    /// Addition. Set the number of replicas of a StatefulSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_stateful_set: Option<ScaleStatefulSet>,
    /// Start new pods of a Deployment by its own rollout strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_restart: Option<RolloutRestart>,
    /// Delete pods: one by name, or those of a selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_pod: Option<DeletePod>,
    /// Patch a Deployment with a patch of the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_deployment: Option<PatchDeployment>,
    /// Keep new pods off a node; those that are there stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon_node: Option<NodeAction>,
    /// Let new pods onto a node again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncordon_node: Option<NodeAction>,
    /// Cordon a node and evict the pods that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_node: Option<DrainNode>,
    /// Set keys of a ConfigMap and leave the others as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_config_map: Option<UpdateConfigMap>,
    /// Set keys of a Secret and leave the others as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_secret: Option<UpdateSecret>,
    /// Apply one manifest by server-side apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply_manifest: Option<ApplyManifest>,
    /// Addition, made by the controller only. Take back what an action did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
}

union!(
    /// The one member of [`ActionParameters`].
    ActionParameters => Action {
        scale_deployment "scaleDeployment" => ScaleDeployment(ScaleDeployment),
        scale_stateful_set "scaleStatefulSet" => ScaleStatefulSet(ScaleStatefulSet),
        rollout_restart "rolloutRestart" => RolloutRestart(RolloutRestart),
        delete_pod "deletePod" => DeletePod(DeletePod),
        patch_deployment "patchDeployment" => PatchDeployment(PatchDeployment),
        cordon_node "cordonNode" => CordonNode(NodeAction),
        uncordon_node "uncordonNode" => UncordonNode(NodeAction),
        drain_node "drainNode" => DrainNode(DrainNode),
        update_config_map "updateConfigMap" => UpdateConfigMap(UpdateConfigMap),
        update_secret "updateSecret" => UpdateSecret(UpdateSecret),
        apply_manifest "applyManifest" => ApplyManifest(ApplyManifest),
        undo "undo" => Undo(Undo),
    }
);

/// Start new pods of a Deployment, by its own rollout strategy.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRestart {
    /// The namespace of the Deployment.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// The name of the Deployment.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub deployment: String,
}

/// Delete one pod by name, or evict those of a selector one after the other.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletePod {
    /// The namespace of the pods.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// The name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub pod: Option<String>,
    /// Addition. The label selector of the pods, such as `app=web,tier!=cache`; at most 20 pods may match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub label_selector: Option<String>,
    /// Addition, with `labelSelector`. Only the pods on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub node_name: Option<String>,
    /// The seconds that a pod gets to end by itself, 0 to 3600; absent keeps the pod's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub grace_period_seconds: Option<i64>,
}

/// How a patch is meant: strategic, merge or json.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PatchType {
    /// Lists are merged by their keys.
    Strategic,
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
}

impl PatchType {
    /// As kubectl's `--type` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            PatchType::Strategic => "strategic",
            PatchType::Merge => "merge",
            PatchType::Json => "json",
        }
    }
}

/// A node that an action is for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAction {
    /// The name of the node.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub node: String,
}

/// Cordon a node and evict the pods that are there.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainNode {
    /// The name of the node.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub node: String,
    /// The seconds that a pod gets to end by itself, 0 to 3600.
    #[serde(default = "default_drain_grace")]
    #[schemars(range(min = 0, max = 3600))]
    pub grace_period_seconds: i64,
    /// Whether pods are evicted that no controller brings back.
    #[serde(default)]
    pub force: bool,
    /// Whether pods of DaemonSets are passed over; without it one of them stops the drain.
    #[serde(default)]
    pub ignore_daemon_sets: bool,
    /// Whether pods are evicted that lose the data of an emptyDir.
    #[serde(default)]
    pub delete_local_data: bool,
}

fn default_drain_grace() -> i64 {
    30
}

/// Set keys of a ConfigMap; the others stay.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateConfigMap {
    /// The namespace of the ConfigMap.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// The name of the ConfigMap.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub config_map: String,
    /// The keys that are set, with their new values; other keys stay as they are.
    #[schemars(schema_with = "data_schema")]
    pub data: BTreeMap<String, String>,
}

/// Set keys of a Secret; the others stay.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSecret {
    /// The namespace of the Secret.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// The name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub secret: String,
    /// The keys that are set, with their new values in base64; other keys stay as they are.
    #[schemars(schema_with = "base64_data_schema")]
    pub data: BTreeMap<String, Sensitive>,
}

/// A value that must not be printed: it serializes, but its Debug shows nothing and it has no Display.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// Wraps a value.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<masked>")
    }
}

/// Apply one manifest by server-side apply.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyManifest {
    /// The manifest: one YAML or JSON document.
    #[schemars(length(min = 1, max = 200_000))]
    pub manifest: String,
}

/// Take back what an action did: a JSON patch that first tests what is there, or a deletion.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Undo {
    /// Canonical name of the action that is undone.
    #[schemars(length(min = 1, max = 63))]
    pub of: String,
    /// The object on which the action is undone.
    pub target: UndoTarget,
    /// JSON patch (RFC 6902) as text, first its `test` operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 200_000))]
    pub patch: Option<String>,
    /// Whether the object is deleted instead of patched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<bool>,
}

/// The object of an undo.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndoTarget {
    /// The apiVersion of the object, such as `apps/v1`.
    #[schemars(length(min = 1, max = 317))]
    pub api_version: String,
    /// The kind of the object, such as `Deployment`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Namespace of the object; absent for a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// The name of the object.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The uid that the object must have: another one of its name is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

pub(crate) fn data_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "minProperties": 1, "maxProperties": 100,
        "additionalProperties": {"type": "string", "maxLength": 200_000}
    })
}

/// Values in base64. That they are is checked in planning and by the executor: the API server would print a value that
/// fails a pattern, and what is not base64 may well be the secret itself.
pub(crate) fn base64_data_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    data_schema(generator)
}
