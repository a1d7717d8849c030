//! What the watches have shown: workflows, executions, and their Jobs and pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::Resource;
use kubernaut_actors::Change;
use kubernaut_actors::ports::{JobRef, Key, StoreReader, controlling_workflow, uid_of};
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, names};
use kubernaut_machines::job_view::{JobView, view};

use crate::guard::Decode;
use crate::slim::Slim;

/// What one that has ended weighs, about, in bytes.
const RETIRED: usize = 4 * 1024;

/// What the watches have seen, each object once, and who belongs to whom.
#[derive(Default)]
pub struct Store {
    tables: RwLock<Tables>,
}

#[derive(Default)]
pub(super) struct Tables {
    /// Somebody runs what is in here.
    followed: bool,
    workflows: Table<WorkflowExecution>,
    executions: Table<KubernetesExecution>,
    jobs: Table<Job>,
    pods: Table<Pod>,
}

/// Objects of one kind by uid, and their uids by owner: changed in `put` and `remove` alone.
pub(super) struct Table<K> {
    /// A first list was put in.
    complete: bool,
    objects: BTreeMap<String, Arc<K>>,
    owned: HashMap<String, BTreeSet<String>>,
    /// Bytes by uid, about, and all of them.
    sizes: HashMap<String, usize>,
    size: usize,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            complete: false,
            objects: BTreeMap::new(),
            owned: HashMap::new(),
            sizes: HashMap::new(),
            size: 0,
        }
    }
}

