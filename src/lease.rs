//! Which of several controllers leads: a Lease (coordination.k8s.io/v1) in the controller's namespace.
//!
//! `Election` decides, without I/O; this file reads, writes and follows the Lease for it, tells people, and keeps the
//! [`WriteGate`].
//!
//! # Guarantees
//! One leads at a time, as far as time can tell. A candidate takes a lease when its record has not changed for the
//! lease's duration, counted here from when the answer that showed it had come, so never before the holder's own count is
//! over: the holder counts from before it sent its renewal. Nobody compares the times in the record: clocks differ.
//! Both count with the monotonic clock. The gate asks the wall clock as well, because the monotonic one stands still
//! while a machine sleeps.
//!
//! The gate closes at the renew deadline, by time alone. The rest of the lease (5 s by default) is for writes that are
//! already handed to the API server. It is asked before each step of a write, and not only before the first
//! (`kubernaut_actors`, effects.rs), so that a process that was frozen and goes on sends nothing but what
//! was between that question and the network card.
//!
//! # Caveats: a write that arrives later still
//! No clock excludes it: a process can be frozen between any two instructions, and a network can hold back what was sent.
//! It meets what also meets a request that a crash cut off:
//! - Status and finalizers carry the resourceVersion that they were decided on: refused once the successor has written
//!   the object. Taken before that, the successor sees it as it sees any change, and looks again before it acts: an
//!   execution that enters `executing` so waits for the lock on its target before its Job is made.
//! - Executions and Jobs have names that follow from their cause, one for each attempt; one that exists is compared by
//!   uid and hash, never made twice. A Job that no attempt answers for is deleted, and so is one whose attempt has ended:
//!   what a create that arrives minutes late can still do is run until its Job is seen.
//! - Deletes carry the uid. An event too many harms nobody.
//!
//! # Why the loser's process ends
//! Nothing of its time as leader survives that way: no actor, no task, no open request. The Deployment starts it
//! again, and it waits like any other. Whoever waits follows the cluster as the leader does, so that a missing right
//! or a missing CRD shows in /readyz before the lease is asked for. What it has seen can be old, though,
//! and a watch can't say how old: after the take-over all kinds are listed again, and nothing is done before that.

mod election;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use kubernaut_actors::ports::{Clock, WriteGate};
use kubernaut_machines::defect::{Defect, planted};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::http::Readiness;
use crate::kube_api::{MANAGER, chain, code_of};
use crate::telemetry::Telemetry;
use election::{Command, Election, Event, Moment, Now, Standing};

/// Name of the Lease.
pub const LEASE_NAME: &str = "kubernaut-controller";

/// What /readyz says of the lease.
const TOPIC: &str = "lease";
const NEED: &str = "an answer about the lease";

/// The times of a lease. The defaults are those of the controllers of Kubernetes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl LeaseTimes {
    /// # Errors
    /// In words for a person, naming the flags, when one does not fit the others.
    pub fn new(duration: Duration, renew_deadline: Duration, retry_period: Duration) -> Result<Self, String> {
        if duration.is_zero() || duration.subsec_nanos() != 0 {
            return Err(format!(
                "--lease-duration={duration:?} must be a whole number of seconds, at least one: the API knows no others"
            ));
        }
        if renew_deadline >= duration {
            return Err(format!(
                "--lease-renew-deadline={renew_deadline:?} must be shorter than --lease-duration={duration:?}: \
                 between the two, writes that are under way may still arrive"
            ));
        }
        if retry_period.is_zero() || retry_period * 2 > renew_deadline {
            return Err(format!(
                "--lease-retry-period={retry_period:?} must be more than 0s and at most half of \
                 --lease-renew-deadline={renew_deadline:?}: one failed try must not cost the lease"
            ));
        }
        Ok(Self {
            duration,
            renew_deadline,
            retry_period,
        })
    }
}

