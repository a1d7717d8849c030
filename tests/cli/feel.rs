//! What a person's shell and terminal meet: completion, colours, pages, and the name that kubectl gives.

use std::process::Command;

use crate::rehearse::text;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kubernaut");

/// What a shell is offered behind these words.
fn offered(words: &[&str]) -> Vec<String> {
    let output = Command::new(PROGRAM)
        .arg("--")
        .args(words)
        .env("COMPLETE", "fish")
        .env("KUBECONFIG", "/nonexistent")
        .output()
        .unwrap();
    let offered = text(&output.stdout);
    let words = offered.lines().filter_map(|line| line.split('\t').next());
    words.map(str::to_owned).collect()
}

#[test]
fn commands_actions_and_flags_are_offered_and_no_cluster_is_no_error() {
    assert!(offered(&["kubernaut", "re"]).contains(&"retry".to_owned()));
    assert_eq!(offered(&["kubernaut", "new", "drain-"]), ["drain-node"]);
    assert!(offered(&["kubernaut", "lint", "--out"]).contains(&"--output".to_owned()));
    let names = offered(&["kubernaut", "get", ""]);
    assert!(names.iter().all(|name| name.starts_with("--")), "{names:?}");
}

#[test]
fn each_shell_has_its_script() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(PROGRAM)
            .args(["completion", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("kubernaut"), "{shell}");
    }
}

#[test]
fn each_command_has_a_page_an_example_and_its_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .arg("man-pages")
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let help = Command::new(PROGRAM).arg("--help").output().unwrap();
    let help = text(&help.stdout);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() > 25, "{commands:?}");
    for command in commands {
        let page = directory.path().join(format!("kubernaut-{command}.1"));
        assert!(page.is_file(), "{}", page.display());
        // Those for who runs the controller, and of one line.
        if ["controller", "manifests", "policy", "completion"].contains(&command) {
            continue;
        }
        let said = Command::new(PROGRAM).args([command, "--help"]).output().unwrap();
        let said = text(&said.stdout);
        assert!(
            said.contains("Try it: kubernaut ") && said.contains("Exit codes: 0 "),
            "{command}: {said}"
        );
    }
}

#[test]
fn nothing_is_coloured_that_is_not_read_on_a_terminal() {
    for arguments in [
        ["graph", "deploy/samples/scale-and-restart.yaml"].as_slice(),
        &["rehearse", "deploy/samples/scale-and-restart.yaml"],
        &["new", "drain-node"],
        &["--help"],
    ] {
        let output = Command::new(PROGRAM).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        assert!(
            !output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b),
            "{arguments:?}"
        );
    }
}

#[test]
fn kubectl_finds_it_by_its_other_name() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("kubectl-kubernaut");
    std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
    let output = Command::new(&link).args(["get", "--help"]).output().unwrap();
    assert!(
        text(&output.stdout).contains("Usage: kubectl kubernaut get"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn a_cluster_that_is_not_there_is_named_and_ends_with_what_to_do() {
    let output = Command::new(PROGRAM)
        .args(["list"])
        .env("KUBECONFIG", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("/nonexistent") && said.contains("--kubeconfig"),
        "{said}"
    );
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    std::fs::write(
        &config,
        "{apiVersion: v1, kind: Config, current-context: east, clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], \
         contexts: [{name: east, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}",
    )
    .unwrap();
    let output = Command::new(PROGRAM)
        .args(["list"])
        .env("KUBECONFIG", &config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("cluster east (https://127.0.0.1:1/) does not answer"),
        "{said}"
    );
}
