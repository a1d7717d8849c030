//! A real control plane, without nodes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use crate::access::{Access, write_service_account_kubeconfig};
use crate::error::{IoContext, TestbedError};
use crate::part::Part;
use crate::process;

/// Cold file caches and a compiler next door can stretch the usual four seconds a lot.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// A request to an API server that is starting or stopped may never be answered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How a [`ControlPlane`] is started.
#[derive(Clone, Debug, Default)]
pub struct ControlPlaneOptions {
    /// Record every request, with its user and verb but without bodies, in [`ControlPlane::audit_log`].
    pub audit_log: bool,
    /// Run the node lifecycle controller, which taints nodes, and finds those lost that send no heartbeat for most of a
    /// minute. Nodes of their own always have it.
    pub node_lifecycle: bool,
    /// More arguments for kube-apiserver.
    pub apiserver_args: Vec<String>,
    /// More arguments for kube-controller-manager.
    pub controller_manager_args: Vec<String>,
    /// Where keys, data and logs live until the control plane stops; must not exist yet. By default a new
    /// directory in the system's temporary directory.
    pub state_dir: Option<PathBuf>,
}

/// A running control plane of its own: free port, own keys, own data.
///
/// # Guarantees
/// Dropping it ends its processes and removes its directory before `drop` returns. When the owning process dies
/// without dropping it, the same happens within a second.
///
/// # Caveats
/// A value in a `static` is never dropped; the end of the process then does it. A client belongs to the tokio
/// runtime that it was made on: tests that share a control plane make a client each.
pub struct ControlPlane {
    runner: Child,
    // None only while dropping. Closing it is what stops the control plane.
    orders: Mutex<Option<ChildStdin>>,
    state_dir: PathBuf,
    bin_dir: PathBuf,
    port: u16,
}

impl ControlPlane {
    /// Builds the programs when they are missing (minutes, once per machine), starts them, and returns when the API
    /// server is ready and the controllers work.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self, TestbedError> {
        let built = tokio::task::spawn_blocking(|| build(&[]));
        let bin_dir = built.await.map_err(|e| start_error(&e))??.remove(0);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let this = Self::launch(bin_dir.clone(), options.clone(), &[]).await?;
            match this.wait_until_ready().await {
                Ok(()) => return Ok(this),
                // Somebody took the port between our look at it and the start.
                Err(_)
                    if attempts < 3 && this.log_tail(Part::ApiServer).contains("address already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The kubeconfig of a user who may do everything.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.state_dir.join("admin.kubeconfig")
    }

    /// A new client that may do everything. It never repeats a request by itself.
    pub async fn admin_client(&self) -> Result<Client, TestbedError> {
        self.access()?.client().await
    }

    /// A new client of the user of this name, in these groups besides those that every user is in. It never repeats a
    /// request by itself.
    ///
    /// The admin impersonates the user: for the API server's authorization and admission it is the user who asks.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client, TestbedError> {
        self.access()?.client_as(user, groups).await
    }

    /// A new client that has nothing but this bearer token. It never repeats a request by itself.
    pub async fn client_for_token(&self, token: &str) -> Result<Client, TestbedError> {
        self.access()?.client_for_token(token).await
    }