/// A controller that would lead.
#[derive(Clone)]
pub struct Candidate {
    /// Must not retry by itself, and should be used for nothing else: a connection that hangs is then given up alone.
    pub client: Client,
    /// Where the Lease is.
    pub namespace: String,
    /// Unique for each start of a process.
    pub identity: String,
    /// When it renews and gives up.
    pub times: LeaseTimes,
    /// Where the lease is held, when not in the runtime of the actors: nothing that they do costs it then. `client` must have
    /// been made there.
    pub runtime: Option<Handle>,
}

/// Why a leader stops leading without wanting to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease was lost: {0}")]
pub struct LeaseLost(pub String);

/// A candidate at work. Dropped, it stops, and the lease runs out.
pub struct Candidacy {
    task: JoinSet<()>,
    runtime: Option<Handle>,
    /// What is to become the task.
    shell: Option<(Shell, oneshot::Receiver<()>)>,
    gate: Arc<Gate>,
    standing: watch::Receiver<Standing>,
    resign: oneshot::Sender<()>,
}

impl Candidate {
    /// Gets ready; the lease is first asked for by [`Candidacy::elected`].
    pub fn stand(self, clock: &Arc<dyn Clock>, telemetry: Arc<Telemetry>, readiness: Readiness) -> Candidacy {
        let gate = Arc::new(Gate::new(Arc::clone(clock), self.times));
        let (resign, resigned) = oneshot::channel();
        let (told, standing) = watch::channel(Standing::Unknown);
        readiness.needs(NEED);
        let shell = Shell {
            api: Api::namespaced(self.client, &self.namespace),
            election: Election::new(self.identity, self.namespace, self.times),
            gate: Arc::clone(&gate),
            clock: Arc::clone(clock),
            telemetry,
            readiness,
            told,
            in_trouble: false,
        };
        Candidacy {
            task: JoinSet::new(),
            runtime: self.runtime,
            shell: Some((shell, resigned)),
            gate,
            standing,
            resign,
        }
    }
}

impl Candidacy {
    /// Open while this candidate leads.
    pub fn gate(&self) -> Arc<dyn WriteGate> {
        Arc::clone(&self.gate) as Arc<dyn WriteGate>
    }

    /// Asks for the lease, and returns when it leads.
    ///
    /// # Errors
    /// When it has led and lost the lease meanwhile.
    pub async fn elected(&mut self) -> Result<(), LeaseLost> {
        if let Some((shell, resigned)) = self.shell.take() {
            let runtime = self.runtime.clone().unwrap_or_else(Handle::current);
            self.task.spawn_on(shell.run(resigned), &runtime);
        }
        let known = |standing: &Standing| matches!(standing, Standing::Leads | Standing::Lost { .. });
        match self.until(known).await {
            Standing::Lost { reason } => Err(LeaseLost(reason)),
            Standing::Leads | Standing::Unknown | Standing::Waits { .. } => Ok(()),
        }
    }

    /// Returns when the lease is lost.
    pub async fn lost(&mut self) -> LeaseLost {
        let is_lost = |standing: &Standing| matches!(standing, Standing::Lost { .. });
        match self.until(is_lost).await {
            Standing::Lost { reason } => LeaseLost(reason),
            Standing::Leads | Standing::Unknown | Standing::Waits { .. } => LeaseLost(String::new()),
        }
    }

    /// Stops asking for the lease, and releases it if it is held. To be called when no write is under way.
    pub async fn resign(mut self) {
        self.gate.shut();
        // A task that has ended holds nothing.
        let _ = self.resign.send(());
        self.task.join_next().await;
    }

    async fn until(&mut self, is_reached: impl Fn(&Standing) -> bool) -> Standing {
        match self.standing.wait_for(is_reached).await {
            Ok(standing) => standing.clone(),
            Err(_) => Standing::Lost {
                reason: "its task ended: this is a defect of kubernaut".to_owned(),
            },
        }
    }
}

/// Open until the renew deadline after the last renewal was sent, on both clocks; once shut, it stays so.
struct Gate {
    clock: Arc<dyn Clock>,
    span: Duration,
    state: Mutex<GateState>,
}

