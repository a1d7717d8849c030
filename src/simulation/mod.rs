//! One run of the whole controller, unchanged from its kube client to its actors, in the embedded cluster and on a virtual
//! clock, with a plan of what goes wrong. The same scenario gives the same run.
//!
//! # Guarantees
//! Nothing but the scenario decides: one thread, tokio's paused clock, uids and faults from the seed.
//!
//! # Caveats
//! A controller that dies is cut off from the cluster: its tasks end after that, but nothing of them gets out. A frozen
//! one can't be had this way.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each place looks for its own faults in the plan"
)]

mod faults;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kubernaut_actors::TokioClock;
use kubernaut_actors::ports::Clock as _;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use self::faults::{Boundary, CallFault, Deed, FaultKind, Planned, plan};
pub use crate::chance::Chance;

use crate::config::RunOptions;
use crate::http::Readiness;
use crate::memory::{
    Committed, FaultAnswer, FaultFunction, MemoryCluster, MemoryOptions, PodScriptFunction, Rbac,
    RequestInfo, RequestRecord, Session, User,
};
use crate::telemetry::Telemetry;
use crate::{World, run};

/// When every run begins.
const EPOCH: i64 = 1_767_225_600;
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
    pub installed: MemoryCluster,
    /// What is there besides: targets.
    pub world: Vec<Value>,
    /// Workflows and executions, in the order in which they are created.
    pub runs: Vec<Value>,
    /// The controller's settings.
    pub options: RunOptions,
    /// Whether rights are looked at.
    pub rbac: Rbac,
    /// What goes wrong.
    pub plan: Vec<Planned>,
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
    /// What is there in the end.
    pub objects: Vec<Value>,
    /// Until everything that was to run had ended, on the virtual clock; none when it never did.
    pub ended: Option<Duration>,
    /// The cluster's revision then: what is written later is written for no reason.
    pub quiet_from: u64,
}

/// Runs it, on a runtime of its own.
///
/// # Errors
/// In words: what of the scenario the cluster refuses, or that the controller ended.
pub fn simulate(scenario: &Scenario) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| format!("the runtime does not start: {error}"))?;
    runtime.block_on(drive(scenario))
}

async fn drive(scenario: &Scenario) -> Result<Outcome, String> {
    let epoch = Timestamp::from_second(EPOCH).unwrap_or(Timestamp::UNIX_EPOCH);
    let clock = TokioClock::starting_at(epoch);
    let cluster = scenario.installed.copy(MemoryOptions {
        now: Arc::new(move || clock.now()),
        seed: scenario.seed,
        rbac: scenario.rbac,
        ..MemoryOptions::default()
    });
    let admin = cluster.client(User::admin());
    cluster.keep_record();
    cluster.load(scenario.world.clone()).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        errors.join("; ")
    })?;
    cluster.fault(call_faults(&scenario.plan));
    cluster.script_pods(pod_faults(&scenario.plan));
    let began = Instant::now();
    let (stop, stopped) = oneshot::channel::<()>();
    let keeper = tokio::spawn(keep_controller(
        cluster.clone(),
        scenario.options.clone(),
        clock,
        down_times(&scenario.plan),
        stopped,
    ));
    let meddlers = tokio::spawn(meddle(cluster.clone(), scenario.plan.clone(), began));
    for object in &scenario.runs {
        create(&admin, object).await?;
    }
    let mut ended = None;
    while began.elapsed() < scenario.patience {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if keeper.is_finished() {
            break;
        }
        if all_ended(&cluster) && meddlers.is_finished() {
            ended = Some(began.elapsed());
            break;
        }
    }
    // What was decided before may still be on its way.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let quiet_from = cluster.revision();
    tokio::time::sleep(scenario.rest).await;
    let outcome = Outcome {
        record: cluster.record(),
        requests: cluster.requests(),
        objects: cluster.objects(),
        ended,
        quiet_from,
    };
    let _ = stop.send(());
    match keeper.await {
        Ok(Ok(())) => Ok(outcome),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(format!("the controller panicked: {error}")),
    }
}

/// Starts the controller, and the next one when it has died.
async fn keep_controller(
    cluster: MemoryCluster,
    options: RunOptions,
    clock: TokioClock,
    downs: Vec<Duration>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), String> {
    let mut downs = downs.into_iter();
    loop {
        let session = Session::default();
        let client = cluster.client_in(
            User::service_account("kubernaut-system", "kubernaut-controller"),
            session.clone(),
        );
        let world = World::new(
            Arc::new(clock),
            Arc::new(Telemetry::default()),
            Readiness::default(),
        );
        let (end, ended) = oneshot::channel::<()>();
        let options = options.clone();
        let mut controller = tokio::spawn(async move {
            run(&options, client, world, async {
                let _ = ended.await;
            })
            .await
        });
        let died = tokio::select! {
            biased;
            () = session.when_cut() => true,
            _ = &mut stopped => false,
            ended = &mut controller => {
                return Err(format!("the controller ended by itself: {ended:?}"));
            }
        };
        let _ = end.send(());
        if !died {
            return match controller.await {
                Ok(Ok(())) => Ok(()),
                other => Err(format!("the controller did not end in order: {other:?}")),
            };
        }
        match downs.next() {
            Some(down) => tokio::time::sleep(down).await,
            None => {
                return Err(format!(
                    "the controller sent {MOST_CALLS} calls: it goes round in circles"
                ));
            }
        }
    }
}