    /// Writes a kubeconfig with nothing but a token of the service account and the CA, into `dir` or the state
    /// directory, so that a process can run with exactly that account's rights.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
        dir: Option<&Path>,
    ) -> Result<PathBuf, TestbedError> {
        let file = dir
            .unwrap_or(&self.state_dir)
            .join(format!("{namespace}_{name}.kubeconfig"));
        let client = self.admin_client().await?;
        write_service_account_kubeconfig(&self.access()?, &client, (namespace, name), file).await
    }

    /// The kubectl that fits this API server.
    pub fn kubectl(&self) -> PathBuf {
        self.bin_dir.join("kubectl")
    }

    /// Runs kubectl as the admin and returns its standard output.
    pub async fn run_kubectl(&self, args: &[&str]) -> Result<String, TestbedError> {
        self.pipe_to_kubectl(args, "").await
    }

    /// Applies the documents of a YAML text, in their order, as the admin.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<(), TestbedError> {
        self.pipe_to_kubectl(&["apply", "--server-side", "--filename=-"], yaml)
            .await
            .map(drop)
    }

    /// The directory with etcd, kube-apiserver, kube-controller-manager and kubectl.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// Keys, data and logs. Gone when the control plane is.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// One JSON object a line and answered request ([`ControlPlaneOptions::audit_log`]). The API server writes the line
    /// before it answers.
    pub fn audit_log(&self) -> PathBuf {
        self.state_dir.join("audit.log")
    }

    /// Where kubectl keeps what it discovered. Not in the home directory: another control plane may have had the same
    /// address and other CRDs.
    pub fn kubectl_cache_dir(&self) -> PathBuf {
        self.state_dir.join("kubectl-cache")
    }

    /// `https://127.0.0.1:PORT`.
    pub fn api_server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The process number of a part; an error when it does not run.
    pub fn pid(&self, part: Part) -> Result<u32, TestbedError> {
        self.running(part).ok_or_else(|| self.part_error(part))
    }

    /// Stops the part where it is (SIGSTOP): it keeps its connections and answers nothing.
    pub async fn pause(&self, part: Part) -> Result<(), TestbedError> {
        self.signal(part, "STOP").await
    }

    /// Lets a paused part go on (SIGCONT).
    pub async fn resume(&self, part: Part) -> Result<(), TestbedError> {
        self.signal(part, "CONT").await
    }

    /// Kills the part (SIGKILL) and returns when it is gone. Nothing starts it again but
    /// [`start_part`](Self::start_part).
    pub async fn kill_part(&self, part: Part) -> Result<(), TestbedError> {
        self.signal(part, "KILL").await?;
        while self.running(part).is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Starts a part that was killed, with the same address and data, and returns when the control plane is ready.
    pub async fn start_part(&self, part: Part) -> Result<(), TestbedError> {
        if self.running(part).is_none() {
            self.order_start(part)?;
        }
        self.wait_until_ready().await
    }

    /// Starts the programs, and returns when they run. `args` are more arguments for the script.
    pub(crate) async fn launch(
        bin_dir: PathBuf,
        options: ControlPlaneOptions,
        args: &[String],
    ) -> Result<Self, TestbedError> {
        let state_dir = match options.state_dir {
            Some(dir) => dir,
            None => unused_directory()?,
        };
        let mut command = Command::new(cluster_dir().join("control-plane"));
        command.arg(&bin_dir).arg(&state_dir).args(args);
        command.args(options.audit_log.then_some("--audit-log"));
        command.args(options.node_lifecycle.then_some("--node-lifecycle"));
        command.args(
            options
                .apiserver_args
                .iter()
                .map(|arg| format!("--apiserver-arg={arg}")),
        );
        command.args(
            options
                .controller_manager_args
                .iter()
                .map(|arg| format!("--controller-manager-arg={arg}")),
        );
        // A process group of its own: whoever kills the whole group of a test must not kill its janitor.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut runner = command
            .spawn()
            .context(|| format!("running {}", command.get_program().display()))?;
        let output = runner.stdout.take();
        let orders = Mutex::new(runner.stdin.take());
        let mut this = Self {
            runner,
            orders,
            state_dir,
            bin_dir,
            port: 0,
        };
        let line = tokio::task::spawn_blocking(move || first_line(output))
            .await
            .map_err(|e| start_error(&e))?;
        this.port = line
            .strip_prefix("started ")
            .and_then(|port| port.trim().parse().ok())
            .ok_or_else(|| TestbedError::Start("see standard error for the cause".into()))?;
        this.state_dir = this
            .state_dir
            .canonicalize()
            .context(|| "finding the state directory".into())?;
        Ok(this)
    }

    pub(crate) async fn wait_until_ready(&self) -> Result<(), TestbedError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let client = self.admin_client().await?;
        while !is_ready(&client).await {
            for part in [Part::Etcd, Part::ApiServer] {
                self.pid(part)?;
            }
            // It gives up when the API server takes more than ten seconds.
            if self.running(Part::ControllerManager).is_none() {
                self.order_start(Part::ControllerManager)?;
            }
            if Instant::now() > deadline {
                return Err(TestbedError::Start(format!(
                    "not ready after {} s; the API server says:\n{}",
                    START_TIMEOUT.as_secs(),
                    self.log_tail(Part::ApiServer)
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn access(&self) -> Result<Access, TestbedError> {
        Access::read(&self.admin_kubeconfig())
    }

    /// The process whose end is the end of all parts. When there are nodes, it is in their network.
    pub(crate) fn runner_pid(&self) -> u32 {
        self.runner.id()
    }

    pub(crate) fn order_start(&self, part: Part) -> Result<(), TestbedError> {
        let before = self.recorded_pid(part);
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = orders.as_mut() {
            writeln!(orders, "start {}", part.name()).context(|| format!("ordering {}", part.name()))?;
        }
        // The shell needs a moment to fork; until then the old number stands there.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.recorded_pid(part) == before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn recorded_pid(&self, part: Part) -> Option<u32> {
        fs::read_to_string(self.state_dir.join("pid").join(part.name()))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// The recorded number, if the process that has it still is ours: numbers get reused. Just after the fork it is
    /// still setpriv, or the shell.
    pub(crate) fn running(&self, part: Part) -> Option<u32> {
        let pid = self.recorded_pid(part)?;
        process::runs_below(pid, self.runner.id()).then_some(pid)
    }

    async fn signal(&self, part: Part, signal: &str) -> Result<(), TestbedError> {
        process::signal(self.pid(part)?, signal).await
    }

    async fn pipe_to_kubectl(&self, args: &[&str], input: &str) -> Result<String, TestbedError> {
        let mut command = tokio::process::Command::new(self.kubectl());
        command
            .args(args)
            .env("KUBECONFIG", self.admin_kubeconfig())
            .env("KUBECACHEDIR", self.kubectl_cache_dir());
        process::output(&mut command, input.as_bytes()).await
    }

    fn part_error(&self, part: Part) -> TestbedError {
        TestbedError::Part {
            part: part.name(),
            message: self.log_tail(part),
        }
    }

    pub(crate) fn log_tail(&self, part: Part) -> String {
        let file = self.state_dir.join("log").join(format!("{}.log", part.name()));
        let log = fs::read(file).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(3000)..]).into_owned()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.orders.lock().unwrap_or_else(PoisonError::into_inner).take());
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.runner.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                // Its parts die with it. Errors have nowhere to go, and the next line tries what it left undone.
                let _ = self.runner.kill();
                let _ = self.runner.wait();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // A directory that the script refused, because it was there before, is not ours.
        if self.port != 0 {
            let _ = fs::remove_dir_all(&self.state_dir);
        }
    }
}

/// Ready, and the controllers have begun: without the service account `default` no pod is accepted.
async fn is_ready(client: &Client) -> bool {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    let checks = async {
        let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
            return false;
        };
        client.request_text(request).await.is_ok() && accounts.get("default").await.is_ok()
    };
    tokio::time::timeout(REQUEST_TIMEOUT, checks)
        .await
        .unwrap_or(false)
}

/// The directories that `build` prints: that of the programs first. They are built when they are missing.
pub(crate) fn build(args: &[&str]) -> Result<Vec<PathBuf>, TestbedError> {
    let script = cluster_dir().join("build");
    let mut command = Command::new(&script);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    let run = command.spawn().and_then(Child::wait_with_output);
    let result = run.context(|| format!("running {}", script.display()))?;
    let output = String::from_utf8_lossy(&result.stdout);
    let directories: Vec<_> = output.lines().map(PathBuf::from).collect();
    if !result.status.success() || directories.is_empty() {
        return Err(TestbedError::Build {
            script,
            status: result.status.to_string(),
        });
    }
    Ok(directories)
}

fn cluster_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster")
}

/// A new name in the temporary directory. The script makes the directory, to be sure that it is new.
fn unused_directory() -> Result<PathBuf, TestbedError> {
    let dir = tempfile::Builder::new().prefix("kubernaut-cluster-").tempdir();
    Ok(dir
        .context(|| "making a temporary directory".into())?
        .path()
        .to_path_buf())
}

fn first_line(output: Option<impl std::io::Read>) -> String {
    let mut line = String::new();
    if let Some(output) = output {
        // Nothing readable is reported like nothing said.
        let _ = BufReader::new(output).read_line(&mut line);
    }
    line
}

pub(crate) fn start_error(error: &tokio::task::JoinError) -> TestbedError {
    TestbedError::Start(error.to_string())
}
