//! Drains that meet budgets, local data and pods that do not end.

use serde_json::{Value, json};

use super::pod_of;
use crate::scene::{NODE, Scene, execution};

const BUDGET: &str = "policy/v1/PodDisruptionBudget";

/// A drain of a node that goes on until a budget is taken away: a Job that runs for as long as a test wants.
pub(super) struct BlockedDrain {
    node: String,
}

impl BlockedDrain {
    /// Name of its execution.
    pub(super) const NAME: &str = "empty";

    /// A pod on the node that its budget keeps there.
    pub(super) async fn new(scene: &Scene<'_>, node: &str) -> Self {
        let there = json!({"nodeSelector": {"kubernetes.io/hostname": node}});
        scene.deployment_with("web", 1, there).await;
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        });
        scene.create(budget).await;
        scene
            .eventually("a budget that is counted", async || {
                let budget = scene.get(BUDGET, "web").await;
                (budget["status"]["currentHealthy"] == 1).then_some(())
            })
            .await;
        Self {
            node: node.to_owned(),
        }
    }

    /// Starts the drain; `more` is merged into the execution's spec.
    pub(super) async fn start(&self, scene: &Scene<'_>, more: Value) {
        let parameters = json!({"drainNode": {"node": self.node, "gracePeriodSeconds": 1, "ignoreDaemonSets": true,
                                              "deleteLocalData": true, "force": false}});
        scene
            .create(execution(Self::NAME, "drain-node", parameters, more))
            .await;
    }

    /// The Job's pod, when it runs and the budget has refused it.
    pub(super) async fn waiting_pod(&self, scene: &Scene<'_>) -> String {
        self.waiting_pod_besides(scene, None).await
    }

    /// The Job's pod, when it runs and the budget has refused it; not this one.
    pub(super) async fn waiting_pod_besides(&self, scene: &Scene<'_>, other: Option<&str>) -> String {
        let refused = || {
            let audit = scene.bed.audit_about("drain-node-sa");
            let of_ours = audit
                .iter()
                .filter(|entry| entry["objectRef"]["namespace"] == scene.namespace.as_str());
            of_ours
                .filter(|entry| entry["responseStatus"]["code"] == 429)
                .count()
        };
        let earlier = refused();
        let pod = pod_of(scene, Self::NAME, |pod| {
            pod.data["status"]["phase"] == "Running" && pod.metadata.name.as_deref() != other
        })
        .await;
        scene
            .eventually("a refused eviction", async || (refused() > earlier).then_some(()))
            .await;
        pod
    }

    /// Takes the budget away.
    pub(super) async fn let_go(&self, scene: &Scene<'_>) {
        scene.delete(BUDGET, "web").await;
    }

    pub(super) async fn is_cordoned(&self, scene: &Scene<'_>) -> bool {
        scene.get(NODE, &self.node).await["spec"]["unschedulable"] == true
    }

    /// Leaves the node as it was found.
    pub(super) async fn uncordon(&self, scene: &Scene<'_>) {
        scene
            .patch(NODE, &self.node, &json!({"spec": {"unschedulable": null}}))
            .await;
    }
}
