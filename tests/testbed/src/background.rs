//! A testbed in the background: started, found again and stopped by other processes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kubernaut_testbed::TestbedError;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::io;

/// How long one that was asked to stop has to take everything away.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A directory with at most one testbed: that which holds the lock on the file in it. The lock ends with the process, so that a
/// number of a process that has ended, and may be another's by now, is never asked for.
pub(crate) struct Background {
    directory: PathBuf,
}

impl Background {
    pub(crate) fn new(directory: &Path) -> Result<Self, TestbedError> {
        let directory = std::path::absolute(directory).map_err(|e| io("naming the state directory", e))?;
        Ok(Self { directory })
    }

    /// Starts `kubernaut-testbed up` with `arguments`, unless one is up, and returns when it is ready. True when it was
    /// started by this call.
    pub(crate) async fn start(&self, arguments: &[String]) -> Result<bool, TestbedError> {
        std::fs::create_dir_all(&self.directory).map_err(|e| io("making the state directory", e))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(self.lock())
            .map_err(|e| io("opening the lock", e))?;
        if !is_free(&lock) {
            // Another may just be starting it.
            self.wait_until_ready(|| Ok(is_free(&lock))).await?;
            return Ok(false);
        }
        lock.set_len(0).map_err(|e| io("emptying the lock", e))?;
        self.remove_rest()?;
        let log = File::create(self.log()).map_err(|e| io("opening the log", e))?;
        let also_log = log.try_clone().map_err(|e| io("opening the log", e))?;
        let kept = lock.try_clone().map_err(|e| io("keeping the lock", e))?;
        let program = std::env::current_exe().map_err(|e| io("finding this program", e))?;
        // It holds the lock as its standard input, and is out of reach of this terminal's signals.
        let mut child = std::os::unix::process::CommandExt::process_group(&mut Command::new(program), 0)
            .arg("up")
            .arg("--state")
            .arg(self.state())
            .args(arguments)
            .stdin(Stdio::from(kept))
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(also_log))
            .spawn()
            .map_err(|e| io("starting the testbed", e))?;
        let mut noted = &lock;
        write!(noted, "{}", child.id()).map_err(|e| io("noting the process", e))?;
        drop(lock);
        let mut ended = || {
            let status = child.try_wait().map_err(|e| io("waiting for the testbed", e))?;
            Ok(status.is_some())
        };
        self.wait_until_ready(&mut ended).await?;
        Ok(true)
    }

    /// Stops it, and takes away what is left. False when none was up.
    pub(crate) async fn stop(&self) -> Result<bool, TestbedError> {
        let Some(pid) = self.pid()? else {
            if self.directory.exists() {
                self.remove_all()?;
            }
            return Ok(false);
        };
        for signal in [Signal::TERM, Signal::KILL] {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
            if self.has_ended().await? {
                break;
            }
        }
        self.remove_all()?;
        Ok(true)
    }

    /// Lines for a shell; `None` when none is up.
    pub(crate) fn environment(&self) -> Result<Option<String>, TestbedError> {
        // The cache is its own: another cluster may have had the same address and other resources.
        let lines = format!(
            "export KUBECONFIG={0}/admin.kubeconfig\nexport KUBECACHEDIR={0}/kubectl-cache",
            self.state().display()
        );
        Ok(self.pid()?.map(|_| lines))
    }

    /// The process that holds the lock.
    fn pid(&self) -> Result<Option<Pid>, TestbedError> {
        let mut lock = match File::open(self.lock()) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("opening the lock", error)),
        };
        if is_free(&lock) {
            return Ok(None);
        }
        let mut text = String::new();
        lock.seek(SeekFrom::Start(0))
            .and_then(|_| lock.read_to_string(&mut text))
            .map_err(|e| io("reading who holds the lock", e))?;
        let pid = text.parse().ok().and_then(Pid::from_raw);
        pid.map(Some).ok_or_else(|| {
            TestbedError::Start("it is just being started by another process: try again".to_owned())
        })
    }

    async fn has_ended(&self) -> Result<bool, TestbedError> {
        for _ in 0..PATIENCE.as_millis() / LOOK_AGAIN.as_millis() {
            if self.pid()?.is_none() {
                return Ok(true);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(false)
    }

    async fn wait_until_ready(
        &self,
        mut ended: impl FnMut() -> Result<bool, TestbedError>,
    ) -> Result<(), TestbedError> {
        while !self.state().join("ready").exists() {
            if ended()? {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                self.remove_all()?;
                return Err(TestbedError::Start(log));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Only what is ours, whatever directory was named.
    fn remove_all(&self) -> Result<(), TestbedError> {
        self.remove_rest()?;
        for file in [self.log(), self.lock()] {
            remove(std::fs::remove_file(file))?;
        }
        // What somebody else put there stays.
        let _ = std::fs::remove_dir(&self.directory);
        Ok(())
    }

    fn remove_rest(&self) -> Result<(), TestbedError> {
        remove(std::fs::remove_dir_all(self.state()))
    }

    fn state(&self) -> PathBuf {
        self.directory.join("control-plane")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }
}

/// Takes the lock, if nobody holds it, until `file` is closed.
fn is_free(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn remove(removed: std::io::Result<()>) -> Result<(), TestbedError> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io("removing what a testbed left", error))
        }
        _ => Ok(()),
    }
}
