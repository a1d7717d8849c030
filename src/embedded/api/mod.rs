//! The API server: requests, the store, and what they are checked by.

pub(crate) mod admission;
pub(crate) mod autoscaling;
pub(crate) mod body;
pub(crate) mod cel_rules;
pub(crate) mod crd;
pub(crate) mod delete;
pub(crate) mod discovery;
pub(crate) mod duplicate_keys;
pub(crate) mod events_api;
pub(crate) mod explain;
pub(crate) mod http;
pub(crate) mod kinds;
pub(crate) mod label_query;
pub(crate) mod load;
pub(crate) mod managed_fields;
pub(crate) mod names;
pub(crate) mod network_rules;
pub(crate) mod options;
pub(crate) mod patch;
pub(crate) mod pod_defaults;
pub(crate) mod pod_rules;
pub(crate) mod quantities;
pub(crate) mod quota;
pub(crate) mod rbac;
pub(crate) mod request;
pub(crate) mod rules;
pub(crate) mod schema;
pub(crate) mod selector;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod structural_schema;
pub(crate) mod subresources;
pub(crate) mod system_metadata;
pub(crate) mod typed;
pub(crate) mod verbs;
pub(crate) mod watch;
pub(crate) mod write;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

pub use crate::api::duplicate_keys::fields_given_twice;
pub use crate::api::explain::Unserved;
pub use crate::api::explain::distance;
pub use crate::api::load::LoadError;
pub use crate::api::pod_defaults::PodHabits;
pub use crate::api::request::{RequestInfo, RequestRecord};
pub use crate::api::selector::labels_of_selector;
use crate::api::state::State;
pub use crate::api::status::FieldError;
use crate::api::store::Change;
pub use crate::controllers::kubelet::PodScript;

/// A function that decides what happens to a pod.
///
/// It is called while the cluster is locked and must not call the cluster.
pub type PodScriptFunction = Arc<dyn Fn(&Value) -> Option<PodScript> + Send + Sync>;

/// A function that decides which requests fail.
pub type FaultFunction = Arc<dyn Fn(&RequestInfo) -> Option<Fault> + Send + Sync>;

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Such as `system:serviceaccount:team:deployer`.
    pub name: String,
    /// Such as `system:authenticated`.
    pub groups: Vec<String>,
}

impl User {
    /// A user who may do everything.
    pub fn admin() -> Self {
        Self {
            name: "kubernetes-admin".to_owned(),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
        }
    }

    /// A ServiceAccount, with the groups that every ServiceAccount has.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }
}

/// Whether roles and bindings are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rbac {
    /// Everyone may do everything.
    AllowAll,
    /// The stored roles and bindings decide; `system:masters` may do everything.
    Evaluate,
}

/// A failure to be served instead of an answer.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Whether the request is carried out all the same.
    pub commit: bool,
    /// How long the answer takes.
    pub delay: Duration,
    /// What the client sees.
    pub answer: FaultAnswer,
}

/// What the client sees of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAnswer {
    /// A Status with this code, such as 429, 500, 503, 504 or 409.
    Status(u16),
    /// The connection breaks.
    Dropped,
    /// The ordinary answer, only late. Needs `commit`.
    Ordinary,
    /// The request itself arrives late, whether or not anybody waits for its answer any more.
    Underway,
    /// Of a watch: it answers at once, and each event comes this much later, in order.
    Lagging(Duration),
    /// The client's process dies: nothing of it reaches the cluster any more, and it hears nothing. Its session is cut.
    Died {
        /// Whether it still heard this answer.
        answered: bool,
    },
}

impl Fault {
    /// The request is refused with this code and does nothing.
    pub fn refused(code: u16) -> Self {
        Self {
            commit: false,
            delay: Duration::ZERO,
            answer: FaultAnswer::Status(code),
        }
    }

    /// The request does its work, but the client hears this code.
    pub fn after_commit(code: u16) -> Self {
        Self {
            commit: true,
            delay: Duration::ZERO,
            answer: FaultAnswer::Status(code),
        }
    }

    /// The connection breaks, before or after the work is done.
    pub fn dropped(commit: bool) -> Self {
        Self {
            commit,
            delay: Duration::ZERO,
            answer: FaultAnswer::Dropped,
        }
    }

    /// The work is done at once, the answer comes late.
    pub fn delayed(delay: Duration) -> Self {
        Self {
            commit: true,
            delay,
            answer: FaultAnswer::Ordinary,
        }
    }

    /// The request arrives late, even when who sent it has given it up.
    pub fn underway(delay: Duration) -> Self {
        Self {
            commit: false,
            delay,
            answer: FaultAnswer::Underway,
        }
    }
}

/// One client's connection to the cluster, to be cut off as the death of its process does, or stalled as a network does.
#[derive(Clone, Debug, Default)]
pub struct Session(Arc<SessionState>);

#[derive(Debug, Default)]
struct SessionState {
    name: Arc<str>,
    cut: AtomicBool,
    told: Notify,
    stalled: Mutex<Option<Instant>>,
}

