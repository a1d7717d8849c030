//! One run of the whole controller, unchanged from its kube client to its actors, in the embedded cluster and on a virtual
//! clock, with a plan of what goes wrong. The same scenario gives the same run.
//!
//! # Guarantees
//! Nothing but the scenario decides: one thread, tokio's paused clock, uids and faults from the seed.
//!
//! # Caveats
//! A controller that dies is cut off from the cluster: its tasks end after that, but nothing of them gets out. A frozen
//! one can't be had this way: one that is cut off from the network still has its timers.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each place looks for its own faults in the plan"
)]

mod clock;
mod controllers;
mod disturbances;
mod faults;
mod happened;
mod night;
mod step_faults;
mod steps;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kubernaut_actors::TokioClock;
use kubernaut_actors::ports::Clock as _;
use kubernaut_crds::names;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

pub use self::faults::{CallFault, CrashPoint, Disturbance, FaultKind, PlannedFault, plan};
pub use self::happened::{Cause, Happened, Met};
pub(crate) use self::night::EDITED;
pub use self::step_faults::{StepFault, StepFaultKind};
pub use self::steps::{Step, Target};
pub use embedded_cluster::SeededRng;

use crate::config::RunOptions;
use controllers::Controllers;
use embedded_cluster::{
    Committed, EmbeddedCluster, EmbeddedOptions, FaultAnswer, FaultFunction, PodHabits, PodScriptFunction,
    Rbac, RequestInfo, RequestRecord, User,
};
use happened::Notes;
use night::Night;

/// When every run begins.
pub const EPOCH: i64 = 1_767_225_600;
/// More calls than any run has that is not going round in circles: 20 steps take some 300.
const MOST_CALLS: usize = 20_000;
/// The controller's user.
pub const CONTROLLER: &str = "system:serviceaccount:kubernaut-system:kubernaut-controller";
/// The user of whoever meddles.
pub const STRANGER: &str = "somebody";

/// What is run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What is there before, at rest: definitions and the installation.
    pub installed: EmbeddedCluster,
    /// What is there besides: targets.
    pub world: Vec<Value>,
    /// Workflows and executions, in the order in which they are created.
    pub runs: Vec<Value>,
    /// The controller's settings.
    pub options: RunOptions,
    /// Whether rights are looked at.
    pub rbac: Rbac,
    /// What goes wrong.
    pub plan: Vec<PlannedFault>,
    /// How long a Job's pod takes, from its start to its end.
    pub pod_run_time: Duration,
    /// What other pods do that start after the beginning.
    pub habits: PodHabits,
    /// Decides uids and names.
    pub seed: u64,
    /// How long a workflow may take, on the virtual clock.
    pub patience: Duration,
    /// How long it is looked afterwards whether anything still happens.
    pub rest: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every write, in order.
    pub record: Vec<Committed>,
    /// Every answered request, in order.
    pub requests: Vec<RequestRecord>,
    /// What is there before anything runs.
    pub before: Vec<Arc<Value>>,
    /// What is there in the end.
    pub objects: Vec<Arc<Value>>,
    /// Until everything that was to run had ended, on the virtual clock; none when it never did.
    pub ended: Option<Duration>,
    /// The cluster's revision then: what is written later is written for no reason.
    pub quiet_from: u64,
    /// What of the plan took effect, in its order.
    pub happened: Vec<Happened>,
}

/// Runs it, on a runtime of its own.
///
/// # Errors
/// In words: what of the scenario the cluster refuses, or that the controller ended.
pub fn simulate(scenario: &Scenario) -> Result<Outcome, String> {
    simulate_with(scenario, &[])
}

/// Runs it with these things going wrong with steps.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_with(scenario: &Scenario, faults: &[StepFault]) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| format!("the runtime does not start: {error}"))?;
    runtime.block_on(drive(scenario, faults))
}