#[derive(Clone, Copy)]
enum GateState {
    NotYet,
    OpenUntil(Moment, Timestamp),
    Shut,
}

impl Gate {
    fn new(clock: Arc<dyn Clock>, times: LeaseTimes) -> Self {
        Self {
            clock,
            span: times.renew_deadline,
            state: Mutex::new(GateState::NotYet),
        }
    }

    /// The request that was sent then was taken.
    fn open(&self, sent: Now) {
        let span = SignedDuration::try_from(self.span).unwrap_or(SignedDuration::ZERO);
        let wall = sent.wall.checked_add(span).unwrap_or(Timestamp::MAX);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, GateState::Shut) {
            *state = GateState::OpenUntil(sent.monotonic + self.span, wall);
        }
    }

    fn shut(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = GateState::Shut;
    }
}

impl WriteGate for Gate {
    fn may_write(&self) -> bool {
        if planted(Defect::IgnoreTheLease) {
            return true;
        }
        match *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            GateState::OpenUntil(monotonic, wall) => {
                self.clock.monotonic() < monotonic && self.clock.now() < wall
            }
            GateState::NotYet | GateState::Shut => false,
        }
    }
}

/// The watch of a lease that somebody else holds.
type Following = BoxStream<'static, kube::Result<WatchEvent<Lease>>>;

/// Carries out what the election asks for.
struct Shell {
    api: Api<Lease>,
    election: Election,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
    readiness: Readiness,
    told: watch::Sender<Standing>,
    in_trouble: bool,
}

