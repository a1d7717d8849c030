//! What goes wrong, planned before anything runs: a plan is data, so it can be told, repeated, and made smaller.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use embedded_cluster::SeededRng;
use embedded_cluster::{Fault, FaultAnswer, PodScript};

/// A kind of thing that goes wrong.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The API server refuses a call for now, or its answer is lost, before or after the work was done
    Api,
    /// The API server answers late, or calls reach it late
    Slow,
    /// Watches end, lag, or find their history gone
    Watches,
    /// The controller dies at a write and is started again
    Crashes,
    /// A Job's pod fails, hangs, starts never, is evicted, or dies after its work
    Pods,
    /// Somebody deletes executions, Jobs, pods and namespaces, or edits targets
    Strangers,
    /// Somebody makes objects of the names that the controller is going to use
    TakeNameters,
    /// For a while quotas allow no more Jobs, or pods, of the executor
    Quotas,
    /// The clock of the controller's machine is set forward or back
    Clocks,
    /// Of two controllers, the one that leads is cut off from the network for a while
    Failover,
    /// The API server refuses calls of one verb and resource, whatever the code, for a while or for ever
    #[value(skip)]
    Outages,
    /// For a while each call takes seconds
    #[value(skip)]
    Slowness,
    /// People annotate executions, take finalizers away, and keep what is deleted
    #[value(skip)]
    Metadata,
    /// After each death the controller is started with another image for its Jobs
    #[value(skip)]
    Upgrades,
}

impl FaultKind {
    /// Those that only the search draws: under them a workflow may wait for ever, which is right and no answer to a person's
    /// question.
    pub const SEARCHED: [FaultKind; 4] = [
        FaultKind::Outages,
        FaultKind::Slowness,
        FaultKind::Metadata,
        FaultKind::Upgrades,
    ];
}

/// When, and what of one thing that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum PlannedFault {
    /// The controller's call of this number, from 0, watches not counted.
    Call {
        /// Its number.
        number: usize,
        /// What becomes of it.
        fault: CallFault,
    },
    /// The controller dies at its write of this number, from 0, events and access reviews not counted.
    Crash {
        /// The write's number.
        write: usize,
        /// Whether the write takes effect, and is answered.
        crash_point: CrashPoint,
        /// Until another one is started.
        down: Duration,
    },
    /// At this time all watches end.
    CutWatches {
        /// Since the start.
        at: Duration,
        /// Whether they can't be continued either.
        compacted: bool,
    },
    /// The controller's watch of this number, from 0, tells each event later.
    LaggingWatch {
        /// Its number.
        number: usize,
        /// How much later.
        lag: Duration,
    },
    /// The executor's pod of this number, from 0.
    Pod {
        /// Its number.
        number: usize,
        /// What becomes of it.
        script: PodScript,
    },
    /// From this time on, for a while, the executor's namespace takes no more of these.
    Quota {
        /// Since the start.
        at: Duration,
        /// How long.
        lasts: Duration,
        /// Resource name of a quota: `pods` or `count/jobs.batch`.
        resource: &'static str,
    },
    /// At this time the clock of the controller's machine is set, forward or, in processes that begin later, back.
    ClockJump {
        /// Since the start.
        at: Duration,
        /// By how much, in seconds.
        by: i64,
    },
    /// At this time the controller that leads is cut off from the network. Because of this there are two of them.
    Partition {
        /// Since the start.
        at: Duration,
        /// Until the network works again.
        lasts: Duration,
    },
    /// From this time on every call of this verb and resource is refused.
    Outage {
        /// Since the start.
        at: Duration,
        /// How long; for ever when there is none.
        lasts: Option<Duration>,
        /// Such as `get`.
        verb: &'static str,
        /// Plural, with its subresource: `kubernetesexecutions/status`.
        resource: &'static str,
        /// Of the answer.
        code: u16,
    },
    /// From this time on, for a while, every call is answered so much later.
    Slowness {
        /// Since the start.
        at: Duration,
        /// How long.
        lasts: Duration,
        /// Less than what a controller waits for an answer.
        delay: Duration,
    },
    /// From this time on, for a while, every call of this verb and resource arrives so much later, also when it was given up.
    LateCalls {
        /// Since the start.
        at: Duration,
        /// How long.
        lasts: Duration,
        /// Such as `create`.
        verb: &'static str,
        /// Plural, with its subresource.
        resource: &'static str,
        /// Less than a minute, after which the API server gives a request up.
        delay: Duration,
    },
    /// Each process of the controller has another image for its Jobs than the one before.
    Upgrade,
    /// At this time somebody does this.
    Stranger {
        /// Since the start.
        at: Duration,
        /// What is done.
        disturbance: Disturbance,
        /// Decides to which object.
        choice: u64,
    },
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// Refused with this code.
    Refused(u16),
    /// Carried out, and answered with this code.
    AfterCommit(u16),
    /// The connection breaks; whether after it was carried out.
    Dropped(bool),
    /// Answered so much later.
    Late(Duration),
    /// Arrives so much later, also when it was given up.
    Underway(Duration),
}

