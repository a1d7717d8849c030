//! What the watches have shown: workflows, executions, and their Jobs and pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kubernaut_actors::Change;
use kubernaut_actors::ports::{JobRef, Key, StoreReader, uid_of};
use kubernaut_crds::{Approval, KubernetesExecution, WorkflowExecution, names};
use kubernaut_machines::approval::Requirement;
use kubernaut_machines::job_view::{JobView, view};
use kubernaut_machines::time::later;

use super::approvals::{AdmissionBinding, AdmissionPolicy, LastSeen, SETTLES, requires_approval, standing};
use super::kept::{Kept, job_of, label};
use super::table::Table;
use crate::manifests::Expected;

/// What the watches have seen, each object once, and who belongs to whom.
#[derive(Default)]
pub struct Store {
    tables: RwLock<Tables>,
    /// The policy that makes Approvals true, as it has to be.
    expected: Expected,
}

#[derive(Default)]
pub(super) struct Tables {
    /// Somebody runs what is in here.
    followed: bool,
    pub(super) workflows: Table<WorkflowExecution>,
    pub(super) executions: Table<KubernetesExecution>,
    pub(super) jobs: Table<Job>,
    pub(super) pods: Table<Pod>,
    pub(super) approvals: Table<Approval>,
    pub(super) namespaces: Table<Namespace>,
    pub(super) policies: Table<AdmissionPolicy>,
    pub(super) bindings: Table<AdmissionBinding>,
    policy: LastSeen,
    binding: LastSeen,
}

impl Store {
    /// An empty one, for which Approvals are true while policy and binding are these.
    pub fn expecting(expected: Expected) -> Self {
        Self {
            tables: RwLock::default(),
            expected,
        }
    }

    /// Notes that policy or binding for Approvals, if this is one of them, is as it is now; `None` that it is gone.
    pub(super) fn note_admission<K: Kept>(&self, object: Option<&K>, now: Timestamp) {
        let tables = &mut *self.write();
        for (is_this, last) in [
            (K::KIND == AdmissionPolicy::KIND, &mut tables.policy),
            (K::KIND == AdmissionBinding::KIND, &mut tables.binding),
        ] {
            match object {
                Some(object) if is_this => last.note(object.meta(), now),
                None if is_this => last.gone(now),
                Some(_) | None => {}
            }
        }
    }

    /// Puts an object in, of a text of this length. Says whom to poke.
    pub(super) fn put<K: Kept>(&self, object: K, size: usize) -> Vec<Change> {
        put(&mut self.write(), object, size).into_iter().collect()
    }

    /// Takes an object out. Says whom to poke.
    pub(super) fn remove<K: Kept>(&self, uid: &str) -> Vec<Change> {
        K::table(&mut self.write()).remove(uid)
    }

    /// A whole list was put in, of these uids: what else there is, is gone. Says whom to poke.
    pub(super) fn listed<K: Kept>(&self, uids: &BTreeSet<String>) -> Vec<Change> {
        let mut tables = self.write();
        let table = K::table(&mut tables);
        table.complete = true;
        let gone: Vec<String> = table.uids().filter(|uid| !uids.contains(*uid)).cloned().collect();
        gone.iter().flat_map(|uid| table.remove(uid)).collect()
    }

    /// From now on somebody runs what is in here, and says when it is done with something ([`StoreReader::settled`]). Until
    /// then nobody does, and what has ended is kept short at once.
    pub fn follow(&self) {
        self.write().followed = true;
    }

    /// How many there are of a kind, and how many bytes they have, about.
    pub(super) fn amount<K: Kept>(&self) -> (usize, usize) {
        let mut tables = self.write();
        let table = K::table(&mut tables);
        table.amount()
    }

    /// No longer complete until each kind was listed again; what is there stays.
    pub(super) fn begin_again(&self) {
        let Tables {
            workflows,
            executions,
            jobs,
            pods,
            approvals,
            namespaces,
            policies,
            bindings,
            policy: _,
            binding: _,
            followed: _,
        } = &mut *self.write();
        workflows.complete = false;
        executions.complete = false;
        jobs.complete = false;
        pods.complete = false;
        approvals.complete = false;
        namespaces.complete = false;
        policies.complete = false;
        bindings.complete = false;
    }

