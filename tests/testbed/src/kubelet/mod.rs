//! Stands in for nodes: binds pods, runs the kubectl of an executor's pod, and calls all other pods ready.

mod api;
mod life;
mod runner;
mod schedule;
mod script;
mod status;
mod table;
mod volumes;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::access::Access;
use crate::control_plane::ControlPlane;
use crate::error::{IoContext, TestbedError};

use api::KubeletApi;
use life::Node;
use runner::Runner;
use table::Table;

pub use runner::KubectlRun;
pub use script::{PodScript, ScriptFn};

/// How a [`FakeKubelet`] behaves.
#[derive(Clone)]
pub struct FakeKubeletOptions {
    /// How many nodes there are: `node-1`, `node-2` and so on.
    pub nodes: usize,
    /// How many kubectl processes may be in their first two seconds, when they need the processor, at once.
    pub kubectl_starts_at_once: usize,
    /// Whether a pod of kubectl is reported as Running before it is reported as ended. Off saves a write a pod.
    pub report_running: bool,
    /// What a test wants to happen to certain pods.
    pub script: Option<ScriptFn>,
}

impl Default for FakeKubeletOptions {
    fn default() -> Self {
        Self {
            nodes: 2,
            kubectl_starts_at_once: 4,
            report_running: true,
            script: None,
        }
    }
}

impl FakeKubeletOptions {
    /// Asks `script` about every pod before it starts.
    #[must_use]
    pub fn with_script(
        mut self,
        script: impl Fn(&k8s_openapi::api::core::v1::Pod) -> Option<PodScript> + Send + Sync + 'static,
    ) -> Self {
        self.script = Some(Arc::new(script));
        self
    }
}

/// Nodes without a machine.
///
/// A pod whose image is `registry.k8s.io/kubectl`, or that has the label `kubernaut.io/execution-uid`, has each of its
/// containers run, one after the other, as a kubectl process with its environment and its `downwardAPI`, Secret,
/// `ConfigMap`, `emptyDir` and projected volumes, the token of the pod's service account among them. Any other pod is Running and Ready at once.
///
/// # Guarantees
/// - A pod is run at most once, also by a later fake kubelet of the same control plane: one that was started before
///   and has no process is reported as lost.
/// - The deletion of a pod is confirmed only when its process is gone.
/// - Dropped, it has ended its processes and written its last word before `drop` returns; nodes and pods stay as they
///   are, as when a node loses power.
///
/// # Caveats
/// No restarts of containers, no second token before the first one ends, no resources, no network, no logs by `kubectl logs`. A kubectl is killed by SIGKILL, not
/// asked by SIGTERM first.
pub struct FakeKubelet {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    runs: Arc<Mutex<Vec<KubectlRun>>>,
}

impl FakeKubelet {
    /// Registers the nodes and begins to take pods. It runs on a thread of its own: the caller's runtime may end, or
    /// play with its clock.
    pub async fn start(
        control_plane: &ControlPlane,
        options: FakeKubeletOptions,
    ) -> Result<Self, TestbedError> {
        let kubeconfig = control_plane.state_dir().join("fake-kubelet.kubeconfig");
        let dir = control_plane.state_dir().join("kubelet");
        Self::start_with(&kubeconfig, control_plane.bin_dir(), &dir, options).await
    }

    /// Starts for an API server known by a kubeconfig (of a user who may do everything) with the kubectl in
    /// `bin_dir`. In `dir`, which may be that of an earlier fake kubelet, stand the pods' files.
    pub async fn start_with(
        kubeconfig: &Path,
        bin_dir: &Path,
        dir: &Path,
        options: FakeKubeletOptions,
    ) -> Result<Self, TestbedError> {
        fs::create_dir_all(dir.join("pods")).context(|| format!("making {}", dir.display()))?;
        let dir = dir
            .canonicalize()
            .context(|| format!("finding {}", dir.display()))?;
        let runs = Arc::<Mutex<Vec<KubectlRun>>>::default();
        let access = Access::read(kubeconfig)?;
        let starts = options.kubectl_starts_at_once.max(1);
        let runner = Runner::new(bin_dir.join("kubectl"), dir, access.clone(), starts, runs.clone());

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context(|| "making a runtime".into())?;
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let main = async move {
            match prepare(access, runner, options).await {
                Ok(table) => {
                    let _ = ready.send(Ok(()));
                    // A dropped sender is as good as an order.
                    table.run(async { drop(stopped.await) }).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let thread = std::thread::Builder::new()
            .name("fake-kubelet".into())
            .spawn(move || {
                runtime.block_on(main);
                // The watches' connections may wait for an API server that is stopped.
                runtime.shutdown_timeout(Duration::from_millis(100));
            });
        let thread = thread.context(|| "starting a thread".into())?;
        let this = Self {
            stop: Some(stop),
            thread: Some(thread),
            runs,
        };
        is_ready
            .await
            .unwrap_or_else(|_| Err(TestbedError::Start("the fake kubelet ended".into())))?;
        Ok(this)
    }

    /// Every kubectl process that was started, oldest first.
    pub fn runs(&self) -> Vec<KubectlRun> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops as a drop does.
    pub fn stop(self) {}
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed.
            let _ = thread.join();
        }
    }
}

async fn prepare(access: Access, runner: Runner, options: FakeKubeletOptions) -> Result<Table, TestbedError> {
    // Pods of an executor take a node from nobody else.
    let scheduler = access.client_as("system:kube-scheduler", &[]).await?;
    let api = KubeletApi::new(access.client().await?, scheduler);
    let names: HashSet<_> = (1..=options.nodes)
        .map(|number| format!("node-{number}"))
        .collect();
    for name in &names {
        api.register_node(name, &node_ip(name)).await?;
    }
    let (script, report_running) = (options.script, options.report_running);
    let node = Node {
        api,
        runner,
        script,
        report_running,
    };
    Ok(Table::new(Arc::new(node), names))
}

/// An address nobody answers at; `node-1` has the second of the range.
fn node_ip(name: &str) -> String {
    let number: u8 = name
        .rsplit('-')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    format!("10.111.0.{}", number.saturating_add(1))
}

/// Whether a pod's work has to end, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// The pod is to be deleted or gone.
    Deleted,
    /// The fake kubelet stops.
    Stopped,
}

/// Waits until the work has to end.
async fn ended(ending: &mut watch::Receiver<Ending>) -> Ending {
    // The sender goes when the pod is gone; a value that was there before is seen first.
    ending
        .wait_for(|ending| *ending != Ending::No)
        .await
        .map_or(Ending::Deleted, |ending| *ending)
}

/// The result of the work, unless it has to end before.
async fn unless_ended<T>(
    ending: &mut watch::Receiver<Ending>,
    work: impl Future<Output = T>,
) -> Result<T, Ending> {
    tokio::select! {
        biased;
        cause = ended(ending) => Err(cause),
        result = work => Ok(result),
    }
}
