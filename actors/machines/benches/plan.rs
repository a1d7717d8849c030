//! Planning is done at once, while other workflows wait: 100 steps must take far less than a millisecond.

use divan::Bencher;
use kubernaut_crds::WorkflowExecution;
use kubernaut_machines::Settings;
use kubernaut_machines::graph::Graph;
use kubernaut_machines::plan::plan;
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// Steps that each wait for up to four earlier ones, the same for the same seed.
fn workflow(steps: u64, seed: u64) -> WorkflowExecution {
    // Knuth's MMIX generator; its upper bits are the good ones.
    let mut state = seed;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let steps: Vec<Value> = (1..=steps)
        .map(|number| {
            let depends_on: Vec<u64> = (0..random(5)).map(|_| 1 + random(number)).filter(|on| *on < number).collect();
            json!({
                "stepNumber": number,
                "name": format!("step-{number}"),
                "action": "scale-deployment",
                "parameters": {"scaleDeployment": {"namespace": "production", "deployment": "web", "replicas": 3}},
                "timeout": "1m30s",
                "dependsOn": depends_on,
            })
        })
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "workflow.kubernaut.io/v1",
        "kind": "WorkflowExecution",
        "metadata": {"name": "fix", "namespace": "production", "uid": "uid-of-workflow"},
        "spec": {"workflowDefinition": {"name": "fix", "version": "1", "steps": steps}},
    }))
    .expect("a workflow")
}

#[divan::bench(args = [10, 100])]
fn plan_a_random_workflow(bencher: Bencher, steps: u64) {
    let we = workflow(steps, 42);
    let settings = Settings::default();
    bencher.bench(|| plan(&we, &settings).expect("a plan"));
}

#[divan::bench(args = [10, 100])]
fn order_a_random_graph(bencher: Bencher, steps: u64) {
    let definition = workflow(steps, 42).spec.workflow_definition;
    bencher.bench(|| Graph::new(&definition.steps, None).expect("a graph"));
}

/// Steps that each apply a manifest that ends so.
fn applying(steps: u64, tail: &str) -> WorkflowExecution {
    let manifest =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mine, namespace: production}}\n{tail}");
    let step = |number: u64| {
        json!({"stepNumber": number, "name": format!("step-{number}"), "action": "apply-manifest",
               "parameters": {"custom": {"actionType": "apply-manifest", "config": {"manifest": manifest}}}})
    };
    let mut we = workflow(1, 42);
    let steps: Vec<Value> = (1..=steps).map(step).collect();
    we.spec.workflow_definition.steps = serde_json::from_value(json!(steps)).expect("steps");
    we
}

/// Each kilobyte stands for 120,000 values.
#[divan::bench(args = [false, true])]
fn refuse_a_hundred_alias_bombs(bencher: Bencher, allowed: bool) {
    let keys: Vec<String> = (0..100).map(|number| format!("k{number}: v")).collect();
    let times = |alias: &str, count: usize| vec![alias; count].join(",");
    let (few, many) = (times("*a", 35), times("*b", 34));
    let we = applying(
        100,
        &format!("a: &a {{{}}}\nb: &b [{few}]\nc: [{many}]\n", keys.join(",")),
    );
    let settings = Settings {
        apply_manifest_kinds: allowed.then(|| "ConfigMap".to_owned()).into_iter().collect(),
        ..Settings::default()
    };
    bencher.bench(|| plan(&we, &settings).expect_err("refused"));
}

/// As many values as 256 KiB can hold.
#[divan::bench]
fn plan_a_hundred_dense_manifests(bencher: Bencher) {
    let we = applying(100, &format!("data: [{}]\n", vec!["1"; 1200].join(",")));
    let settings = Settings {
        apply_manifest_kinds: vec!["ConfigMap".to_owned()],
        ..Settings::default()
    };
    bencher.bench(|| plan(&we, &settings).expect("a plan"));
}
