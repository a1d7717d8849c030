//! The table of actions: spellings, accounts, rights, targets.

use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Action, DeletePod, StepAction, TargetRef};

use crate::Settings;
use crate::manifest_kinds::{ManifestKind, ParsedManifest, allowed_kinds};

/// What can be done. One table says, for each, how it is spelled, who runs it and what that account may do; the
/// manifests in deploy/ and the questions about rights are both made from it (the executor's specification, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionKind {
    /// Set the number of replicas.
    ScaleDeployment,
    /// Start new pods of a Deployment.
    RolloutRestart,
    /// Delete or evict pods.
    DeletePod,
    /// Patch a Deployment.
    PatchDeployment,
    /// Keep new pods off a node.
    CordonNode,
    /// Let new pods onto a node again.
    UncordonNode,
    /// Move the pods off a node.
    DrainNode,
    /// Set keys of a ConfigMap.
    UpdateConfigMap,
    /// Set keys of a Secret.
    UpdateSecret,
    /// Apply a manifest.
    ApplyManifest,
}

/// A row of the table.
struct Row {
    /// The first one is canonical.
    spellings: &'static [&'static str],
    service_account: &'static str,
    /// group, resource (with subresource), verbs. Those of applyManifest depend on a flag.
    rules: &'static [(&'static str, &'static str, &'static [&'static str])],
}

impl ActionKind {
    /// Every action.
    pub const ALL: [ActionKind; 10] = [
        ActionKind::ScaleDeployment,
        ActionKind::RolloutRestart,
        ActionKind::DeletePod,
        ActionKind::PatchDeployment,
        ActionKind::CordonNode,
        ActionKind::UncordonNode,
        ActionKind::DrainNode,
        ActionKind::UpdateConfigMap,
        ActionKind::UpdateSecret,
        ActionKind::ApplyManifest,
    ];

    /// The action of a canonical name, as --actions takes it.
    ///
    /// # Errors
    /// In words for a person, with all names.
    pub fn named(name: &str) -> Result<ActionKind, String> {
        let mut all = ActionKind::ALL.into_iter();
        if let Some(kind) = all.find(|kind| kind.canonical() == name) {
            return Ok(kind);
        }
        let mut all = ActionKind::ALL.into_iter();
        let other = all.find(|kind| kind.spellings().contains(&name));
        let hint = other.map_or(String::new(), |kind| {
            format!("{} stands for it; ", kind.canonical())
        });
        let names = ActionKind::ALL.map(ActionKind::canonical);
        Err(format!(
            "{name:?} is not the name of an action: {hint}there are {}",
            names.join(", ")
        ))
    }

    fn row(self) -> Row {
        match self {
            ActionKind::ScaleDeployment => Row {
                spellings: &["scale-deployment", "scale_deployment"],
                service_account: "scale-deployment-sa",
                rules: &[
                    ("apps", "deployments", &["get"]),
                    ("apps", "deployments/scale", &["get", "patch"]),
                ],
            },
            ActionKind::RolloutRestart => Row {
                spellings: &[
                    "rollout-restart",
                    "rollout_restart",
                    "restart-deployment",
                    "restart_deployment",
                ],
                service_account: "rollout-restart-sa",
                rules: &[("apps", "deployments", &["get", "patch"])],
            },
            ActionKind::DeletePod => Row {
                spellings: &[
                    "delete-pod",
                    "delete_pod",
                    "restart-pod",
                    "restart-pods",
                    "restart_pod",
                ],
                service_account: "delete-pod-sa",
                rules: &[("", "pods", &["delete"]), ("", "pods/eviction", &["create"])],
            },
            ActionKind::PatchDeployment => Row {
                spellings: &[
                    "patch-deployment",
                    "patch_deployment",
                    "update-image",
                    "update_image",
                ],
                service_account: "patch-deployment-sa",
                rules: &[("apps", "deployments", &["get", "patch"])],
            },
            ActionKind::CordonNode => Row {
                spellings: &["cordon-node", "cordon_node"],
                service_account: "cordon-node-sa",
                rules: &[("", "nodes", &["get", "patch"])],
            },
            ActionKind::UncordonNode => Row {
                spellings: &["uncordon-node", "uncordon_node"],
                service_account: "uncordon-node-sa",
                rules: &[("", "nodes", &["get", "patch"])],
            },
            ActionKind::DrainNode => Row {
                spellings: &["drain-node", "drain_node"],
                service_account: "drain-node-sa",
                rules: &[
                    ("", "nodes", &["get", "patch"]),
                    ("", "pods", &["get", "list"]),
                    ("", "pods/eviction", &["create"]),
                    ("apps", "daemonsets", &["get"]),
                ],
            },
            ActionKind::UpdateConfigMap => Row {
                spellings: &[
                    "update-configmap",
                    "update_configmap",
                    "patch-configmap",
                    "update-config-map",
                ],
                service_account: "update-configmap-sa",
                rules: &[("", "configmaps", &["get", "patch"])],
            },
            ActionKind::UpdateSecret => Row {
                spellings: &["update-secret", "update_secret", "patch-secret"],
                service_account: "update-secret-sa",
                rules: &[("", "secrets", &["get", "patch"])],
            },
            ActionKind::ApplyManifest => Row {
                spellings: &["apply-manifest", "apply_manifest", "custom"],
                service_account: "apply-manifest-sa",
                rules: &[],
            },
        }
    }

