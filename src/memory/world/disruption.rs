//! PodDisruptionBudgets and evictions.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{
    super::{
        api::{Reply, delete_options},
        delete::DeleteOptions,
        kinds::Kind,
        request::ApiRequest,
        selector::Selector,
        state::State,
        status::ApiError,
        store::Key,
    },
    controller_of, is_deleting, is_ready, is_terminal, set_condition,
};

const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

impl State {
    /// Counts the pods of a budget.
    pub(super) fn sync_budget(&mut self, key: &Key) {
        let Some(budget) = self.store.get(key).cloned() else {
            return;
        };
        let selector = Selector::from_label_selector(&budget["spec"]["selector"]);
        let pods: Vec<Arc<Value>> = self
            .store
            .list("pods", &key.namespace)
            .filter(|(_, pod)| selector.matches(pod) && !is_terminal(pod))
            .map(|(_, pod)| Arc::clone(pod))
            .collect();
        let healthy = pods
            .iter()
            .filter(|pod| is_ready(pod) && !is_deleting(pod))
            .count();
        let expected = self.expected_pods(&key.namespace, &pods);
        let spec = &budget["spec"];
        let (desired, expected) = if spec["maxUnavailable"].is_null() {
            let minimum = &spec["minAvailable"];
            let expected = if minimum.is_string() { expected } else { pods.len() };
            (scaled(minimum, expected, 1), expected)
        } else {
            (
                expected.saturating_sub(scaled(&spec["maxUnavailable"], expected, 0)),
                expected,
            )
        };
        let allowed = if expected == 0 {
            0
        } else {
            healthy.saturating_sub(desired)
        };
        let generation = budget["metadata"]["generation"].clone();
        let now = self.now_seconds();
        let condition = if allowed > 0 {
            json!({"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": "",
                "observedGeneration": generation})
        } else {
            json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
                "observedGeneration": generation})
        };
        self.write_status(key, |status| {
            super::super::write::set_or_remove(status, "disruptedPods", None);
            status["currentHealthy"] = json!(healthy);
            status["desiredHealthy"] = json!(desired);
            status["expectedPods"] = json!(expected);
            status["disruptionsAllowed"] = json!(allowed);
            status["observedGeneration"] = generation;
            set_condition(status, &now, &condition);
        });
    }

    /// How many pods their controllers want.
    fn expected_pods(&self, namespace: &str, pods: &[Arc<Value>]) -> usize {
        let mut seen = BTreeSet::new();
        let mut sum = 0;
        for pod in pods {
            let Some(owner) = controller_of(pod) else {
                sum += 1;
                continue;
            };
            if !seen.insert(owner["uid"].to_string()) {
                continue;
            }
            let resource = match owner["kind"].as_str() {
                Some("ReplicaSet") => "replicasets.apps",
                Some("StatefulSet") => "statefulsets.apps",
                _ => "",
            };
            let wanted = self
                .store
                .find(resource, namespace, owner["name"].as_str().unwrap_or(""))
                .and_then(|o| o["spec"]["replicas"].as_u64());
            sum += wanted.and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
        }
        sum
    }

    /// `POST pods/x/eviction`.
    pub(in super::super) fn evict(
        &mut self,
        kind: &Arc<Kind>,
        request: &ApiRequest,
    ) -> Result<Reply, ApiError> {
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
            let cause = if healthy <= desired {
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

/// A count, or a percentage rounded up; `missing` when neither is given.
fn scaled(value: &Value, total: usize, missing: usize) -> usize {
    if let Some(n) = value.as_u64() {
        return usize::try_from(n).unwrap_or(usize::MAX);
    }
    value
        .as_str()
        .and_then(|s| s.trim_end_matches('%').parse::<usize>().ok())
        .map_or(missing, |percent| (total * percent).div_ceil(100))
}