async fn drive(scenario: &Scenario, faults: &[StepFault]) -> Result<Outcome, String> {
    let epoch = Timestamp::from_second(EPOCH).unwrap_or(Timestamp::UNIX_EPOCH);
    let clock = TokioClock::starting_at(epoch);
    let cluster = scenario.installed.copy(EmbeddedOptions {
        now: Arc::new(move || clock.now()),
        seed: scenario.seed,
        rbac: scenario.rbac,
        pod_run_time: scenario.pod_run_time,
        field_owners: !scenario.options.settings().apply_manifest_kinds.is_empty(),
        ..EmbeddedOptions::default()
    });
    let admin = cluster.client(User::admin());
    cluster.keep_record();
    cluster.load(scenario.world.clone()).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        errors.join("; ")
    })?;
    let before = cluster.shared_objects();
    let notes = Notes::new();
    let night = Night::new(faults, notes.clone());
    cluster.fault(call_faults(&scenario.plan, notes.clone()));
    cluster.script_pods(night.pods(pod_faults(&scenario.plan, &scenario.habits, notes.clone())));
    // They end with this run, whether or not their steps have begun.
    let _nights = night.begin(&cluster);
    let began = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let controllers = Controllers::new(cluster.clone(), scenario.options.clone(), clock, &scenario.plan);
    let mut keepers = JoinSet::new();
    for number in 1..=controllers.number() {
        keepers.spawn(controllers.clone().keep(number, stopped.clone()));
    }
    let meddlers = tokio::spawn(disturbances::meddle(
        cluster.clone(),
        controllers,
        scenario.plan.clone(),
        scenario.options.settings().executor_namespace,
        notes.clone(),
        began,
    ));
    for object in &scenario.runs {
        create(&admin, object).await?;
    }
    let mut ended = None;
    while began.elapsed() < scenario.patience {
        // What has not ended after minutes is looked at less often.
        let pause = (began.elapsed() / 100).clamp(Duration::from_millis(500), Duration::from_secs(30));
        tokio::time::sleep(pause).await;
        if let Some(ended) = keepers.try_join_next() {
            orderly(ended)?;
        }
        if all_ended(&cluster) && meddlers.is_finished() {
            ended = Some(began.elapsed());
            break;
        }
    }
    for (index, planned) in scenario.plan.iter().enumerate() {
        if matches!(planned, PlannedFault::ClockJump { at, .. } if ended.is_none_or(|ended| *at < ended)) {
            notes.note(Cause::PlannedFault(index), || Met::Everything);
        }
    }
    // What was decided before may still be on its way.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let quiet_from = cluster.revision();
    tokio::time::sleep(scenario.rest).await;
    let outcome = Outcome {
        record: cluster.record(),
        requests: cluster.requests(),
        before,
        objects: cluster.shared_objects(),
        ended,
        quiet_from,
        happened: notes.all(),
    };
    let _ = stop.send(true);
    while let Some(ended) = keepers.join_next().await {
        orderly(ended)?;
    }
    Ok(outcome)
}

fn orderly(ended: Result<Result<(), String>, JoinError>) -> Result<(), String> {
    ended.unwrap_or_else(|error| Err(format!("the controller panicked: {error}")))
}

/// Whether this is counted by [`PlannedFault::Crash`].
fn is_write(request: &RequestInfo) -> bool {
    let verbs = ["create", "update", "patch", "delete"];
    verbs.contains(&request.verb.as_str())
        && !["events", "subjectaccessreviews"].contains(&request.resource.as_str())
}

/// Whether a request is for this resource, `jobs` or `workflowexecutions/status`.
fn is_of(request: &RequestInfo, resource: &str) -> bool {
    let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    request.resource == plural && request.subresource == subresource
}