    /// Its one name in metrics, logs and results.
    pub fn canonical(self) -> &'static str {
        self.spellings().first().copied().unwrap_or_default()
    }

    /// Every spelling of `action` that fits it; the first is canonical.
    pub fn spellings(self) -> &'static [&'static str] {
        self.row().spellings
    }

    /// The account in the executor namespace that its Jobs run as.
    pub fn service_account(self) -> &'static str {
        self.row().service_account
    }

    /// The ClusterRole (and binding) of that account.
    pub fn cluster_role(self) -> String {
        format!("kubernaut-{}", self.canonical())
    }

    /// Acts on a node: takes the lock on nodes, and tolerates a cordon.
    pub fn is_node_action(self) -> bool {
        matches!(
            self,
            ActionKind::CordonNode | ActionKind::UncordonNode | ActionKind::DrainNode
        )
    }

    /// What the account may do.
    pub fn rules(self, settings: &Settings) -> Vec<PolicyRule> {
        if self == ActionKind::ApplyManifest {
            return allowed_kinds(settings)
                .iter()
                .map(|kind| rule(kind.group, kind.plural, &["get", "patch", "create"]))
                .collect();
        }
        self.row()
            .rules
            .iter()
            .map(|(group, resource, verbs)| rule(group, resource, verbs))
            .collect()
    }
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// The action of a name or of a member; an undo runs as what it undoes. `None` for an undo of nothing known.
pub fn kind_of(action: &Action) -> Option<ActionKind> {
    Some(match action {
        Action::ScaleDeployment(_) => ActionKind::ScaleDeployment,
        Action::RolloutRestart(_) => ActionKind::RolloutRestart,
        Action::DeletePod(_) => ActionKind::DeletePod,
        Action::PatchDeployment(_) => ActionKind::PatchDeployment,
        Action::CordonNode(_) => ActionKind::CordonNode,
        Action::UncordonNode(_) => ActionKind::UncordonNode,
        Action::DrainNode(_) => ActionKind::DrainNode,
        Action::UpdateConfigMap(_) => ActionKind::UpdateConfigMap,
        Action::UpdateSecret(_) => ActionKind::UpdateSecret,
        Action::ApplyManifest(_) => ActionKind::ApplyManifest,
        Action::Undo(undo) => {
            return ActionKind::ALL
                .into_iter()
                .find(|kind| kind.canonical() == undo.of);
        }
    })
}

/// Spellings that promise a replacement.
const RESTARTS: [&str; 3] = ["restart-pod", "restart-pods", "restart_pod"];
/// Spellings that promise an existing container.
const IMAGES: [&str; 2] = ["update-image", "update_image"];

/// Whether `action` is a known spelling for the member that the executor sees.
pub fn check_spelling(spelling: &str, action: &Action) -> Result<(), String> {
    if let Action::Undo(_) = action {
        return if spelling == "undo" {
            Ok(())
        } else {
            Err(mismatch(spelling, "undo", &["undo"]))
        };
    }
    let spellings = kind_of(action).map_or(&[][..], ActionKind::spellings);
    if spellings.contains(&spelling) {
        Ok(())
    } else {
        Err(mismatch(spelling, action.member(), spellings))
    }
}