impl Session {
    /// One that the record of writes shows by this name.
    pub fn named(name: &str) -> Self {
        Self(Arc::new(SessionState {
            name: Arc::from(name),
            ..SessionState::default()
        }))
    }

    /// What it was called; empty unless it was [`Self::named`].
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.0.name)
    }

    /// From now on no request of this client arrives and no answer and no event reaches it.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.0.told.notify_waiters();
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Acquire)
    }

    /// Returns when it is cut.
    pub async fn when_cut(&self) {
        loop {
            let told = self.0.told.notified();
            if self.is_cut() {
                return;
            }
            told.await;
        }
    }

    /// Until then no request of this client arrives, and no answer and no event reaches it. Requests that were sent
    /// meanwhile fail then; events that were held come then.
    pub fn stall(&self, until: Instant) {
        *self.0.stalled.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Until when it is stalled, if it is.
    fn stalled(&self) -> Option<Instant> {
        let until = *self.0.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| *until > Instant::now())
    }
}

/// One committed write.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The cluster's revision after it.
    pub revision: u64,
    /// When, since the cluster's first record.
    pub at: Duration,
    /// User name; empty for the cluster's own controllers.
    pub author: Arc<str>,
    /// Name of the [`Session`] that it came by; empty for the cluster's own controllers.
    pub session: Arc<str>,
    /// Whether the object is gone after it.
    pub deleted: bool,
    /// The object after it; a deleted one as it was.
    pub object: Arc<Value>,
}

/// How a cluster is made.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// The clock of the objects' timestamps.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Decides uids and generated names.
    pub seed: u64,
    /// Whether rights are checked.
    pub rbac: Rbac,
    /// How long an executor pod takes from its start to its end.
    pub pod_run_time: Duration,
    /// Whether there are kubelets and a scheduler. Without them pods stay as others write them, as on a control plane
    /// alone.
    pub kubelets: bool,
    /// How often watches with bookmarks get one.
    pub bookmark_interval: Duration,
    /// Whether it is remembered who wrote which field: only server-side apply asks for it.
    pub field_owners: bool,
    /// How many Events are kept; the oldest go first, as from a server that keeps them for an hour.
    pub events: usize,
    /// How many commits can be replayed.
    pub history: usize,
    /// How many requests are remembered; 0 turns the log off.
    pub request_log: usize,
}

impl fmt::Debug for EmbeddedOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedOptions")
            .field("seed", &self.seed)
            .field("rbac", &self.rbac)
            .field("pod_run_time", &self.pod_run_time)
            .finish_non_exhaustive()
    }
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        let start = Instant::now();
        let base = Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::UNIX_EPOCH);
        Self {
            now: Arc::new(move || {
                let elapsed = SignedDuration::try_from(start.elapsed()).unwrap_or(SignedDuration::ZERO);
                base.saturating_add(elapsed).unwrap_or(base)
            }),
            seed: 1,
            rbac: Rbac::AllowAll,
            pod_run_time: Duration::from_millis(20),
            kubelets: true,
            bookmark_interval: Duration::from_mins(1),
            field_owners: true,
            events: usize::MAX,
            history: 100_000,
            request_log: 100_000,
        }
    }
}

/// An embedded cluster. Clones are the same cluster; its timers stop when the last handle is gone.
#[derive(Clone)]
pub struct EmbeddedCluster(Arc<Shared>);

impl fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedCluster")
    }
}