    /// True when each kind has had its first list.
    pub fn is_complete(&self) -> bool {
        let Tables {
            workflows,
            executions,
            jobs,
            pods,
            approvals,
            namespaces,
            policies,
            bindings,
            policy: _,
            binding: _,
            followed: _,
        } = &*self.read();
        let admission = policies.complete && bindings.complete;
        let approvals = approvals.complete && namespaces.complete && admission;
        workflows.complete && executions.complete && jobs.complete && pods.complete && approvals
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` when this version is known: a list repeats what a watch has said.
fn put<K: Kept>(tables: &mut Tables, object: K, size: usize) -> Option<Change> {
    let uid = uid_of(object.meta()).to_owned();
    if K::table(tables).knows(&uid, object.meta()) {
        return None;
    }
    let is_news = !K::COMPARED || !object.says_the_same(K::table(tables).get(&uid).as_deref());
    let (retires, is_followed) = (!tables.followed && object.is_ended(), tables.followed);
    let change = K::change(&uid, object.owner());
    let alone = tables.is_alone(object.owner());
    let is_hot = object.is_hot();
    let table = K::table(tables);
    table.insert(&uid, object, size);
    if retires {
        table.retire(&uid, alone);
        tables.retire_executions_of(&uid);
    } else if !is_followed && !is_hot {
        // Nobody looks at it before there is somebody, and then not at all of them at once.
        table.pack(&uid);
    }
    change.filter(|_| is_news)
}

impl Tables {
    /// Whether no workflow that runs may ask for the spec of an execution that has this controller. One that is not seen
    /// may not be seen yet.
    fn is_alone(&self, owner: Option<&str>) -> bool {
        owner.is_none_or(|uid| self.workflows.is_ended(uid))
    }

    fn retire_executions_of(&mut self, workflow: &str) {
        for uid in self.executions.uids_of(workflow) {
            self.executions.retire(&uid, true);
        }
    }

    /// Jobs of an execution by name, and pods whose Job is gone.
    fn views(&self, execution_uid: &str) -> BTreeMap<String, JobView> {
        let pods = self.pods.of_owner(execution_uid);
        let jobs = self.jobs.of_owner(execution_uid);
        let pods: Vec<&Pod> = pods.iter().map(|pod| &**pod).collect();
        let jobs: BTreeMap<&str, &Job> = jobs
            .iter()
            .filter_map(|job| Some((job.metadata.name.as_deref()?, &**job)))
            .collect();
        let job_names: BTreeSet<&str> = jobs
            .keys()
            .copied()
            .chain(pods.iter().copied().filter_map(job_of))
            .collect();
        job_names
            .into_iter()
            .filter_map(|name| {
                Some((
                    name.to_owned(),
                    view(name, jobs.get(name).copied(), pods.iter().copied())?,
                ))
            })
            .collect()
    }

    fn refs(&self, execution_uid: &str) -> Vec<JobRef> {
        let mut views = self.views(execution_uid);
        let jobs = self.jobs.of_owner(execution_uid);
        let jobs = jobs.iter().filter_map(|job| {
            let text = |name| label(&**job, name);
            let annotations = job.metadata.annotations.as_ref();
            let whole_name = annotations.and_then(|map| map.get(names::ANNOTATION_EXECUTION_NAME));
            let name = whole_name
                .map(String::as_str)
                .or(text(names::LABEL_EXECUTION_NAME));
            Some(JobRef {
                execution: Key {
                    namespace: text(names::LABEL_EXECUTION_NAMESPACE)
                        .unwrap_or_default()
                        .to_owned(),
                    name: name.unwrap_or_default().to_owned(),
                },
                execution_uid: execution_uid.to_owned(),
                view: views.remove(job.metadata.name.as_deref()?)?,
            })
        });
        jobs.collect()
    }
}

impl StoreReader for Store {
    fn settled(&self, uid: &str) {
        let tables = &mut *self.write();
        tables.workflows.retire(uid, true);
        let alone = tables.is_alone(tables.executions.owner(uid));
        tables.executions.retire(uid, alone);
        tables.jobs.pack_of(uid);
        tables.pods.pack_of(uid);
    }

    fn parked(&self, uid: &str) {
        self.write().workflows.pack(uid);
    }

    fn workflow(&self, uid: &str) -> Option<Arc<WorkflowExecution>> {
        self.read().workflows.get(uid)
    }

    fn execution(&self, uid: &str) -> Option<Arc<KubernetesExecution>> {
        self.read().executions.get(uid)
    }

    fn has_executions(&self, workflow_uid: &str) -> bool {
        self.read().executions.has_any_of(workflow_uid)
    }

    fn execution_versions_of(&self, workflow_uid: &str) -> Vec<(String, u64)> {
        self.read().executions.versions_of(workflow_uid)
    }

    fn execution_uids_of(&self, workflow_uid: &str) -> Vec<String> {
        self.read().executions.uids_of(workflow_uid)
    }

    fn jobs_of(&self, execution_uid: &str) -> Vec<JobView> {
        self.read().views(execution_uid).into_values().collect()
    }

    fn job_refs_of(&self, execution_uid: &str) -> Vec<JobRef> {
        self.read().refs(execution_uid)
    }

    fn approvals_of(&self, uid: &str) -> Vec<Arc<Approval>> {
        self.read().approvals.of_owner(uid)
    }

    fn requires_approval(&self, namespace: &str) -> Requirement {
        match self.read().namespaces.of_owner(namespace).first() {
            None => Requirement::Unknown,
            Some(found) if requires_approval(found) => Requirement::Required,
            Some(_) => Requirement::None,
        }
    }

    fn approvals_guard(&self) -> Result<Timestamp, String> {
        let tables = &*self.read();
        let policy = tables.policies.only();
        let binding = tables.bindings.only();
        let policy = standing(policy.as_deref(), &self.expected.policy, &tables.policy)?;
        let binding = standing(binding.as_deref(), &self.expected.binding, &tables.binding)?;
        Ok(later(policy.max(binding), SETTLES))
    }

    fn workflow_uids(&self) -> Vec<String> {
        self.read().workflows.uids_by_age()
    }

    fn execution_uids(&self) -> Vec<String> {
        self.read().executions.uids_by_age()
    }

    fn is_ended(&self, execution_uid: &str) -> bool {
        self.read().executions.is_ended(execution_uid)
    }

    fn uids_with_jobs(&self) -> Vec<String> {
        self.read().jobs.owners()
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