/// The same for a step's member, where restart-pod and update-image have members of their own.
pub fn check_step_spelling(spelling: &str, action: &StepAction) -> Result<(), String> {
    let kind = match action {
        StepAction::ScaleDeployment(_) => ActionKind::ScaleDeployment,
        StepAction::RestartDeployment(_) => ActionKind::RolloutRestart,
        StepAction::DeletePod(_) | StepAction::RestartPod(_) => ActionKind::DeletePod,
        StepAction::UpdateImage(_) | StepAction::PatchDeployment(_) => ActionKind::PatchDeployment,
        StepAction::UpdateConfigMap(_) => ActionKind::UpdateConfigMap,
        StepAction::UpdateSecret(_) => ActionKind::UpdateSecret,
        StepAction::CordonNode(_) => ActionKind::CordonNode,
        StepAction::UncordonNode(_) => ActionKind::UncordonNode,
        StepAction::DrainNode(_) => ActionKind::DrainNode,
        StepAction::Custom(_) => ActionKind::ApplyManifest,
    };
    let special: Option<bool> = match action {
        StepAction::RestartPod(_) => Some(RESTARTS.contains(&spelling)),
        StepAction::DeletePod(_) => Some(!RESTARTS.contains(&spelling)),
        StepAction::UpdateImage(_) => Some(IMAGES.contains(&spelling)),
        StepAction::PatchDeployment(_) => Some(!IMAGES.contains(&spelling)),
        StepAction::ScaleDeployment(_)
        | StepAction::RestartDeployment(_)
        | StepAction::UpdateConfigMap(_)
        | StepAction::UpdateSecret(_)
        | StepAction::CordonNode(_)
        | StepAction::UncordonNode(_)
        | StepAction::DrainNode(_)
        | StepAction::Custom(_) => None,
    };
    if kind.spellings().contains(&spelling) && special != Some(false) {
        return Ok(());
    }
    let fitting: Vec<&str> = match action {
        StepAction::RestartPod(_) => RESTARTS.to_vec(),
        StepAction::UpdateImage(_) => IMAGES.to_vec(),
        StepAction::DeletePod(_) => vec!["delete-pod", "delete_pod"],
        StepAction::PatchDeployment(_) => vec!["patch-deployment", "patch_deployment"],
        StepAction::ScaleDeployment(_)
        | StepAction::RestartDeployment(_)
        | StepAction::UpdateConfigMap(_)
        | StepAction::UpdateSecret(_)
        | StepAction::CordonNode(_)
        | StepAction::UncordonNode(_)
        | StepAction::DrainNode(_)
        | StepAction::Custom(_) => kind.spellings().to_vec(),
    };
    Err(mismatch(spelling, action.member(), &fitting))
}

fn mismatch(spelling: &str, member: &str, fitting: &[&str]) -> String {
    format!(
        "action {spelling:?} does not fit parameters.{member}: write {}",
        fitting.join(" or ")
    )
}

/// Pods without a controller are not deleted: nothing would bring them back.
pub fn owner_rule(spelling: &str, delete: &DeletePod) -> bool {
    RESTARTS.contains(&spelling) || delete.label_selector.is_some()
}

/// The patch names a container that must exist: a strategic patch would add one.
pub fn container_rule(spelling: &str) -> bool {
    IMAGES.contains(&spelling)
}

