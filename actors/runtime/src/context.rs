//! What all actors share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kubernaut_machines::Settings;
use kubernaut_machines::approval::Seen;

use crate::desk::Desk;
use crate::effects::Effects;
use crate::locks::LockTable;
use crate::ports::{Clock, HomeApi, Observer, PolicyJudge, StoreReader, TargetApi, WriteGate};
use crate::publisher::Publisher;
use crate::slots::SlotTable;

/// Called with the name of an actor, `workflow shop/web` or `step shop/web-step-1`, before it handles a message:
/// tests make it panic.
pub type FaultHook = Arc<dyn Fn(&str) + Send + Sync>;

/// The world, as adapters.
#[derive(Clone)]
pub struct Ports {
    /// The API server of workflows and executions.
    pub home: Arc<dyn HomeApi>,
    /// The API server of what is repaired.
    pub target: Arc<dyn TargetApi>,
    /// What the watches have seen; complete before the supervisor starts.
    pub store: Arc<dyn StoreReader>,
    /// All time.
    pub clock: Arc<dyn Clock>,
    /// Logs and metrics.
    pub observer: Arc<dyn Observer>,
    /// Asked before each write.
    pub gate: Arc<dyn WriteGate>,
    /// Where events go.
    pub publisher: Publisher,
    /// The policies, where there are any; asked where the settings say so.
    pub policy: Option<Arc<dyn PolicyJudge>>,
}

/// How much at the same time, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live Jobs.
    pub max_running_jobs: usize,
    /// Calls under way. 640 calls a second (80 steps a second, the most that kube-controller-manager makes Jobs for on two cores,
    /// with 4 writes and 4 reads each) at 10 ms a call are 7 at a time; 32 leaves room for a server that is four times
    /// slower, and more would only lengthen its queue: HTTP/1.1 takes one connection for each.
    pub api_concurrency: usize,
    /// How long an execution that a person made stays after its end; zero keeps it.
    pub execution_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_running_jobs: 50,
            api_concurrency: 32,
            execution_ttl: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Writes of progress in a second, of all workflows together: phases and ends are written at once, and what is written is the
/// dearest that the API server is asked for.
const PROGRESS_WRITES: u32 = 5;

/// However many workflows there are, the progress of each is as new as this.
const PROGRESS_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// A workflow that has an actor and does not wait for people, as long as this lives.
pub(crate) struct ActiveWorkflow(Arc<Context>);

impl ActiveWorkflow {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        context.workflows.fetch_add(1, Ordering::Relaxed);
        Self(context)
    }
}

impl Drop for ActiveWorkflow {
    fn drop(&mut self) {
        self.0.workflows.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all actors share.
pub struct Context {
    pub(crate) settings: Arc<Settings>,
    pub(crate) store: Arc<dyn StoreReader>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) effects: Arc<Effects>,
    pub(crate) publisher: Publisher,
    pub(crate) locks: LockTable,
    pub(crate) slots: SlotTable,
    pub(crate) desk: Desk,
    pub(crate) execution_ttl: Duration,
    /// Workflows that have an actor and do not wait for people.
    workflows: AtomicU32,
    fault: Option<FaultHook>,
}

impl Context {
    /// Of these settings, limits and adapters; `fault` is for tests.
    pub fn new(settings: Settings, limits: Limits, ports: Ports, fault: Option<FaultHook>) -> Arc<Self> {
        let Ports {
            home,
            target,
            store,
            clock,
            observer,
            gate,
            publisher,
            policy,
        } = ports;
        let effects = Effects::new(
            home,
            target,
            policy,
            gate,
            Arc::clone(&clock),
            Arc::clone(&observer),
            settings.executor_namespace.clone(),
            limits.api_concurrency,
        );
        Arc::new(Self {
            settings: Arc::new(settings),
            store,
            clock,
            observer,
            effects: Arc::new(effects),
            publisher,
            locks: LockTable::default(),
            slots: SlotTable::new(limits.max_running_jobs),
            desk: Desk::default(),
            execution_ttl: limits.execution_ttl,
            workflows: AtomicU32::new(0),
            fault,
        })
    }

    /// Whether an end in order gave up something that was under way: a write of ours may yet arrive.
    pub fn was_cut_off(&self) -> bool {
        self.effects.was_cut_off()
    }

    /// What an approval of this object depends on, where it has changed since.
    pub(crate) fn approvals_seen(
        &self,
        namespace: &str,
        uid: &str,
        known: &mut Option<Arc<Seen>>,
    ) -> Option<Arc<Seen>> {
        let seen = Seen {
            requirement: self.store.requires_approval(namespace),
            guard: self.store.approvals_guard(),
            approvals: self.store.approvals_of(uid),
        };
        if known.as_deref() == Some(&seen) {
            return None;
        }
        *known = Some(Arc::new(seen));
        known.clone()
    }

    /// Where tests make actors panic.
    pub(crate) fn maybe_panic_at(&self, actor: impl FnOnce() -> String) {
        if let Some(fault) = &self.fault {
            fault(&actor());
        }
    }

    /// How often each workflow may write its progress, so that all together stay within a budget of writes.
    pub(crate) fn progress_interval(&self) -> Duration {
        let workflows = self.workflows.load(Ordering::Relaxed);
        (Duration::from_secs(1) * workflows / PROGRESS_WRITES).min(PROGRESS_INTERVAL_MAX)
    }

    /// Gives back lock and place of an execution: the supervisor decides when.
    pub(crate) fn release_all(&self, uid: &str) {
        self.locks.release(uid);
        self.slots.release(uid);
        self.gauges();
    }

    /// Takes an execution whose actor has died out of the queues; what it holds it keeps.
    pub(crate) fn withdraw(&self, uid: &str) {
        self.locks.withdraw(uid);
        self.slots.withdraw(uid);
        self.gauges();
    }

    pub(crate) fn gauges(&self) {
        let (held, waiting) = self.locks.counts();
        self.observer.locks(held, waiting);
        let (used, waiting) = self.slots.counts();
        self.observer.slots(used, waiting);
    }
}
