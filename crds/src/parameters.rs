use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::action::{NotOneMember, PatchType, union};

/// What a step's action needs to know, in the workflow's terms: exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.scaleDeployment), has(self.restartDeployment), has(self.deletePod), has(self.updateConfigMap), has(self.updateSecret), has(self.cordonNode), has(self.drainNode), has(self.updateImage), has(self.custom), has(self.restartPod), has(self.patchDeployment), has(self.uncordonNode)].filter(x, x).size() == 1")
    .message("parameters must have exactly one member, such as scaleDeployment, restartDeployment, deletePod, restartPod, updateConfigMap, updateSecret, cordonNode, uncordonNode, drainNode, updateImage, patchDeployment or custom"))]
pub struct StepParameters {
    /// Set the number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_deployment: Option<ScaleDeployment>,
    /// Start new pods of a Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_deployment: Option<RestartDeployment>,
    /// Delete one pod by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_pod: Option<DeletePodStep>,
    /// Set keys of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_config_map: Option<UpdateConfigMapStep>,
    /// Set keys of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_secret: Option<UpdateSecretStep>,
    /// Keep new pods off a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon_node: Option<NodeStep>,
    /// Move the pods off a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_node: Option<DrainNodeStep>,
    /// Set the image of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_image: Option<UpdateImageStep>,
    /// Apply a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomStep>,
    /// Delete pods that their controller brings back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_pod: Option<RestartPodStep>,
    /// Addition. Patch a Deployment.
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
    }
);

/// Set the number of replicas of a Deployment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDeployment {
    /// Namespace of the Deployment.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the Deployment.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub deployment: String,
    /// Replicas wanted.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
}

/// Start new pods of a Deployment, by its own rollout strategy.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartDeployment {
    /// Namespace of the Deployment.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the Deployment.
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
    /// Namespace of the pod.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the pod.
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
#[x_kube(validation = Rule::new("has(self.podName) != has(self.selector)").message("restartPod needs exactly one of podName and selector"))]
#[x_kube(validation = Rule::new("!has(self.nodeName) || has(self.selector)").message("restartPod.nodeName goes with selector: it takes those of the pods that are on that node"))]
pub struct RestartPodStep {
    /// Namespace of the pods.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub pod_name: Option<String>,
    /// Label selector, such as `app=web,tier!=cache`.
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
    /// Namespace of the ConfigMap.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the ConfigMap.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Keys and their new values.
    #[schemars(schema_with = "crate::action::data_schema")]
    pub data_updates: BTreeMap<String, String>,
}

/// Set keys of a Secret; the others stay.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSecretStep {
    /// Namespace of the Secret.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Keys and their new values in base64. Whoever may read the workflow reads them.
    #[schemars(schema_with = "crate::action::base64_data_schema")]
    pub data_updates: BTreeMap<String, crate::action::Sensitive>,
}

/// A node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStep {
    /// Name of the node.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub node_name: String,
}

/// Move the pods off a node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainNodeStep {
    /// Name of the node.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub node_name: String,
    /// Duration such as 30s; absent means 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = *crate::DURATION_PATTERN))]
    pub grace_period: Option<String>,
    /// Pass over pods of DaemonSets.
    #[serde(default)]
    pub ignore_daemon_sets: bool,
    /// Evict pods that lose the data of an emptyDir.
    #[serde(default)]
    pub delete_local_data: bool,
}

/// Set the image of one container.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateImageStep {
    /// Namespace of the Deployment.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the Deployment.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub deployment: String,
    /// Name of a container that exists.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub container: String,
    /// Image wanted.
    #[schemars(length(min = 1, max = 512))]
    pub new_image: String,
}

/// An action that is named by its type and a map.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomStep {
    /// `apply-manifest` is the one that is known.
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
    /// Namespace of the Deployment.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the Deployment.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub deployment: String,
    /// How the patch is meant.
    pub patch_type: PatchType,
    /// The patch as JSON.
    #[schemars(length(min = 2, max = 200_000))]
    pub patch: String,
}

/// How a step is undone, in the workflow's terms: exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.scaleToPrevious), has(self.restorePreviousDeployment), has(self.restorePreviousConfig), has(self.uncordonNode), has(self.custom)].filter(x, x).size() == 1")
    .message("parameters of a rollbackSpec must have exactly one member: scaleToPrevious, restorePreviousDeployment, restorePreviousConfig, uncordonNode or custom"))]
pub struct RollbackParameters {
    /// Back to a number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_to_previous: Option<ScaleToPrevious>,
    /// Back to a revision of a Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_previous_deployment: Option<RestorePreviousDeployment>,
    /// Back to a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_previous_config: Option<RestorePreviousConfig>,
    /// Let new pods onto the node again.
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

/// Back to a number of replicas.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleToPrevious {
    /// Namespace of the Deployment.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the Deployment.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub deployment: String,
    /// Replicas before.
    #[schemars(range(min = 0, max = 1000))]
    pub previous_replicas: i32,
}

/// Back to a revision of a Deployment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestorePreviousDeployment {
    /// Namespace of the Deployment.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the Deployment.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub deployment: String,
    /// Revision; 0 is the previous one.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub revision: i64,
}

/// Back to a snapshot of a ConfigMap.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestorePreviousConfig {
    /// Namespace of the object.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Name of the object.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Secret is refused in planning: updateSecret is not reversible.
    pub r#type: ConfigType,
    /// The object as JSON.
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