/// Where in a write a controller dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// Before it is sent.
    Before,
    /// When it is stored and the answer has not come.
    Committed,
    /// When the answer has come.
    Answered,
}

/// What a stranger does.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Deletes an execution.
    DeleteExecution,
    /// Deletes a workflow.
    DeleteWorkflow,
    /// Deletes a Job of the executor.
    DeleteJob,
    /// Deletes a pod of the executor.
    DeletePod,
    /// Changes a Deployment.
    EditTarget,
    /// Sets the replicas of a Deployment.
    ScaleTarget,
    /// Deletes a Deployment.
    DeleteTarget,
    /// Deletes the namespace of a workflow, with all that is in it.
    DeleteNamespace,
    /// Makes an execution of the name of a step's that is not there yet.
    TakeNameExecution,
    /// Makes a Job of the name that an execution's next one will have.
    TakeNameJob,
    /// Annotates an execution.
    AnnotateExecution,
    /// Takes the finalizers of an execution away and deletes it.
    StripFinalizer,
    /// Deletes a workflow and keeps it for a while with a finalizer.
    KeepDeletedWorkflow,
    /// Suspends a workflow, and lets it go on a while later.
    Pause,
    /// Approves or rejects a workflow: perhaps its creator does, or of another one of its name, or of another plan.
    Decide,
    /// Takes an Approval away.
    Withdraw,
    /// Cancels a workflow.
    Cancel,
    /// Cancels a workflow and has what it did undone.
    RollBack,
}

/// What the controller asks, and only reads: a step that can't be looked at must end.
const READS: [(&str, &str); 5] = [
    ("get", "deployments"),
    ("get", "configmaps"),
    ("get", "nodes"),
    ("get", "serviceaccounts"),
    ("create", "subjectaccessreviews"),
];
/// What it writes, and looks at to know what it wrote.
const WRITES: [(&str, &str); 10] = [
    ("get", "jobs"),
    ("list", "pods"),
    ("create", "jobs"),
    ("delete", "jobs"),
    ("create", "secrets"),
    ("delete", "secrets"),
    ("create", "kubernetesexecutions"),
    ("get", "kubernetesexecutions"),
    ("patch", "kubernetesexecutions/status"),
    ("patch", "workflowexecutions/status"),
];

impl CallFault {
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Refused(code) => Fault::refused(code),
            Self::AfterCommit(code) => Fault::after_commit(code),
            Self::Dropped(commit) => Fault::dropped(commit),
            Self::Late(delay) => Fault::delayed(delay),
            Self::Underway(delay) => Fault::underway(delay),
        }
    }
}

