//! PodDisruptionBudgets and evictions.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use crate::api::delete::DeleteOptions;
use crate::api::kinds::Kind;
use crate::api::request::ApiRequest;
use crate::api::selector::Selector;
use crate::api::state::State;
use crate::api::status::ApiError;
use crate::api::store::Key;
use crate::api::verbs::{Reply, delete_options};
use crate::controllers::{
    condition_of, controller_of, count, is_deleting, is_ready, is_terminal, set_condition, share,
};

const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

impl State {
    /// Counts the pods of a budget.
    pub(crate) fn sync_budget(&mut self, key: &Key) {
        let Some(budget) = self.store.get(key).cloned() else {
            return;
        };
        let selector = Selector::from_label_selector(&budget["spec"]["selector"]);
        let pods: Vec<Arc<Value>> = self
            .store
            .list("pods", &key.namespace)
            .filter(|(_, pod)| selector.matches(pod))
            .map(|(_, pod)| Arc::clone(pod))
            .collect();
        let generation = budget["metadata"]["generation"].clone();
        let now = self.now_seconds();
        let (desired, expected) = match self.bounds(&key.namespace, &budget["spec"], &pods) {
            Ok(bounds) => bounds,
            Err(why) => {
                // What can't be counted allows nothing.
                let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed",
                    "message": why, "observedGeneration": generation});
                self.write_status(key, |status| {
                    status["disruptionsAllowed"] = json!(0);
                    set_condition(status, &now, &condition);
                });
                return;
            }
        };
        let healthy = pods
            .iter()
            .filter(|pod| is_ready(pod) && !is_deleting(pod))
            .count();
        let allowed = if expected == 0 {
            0
        } else {
            healthy.saturating_sub(desired)
        };
        let [word, reason] = if allowed > 0 {
            ["True", "SufficientPods"]
        } else {
            ["False", "InsufficientPods"]
        };
        let condition = json!({"type": "DisruptionAllowed", "status": word, "reason": reason, "message": "",
            "observedGeneration": generation});
        self.write_status(key, |status| {
            crate::api::write::set_or_remove(status, "disruptedPods", None);
            status["currentHealthy"] = json!(healthy);
            status["desiredHealthy"] = json!(desired);
            status["expectedPods"] = json!(expected);
            status["disruptionsAllowed"] = json!(allowed);
            status["observedGeneration"] = generation;
            set_condition(status, &now, &condition);
        });
    }

    /// How many pods have to be healthy, and how many there should be.
    fn bounds(&self, namespace: &str, spec: &Value, pods: &[Arc<Value>]) -> Result<(usize, usize), String> {
        if !spec["maxUnavailable"].is_null() {
            let expected = self.expected_pods(namespace, pods)?;
            let most = share(&spec["maxUnavailable"], expected, true).unwrap_or(0);
            return Ok((expected.saturating_sub(most), expected));
        }
        // Without either, one pod has to be.
        let least = &spec["minAvailable"];
        if least.is_string() {
            let expected = self.expected_pods(namespace, pods)?;
            Ok((share(least, expected, true).unwrap_or(0), expected))
        } else {
            Ok((share(least, pods.len(), true).unwrap_or(1), pods.len()))
        }
    }

    /// How many pods their controllers want; those without one are not expected.
    fn expected_pods(&self, namespace: &str, pods: &[Arc<Value>]) -> Result<usize, String> {
        let mut seen = BTreeSet::new();
        let mut sum = 0;
        for pod in pods {
            let Some(owner) = controller_of(pod) else {
                continue;
            };
            if self.outside.contains(owner["uid"].as_str().unwrap_or("")) {
                // What a controller that is not here wants is what it has.
                sum += 1;
            } else if seen.insert(owner["uid"].to_string()) {
                let wanted = self.wanted_by(namespace, owner);
                let name = pod["metadata"]["name"].as_str().unwrap_or("");
                sum += wanted.ok_or_else(|| format!("found no controllers for pod \"{name}\""))?;
            }
        }
        Ok(sum)
    }

    /// How many pods a controller wants; a Deployment's count is that of its ReplicaSets. None when it has no count, as
    /// DaemonSets and Jobs have none.
    fn wanted_by(&self, namespace: &str, owner: &Value) -> Option<usize> {
        let find = |owner: &Value| {
            let resource = match owner["kind"].as_str()? {
                "ReplicaSet" => "replicasets.apps",
                "Deployment" => "deployments.apps",
                "StatefulSet" => "statefulsets.apps",
                _ => return None,
            };
            let found = self.store.find(resource, namespace, owner["name"].as_str()?)?;
            (found["metadata"]["uid"] == owner["uid"]).then_some(found)
        };
        let set = find(owner)?;
        let deployment = controller_of(set).filter(|owner| owner["kind"] == "Deployment");
        let scaled = deployment.map_or(Some(set), find)?;
        Some(count(&scaled["spec"]["replicas"]))
    }

    /// `POST pods/x/eviction`.
    pub(crate) fn evict(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Result<Reply, ApiError> {
        let eviction: Value = serde_json::from_slice(&request.body).map_err(|e| {
            ApiError::bad_request(&format!("couldn't get version/kind; json parse error: {e}"))
        })?;
        let name = &request.info.name;
        if eviction["metadata"]["name"]
            .as_str()
            .is_some_and(|n| !n.is_empty() && n != name)
        {
            return Err(ApiError::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let mut delete = delete_options(&ApiRequest {
            body: Vec::new(),
            ..request.clone()
        })?;
        let given = DeleteOptions::parse(&eviction["deleteOptions"]);
        delete.dry_run |= given.dry_run;
        let delete = DeleteOptions {
            dry_run: delete.dry_run,
            ..given
        };
        let key = Key::of(kind, &request.info.namespace, name);
        let pod = self
            .store
            .get(&key)
            .cloned()
            .ok_or_else(|| ApiError::not_found(kind, name))?;
        let free = is_terminal(&pod) || is_deleting(&pod) || pod["status"]["phase"] == "Pending";
        if !free {
            self.ask_budget(&pod, &key, delete.dry_run)?;
        }
        let mut check = delete.clone();
        check.dry_run = true;
        self.delete(kind, &key, &check)?;
        if !delete.dry_run {
            let now = self.now_seconds();
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            });
            if !is_terminal(&pod) {
                self.write_status(&key, |status| set_condition(status, &now, &condition));
            }
            // The condition is a write of its own: a revision in the preconditions was checked before it.
            self.delete(
                kind,
                &key,
                &DeleteOptions {
                    resource_version: None,
                    ..delete
                },
            )?;
        }
        Ok(Reply::Object(
            201,
            Arc::new(json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
            })),
        ))
    }

    fn ask_budget(&mut self, pod: &Value, key: &Key, dry_run: bool) -> Result<(), ApiError> {
        let budgets: Vec<(Key, Arc<Value>)> = self
            .store
            .list("poddisruptionbudgets.policy", &key.namespace)
            .filter(|(_, b)| Selector::from_label_selector(&b["spec"]["selector"]).matches(pod))
            .map(|(k, b)| (k.clone(), Arc::clone(b)))
            .collect();
        let (budget_key, budget) = match budgets.as_slice() {
            [] => return Ok(()),
            [(key, budget)] => (key, budget),
            _ => {
                return Err(ApiError::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not \
                     support.",
                ));
            }
        };
        let count = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
        let (healthy, desired, allowed) = (
            count("currentHealthy"),
            count("desiredHealthy"),
            count("disruptionsAllowed"),
        );
        let unhealthy_goes = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            || (healthy >= desired && desired > 0);
        if !is_ready(pod) && unhealthy_goes {
            return Ok(());
        }
        if allowed == 0 {
            let name = &budget_key.name;
            let failed = condition_of(budget, "DisruptionAllowed").filter(|c| c["reason"] == "SyncFailed");
            let cause = if let Some(failed) = failed {
                format!(
                    "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
                    failed["message"].as_str().unwrap_or("")
                )
            } else if healthy <= desired {
                format!(
                    "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
                )
            } else {
                format!("The disruption budget {name} does not allow evicting pods currently")
            };
            return Err(ApiError::too_many_requests(REFUSAL, 0, Some(&cause)));
        }
        if !dry_run {
            let budget_key = budget_key.clone();
            let now = self.now_seconds();
            let pod = key.name.clone();
            self.write_status(&budget_key, |status| {
                status["disruptionsAllowed"] = json!(allowed - 1);
                status["disruptedPods"] = json!({ pod: now });
            });
        }
        Ok(())
    }
}
