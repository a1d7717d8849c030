//! A cluster with kubernaut installed as its manifests say, and the real binary running beside it with the rights of
//! its own service account.

use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::batch::v1::CronJob;
use kube::api::PostParams;
use kube::{Api, Client};
use kubernaut_testbed::ControlPlane;
use serde_json::json;

use crate::controller::{Controller, controller_command, credential, is_ready, kubernaut, unused_port};

/// Who the controller is in the audit log.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:kubernaut-system:kubernaut-controller";

/// From start to ready it takes a moment; a compiler next door can stretch it, and so can lists of hundreds of megabytes.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// A control plane with nodes, fake or real, and a running controller. Dropped, all of it ends.
pub(crate) struct Installed<C> {
    // Ends first, then what it talks to.
    controller: Mutex<Option<Controller>>,
    pub(crate) cluster: C,
    kubeconfig: PathBuf,
    flags: Vec<&'static str>,
}

impl<C: Deref<Target = ControlPlane>> Installed<C> {
    /// Installs what `kubernaut manifests` prints with `run_flags`, and starts no controller yet; the controllers get
    /// `controller_flags` as well. The cluster writes an audit log.
    pub(crate) async fn without_controller(
        cluster: C,
        run_flags: &[&'static str],
        controller_flags: &[&'static str],
    ) -> Self {
        install(&cluster, run_flags).await;
        Self::on(cluster, [run_flags, controller_flags].concat()).await
    }

    /// Where somebody has installed it, in whatever way. Starts no controller yet; the controllers get these flags.
    pub(crate) async fn on(cluster: C, flags: Vec<&'static str>) -> Self {
        all_established(&cluster).await;
        in_force(&cluster).await;
        let kubeconfig = cluster
            .kubeconfig_for_service_account(home(&flags), "kubernaut-controller", None)
            .await
            .expect("a token for the controller");
        Self {
            controller: Mutex::default(),
            cluster,
            kubeconfig,
            flags,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        self.cluster.admin_client().await.expect("a client")
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
        let dir = self.cluster.state_dir().join(host);
        std::fs::create_dir_all(&dir).expect("a directory");
        let kubeconfig = self
            .cluster
            .kubeconfig_for_service_account(home(&self.flags), "kubernaut-controller", Some(&dir))
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

    /// Kills the controller at random moments, so many milliseconds apart, and starts it again each time at once. Returns
    /// how many of the kills met work under way.
    pub(crate) async fn kill_at_random(
        &self,
        kills: usize,
        apart: Range<u64>,
        works: impl AsyncFn() -> bool,
    ) -> usize {
        let seed = SystemTime::UNIX_EPOCH.elapsed().expect("a time").subsec_nanos();
        println!("seed {seed}");
        let mut random = u64::from(seed);
        let mut met = 0;
        for _ in 0..kills {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let pause = apart.start + (random >> 33) % (apart.end - apart.start);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.kill_controller();
            met += usize::from(works().await);
            self.spawn_controller();
        }
        met
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
        self.audit_about("")
    }

    /// Those answered requests whose lines in the log hold this text.
    pub(crate) fn audit_about(&self, what: &str) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(self.cluster.audit_log()).expect("an audit log");
        // The last line may be half written.
        log.lines()
            .filter(|line| line.contains(what))
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn log_file(&self) -> PathBuf {
        self.cluster.state_dir().join("controller.log")
    }
}

/// The controller's namespace.
fn home<'a>(flags: &[&'a str]) -> &'a str {
    let mut named = flags
        .iter()
        .filter_map(|flag| flag.strip_prefix("--controller-namespace="));
    named.next().unwrap_or("kubernaut-system")
}

/// Installs what `kubernaut manifests` prints.
pub(crate) async fn install(control_plane: &ControlPlane, flags: &[&str]) {
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
}

pub(crate) async fn all_established(control_plane: &ControlPlane) {
    for name in [
        "workflowexecutions.workflow.kubernaut.io",
        "kubernetesexecutions.kubernetesexecution.kubernaut.io",
        "approvals.workflow.kubernaut.io",
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
