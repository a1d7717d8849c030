//! What else can be read in the cluster, where somebody may read it.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use kubernaut_crds::{ExecutionPhase, KubernetesExecution, WorkflowExecution, names};
use kubernaut_machines::waiting::{WaitingPod, waiting};
use kubernaut_machines::workflow::waits_for_people;

use crate::lease::LEASE_NAME;
use crate::live::connection::Connection;

/// So many pods of a target are looked at.
const PODS_MAX: u32 = 100;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Pods of a step's Job, or of its target, that do not run, with the number of the step.
    pub(super) waiting: Vec<(i32, WaitingPod)>,
    /// Whether who asks may approve; none where nobody is waited for.
    pub(super) may_approve: Option<bool>,
    /// Who leads the controllers; none where nobody was looked for, or nobody does.
    pub(super) leader: Option<String>,
    /// When its lease was renewed last.
    pub(super) renewed: Option<Timestamp>,
    /// Whether it was looked for who leads.
    pub(super) leader_sought: bool,
    /// What could not be read, in words.
    pub(super) unread: Vec<String>,
}

impl Looks {
    /// Looks at what bears on where the workflow stands: also into the namespaces of the controller and of its Jobs.
    pub(super) async fn at(
        connection: &Connection,
        (controller_namespace, executor_namespace): (&str, &str),
        workflow: &WorkflowExecution,
        executions: &[KubernetesExecution],
    ) -> Self {
        let mut looks = Self::default();
        let is_held = executions
            .iter()
            .any(|execution| execution.phase() == Some(ExecutionPhase::WaitingApproval));
        if waits_for_people(workflow) || is_held {
            looks.ask_for_approvals(connection).await;
        }
        if !workflow.is_terminal() {
            let is_unseen = workflow.phase().is_none();
            looks
                .look_for_a_leader(connection, controller_namespace, is_unseen)
                .await;
        }
        for execution in executions {
            match execution.phase() {
                Some(ExecutionPhase::Executing) => {
                    looks.look_at_job(connection, executor_namespace, execution).await;
                    looks.look_at_target(connection, execution).await;
                }
                Some(ExecutionPhase::Failed | ExecutionPhase::RollbackReady) => {
                    looks.look_at_target(connection, execution).await;
                }
                Some(
                    ExecutionPhase::Validating
                    | ExecutionPhase::Validated
                    | ExecutionPhase::WaitingApproval
                    | ExecutionPhase::Completed,
                )
                | None => {}
            }
        }
        looks
    }

    async fn ask_for_approvals(&mut self, connection: &Connection) {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(names::WORKFLOW_GROUP.to_owned()),
                    namespace: Some(connection.namespace.clone()),
                    resource: Some("approvals".to_owned()),
                    verb: Some("create".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(connection.client.clone());
        match api.create(&PostParams::default(), &review).await {
            Ok(review) => self.may_approve = Some(review.status.is_some_and(|status| status.allowed)),
            Err(error) => self.missed(connection, "whether you may approve", &error),
        }
    }

    async fn look_for_a_leader(&mut self, connection: &Connection, namespace: &str, is_unseen: bool) {
        let api: Api<Lease> = Api::namespaced(connection.client.clone(), namespace);
        match api.get_opt(LEASE_NAME).await {
            Ok(lease) => {
                self.leader_sought = true;
                let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
                self.leader = spec.holder_identity.filter(|holder| !holder.is_empty());
                self.renewed = spec.renew_time.map(|time| time.0);
            }
            // Who may not read it is told so where nothing else says why nothing happens.
            Err(error) if is_unseen => self.missed(connection, "which controller leads", &error),
            Err(_) => {}
        }
    }

    /// The pod of a Job that runs.
    async fn look_at_job(
        &mut self,
        connection: &Connection,
        namespace: &str,
        execution: &KubernetesExecution,
    ) {
        let status = execution.status.as_ref();
        let Some(job) = status.and_then(|status| status.job_name.as_ref()) else {
            return;
        };
        let api: Api<Pod> = Api::namespaced(connection.client.clone(), namespace);
        let labels = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        match api.list(&labels).await {
            Ok(pods) => self.add(execution.spec.step_number, pods.items),
            Err(error) => self.missed(connection, &format!("pods of Job {namespace}/{job}"), &error),
        }
    }

    /// Pods of a Deployment that do not come up.
    async fn look_at_target(&mut self, connection: &Connection, execution: &KubernetesExecution) {
        let target = execution.status.as_ref().and_then(|status| status.target.clone());
        let Some(target) = target.filter(|target| target.kind == "Deployment") else {
            return;
        };
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let what = format!("pods of deployment {namespace}/{}", target.name);
        let api: Api<Deployment> = Api::namespaced(connection.client.clone(), namespace);
        let found = match api.get_opt(&target.name).await {
            Ok(found) => found,
            Err(error) => return self.missed(connection, &what, &error),
        };
        let selector = found.and_then(|found| found.spec?.selector.match_labels);
        let Some(selector) = selector.filter(|labels| !labels.is_empty()) else {
            return;
        };
        let labels: Vec<String> = selector
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let api: Api<Pod> = Api::namespaced(connection.client.clone(), namespace);
        let parameters = ListParams::default().labels(&labels.join(",")).limit(PODS_MAX);
        match api.list(&parameters).await {
            Ok(pods) => self.add(execution.spec.step_number, pods.items),
            Err(error) => self.missed(connection, &what, &error),
        }
    }

    fn add(&mut self, step: i32, pods: Vec<Pod>) {
        let values = pods.into_iter().filter_map(|pod| serde_json::to_value(pod).ok());
        self.waiting
            .extend(values.filter_map(|pod| Some((step, waiting(&pod)?))));
    }

    fn missed(&mut self, connection: &Connection, what: &str, error: &kube::Error) {
        self.unread
            .push(connection.trouble(&format!("reading {what}"), error).words());
    }
}
