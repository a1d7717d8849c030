//! A cluster of a few objects around one machine of a step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kubernaut_crds::{Attempt, ExecutionPhase, KubernetesExecution, KubernetesExecutionStatus, names};
use kubernaut_machines::Settings;
use kubernaut_machines::api_command::{ApiCommand, ApiFailure, ApiOutcome, FailureClass, RightsAnswer};
use kubernaut_machines::job_view::{JobView, view};
use kubernaut_machines::policy::Verdict;
use kubernaut_machines::reads::Read;
use kubernaut_machines::step::{StepCommand, StepEvent, StepMachine};
use serde_json::{Value, json};

/// More calls than this without a pause are a loop.
const MANY_CALLS: usize = 60;

/// What is said to a wish for the lock, or for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    AtOnce,
    Busy,
}

/// A Job in the executor's namespace, and its pod; the Job may be gone while the pod is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ran {
    pub(crate) job: Option<Job>,
    pub(crate) pod: Option<Pod>,
}

/// A Job that was made, and how.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) job: Job,
}

/// Says of a call that it fails; `None` lets it through.
type Fault = Box<dyn FnMut(&ApiCommand) -> Option<ApiFailure>>;

#[expect(
    clippy::struct_excessive_bools,
    reason = "what a test may choose, each by itself"
)]
pub(crate) struct StepHarness {
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    pub(crate) execution: KubernetesExecution,
    /// Objects that a read finds: by kind, namespace and name, or by kind, namespace and labels.
    pub(crate) objects: Vec<Value>,
    pub(crate) jobs: BTreeMap<String, Ran>,
    pub(crate) made: Vec<Made>,
    /// When creates of Jobs were sent, whatever came of them.
    pub(crate) creates: Vec<Timestamp>,
    pub(crate) lock: Grant,
    pub(crate) slot: Grant,
    /// A Job that is deleted stays, in deletion, until it is taken away.
    pub(crate) deletes_slowly: bool,
    /// Whether the workflow's account may do what it wants.
    pub(crate) may: bool,
    /// A resource for which its account has no right, whatever else it may.
    pub(crate) withheld: Option<&'static str>,
    /// Somebody changes the object's labels whenever a status conflicts.
    pub(crate) touched_by_others: bool,
    pub(crate) lock_released: bool,
    pub(crate) slot_released: bool,
    /// What the events say of a Job.
    pub(crate) events: Vec<String>,
    /// The notes of the Events that were made.
    pub(crate) published: Vec<String>,
    /// Calls since the last `take_calls`, in a word each.
    calls: Vec<&'static str>,
    /// What the policies say, and what they were asked about.
    pub(crate) verdict: Verdict,
    pub(crate) judged: Vec<Value>,
    pub(crate) stopped: bool,
    fault: Fault,
    version: u64,
    machine: Option<StepMachine>,
}

