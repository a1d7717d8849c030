//! A testbed that runs in the background.

use std::path::Path;
use std::process::{Command, Output};

fn testbed(verb: &str, state: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubernaut-testbed"))
        .args([verb, "--state"])
        .arg(state)
        .args(more)
        .output()
        .expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn one_in_the_background_is_found_by_others_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    assert_eq!(testbed("env", &state, &[]).status.code(), Some(1));

    let started = testbed("start", &state, &["--fake-nodes=1"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    let lines = text(&started.stdout);
    let kubeconfig = lines
        .lines()
        .find_map(|line| line.strip_prefix("export KUBECONFIG="))
        .expect("the kubeconfig");
    assert!(Path::new(kubeconfig).exists());
    let again = testbed("start", &state, &[]);
    assert!(text(&again.stderr).contains("already up"), "{again:?}");
    assert_eq!(again.stdout, started.stdout);
    assert_eq!(testbed("env", &state, &[]).stdout, started.stdout);

    assert!(testbed("stop", &state, &[]).status.success());
    assert!(!state.exists());
    assert!(testbed("stop", &state, &[]).status.success());
    assert_eq!(testbed("env", &state, &[]).status.code(), Some(1));
}

#[test]
fn one_that_does_not_start_says_why_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let started = testbed("start", &state, &["--fake-nodes=many"]);
    assert_eq!(started.status.code(), Some(1));
    assert!(
        text(&started.stderr).contains("invalid value 'many'"),
        "{started:?}"
    );
    assert!(!state.exists());
}
