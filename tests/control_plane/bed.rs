//! A control plane with kubernaut installed as its manifests say, and the real binary running beside it with the
//! rights of its own service account.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use kubernaut::manifests::Installation;
use kubernaut_crds::names;
use kubernaut_testbed::{ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, PodScript};
use serde_json::json;
use tokio::sync::OnceCell;

/// Who the controller is in the audit log.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:kubernaut-system:kubernaut-controller";

/// From start to ready it takes a moment; a compiler next door can stretch it.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// A control plane with the custom resources installed, and neither policies nor a controller.
pub(crate) async fn api_server() -> &'static ControlPlane {
    static BED: OnceCell<ControlPlane> = OnceCell::const_new();
    BED.get_or_init(async || {
        let control_plane = ControlPlane::start(ControlPlaneOptions::default())
            .await
            .expect("a control plane");
        let files = kubernaut::manifests::files(&Installation::default()).expect("manifests");
        let crds = files
            .iter()
            .find(|file| file.name == "crds.yaml")
            .expect("the file");
        let crds = kubernaut::manifests::text(crds).expect("text");
        control_plane.apply_yaml(&crds).await.expect("accepted");
        all_established(&control_plane).await;
        control_plane
    })
    .await
}

/// The bed of the tests that don't disturb each other: each works in namespaces of its own, or on a node of its own.
pub(crate) async fn bed() -> &'static Bed {
    static BED: OnceCell<Bed> = OnceCell::const_new();
    let options = BedOptions {
        nodes: 5,
        run_flags: &["--apply-manifest-kinds=ConfigMap"],
        controller_flags: &["--cluster-name=production-cluster", PROTECTED],
        ..BedOptions::default()
    };
    BED.get_or_init(async || Bed::start(options).await).await
}

/// Said to the controller alone: no admission policy stands before this namespace.
pub(crate) const UNGUARDED: &str = "ref-unguarded";
const PROTECTED: &str = "--protected-namespaces=kube-system,kube-public,kube-node-lease,ref-unguarded";

/// How a [`Bed`] differs from the usual one.
#[derive(Clone, Copy)]
pub(crate) struct BedOptions {
    pub(crate) nodes: usize,
    /// Said to `kubernaut manifests` and to `kubernaut controller`.
    pub(crate) run_flags: &'static [&'static str],
    /// Said to `kubernaut controller` alone.
    pub(crate) controller_flags: &'static [&'static str],
    /// Said to kube-apiserver.
    pub(crate) apiserver_args: &'static [&'static str],
    /// What becomes of pods.
    pub(crate) script: fn(&Pod) -> Option<PodScript>,
}

impl Default for BedOptions {
    fn default() -> Self {
        Self {
            nodes: 2,
            run_flags: &[],
            controller_flags: &[],
            apiserver_args: &[],
            script: script_by_name,
        }
    }
}

/// A step whose execution's name begins with one of these words has its pods treated so.
fn script_by_name(pod: &Pod) -> Option<PodScript> {
    let execution = pod.labels().get(names::LABEL_EXECUTION_NAME)?;
    let exit = |message: &str| PodScript::Exit {
        code: 1,
        message: message.to_owned(),
    };
    match execution.split('-').next()? {
        "hang" => Some(PodScript::Hang),
        "fails" => Some(exit("error: told to fail")),
        "invalid" => Some(exit("Error from server (BadRequest): told to fail")),
        "stuck" => Some(PodScript::Waiting {
            reason: "ContainerCreating".to_owned(),
            message: String::new(),
        }),
        "slow" => Some(PodScript::RunAfter(Duration::from_secs(3))),
        _ => None,
    }
}

/// A control plane, fake nodes and a running controller. Dropped, all of it ends.
pub(crate) struct Bed {
    // Ends first, then the kubelet, then what they talk to.
    controller: Mutex<Option<Controller>>,
    pub(crate) kubelet: FakeKubelet,
    pub(crate) control_plane: ControlPlane,
    kubeconfig: PathBuf,
    flags: Vec<&'static str>,
}

impl Bed {
    pub(crate) async fn start(options: BedOptions) -> Self {
        let bed = Self::without_controller(options).await;
        bed.start_controller().await;
        bed
    }

