//! What the cluster looks like: a watch for each kind, one store, and a poke for each change. No decisions, no writes but a
//! warning on an object that can't be read.

mod approvals;
mod kept;
mod store;
mod table;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::runtime::watcher as watch;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use kubernaut_actors::ports::{Clock, Key, StoreReader, Subject, uid_of};
use kubernaut_actors::{Change, Changes, Publisher};
use kubernaut_crds::{Approval, KubernetesExecution, WorkflowExecution, names};
use kubernaut_machines::announcement::EventRecord;
use tokio::task::JoinSet;

use crate::guard::Guard;
use crate::http::Readiness;
use crate::kube_api::chain;
use crate::manifests::Expected;
use crate::telemetry::Telemetry;
use approvals::{AdmissionBinding, AdmissionPolicy};
use kept::Kept;

/// Objects in one answer of a list: one may have a megabyte and a half, and the whole answer is held.
const PAGE: u32 = 50;
const SHORTEST_PAUSE: Duration = Duration::from_millis(800);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
pub use store::Store;

/// The watches: workflows and executions everywhere, Jobs and pods of ours in the executor namespace. Dropped, they end.
pub struct Watches {
    client: Client,
    executor_namespace: String,
    scene: Scene,
    tasks: JoinSet<()>,
}

/// Where the watches tell what they see.
pub struct Sinks {
    /// Events on objects that can't be read.
    pub publisher: Publisher,
    /// Pokes.
    pub changes: Changes,
    /// What is missing, and what a person should know.
    pub readiness: Readiness,
    /// Metrics.
    pub telemetry: Arc<Telemetry>,
    /// When a change was seen.
    pub clock: Arc<dyn Clock>,
}

/// What all watches share.
#[derive(Clone)]
struct Scene {
    store: Arc<Store>,
    changes: Changes,
    readiness: Readiness,
    telemetry: Arc<Telemetry>,
    publisher: Publisher,
    clock: Arc<dyn Clock>,
}

impl Watches {
    /// Starts them. `readiness` says which of them have not got their first list yet, and whether Approvals count: while the
    /// policy for them is as `expected`.
    pub fn start(client: &Client, executor_namespace: &str, expected: Expected, sinks: Sinks) -> Self {
        let Sinks {
            publisher,
            changes,
            readiness,
            telemetry,
            clock,
        } = sinks;
        let mut watches = Self {
            client: client.clone(),
            executor_namespace: executor_namespace.to_owned(),
            scene: Scene {
                store: Arc::new(Store::expecting(expected)),
                changes,
                readiness,
                telemetry,
                publisher,
                clock,
            },
            tasks: JoinSet::new(),
        };
        watches.begin();
        watches
    }

    /// What they have seen.
    pub fn store(&self) -> &Arc<Store> {
        &self.scene.store
    }

    /// Begins again with new lists. The store keeps what it has, but is not complete before each kind has been listed
    /// again: then it is at least as new as this call.
    pub async fn begin_again(&mut self) {
        // The last event of the old ones comes before the first of the new ones.
        self.tasks.shutdown().await;
        self.scene.store.begin_again();
        self.begin();
    }

    /// Returns when one of them has ended, which none does by itself.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }

    fn begin(&mut self) {
        let all = || watcher::Config::default().page_size(PAGE);
        let ours = all().labels(names::LABEL_EXECUTION_UID);
        let Self {
            client,
            executor_namespace: namespace,
            scene,
            tasks,
            ..
        } = self;
        tasks.spawn(follow::<WorkflowExecution>(
            Api::all(client.clone()),
            all(),
            scene.clone(),
        ));
        tasks.spawn(follow::<KubernetesExecution>(
            Api::all(client.clone()),
            all(),
            scene.clone(),
        ));
        let jobs = in_namespace(client, namespace);
        tasks.spawn(follow::<Job>(jobs, ours.clone(), scene.clone()));
        let pods = in_namespace(client, namespace);
        tasks.spawn(follow::<Pod>(pods, ours, scene.clone()));
        tasks.spawn(follow::<Approval>(Api::all(client.clone()), all(), scene.clone()));
        tasks.spawn(follow::<Namespace>(
            Api::all(client.clone()),
            all(),
            scene.clone(),
        ));
        let guard = all().fields(&format!("metadata.name={}", names::APPROVALS_POLICY));
        let policies = Api::all(client.clone());
        tasks.spawn(follow::<AdmissionPolicy>(policies, guard.clone(), scene.clone()));
        let bindings = Api::all(client.clone());
        tasks.spawn(follow::<AdmissionBinding>(bindings, guard, scene.clone()));
    }
}

fn in_namespace<K>(client: &Client, namespace: &str) -> Api<Guard<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), namespace)
}

/// How long a watch that was lost is left alone. kube's own has jitter: eight watches are no herd, and the same run shall
/// send the same requests in the same order.
#[derive(Default)]
struct Pause {
    failures: u32,
}

