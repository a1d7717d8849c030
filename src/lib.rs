//! kubernaut runs remediation workflows in Kubernetes. This crate is the composition root: it connects the actors to
//! a cluster, and decides nothing about phases.
//!
//! The way through: [`cli`] reads the arguments, [`run`] starts the watches ([`watch`]) and the supervisor, effects
//! write through [`kube_api`]; [`http`] and [`telemetry`] tell what goes on.

pub mod cli;
pub mod config;

pub mod http;
pub mod kube_api;
pub mod telemetry;
pub mod watch;

pub mod manifests;
pub mod memory;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kubernaut_actors::ports::{AlwaysOpen, Clock, ClusterApi, Observer, WriteGate};
use kubernaut_actors::{Changes, Context, FaultHook, Ports, Publisher, SupervisorHandle};

use crate::config::RunOptions;
use crate::http::Readiness;
use crate::kube_api::KubeApi;
use crate::telemetry::Telemetry;

/// How long the actors may take to end after the calls under way have ended.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether the watches have got their first lists.
const SYNC_INTERVAL: Duration = Duration::from_millis(20);

/// What a controller runs in besides its cluster.
#[derive(Clone)]
pub struct World {
    /// All time.
    pub clock: Arc<dyn Clock>,
    /// Metrics.
    pub telemetry: Arc<Telemetry>,
    /// What /readyz says.
    pub readiness: Readiness,
    /// Asked before each write.
    pub gate: Arc<dyn WriteGate>,
    /// Tests make actors panic with it.
    pub fault: Option<FaultHook>,
}

impl World {
    /// For a controller that is the only one.
    pub fn new(clock: Arc<dyn Clock>, telemetry: Arc<Telemetry>, readiness: Readiness) -> Self {
        Self {
            clock,
            telemetry,
            readiness,
            gate: Arc::new(AlwaysOpen),
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
    /// The supervisor ended.
    #[error("the supervisor ended without being asked to: this is a defect of kubernaut")]
    SupervisorEnded,
    /// A watch ended.
    #[error("a watch ended for good: this is a defect of kubernaut")]
    WatchEnded,
}

/// Runs the controller until `shutdown` resolves: first lists, supervisor, drain.
///
/// `client` must not retry by itself ([`KubeApi`]).
pub async fn run(
    options: &RunOptions,
    client: Client,
    world: World,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    const ACTORS: &str = "actors";
    let World {
        clock,
        telemetry,
        readiness,
        gate,
        fault,
    } = world;
    let settings = options.settings();
    let policy = "no policy configured: everything is allowed";
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        executor_namespace = settings.executor_namespace,
        "{policy}"
    );
    readiness.note(policy);
    readiness.needs(ACTORS);
    let mut shutdown = std::pin::pin!(shutdown);

    let api: Arc<dyn ClusterApi> = Arc::new(KubeApi::new(
        client.clone(),
        settings.executor_namespace.clone(),
        Arc::clone(&telemetry),
        clock.now(),
    ));
    let publisher = Publisher::start(
        Arc::clone(&api),
        Arc::clone(&gate),
        Arc::clone(&clock),
        Arc::clone(&telemetry) as Arc<dyn Observer>,
    );
    let changes = Changes::default();
    let (store, mut watches) = watch::start(
        &client,
        &settings.executor_namespace,
        publisher.clone(),
        changes.clone(),
        readiness.clone(),
        Arc::clone(&telemetry),
    );
    tokio::select! {
        () = synced(&store) => {}
        () = &mut shutdown => return Ok(()),
        _ = watches.join_next() => return Err(RunError::WatchEnded),
    }

    let ports = Ports {
        api,
        store,
        clock,
        observer: telemetry,
        gate,
        publisher,
    };
    let context = Context::new(settings, options.limits(), ports, fault);
    let (supervisor, mut ended) = SupervisorHandle::start(context, changes).await?;
    readiness.has(ACTORS);
    tokio::select! {
        () = &mut shutdown => {}
        _ = &mut ended => return Err(RunError::SupervisorEnded),
        _ = watches.join_next() => return Err(RunError::WatchEnded),
    }

    readiness.needs(ACTORS);
    supervisor.drain();
    if tokio::time::timeout(END_PATIENCE, ended).await.is_err() {
        tracing::warn!("the actors did not end in time");
    }
    tracing::info!("stopped; running Jobs go on");
    Ok(())
}

/// Returns when every watch has got its first list.
async fn synced(store: &watch::Store) {
    while !store.is_complete() {
        tokio::time::sleep(SYNC_INTERVAL).await;
    }
}