/// A kind that is kept.
pub(super) trait Kept: Decode + Resource<DynamicType = ()> + Clone + Send + Sync + 'static {
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

    fn retire(&mut self, alone: bool) {
        self.settle();
        if alone {
            self.empty();
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

impl Store {
    /// Puts an object in, of a text of this length. Says whom to poke.
    pub(super) fn put<K: Kept>(&self, object: K, size: usize) -> Vec<Change> {
        put(&mut self.write(), object, size).into_iter().collect()
    }

    /// Takes an object out. Says whom to poke.
    pub(super) fn remove<K: Kept>(&self, uid: &str) -> Vec<Change> {
        remove(K::table(&mut self.write()), uid)
    }

    /// Puts a whole list in: what is not in `uids` is gone. Says whom to poke.
    pub(super) fn replace<K: Kept>(&self, uids: &BTreeSet<String>, objects: Vec<(K, usize)>) -> Vec<Change> {
        let mut tables = self.write();
        let table = K::table(&mut tables);
        table.complete = true;
        let gone: Vec<String> = table
            .objects
            .keys()
            .filter(|uid| !uids.contains(*uid))
            .cloned()
            .collect();
        let mut changes: Vec<Change> = gone.iter().flat_map(|uid| remove(table, uid)).collect();
        for (object, size) in objects {
            changes.extend(put(&mut tables, object, size));
        }
        changes
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
        (table.objects.len(), table.size)
    }

    /// No longer complete until each kind was listed again; what is there stays.
    pub(super) fn begin_again(&self) {
        let Tables {
            workflows,
            executions,
            jobs,
            pods,
            followed: _,
        } = &mut *self.write();
        workflows.complete = false;
        executions.complete = false;
        jobs.complete = false;
        pods.complete = false;
    }

    /// True when each kind has had its first list.
    pub fn is_complete(&self) -> bool {
        let Tables {
            workflows,
            executions,
            jobs,
            pods,
            followed: _,
        } = &*self.read();
        workflows.complete && executions.complete && jobs.complete && pods.complete
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` when this version is known: a list repeats what a watch has said.
fn put<K: Kept>(tables: &mut Tables, mut object: K, mut size: usize) -> Option<Change> {
    let uid = uid_of(object.meta()).to_owned();
    let known = K::table(tables).objects.get(&uid);
    if known.is_some_and(|known| known.meta().resource_version == object.meta().resource_version) {
        return None;
    }
    let retires = !tables.followed && object.is_ended();
    if retires {
        object.retire(tables.is_alone(object.owner()));
        size = size.min(RETIRED);
    }
    let owner = object.owner().map(str::to_owned);
    let table = K::table(tables);
    let before = table
        .objects
        .get(&uid)
        .and_then(|known| known.owner())
        .map(str::to_owned);
    if before != owner {
        disown(table, before.as_deref(), &uid);
    }
    if let Some(owner) = &owner {
        table.owned.entry(owner.clone()).or_default().insert(uid.clone());
    }
    table.objects.insert(uid.clone(), Arc::new(object));
    table.weigh(&uid, size);
    if retires {
        tables.retire_executions_of(&uid);
    }
    K::change(&uid, owner.as_deref())
}

/// Keeps it short, when it has ended.
fn retire<K: Kept>(table: &mut Table<K>, uid: &str, alone: bool) {
    let Some(object) = table.objects.get_mut(uid).filter(|object| object.is_ended()) else {
        return;
    };
    Arc::make_mut(object).retire(alone);
    let size = table.sizes.get(uid).copied().unwrap_or_default();
    table.weigh(uid, size.min(RETIRED));
}

fn remove<K: Kept>(table: &mut Table<K>, uid: &str) -> Vec<Change> {
    let Some(object) = table.objects.remove(uid) else {
        return Vec::new();
    };
    table.size -= table.sizes.remove(uid).unwrap_or_default();
    let owner = object.owner();
    disown(table, owner, uid);
    K::change(uid, owner).into_iter().chain(K::gone(owner)).collect()
}

fn disown<K>(table: &mut Table<K>, owner: Option<&str>, uid: &str) {
    let Some(owner) = owner else {
        return;
    };
    if let Some(uids) = table.owned.get_mut(owner) {
        uids.remove(uid);
        if uids.is_empty() {
            table.owned.remove(owner);
        }
    }
}

impl<K> Table<K> {
    fn weigh(&mut self, uid: &str, size: usize) {
        let before = self.sizes.insert(uid.to_owned(), size).unwrap_or_default();
        self.size = self.size - before + size;
    }

    fn of_owner(&self, owner: &str) -> impl Iterator<Item = &Arc<K>> {
        self.owned
            .get(owner)
            .into_iter()
            .flatten()
            .filter_map(|uid| self.objects.get(uid))
    }
}

impl Tables {
    /// Whether no workflow that runs may ask for the spec of an execution that has this controller. One that is not seen
    /// may not be seen yet.
    fn is_alone(&self, owner: Option<&str>) -> bool {
        owner.is_none_or(|uid| {
            self.workflows
                .objects
                .get(uid)
                .is_some_and(|workflow| Kept::is_ended(&**workflow))
        })
    }

    fn retire_executions_of(&mut self, workflow: &str) {
        let executions = self.executions.owned.get(workflow).cloned().unwrap_or_default();
        for uid in executions {
            retire(&mut self.executions, &uid, true);
        }
    }

    /// Jobs of an execution by name, and pods whose Job is gone.
    fn views(&self, execution_uid: &str) -> BTreeMap<String, JobView> {
        let pods: Vec<&Pod> = self.pods.of_owner(execution_uid).map(|pod| &**pod).collect();
        let jobs: BTreeMap<&str, &Job> = self
            .jobs
            .of_owner(execution_uid)
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
        let jobs = self.jobs.of_owner(execution_uid).filter_map(|job| {
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
        retire(&mut tables.workflows, uid, true);
        let owner = tables
            .executions
            .objects
            .get(uid)
            .and_then(|execution| execution.owner());
        let alone = tables.is_alone(owner);
        retire(&mut tables.executions, uid, alone);
    }

    fn workflow(&self, uid: &str) -> Option<Arc<WorkflowExecution>> {
        self.read().workflows.objects.get(uid).cloned()
    }

    fn execution(&self, uid: &str) -> Option<Arc<KubernetesExecution>> {
        self.read().executions.objects.get(uid).cloned()
    }

    fn executions_of(&self, workflow_uid: &str) -> Vec<Arc<KubernetesExecution>> {
        self.read().executions.of_owner(workflow_uid).cloned().collect()
    }

    fn jobs_of(&self, execution_uid: &str) -> Vec<JobView> {
        self.read().views(execution_uid).into_values().collect()
    }

    fn job_refs_of(&self, execution_uid: &str) -> Vec<JobRef> {
        self.read().refs(execution_uid)
    }

    fn workflows(&self) -> Vec<Arc<WorkflowExecution>> {
        self.read().workflows.objects.values().cloned().collect()
    }

    fn executions(&self) -> Vec<Arc<KubernetesExecution>> {
        self.read().executions.objects.values().cloned().collect()
    }

    fn job_refs(&self) -> Vec<JobRef> {
        let tables = self.read();
        let owners: BTreeSet<&String> = tables.jobs.owned.keys().collect();
        owners
            .into_iter()
            .flat_map(|execution_uid| tables.refs(execution_uid))
            .collect()
    }
}

fn label<'a, K: Resource>(object: &'a K, name: &str) -> Option<&'a str> {
    object.meta().labels.as_ref()?.get(name).map(String::as_str)
}

fn job_of(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners
        .filter(|owner| owner.controller == Some(true) && owner.kind == "Job")
        .map(|owner| owner.name.as_str())
        .next()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn execution(uid: &str, version: u32, workflow: Option<&str>) -> KubernetesExecution {
        let owners: Vec<Value> = workflow
            .map(|uid| {
                json!({"apiVersion": names::WORKFLOW_API_VERSION, "kind": names::WORKFLOW_KIND, "name": "w", "uid": uid, "controller": true})
            })
            .into_iter()
            .collect();
        serde_json::from_value(json!({
            "apiVersion": names::EXECUTION_API_VERSION, "kind": names::EXECUTION_KIND,
            "metadata": {"name": uid, "namespace": "shop", "uid": uid, "resourceVersion": version.to_string(), "ownerReferences": owners},
            "spec": {"action": "cordon-node", "parameters": {"cordonNode": {"node": "n"}}},
        }))
        .unwrap()
    }

    fn job(name: &str, execution_uid: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": format!("uid-of-{name}"), "resourceVersion": "1", "labels": {
                names::LABEL_EXECUTION_UID: execution_uid, names::LABEL_EXECUTION_NAME: "step", names::LABEL_EXECUTION_NAMESPACE: "shop",
            }},
        }))
        .unwrap()
    }

    fn put_in<K: Kept>(store: &Store, object: K) -> Vec<Change> {
        store.put(object, 100)
    }

    fn uids(store: &Store, workflow: &str) -> Vec<String> {
        store
            .executions_of(workflow)
            .iter()
            .map(|found| uid_of(&found.metadata).to_owned())
            .collect()
    }

    #[test]
    fn executions_are_found_by_the_workflow_that_controls_them_now() {
        let store = Store::default();
        put_in(&store, execution("a", 1, Some("w1")));
        put_in(&store, execution("b", 1, Some("w1")));
        assert_eq!(uids(&store, "w1"), ["a", "b"]);
        put_in(&store, execution("a", 2, None));
        assert_eq!(uids(&store, "w1"), ["b"]);
        let changes = store.remove::<KubernetesExecution>("b");
        assert_eq!(
            changes,
            [Change::Execution("b".into()), Change::Workflow("w1".into())]
        );
        assert!(uids(&store, "w1").is_empty());
    }

    #[test]
    fn a_list_pokes_for_what_changed_and_for_what_is_gone() {
        let store = Store::default();
        put_in(&store, execution("same", 1, None));
        put_in(&store, execution("changed", 1, None));
        put_in(&store, execution("gone", 1, None));
        let uids = ["same", "changed", "new", "unreadable"].map(str::to_owned).into();
        let list = [
            execution("same", 1, None),
            execution("changed", 2, None),
            execution("new", 3, None),
        ]
        .map(|execution| (execution, 100))
        .into();
        let changes = store.replace(&uids, list);
        let poked = ["gone", "changed", "new"].map(|uid| Change::Execution(uid.into()));
        assert_eq!(changes, poked);
    }

    #[test]
    fn what_can_t_be_read_any_more_is_not_gone() {
        let store = Store::default();
        put_in(&store, execution("a", 1, None));
        assert!(
            store
                .replace::<KubernetesExecution>(&["a".to_owned()].into(), Vec::new())
                .is_empty()
        );
        assert!(store.execution("a").is_some());
    }

    #[test]
    fn a_store_that_begins_again_keeps_what_it_has_and_is_complete_after_four_lists() {
        let store = Store::default();
        let lists = || {
            store.replace::<WorkflowExecution>(&BTreeSet::new(), Vec::new());
            store.replace::<KubernetesExecution>(&["a".to_owned()].into(), Vec::new());
            store.replace::<Job>(&BTreeSet::new(), Vec::new());
            assert!(!store.is_complete());
            store.replace::<Pod>(&BTreeSet::new(), Vec::new());
            assert!(store.is_complete());
        };
        lists();
        put_in(&store, execution("a", 1, None));
        store.begin_again();
        assert!(!store.is_complete());
        assert!(store.execution("a").is_some());
        lists();
    }

    #[test]
    fn jobs_are_found_by_the_execution_that_their_label_names() {
        let store = Store::default();
        assert_eq!(put_in(&store, job("j1", "e")), [Change::Jobs("e".into())]);
        put_in(&store, job("j2", "other"));
        let found = store.job_refs_of("e");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].execution.to_string(), "shop/step");
        assert!(found[0].view.live);
        assert_eq!(store.jobs_of("e").len(), 1);
        assert_eq!(store.job_refs().len(), 2);
    }

    #[test]
    fn a_job_names_its_execution_although_a_label_is_too_short_for_the_name() {
        let store = Store::default();
        let name = "step-".repeat(20) + "a";
        let mut long = job("j", "e");
        let labels = long.metadata.labels.get_or_insert_default();
        labels.insert(names::LABEL_EXECUTION_NAME.to_owned(), name[..63].to_owned());
        let annotations = long.metadata.annotations.get_or_insert_default();
        annotations.insert(names::ANNOTATION_EXECUTION_NAME.to_owned(), name.clone());
        put_in(&store, long);
        assert_eq!(store.job_refs_of("e")[0].execution.name, name);
    }

    fn ended(uid: &str, version: u32, workflow: Option<&str>) -> KubernetesExecution {
        let mut ended = execution(uid, version, workflow);
        ended.spec.parameters = serde_json::from_value(json!({"updateConfigMap": {
            "namespace": "shop", "configMap": "flags", "data": {"key": "x".repeat(100_000)}}}))
        .unwrap();
        ended.status = serde_json::from_value(json!({
            "phase": "completed",
            "rollbackInformation": {"available": true, "rollbackParameters": {"restorePreviousConfig": {
                "resourceKind": "ConfigMap", "namespace": "shop", "name": "flags", "previousSpec": "y".repeat(100_000)}}},
        }))
        .unwrap();
        ended
    }

    fn workflow(uid: &str, version: u32, phase: &str) -> WorkflowExecution {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "shop", "uid": uid, "resourceVersion": version.to_string()},
            "spec": {"workflowDefinition": {"name": "w", "version": "1", "steps": [
                {"stepNumber": 1, "name": "a", "action": "cordon-node", "parameters": {"cordonNode": {"nodeName": "n"}}}]}},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    /// Length of what is kept of an execution: of its spec, and of its status.
    fn kept(store: &Store, uid: &str) -> (usize, usize) {
        let execution = store.execution(uid).unwrap();
        let spec = serde_json::to_string(&execution.spec).unwrap();
        (
            spec.len(),
            serde_json::to_string(&execution.status).unwrap().len(),
        )
    }

    #[test]
    fn before_anybody_runs_it_what_has_ended_is_kept_short() {
        let store = Store::default();
        store.put(ended("by-hand", 1, None), 200_000);
        store.put(ended("step", 1, Some("w")), 200_000);
        let (spec, status) = kept(&store, "by-hand");
        assert!(spec < 1000 && status < 2000, "{spec} {status}");
        // Its workflow may still compare it.
        let (spec, status) = kept(&store, "step");
        assert!(spec > 100_000 && status < 2000, "{spec} {status}");
        store.put(workflow("w", 1, "executing"), 1000);
        assert!(kept(&store, "step").0 > 100_000);
        store.put(workflow("w", 2, "completed"), 1000);
        assert!(kept(&store, "step").0 < 1000);
        assert!(
            store
                .workflow("w")
                .unwrap()
                .spec
                .workflow_definition
                .steps
                .is_empty()
        );
        assert!(store.amount::<KubernetesExecution>().1 < 10_000);
        store.remove::<KubernetesExecution>("step");
        store.remove::<KubernetesExecution>("by-hand");
        assert_eq!(store.amount::<KubernetesExecution>(), (0, 0));
    }

    #[test]
    fn what_somebody_runs_is_kept_whole_until_he_is_done_with_it() {
        let store = Store::default();
        store.follow();
        store.put(execution("step", 1, Some("w")), 1000);
        store.put(workflow("w", 1, "executing"), 1000);
        store.put(ended("step", 2, Some("w")), 200_000);
        let (spec, status) = kept(&store, "step");
        assert!(spec > 100_000 && status > 100_000, "{spec} {status}");
        store.settled("step");
        let (spec, status) = kept(&store, "step");
        assert!(spec > 100_000 && status < 2000, "{spec} {status}");
        store.put(workflow("w", 2, "completed"), 1000);
        store.settled("w");
        store.settled("step");
        assert!(kept(&store, "step").0 < 1000);
        assert!(
            store
                .workflow("w")
                .unwrap()
                .spec
                .workflow_definition
                .steps
                .is_empty()
        );
    }
}
