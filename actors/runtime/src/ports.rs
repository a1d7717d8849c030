//! What the actors need of the world, as traits: the composition root brings the adapters, tests bring fakes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubernaut_crds::{Approval, KubernetesExecution, WorkflowExecution, names};
use kubernaut_machines::actions::AccessRequest;
use kubernaut_machines::announcement::{Announcement, EventRecord};
use kubernaut_machines::api_command::ApiFailure;
use kubernaut_machines::approval::Requirement;
use kubernaut_machines::job_view::JobView;
use kubernaut_machines::policy::Verdict;
use kubernaut_machines::reads::{Read, ReadResults};
use serde_json::Value;

/// The answer of a call.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ApiFailure>>;

/// The API server where workflows and executions live. One method is one call as the effects count them. Deadlines are set by
/// the caller; dropping the future gives the call up.
///
/// # Guarantees
/// No method repeats a write by itself.
pub trait HomeApi: Send + Sync + 'static {
    /// Merge patch of /status, with the resourceVersion that `patch` carries.
    fn patch_execution_status<'a>(
        &'a self,
        execution: &'a KubernetesExecution,
        patch: &'a Value,
    ) -> Answer<'a, Arc<KubernetesExecution>>;
    /// Merge patch of /status, with the resourceVersion that `patch` carries.
    fn patch_workflow_status<'a>(
        &'a self,
        workflow: &'a WorkflowExecution,
        patch: &'a Value,
    ) -> Answer<'a, Arc<WorkflowExecution>>;
    /// Merge patch of all but /status, with the resourceVersion that `patch` carries.
    fn patch_execution<'a>(
        &'a self,
        execution: &'a KubernetesExecution,
        patch: &'a Value,
    ) -> Answer<'a, Arc<KubernetesExecution>>;
    /// Live read; `None` when there is none.
    fn execution<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> Answer<'a, Option<Arc<KubernetesExecution>>>;
    /// Live read; `None` when there is none.
    fn workflow<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> Answer<'a, Option<Arc<WorkflowExecution>>>;
    /// Creates an execution; true when this call made it, false with the one that was there.
    fn create_execution<'a>(
        &'a self,
        execution: &'a KubernetesExecution,
    ) -> Answer<'a, (Arc<KubernetesExecution>, bool)>;
    /// Deletes a workflow when it has this uid; absence is success.
    fn delete_workflow<'a>(&'a self, key: &'a Key, uid: &'a str) -> Answer<'a, ()>;
    /// Deletes an execution when it has this uid; absence is success.
    fn delete_execution<'a>(&'a self, key: &'a Key, uid: &'a str) -> Answer<'a, ()>;
    /// Publishes an event on an object: of something that happened at `at`.
    fn publish<'a>(&'a self, subject: &'a Subject, event: &'a EventRecord, at: Timestamp) -> Answer<'a, ()>;
}

/// The API server of what is repaired, where the Jobs run: the same one today. As [`HomeApi`], but that one call may take a few
/// requests one after the other.
///
/// # Guarantees
/// No method repeats a write by itself.
pub trait TargetApi: Send + Sync + 'static {
    /// May the account do this? (SubjectAccessReview)
    fn may<'a>(&'a self, account: &'a Account, request: &'a AccessRequest) -> Answer<'a, bool>;
    /// Does the ServiceAccount exist?
    fn account_exists<'a>(&'a self, account: &'a Account) -> Answer<'a, bool>;
    /// Reads objects; each read that was asked for has its entry.
    fn read(&self, reads: Vec<Read>) -> Answer<'_, ReadResults>;
    /// Creates the Secret, then the Job; with the Job that was there when there is one of its name.
    fn create_job<'a>(&'a self, job: &'a Job, secret: Option<&'a Secret>) -> Answer<'a, JobView>;
    /// Live read of a Job in the executor namespace and of the pods of the execution.
    fn job<'a>(&'a self, name: &'a str, execution_uid: &'a str) -> Answer<'a, Option<JobView>>;
    /// Deletes a Job, Foreground, when it has this uid; absence is success.
    fn delete_job<'a>(&'a self, name: &'a str, uid: &'a str) -> Answer<'a, ()>;
    /// Deletes a payload Secret when it carries this execution's uid; absence is success.
    fn delete_secret<'a>(&'a self, name: &'a str, execution_uid: &'a str) -> Answer<'a, ()>;
    /// Why a Job has no running pod: messages of its events and its pods', oldest first.
    fn explain_job<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<String>>;
}

