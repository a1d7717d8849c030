//! `kubernaut simulate` as a person meets it: the program, its words and its exit codes.

use serde_json::Value;

use crate::rehearse::{program, text};

const SAMPLE: &str = "deploy/samples/scale-and-restart.yaml";

/// Standard output of a simulation that found all well.
fn simulated(arguments: &[&str]) -> String {
    let output = program("simulate", arguments, "");
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{errors}");
    out
}

fn report(arguments: &[&str]) -> Value {
    serde_json::from_str(&simulated(&[arguments, &["--output=json"]].concat())).expect("JSON")
}

#[test]
fn the_same_seeds_say_the_same() {
    let say = || simulated(&[SAMPLE, "--seeds=5..13"]);
    assert_eq!(say(), say());
}

#[test]
fn what_only_delays_or_repeats_calls_changes_no_end() {
    let report = report(&[SAMPLE, "--seeds=25", "--faults=api,watches,crashes"]);
    let outcomes = report["outcomes"].as_array().expect("outcomes");
    assert_eq!(outcomes.len(), 1, "{report:#}");
    assert_eq!(outcomes[0]["runs"], 25);
    assert_eq!(outcomes[0]["ends"], report["withoutFaults"]["ends"]);
    assert_eq!(outcomes[0]["ends"][0]["outcome"], "success");
    assert_eq!(report["notWell"], serde_json::json!([]));
}

#[test]
fn an_end_of_its_own_has_an_example_that_can_be_repeated() {
    let flags = [SAMPLE, "--faults=pods,strangers"];
    let told = simulated(&[&flags[..], &["--seeds=25"]].concat());
    let report = report(&[&flags[..], &["--seeds=25"]].concat());
    let outcomes = report["outcomes"].as_array().expect("outcomes");
    let other = outcomes
        .iter()
        .find(|outcome| outcome["ends"][0]["phase"] == "failed")
        .expect("one that failed");
    let seed = other["seeds"][0].as_u64().expect("a seed");
    assert!(
        told.contains(&format!("for example with --seed {seed}:")),
        "{told}"
    );
    let story = simulated(&[&flags[..], &[&format!("--seed={seed}")]].concat());
    for wrong in other["wrongInFirst"].as_array().expect("what went wrong") {
        let wrong = wrong.as_str().expect("words");
        assert!(told.contains(wrong) && story.contains(wrong), "{wrong}: {story}");
    }
    for words in [
        "What went wrong:",
        "executing",
        "What changed:",
        "workflow shop/checkout-under-load: failed",
    ] {
        assert!(story.contains(words), "{words}: {story}");
    }
}

#[test]
fn a_simulation_says_first_and_last_that_no_cluster_was_changed() {
    let told = simulated(&[SAMPLE, "--seeds=2"]);
    for line in [told.lines().next(), told.lines().next_back()] {
        assert!(
            line.is_some_and(|line| line.contains("No cluster was changed")),
            "{told}"
        );
    }
}

const ONE_STEP: &str = "deploy/samples/memory-leak-restart.yaml";

/// Of 40 runs that could have one fault of the step's only Job, about half have one, and each of those meets it.
#[test]
fn only_what_took_effect_is_drawn_and_counted() {
    let report = report(&[ONE_STEP, "--faults=pods", "--most=1", "--seeds=40"]);
    let each = report["each"].as_array().expect("each run");
    let wrong: Vec<&str> = each
        .iter()
        .filter_map(|run| run["wentWrong"][0].as_str())
        .collect();
    assert!((12..=28).contains(&wrong.len()), "{wrong:#?}");
    assert_eq!(report["tookEffect"], wrong.len());
    assert!(wrong.iter().all(|words| words.contains("step 1 (")), "{wrong:#?}");
    // What makes a Job start late or end twice is seen in the run: it took longer than the others, or had more attempts.
    let others = each.iter().filter(|run| run["wentWrong"][0].is_null());
    assert!(others.into_iter().all(|run| run["success"] == true), "{report:#}");
}

#[test]
fn a_node_that_stays_cordoned_is_told_in_words_with_the_step_that_was_skipped() {
    let sample = "deploy/samples/node-maintenance.yaml";
    let flags = [sample, "--faults=pods,webhooks,budgets", "--seeds=20"];
    let report = report(&flags);
    let left = report["leftBehind"].as_array().expect("what is left");
    let node: Vec<&Value> = left
        .iter()
        .filter(|left| left["what"] == "node worker-2 stays cordoned")
        .collect();
    let [node] = node.as_slice() else {
        panic!("{report:#}")
    };
    let runs = node["runs"].as_u64().expect("a number");
    assert!(runs > 1, "{report:#}");
    // Each of these runs is one in which the last step did not complete, and no other.
    let seeds = node["seeds"].as_array().expect("seeds");
    assert_eq!(seeds.len() as u64, runs);
    for run in report["each"].as_array().expect("each") {
        let left = run["leftBehind"].to_string().contains("worker-2 stays cordoned");
        assert_eq!(left, seeds.contains(&run["seed"]), "{run:#}");
        assert!(!(left && run["success"] == true), "{run:#}");
    }
    let told = simulated(&flags);
    let words = format!("in {runs} of 20 runs node worker-2 stays cordoned: ");
    assert!(told.contains(&words), "{told}");
    assert!(
        told.contains("step 4 (uncordon) is skipped, because step "),
        "{told}"
    );
    assert!(told.contains("Most fragile: step "), "{told}");
}

