//! A diamond of diamonds whose last step fails: all of it is undone in the right order, whenever the controller dies.
//!
//! Every write of the run, and before, during and after each, would take minutes: a part of them is tried each time, and all of them
//! with KUBERNAUT_EVERY=1.

use std::time::Duration;

use embedded_cluster::{PodHabits, Rbac};
use kubernaut::rehearsal::simulation::{CONTROLLER, CrashPoint, Outcome, PlannedFault, Scenario, simulate};
use serde_json::{Value, json};

use crate::checker::check;
use crate::history::{items, text};
use crate::search::INSTALLED;
use crate::worlds;

/// Steps 1 to 19 in six diamonds one after the other, each with targets of its own where there are as many; step 20 is critical, and
/// its Deployment is not there.
fn diamonds() -> Value {
    let web = |number: u64| format!("web-{}", 1 + number % 4);
    let mut steps = Vec::new();
    for number in 1..=19_u64 {
        let (action, parameters) = match number % 3 {
            0 => (
                "scale-deployment",
                json!({"scaleDeployment": {"namespace": "shop", "deployment": web(number), "replicas": 1 + number % 4}}),
            ),
            1 => (
                "update-configmap",
                json!({"updateConfigMap": {"namespace": "shop", "name": "settings",
                                           "dataUpdates": {format!("key-{}", number % 5): format!("v{number}")}}}),
            ),
            _ => (
                "update-image",
                json!({"updateImage": {"namespace": "shop", "deployment": web(number), "container": "app",
                                       "newImage": format!("example/app:{number}")}}),
            ),
        };
        // One, two beside each other, one, two beside each other ...
        let before = match number {
            1 => vec![],
            _ if number % 3 == 1 => vec![number - 2, number - 1],
            _ if number % 3 == 2 => vec![number - 1],
            _ => vec![number - 2],
        };
        steps.push(
            json!({"stepNumber": number, "name": format!("step-{number}"), "action": action,
                          "parameters": parameters, "dependsOn": before}),
        );
    }
    steps.push(json!({"stepNumber": 20, "name": "fails", "action": "scale-deployment", "dependsOn": [19], "criticalStep": true,
        "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "nothing", "replicas": 1}}}));
    json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
        "metadata": {"name": "diamonds", "namespace": "shop"},
        "spec": {"workflowDefinition": {"name": "diamonds", "version": "1", "steps": steps},
                 "executionStrategy": {"rollbackStrategy": "automatic"}},
    })
}

fn scenario(plan: Vec<PlannedFault>) -> Scenario {
    Scenario {
        installed: INSTALLED.clone(),
        world: Vec::new(),
        runs: vec![diamonds()],
        options: worlds::options(None),
        rbac: Rbac::Evaluate,
        plan,
        pod_run_time: Duration::from_millis(100),
        habits: PodHabits::default(),
        seed: 1,
        patience: Duration::from_mins(60),
        rest: Duration::from_mins(3),
    }
}

/// How many steps were undone.
fn undone(outcome: &Outcome) -> usize {
    let mut workflows = outcome
        .objects
        .iter()
        .filter(|object| object["kind"] == "WorkflowExecution");
    let steps = workflows
        .next()
        .map(|workflow| workflow["status"]["stepStatuses"].clone());
    let steps = steps.unwrap_or_default();
    items(&steps)
        .filter(|step| step["status"] == "rolled_back")
        .count()
}

fn is_counted(kind: &str) -> bool {
    !["Event", "SubjectAccessReview"].contains(&kind)
}

#[test]
fn all_of_a_diamond_of_diamonds_is_undone_whenever_the_controller_dies() {
    let whole = scenario(Vec::new());
    let outcome = simulate(&whole).expect("a run");
    assert_eq!(check(&outcome, &whole), [""; 0]);
    assert_eq!(undone(&outcome), 19);
    let record = outcome.record.iter();
    let writes = record
        .filter(|commit| commit.author.as_ref() == CONTROLLER && is_counted(text(&commit.object["kind"])))
        .count();
    assert!(writes > 120, "{writes} writes");
    let every = std::env::var("KUBERNAUT_EVERY")
        .ok()
        .and_then(|text| text.parse().ok());
    for write in (0..writes).step_by(every.unwrap_or(9)) {
        for crash_point in [CrashPoint::Before, CrashPoint::Committed, CrashPoint::Answered] {
            let crashed = scenario(vec![PlannedFault::Crash {
                write,
                crash_point,
                down: Duration::from_millis(300),
            }]);
            let outcome = simulate(&crashed).expect("a run");
            let found = check(&outcome, &crashed);
            assert!(found.is_empty(), "{crash_point:?} write {write}: {found:#?}");
            assert_eq!(undone(&outcome), 19, "{crash_point:?} write {write}");
        }
    }
}