/// The policies that decide which executions may run.
pub trait PolicyJudge: Send + Sync + 'static {
    /// Asks about an input (docs/executions.md, Policy). An error is for what may be asked again: what a policy can't answer is a
    /// refusal.
    fn judge(&self, input: Value) -> Answer<'_, Verdict>;
}

/// What the watches have seen: at any time a state that the cluster was in, perhaps not the newest.
pub trait StoreReader: Send + Sync + 'static {
    /// By uid.
    fn workflow(&self, uid: &str) -> Option<Arc<WorkflowExecution>>;
    /// By uid.
    fn execution(&self, uid: &str) -> Option<Arc<KubernetesExecution>>;
    /// Uids and versions of the executions whose controller is the workflow of this uid: to read them all is dear.
    fn execution_versions_of(&self, workflow_uid: &str) -> Vec<(String, u64)>;
    /// Their uids.
    fn execution_uids_of(&self, workflow_uid: &str) -> Vec<String>;
    /// Whether there is one.
    fn has_executions(&self, workflow_uid: &str) -> bool;
    /// Jobs of an execution, with their pods, by name.
    fn jobs_of(&self, execution_uid: &str) -> Vec<JobView>;
    /// Jobs of an execution, with the execution that each names in its annotations.
    fn job_refs_of(&self, execution_uid: &str) -> Vec<JobRef>;
    /// Uids of all: those that have not ended first, and of these the oldest.
    fn workflow_uids(&self) -> Vec<String>;
    /// Uids of all, in the same order.
    fn execution_uids(&self) -> Vec<String>;
    /// Whether it is there and has ended: cheaper than reading it.
    fn is_ended(&self, execution_uid: &str) -> bool;
    /// Uids of executions that Jobs name in a label, whether these executions are there or not.
    fn uids_with_jobs(&self) -> Vec<String>;
    /// Approvals that name this uid.
    fn approvals_of(&self, uid: &str) -> Vec<Arc<Approval>>;
    /// What a namespace asks for.
    fn requires_approval(&self, namespace: &str) -> Requirement;
    /// Since when the policy stands that makes Approvals true.
    ///
    /// # Errors
    /// Why it does not, in words: then nobody's Approval counts.
    fn approvals_guard(&self) -> Result<Timestamp, String>;
    /// The workflow or execution of this uid has ended, and nothing is left to do for it: what only running it needs may be
    /// dropped.
    fn settled(&self, uid: &str);
    /// Nobody looks at the workflow of this uid before it changes or its turn has come: it may be kept in a form that is slower to
    /// read.
    fn parked(&self, uid: &str);
}

/// A Job and the execution that its labels name.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRef {
    /// Namespace and name of the execution.
    pub execution: Key,
    /// Uid of the execution.
    pub execution_uid: String,
    /// The Job.
    pub view: JobView,
}

/// All time comes from here.
pub trait Clock: Send + Sync + 'static {
    /// Now, as the cluster's objects tell time.
    fn now(&self) -> Timestamp;
    /// Returns at that time, at once if it has passed.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;
    /// Time since this clock was made: it never goes back and never jumps.
    fn monotonic(&self) -> Duration;
    /// Returns after that much of the monotonic time.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()>;
}

/// Closed when this process may no longer write (it lost its lease).
///
/// # Guarantees
/// It closes by time alone: no task has to run for that.
pub trait WriteGate: Send + Sync + 'static {
    /// Asked before each write, and again each time a write that is under way gets on.
    fn may_write(&self) -> bool;
}

