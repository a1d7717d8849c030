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
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, names};
use kubernaut_machines::Settings;
use kubernaut_machines::actions::{AccessRequest, target_name};
use kubernaut_machines::plan::Plan;
use kubernaut_machines::preflight::{Preflight, Scope, check, reads};
use kubernaut_machines::requests::{DryRequest, dry_requests};
use serde_json::{Value, json};

use super::report::StepPlan;
use crate::kube_api::KubeApi;
use crate::live::connection::Connection;
use crate::rehearsal::input::Manifest;
use crate::rehearsal::rehearse::{changes, mask};
use crate::telemetry::Telemetry;

/// So many reviews are asked at once.
const AT_ONCE: usize = 8;

/// A cluster that is asked.
pub(super) struct Cluster {
    connection: Connection,
    api: KubeApi,
}

impl Cluster {
    pub(super) fn new(connection: Connection, settings: &Settings) -> Self {
        let api = KubeApi::new(
            connection.client.clone(),
            settings.executor_namespace.clone(),
            Arc::new(Telemetry::default()),
            Timestamp::now(),
        );
        Self { connection, api }
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
                step.unread.push(failure.message);
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
        checked: &kubernaut_machines::parameters::ValidatedExecution,
        preflight: &Preflight,
        made_by: Option<i32>,
        step: &mut StepPlan,
    ) {
        step.impact.clone_from(&preflight.impact);
        step.notes.extend(preflight.warnings.iter().cloned());
        step.reversible = preflight.rollback.available;
        step.irreversible_why.clone_from(&preflight.rollback.reason);
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
        let uri = if request.query.is_empty() {
            request.path.clone()
        } else {
            format!("{}?{}", request.path, request.query)
        };
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
        let (mut before, mut after) = (before, after);
        mask(&mut before);
        mask(&mut after);
        let objects = |object: Value| -> Vec<Arc<Value>> {
            Some(object)
                .filter(|object| !object.is_null())
                .map(Arc::new)
                .into_iter()
                .collect()
        };
        let text = changes::changes(&objects(before), &objects(after), &[]);
        Ok((!text.is_empty()).then_some(text))
    }

    /// Who acts on the targets now; what could not be read.
    pub(super) async fn holders(&self, plan: &Plan, holds: &mut Vec<String>) -> Option<String> {
        let targets: BTreeSet<String> = plan
            .steps
            .values()
            .map(|step| target_name(&step.target))
            .collect();
        let resource = ApiResource::erase::<KubernetesExecution>(&());
        let api = Api::<DynamicObject>::all_with(self.connection.client.clone(), &resource);
        let listed = api.list(&ListParams::default()).await;
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                return Some(
                    self.connection
                        .trouble("looking for who acts on the targets", &error)
                        .words(),
                );
            }
        };
        let running = listed
            .items
            .into_iter()
            .filter_map(|object| self.connection.typed::<KubernetesExecution>(object).ok())
            .filter(|execution| !execution.is_terminal());
        for execution in running {
            let status = execution.status.unwrap_or_default();
            let target = status.target_name.unwrap_or_default();
            if targets.contains(&target) {
                holds.push(format!(
                    "{target} is acted on by {}/{} now, and is waited for",
                    execution.metadata.namespace.unwrap_or_default(),
                    execution.metadata.name.unwrap_or_default()
                ));
            }
        }
        None
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
        if object["metadata"]["generateName"].is_string()
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