/// What is acted on; `manifest` is that of an applyManifest, where it could be read.
pub fn target_of(action: &Action, manifest: Option<&ParsedManifest>) -> TargetRef {
    let namespaced = |kind: &str, namespace: &str, name: &str| TargetRef {
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    };
    let node = |name: &str| TargetRef {
        kind: "Node".to_owned(),
        namespace: None,
        name: name.to_owned(),
    };
    match action {
        Action::ScaleDeployment(scale) => namespaced("Deployment", &scale.namespace, &scale.deployment),
        Action::RolloutRestart(restart) => namespaced("Deployment", &restart.namespace, &restart.deployment),
        Action::PatchDeployment(patch) => namespaced("Deployment", &patch.namespace, &patch.deployment),
        Action::DeletePod(delete) => {
            let selector = delete.label_selector.as_ref().map(|selector| {
                let node = delete.node_name.as_ref();
                let on = node.map_or_else(String::new, |node| format!(" on node {node}"));
                format!("({selector}{on})")
            });
            let name = delete.pod.clone().or(selector).unwrap_or_default();
            namespaced("Pod", &delete.namespace, &name)
        }
        Action::CordonNode(action) | Action::UncordonNode(action) => node(&action.node),
        Action::DrainNode(drain) => node(&drain.node),
        Action::UpdateConfigMap(update) => namespaced("ConfigMap", &update.namespace, &update.config_map),
        Action::UpdateSecret(update) => namespaced("Secret", &update.namespace, &update.secret),
        Action::ApplyManifest(_) => match manifest {
            Some(manifest) => namespaced(&manifest.kind, &manifest.namespace, &manifest.name),
            None => namespaced("Manifest", "", ""),
        },
        Action::Undo(undo) => TargetRef {
            kind: undo.target.kind.clone(),
            namespace: undo.target.namespace.clone(),
            name: undo.target.name.clone(),
        },
    }
}

/// The target in a word, `deployment/production/web` or `node/n1`.
pub fn target_name(target: &TargetRef) -> String {
    let kind = target.kind.to_lowercase();
    match &target.namespace {
        Some(namespace) => format!("{kind}/{namespace}/{}", target.name),
        None => format!("{kind}/{}", target.name),
    }
}

/// One right, as a SubjectAccessReview asks for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessRequest {
    /// API group; empty for the core one.
    pub group: String,
    /// Resource in the plural.
    pub resource: String,
    /// Subresource, such as `scale`.
    pub subresource: Option<String>,
    /// Verb.
    pub verb: String,
    /// Namespace; `None` asks for all of them, or for a cluster-wide resource.
    pub namespace: Option<String>,
    /// Name; `None` asks for all.
    pub name: Option<String>,
}

impl fmt::Display for AccessRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(subresource) = &self.subresource {
            write!(f, "/{subresource}")?;
        }
        if !self.group.is_empty() {
            write!(f, " in group {}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " named {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None if self.name.is_none() => write!(f, " in all namespaces"),
            None => Ok(()),
        }
    }
}

/// What the workflow's account must be allowed: the rules of the action, on its target. A drain asks for pods and
/// daemonsets in all namespaces.
pub fn rights_of(
    action: &Action,
    manifest: Option<&ParsedManifest>,
    settings: &Settings,
) -> Vec<AccessRequest> {
    let Some(kind) = kind_of(action) else {
        return Vec::new();
    };
    let target = target_of(action, manifest);
    let manifest_kind = manifest.and_then(|manifest| allowed_kind(&manifest.group, &manifest.kind, settings));
    let mut requests = Vec::new();
    for rule in kind.rules(settings) {
        let group = rule
            .api_groups
            .iter()
            .flatten()
            .next()
            .cloned()
            .unwrap_or_default();
        let full = rule
            .resources
            .iter()
            .flatten()
            .next()
            .cloned()
            .unwrap_or_default();
        let (resource, subresource) = match full.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), Some(subresource.to_owned())),
            None => (full, None),
        };
        if kind == ActionKind::ApplyManifest
            && manifest_kind.is_none_or(|kind| kind.group != group || kind.plural != resource)
        {
            continue;
        }
        for verb in rule.verbs {
            let everywhere = kind == ActionKind::DrainNode && resource != "nodes";
            // create has no name to ask about.
            let creates = verb == "create" && subresource.is_none();
            let by_selector = target.name.starts_with('(');
            let evicts = subresource.as_deref() == Some("eviction");
            // Deleting one pod by name asks for delete, evicting those of a selector for evictions.
            if kind == ActionKind::DeletePod && evicts != by_selector {
                continue;
            }
            requests.push(AccessRequest {
                group: group.clone(),
                resource: resource.clone(),
                subresource: subresource.clone(),
                namespace: if everywhere {
                    None
                } else {
                    target.namespace.clone()
                },
                name: (!everywhere && !creates && !by_selector).then(|| target.name.clone()),
                verb,
            });
        }
    }
    // The pods have to be found first, and are looked at: nobody learns of them who may not read them.
    if kind == ActionKind::DeletePod {
        let by_selector = target.name.starts_with('(');
        requests.push(AccessRequest {
            group: String::new(),
            resource: "pods".to_owned(),
            subresource: None,
            verb: if by_selector { "list" } else { "get" }.to_owned(),
            namespace: target.namespace,
            name: (!by_selector).then_some(target.name),
        });
    }
    requests
}

