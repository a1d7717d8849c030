//! What a cluster says of a plan, asked with the caller's own rights. Nothing is changed: reads, reviews, and requests whose answer the
//! API server does not store.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;
use kubernaut_actors::ports::{Account, TargetApi as _};
use kubernaut_crds::{ExecutionPhase, KubernetesExecution, WorkflowExecution, names};
use kubernaut_machines::Settings;
use kubernaut_machines::actions::{AccessRequest, target_name};
use kubernaut_machines::parameters::ValidatedExecution;
use kubernaut_machines::plan::Plan;
use kubernaut_machines::policy::Verdict;
use kubernaut_machines::policy_input::{Other, action_of, is_rollback, policy_input, with_others};
use kubernaut_machines::preflight::{Preflight, Scope, check, reads};
use kubernaut_machines::requests::{DryRequest, dry_requests};
use serde_json::{Value, json};

use super::report::StepPlan;
use crate::kube_api::KubeApi;
use crate::live::connection::Connection;
use crate::policy::PolicySet;
use crate::rehearsal::input::Manifest;
use crate::rehearsal::rehearse::changes;
use crate::telemetry::Telemetry;

/// So many reviews are asked at once.
const AT_ONCE: usize = 8;

/// A cluster that is asked.
pub(super) struct Cluster {
    connection: Connection,
    api: KubeApi,
    policies: Option<PolicySet>,
    /// The executions that have not ended, or why they could not be read.
    running: Result<Vec<KubernetesExecution>, String>,
}

