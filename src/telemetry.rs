//! Logs and metrics. Names in metrics come from name enums, so that their number is bounded.

mod policy;

use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::io::IsTerminal as _;

use kubernaut_actors::ports::{ActorKind, JobRef, Observer, Subject, WaitKind};
use kubernaut_crds::{AttemptOutcome, ErrorType};
use kubernaut_machines::announcement::Announcement;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use self::policy::PolicyLoad;
use self::policy::PolicyMetrics;
use crate::config::{LogFormat, TelemetryOptions};

/// From a call to a phase that waits for a person: 5 ms to an hour.
const PHASE_SECONDS: [f64; 12] = [
    0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0,
];

/// A log directive that is none.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `--log-level` is not understood.
    #[error("--log-level={text}: {source}")]
    Level {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process already logs.
    #[error("logging was set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging to standard error; once in a process.
pub fn start_logging(options: &TelemetryOptions) -> Result<(), LogError> {
    // ractor opens a span for each actor, and the HTTP stack logs each connection. The client logs each request that fails,
    // without saying where it went; whoever sent it says what came of it.
    let text = format!(
        "ractor=warn,hyper_util=warn,tower=warn,kube_client=off,kube_runtime=warn,{}",
        options.log_level
    );
    let filter = EnvFilter::try_new(text).map_err(|source| LogError::Level {
        text: options.log_level.clone(),
        source,
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => registry
            .with(
                layer
                    .fmt_fields(debug_fn(write_field).delimited(" "))
                    .with_target(false)
                    .with_ansi(std::io::stderr().is_terminal()),
            )
            .try_init()?,
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
    }
    Ok(())
}

/// A field of a line of text. What others wrote (names, the words of a webhook) must not begin a line of its own, nor move a
/// terminal's cursor.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let text = format!("{value:?}");
    match field.name() {
        "message" => write!(writer, "{}", on_one_line(&text)),
        name => write!(writer, "{name}={}", on_one_line(&text)),
    }
}

/// The text without characters that would change how what stands around it is shown.
fn on_one_line(text: &str) -> Cow<'_, str> {
    let disturbs = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(disturbs) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if disturbs(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

/// All metrics, and the observer that keeps them.
pub struct Telemetry {
    registry: Registry,
    workflow_transitions: Family<Phase, Counter>,
    workflow_phases: Family<Phase, Histogram>,
    execution_transitions: Family<PhaseOfAction, Counter>,
    execution_phases: Family<PhaseOfAction, Histogram>,
    attempts: Family<Attempt, Counter>,
    attempt_durations: Family<Action, Histogram>,
    api_requests: Family<ApiRequest, Counter>,
    actors: Family<Kind, Gauge>,
    restarts: Family<Kind, Counter>,
    locks: Family<State, Gauge>,
    slots: Family<State, Gauge>,
    waits: Family<Kind, Histogram>,
    effects: Gauge,
    events_dropped: Counter,
    strays: Counter,
    unfitting: Counter,
    undecodable: Family<Kind, Counter>,
    stored_objects: Family<Kind, Gauge>,
    stored_bytes: Family<Kind, Gauge>,
    leader: Gauge,
    leader_changes: Counter,
    policy: PolicyMetrics,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseOfAction {
    phase: &'static str,
    action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Action {
    action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempt {
    action: &'static str,
    outcome: &'static str,
    error_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiRequest {
    verb: &'static str,
    resource: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

impl Default for Telemetry {
    fn default() -> Self {
        let histogram = || Histogram::new(PHASE_SECONDS);
        let mut telemetry = Self {
            registry: Registry::with_prefix("kubernaut"),
            workflow_transitions: Family::default(),
            workflow_phases: Family::new_with_constructor(histogram as fn() -> Histogram),
            execution_transitions: Family::default(),
            execution_phases: Family::new_with_constructor(histogram as fn() -> Histogram),
            attempts: Family::default(),
            attempt_durations: Family::new_with_constructor(histogram as fn() -> Histogram),
            api_requests: Family::default(),
            actors: Family::default(),
            restarts: Family::default(),
            locks: Family::default(),
            slots: Family::default(),
            waits: Family::new_with_constructor(histogram as fn() -> Histogram),
            effects: Gauge::default(),
            events_dropped: Counter::default(),
            strays: Counter::default(),
            unfitting: Counter::default(),
            undecodable: Family::default(),
            stored_objects: Family::default(),
            stored_bytes: Family::default(),
            leader: Gauge::default(),
            leader_changes: Counter::default(),
            policy: PolicyMetrics::default(),
        };
        telemetry.register();
        telemetry
    }
}

impl Telemetry {
    /// The text of /metrics.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics could not be written");
        }
        text
    }

    /// Counts a request to the API server; 0 is the code of one that was not answered.
    pub fn api_request(&self, verb: &'static str, resource: &'static str, code: u16) {
        self.api_requests
            .get_or_create(&ApiRequest { verb, resource, code })
            .inc();
    }

    /// Counts an object that could not be read.
    pub fn undecodable(&self, kind: &'static str) {
        self.undecodable.get_or_create(&Kind { kind }).inc();
    }

    /// How many objects of a kind are kept, and how many bytes they have, about.
    pub fn stored(&self, kind: &'static str, objects: usize, bytes: usize) {
        let gauge = |family: &Family<Kind, Gauge>, value: usize| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_or_create(&Kind { kind }).set(value);
        };
        gauge(&self.stored_objects, objects);
        gauge(&self.stored_bytes, bytes);
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts a change of the leader that this process has seen or made.
    pub fn leader_changed(&self) {
        self.leader_changes.inc();
    }

    /// The counter appends `_total`, the unit `_seconds`.
    #[expect(clippy::too_many_lines, reason = "a table of metrics")]
    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The program", Info::new(version));
        let seconds = || Unit::Seconds;
        registry.register(
            "workflow_phase_transitions",
            "Workflows that entered a phase",
            self.workflow_transitions.clone(),
        );
        registry.register_with_unit(
            "workflow_phase_duration",
            "Time that workflows spent in a phase",
            seconds(),
            self.workflow_phases.clone(),
        );
        registry.register(
            "execution_phase_transitions",
            "Executions that entered a phase",
            self.execution_transitions.clone(),
        );
        registry.register_with_unit(
            "execution_phase_duration",
            "Time that executions spent in a phase",
            seconds(),
            self.execution_phases.clone(),
        );
        registry.register("attempts", "Attempts that ended", self.attempts.clone());
        registry.register_with_unit(
            "attempt_duration",
            "Time from the record of an attempt to its end",
            seconds(),
            self.attempt_durations.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server; code 0 was not answered",
            self.api_requests.clone(),
        );
        registry.register("actors", "Actors that live", self.actors.clone());
        registry.register("actor_restarts", "Actors that crashed", self.restarts.clone());
        registry.register(
            "lock_requests",
            "Steps that hold the lock on their target, and that wait for it",
            self.locks.clone(),
        );
        registry.register(
            "job_slots",
            "Steps that hold a place for a running Job, and that wait for one",
            self.slots.clone(),
        );
        registry.register_with_unit(
            "wait_duration",
            "Time that steps waited for a lock or a place",
            seconds(),
            self.waits.clone(),
        );
        registry.register(
            "pending_effects",
            "Calls that are under way or wait for their turn",
            self.effects.clone(),
        );
        registry.register(
            "events_dropped",
            "Kubernetes events that were not published: too many waited, or the API server did not take them",
            self.events_dropped.clone(),
        );
        registry.register(
            "stray_jobs_deleted",
            "Jobs that belonged to nobody and were deleted",
            self.strays.clone(),
        );
        registry.register(
            "unfitting_answers",
            "Calls that were answered with something else than was asked for: a defect of this program, please report it",
            self.unfitting.clone(),
        );
        registry.register(
            "undecodable_objects",
            "Objects that could not be read and are passed over",
            self.undecodable.clone(),
        );
        registry.register(
            "stored_objects",
            "Objects that the watches keep",
            self.stored_objects.clone(),
        );
        registry.register_with_unit(
            "stored",
            "Length of the objects that the watches keep, as JSON: to be alarmed of, for one byte is up to two of memory",
            Unit::Bytes,
            self.stored_bytes.clone(),
        );
        registry.register(
            "leader",
            "1 when this process leads, 0 when it waits for the lease",
            self.leader.clone(),
        );
        registry.register(
            "leader_changes",
            "Changes of the leader that this process has seen or made",
            self.leader_changes.clone(),
        );
        self.policy.register(registry);
    }
}

impl Observer for Telemetry {
    fn announce(&self, subject: &Subject, announcement: &Announcement) {
        self.count(announcement);
        log(subject, announcement);
    }

    fn actors(&self, kind: ActorKind, change: i64) {
        self.actors
            .get_or_create(&Kind { kind: kind.as_str() })
            .inc_by(change);
    }

    fn restarted(&self, kind: ActorKind) {
        self.restarts.get_or_create(&Kind { kind: kind.as_str() }).inc();
    }

    fn locks(&self, held: usize, waiting: usize) {
        set(&self.locks, "held", held);
        set(&self.locks, "waiting", waiting);
    }

    fn slots(&self, used: usize, waiting: usize) {
        set(&self.slots, "used", used);
        set(&self.slots, "waiting", waiting);
    }

    fn waited(&self, kind: WaitKind, seconds: f64) {
        self.waits
            .get_or_create(&Kind { kind: kind.as_str() })
            .observe(seconds);
    }

    fn effects(&self, pending: usize) {
        self.effects.set(i64::try_from(pending).unwrap_or(i64::MAX));
    }

    fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    fn stray(&self, job: &JobRef) {
        self.strays.inc();
        tracing::warn!(job = job.view.name, execution = %job.execution, execution_uid = job.execution_uid, "a Job that belongs to nobody was deleted");
    }
}

impl Telemetry {
    fn count(&self, announcement: &Announcement) {
        match announcement {
            Announcement::Execution {
                phase,
                before,
                action,
                ..
            } => {
                let label = |phase| PhaseOfAction { phase, action };
                self.execution_transitions
                    .get_or_create(&label(phase.as_str()))
                    .inc();
                if let Some((before, seconds)) = before {
                    self.execution_phases
                        .get_or_create(&label(before.as_str()))
                        .observe(*seconds);
                }
            }
            Announcement::Attempt {
                action,
                outcome,
                error_type,
                seconds,
                ..
            } => {
                let error_type = error_type.map_or("", ErrorType::as_str);
                let attempt = Attempt {
                    action,
                    outcome: outcome_name(*outcome),
                    error_type,
                };
                self.attempts.get_or_create(&attempt).inc();
                self.attempt_durations
                    .get_or_create(&Action { action })
                    .observe(*seconds);
            }
            Announcement::Workflow { phase, before, .. } => {
                self.workflow_transitions
                    .get_or_create(&Phase {
                        phase: phase.as_str(),
                    })
                    .inc();
                if let Some((before, seconds)) = before {
                    self.workflow_phases
                        .get_or_create(&Phase {
                            phase: before.as_str(),
                        })
                        .observe(*seconds);
                }
            }
            Announcement::Unfitting { .. } => drop(self.unfitting.inc()),
        }
    }
}

fn log(subject: &Subject, announcement: &Announcement) {
    let Subject {
        key,
        workflow,
        step,
        correlation_id,
        ..
    } = subject;
    match announcement {
        Announcement::Execution {
            phase,
            action,
            attempt,
            error_type,
            message,
            ..
        } => tracing::info!(
            namespace = key.namespace,
            name = key.name,
            workflow,
            step,
            correlation_id,
            phase = phase.as_str(),
            action,
            attempt,
            error_type = error_type.map(ErrorType::as_str),
            "{}",
            sentence(phase.as_str(), message)
        ),
        Announcement::Attempt {
            action,
            attempt,
            outcome,
            error_type,
            seconds,
            message,
        } => tracing::info!(
            namespace = key.namespace,
            name = key.name,
            workflow,
            step,
            correlation_id,
            action,
            attempt,
            outcome = outcome_name(*outcome),
            error_type = error_type.map(ErrorType::as_str),
            seconds,
            "{}",
            sentence(&format!("attempt {attempt} {}", outcome_name(*outcome)), message)
        ),
        Announcement::Workflow {
            phase,
            error_type,
            message,
            ..
        } => tracing::info!(
            namespace = key.namespace,
            name = key.name,
            workflow,
            correlation_id,
            phase = phase.as_str(),
            error_type = error_type.map(ErrorType::as_str),
            "{}",
            sentence(phase.as_str(), message)
        ),
        Announcement::Unfitting { asked, answered } => tracing::error!(
            namespace = key.namespace,
            name = key.name,
            workflow,
            step,
            correlation_id,
            asked,
            answered,
            "a call was answered with something else than was asked for: a defect of this program, please report it"
        ),
    }
}

/// A line of the log that says something, also where there is no more to say than the fields do.
fn sentence(what: &str, message: &str) -> String {
    if message.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {message}")
    }
}

fn outcome_name(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Succeeded => "succeeded",
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::Evicted => "evicted",
        AttemptOutcome::Lost => "lost",
    }
}

fn set(gauges: &Family<State, Gauge>, state: &'static str, value: usize) {
    gauges
        .get_or_create(&State { state })
        .set(i64::try_from(value).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use kubernaut_crds::WorkflowPhase;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[test]
    fn counters_end_in_total_and_durations_in_seconds() {
        let telemetry = Telemetry::default();
        telemetry.api_request("create", "jobs", 201);
        telemetry.waited(WaitKind::Lock, 0.3);
        telemetry.count(&Announcement::Workflow {
            phase: WorkflowPhase::Completed,
            before: Some((WorkflowPhase::Executing, 2.5)),
            error_type: None,
            message: String::new(),
        });
        telemetry.count(&Announcement::Unfitting {
            asked: "Write".to_owned(),
            answered: "deleted",
        });
        let text = telemetry.encode();
        for line in [
            "kubernaut_build_info{version=\"0.1.0\"} 1",
            "kubernaut_api_requests_total{verb=\"create\",resource=\"jobs\",code=\"201\"} 1",
            "kubernaut_unfitting_answers_total 1",
            "kubernaut_wait_duration_seconds_sum{kind=\"lock\"} 0.3",
            "kubernaut_workflow_phase_transitions_total{phase=\"completed\"} 1",
            "kubernaut_workflow_phase_duration_seconds_count{phase=\"executing\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Log;

        fn make_writer(&'a self) -> Log {
            self.clone()
        }
    }

    #[test]
    fn what_others_wrote_stays_on_its_line_of_the_log() {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .with_writer(log.clone())
            .with_ansi(false)
            .finish();
        let foreign = "no\nERROR forged\r\u{1b}[2J\u{202e}txt\u{2028}\u{7}";
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(name = foreign, error = %foreign, "failed: {foreign}");
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert!(
            !line.contains(|c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}')),
            "{line:?}"
        );
        assert_eq!(
            line.matches("no\\nERROR forged\\r\\u{1b}[2J\\u{202e}txt").count(),
            3,
            "{line}"
        );
    }
}
