//! The life of a Job: given an attempt that is recorded, its Job is made, looked after and, where it has to be, given up.
//!
//! It tells what is to be done next until the attempt has ended; what that end means is for the step to decide. Nothing of
//! it must be kept: what is remembered here (creates under way, how the Job ended) can be found out again.

mod making;
mod payload;
mod running;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kubernaut_crds::{Attempt, KubernetesExecution, KubernetesExecutionStatus};

use crate::Settings;
use crate::api_command::ApiCommand;
use crate::calls::Alarm;
use crate::classify::{self, Failure};
use crate::defect::{Defect, planted};
use crate::job_view::{JobEnd, JobView};
use crate::parameters::ValidatedExecution;
use crate::time::DRY_RUN_TIME;

pub(crate) use making::{MIN_LEFT, Refused};
pub(crate) use payload::without_secrets;
pub use running::UNREACHABLE_AFTER;
pub(crate) use running::place_of;

/// The Jobs of one execution, and what is known of the current attempt's.
#[derive(Debug)]
pub(crate) struct JobRun {
    execution_uid: Option<String>,
    /// The execution carries a payload that goes into a Secret.
    has_payload: bool,
    /// Its Jobs by name, as the store has them.
    shown: BTreeMap<String, JobView>,
    /// When this controller began with the execution, or had to begin anew.
    since: Option<Timestamp>,
    /// Jobs of ended attempts that came late and were told to go.
    told_to_go: BTreeSet<String>,
    /// How often in a row a quota left no room.
    quota_waits: u32,
    current: Current,
}

/// The current attempt's Job.
#[derive(Debug, Default)]
struct Current {
    stage: Stage,
    job: Knowledge,
    payload: Payload,
    /// Until when a quota is given time.
    quota_until: Option<Timestamp>,
    /// When the events of a Job without a running pod were read last.
    explained_at: Option<Timestamp>,
}

/// How far the attempt has come.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Active,
    /// Nothing is expected of it any more, and something of it may still live.
    GivenUp(Failure),
    /// It is over; perhaps its Job must still go, and its payload.
    Ended(Ended),
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// kubectl ended well.
    Success { said: Option<String> },
    /// kubectl failed, or never ran.
    Failure(Failure),
    /// The Job vanished.
    Lost,
}

/// Whether the Secret of the attempt may be there.
#[derive(Debug)]
enum Payload {
    /// It may be; why it can't be deleted, where it can't.
    Open {
        refused: Option<String>,
    },
    Deleted,
}

impl Default for Payload {
    fn default() -> Self {
        Payload::Open { refused: None }
    }
}

/// What is known of the creates that were sent for the current attempt's Job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Creates {
    /// Another controller may have sent some.
    #[default]
    Unknown,
    /// Each was refused, or none was sent: none can take effect.
    None,
    /// The last one had no answer: it may take effect until then.
    Uncertain { until: Timestamp },
}

/// What is known of the current attempt's Job besides the store.
#[derive(Debug, Default)]
struct Knowledge {
    creates: Creates,
    /// Why the last create was not taken.
    refusal: Option<String>,
    /// From a create or a live read: what the store may not have yet.
    found: Option<JobView>,
    /// It was there once, or a pod of it was.
    seen: bool,
    /// When a live read found none.
    absent: Option<Timestamp>,
    /// A delete was taken.
    delete_sent: bool,
    /// When the API is asked again what the watch does not show.
    ask_at: Option<Timestamp>,
    /// When a live read, or a create, last told of it.
    looked: Option<Timestamp>,
    /// The store has shown something new of it since the live read, or the create, was sent.
    shown_since: bool,
}

/// What a run works on for one turn.
pub(crate) struct Assignment<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) execution: &'a KubernetesExecution,
    pub(crate) checked: &'a ValidatedExecution,
    /// The attempt, as it is recorded.
    pub(crate) attempt: &'a Attempt,
    /// Why no Job may be made any more, and one that runs is stopped.
    pub(crate) stopped_by: Option<&'static str>,
    /// The wait that the status tells of.
    pub(crate) told: Option<Wait>,
    pub(crate) now: Timestamp,
}

impl Assignment<'_> {
    /// The time that the attempt has, in words.
    pub(crate) fn limit(&self) -> String {
        if self.attempt.is_dry_run() {
            format!("the {} s of a dry run", DRY_RUN_TIME.as_secs())
        } else {
            format!("the timeout of {}", self.execution.spec.timeout)
        }
    }
}

/// What a run is waiting for, where the status has to tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Lock,
    Slot,
    /// A create that may still take effect.
    Job,
    /// A payload that may still arrive.
    Payload,
    /// A payload whose deletion is refused.
    PayloadRefused,
    /// A look at its Job, or the Job's deletion, is refused.
    Refused,
}