struct Shared {
    state: Mutex<State>,
    /// Tells the timekeeper that there may be an earlier timer.
    timers: Arc<Notify>,
    timekeeper: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(task) = self.timekeeper.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl Shared {
    /// A panic in a test's function leaves the store whole: every write is one call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EmbeddedCluster {
    /// An empty cluster: the four namespaces and the roles that every cluster has.
    pub fn new(options: EmbeddedOptions) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::new(options)),
            timers: Arc::new(Notify::new()),
            timekeeper: Mutex::new(None),
        }))
    }

    /// A cluster of its own that begins with the objects of this one, which should be at rest: much faster than loading
    /// them, and definitions above all.
    #[must_use]
    pub fn copy(&self, options: EmbeddedOptions) -> Self {
        let state = self.0.lock().copy(options);
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            timers: Arc::new(Notify::new()),
            timekeeper: Mutex::new(None),
        }))
    }

    /// A client that acts as this user. Must be called inside a tokio runtime.
    pub fn client(&self, user: User) -> kube::Client {
        self.client_in(user, Session::default())
    }

    /// A client that acts as this user by a connection that can be cut.
    pub fn client_in(&self, user: User, session: Session) -> kube::Client {
        self.keep_time();
        kube::Client::new(http::ApiService::new(self.clone(), user, session), "default")
    }

    /// From now on every write is kept for [`Self::record`]. Must be called inside a tokio runtime.
    pub fn keep_record(&self) {
        self.0.lock().store.keep_record();
    }

    /// Every write since [`Self::keep_record`], in order.
    pub fn record(&self) -> Vec<Committed> {
        let state = self.0.lock();
        let record = state.store.record();
        let Some((first, _)) = record.first() else {
            return Vec::new();
        };
        record
            .iter()
            .map(|(at, commit)| Committed {
                revision: commit.revision,
                at: at.duration_since(*first),
                author: Arc::clone(&commit.author.user),
                session: Arc::clone(&commit.author.session),
                deleted: commit.change == Change::Deleted,
                object: Arc::clone(&commit.object),
            })
            .collect()
    }

    /// Stores objects as they are: definitions first, then namespaces, then the rest. Namespaces that are missing are
    /// made. Nothing is stored when anything is wrong.
    pub fn load(&self, objects: Vec<Value>) -> Result<(), Vec<LoadError>> {
        let result = self.0.lock().load(objects);
        self.0.timers.notify_one();
        result
    }

    /// What the server would find wrong with an object if it were created now, under strict field validation.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        self.0.lock().validate(object)
    }

    /// What OpenAPI says of a field of an object's kind, such as its `properties`; null where nothing is known.
    pub fn schema_of(&self, object: &Value, field: &str) -> Value {
        self.0.lock().schema_of(object, field)
    }

    /// Why no kind of this object is served; `None` when it is.
    pub fn unserved(&self, object: &Value) -> Option<Unserved> {
        self.0.lock().unserved(object)
    }

    /// Takes owners, by uid, for there although they are not shown: what they own is not collected.
    pub fn assume_owners(&self, uids: impl IntoIterator<Item = String>) {
        self.0.lock().outside.extend(uids);
    }

    /// An object of another server without the fields that this one does not know; `None` when it serves no such kind.
    pub fn known_part(&self, object: &Value) -> Option<Value> {
        self.0.lock().known_part(object)
    }

    /// Every object, ordered by apiVersion, kind, namespace and name.
    pub fn objects(&self) -> Vec<Value> {
        let mut objects: Vec<Value> = {
            let shared = self.shared_objects();
            shared.iter().map(|object| Value::clone(object)).collect()
        };
        objects.sort_by_cached_key(|object| {
            [
                &object["apiVersion"],
                &object["kind"],
                &object["metadata"]["namespace"],
                &object["metadata"]["name"],
            ]
            .map(|value| value.as_str().unwrap_or("").to_owned())
        });
        objects
    }

    /// Every object without a copy of it, ordered by resource, namespace and name.
    pub fn shared_objects(&self) -> Vec<Arc<Value>> {
        let state = self.0.lock();
        state.store.all().map(|(_, object)| Arc::clone(object)).collect()
    }

    /// Whether all objects of these kinds, each with its apiVersion, are so.
    pub fn all_of(&self, kinds: &[(&str, &str)], fits: impl Fn(&Value) -> bool) -> bool {
        let state = self.0.lock();
        kinds.iter().all(|(api_version, kind)| {
            let kind = state.kinds.by_kind(api_version, kind);
            kind.is_none_or(|kind| {
                state
                    .store
                    .list(&kind.storage, "")
                    .all(|(_, object)| fits(object))
            })
        })
    }

    /// That of the last write.
    pub fn revision(&self) -> u64 {
        self.0.lock().store.revision()
    }

    /// The answered requests, oldest first.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.0.lock().log.iter().cloned().collect()
    }

    /// Forgets the answered requests.
    pub fn clear_requests(&self) {
        self.0.lock().log.clear();
    }

    /// Decides from now on what happens to pods when they start.
    pub fn script_pods(&self, function: PodScriptFunction) {
        self.0.lock().scripts = Some(function);
    }

    /// Decides from now on which requests fail.
    pub fn fault(&self, function: FaultFunction) {
        self.0.lock().faults = Some(function);
    }

    /// Ends all watches, as a restart of the API server does.
    pub fn drop_watches(&self) {
        self.0.lock().store.end_all_watches();
    }

    /// Forgets the history: watches from earlier revisions get 410 from now on.
    pub fn compact(&self) {
        self.0.lock().store.compact();
    }

    /// Sets a pod's readiness, as a failing or healed probe does.
    pub fn set_pod_ready(&self, namespace: &str, name: &str, ready: bool) {
        let mut state = self.0.lock();
        state.set_pod_ready(namespace, name, ready);
        state.settle();
    }

    /// Starts the task that fires timers, once.
    fn keep_time(&self) {
        let mut task = self.0.timekeeper.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_some() {
            return;
        }
        let shared = Arc::downgrade(&self.0);
        let timers = Arc::clone(&self.0.timers);
        *task = Some(tokio::spawn(async move {
            loop {
                let Some(next) = shared.upgrade().map(|shared| {
                    let mut state = shared.lock();
                    state.run_due();
                    state.next_timer()
                }) else {
                    return;
                };
                match next {
                    Some(at) => {
                        tokio::select! {
                            () = tokio::time::sleep_until(at) => {}
                            () = timers.notified() => {}
                        }
                    }
                    None => timers.notified().await,
                }
            }
        }));
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn unbase64(text: &str) -> Option<String> {
    use ::base64::Engine as _;
    String::from_utf8(::base64::engine::general_purpose::STANDARD.decode(text).ok()?).ok()
}