pub(crate) fn failure(class: FailureClass, message: &str) -> ApiFailure {
    ApiFailure {
        class,
        message: message.to_owned(),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
impl StepHarness {
    /// An execution that nobody has looked at yet. `spec` needs action and parameters.
    pub(crate) fn new(spec: Value) -> Self {
        let mut execution = json!({
            "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
            "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1", "resourceVersion": "1",
                         "generation": 1, "finalizers": [names::CLEANUP_FINALIZER]},
            "spec": {"approvalReceived": true, "maxRetries": 2, "timeout": "5m"},
        });
        merge(&mut execution["spec"], &spec);
        Self {
            settings: Settings::default(),
            now: Timestamp::from_second(1_800_000_000).expect("a time"),
            execution: serde_json::from_value(execution).expect("an execution"),
            objects: Vec::new(),
            jobs: BTreeMap::new(),
            made: Vec::new(),
            creates: Vec::new(),
            lock: Grant::AtOnce,
            slot: Grant::AtOnce,
            deletes_slowly: false,
            may: true,
            withheld: None,
            touched_by_others: false,
            lock_released: false,
            slot_released: false,
            events: Vec::new(),
            published: Vec::new(),
            calls: Vec::new(),
            verdict: Verdict::default(),
            judged: Vec::new(),
            stopped: false,
            fault: Box::new(|_| None),
            version: 1,
            machine: None,
        }
    }

    pub(crate) fn with(mut self, objects: impl IntoIterator<Item = Value>) -> Self {
        self.objects = objects.into_iter().collect();
        self
    }

    /// From now on this decides which calls fail.
    pub(crate) fn fail(&mut self, fault: impl FnMut(&ApiCommand) -> Option<ApiFailure> + 'static) {
        self.fault = Box::new(fault);
    }

    pub(crate) fn heal(&mut self) {
        self.fault = Box::new(|_| None);
    }

    /// A controller starts; the one before it, if any, is dead.
    pub(crate) fn start(&mut self) {
        let execution = Arc::new(self.execution.clone());
        let settings = Arc::new(self.settings.clone());
        self.machine = Some(StepMachine::restore(settings, execution.clone(), false));
        self.see_jobs();
        self.event(StepEvent::Observed(execution));
    }

    /// Starts with watches that have shown no Job and no pod yet, although these are there.
    pub(crate) fn start_unseen(&mut self, jobs: BTreeMap<String, Ran>) {
        self.jobs = jobs;
        let execution = Arc::new(self.execution.clone());
        let settings = Arc::new(self.settings.clone());
        self.machine = Some(StepMachine::restore(settings, execution.clone(), false));
        self.event(StepEvent::Observed(execution));
    }

    pub(crate) fn event(&mut self, event: StepEvent) {
        let mut events = VecDeque::from([event]);
        let mut calls = 0;
        while let Some(event) = events.pop_front() {
            let machine = self.machine.as_mut().expect("a machine was started");
            for command in machine.on_event(self.now, event) {
                match command {
                    StepCommand::Api { id, command, .. } => {
                        calls += 1;
                        assert!(calls < MANY_CALLS, "calls without a pause: {:?}", self.calls);
                        let result = self.call(command);
                        events.push_back(StepEvent::Finished { id, result });
                    }
                    StepCommand::AcquireLock { .. } => events.push_back(match self.lock {
                        Grant::AtOnce => StepEvent::LockGranted,
                        Grant::Busy => StepEvent::LockBusy {
                            reason: "the target is held by shop/other-step-1".into(),
                        },
                    }),
                    StepCommand::AcquireSlot => events.push_back(match self.slot {
                        Grant::AtOnce => StepEvent::SlotGranted,
                        Grant::Busy => StepEvent::SlotBusy,
                    }),
                    StepCommand::Stop => self.stopped = true,
                    StepCommand::ReleaseLock => self.lock_released = true,
                    StepCommand::ReleaseSlot => self.slot_released = true,
                    StepCommand::Publish(event) => self.published.push(event.note),
                    StepCommand::Report(_) | StepCommand::Announce(_) => {}
                }
            }
        }
    }

    /// The watches of Jobs and pods show what is there.
    pub(crate) fn see_jobs(&mut self) {
        let views = self.jobs.keys().filter_map(|name| self.view_of(name)).collect();
        self.event(StepEvent::JobsObserved(views));
    }

    fn view_of(&self, name: &str) -> Option<JobView> {
        let ran = self.jobs.get(name)?;
        view(name, ran.job.as_ref(), &ran.pod)
    }

    /// So many seconds pass, and then the timer fires, whenever it was set for.
    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.event(StepEvent::Tick);
    }

    /// Time goes on to the next timer; false when none is set.
    pub(crate) fn next(&mut self) -> bool {
        let Some((at, _)) = self.machine.as_ref().and_then(StepMachine::next_deadline) else {
            return false;
        };
        self.now = self.now.max(at);
        self.event(StepEvent::Tick);
        true
    }

    /// Timer after timer until it holds; not for ever.
    pub(crate) fn run_until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..2_000 {
            if holds(self) {
                return;
            }
            assert!(self.next(), "nothing is waited for: {:?}", self.status());
        }
        panic!("it never came: {:?}", self.status());
    }

    pub(crate) fn run_to_the_end(&mut self) {
        self.run_until(|bed| bed.phase().is_some_and(ExecutionPhase::is_terminal));
    }

    /// The last Job's pod is at this phase; with an exit code it has said this.
    pub(crate) fn pod(&mut self, phase: &str, exit: Option<i32>, said: &str) {
        // The tenth comes before the second in the map.
        let last = self.made.last().map(|made| made.name.as_str());
        let there = self.jobs.iter_mut();
        let (name, ran) = there
            .max_by_key(|(name, _)| (Some(name.as_str()) == last, (*name).clone()))
            .expect("a Job");
        let job = ran.job.as_ref().expect("the Job is there");
        let state = match exit {
            Some(code) => json!({"terminated": {"exitCode": code, "message": said,
                                                "reason": if code == 0 { "Completed" } else { "Error" }}}),
            None if phase == "Pending" => json!({"waiting": {"reason": "ContainerCreating"}}),
            None => json!({"running": {}}),
        };
        ran.pod = serde_json::from_value(json!({
            "metadata": {"name": format!("{name}-pod"), "labels": {names::LABEL_EXECUTION_UID: "uid-1"},
                         "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name,
                                              "controller": true, "uid": job.metadata.uid}]},
            "status": {"phase": phase, "containerStatuses": [{
                "name": "kubectl", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
        }))
        .expect("a pod");
        self.see_jobs();
    }

    pub(crate) fn pod_runs(&mut self) {
        self.pod("Running", None, "");
    }

    pub(crate) fn pod_succeeds(&mut self, said: &str) {
        self.pod("Succeeded", Some(0), said);
    }

    pub(crate) fn pod_fails(&mut self, said: &str) {
        self.pod("Failed", Some(1), said);
    }

    /// Somebody deletes every Job, with its pods.
    pub(crate) fn lose_jobs(&mut self) {
        self.jobs.clear();
        self.see_jobs();
    }

    /// Replaces the object of this kind and name.
    pub(crate) fn set(&mut self, object: Value) {
        self.remove(
            object["kind"].as_str().expect("a kind"),
            object["metadata"]["name"].as_str().expect("a name"),
        );
        self.objects.push(object);
    }

    pub(crate) fn remove(&mut self, kind: &str, name: &str) {
        self.objects
            .retain(|there| there["kind"] != kind || there["metadata"]["name"] != name);
    }

    pub(crate) fn status(&self) -> KubernetesExecutionStatus {
        self.execution.status.clone().unwrap_or_default()
    }

    pub(crate) fn phase(&self) -> Option<ExecutionPhase> {
        self.execution.status.as_ref()?.phase
    }

    pub(crate) fn message(&self) -> String {
        self.status().message.unwrap_or_default()
    }

    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.status().attempts
    }

    /// Names of the Jobs that were made.
    pub(crate) fn made_names(&self) -> Vec<&str> {
        self.made.iter().map(|made| made.name.as_str()).collect()
    }

    pub(crate) fn take_calls(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls)
    }

    pub(crate) fn count(&self, word: &str) -> usize {
        self.calls.iter().filter(|call| **call == word).count()
    }

    /// Carries a call out, and counts it.
    fn call(&mut self, command: ApiCommand) -> Result<ApiOutcome, ApiFailure> {
        self.calls.push(word(&command));
        if matches!(command, ApiCommand::CreateJob { .. }) {
            self.creates.push(self.now);
        }
        if let Some(failure) = (self.fault)(&command) {
            if self.touched_by_others && failure.class == FailureClass::Conflict {
                self.touched();
            }
            return Err(failure);
        }
        self.act(command)
    }

    /// Carries a call out.
    pub(crate) fn act(&mut self, command: ApiCommand) -> Result<ApiOutcome, ApiFailure> {
        Ok(match command {
            ApiCommand::CheckRights(question) => ApiOutcome::Rights(RightsAnswer {
                denied: question
                    .requests
                    .into_iter()
                    .filter(|request| !self.may || self.withheld == Some(request.resource.as_str()))
                    .collect(),
                ..RightsAnswer::default()
            }),
            ApiCommand::Read(reads) => {
                let found = |read: &Read| find(&self.objects, read);
                ApiOutcome::ReadResults(reads.iter().map(|read| (read.clone(), found(read))).collect())
            }
            ApiCommand::WriteExecutionStatus { patch, .. } => {
                if patch["metadata"]["resourceVersion"] != json!(self.execution.metadata.resource_version) {
                    return Err(failure(FailureClass::Conflict, "the object has been modified"));
                }
                let mut object = serde_json::to_value(&self.execution).expect("JSON");
                merge(&mut object["status"], &patch["status"]);
                self.execution = serde_json::from_value(object).expect("a status of the type");
                ApiOutcome::Execution(self.touched())
            }
            ApiCommand::PatchExecution { change, .. } => {
                self.execution.metadata.finalizers = change.finalizers;
                ApiOutcome::Execution(self.touched())
            }
            ApiCommand::GetExecution { .. } => {
                ApiOutcome::FoundExecution(Some(Arc::new(self.execution.clone())))
            }
            ApiCommand::CreateJob { job, .. } => {
                let name = job.metadata.name.clone().expect("a name");
                if !self.jobs.contains_key(&name) {
                    self.make(&name, *job);
                }
                let job = self.view_of(&name).expect("a Job");
                ApiOutcome::JobCreated(Box::new(job))
            }
            ApiCommand::GetJob { name, .. } => ApiOutcome::FoundJob(self.view_of(&name).map(Box::new)),
            ApiCommand::DeleteJob { name, .. } => {
                if !self.deletes_slowly {
                    self.jobs.remove(&name);
                } else if let Some(job) = self.jobs.get_mut(&name).and_then(|ran| ran.job.as_mut()) {
                    job.metadata.deletion_timestamp =
                        serde_json::from_value(json!("2027-01-15T08:00:00Z")).expect("a time");
                }
                ApiOutcome::Deleted
            }
            ApiCommand::DeleteSecret { .. } => ApiOutcome::Deleted,
            ApiCommand::Judge(input) => {
                self.judged.push(input);
                ApiOutcome::Judged(self.verdict.clone())
            }
            ApiCommand::ExplainJob { .. } => ApiOutcome::Explained(self.events.clone()),
            ApiCommand::GetWorkflow { .. }
            | ApiCommand::GetUndone { .. }
            | ApiCommand::WriteWorkflowStatus { .. }
            | ApiCommand::CreateExecution(_) => panic!("a step does not ask for this"),
        })
    }

    fn make(&mut self, name: &str, mut job: Job) {
        self.made.push(Made {
            name: name.to_owned(),
            job: job.clone(),
        });
        job.metadata.uid = Some(format!("job-{}", self.made.len()));
        let ran = Ran {
            job: Some(job),
            pod: None,
        };
        self.jobs.insert(name.to_owned(), ran);
    }

    fn touched(&mut self) -> Arc<KubernetesExecution> {
        self.version += 1;
        self.execution.metadata.resource_version = Some(self.version.to_string());
        Arc::new(self.execution.clone())
    }
}