/// How long it is down after each death, in the order of the deaths.
fn down_times(plan: &[Planned]) -> Vec<Duration> {
    let mut crashes: Vec<(usize, Duration)> = plan
        .iter()
        .filter_map(|planned| match planned {
            Planned::Crash { write, down, .. } => Some((*write, *down)),
            _ => None,
        })
        .collect();
    crashes.sort_unstable();
    crashes.into_iter().map(|(_, down)| down).collect()
}

/// Whether this is counted by [`Planned::Crash`].
fn is_write(request: &RequestInfo) -> bool {
    let verbs = ["create", "update", "patch", "delete"];
    verbs.contains(&request.verb.as_str())
        && !["events", "subjectaccessreviews"].contains(&request.resource.as_str())
}

fn call_faults(plan: &[Planned]) -> FaultFunction {
    let plan = plan.to_vec();
    let (calls, writes, watches) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    Arc::new(move |request| {
        if request.user.name != CONTROLLER {
            return None;
        }
        if request.verb == "watch" {
            let this = watches.fetch_add(1, Ordering::Relaxed);
            return plan.iter().find_map(|planned| match planned {
                Planned::LaggingWatch { number, lag } if *number == this => Some(crate::memory::Fault {
                    commit: true,
                    delay: Duration::ZERO,
                    answer: FaultAnswer::Lagging(*lag),
                }),
                _ => None,
            });
        }
        let this = calls.fetch_add(1, Ordering::Relaxed);
        if this > MOST_CALLS {
            // Nothing else ends a circle in which no time passes.
            return Some(Boundary::Before.fault());
        }
        let this_write = is_write(request).then(|| writes.fetch_add(1, Ordering::Relaxed));
        plan.iter().find_map(|planned| match planned {
            Planned::Crash { write, boundary, .. } if Some(*write) == this_write => Some(boundary.fault()),
            // Only what is stored can be in conflict.
            Planned::Call {
                fault: CallFault::Refused(409),
                ..
            } if this_write.is_none() => None,
            Planned::Call { number, fault } if *number == this => Some(fault.fault()),
            _ => None,
        })
    })
}

fn pod_faults(plan: &[Planned]) -> PodScriptFunction {
    let plan = plan.to_vec();
    let pods: Mutex<Vec<String>> = Mutex::default();
    Arc::new(move |pod| {
        if pod["spec"]["serviceAccountName"] == Value::Null
            || pod["metadata"]["ownerReferences"][0]["kind"] != "Job"
        {
            return None;
        }
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let this = {
            let mut pods = pods.lock().unwrap_or_else(PoisonError::into_inner);
            pods.iter().position(|seen| seen == uid).unwrap_or_else(|| {
                pods.push(uid.to_owned());
                pods.len() - 1
            })
        };
        plan.iter().find_map(|planned| match planned {
            Planned::Pod { number, script } if *number == this => Some(script.clone()),
            _ => None,
        })
    })
}

/// Does what the plan has strangers and the API server do at certain times.
async fn meddle(cluster: MemoryCluster, plan: Vec<Planned>, began: Instant) {
    let stranger = User {
        name: STRANGER.to_owned(),
        ..User::admin()
    };
    let client = cluster.client(stranger);
    let mut timed: Vec<(Duration, Planned)> = plan
        .into_iter()
        .filter_map(|planned| match planned {
            Planned::CutWatches { at, .. } | Planned::Stranger { at, .. } => Some((at, planned)),
            _ => None,
        })
        .collect();
    timed.sort_by_key(|(at, _)| *at);
    for (at, planned) in timed {
        tokio::time::sleep_until(began + at).await;
        match planned {
            Planned::CutWatches { compacted, .. } => {
                if compacted {
                    cluster.compact();
                }
                cluster.drop_watches();
            }
            Planned::Stranger { deed, choice, .. } => do_it(&cluster, &client, deed, choice).await,
            _ => {}
        }
    }
}

async fn do_it(cluster: &MemoryCluster, client: &kube::Client, deed: Deed, choice: u64) {
    let kind = match deed {
        Deed::DeleteExecution => "KubernetesExecution",
        Deed::DeleteWorkflow => "WorkflowExecution",
        Deed::DeleteJob => "Job",
        Deed::DeletePod => "Pod",
        Deed::EditTarget | Deed::DeleteTarget => "Deployment",
    };
    let found: Vec<Value> = cluster
        .objects()
        .into_iter()
        .filter(|object| object["kind"] == kind)
        .filter(|object| kind != "Pod" || object["metadata"]["ownerReferences"][0]["kind"] == "Job")
        .collect();
    if found.is_empty() {
        return;
    }
    let object = Chance::new(choice).pick(&found).clone();
    let api = api_of(client, &object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    // That it is gone by now is as good.
    let _ = match deed {
        Deed::EditTarget => {
            let patch = json!({"metadata": {"annotations": {"example.com/edited": choice.to_string()}},
                               "spec": {"template": {"metadata": {"annotations": {"example.com/edited": choice.to_string()}}}}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map(drop)
        }
        Deed::DeleteExecution
        | Deed::DeleteWorkflow
        | Deed::DeleteJob
        | Deed::DeletePod
        | Deed::DeleteTarget => api.delete(name, &DeleteParams::background()).await.map(drop),
    };
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
fn all_ended(cluster: &MemoryCluster) -> bool {
    cluster.all_of(&["WorkflowExecution", "KubernetesExecution"], |object| {
        let phase = object["status"]["phase"].as_str().unwrap_or_default();
        ["completed", "failed"].contains(&phase) && object["metadata"]["deletionTimestamp"].is_null()
    })
}
