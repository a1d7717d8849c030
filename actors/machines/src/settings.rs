//! The flags of the controller, as far as decisions depend on them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kubernaut_crds::names;

use crate::actions::ActionKind;
use crate::manifest_kinds::known_kinds;
use crate::toleration::Toleration;

/// Every flag that a decision depends on. Read once at the start; the machines get it by reference.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the cluster that is acted on; `None` runs steps of any `targetCluster`, with a warning.
    pub cluster_name: Option<String>,
    /// Namespace where the Jobs and their accounts live.
    pub executor_namespace: String,
    /// Namespaces where nothing is acted on and no workflow may live; includes the controller's and the executor's.
    pub protected_namespaces: BTreeSet<String>,
    /// Actions whose accounts and rights are installed; a step of another one is refused.
    pub actions: BTreeSet<ActionKind>,
    /// Labels of the nodes where Jobs may run; empty leaves the choice to the scheduler.
    pub executor_node_selector: BTreeMap<String, String>,
    /// Taints that do not keep Jobs away.
    pub executor_tolerations: Vec<Toleration>,
    /// Image with kubectl and nothing else.
    pub kubectl_image: String,
    /// Longest timeout a step may ask for.
    pub max_step_timeout: Duration,
    /// ttlSecondsAfterFinished of the Jobs, in seconds.
    pub job_ttl_seconds: i32,
    /// Look at the outcome after the Job.
    pub verification: bool,
    /// Act on objects that Argo CD or Flux manage.
    pub allow_gitops_managed: bool,
    /// Kinds that applyManifest may apply, such as `ConfigMap` or `apps/Deployment`; empty refuses all.
    pub apply_manifest_kinds: Vec<String>,
    /// Ask whether the workflow's ServiceAccount may do what the action does.
    pub authorization: bool,
    /// Policies decide which executions may run.
    pub policy: bool,
    /// How long a workflow stays in monitoring; zero skips it.
    pub monitoring_window: Duration,
    /// When an approval counts.
    pub approval: ApprovalRules,
}

/// When an approval counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApprovalRules {
    /// How long an approval is waited for.
    pub timeout: Duration,
    /// How old an Approval may be when what it approves begins.
    pub validity: Duration,
    /// Whoever created something may also approve it.
    pub allow_self: bool,
}

impl Default for ApprovalRules {
    fn default() -> Self {
        Self {
            timeout: Duration::from_hours(1),
            validity: Duration::from_hours(1),
            allow_self: false,
        }
    }
}

impl Settings {
    /// These settings without what only refuses: for what was begun under laxer ones.
    #[must_use]
    pub fn without_limits(&self) -> Self {
        Self {
            cluster_name: None,
            protected_namespaces: BTreeSet::new(),
            max_step_timeout: Duration::MAX,
            apply_manifest_kinds: known_kinds(),
            actions: ActionKind::ALL.into(),
            ..self.clone()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_name: None,
            executor_namespace: names::EXECUTOR_NAMESPACE.to_owned(),
            protected_namespaces: [
                "kube-system",
                "kube-public",
                "kube-node-lease",
                "kubernaut-system",
                names::EXECUTOR_NAMESPACE,
            ]
            .into_iter()
            .map(str::to_owned)
            .collect(),
            actions: ActionKind::ALL.into(),
            executor_node_selector: BTreeMap::new(),
            executor_tolerations: Vec::new(),
            kubectl_image: "registry.k8s.io/kubectl:v1.35.4".to_owned(),
            max_step_timeout: Duration::from_secs(15 * 60),
            job_ttl_seconds: 3600,
            verification: true,
            allow_gitops_managed: false,
            apply_manifest_kinds: Vec::new(),
            authorization: true,
            policy: false,
            monitoring_window: Duration::ZERO,
            approval: ApprovalRules::default(),
        }
    }
}