/// A gate for where there is one controller only.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysOpen;

impl WriteGate for AlwaysOpen {
    fn may_write(&self) -> bool {
        true
    }
}

/// Kinds of actors, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ActorKind {
    /// Runs a workflow.
    Workflow,
    /// Runs an execution.
    Step,
}

impl ActorKind {
    /// As metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ActorKind::Workflow => "workflow",
            ActorKind::Step => "step",
        }
    }
}

/// What a step can wait for inside the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WaitKind {
    /// The lock on its target.
    Lock,
    /// A place among the running Jobs.
    Slot,
}

impl WaitKind {
    /// As metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitKind::Lock => "lock",
            WaitKind::Slot => "slot",
        }
    }
}

/// Logs and metrics. Every method is cheap and never blocks; the defaults do nothing.
pub trait Observer: Send + Sync + 'static {
    /// A transition: one log line, one count.
    fn announce(&self, _subject: &Subject, _announcement: &Announcement) {}
    /// An actor started (+1) or ended (-1).
    fn actors(&self, _kind: ActorKind, _change: i64) {}
    /// An actor crashed and is started again.
    fn restarted(&self, _kind: ActorKind) {}
    /// How many lock requests hold and wait.
    fn locks(&self, _held: usize, _waiting: usize) {}
    /// How many Jobs have a place and how many wait for one.
    fn slots(&self, _used: usize, _waiting: usize) {}
    /// A wait inside the controller is over.
    fn waited(&self, _kind: WaitKind, _seconds: f64) {}
    /// How many effects are not finished.
    fn effects(&self, _pending: usize) {}
    /// An event was not published: too many waited, or the API server did not take it.
    fn event_dropped(&self) {}
    /// A Job that belongs to nobody is deleted.
    fn stray(&self, _job: &JobRef) {}
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// Of an object's metadata; empty where the object says nothing.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The object that a log line or an event speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `WorkflowExecution` or `KubernetesExecution`.
    pub kind: &'static str,
    /// Its apiVersion.
    pub api_version: &'static str,
    /// Namespace and name.
    pub key: Key,
    /// Uid.
    pub uid: String,
    /// Name of the workflow, where there is one.
    pub workflow: Option<String>,
    /// Number of the step.
    pub step: Option<i32>,
    /// What follows the remediation through all objects.
    pub correlation_id: String,
}

impl Subject {
    /// Of a workflow.
    pub fn of_workflow(workflow: &WorkflowExecution) -> Self {
        let key = Key::of(&workflow.metadata);
        let uid = uid_of(&workflow.metadata).to_owned();
        Self {
            kind: names::WORKFLOW_KIND,
            api_version: names::WORKFLOW_API_VERSION,
            correlation_id: workflow.correlation_id().to_owned(),
            workflow: Some(key.name.clone()),
            step: None,
            key,
            uid,
        }
    }

    /// Of an execution.
    pub fn of_execution(execution: &KubernetesExecution) -> Self {
        let key = Key::of(&execution.metadata);
        let uid = uid_of(&execution.metadata).to_owned();
        let workflow = execution.spec.workflow_execution_ref.as_ref();
        Self {
            kind: names::EXECUTION_KIND,
            api_version: names::EXECUTION_API_VERSION,
            correlation_id: execution.correlation_id().to_owned(),
            workflow: workflow.map(|workflow| workflow.name.clone()),
            step: workflow.map(|_| execution.spec.step_number),
            key,
            uid,
        }
    }
}

/// The uid; empty on an object that was never in a cluster.
pub fn uid_of(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// Uid of the workflow that controls an execution.
pub fn controlling_workflow(execution: &KubernetesExecution) -> Option<&str> {
    kubernaut_machines::owner::controlling_workflow(execution).map(|owner| owner.uid.as_str())
}

/// resourceVersion as a number, 0 when it is none. Kubernetes made the order of resourceVersions of one resource
/// part of its API with 1.35; etcd revisions always had it.
pub fn version_of(meta: &ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
