//! Processes of this machine, by their numbers.

use std::fs;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::error::{IoContext, TestbedError};

/// Whether a process runs (stopped or not) and has `ancestor` among its ancestors.
pub(crate) fn runs_below(pid: u32, ancestor: u32) -> bool {
    let Some(process) = Status::read(pid) else {
        return false;
    };
    let mut above = process.parent;
    while above > 1 && above != ancestor {
        above = Status::read(above).map_or(0, |process| process.parent);
    }
    above == ancestor && !process.has_ended()
}

struct Status {
    parent: u32,
    state: char,
    threads: u32,
}

impl Status {
    fn read(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(value.trim())
        };
        Some(Self {
            parent: field("PPid:")?.parse().ok()?,
            state: field("State:")?.chars().next()?,
            threads: field("Threads:")?.parse().ok()?,
        })
    }

    /// The first thread of a killed process may be dead while others still hold its files and its port.
    fn has_ended(&self) -> bool {
        ['Z', 'X'].contains(&self.state) && self.threads <= 1
    }
}

/// Sends a signal, by its name without SIG.
pub(crate) async fn signal(pid: u32, signal: &str) -> Result<(), TestbedError> {
    let pid = pid.to_string();
    let mut command = tokio::process::Command::new("kill");
    output(command.args(["-s", signal, &pid]), b"").await.map(drop)
}

/// Runs a program with this input, and returns its standard output.
pub(crate) async fn output(
    command: &mut tokio::process::Command,
    input: &[u8],
) -> Result<String, TestbedError> {
    command.stdin(Stdio::piped());
    let program = format!("{:?}", command.as_std());
    let context = || format!("running {program}");
    let mut child = spawn(command).context(context)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading all is judged by its exit code.
        let _ = stdin.write_all(input).await;
    }
    outcome(child, program).await
}

/// Runs a program that reads from a file, and returns its standard output.
pub(crate) async fn output_from(
    command: &mut tokio::process::Command,
    input: fs::File,
) -> Result<String, TestbedError> {
    command.stdin(Stdio::from(input));
    let program = format!("{:?}", command.as_std());
    let child = spawn(command).context(|| format!("running {program}"))?;
    outcome(child, program).await
}

fn spawn(command: &mut tokio::process::Command) -> std::io::Result<tokio::process::Child> {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    piped.kill_on_drop(true).spawn()
}

async fn outcome(child: tokio::process::Child, program: String) -> Result<String, TestbedError> {
    let result = child.wait_with_output().await;
    let result = result.context(|| format!("running {program}"))?;
    if result.status.success() {
        return Ok(String::from_utf8_lossy(&result.stdout).into_owned());
    }
    Err(TestbedError::Command {
        program,
        message: String::from_utf8_lossy(&result.stderr).into_owned(),
    })
}