impl CrashPoint {
    /// In words, before the write.
    pub fn words(self) -> &'static str {
        match self {
            Self::Before => "before it sends",
            Self::Committed => "when the API server has carried out, unanswered,",
            Self::Answered => "when it has the answer to",
        }
    }

    pub(super) fn fault(self) -> Fault {
        Fault {
            commit: self != Self::Before,
            delay: Duration::ZERO,
            answer: FaultAnswer::Died {
                answered: self == Self::Answered,
            },
        }
    }
}

/// Draws what goes wrong: at most `most` things of these kinds, early enough to meet a workflow of a few steps.
pub fn plan(kinds: &[FaultKind], most: u64, chance: &mut SeededRng) -> Vec<PlannedFault> {
    if kinds.is_empty() {
        return Vec::new();
    }
    let number = chance.below(most + 1);
    (0..number).map(|_| draw(*chance.pick(kinds), chance)).collect()
}

/// Early enough to meet a workflow of a few steps.
fn moment(chance: &mut SeededRng) -> Duration {
    Duration::from_millis(chance.below(200) * chance.below(100))
}

/// What people do to our own objects.
const METADATA: [Disturbance; 7] = [
    Disturbance::AnnotateExecution,
    Disturbance::AnnotateExecution,
    Disturbance::StripFinalizer,
    Disturbance::KeepDeletedWorkflow,
    Disturbance::Pause,
    Disturbance::Cancel,
    Disturbance::RollBack,
];

fn draw(kind: FaultKind, chance: &mut SeededRng) -> PlannedFault {
    let below = |chance: &mut SeededRng, end| usize::try_from(chance.below(end)).unwrap_or(0);
    match kind {
        FaultKind::Api => {
            let fault = match chance.below(4) {
                0 => CallFault::Refused(*chance.pick(&[409, 429, 500, 503, 504])),
                1 => CallFault::AfterCommit(*chance.pick(&[500, 504])),
                2 => CallFault::Dropped(false),
                _ => CallFault::Dropped(true),
            };
            let number = below(chance, 80);
            PlannedFault::Call { number, fault }
        }
        FaultKind::Slow => {
            let delay = Duration::from_millis(1 + chance.below(40) * chance.below(1000));
            let late = if chance.one_in(2) {
                CallFault::Late
            } else {
                CallFault::Underway
            };
            PlannedFault::Call {
                number: below(chance, 80),
                fault: late(delay),
            }
        }
        FaultKind::Watches if chance.one_in(2) => PlannedFault::LaggingWatch {
            number: below(chance, 10),
            lag: Duration::from_millis(1 + chance.below(100) * chance.below(100)),
        },
        FaultKind::Watches => PlannedFault::CutWatches {
            at: moment(chance),
            compacted: chance.one_in(2),
        },
        FaultKind::Crashes => PlannedFault::Crash {
            write: below(chance, 30),
            crash_point: *chance.pick(&[CrashPoint::Before, CrashPoint::Committed, CrashPoint::Answered]),
            down: Duration::from_millis(chance.below(200) * chance.below(200)),
        },
        FaultKind::Pods => {
            let script = draw_script(chance);
            let number = below(chance, 6);
            PlannedFault::Pod { number, script }
        }
        FaultKind::Strangers => PlannedFault::Stranger {
            at: moment(chance),
            disturbance: *chance.pick(&[
                Disturbance::DeleteExecution,
                Disturbance::DeleteWorkflow,
                Disturbance::DeleteJob,
                Disturbance::DeletePod,
                Disturbance::EditTarget,
                Disturbance::ScaleTarget,
                Disturbance::DeleteTarget,
                Disturbance::DeleteNamespace,
            ]),
            choice: chance.draw(),
        },
        FaultKind::TakeNameters => PlannedFault::Stranger {
            // Most names are taken within the first second.
            at: Duration::from_millis(chance.below(40) * chance.below(40)),
            disturbance: *chance.pick(&[Disturbance::TakeNameExecution, Disturbance::TakeNameJob]),
            choice: chance.draw(),
        },
        FaultKind::Quotas => PlannedFault::Quota {
            at: moment(chance),
            lasts: Duration::from_millis(chance.below(300) * chance.below(300)),
            resource: if chance.one_in(2) {
                "pods"
            } else {
                "count/jobs.batch"
            },
        },
        FaultKind::Clocks => PlannedFault::ClockJump {
            at: moment(chance),
            by: i64::try_from(1 + chance.below(30) * chance.below(30)).unwrap_or(1) * chance.pick(&[1, -1]),
        },
        FaultKind::Outages => draw_outage(chance),
        FaultKind::Slowness => PlannedFault::Slowness {
            at: Duration::from_millis(chance.below(50) * chance.below(20)),
            lasts: Duration::from_millis(chance.below(400) * chance.below(400)),
            delay: Duration::from_millis(1 + chance.below(3) * chance.below(2_500)),
        },
        FaultKind::Metadata => PlannedFault::Stranger {
            at: if chance.one_in(2) {
                moment(chance)
            } else {
                Duration::from_millis(chance.below(40) * chance.below(40))
            },
            disturbance: *chance.pick(&METADATA),
            choice: chance.draw(),
        },
        FaultKind::Upgrades => PlannedFault::Upgrade,
        FaultKind::Failover => PlannedFault::Partition {
            at: moment(chance),
            lasts: Duration::from_millis(chance.below(200) * chance.below(300)),
        },
    }
}