#[test]
fn a_fault_that_is_named_meets_its_step() {
    let node = "deploy/samples/node-maintenance.yaml";
    for (sample, fault, words) in [
        (
            SAMPLE,
            "image of step 3 never starts",
            "the rollout of Deployment shop/checkout is not complete",
        ),
        (SAMPLE, "readiness of step new-pods never comes", "step 3"),
        (
            SAMPLE,
            "readiness of step 3 is slow",
            "workflow shop/checkout-under-load: ",
        ),
        (SAMPLE, "HPA takes back step more-replicas", "step 1"),
        (SAMPLE, "quota is full at step 3", "step 3"),
        (SAMPLE, "somebody changes the target of step 3", "step 3"),
        (SAMPLE, "webhook refuses step 2", "admission webhook"),
        (SAMPLE, "pod of step 1 fails", "EOF"),
        (node, "budget blocks step 2", "node worker-2 stays cordoned"),
        (
            node,
            "webhook refuses step uncordon",
            "node worker-2 stays cordoned",
        ),
    ] {
        let told = simulated(&[sample, "--fault", fault]);
        assert!(!told.contains("- nothing"), "{fault}: {told}");
        assert!(told.contains(words), "{fault}: {told}");
    }
    for (fault, words) in [
        ("the moon is full", "image of step 1 never starts"),
        (
            "image of step 9 never starts",
            "there is step 1 (more-replicas), step 2",
        ),
        ("budget blocks step 2", "it evicts no pods. What can: "),
        ("HPA takes back step 3", "it scales nothing"),
    ] {
        let output = program("simulate", &[SAMPLE, "--fault", fault], "");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(words), "{words:?} is not in: {errors}");
    }
    let help = text(&program("simulate", &["--help"], "").stdout);
    assert!(help.contains("node of the pod of step 2 is lost"), "{help}");
}

#[test]
fn too_few_successes_fail_for_ci() {
    let code = |flags: &[&str]| {
        let output = program("simulate", &[&[SAMPLE, "--seeds=3"], flags].concat(), "");
        (output.status.code(), text(&output.stderr))
    };
    let refused = ["--fault=webhook refuses step 1", "--fail-below=99"];
    let (ended, errors) = code(&refused);
    assert_eq!(ended, Some(1), "{errors}");
    assert!(
        errors.contains("0 of 3 runs succeeded (0.0%), fewer than --fail-below=99"),
        "{errors}"
    );
    assert_eq!(code(&["--faults=watches", "--fail-below=99%"]).0, Some(0));
    assert_eq!(code(&["--fail-below=101"]).0, Some(2));
}

#[test]
#[cfg(unix)]
fn ctrl_c_tells_what_was_run_until_then() {
    use std::process::{Command, Stdio};
    let child = Command::new(env!("CARGO_BIN_EXE_kubernaut"))
        .args(["simulate", ONE_STEP, "--seeds=1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    std::thread::sleep(std::time::Duration::from_secs(8));
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.expect("kill").success());
    let output = child.wait_with_output().expect("ended");
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{told}{}", text(&output.stderr));
    assert!(
        told.contains("Stopped after ") && told.contains(" of 1000000 runs."),
        "{told}"
    );
    assert!(told.contains("How long it takes: "), "{told}");
}

#[test]
fn every_sample_always_ends_and_leaves_nothing_behind() {
    for entry in std::fs::read_dir("deploy/samples").expect("the samples") {
        let path = entry.expect("a file").path();
        let sample = path.to_str().expect("a path");
        let report = report(&[
            sample,
            "--seeds=6",
            "--apply-manifest-kinds=networking.k8s.io/NetworkPolicy",
        ]);
        assert_eq!(report["runs"], 6, "{sample}");
        assert_eq!(report["notWell"], serde_json::json!([]), "{sample}");
        assert!(report["withoutFaults"]["seconds"].is_number(), "{sample}");
    }
}

#[test]
fn values_of_secrets_are_not_printed_by_a_simulation() {
    let sample = "deploy/samples/rotate-secret.yaml";
    let manifest = std::fs::read_to_string(sample).expect("the sample");
    let values: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("password:"))
        .map(|value| value.split('#').next().unwrap_or_default().trim())
        .collect();
    assert!(!values.is_empty(), "the sample sets a password");
    for flags in [
        &["--seeds=10"][..],
        &["--seed=3"],
        &["--seeds=5", "--output=json"],
    ] {
        let told = simulated(&[&[sample], flags].concat());
        for value in &values {
            assert!(!told.contains(value), "{told}");
        }
    }
}

#[test]
fn bad_input_is_refused_before_anything_is_simulated() {
    for (arguments, words) in [
        (&["--seeds=0", SAMPLE][..], "there is no seed in it"),
        (&["--seeds=9..3", SAMPLE], "there is no seed in it"),
        (&["--seeds=2", "--seed=7", SAMPLE], "cannot be used with"),
        (&["--faults=gremlins", SAMPLE], "[possible values: api, slow"),
        (&["--most=0", SAMPLE], "0 is not in 1..=100"),
        (&["missing.yaml"], "missing.yaml"),
        (&[], "<FILE>"),
    ] {
        let output = program("simulate", arguments, "");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(words), "{words:?} is not in: {errors}");
        assert!(output.stdout.is_empty());
    }
}
