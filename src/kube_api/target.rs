//! What is repaired: rights, reads, Jobs and their payloads.

use futures::FutureExt;
use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams, PropagationPolicy};
use kubernaut_actors::ports::{Account, Answer, TargetApi};
use kubernaut_crds::names;
use kubernaut_machines::actions::AccessRequest;
use kubernaut_machines::api_command::{ApiFailure, FailureClass};
use kubernaut_machines::job_view::{JobView, view};
use kubernaut_machines::reads::{Read, ReadResults};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::failure::{already_exists, code_of, failure_of, is_unknown_kind, unread};
use super::{KubeApi, absent_is_success, kinds, precondition, rejected, vanished};
use crate::guard::Guard;

/// Objects of one page of a list: a node is 10 to 20 KB of JSON and several times that when it is read, so that 200 of them are
/// some 20 MB for a moment.
const PAGE: u32 = 200;

impl TargetApi for KubeApi {
    fn may<'a>(&'a self, account: &'a Account, request: &'a AccessRequest) -> Answer<'a, bool> {
        self.review(account, request).boxed()
    }

    fn account_exists<'a>(&'a self, account: &'a Account) -> Answer<'a, bool> {
        async move {
            let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &account.namespace);
            Ok(self
                .get("serviceaccounts", api.get_opt(&account.name))
                .await?
                .is_some())
        }
        .boxed()
    }

    fn read(&self, reads: Vec<Read>) -> Answer<'_, ReadResults> {
        try_join_all(reads.into_iter().map(|read| self.read_one(read)))
            .map(|answer| answer.map(|facts| facts.into_iter().collect()))
            .boxed()
    }

    fn create_job<'a>(&'a self, job: &'a Job, secret: Option<&'a Secret>) -> Answer<'a, JobView> {
        self.make_job(job, secret).boxed()
    }

    fn job<'a>(&'a self, name: &'a str, execution_uid: &'a str) -> Answer<'a, Option<JobView>> {
        self.find_job(name, execution_uid).boxed()
    }

    fn delete_job<'a>(&'a self, name: &'a str, uid: &'a str) -> Answer<'a, ()> {
        async move {
            let parameters = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Foreground),
                preconditions: Some(precondition(Some(uid.to_owned()))),
                ..DeleteParams::default()
            };
            let jobs = self.jobs();
            absent_is_success(
                self.counted("delete", "jobs", jobs.delete(name, &parameters))
                    .await,
            )
        }
        .boxed()
    }

    fn delete_secret<'a>(&'a self, name: &'a str, execution_uid: &'a str) -> Answer<'a, ()> {
        self.remove_secret(name, execution_uid).boxed()
    }

    fn explain_job<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<String>> {
        self.explain(name).boxed()
    }
}

