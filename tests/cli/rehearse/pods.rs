//! Pods that do not do the usual.

use super::{program, run, text};

const WORKFLOW: &str = "
apiVersion: workflow.kubernaut.io/v1
kind: WorkflowExecution
metadata: {name: fix, namespace: shop}
spec:
  workflowDefinition:
    name: fix
    version: v1
    steps:
    - stepNumber: 1
      name: image
      action: update-image
      timeout: 5m
      parameters:
        updateImage: {namespace: shop, deployment: web, container: app, newImage: 'app:2'}
";

#[test]
fn an_image_that_can_t_be_pulled_fails_its_rollout_with_what_to_do() {
    let output = run(&["-", "--bad-image=app:2"], WORKFLOW);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for words in [
        "failed, verification_failed",
        "0 of 3 new pods are ready; 3 old ones still serve. Pod web-",
        "waiting will not change that: ImagePullBackOff: Back-off pulling image",
        "to do: the change was made, but its pods do not become ready",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let other = run(&["-", "--bad-image=app:3"], WORKFLOW);
    assert!(text(&other.stdout).contains("No pod was to run the image app:3 of --bad-image."));
    assert_eq!(other.status.code(), Some(0), "{}", text(&other.stdout));
    let simulated = program(
        "simulate",
        &["-", "--bad-image=app:2", "--seeds=3", "--faults=crashes"],
        WORKFLOW,
    );
    let told = text(&simulated.stdout);
    assert_eq!(simulated.status.code(), Some(0), "it always ends: {told}");
    assert!(
        told.contains("3 workflow shop/fix: failed, verification_failed"),
        "{told}"
    );
}

#[test]
fn pods_that_take_their_time_are_waited_for_until_it_takes_too_long() {
    let ended = |after: &str| {
        let output = run(&["-", "--ready-after", after], WORKFLOW);
        (output.status.code(), text(&output.stdout))
    };
    let (code, told) = ended("90s");
    assert_eq!(code, Some(0), "{told}");
    // One pod more than the three may be there, so they are replaced one after the other; the wait is shown with its time.
    assert!(
        told.contains(" 272.520s  workflow shop/fix  monitoring"),
        "{told}"
    );
    let (code, told) = ended("20m");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(" 300.000s  workflow shop/fix  failed"), "{told}");
    assert!(told.contains("needs a longer timeout"), "{told}");
    let (code, _) = ended("soon");
    assert_eq!(code, Some(2));
}

/// The second at which the workflow is seen to end, from the lines of its phases.
fn second_of_the_end(told: &str) -> f64 {
    let line = told
        .lines()
        .rfind(|line| line.contains("s  workflow ") && line.contains("  failed"))
        .unwrap_or_else(|| panic!("it did not fail: {told}"));
    let second = line
        .split_whitespace()
        .next()
        .and_then(|word| word.strip_suffix('s'));
    second.and_then(|second| second.parse().ok()).expect("a time")
}

#[test]
fn an_image_of_the_night_that_can_t_be_pulled_is_known_after_a_minute_and_named_with_its_pod() {
    let sample = "deploy/samples/known-good-image.yaml";
    let text_of = std::fs::read_to_string(sample).expect("the sample");
    let image = text_of
        .lines()
        .find_map(|line| line.split_once("newImage: "))
        .expect("an image")
        .1
        .trim_end_matches('}')
        .to_owned();
    let output = run(&[sample, "--bad-image", &image], "");
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let second = second_of_the_end(&told);
    assert!((60.0..70.0).contains(&second), "{second}: {told}");
    assert!(
        told.contains("ImagePullBackOff") && told.contains("new pods are ready"),
        "{told}"
    );
}

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  progressDeadlineSeconds: 2147483647
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers:
      - {name: proxy, image: 'proxy:1', restartPolicy: Always}
      containers:
      - {name: app, image: 'app:1'}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}}
---";

#[test]
fn a_deployment_without_a_progress_deadline_ends_with_the_timeout_of_its_step() {
    let output = run(&["-", "--ready-after", "24h"], &format!("{WEB}{WORKFLOW}"));
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let second = second_of_the_end(&told);
    assert!((300.0..301.0).contains(&second), "{second}: {told}");
}

#[test]
fn the_image_of_a_native_sidecar_is_set_as_kubectl_sets_it() {
    let workflow = WORKFLOW.replace(
        "container: app, newImage: 'app:2'",
        "container: proxy, newImage: 'proxy:2'",
    );
    let output = run(&["-", "--output", "json"], &format!("{WEB}{workflow}"));
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = list["items"].as_array().expect("items");
    let web = items
        .iter()
        .find(|item| item["kind"] == "Deployment")
        .expect("the Deployment");
    let pod = &web["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"][0]["image"], "proxy:2");
    assert_eq!(pod["initContainers"].as_array().map(Vec::len), Some(1));
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    assert_eq!(pod["containers"][0]["image"], "app:1");
}
