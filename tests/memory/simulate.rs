//! `kubernaut simulate` as a person meets it: the program, its words and its exit codes.

use serde_json::Value;

use crate::run::{program, text};

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
    let say = || simulated(&[SAMPLE, "--seeds=5..25"]);
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
        told.contains(&format!("for example with --seeds {seed}..{}", seed + 1)),
        "{told}"
    );
    let story = simulated(&[&flags[..], &[&format!("--seeds={seed}..{}", seed + 1)]].concat());
    for planned in other["wrongInFirst"].as_array().expect("a plan") {
        let planned = planned.as_str().expect("words");
        assert!(
            told.contains(planned) && story.contains(planned),
            "{planned}: {story}"
        );
    }
    for words in [
        "What goes wrong:",
        "executing",
        "What changed:",
        "workflow shop/checkout-under-load: failed",
    ] {
        assert!(story.contains(words), "{words}: {story}");
    }
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
        &["--seeds=3..4"],
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
