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
      timeout: 1m
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
        "the rollout does not progress",
        "to do: the change was made, but its pods do not become ready",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let other = run(&["-", "--bad-image=app:3"], WORKFLOW);
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
    // The wait is shown with its time.
    assert!(told.contains(" 92.520s  workflow shop/fix  completed"), "{told}");
    let (code, told) = ended("20m");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("verification_failed"), "{told}");
    let (code, _) = ended("soon");
    assert_eq!(code, Some(2));
}
