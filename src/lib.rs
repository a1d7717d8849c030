//! kubernaut runs remediation workflows in Kubernetes. This crate is the composition root: it connects the actors to
//! a cluster, and decides nothing about phases.
//!
//! The way through: [`cli`] reads the arguments, [`run`] starts the watches ([`watch`]), waits for the [`lease`] and starts
//! the supervisor, effects write through [`kube_api`]; [`http`] and [`telemetry`] tell what goes on.

pub mod cli;
pub mod config;

pub mod http;
pub mod kube_api;
pub mod lease;
pub mod telemetry;
pub mod watch;

#[cfg(feature = "rehearsal")]
mod authoring;
mod guard;
#[cfg(feature = "rehearsal")]
mod kubeconfig;
#[cfg(feature = "rehearsal")]
mod live;
pub mod manifests;
mod metadata;
pub mod policy;
#[cfg(feature = "rehearsal")]
pub mod rehearsal;
#[cfg(feature = "rehearsal")]
mod roles;
mod slim;
#[cfg(feature = "rehearsal")]
mod terminal;
#[cfg(feature = "rehearsal")]
mod yaml;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kubernaut_actors::ports::{AlwaysOpen, Clock, HomeApi, Observer, PolicyJudge, WriteGate};
use kubernaut_actors::{Changes, Context, FaultHook, Ports, Publisher, SupervisorHandle};
use kubernaut_machines::Settings;
use kubernaut_machines::defect::{Defect, planted};
use tokio::task::JoinSet;

use crate::config::RunOptions;
use crate::http::Readiness;
use crate::kube_api::KubeApi;
use crate::lease::{Candidacy, Candidate, LeaseLost};
use crate::policy::{Policies, PolicyError};
use crate::telemetry::Telemetry;
use crate::watch::{Sinks, Watches};

/// Of the program, of its tests and of what is measured: all that links this crate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the actors may take to end, with the calls under way, which the supervisor gives 10 s.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether the watches have got their first lists.
const SYNC_INTERVAL: Duration = Duration::from_millis(20);

/// What /readyz waits for while this controller leads.
const ACTORS: &str = "actors";

/// What a controller runs in besides its cluster.
#[derive(Clone)]
pub struct Environment {
    /// All time.
    pub clock: Arc<dyn Clock>,
    /// Metrics.
    pub telemetry: Arc<Telemetry>,
    /// What /readyz says.
    pub readiness: Readiness,
    /// For the lease that says which controller leads; without it this one always does.
    pub candidate: Option<Candidate>,
    /// Tests make actors panic with it.
    pub fault: Option<FaultHook>,
}

impl Environment {
    /// For a controller that is the only one.
    pub fn new(clock: Arc<dyn Clock>, telemetry: Arc<Telemetry>, readiness: Readiness) -> Self {
        Self {
            clock,
            telemetry,
            readiness,
            candidate: None,
            fault: None,
        }
    }
}