fn call_faults(plan: &[PlannedFault], notes: Notes) -> FaultFunction {
    let began = Instant::now();
    let mut plan: Vec<(usize, PlannedFault)> = plan.iter().cloned().enumerate().collect();
    // What concerns one call alone comes before what lasts.
    plan.sort_by_key(|(_, planned)| match planned {
        PlannedFault::Outage { .. } => 1,
        PlannedFault::LateCalls { .. } => 2,
        PlannedFault::Slowness { .. } => 3,
        _ => 0,
    });
    let (calls, writes, watches) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    Arc::new(move |request| {
        if request.user.name != CONTROLLER {
            return None;
        }
        if request.verb == "watch" {
            let this = watches.fetch_add(1, Ordering::Relaxed);
            return plan.iter().find_map(|(index, planned)| match planned {
                PlannedFault::LaggingWatch { number, lag } if *number == this => {
                    notes.note(Cause::PlannedFault(*index), || Met::Call(request.clone()));
                    Some(embedded_cluster::Fault {
                        commit: true,
                        delay: Duration::ZERO,
                        answer: FaultAnswer::Lagging(*lag),
                    })
                }
                _ => None,
            });
        }
        let this = calls.fetch_add(1, Ordering::Relaxed);
        if this > MOST_CALLS {
            // Nothing else ends a circle in which no time passes.
            return Some(CrashPoint::Before.fault());
        }
        let this_write = is_write(request).then(|| writes.fetch_add(1, Ordering::Relaxed));
        let now = began.elapsed();
        plan.iter().find_map(|(index, planned)| {
            let fault = match planned {
                PlannedFault::Outage {
                    at,
                    lasts,
                    verb,
                    resource,
                    code,
                } if now >= *at
                    && lasts.is_none_or(|lasts| now < *at + lasts)
                    && request.verb == *verb
                    && is_of(request, resource) =>
                {
                    CallFault::Refused(*code).fault()
                }
                PlannedFault::LateCalls {
                    at,
                    lasts,
                    verb,
                    resource,
                    delay,
                } if now >= *at
                    && now < *at + *lasts
                    && request.verb == *verb
                    && is_of(request, resource) =>
                {
                    CallFault::Underway(*delay).fault()
                }
                PlannedFault::Slowness { at, lasts, delay } if now >= *at && now < *at + *lasts => {
                    CallFault::Late(*delay).fault()
                }
                PlannedFault::Crash {
                    write, crash_point, ..
                } if Some(*write) == this_write => crash_point.fault(),
                // Only what is stored can be in conflict.
                PlannedFault::Call {
                    fault: CallFault::Refused(409),
                    ..
                } if this_write.is_none() => return None,
                PlannedFault::Call { number, fault } if *number == this => fault.fault(),
                _ => return None,
            };
            notes.note(Cause::PlannedFault(*index), || Met::Call(request.clone()));
            Some(fault)
        })
    })
}

fn pod_faults(plan: &[PlannedFault], habits: &PodHabits, notes: Notes) -> PodScriptFunction {
    let plan = plan.to_vec();
    let habits = habits.clone();
    let pods: Mutex<Vec<String>> = Mutex::default();
    Arc::new(move |pod| {
        if pod["spec"]["serviceAccountName"] == Value::Null
            || pod["metadata"]["ownerReferences"][0]["kind"] != "Job"
        {
            return habits.script(pod);
        }
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let this = {
            let mut pods = pods.lock().unwrap_or_else(PoisonError::into_inner);
            pods.iter().position(|seen| seen == uid).unwrap_or_else(|| {
                pods.push(uid.to_owned());
                pods.len() - 1
            })
        };
        plan.iter()
            .enumerate()
            .find_map(|(index, planned)| match planned {
                PlannedFault::Pod { number, script } if *number == this => {
                    notes.note(Cause::PlannedFault(index), || Met::object(pod));
                    Some(script.clone())
                }
                _ => None,
            })
    })
}

fn api_of(client: &kube::Client, object: &Value) -> Api<DynamicObject> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text(&object["kind"])));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn create(client: &kube::Client, object: &Value) -> Result<(), String> {
    let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
    let typed = serde_json::from_value(object.clone()).map_err(|error| format!("{name}: {error}"))?;
    let made = api_of(client, object)
        .create(&PostParams::default(), &typed)
        .await;
    made.map(drop).map_err(|error| format!("{name}: {error}"))
}

/// Whether every workflow and execution that is there has ended, and none goes away any more.
fn all_ended(cluster: &EmbeddedCluster) -> bool {
    let kinds = [
        (names::WORKFLOW_API_VERSION, names::WORKFLOW_KIND),
        (names::EXECUTION_API_VERSION, names::EXECUTION_KIND),
    ];
    cluster.all_of(&kinds, |object| {
        let phase = object["status"]["phase"].as_str().unwrap_or_default();
        ["completed", "failed"].contains(&phase) && object["metadata"]["deletionTimestamp"].is_null()
    })
}