/// What a read finds among these objects.
pub(crate) fn find(objects: &[Value], read: &Read) -> Vec<Value> {
    let fits = |object: &&Value| match read {
        Read::Get { kind, name, .. } => {
            object["kind"] == kind.as_str() && object["metadata"]["name"] == name.as_str()
        }
        Read::List {
            kind,
            label_selector,
            field_selector,
            ..
        } => {
            object["kind"] == kind.as_str()
                && label_selector.as_deref().is_none_or(|text| selects(text, object))
                && field_selector
                    .as_deref()
                    .is_none_or(|text| has_fields(text, object))
        }
    };
    objects.iter().filter(fits).cloned().collect()
}

/// Requirements of the form `a=b`.
fn selects(selector: &str, object: &Value) -> bool {
    selector
        .split(',')
        .filter_map(|term| term.split_once('='))
        .all(|(key, value)| object["metadata"]["labels"][key] == value)
}

/// Terms of the form `a.b=c` and `a.b!=c`.
fn has_fields(selector: &str, object: &Value) -> bool {
    selector
        .split(',')
        .filter_map(|term| term.split_once('='))
        .all(|(path, wanted)| {
            let there = |path: &str| {
                object
                    .pointer(&format!("/{}", path.replace('.', "/")))
                    .and_then(Value::as_str)
                    == Some(wanted)
            };
            path.strip_suffix('!')
                .map_or_else(|| there(path), |path| !there(path))
        })
}

