//! The controller as a process beside a cluster.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;

/// The binary as a process, which ends when this value or the test's process does, however hard.
pub(crate) struct Controller {
    pub(crate) pid: u32,
    port: u16,
    /// Its token, as the audit log says it.
    pub(crate) credential: String,
    ended: Arc<OnceLock<ExitStatus>>,
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Controller {
    pub(crate) fn start(mut command: Command, port: u16, log: &Path) -> Self {
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
pub(crate) fn kubernaut() -> PathBuf {
    let other = std::env::var_os("KUBERNAUT_BINARY").map(PathBuf::from);
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_kubernaut").into())
}

pub(crate) fn controller_command(kubeconfig: &Path, port: u16, flags: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command.arg(kubernaut()).arg("controller");
    command.arg("--kubeconfig").arg(kubeconfig);
    command.args([format!("--http-address=127.0.0.1:{port}")]);
    command.args(["--log-format=json"]).args(flags);
    // A test waits for ends, not for what is looked at half a minute after them.
    if !flags.iter().any(|flag| flag.starts_with("--monitoring-window")) {
        command.arg("--monitoring-window=0s");
    }
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
pub(crate) fn credential(kubeconfig: &Path) -> String {
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

pub(crate) fn unused_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

pub(crate) async fn is_ready(port: u16) -> bool {
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
