//! Parameters of actions in a workflow's terms: those of a step.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::action::{NotOneMember, PatchType, union};

/// What a step's action needs to know, in the workflow's terms: exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepParameters {
    /// Set the number of replicas of a Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_deployment: Option<ScaleDeployment>,
    /// Start new pods of a Deployment by its own rollout strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_deployment: Option<RestartDeployment>,
    /// Delete one pod by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_pod: Option<DeletePodStep>,
    /// Set keys of a ConfigMap and leave the others as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_config_map: Option<UpdateConfigMapStep>,
    /// Set keys of a Secret and leave the others as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_secret: Option<UpdateSecretStep>,
    /// Keep new pods off a node; those that are there stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon_node: Option<NodeStep>,
    /// Cordon a node and evict the pods that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_node: Option<DrainNodeStep>,
    /// Set the image of a container that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_image: Option<UpdateImageStep>,
    /// Apply one manifest: `actionType` is apply-manifest, and `config.manifest` holds one document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomStep>,
    /// Delete one pod, or evict those of a selector; their controller brings others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_pod: Option<RestartPodStep>,
    /// Addition. Set the number of replicas of a StatefulSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_stateful_set: Option<ScaleStatefulSet>,
    /// Addition. Patch a Deployment with a patch of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_deployment: Option<PatchDeployment>,
    /// Addition. Let new pods onto a node again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncordon_node: Option<NodeStep>,
}

union!(
    /// The one member of [`StepParameters`].
    StepParameters => StepAction {
        scale_deployment "scaleDeployment" => ScaleDeployment(ScaleDeployment),
        restart_deployment "restartDeployment" => RestartDeployment(RestartDeployment),
        delete_pod "deletePod" => DeletePod(DeletePodStep),
        update_config_map "updateConfigMap" => UpdateConfigMap(UpdateConfigMapStep),
        update_secret "updateSecret" => UpdateSecret(UpdateSecretStep),
        cordon_node "cordonNode" => CordonNode(NodeStep),
        drain_node "drainNode" => DrainNode(DrainNodeStep),
        update_image "updateImage" => UpdateImage(UpdateImageStep),
        custom "custom" => Custom(CustomStep),
        restart_pod "restartPod" => RestartPod(RestartPodStep),
        patch_deployment "patchDeployment" => PatchDeployment(PatchDeployment),
        uncordon_node "uncordonNode" => UncordonNode(NodeStep),
        scale_stateful_set "scaleStatefulSet" => ScaleStatefulSet(ScaleStatefulSet),
    }
);

/// Set the number of replicas of a Deployment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDeployment {
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
    /// The number of replicas that is wanted, 0 to 1000.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
}

/// Set the number of replicas of a StatefulSet.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleStatefulSet {
    /// The namespace of the StatefulSet.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// The name of the StatefulSet.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The number of replicas that is wanted, 0 to 1000.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
}

/// Start new pods of a Deployment, by its own rollout strategy.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartDeployment {
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
    /// Accepted with a warning: a rollout has no grace period of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = *crate::DURATION_PATTERN))]
    pub grace_period: Option<String>,
}

/// Delete one pod.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletePodStep {
    /// The namespace of the pod.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// The name of the pod.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub pod_name: String,
    /// Duration such as 30s; absent keeps the pod's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = *crate::DURATION_PATTERN))]
    pub grace_period: Option<String>,
}

/// Delete pods that their controller brings back: one by name, or those of a selector.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartPodStep {
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
    pub pod_name: Option<String>,
    /// The label selector of the pods, such as `app=web,tier!=cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub selector: Option<String>,
    /// Addition, with `selector`. Only the pods on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub node_name: Option<String>,
    /// Duration such as 30s; absent keeps the pods' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = *crate::DURATION_PATTERN))]
    pub grace_period: Option<String>,
}

