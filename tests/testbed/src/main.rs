//! A control plane with fake or real nodes, for playing: `./dev cluster up` runs this.

mod background;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use kubernaut_testbed::{
    Cluster, ClusterOptions, ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, TestbedError,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::background::Background;

/// A Kubernetes control plane with fake or real nodes
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a control plane and its nodes until SIGTERM or SIGINT
    ///
    /// Prints the path of the admin's kubeconfig when ready, and makes a file `ready` in the state directory.
    Up {
        /// Where keys, data and logs live until then; must not exist yet
        #[arg(long)]
        state: Option<PathBuf>,
        /// Record requests in audit.log of the state directory
        #[arg(long)]
        audit_log: bool,
        /// How many real nodes there are, instead of fake ones; needs root
        #[arg(long, conflicts_with = "fake_nodes")]
        nodes: Option<usize>,
        /// An image for the real nodes, from a file as `docker save` writes it; may be given again
        #[arg(long, requires = "nodes", value_name = "FILE")]
        image: Vec<PathBuf>,
        #[command(flatten)]
        kubelet: KubeletArgs,
    },
    /// Run a control plane and its nodes in the background
    ///
    /// Returns when it is ready; prints the lines that tell a shell of it, as `env` does.
    Start {
        /// Where its files live
        #[arg(long)]
        state: PathBuf,
        /// What `up` takes besides --state
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Stop what runs in the background there, and take away what is left of it
    Stop {
        /// As for start
        #[arg(long)]
        state: PathBuf,
    },
    /// Print the lines that tell a shell of what runs in the background there; 1 when nothing does
    Env {
        /// As for start
        #[arg(long)]
        state: PathBuf,
    },
    /// Run only the fake kubelet, until SIGTERM or SIGINT
    FakeKubelet {
        /// A kubeconfig of a user who may do everything
        #[arg(long)]
        kubeconfig: PathBuf,
        /// The directory of kubectl
        #[arg(long)]
        bin_dir: PathBuf,
        /// Where the pods' files stand; the same again keeps pods from running twice
        #[arg(long)]
        dir: PathBuf,
        #[command(flatten)]
        kubelet: KubeletArgs,
    },
}

#[derive(Args)]
struct KubeletArgs {
    /// How many fake nodes there are
    #[arg(long, default_value_t = 2)]
    fake_nodes: usize,
}

impl KubeletArgs {
    fn options(&self) -> FakeKubeletOptions {
        FakeKubeletOptions {
            nodes: self.fake_nodes,
            ..FakeKubeletOptions::default()
        }
    }
}

#[tokio::main]
#[expect(
    clippy::print_stderr,
    reason = "the one place that reports an error to a person"
)]
async fn main() -> std::process::ExitCode {
    // The client reports each answer of an API server that isn't ready as an error.
    let default = || "warn,kube_client=off".into();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(Cli::parse().command).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kubernaut-testbed: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), TestbedError> {
    // Listened to from the beginning: a signal during the start must clean up as well.
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| io("listening to SIGTERM", e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| io("listening to SIGINT", e))?;
    tokio::select! {
        result = serve(command) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Runs it; dropped, it stops all.
#[expect(clippy::print_stderr, reason = "standard output is for a shell")]
async fn serve(command: Command) -> Result<(), TestbedError> {
    match command {
        Command::Up {
            state,
            audit_log,
            nodes,
            image,
            kubelet,
        } => {
            let options = ControlPlaneOptions {
                audit_log,
                state_dir: state,
                ..ControlPlaneOptions::default()
            };
            if let Some(nodes) = nodes {
                let control_plane = options;
                let cluster = Cluster::start(ClusterOptions { nodes, control_plane }).await?;
                for archive in &image {
                    cluster.load_image(archive).await?;
                }
                tell_ready(&cluster)?;
                return std::future::pending().await;
            }
            let control_plane = ControlPlane::start(options).await?;
            let _kubelet = FakeKubelet::start(&control_plane, kubelet.options()).await?;
            tell_ready(&control_plane)?;
            std::future::pending().await
        }
        Command::Start { state, arguments } => {
            let background = Background::new(&state)?;
            if background.start(&arguments).await? {
                eprintln!("The cluster is up.");
            } else {
                eprintln!("The cluster is already up; ./dev cluster down stops it.");
            }
            print_environment(&background, &state)
        }
        Command::Stop { state } => Background::new(&state)?.stop().await.map(drop),
        Command::Env { state } => print_environment(&Background::new(&state)?, &state),
        Command::FakeKubelet {
            kubeconfig,
            bin_dir,
            dir,
            kubelet,
        } => {
            let _kubelet = FakeKubelet::start_with(&kubeconfig, &bin_dir, &dir, kubelet.options()).await?;
            std::future::pending().await
        }
    }
}

fn print_environment(background: &Background, state: &Path) -> Result<(), TestbedError> {
    let lines = background.environment()?.ok_or_else(|| TestbedError::Part {
        part: "the cluster".to_owned(),
        message: format!("nothing runs in {}: ./dev cluster up starts one", state.display()),
    })?;
    println!("{lines}");
    Ok(())
}

fn tell_ready(control_plane: &ControlPlane) -> Result<(), TestbedError> {
    let ready = control_plane.state_dir().join("ready");
    std::fs::write(ready, "").map_err(|e| io("telling that all is ready", e))?;
    println!("{}", control_plane.admin_kubeconfig().display());
    Ok(())
}

fn io(what: &str, source: std::io::Error) -> TestbedError {
    TestbedError::Io {
        what: what.into(),
        source,
    }
}