    pub(crate) async fn without_controller(options: BedOptions) -> Self {
        let control_plane = ControlPlane::start(ControlPlaneOptions {
            audit_log: true,
            apiserver_args: options
                .apiserver_args
                .iter()
                .map(|arg| (*arg).to_owned())
                .collect(),
            ..ControlPlaneOptions::default()
        })
        .await
        .expect("a control plane");
        let kubelet_options = FakeKubeletOptions {
            nodes: options.nodes,
            ..FakeKubeletOptions::default()
        };
        let kubelet = FakeKubelet::start(&control_plane, kubelet_options.with_script(options.script))
            .await
            .expect("a fake kubelet");
        install(&control_plane, options.run_flags).await;
        let kubeconfig = control_plane
            .kubeconfig_for_service_account("kubernaut-system", "kubernaut-controller", None)
            .await
            .expect("a token for the controller");
        Self {
            controller: Mutex::default(),
            kubelet,
            control_plane,
            kubeconfig,
            flags: [options.run_flags, options.controller_flags].concat(),
        }
    }

    pub(crate) async fn client(&self) -> Client {
        self.control_plane.admin_client().await.expect("a client")
    }

    /// Starts the controller, and returns when it says that it is ready.
    pub(crate) async fn start_controller(&self) {
        let port = self.spawn_controller();
        self.ready(port).await;
    }