fn draw_script(chance: &mut SeededRng) -> PodScript {
    let code = 1;
    let message = chance
        .pick(&[
            "error: told to fail",
            "Error from server (Conflict): Operation cannot be fulfilled",
            "Error from server (NotFound): deployments.apps not found",
            "Unable to connect to the server: EOF",
        ])
        .to_string();
    match chance.below(8) {
        0 => PodScript::Run {
            after: Duration::from_millis(chance.below(100) * chance.below(1000)),
        },
        1 => PodScript::ExitWith { code, message },
        2 => PodScript::ActAndFail { code, message },
        3 => PodScript::ActAndVanish,
        4 => PodScript::NeverStart {
            reason: "ImagePullBackOff".to_owned(),
            message: "the image is not there".to_owned(),
        },
        5 => PodScript::Hang,
        6 => PodScript::Lost,
        _ => PodScript::Evicted,
    }
}

fn draw_outage(chance: &mut SeededRng) -> PlannedFault {
    let for_ever = chance.one_in(3);
    let (verb, resource) = if for_ever || chance.one_in(2) {
        *chance.pick(&READS)
    } else {
        *chance.pick(&WRITES)
    };
    // Most is asked within the first second.
    let at = if chance.one_in(2) {
        moment(chance)
    } else {
        Duration::from_millis(chance.below(50) * chance.below(20))
    };
    let lasts = (!for_ever).then(|| Duration::from_millis(chance.below(300) * chance.below(300)));
    let code = *chance.pick(&[400, 403, 404, 409, 422, 429, 500, 503]);
    PlannedFault::Outage {
        at,
        lasts,
        verb,
        resource,
        // That what is to be deleted is not there can't be refused: it is the answer.
        code: if verb == "delete" && code == 404 {
            403
        } else {
            code
        },
    }
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { number, fault } => write!(f, "call {number} of the controller: {fault}"),
            Self::Crash {
                write,
                crash_point,
                down,
            } => {
                let place = crash_point.words();
                write!(
                    f,
                    "the controller dies {place} write {write}; the next one starts {down:?} later"
                )
            }
            Self::CutWatches { at, compacted: false } => write!(f, "after {at:?} all watches end"),
            Self::CutWatches { at, compacted: true } => {
                write!(f, "after {at:?} all watches end and their history is gone (410)")
            }
            Self::LaggingWatch { number, lag } => write!(f, "watch {number} tells each change {lag:?} late"),
            Self::Pod { number, script } => write!(f, "pod {number} of the executor {}", told(script)),
            Self::Quota { at, lasts, resource } => write!(
                f,
                "after {at:?}, for {lasts:?}, a quota allows no more {resource} in the executor's namespace"
            ),
            Self::ClockJump { at, by } => write!(f, "after {at:?} the controller's clock is set by {by:+} s"),
            Self::Partition { at, lasts } => write!(
                f,
                "after {at:?} the leading one of two controllers is cut off from the network for {lasts:?}"
            ),
            Self::Outage {
                at,
                lasts,
                verb,
                resource,
                code,
            } => {
                write!(
                    f,
                    "after {at:?} every {verb} of {resource} is refused with {code}, "
                )?;
                match lasts {
                    Some(lasts) => write!(f, "for {lasts:?}"),
                    None => f.write_str("for ever"),
                }
            }
            Self::Slowness { at, lasts, delay } => {
                write!(
                    f,
                    "after {at:?}, for {lasts:?}, every call takes {delay:?} longer"
                )
            }
            Self::LateCalls {
                at,
                lasts,
                verb,
                resource,
                delay,
            } => {
                write!(
                    f,
                    "after {at:?}, for {lasts:?}, every {verb} of {resource} arrives {delay:?} later, also if it was given up"
                )
            }
            Self::Upgrade => {
                f.write_str("each controller has another image for its Jobs than the one before")
            }
            Self::Stranger { at, disturbance, .. } => write!(f, "after {at:?} somebody {disturbance}"),
        }
    }
}