impl KubeApi {
    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.executor_namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.executor_namespace)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.executor_namespace)
    }

    async fn make_job(&self, job: &Job, secret: Option<&Secret>) -> Result<JobView, ApiFailure> {
        if let Some(secret) = secret {
            self.make_secret(secret).await?;
        }
        let name = job.name_any();
        let made: Result<Guard<Job>, _> = self.create("jobs", &self.executor_namespace, job).await;
        let error = match made {
            Ok(made) => {
                let made = made
                    .object
                    .map_err(|unreadable| unread("create", &unreadable.error))?;
                let view = view(&name, Some(&made), &[]);
                return view.ok_or_else(|| vanished("job", &name));
            }
            Err(error) => error,
        };
        if !already_exists(&error) {
            return Err(failure_of("create", error));
        }
        let uid = job
            .labels()
            .get(names::LABEL_EXECUTION_UID)
            .cloned()
            .unwrap_or_default();
        let found = self.find_job(&name, &uid).await?;
        found.ok_or_else(|| vanished("job", &name))
    }

    /// A Secret of that name counts when it was made for the same execution, and has what it was made of: its label alone
    /// can be written by others.
    async fn make_secret(&self, secret: &Secret) -> Result<(), ApiFailure> {
        let secrets = self.secrets();
        let made: Result<IgnoredAny, _> = self.create("secrets", &self.executor_namespace, secret).await;
        let Err(error) = made else {
            return Ok(());
        };
        if !already_exists(&error) {
            return Err(failure_of("create", error));
        }
        let name = secret.name_any();
        let found = self.get("secrets", secrets.get_opt(&name)).await?;
        let ours = secret.labels().get(names::LABEL_EXECUTION_UID);
        match found {
            Some(found)
                if ours.is_some()
                    && found.labels().get(names::LABEL_EXECUTION_UID) == ours
                    && found.data == secret.data =>
            {
                Ok(())
            }
            Some(_) => Err(ApiFailure {
                class: FailureClass::Rejected,
                message: format!(
                    "secret {}/{name} exists and is not the payload of this execution",
                    self.executor_namespace
                ),
            }),
            None => Err(vanished("secret", &name)),
        }
    }

    async fn find_job(&self, name: &str, execution_uid: &str) -> Result<Option<JobView>, ApiFailure> {
        let (jobs, pods) = (self.jobs(), self.pods());
        let selector =
            ListParams::default().labels(&format!("{}={execution_uid}", names::LABEL_EXECUTION_UID));
        // The Job first: pods that are listed later than their Job never make it look more alive than it is.
        let job = self.get("jobs", jobs.get_opt(name)).await?;
        let pods = self.counted("list", "pods", pods.list(&selector)).await;
        let pods = pods.map_err(|error| failure_of("list", error))?;
        Ok(view(name, job.as_ref(), &pods.items))
    }

    async fn remove_secret(&self, name: &str, execution_uid: &str) -> Result<(), ApiFailure> {
        let secrets = self.secrets();
        let Some(found) = self.get("secrets", secrets.get_opt(name)).await? else {
            return Ok(());
        };
        if found
            .labels()
            .get(names::LABEL_EXECUTION_UID)
            .is_none_or(|uid| uid != execution_uid)
        {
            return Ok(());
        }
        let parameters = DeleteParams {
            preconditions: Some(precondition(found.uid())),
            ..DeleteParams::default()
        };
        absent_is_success(
            self.counted("delete", "secrets", secrets.delete(name, &parameters))
                .await,
        )
    }

    async fn read_one(&self, read: Read) -> Result<(Read, Vec<Value>), ApiFailure> {
        let found = match &read {
            Read::Get {
                api_version,
                kind,
                namespace,
                name,
            } => {
                let namespace = namespace.as_deref();
                let request = kinds::get(api_version, kind, namespace, name).map_err(rejected)?;
                let resource = kinds::resource_name(kind);
                match self
                    .counted("get", resource, self.client.request::<Value>(request))
                    .await
                {
                    Ok(found) => {
                        kinds::check_answer(&found, api_version, kind, namespace, name).map_err(rejected)?;
                        vec![found]
                    }
                    Err(error) if code_of("get", Some(&error)) == 404 && !is_unknown_kind(&error) => {
                        Vec::new()
                    }
                    Err(error) => return Err(failure_of("get", error)),
                }
            }
            Read::List {
                api_version,
                kind,
                namespace,
                label_selector,
                field_selector,
                limit,
            } => {
                let parameters = ListParams {
                    label_selector: label_selector.clone(),
                    field_selector: field_selector.clone(),
                    limit: Some(limit.unwrap_or(PAGE)),
                    ..ListParams::default()
                };
                let place = (api_version.as_str(), kind.as_str(), namespace.as_deref());
                self.read_list(place, parameters, limit.is_some()).await?
            }
        };
        Ok((read, found))
    }

    /// What a list selects: one page, or page after page. Of each object only what decisions look at is kept.
    async fn read_list(
        &self,
        (api_version, kind, namespace): (&str, &str, Option<&str>),
        mut parameters: ListParams,
        one_page: bool,
    ) -> Result<Vec<Value>, ApiFailure> {
        let resource = kinds::resource_name(kind);
        let mut found = Vec::new();
        loop {
            let request = kinds::list(api_version, kind, namespace, &parameters).map_err(rejected)?;
            let answer = self
                .counted("list", resource, self.client.request::<Value>(request))
                .await;
            let mut page = answer.map_err(|error| failure_of("list", error))?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                found.extend(items.into_iter().map(|item| kinds::without_weight(kind, item)));
            }
            let next = page["metadata"]["continue"].as_str().unwrap_or_default();
            if next.is_empty() || one_page {
                return Ok(found);
            }
            parameters.continue_token = Some(next.to_owned());
        }
    }

    async fn review(&self, account: &Account, request: &AccessRequest) -> Result<bool, ApiFailure> {
        let Account { namespace, name } = account;
        let optional = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{namespace}:{name}")),
                groups: Some(vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated".to_owned(),
                ]),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(request.verb.clone()),
                    group: optional(&request.group),
                    resource: Some(request.resource.clone()),
                    subresource: request.subresource.clone(),
                    namespace: request.namespace.clone(),
                    name: request.name.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let answer = self
            .counted("create", "subjectaccessreviews", api.create(&parameters, &review))
            .await;
        verdict(answer.map_err(|error| failure_of("create", error))?.status)
    }
}

/// What an answer about a right says. No authorizer that said yes is not the same as one that could not be asked.
fn verdict(status: Option<SubjectAccessReviewStatus>) -> Result<bool, ApiFailure> {
    let status = status.unwrap_or_default();
    if status.denied == Some(true) {
        return Ok(false);
    }
    match status.evaluation_error.filter(|error| !error.is_empty()) {
        Some(error) if !status.allowed => Err(ApiFailure {
            class: FailureClass::Unknown,
            message: format!("the right could not be checked: {error}"),
        }),
        _ => Ok(status.allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(allowed: bool, denied: Option<bool>, error: Option<&str>) -> Result<bool, FailureClass> {
        let status = SubjectAccessReviewStatus {
            allowed,
            denied,
            evaluation_error: error.map(str::to_owned),
            reason: Some("RBAC: role \"gone\" not found".to_owned()),
        };
        verdict(Some(status)).map_err(|failure| failure.class)
    }

    #[test]
    fn a_right_is_there_when_an_authorizer_says_yes_and_none_says_no() {
        assert_eq!(answer(true, None, None), Ok(true));
        assert_eq!(answer(true, Some(false), Some("the other one is away")), Ok(true));
        assert_eq!(answer(true, Some(true), None), Ok(false));
        assert_eq!(
            answer(false, Some(true), Some("the other one is away")),
            Ok(false)
        );
        assert_eq!(answer(false, None, None), Ok(false));
        assert_eq!(answer(false, None, Some("")), Ok(false));
        assert_eq!(verdict(None).ok(), Some(false));
    }

    #[test]
    fn an_authorizer_that_is_away_says_neither_yes_nor_no() {
        let away = Some("Post \"https://authorizer\": connection refused");
        assert_eq!(answer(false, None, away), Err(FailureClass::Unknown));
        assert_eq!(answer(false, Some(false), away), Err(FailureClass::Unknown));
    }
}