    async fn ready(&self, port: u16) {
        let deadline = Instant::now() + READY_TIMEOUT;
        while !is_ready(port).await {
            assert!(
                Instant::now() < deadline,
                "the controller is not ready:\n{}",
                self.log_about("")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts the controller, and waits for nothing. Returns the port of its probes.
    pub(crate) fn spawn_controller(&self) -> u16 {
        let port = unused_port();
        let mut controller = self.controller.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(controller.is_none(), "one controller at a time");
        *controller = Some(Controller::start(
            controller_command(&self.kubeconfig, port, &self.flags),
            port,
            &self.log_file(),
        ));
        port
    }

    /// Starts one more controller beside those that run, on a host of this name and with a token of its own, by which
    /// the audit log tells its requests from theirs. Returns when it says that it is ready.
    pub(crate) async fn start_replica(&self, host: &str) -> Controller {
        let dir = self.control_plane.state_dir().join(host);
        std::fs::create_dir_all(&dir).expect("a directory");
        let kubeconfig = self
            .control_plane
            .kubeconfig_for_service_account("kubernaut-system", "kubernaut-controller", Some(&dir))
            .await
            .expect("a token for the controller");
        let port = unused_port();
        let mut command = controller_command(&kubeconfig, port, &self.flags);
        command.env("HOSTNAME", host);
        let mut controller = Controller::start(command, port, &self.log_file());
        controller.credential = credential(&kubeconfig);
        self.ready(port).await;
        controller
    }

    /// Kills the controller with SIGKILL, and returns when it is gone.
    pub(crate) fn kill_controller(&self) {
        drop(
            self.controller
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    pub(crate) fn controller_pid(&self) -> u32 {
        let controller = self.controller.lock().unwrap_or_else(PoisonError::into_inner);
        controller.as_ref().expect("a controller").pid
    }

    /// The last lines of the controller's log that speak of something, for the message of a failed test.
    pub(crate) fn log_about(&self, what: &str) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let mut lines: Vec<_> = log
            .lines()
            .rev()
            .filter(|line| line.contains(what))
            .take(40)
            .collect();
        lines.reverse();
        lines.join("\n")
    }

    /// Every answered request so far.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(self.control_plane.audit_log()).expect("an audit log");
        // The last line may be half written.
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn log_file(&self) -> PathBuf {
        self.control_plane.state_dir().join("controller.log")
    }
}

/// Installs what `kubernaut manifests` prints, and waits until the custom resources are served and the policies in force.
async fn install(control_plane: &ControlPlane, flags: &[&str]) {
    let output = Command::new(kubernaut())
        .args(["manifests", "--without-pods"])
        .args(flags)
        .output()
        .expect("kubernaut runs");
    assert!(output.status.success(), "{output:?}");
    let manifests = String::from_utf8(output.stdout).expect("text");
    control_plane
        .apply_yaml(&manifests)
        .await
        .expect("the manifests are accepted");
    all_established(control_plane).await;
    in_force(control_plane).await;
}

async fn all_established(control_plane: &ControlPlane) {
    for name in [
        "workflowexecutions.workflow.kubernaut.io",
        "kubernetesexecutions.kubernetesexecution.kubernaut.io",
    ] {
        established(control_plane, name).await;
    }
}

/// The API server takes up policies a moment after it stored them, in their order: the last one tells.
async fn in_force(control_plane: &ControlPlane) {
    let client = control_plane.admin_client().await.expect("a client");
    let pods =
        json!({"containers": [{"name": "a", "image": "registry.example/a"}], "restartPolicy": "Never"});
    let template = json!({"metadata": {"labels": {"kubernaut.io/execution-uid": "none"}}, "spec": pods});
    let marked: CronJob = serde_json::from_value(json!({
        "metadata": {"name": "marked"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}},
    }))
    .expect("an object");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let deadline = Instant::now() + READY_TIMEOUT;
    let api = Api::<CronJob>::namespaced(client, "default");
    while api.create(&dry, &marked).await.is_ok() {
        assert!(Instant::now() < deadline, "the policies are not in force");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a custom resource is served.
pub(crate) async fn established(control_plane: &ControlPlane, crd: &str) {
    control_plane
        .run_kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            &format!("crd/{crd}"),
        ])
        .await
        .expect("established");
}

/// The binary as a process, which ends when this value or the test's process does, however hard.
pub(crate) struct Controller {
    pid: u32,
    port: u16,
    /// Its token, as the audit log says it.
    pub(crate) credential: String,
    ended: Arc<OnceLock<ExitStatus>>,
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Controller {
    fn start(mut command: Command, port: u16, log: &Path) -> Self {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        command.stdout(log.try_clone().expect("a log file")).stderr(log);
        let (started, pid) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let ended = Arc::new(OnceLock::new());
        let tell = Arc::clone(&ended);
        // The kernel ends it with the thread that started it: a thread of its own, not one of a test.
        let keeper = std::thread::spawn(move || {
            let mut child: Child = command.spawn().expect("kubernaut runs");
            let _ = started.send(child.id());
            // Nothing is ever sent: the other end is dropped.
            while stopped.recv_timeout(Duration::from_millis(10)) == Err(mpsc::RecvTimeoutError::Timeout) {
                if let Some(status) = child.try_wait().expect("a child") {
                    let _ = tell.set(status);
                    return;
                }
            }
            let _ = child.kill();
            if let Ok(status) = child.wait() {
                let _ = tell.set(status);
            }
        });
        Self {
            pid: pid.recv().expect("a process"),
            port,
            credential: String::new(),
            ended,
            stop: Some(stop),
            keeper: Some(keeper),
        }
    }

    /// Sends a signal, such as STOP.
    pub(crate) fn signal(&self, name: &str) {
        assert!(self.ended.get().is_none(), "it has ended");
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid.to_string())
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// How it ended, when it has.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.ended.get().copied()
    }

    /// Whether it says that it leads. Not to be asked of a process that is stopped.
    pub(crate) async fn leads(&self) -> bool {
        let port = self.port;
        let ask =
            move || get(port, "/metrics").is_some_and(|answer| answer.contains("\nkubernaut_leader 1\n"));
        tokio::task::spawn_blocking(ask).await.unwrap_or(false)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// The program under test: `KUBERNAUT_BINARY` names another build of it, a release build to be measured, say.
fn kubernaut() -> PathBuf {
    let other = std::env::var_os("KUBERNAUT_BINARY").map(PathBuf::from);
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_kubernaut").into())
}

fn controller_command(kubeconfig: &Path, port: u16, flags: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command.arg(kubernaut()).arg("controller");
    command.arg("--kubeconfig").arg(kubeconfig);
    command.args([format!("--http-address=127.0.0.1:{port}")]);
    command.args(["--log-format=json"]).args(flags);
    // Settings come from here alone.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KUBERNAUT_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("KUBECONFIG")
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null());
    command
}

/// How the audit log calls the token of a kubeconfig: by the id in it.
fn credential(kubeconfig: &Path) -> String {
    let text = std::fs::read_to_string(kubeconfig).expect("a kubeconfig");
    let kubeconfig: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let token = kubeconfig["users"][0]["user"]["token"].as_str().expect("a token");
    let claims = token.split('.').nth(1).expect("claims");
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD
        .decode(claims)
        .expect("base64");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    format!("JTI={}", claims["jti"].as_str().expect("an id"))
}

fn unused_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

async fn is_ready(port: u16) -> bool {
    let ask = move || get(port, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
    tokio::task::spawn_blocking(ask).await.unwrap_or(false)
}

/// What the controller's probes and metrics answer.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: controller\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