impl Pause {
    fn next(&mut self) -> Duration {
        let pause = SHORTEST_PAUSE.saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The topic of what /readyz says of Approvals.
const APPROVALS: &str = "approvals";

impl Scene {
    /// Says whether anybody's Approval counts, where /readyz and the log are read.
    fn tell_of_the_guard(&self) {
        let words = match self.store.approvals_guard() {
            Ok(since) => format!("Approvals count that were made after {since}"),
            Err(why) => format!("nobody's Approval counts: {why}"),
        };
        if self.readiness.is_noted(APPROVALS, &words) {
            return;
        }
        tracing::info!("{words}");
        self.readiness.note(APPROVALS, words);
    }
}

/// Follows one kind for ever: lists, watches, and begins again when the watch is lost.
async fn follow<K>(api: Api<Guard<K>>, config: watcher::Config, scene: Scene)
where
    K: Kept + Debug,
{
    scene.readiness.needs(K::WATCH);
    let mut follower = Follower::<K> {
        scene,
        listed: BTreeSet::new(),
        kind: PhantomData,
        told: HashMap::new(),
    };
    let mut stream = std::pin::pin!(watch(api, config));
    let mut pause = Pause::default();
    loop {
        match stream.try_next().await {
            Ok(Some(event)) => {
                // That a list is about to be asked for is no answer yet.
                if !matches!(event, watcher::Event::Init) {
                    pause.reset();
                }
                follower.take(event);
            }
            Ok(None) => return,
            Err(error) => {
                complain(K::WATCH, &error);
                tokio::time::sleep(pause.next()).await;
            }
        }
    }
}

fn complain(watch: &str, error: &watcher::Error) {
    let missing =
        matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
    if missing {
        tracing::warn!(
            watch,
            "the API server does not know this kind: install the CRDs (deploy/base); trying again"
        );
    } else {
        tracing::warn!(watch, error = chain(error), "a watch was lost and begins again");
    }
}

struct Follower<K> {
    scene: Scene,
    /// Uids of the list that is under way; what the store has besides is gone when it is complete.
    listed: BTreeSet<String>,
    kind: PhantomData<K>,
    /// resourceVersions of unreadable objects that were told of, by uid.
    told: HashMap<String, String>,
}

impl<K: Kept> Follower<K> {
    fn take(&mut self, event: Event<Guard<K>>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                let Some(uid) = object.meta().uid.clone() else {
                    return;
                };
                // One that can't be read any more is still there: what was known of it stays.
                self.listed.insert(uid);
                self.put(object);
            }
            Event::InitDone => {
                let uids = std::mem::take(&mut self.listed);
                self.told.retain(|uid, _| uids.contains(uid));
                let changes = self.scene.store.listed::<K>(&uids);
                if changes.contains(&Change::ApprovalsGuard) {
                    let now = self.scene.clock.now();
                    self.scene.store.note_admission::<K>(None, now);
                }
                self.note(changes);
                self.scene.readiness.has(K::WATCH);
                if uids.is_empty() && K::change("", None) == Some(Change::ApprovalsGuard) {
                    self.scene.tell_of_the_guard();
                }
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => {
                let uid = uid_of(object.meta());
                self.told.remove(uid);
                let changes = self.scene.store.remove::<K>(uid);
                let now = self.scene.clock.now();
                self.scene.store.note_admission::<K>(None, now);
                self.note(changes);
            }
        }
    }

    fn put(&mut self, object: Guard<K>) {
        if let Some((object, size)) = self.readable(object) {
            let now = self.scene.clock.now();
            self.scene.store.note_admission(Some(&object), now);
            let changes = self.scene.store.put(object, size);
            self.note(changes);
        }
    }

    fn note(&self, changes: Vec<Change>) {
        let (objects, bytes) = self.scene.store.amount::<K>();
        self.scene.telemetry.stored(K::KIND, objects, bytes);
        if changes.contains(&Change::ApprovalsGuard) {
            self.scene.tell_of_the_guard();
        }
        for change in changes {
            self.scene.changes.note(change);
        }
    }

    /// The object and its length, or a warning on it, once for each of its versions.
    fn readable(&mut self, object: Guard<K>) -> Option<(K, usize)> {
        let size = object.size;
        let invalid = match object.object {
            Ok(object) => {
                self.told.remove(uid_of(object.meta()));
                return Some((object, size));
            }
            Err(invalid) => invalid,
        };
        let uid = uid_of(&invalid.metadata).to_owned();
        let version = invalid.metadata.resource_version.clone().unwrap_or_default();
        if self.told.insert(uid.clone(), version.clone()) == Some(version) {
            return None;
        }
        let key = Key::of(&invalid.metadata);
        tracing::warn!(kind = K::KIND, object = %key, error = invalid.error, "an object can't be read and is passed over");
        self.scene.telemetry.undecodable(K::KIND);
        let subject = Subject {
            kind: K::KIND,
            api_version: K::API_VERSION,
            key,
            correlation_id: uid.clone(),
            uid,
            workflow: None,
            step: None,
        };
        let event = EventRecord {
            reason: "Unreadable",
            warning: true,
            action: "Read",
            note: format!("this object can't be read and is passed over: {}", invalid.error),
            related: None,
        };
        self.scene.publisher.publish(&Arc::new(subject), event);
        None
    }
}