impl Shell {
    async fn run(mut self, mut resigned: oneshot::Receiver<()>) {
        let mut event = Event::Tick;
        let mut following = None;
        loop {
            self.note_trouble(&event);
            let command = self.election.on_event(self.now(), event);
            self.tell();
            event = match command {
                Command::Read => self.read().await,
                Command::Write(lease) => self.write(*lease).await,
                Command::Wait { until, follow } => {
                    match select(
                        &mut resigned,
                        std::pin::pin!(self.wait(until, follow, &mut following)),
                    )
                    .await
                    {
                        Either::Left((Ok(()), _)) => break,
                        // Nobody vouches for it that no write is under way: the lease runs out.
                        Either::Left((Err(_), _)) => return,
                        Either::Right((event, _)) => event,
                    }
                }
                Command::End => return,
            };
        }
        self.release().await;
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.clock.monotonic(),
            wall: self.clock.now(),
        }
    }

    async fn read(&self) -> Event {
        match self.limited("get", self.api.get_opt(LEASE_NAME)).await {
            Ok(lease) => Event::Seen(lease),
            Err(Failure { message, .. }) => Event::Failed(message),
        }
    }

    async fn write(&self, lease: Lease) -> Event {
        let sent = self.now();
        match self.put(&lease).await {
            Ok(lease) => {
                self.gate.open(sent);
                Event::Written {
                    sent: sent.monotonic,
                    lease,
                }
            }
            Err(Failure { stale: true, .. }) => Event::Refused,
            Err(Failure { message, .. }) => Event::Failed(message),
        }
    }

    /// The uid and the resourceVersion in it are preconditions.
    async fn put(&self, lease: &Lease) -> Result<Lease, Failure> {
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        if lease.resource_version().is_none() {
            let made = self.limited("create", self.api.create(&parameters, lease)).await;
            return made.map_err(|failure| Failure {
                // 404 speaks of the namespace.
                stale: failure.code == 409,
                ..failure
            });
        }
        let written = self.api.replace(LEASE_NAME, &parameters, lease);
        self.limited("update", written).await.map_err(|failure| Failure {
            stale: matches!(failure.code, 404 | 409),
            ..failure
        })
    }

    async fn limited<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        let patience = self.election.patience(self.clock.monotonic());
        let answer = match select(std::pin::pin!(call), self.clock.sleep(patience)).await {
            Either::Left((answer, _)) => answer.map_err(|error| Failure {
                code: code_of(verb, Some(&error)),
                message: format!("{verb} failed: {}", chain(&error)),
                stale: false,
            }),
            Either::Right(_) => Err(Failure {
                code: 0,
                message: format!("{verb} had no answer within {patience:?}"),
                stale: false,
            }),
        };
        let code = answer
            .as_ref()
            .map_or_else(|failure| failure.code, |_| code_of(verb, None));
        self.telemetry.api_request(verb, "leases", code);
        answer
    }

    /// Waits, and hears of changes meanwhile.
    async fn wait(&self, until: Moment, follow: bool, following: &mut Option<Following>) -> Event {
        let time = self.clock.sleep(until.saturating_sub(self.clock.monotonic()));
        if !follow {
            *following = None;
            time.await;
            return Event::Tick;
        }
        let stream = following.get_or_insert_with(|| watch_of(&self.api, self.election.version()));
        let change = async {
            loop {
                match stream.next().await {
                    Some(Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease))) => {
                        return Event::Seen(Some(lease));
                    }
                    Some(Ok(WatchEvent::Deleted(_))) => return Event::Seen(None),
                    Some(Ok(WatchEvent::Bookmark(_))) => {}
                    Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => return Event::WatchEnded,
                }
            }
        };
        let event = match select(std::pin::pin!(change), time).await {
            Either::Left((event, _)) => event,
            Either::Right(_) => Event::Tick,
        };
        if matches!(event, Event::WatchEnded) {
            *following = None;
        }
        event
    }

    async fn release(self) {
        let Some(lease) = self.election.released(self.now()) else {
            return;
        };
        self.telemetry.leads(false);
        match self.put(&lease).await {
            Ok(_) => tracing::info!("the lease was released"),
            Err(failure) => tracing::warn!(
                failure = failure.message,
                "the lease could not be released: the next controller leads when it has run out"
            ),
        }
    }

    /// A leader says each failure, its time is short; who waits says the first of a row.
    fn note_trouble(&mut self, event: &Event) {
        let leads = *self.told.borrow() == Standing::Leads;
        match event {
            Event::Failed(failure) => {
                if leads || !self.in_trouble {
                    tracing::warn!(
                        failure,
                        leads,
                        "the lease could not be read or written; trying again"
                    );
                }
                self.in_trouble = true;
                self.readiness.needs(NEED);
            }
            Event::Seen(_) | Event::Written { .. } => {
                self.in_trouble = false;
                self.readiness.has(NEED);
            }
            Event::Refused | Event::WatchEnded | Event::Tick => {}
        }
    }

    /// One line for each change of who leads.
    fn tell(&self) {
        let standing = self.election.standing();
        let before = self.told.borrow().clone();
        if standing == Standing::Unknown || standing == before {
            return;
        }
        let note = match &standing {
            Standing::Unknown => return,
            Standing::Waits { holder } => {
                tracing::info!(holder, "waits for the lease");
                format!("waits for the lease held by {holder}")
            }
            Standing::Leads => {
                tracing::info!("holds the lease: this controller leads");
                "holds the lease".to_owned()
            }
            Standing::Lost { reason } => {
                self.gate.shut();
                tracing::error!(reason, "the lease was lost: this controller ends");
                "lost the lease".to_owned()
            }
        };
        self.readiness.note(TOPIC, note);
        self.telemetry.leads(standing == Standing::Leads);
        if before != Standing::Unknown || standing == Standing::Leads {
            self.telemetry.leader_changed();
        }
        self.told.send_replace(standing);
    }
}

struct Failure {
    code: u16,
    message: String,
    /// The Lease is another one than the one that was to be replaced.
    stale: bool,
}

fn watch_of(api: &Api<Lease>, version: &str) -> Following {
    let (api, version) = (api.clone(), version.to_owned());
    let parameters = WatchParams::default().fields(&format!("metadata.name={LEASE_NAME}"));
    async move { api.watch(&parameters, &version).await }
        .try_flatten_stream()
        .boxed()
}

