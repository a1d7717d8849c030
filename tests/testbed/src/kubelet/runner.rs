//! kubectl as a process with the rights of a pod's service account.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::volumes::{Volumes, environment};
use super::{Ending, ended};
use crate::access::Access;

/// kubectl needs the processor when it begins; later it mostly waits (a drain, for minutes).
const START_PHASE: Duration = Duration::from_secs(2);

/// A kubelet's bounds for the message that it takes from a log: 2048 bytes and 80 lines.
const MESSAGE_BYTES: usize = 2048;
const MESSAGE_LINES: usize = 80;

/// One kubectl process that the fake kubelet started.
#[derive(Clone, Debug)]
pub struct KubectlRun {
    /// The namespace of its pod.
    pub namespace: String,
    /// The name of its pod.
    pub pod: String,
    /// The uid of its pod.
    pub pod_uid: String,
    /// The container or init container.
    pub container: String,
    /// `kubectl` and its arguments as the pod says, with paths of the container.
    pub argv: Vec<String>,
    /// When it was started.
    pub started: SystemTime,
    /// When it ended; `None` while it runs.
    pub ended: Option<SystemTime>,
    /// What it returned; `None` while it runs or when it was killed.
    pub exit_code: Option<i32>,
}

/// Starts kubectl processes, a few at a time, and keeps the record of them.
pub(super) struct Runner {
    kubectl: PathBuf,
    dir: PathBuf,
    access: Access,
    starts: Arc<Semaphore>,
    runs: Arc<Mutex<Vec<KubectlRun>>>,
}

/// A running kubectl. Dropped, it is killed.
pub(super) struct Process {
    child: Child,
    start_slot: Option<OwnedSemaphorePermit>,
    record: usize,
    runs: Arc<Mutex<Vec<KubectlRun>>>,
}

impl Runner {
    pub(super) fn new(
        kubectl: PathBuf,
        dir: PathBuf,
        access: Access,
        starts_at_once: usize,
        runs: Arc<Mutex<Vec<KubectlRun>>>,
    ) -> Self {
        let starts = Arc::new(Semaphore::new(starts_at_once));
        Self {
            kubectl,
            dir,
            access,
            starts,
            runs,
        }
    }

    /// A turn to start: taken before the pod is called running.
    pub(super) async fn start_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.starts.clone().acquire_owned().await.ok()
    }

    /// The directory of a pod: its volumes, its logs, and the mark that it ran.
    pub(super) fn pod_dir(&self, pod: &Pod) -> PathBuf {
        self.dir
            .join("pods")
            .join(pod.metadata.uid.as_deref().unwrap_or("none"))
    }

    /// Starts the container's command. An error is what a container runtime says when it can't.
    pub(super) fn start(
        &self,
        (pod, container): (&Pod, &Container),
        volumes: &Volumes,
        start_slot: Option<OwnedSemaphorePermit>,
    ) -> Result<Process, String> {
        // The image's entrypoint is kubectl, and nothing else is in it.
        let entrypoint = || vec!["kubectl".to_owned()];
        let mut argv = container
            .command
            .clone()
            .filter(|command| !command.is_empty())
            .unwrap_or_else(entrypoint);
        argv.extend(container.args.iter().flatten().cloned());
        if Path::new(&argv[0]).file_name() != Some("kubectl".as_ref()) {
            return Err(format!("exec: {:?}: executable file not found in $PATH", argv[0]));
        }
        let dir = self.pod_dir(pod);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log_file(&dir, container));
        let child = log.and_then(|log| self.command(pod, container, volumes, &argv[1..], &dir, log));
        let child = child.map_err(|error| error.to_string())?;
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.push(KubectlRun {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
            container: container.name.clone(),
            argv,
            started: SystemTime::now(),
            ended: None,
            exit_code: None,
        });
        Ok(Process {
            child,
            start_slot,
            record: runs.len() - 1,
            runs: self.runs.clone(),
        })
    }

    fn command(
        &self,
        pod: &Pod,
        container: &Container,
        volumes: &Volumes,
        args: &[String],
        dir: &Path,
        log: File,
    ) -> io::Result<Child> {
        // setpriv: should this process be killed, its kubectls go with it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.kubectl);
        command.args(args.iter().map(|arg| volumes.localise(container, arg)));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", dir)
            .env("HOSTNAME", pod.name_any());
        let variables = environment(pod, container).into_iter();
        command.envs(variables.map(|(name, value)| (name, volumes.localise(container, &value))));
        // Without a token kubectl finds no cluster, here as in a pod.
        if let Some(token) = volumes.token(container) {
            let kubeconfig = dir.join("kubeconfig");
            let namespace = pod.namespace().unwrap_or_default();
            fs::write(&kubeconfig, self.access.token_file_kubeconfig(&token, &namespace))?;
            command.env("KUBECONFIG", kubeconfig);
        }
        command.env("KUBECACHEDIR", self.dir.join("kubectl-cache"));
        command
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command.kill_on_drop(true).spawn()
    }
}

impl Process {
    /// Waits for its end and returns its exit code. When the pod ends first, it is killed, and gone on return.
    pub(super) async fn wait(mut self, ending: &mut watch::Receiver<Ending>) -> Result<i32, Ending> {
        let result = loop {
            tokio::select! {
                status = self.child.wait() => break Ok(status.ok().and_then(|status| status.code())),
                () = tokio::time::sleep(START_PHASE), if self.start_slot.is_some() => self.start_slot = None,
                cause = ended(ending) => {
                    // An error means that it is gone already, which is what is wanted.
                    let _ = self.child.kill().await;
                    break Err(cause);
                }
            }
        };
        let code = result?;
        self.with_record(|run| run.exit_code = code);
        Ok(code.unwrap_or(137))
    }

    fn with_record(&self, change: impl FnOnce(&mut KubectlRun)) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = runs.get_mut(self.record) {
            change(run);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.with_record(|run| run.ended = Some(SystemTime::now()));
    }
}

/// What a kubelet puts into a failed container's status when `FallbackToLogsOnError` is asked for.
pub(super) fn termination_message(dir: &Path, container: &Container) -> String {
    if container.termination_message_policy.as_deref() != Some("FallbackToLogsOnError") {
        return String::new();
    }
    let log = fs::read(log_file(dir, container)).unwrap_or_default();
    let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(MESSAGE_BYTES)..]).into_owned();
    let lines: Vec<_> = tail.split_inclusive('\n').collect();
    lines[lines.len().saturating_sub(MESSAGE_LINES)..].concat()
}

fn log_file(dir: &Path, container: &Container) -> PathBuf {
    dir.join(format!("{}.log", container.name))
}