/// Where an attempt stands.
pub(crate) enum Run {
    /// It goes on.
    Running(Next),
    /// It is over, and so is its payload; of a Job that failed nothing lives.
    Ended(Ended),
    /// The name of its Job is taken: by this one, in words.
    NotOurs(String),
    /// Its time is over, and nobody knows whether this pod, in words, still acts.
    Unreachable(String),
}

/// What is next for an attempt that goes on.
pub(crate) enum Next {
    /// Something of it has changed: it is to be asked again.
    Again,
    /// Something has to happen, or a time has to come.
    Wait,
    /// This is to be asked of the API, until that time where one is named.
    Call {
        call: JobCall,
        command: ApiCommand,
        not_after: Option<Timestamp>,
    },
    /// The status has to tell of this wait, in these words.
    Tell(Wait, String),
    /// The attempt is to be recorded anew before its Job is made.
    Record,
}

/// Why a run asks something of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobCall {
    Create,
    Find,
    Delete,
    /// The Job of an attempt that has ended.
    DeleteLate,
    DeletePayload,
    Explain,
}

impl Next {
    /// A call that is as good later.
    fn call(call: JobCall, command: ApiCommand) -> Self {
        Next::Call {
            call,
            command,
            not_after: None,
        }
    }
}

impl JobRun {
    pub(crate) fn new(execution: &KubernetesExecution) -> Self {
        Self {
            execution_uid: execution.metadata.uid.clone(),
            has_payload: payload::has_payload(execution),
            shown: BTreeMap::new(),
            since: None,
            told_to_go: BTreeSet::new(),
            quota_waits: 0,
            current: Current::default(),
        }
    }