/// A right that an action can do without: with it, a person is warned of an autoscaler that would take a scale back. What an
/// account may not list is not told to whoever reads its executions; that is no reason to run nothing.
pub(crate) fn optional_right(action: &Action) -> Option<AccessRequest> {
    let Action::ScaleDeployment(scale) = action else {
        return None;
    };
    Some(AccessRequest {
        group: "autoscaling".to_owned(),
        resource: "horizontalpodautoscalers".to_owned(),
        subresource: None,
        verb: "list".to_owned(),
        namespace: Some(scale.namespace.clone()),
        name: None,
    })
}

/// The kind in the table, when the flag allows it.
pub(crate) fn allowed_kind(group: &str, kind: &str, settings: &Settings) -> Option<&'static ManifestKind> {
    allowed_kinds(settings)
        .into_iter()
        .find(|known| known.group == group && known.kind == kind)
}

#[cfg(test)]
mod tests {
    use kubernaut_crds::{NodeAction, ScaleDeployment};

    use super::*;

    #[test]
    fn every_spelling_belongs_to_one_action() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in ActionKind::ALL {
            for spelling in kind.spellings() {
                assert!(seen.insert(*spelling), "{spelling} is spelled twice");
            }
        }
    }

    #[test]
    fn an_action_is_named_as_metrics_name_it_and_another_spelling_says_so() {
        for kind in ActionKind::ALL {
            assert_eq!(ActionKind::named(kind.canonical()), Ok(kind));
        }
        let error = ActionKind::named("restart-pod").expect_err("another spelling");
        assert!(error.contains("delete-pod stands for it"), "{error}");
        let error = ActionKind::named("reboot-node").expect_err("no action");
        assert!(
            error.contains("\"reboot-node\"") && error.contains("apply-manifest"),
            "{error}"
        );
    }

    #[test]
    fn no_account_may_do_what_no_action_does() {
        let settings = Settings {
            apply_manifest_kinds: crate::manifest_kinds::known_kinds(),
            ..Settings::default()
        };
        for rule in ActionKind::ApplyManifest.rules(&settings) {
            assert_eq!(rule.verbs, ["get", "patch", "create"]);
        }
    }

    #[test]
    fn a_spelling_that_does_not_fit_is_answered_with_those_that_do() {
        let cordon = Action::CordonNode(NodeAction { node: "n".into() });
        assert_eq!(check_spelling("cordon_node", &cordon), Ok(()));
        let error = check_spelling("drain-node", &cordon).expect_err("does not fit");
        assert!(
            error.contains("\"drain-node\"") && error.contains("cordonNode") && error.contains("cordon-node"),
            "{error}"
        );
    }

    #[test]
    fn scaling_asks_for_the_scale_of_that_deployment_in_that_namespace() {
        let action = Action::ScaleDeployment(ScaleDeployment {
            namespace: "shop".into(),
            deployment: "web".into(),
            replicas: 3,
        });
        let rights: Vec<String> = rights_of(&action, None, &Settings::default())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            rights,
            [
                "get deployments in group apps named web in namespace shop",
                "get deployments/scale in group apps named web in namespace shop",
                "patch deployments/scale in group apps named web in namespace shop",
            ]
        );
    }

    #[test]
    fn a_drain_asks_for_pods_everywhere() {
        let action = Action::DrainNode(kubernaut_crds::DrainNode {
            node: "n1".into(),
            grace_period_seconds: 30,
            force: false,
            ignore_daemon_sets: true,
            delete_local_data: false,
        });
        let rights = rights_of(&action, None, &Settings::default());
        assert!(
            rights.iter().any(|r| r.resource == "pods"
                && r.namespace.is_none()
                && r.name.is_none()
                && r.verb == "list")
        );
        assert!(
            rights
                .iter()
                .any(|r| r.resource == "nodes" && r.name.as_deref() == Some("n1") && r.verb == "patch")
        );
    }
}
