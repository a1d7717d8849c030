//! The kinds that are kept: whom a change of one concerns, and what of it is read.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::Resource;
use kubernaut_actors::Change;
use kubernaut_actors::ports::controlling_workflow;
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, names};
use serde::Serialize;

use super::store::Tables;
use super::table::Table;
use crate::guard::Decode;
use crate::slim::Slim;

/// A kind that is kept.
pub(super) trait Kept:
    Decode + Serialize + Resource<DynamicType = ()> + Clone + Send + Sync + 'static
{
    /// The watch, for people.
    const WATCH: &'static str;
    const KIND: &'static str;
    const API_VERSION: &'static str;
    fn table(tables: &mut Tables) -> &mut Table<Self>
    where
        Self: Sized;
    /// Uid of what it belongs to.
    fn owner(&self) -> Option<&str>;
    /// What a change of it means.
    fn change(uid: &str, owner: Option<&str>) -> Option<Change>;
    /// What else it means when it is gone.
    fn gone(_owner: Option<&str>) -> Option<Change> {
        None
    }
    /// Drops what nobody reads and its decoding has left.
    fn slim(&mut self) {}
    /// Nothing will be begun by it.
    fn is_ended(&self) -> bool {
        false
    }
    /// It is looked at often, because it runs or is about to.
    fn is_hot(&self) -> bool {
        true
    }
    /// Drops what only running it needs; `alone` when no workflow that runs may ask for its spec.
    fn retire(&mut self, _alone: bool) {}
}

impl Kept for WorkflowExecution {
    const WATCH: &'static str = "watch of WorkflowExecutions";
    const KIND: &'static str = names::WORKFLOW_KIND;
    const API_VERSION: &'static str = names::WORKFLOW_API_VERSION;

    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.workflows
    }

    fn owner(&self) -> Option<&str> {
        None
    }

    fn change(uid: &str, _: Option<&str>) -> Option<Change> {
        Some(Change::Workflow(uid.to_owned()))
    }

    fn is_ended(&self) -> bool {
        Slim::is_ended(self)
    }

    fn is_hot(&self) -> bool {
        self.is_begun()
    }

    fn retire(&mut self, _alone: bool) {
        self.settle();
    }
}

impl Kept for KubernetesExecution {
    const WATCH: &'static str = "watch of KubernetesExecutions";
    const KIND: &'static str = names::EXECUTION_KIND;
    const API_VERSION: &'static str = names::EXECUTION_API_VERSION;

    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.executions
    }

    fn owner(&self) -> Option<&str> {
        controlling_workflow(self)
    }

    fn change(uid: &str, _: Option<&str>) -> Option<Change> {
        Some(Change::Execution(uid.to_owned()))
    }

    /// The store no longer tells whose it was.
    fn gone(owner: Option<&str>) -> Option<Change> {
        owner.map(|workflow| Change::Workflow(workflow.to_owned()))
    }

    fn is_ended(&self) -> bool {
        Slim::is_ended(self)
    }

    fn is_hot(&self) -> bool {
        !Slim::is_ended(self)
    }

    fn retire(&mut self, alone: bool) {
        self.settle();
        if alone {
            self.forget();
        }
    }
}

impl Decode for Job {}

impl Kept for Job {
    const WATCH: &'static str = "watch of Jobs";
    const KIND: &'static str = "Job";
    const API_VERSION: &'static str = "batch/v1";

    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.jobs
    }

    fn owner(&self) -> Option<&str> {
        label(self, names::LABEL_EXECUTION_UID)
    }

    fn change(_: &str, owner: Option<&str>) -> Option<Change> {
        owner.map(|execution| Change::Jobs(execution.to_owned()))
    }

    /// How it was rendered is recorded elsewhere; here its conditions count.
    fn slim(&mut self) {
        self.metadata.managed_fields = None;
        self.spec = None;
    }
}

impl Decode for Pod {}

impl Kept for Pod {
    const WATCH: &'static str = "watch of pods";
    const KIND: &'static str = "Pod";
    const API_VERSION: &'static str = "v1";

    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.pods
    }

    fn owner(&self) -> Option<&str> {
        label(self, names::LABEL_EXECUTION_UID)
    }

    fn change(_: &str, owner: Option<&str>) -> Option<Change> {
        owner.map(|execution| Change::Jobs(execution.to_owned()))
    }

    /// Its containers' state counts, not what they are made of; its annotations hold the payload.
    fn slim(&mut self) {
        self.metadata.managed_fields = None;
        self.metadata.annotations = None;
        if let Some(spec) = self.spec.take() {
            self.spec = Some(PodSpec {
                node_name: spec.node_name,
                ..PodSpec::default()
            });
        }
    }
}

pub(super) fn label<'a, K: Resource>(object: &'a K, name: &str) -> Option<&'a str> {
    object.meta().labels.as_ref()?.get(name).map(String::as_str)
}

pub(super) fn job_of(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners
        .filter(|owner| owner.controller == Some(true) && owner.kind == "Job")
        .map(|owner| owner.name.as_str())
        .next()
}
