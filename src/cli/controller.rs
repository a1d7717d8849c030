//! `kubernaut controller`: runs in a cluster.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clap::CommandFactory;
use clap::error::ErrorKind;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use kubernaut_actors::TokioClock;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::Cli;
use crate::config::{self, ControllerOptions};
use crate::http::{self, Readiness};
use crate::lease::Candidate;
use crate::telemetry::{Telemetry, start_logging};
use crate::{Environment, run};

/// The API server sends a bookmark each minute to a watch on which nothing happens: a connection that is silent for half
/// a minute longer is dead, and as long as it isn't noticed the controller is blind.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// How long threads that block may keep a process that ends.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn controller(options: &ControllerOptions) -> Result<(), Box<dyn Error>> {
    // clap checks one flag at a time.
    let fits = options.run.check().and(options.lease.times().map(drop));
    if let Err(problem) = fits {
        Cli::command().error(ErrorKind::ValueValidation, problem).exit();
    }
    start_logging(&options.telemetry)?;
    // For the lease and the probes: whatever the actors do, they are attended to.
    let vital = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .thread_name("vital")
        .enable_all()
        .build()?;
    // One thread has more to give than an API server takes; a second one costs a tenth more CPU for waking each other, and memory
    // of its own. It is not this one: whatever blocks it, this one ends the process when the lease is lost.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(controlled(options, vital.handle()));
    // What still blocks, a name that is being looked up, say, keeps no process that shall end: it may have lost its lease.
    runtime.shutdown_timeout(LAST_PATIENCE);
    vital.shutdown_timeout(LAST_PATIENCE);
    ended
}

async fn controlled(options: &ControllerOptions, vital: &Handle) -> Result<(), Box<dyn Error>> {
    // Before anything else, so that a signal during the start counts.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "asked to stop");
    };
    let (connection, whence) = connection(options).await?;
    let cluster = format!("{}, as {whence} says", connection.cluster_url);
    tracing::info!("the API server is {cluster}");
    let candidate = if options.lease.leader_elect {
        let _there = vital.enter();
        Some(Candidate {
            client: Client::try_from(connection.clone())?,
            namespace: options.run.controller_namespace(),
            identity: config::identity(),
            times: options.lease.times()?,
            runtime: Some(vital.clone()),
        })
    } else {
        tracing::info!("no leader election: nothing else may act as this controller");
        None
    };
    let client = Client::try_from(connection)?;
    let mut world = Environment::new(
        Arc::new(TokioClock::system()),
        Arc::new(Telemetry::default()),
        Readiness::default(),
    );
    world.candidate = candidate;
    world.readiness.note("cluster", cluster);
    let listener = vital
        .spawn(http::bind(options.http_address))
        .await?
        .map_err(|error| format!("--http-address={}: {error}", options.http_address))?;
    let probes = vital.spawn(http::serve(
        listener,
        world.readiness.clone(),
        Arc::clone(&world.telemetry),
    ));
    let pulse = tokio::spawn(world.readiness.clone().keep_pulse());
    let ended = run(&options.run, client, world, shutdown).await;
    probes.abort();
    pulse.abort();
    Ok(ended?)
}

/// How the API server is reached, and what says so: the kubeconfig that was named, else the pod's account, else the usual
/// kubeconfig.
async fn connection(options: &ControllerOptions) -> Result<(Config, String), Box<dyn Error>> {
    let (mut config, whence) = match &options.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .map_err(|error| format!("--kubeconfig={}: {error}", path.display()))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|error| format!("--kubeconfig={}: {error}", path.display()))?;
            (config, format!("--kubeconfig={}", path.display()))
        }
        None => {
            if let Ok(config) = Config::incluster() {
                (config, "the environment of this pod".to_owned())
            } else {
                let config = Config::infer().await.map_err(|error| {
                    format!(
                        "no cluster was found: {error}; name a file with --kubeconfig, or run it in a pod"
                    )
                })?;
                (config, "the usual kubeconfig".to_owned())
            }
        }
    };
    // Its retries would repeat writes without the machines' knowledge, and take minutes.
    config.default_retry = false;
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Ok((config, whence))
}