impl Cluster {
    pub(super) async fn open(
        connection: Connection,
        settings: &Settings,
        policies: Option<PolicySet>,
    ) -> Self {
        let api = KubeApi::new(
            connection.client.clone(),
            settings.executor_namespace.clone(),
            Arc::new(Telemetry::default()),
            Timestamp::now(),
        );
        let running = running(&connection).await;
        Self {
            connection,
            api,
            policies,
            running,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.connection.name
    }

    pub(super) fn namespace(&self) -> &str {
        &self.connection.namespace
    }

    /// The rights that the account lacks.
    ///
    /// # Errors
    /// In words: they could not be asked for.
    pub(super) async fn missing(
        &self,
        account: &Account,
        needed: &BTreeSet<AccessRequest>,
    ) -> Result<Vec<AccessRequest>, String> {
        let answers = stream::iter(needed)
            .map(async |request| {
                let may = self.api.may(account, request).await;
                may.map(|may| (!may).then(|| request.clone()))
            })
            .buffered(AT_ONCE);
        let answers: Vec<Option<AccessRequest>> =
            answers.try_collect().await.map_err(|failure| failure.message)?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// # Errors
    /// In words: it could not be looked for.
    pub(super) async fn account_exists(&self, account: &Account) -> Result<bool, String> {
        let answer = self.api.account_exists(account).await;
        answer.map_err(|failure| failure.message)
    }

    /// The value of a label of a namespace.
    ///
    /// # Errors
    /// In words: it could not be read.
    pub(super) async fn label_of_namespace(&self, name: &str, label: &str) -> Result<Option<String>, String> {
        let api: Api<Namespace> = Api::all(self.connection.client.clone());
        let found = api.get_opt(name).await.map_err(|error| {
            let doing = format!("reading namespace {name}");
            self.connection.trouble(&doing, &error).words()
        })?;
        Ok(found.and_then(|found| found.metadata.labels?.get(label).cloned()))
    }

    /// What a step finds, and what it would change.
    pub(super) async fn step(
        &self,
        execution: &KubernetesExecution,
        settings: &Settings,
        made_by: Option<i32>,
    ) -> StepPlan {
        let mut step = StepPlan::default();
        let Ok(checked) = kubernaut_machines::parameters::check(execution, settings) else {
            return step;
        };
        step.target = target_name(&checked.target);
        let scope = Scope {
            locked: true,
            optional: true,
        };
        let facts = match self.api.read(reads(&checked, scope)).await {
            Ok(facts) => facts,
            Err(failure) => {
                step.unknown = Some(failure.message);
                return step;
            }
        };
        match check(execution, &checked, &facts, settings) {
            Ok(preflight) => {
                self.tell(execution, &checked, &preflight, made_by, &mut step)
                    .await;
            }
            Err(refusal) => {
                let message = format!("{} ({})", refusal.message, refusal.error_type.as_str());
                match made_by {
                    Some(number) => step
                        .notes
                        .push(format!("now {message}; step {number} may change that")),
                    None => step.refused = Some(message),
                }
            }
        }
        step
    }

    async fn tell(
        &self,
        execution: &KubernetesExecution,
        checked: &ValidatedExecution,
        preflight: &Preflight,
        made_by: Option<i32>,
        step: &mut StepPlan,
    ) {
        step.impact.clone_from(&preflight.impact);
        step.notes.extend(preflight.warnings.iter().cloned());
        step.reversible = preflight.rollback.available;
        step.irreversible_why.clone_from(&preflight.rollback.reason);
        if let Some(verdict) = self.verdict(execution, checked, preflight) {
            if verdict.requires_approval {
                step.notes
                    .push(format!("the policy {} asks for an approval", verdict.policy));
            }
            if verdict.requires_dry_run {
                step.notes
                    .push(format!("the policy {} asks for a dry run first", verdict.policy));
            }
            if let Some(refusal) = verdict.refusal() {
                step.refused = Some(refusal);
                return;
            }
            step.notes.extend(verdict.warnings);
        }
        let requests = match dry_requests(execution, checked, preflight, Timestamp::now()) {
            Ok(requests) => requests,
            Err(error) => {
                step.unread.push(error.to_string());
                return;
            }
        };
        for request in requests {
            match self.tried(&request).await {
                Ok(diff) => step.changes.extend(diff),
                Err(kube::Error::Api(status))
                    if status.code == 403 && status.message.contains(" cannot ") =>
                {
                    step.unread.push(format!("what would change: {}", status.message));
                }
                Err(error) => {
                    let words = self.connection.trouble("trying it", &error).words();
                    match made_by {
                        Some(number) => step
                            .notes
                            .push(format!("now {words}; step {number} may change that")),
                        None => step.refused = Some(words),
                    }
                }
            }
        }
    }

    /// Sends a request that changes nothing; with the change in lines, where it is one of an object.
    async fn tried(&self, request: &DryRequest) -> Result<Option<String>, kube::Error> {
        let before = if request.method == "PATCH" {
            let read = Request::get(&request.path).body(Vec::new());
            let read = self
                .connection
                .client
                .request::<Value>(read.map_err(kube::Error::HttpError)?)
                .await;
            match read {
                Ok(object) => object,
                Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
                Err(error) => return Err(error),
            }
        } else {
            Value::Null
        };
        let uri = format!("{}?{}", request.path, request.query);
        let sent = Request::builder()
            .method(request.method)
            .uri(uri)
            .header(http::header::CONTENT_TYPE, request.content_type)
            .body(request.body.clone().into_bytes())
            .map_err(kube::Error::HttpError)?;
        let after: Value = self.connection.client.request(sent).await?;
        if request.method != "PATCH" {
            return Ok(None);
        }
        let before = (!before.is_null()).then_some(&before);
        let text = changes::change(before, Some(&after));
        Ok((!text.is_empty()).then_some(text))
    }

    /// Who acts on the targets now.
    ///
    /// # Errors
    /// In words: it could not be read.
    pub(super) fn holders(&self, plan: &Plan) -> Result<Vec<String>, String> {
        let running = self.running.as_ref().map_err(Clone::clone)?;
        let targets: BTreeSet<String> = plan
            .steps
            .values()
            .map(|step| target_name(&step.target))
            .collect();
        let mut holders = Vec::new();
        for execution in running {
            let target = execution
                .status
                .as_ref()
                .and_then(|status| status.target_name.as_ref());
            if let Some(target) = target.filter(|target| targets.contains(*target)) {
                holders.push(format!(
                    "{target} is acted on by {}/{} now, and is waited for",
                    execution.metadata.namespace.as_deref().unwrap_or_default(),
                    execution.metadata.name.as_deref().unwrap_or_default()
                ));
            }
        }
        Ok(holders)
    }

    /// What the policies say of a step, with what runs now besides; none where there are no policies.
    fn verdict(
        &self,
        execution: &KubernetesExecution,
        checked: &ValidatedExecution,
        preflight: &Preflight,
    ) -> Option<Verdict> {
        let policies = self.policies.as_ref()?;
        let running = self.running.iter().flatten();
        let others: Vec<Other> = running
            .filter(|other| other.phase() == Some(ExecutionPhase::Executing))
            .filter_map(|other| {
                Some(Other {
                    action: action_of(other),
                    target: other.status.as_ref()?.target.clone()?,
                    rollback: is_rollback(other),
                })
            })
            .collect();
        let input = policy_input(execution, checked, preflight, Timestamp::now());
        Some(policies.judge(&with_others(input, &others)))
    }

    /// Why the API server would not take the workflow: its admission policies are asked, too.
    pub(super) async fn would_take(
        &self,
        manifest: &Manifest,
        namespace: &str,
        user: &str,
    ) -> Option<String> {
        let mut object = manifest.object.clone();
        let annotations = &mut object["metadata"]["annotations"];
        if annotations[names::ANNOTATION_CREATED_BY].is_null() {
            annotations[names::ANNOTATION_CREATED_BY] = json!(user);
        }
        if manifest.is_name_made_up
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("name");
        }
        let object: DynamicObject = serde_json::from_value(object).ok()?;
        let resource = ApiResource::erase::<WorkflowExecution>(&());
        let api = Api::<DynamicObject>::namespaced_with(self.connection.client.clone(), namespace, &resource);
        let parameters = PostParams {
            dry_run: true,
            field_manager: None,
        };
        let error = api.create(&parameters, &object).await.err()?;
        Some(self.connection.trouble("creating the workflow", &error).words())
    }
}

/// The executions that have not ended.
async fn running(connection: &Connection) -> Result<Vec<KubernetesExecution>, String> {
    let resource = ApiResource::erase::<KubernetesExecution>(&());
    let api = Api::<DynamicObject>::all_with(connection.client.clone(), &resource);
    let mut running = Vec::new();
    let read = connection.each(&api, ListParams::default(), |execution: KubernetesExecution| {
        if !execution.is_terminal() {
            running.push(execution);
        }
    });
    let read = read.await;
    read.map_err(|error| {
        let doing = "looking for who acts on the targets";
        connection.trouble(doing, &error).words()
    })?;
    Ok(running)
}