impl fmt::Display for CallFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused with {code}"),
            Self::AfterCommit(code) => write!(f, "carried out, answered with {code}"),
            Self::Dropped(false) => f.write_str("connection reset before it arrived"),
            Self::Dropped(true) => f.write_str("carried out, connection reset before the answer"),
            Self::Late(delay) => write!(f, "answered after {delay:?}"),
            Self::Underway(delay) => write!(f, "arrives after {delay:?}, also if it was given up"),
        }
    }
}

fn told(script: &PodScript) -> String {
    match script {
        PodScript::Run { after } => format!("takes {after:?}"),
        PodScript::ExitWith { code, message } => {
            format!("does nothing and ends with exit code {code} and the words {message:?}")
        }
        PodScript::ActAndFail { code, message } => {
            format!("does its work and ends with exit code {code} and the words {message:?}")
        }
        PodScript::ActAndVanish => "does its work, and then its Job disappears".to_owned(),
        PodScript::NeverStart { reason, message } => format!("never starts: {reason}: {message}"),
        PodScript::Hang => "hangs until it is stopped".to_owned(),
        PodScript::Lost => "runs on a node that is lost".to_owned(),
        PodScript::Evicted => "is evicted before it does anything".to_owned(),
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeleteExecution => "deletes the execution of a step",
            Self::DeleteWorkflow => "deletes a workflow",
            Self::DeleteJob => "deletes a Job of the executor",
            Self::DeletePod => "deletes a pod of the executor",
            Self::EditTarget => "changes a Deployment",
            Self::ScaleTarget => "sets the replicas of a Deployment",
            Self::DeleteTarget => "deletes a Deployment",
            Self::DeleteNamespace => "deletes the namespace of a workflow",
            Self::TakeNameExecution => "makes a foreign KubernetesExecution of the name of a later step's",
            Self::TakeNameJob => "makes a foreign Job of the name of a step's next one",
            Self::AnnotateExecution => "annotates the execution of a step",
            Self::StripFinalizer => "takes the finalizers of the execution of a step away and deletes it",
            Self::KeepDeletedWorkflow => "deletes a workflow and keeps it with a finalizer for a while",
            Self::Pause => "suspends a workflow for a while",
            Self::Decide => "approves or rejects a workflow",
            Self::Withdraw => "takes an Approval away",
            Self::Cancel => "cancels a workflow",
            Self::RollBack => "cancels a workflow and has it undone",
        })
    }
}
