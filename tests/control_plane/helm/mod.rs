//! The Helm chart: what helm makes of it, and what it does in a cluster.

mod chart;
mod install;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A path of the repository.
fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn chart_path() -> PathBuf {
    path("deploy/charts/kubernaut")
}

/// What helm says when it is given a text on its standard input; the error is what it complains of.
fn helm(arguments: &[&str], input: &str) -> Result<String, String> {
    let output = run(arguments, input);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn run(arguments: &[&str], input: &str) -> Output {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    let program = HELM.get_or_init(|| {
        let built = Command::new(path("tests/helm/build")).output().expect("a script");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        PathBuf::from(String::from_utf8_lossy(&built.stdout).trim())
    });
    let home = tempfile::tempdir().expect("a directory");
    let mut helm = Command::new(program)
        .args(arguments)
        // Nothing of the person's who runs the tests: neither repositories, plugins nor a cluster.
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("helm runs");
    let mut stdin = helm.stdin.take().expect("a pipe");
    // Less than a pipe holds; one who does not read it has said why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    helm.wait_with_output().expect("helm ends")
}