fn word(command: &ApiCommand) -> &'static str {
    match command {
        ApiCommand::CheckRights(_) => "rights",
        ApiCommand::Read(_) => "read",
        ApiCommand::WriteExecutionStatus { .. } => "write status",
        ApiCommand::WriteWorkflowStatus { .. } => "write workflow",
        ApiCommand::PatchExecution { .. } => "write finalizers",
        ApiCommand::GetExecution { .. } => "get execution",
        ApiCommand::GetWorkflow { .. } | ApiCommand::GetUndone { .. } => "get workflow",
        ApiCommand::CreateExecution(_) => "create execution",
        ApiCommand::CreateJob { .. } => "create job",
        ApiCommand::GetJob { .. } => "get job",
        ApiCommand::DeleteJob { .. } => "delete job",
        ApiCommand::DeleteSecret { .. } => "delete secret",
        ApiCommand::Judge(_) => "judge",
        ApiCommand::ExplainJob { .. } => "explain job",
    }
}

pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// Deployment `web` of one ready replica, changed by these merge patches of spec and status.
#[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
pub(crate) fn deployment(generation: i64, spec: Value, status: Value) -> Value {
    let mut object = json!({
        "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "generation": generation},
        "spec": {"replicas": 1, "template": {"metadata": {"annotations": {}},
                                             "spec": {"containers": [{"name": "app", "image": "app:1"}]}}},
        "status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
    });
    merge(&mut object["spec"], &spec);
    merge(&mut object["status"], &status);
    object
}

pub(crate) fn scale(replicas: i32) -> Value {
    json!({"action": "scale-deployment",
           "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": replicas}}})
}

pub(crate) fn restart() -> Value {
    json!({"action": "rollout-restart",
           "parameters": {"rolloutRestart": {"namespace": "shop", "deployment": "web"}}})
}

pub(crate) fn patch(patch_type: &str, patch: &str) -> Value {
    json!({"action": "patch-deployment", "parameters": {"patchDeployment": {
        "namespace": "shop", "deployment": "web", "patchType": patch_type, "patch": patch}}})
}
