//! The kinds that are kept: whom a change of one concerns, and what of it is read.

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kubernaut_actors::Change;
use kubernaut_actors::ports::controlling_workflow;
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, names};
use serde::{Deserialize, Serialize};

use super::store::Tables;
use super::table::Table;
use crate::guard::Decode;
use crate::metadata::Metadata;
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
    /// Whether a new version is compared with the one before.
    const COMPARED: bool = false;
    /// Nobody has to look again for this version of it.
    fn says_the_same(&self, _before: Option<&Self>) -> bool {
        false
    }
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

/// How it was rendered is recorded elsewhere; here its conditions count.
#[derive(Deserialize)]
struct JobAsRead {
    metadata: Metadata,
    status: Option<JobStatus>,
}

impl Decode for Job {
    fn decode(text: &str) -> serde_json::Result<Self> {
        let job: JobAsRead = serde_json::from_str(text)?;
        Ok(Self {
            metadata: job.metadata.into(),
            spec: None,
            status: job.status,
        })
    }
}

/// Its containers' state counts, not what they are made of.
#[derive(Deserialize)]
struct PodAsRead {
    metadata: Metadata,
    spec: Option<PodSpecAsRead>,
    status: Option<PodStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpecAsRead {
    node_name: Option<String>,
}

impl Decode for Pod {
    fn decode(text: &str) -> serde_json::Result<Self> {
        let pod: PodAsRead = serde_json::from_str(text)?;
        let mut metadata = ObjectMeta::from(pod.metadata);
        // They hold the payload.
        metadata.annotations = None;
        Ok(Self {
            metadata,
            spec: pod.spec.map(|spec| PodSpec {
                node_name: spec.node_name,
                ..PodSpec::default()
            }),
            status: pod.status,
        })
    }
}

/// The two kinds that a step's Job consists of.
macro_rules! kept_of_jobs {
    ($kind:ty, $table:ident, $watch:literal, $name:literal, $version:literal) => {
        impl Kept for $kind {
            const WATCH: &'static str = $watch;
            const KIND: &'static str = $name;
            const API_VERSION: &'static str = $version;

            fn table(tables: &mut Tables) -> &mut Table<Self> {
                &mut tables.$table
            }

            fn owner(&self) -> Option<&str> {
                label(self, names::LABEL_EXECUTION_UID)
            }

            fn change(_: &str, owner: Option<&str>) -> Option<Change> {
                owner.map(|execution| Change::Jobs(execution.to_owned()))
            }
        }
    };
}

kept_of_jobs!(Job, jobs, "watch of Jobs", "Job", "batch/v1");
kept_of_jobs!(Pod, pods, "watch of pods", "Pod", "v1");

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