#[cfg(test)]
mod tests {
    use kubernaut_actors::TokioClock;
    use serde_json::json;

    use super::*;
    use embedded_cluster::{EmbeddedCluster, EmbeddedOptions, User};

    fn times(duration: u64, renew_deadline: u64, retry_period: u64) -> Result<LeaseTimes, String> {
        LeaseTimes::new(
            Duration::from_millis(duration),
            Duration::from_millis(renew_deadline),
            Duration::from_millis(retry_period),
        )
    }

    #[test]
    fn times_must_fit_each_other() {
        assert_eq!(times(15_000, 10_000, 2_000), Ok(LeaseTimes::default()));
        assert!(times(3_000, 2_000, 500).is_ok());
        for (duration, deadline, retry, flag) in [
            (0, 0, 0, "--lease-duration=0ns must"),
            (1_500, 1_000, 100, "--lease-duration=1.5s must"),
            (15_000, 15_000, 2_000, "--lease-renew-deadline=15s must"),
            (15_000, 10_000, 0, "--lease-retry-period=0ns must"),
            (15_000, 10_000, 5_001, "--lease-retry-period=5.001s must"),
        ] {
            let error = times(duration, deadline, retry).unwrap_err();
            assert!(error.starts_with(flag), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_closes_by_time_alone_counted_from_when_the_renewal_was_sent() {
        let clock = TokioClock::starting_at(Timestamp::UNIX_EPOCH);
        let gate = Gate::new(Arc::new(clock), LeaseTimes::default());
        assert!(!gate.may_write());
        let sent = Now {
            monotonic: clock.monotonic(),
            wall: clock.now(),
        };
        tokio::time::advance(Duration::from_secs(3)).await;
        gate.open(sent);
        assert!(gate.may_write());
        tokio::time::advance(Duration::from_millis(6_999)).await;
        assert!(gate.may_write());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!gate.may_write());
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_is_closed_when_the_wall_clock_says_that_the_machine_slept() {
        let clock = TokioClock::starting_at(Timestamp::UNIX_EPOCH);
        let gate = Gate::new(Arc::new(clock), LeaseTimes::default());
        let slept = SignedDuration::from_secs(10);
        gate.open(Now {
            monotonic: clock.monotonic(),
            wall: clock.now().checked_sub(slept).unwrap(),
        });
        assert!(!gate.may_write());
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_was_shut_stays_so() {
        let clock = TokioClock::starting_at(Timestamp::UNIX_EPOCH);
        let gate = Gate::new(Arc::new(clock), LeaseTimes::default());
        let now = Now {
            monotonic: clock.monotonic(),
            wall: clock.now(),
        };
        gate.open(now);
        assert!(gate.may_write());
        gate.shut();
        gate.open(now);
        assert!(!gate.may_write());
    }

    #[test]
    fn whatever_the_actors_do_the_lease_is_held() {
        let builder = tokio::runtime::Builder::new_multi_thread;
        let vital = builder().worker_threads(1).enable_all().build().unwrap();
        let actors = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let candidate = {
            let _there = vital.enter();
            let cluster = EmbeddedCluster::new(EmbeddedOptions::default());
            let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "home"}});
            cluster.load(vec![home]).unwrap();
            Candidate {
                client: cluster.client(User::admin()),
                namespace: "home".to_owned(),
                identity: "first".to_owned(),
                times: times(2_000, 1_000, 250).unwrap(),
                runtime: Some(vital.handle().clone()),
            }
        };
        actors.block_on(async {
            let clock: Arc<dyn Clock> = Arc::new(TokioClock::system());
            let mut candidacy = candidate.stand(&clock, Arc::default(), Readiness::default());
            candidacy.elected().await.unwrap();
            let gate = candidacy.gate();
            // The only thread of the actors stands still, twice as long as a lease is kept without renewal.
            std::thread::sleep(Duration::from_secs(2));
            assert!(gate.may_write());
            assert_eq!(*candidacy.standing.borrow(), Standing::Leads);
            candidacy.resign().await;
        });
    }
}