    /// Something happens at this time.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
    }

    /// When this controller began with the execution.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// What is remembered may no longer be true.
    pub(crate) fn forget(&mut self) {
        self.since = None;
        self.told_to_go.clear();
        self.quota_waits = 0;
        self.current = Current::default();
    }

    /// An attempt was recorded, or the current one anew: nothing was sent for it.
    pub(crate) fn recorded(&mut self) {
        self.current = Current {
            job: Knowledge {
                creates: Creates::None,
                ..Knowledge::default()
            },
            ..Current::default()
        };
    }

    /// The Jobs of the execution as the store has them; `current` is the one of the current attempt.
    pub(crate) fn observe(&mut self, views: Vec<JobView>, current: Option<&str>) {
        let find = |jobs: &BTreeMap<String, JobView>| current.and_then(|name| jobs.get(name).cloned());
        let before = find(&self.shown);
        self.shown = views.into_iter().map(|view| (view.name.clone(), view)).collect();
        let after = find(&self.shown);
        let job = &mut self.current.job;
        job.seen |= after.is_some();
        job.shown_since |= before != after;
        let is_job = |view: &Option<JobView>| view.as_ref().is_some_and(is_job);
        // A Job that a create gave is kept until the store has it, or a live read tells more. Anything else that was found is older
        // than what is shown.
        if before != after && (is_job(&after) || !is_job(&job.found)) {
            job.found = None;
            job.absent = None;
        }
    }

    /// Brings the attempt on its way.
    pub(crate) fn advance(&mut self, task: &Assignment<'_>, alarm: &mut Alarm) -> Run {
        if let Stage::Ended(ended) = &self.current.stage {
            return self.conclude(&ended.clone(), task, alarm);
        }
        let Some(view) = self.view_of(task.attempt).cloned() else {
            return self.without_job(task, alarm);
        };
        self.current.quota_until = None;
        if (!self.is_ours(&view) || view.hash.as_deref() != Some(task.attempt.job_hash.as_str()))
            && !planted(Defect::AdoptStrangersJob)
        {
            if let Some(next) = self.without_payload(task, alarm) {
                return Run::Running(next);
            }
            return Run::NotOurs(format!(
                "a Job {} exists in namespace {} that this attempt did not make; it was left alone",
                view.name, task.settings.executor_namespace
            ));
        }
        match &view.end {
            Some(JobEnd::Succeeded { message }) => self.ended(Ended::Success {
                said: Some(message.clone()).filter(|words| !words.is_empty()),
            }),
            Some(end) if matches!(self.current.stage, Stage::Active) => {
                let mut failure = classify::classify(end, task.checked.kind);
                failure.message = without_secrets(task.execution, &failure.message);
                self.ended(Ended::Failure(failure))
            }
            _ => self.supervise(&view, task, alarm),
        }
    }

    fn ended(&mut self, ended: Ended) -> Run {
        self.current.stage = Stage::Ended(ended);
        Run::Running(Next::Again)
    }

    /// The Job is over, or was given up: what is left of it goes.
    fn conclude(&mut self, ended: &Ended, task: &Assignment<'_>, alarm: &mut Alarm) -> Run {
        let live = self.view_of(task.attempt).filter(|view| view.live).cloned();
        if let Some(next) = self.without_payload(task, alarm) {
            return Run::Running(next);
        }
        if let (Ended::Failure(_), Some(view)) = (ended, live)
            && !planted(Defect::NotWaitForThePod)
        {
            return self.stop(&view, task, alarm);
        }
        Run::Ended(ended.clone())
    }

    /// The failure for which nothing more is expected of the attempt.
    fn given_up(&self) -> Option<&Failure> {
        match &self.current.stage {
            Stage::GivenUp(failure) => Some(failure),
            Stage::Active | Stage::Ended(_) => None,
        }
    }

    /// Whether the attempt must have a slot: its Job lives, or may be made.
    pub(crate) fn needs_slot(&self, attempt: &Attempt) -> bool {
        let view = self.view_of(attempt);
        let is_over = view.is_some_and(|view| view.end.is_some() && !view.live);
        match self.current.stage {
            Stage::Ended(_) => false,
            // A Job that is over needs no slot: it must not wait for one behind those that have not begun.
            Stage::Active | Stage::GivenUp(_) => !is_over || planted(Defect::QueueWhatHasEnded),
        }
    }

    /// Whether its slot is free for another one: the attempt is over, and nothing of it lives.
    pub(crate) fn frees_slot(&self, attempt: &Attempt) -> bool {
        matches!(self.current.stage, Stage::Ended(_)) && !self.view_of(attempt).is_some_and(|view| view.live)
    }

    /// The store's view; where the store has not caught up, what a create or a live read gave.
    fn view_of(&self, attempt: &Attempt) -> Option<&JobView> {
        // Pods and Jobs come by two watches: a pod may be seen before its Job. That is no Job yet, nor a stranger. And pods
        // outlive a Job that is deleted in the background.
        let stored = self.shown.get(&attempt.job_name);
        let found = self.current.job.found.as_ref();
        let found = found.filter(|view| view.name == attempt.job_name);
        stored
            .filter(|view| is_job(view))
            .or(found.filter(|view| is_job(view)))
    }

    /// Whether it was made for this execution; without its Job only a pod of it is left. Labels alone anybody can write.
    pub(crate) fn is_ours(&self, view: &JobView) -> bool {
        view.execution_uid == self.execution_uid && (view.is_made_here() || planted(Defect::TrustLabels))
    }

    /// A Job of ours that lives, whichever attempt made it.
    pub(crate) fn live(&self) -> Option<&JobView> {
        self.shown.values().find(|job| job.live && self.is_ours(job))
    }

    /// The Job of this name as the store has it.
    pub(crate) fn shown(&self, name: &str) -> Option<&JobView> {
        self.shown.get(name)
    }

    /// A Job of an attempt that has ended: a create that was given up took effect all the same. It is deleted as soon as it is
    /// seen. `None` when there is nothing to do about any.
    pub(crate) fn delete_late(&mut self, status: &KubernetesExecutionStatus) -> Option<Next> {
        let told = |job: &&JobView| !job.deleting && !self.told_to_go.contains(&job.name);
        let (name, uid) = self
            .late(status)
            .find(told)
            .map(|job| (job.name.clone(), job.uid.clone()))?;
        self.told_to_go.insert(name.clone());
        Some(Next::call(
            JobCall::DeleteLate,
            ApiCommand::DeleteJob { name, uid },
        ))
    }

    /// Whether the Job of an attempt that has ended is there.
    pub(crate) fn has_late(&self, status: &KubernetesExecutionStatus) -> bool {
        self.late(status).next().is_some()
    }

    fn late(&self, status: &KubernetesExecutionStatus) -> impl Iterator<Item = &JobView> {
        let attempts = status.attempts();
        let is_late = move |job: &&JobView| {
            job.live && is_job(job) && self.is_ours(job) && attempts.has_ended(&job.name)
        };
        self.shown.values().filter(is_late)
    }

    /// A Job of an attempt that has ended could not be deleted: it is told again.
    pub(crate) fn late_refused(&mut self) {
        self.told_to_go.clear();
    }

    /// A delete was taken.
    pub(crate) fn deleted(&mut self) {
        self.current.job.delete_sent = true;
        self.current.job.ask_at = None;
    }

    /// The deletion of a Job that lives although its execution has ended; `None` when it was told.
    pub(crate) fn delete_left(&self, view: &JobView) -> Option<Next> {
        (!self.current.job.delete_sent && !view.deleting).then(|| delete(view))
    }
}

/// Whether a view is of a Job, and not only of a pod whose Job is gone or was not seen yet.
fn is_job(view: &JobView) -> bool {
    !view.uid.is_empty()
}

fn delete(view: &JobView) -> Next {
    let (name, uid) = (view.name.clone(), view.uid.clone());
    Next::call(JobCall::Delete, ApiCommand::DeleteJob { name, uid })
}