/// Why a controller ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The supervisor could not be started.
    #[error("the supervisor could not be started: {0}")]
    Start(#[from] kubernaut_actors::StartError),
    /// The policies can't be used, and nothing may run without them.
    #[error("--policy-dir={directory}: {problem}; nothing runs without policies that can be asked")]
    Policy {
        /// The directory.
        directory: String,
        /// What is wrong with it.
        problem: PolicyError,
    },
    /// The supervisor ended.
    #[error("the supervisor ended without being asked to: this is a defect of kubernaut")]
    SupervisorEnded,
    /// A watch ended.
    #[error("a watch ended for good: this is a defect of kubernaut")]
    WatchEnded,
    /// Another controller may lead by now.
    #[error(transparent)]
    LeaseLost(#[from] LeaseLost),
}

/// Runs the controller until `shutdown` resolves: first lists, lease, lists again, supervisor, drain, release.
///
/// `client` must not retry by itself ([`KubeApi`]).
pub async fn run(
    options: &RunOptions,
    client: Client,
    environment: Environment,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let Environment {
        clock,
        telemetry,
        readiness,
        candidate,
        fault,
    } = environment;
    let settings = options.settings();
    tell_of_rights(&settings, &readiness);
    readiness.needs(ACTORS);
    // Dropped with this function, it looks at the files no more.
    let mut looks = JoinSet::new();
    let policy = policies(options, &clock, &telemetry, &readiness, &mut looks)?;
    let mut shutdown = std::pin::pin!(shutdown);

    let mut candidacy =
        candidate.map(|candidate| candidate.stand(&clock, Arc::clone(&telemetry), readiness.clone()));
    let gate: Arc<dyn WriteGate> = match &candidacy {
        Some(candidacy) => candidacy.gate(),
        None => Arc::new(AlwaysOpen),
    };
    let api = Arc::new(KubeApi::new(
        client.clone(),
        settings.executor_namespace.clone(),
        Arc::clone(&telemetry),
        clock.now(),
    ));
    let publisher = Publisher::start(
        Arc::clone(&api) as Arc<dyn HomeApi>,
        Arc::clone(&gate),
        Arc::clone(&clock),
        Arc::clone(&telemetry) as Arc<dyn Observer>,
    );
    let changes = Changes::default();
    let mut watches = Watches::start(
        &client,
        &settings.executor_namespace,
        manifests::approvals_policy(&options.controller_namespace()),
        Sinks {
            publisher: publisher.clone(),
            changes: changes.clone(),
            readiness: readiness.clone(),
            telemetry: Arc::clone(&telemetry),
            clock: Arc::clone(&clock),
        },
    );
    let store = Arc::clone(watches.store());
    if !leads(
        &mut watches,
        &mut candidacy,
        &readiness,
        &telemetry,
        shutdown.as_mut(),
    )
    .await?
    {
        resign(candidacy).await;
        return Ok(());
    }
    store.follow();
    let ports = Ports {
        home: Arc::clone(&api) as Arc<dyn HomeApi>,
        target: api,
        store,
        clock,
        observer: telemetry,
        gate,
        publisher,
        policy,
    };
    let context = Context::new(settings, options.limits(), ports, fault);
    let (supervisor, mut ended) = SupervisorHandle::start(Arc::clone(&context), changes).await?;
    readiness.has(ACTORS);
    tokio::select! {
        () = &mut shutdown => {}
        _ = &mut ended => return Err(RunError::SupervisorEnded),
        () = watches.ended() => return Err(RunError::WatchEnded),
        lost = lost(&mut candidacy) => {
            supervisor.kill();
            // However it ends, and whether it does: the process goes, and the gate is shut.
            let _ = tokio::time::timeout(END_PATIENCE, ended).await;
            return Err(lost.into());
        }
    }

    readiness.needs(ACTORS);
    supervisor.drain();
    let drained = tokio::time::timeout(END_PATIENCE, ended).await.is_ok();
    if !drained {
        tracing::warn!("the actors did not end in time");
    }
    if drained && !context.was_cut_off() {
        resign(candidacy).await;
    } else if candidacy.is_some() {
        tracing::warn!("the lease is left to run out: a write may be under way");
    }
    tracing::info!("stopped; running Jobs go on");
    Ok(())
}

/// Says whose rights a step needs.
fn tell_of_rights(settings: &Settings, readiness: &Readiness) {
    let rights = if settings.authorization {
        "steps are authorized by RBAC, as the workflow's ServiceAccount"
    } else {
        "steps are not authorized (--authorization=none): whoever may create workflows may do what the executor's accounts may"
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        executor_namespace = settings.executor_namespace,
        "{rights}"
    );
    readiness.note("rights", rights.to_owned());
}

/// The policies that decide, where a directory of them was named; `looks` takes up their changes.
fn policies(
    options: &RunOptions,
    clock: &Arc<dyn Clock>,
    telemetry: &Arc<Telemetry>,
    readiness: &Readiness,
    looks: &mut JoinSet<()>,
) -> Result<Option<Arc<dyn PolicyJudge>>, RunError> {
    let Some(directory) = options.policy_directory() else {
        let words = "no policies (--policy-dir): everything is allowed that RBAC allows";
        tracing::info!("{words}");
        readiness.note(policy::TOPIC, words.to_owned());
        return Ok(None);
    };
    let loaded = Policies::load(directory, Arc::clone(telemetry), readiness.clone());
    let policies = Arc::new(loaded.map_err(|problem| RunError::Policy {
        directory: directory.display().to_string(),
        problem,
    })?);
    looks.spawn(Arc::clone(&policies).follow(Arc::clone(clock)));
    Ok(Some(policies))
}

/// Returns when the watches know the cluster and this controller leads; false when it is to end before.
async fn leads(
    watches: &mut Watches,
    candidacy: &mut Option<Candidacy>,
    readiness: &Readiness,
    telemetry: &Telemetry,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<bool, RunError> {
    let store = Arc::clone(watches.store());
    tokio::select! {
        () = synced(&store) => {}
        () = &mut shutdown => return Ok(false),
        () = watches.ended() => return Err(RunError::WatchEnded),
    }
    if candidacy.is_none() {
        telemetry.leads(true);
        return Ok(true);
    }
    readiness.has(ACTORS);
    tokio::select! {
        elected = elected(candidacy) => elected?,
        () = &mut shutdown => return Ok(false),
        () = watches.ended() => return Err(RunError::WatchEnded),
    }
    readiness.needs(ACTORS);
    // What was seen until now may be older than what the last leader did.
    watches.begin_again().await;
    tokio::select! {
        () = synced(&store) => Ok(true),
        () = &mut shutdown => Ok(false),
        () = watches.ended() => Err(RunError::WatchEnded),
        lost = lost(candidacy) => Err(lost.into()),
    }
}

/// Returns when every watch has got its first list.
async fn synced(store: &watch::Store) {
    while !store.is_complete() {
        tokio::time::sleep(SYNC_INTERVAL).await;
    }
}

/// Returns when this controller leads.
async fn elected(candidacy: &mut Option<Candidacy>) -> Result<(), LeaseLost> {
    match candidacy {
        Some(candidacy) => candidacy.elected().await,
        None => Ok(()),
    }
}

/// Returns when this controller leads no more.
async fn lost(candidacy: &mut Option<Candidacy>) -> LeaseLost {
    match candidacy {
        Some(candidacy) if !planted(Defect::IgnoreTheLease) => candidacy.lost().await,
        Some(_) | None => std::future::pending().await,
    }
}

async fn resign(candidacy: Option<Candidacy>) {
    if let Some(candidacy) = candidacy {
        candidacy.resign().await;
    }
}