/// Set keys of a ConfigMap; the others stay.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateConfigMapStep {
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
    pub name: String,
    /// The keys that are set, with their new values; other keys stay as they are.
    #[schemars(schema_with = "crate::action::data_schema")]
    pub data_updates: BTreeMap<String, String>,
}

/// Set keys of a Secret; the others stay.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSecretStep {
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
    pub name: String,
    /// Keys and their new values in base64. Whoever may read the workflow reads them.
    #[schemars(schema_with = "crate::action::base64_data_schema")]
    pub data_updates: BTreeMap<String, crate::action::Sensitive>,
}

/// A node that an action is for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStep {
    /// The name of the node.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub node_name: String,
}

/// Cordon a node and evict the pods that are there.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainNodeStep {
    /// The name of the node.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub node_name: String,
    /// Duration such as 30s; absent means 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = *crate::DURATION_PATTERN))]
    pub grace_period: Option<String>,
    /// Whether pods of DaemonSets are passed over; without it one of them stops the drain.
    #[serde(default)]
    pub ignore_daemon_sets: bool,
    /// Whether pods are evicted that lose the data of an emptyDir.
    #[serde(default)]
    pub delete_local_data: bool,
}

/// Set the image of one container.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateImageStep {
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
    /// The name of a container of the pod template; it must exist.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub container: String,
    /// The image that the container gets.
    #[schemars(length(min = 1, max = 512))]
    pub new_image: String,
}

/// An action that is named by its type and a map.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomStep {
    /// The type of the custom action; `apply-manifest` is the one that is known.
    #[schemars(length(min = 1, max = 63))]
    pub action_type: String,
    /// For apply-manifest: `manifest`, one YAML or JSON document.
    #[schemars(schema_with = "crate::action::data_schema")]
    pub config: BTreeMap<String, String>,
}

/// Patch a Deployment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchDeployment {
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
    /// How the patch is meant: strategic, merge or json.
    pub patch_type: PatchType,
    /// The patch as JSON text: an object, or for patchType json an array of operations.
    #[schemars(length(min = 2, max = 200_000))]
    pub patch: String,
}

/// How a step is undone, in the workflow's terms: exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackParameters {
    /// Put a Deployment back to the number of replicas that it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_to_previous: Option<ScaleToPrevious>,
    /// Put a Deployment back to one of its revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_previous_deployment: Option<RestorePreviousDeployment>,
    /// Put an object back to a snapshot of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_previous_config: Option<RestorePreviousConfig>,
    /// Let new pods onto the node again, which takes a cordon back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncordon_node: Option<NodeStep>,
    /// An action named by its type and a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomStep>,
}

union!(
    /// The one member of [`RollbackParameters`].
    RollbackParameters => RollbackAction {
        scale_to_previous "scaleToPrevious" => ScaleToPrevious(ScaleToPrevious),
        restore_previous_deployment "restorePreviousDeployment" => RestorePreviousDeployment(RestorePreviousDeployment),
        restore_previous_config "restorePreviousConfig" => RestorePreviousConfig(RestorePreviousConfig),
        uncordon_node "uncordonNode" => UncordonNode(NodeStep),
        custom "custom" => Custom(CustomStep),
    }
);

/// Put a Deployment back to the number of replicas that it had.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleToPrevious {
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
    /// The number of replicas before the change.
    #[schemars(range(min = 0, max = 1000))]
    pub previous_replicas: i32,
}

/// Put a Deployment back to one of its revisions.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestorePreviousDeployment {
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
    /// The number of the revision; 0 stands for the previous one.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub revision: i64,
}

/// Back to a snapshot of a ConfigMap.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestorePreviousConfig {
    /// The namespace of the object; absent for an object of the whole cluster.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// The name of the object.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Secret is refused in planning: updateSecret is not reversible.
    pub r#type: ConfigType,
    /// The object as it was, as JSON text.
    #[schemars(length(max = 200_000))]
    pub snapshot: String,
}

/// What a snapshot is of.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigType {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}
