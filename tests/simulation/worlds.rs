//! Random worlds and workflows, such that without faults each workflow succeeds.

use std::sync::Arc;

use clap::Parser;
use embedded_cluster::{EmbeddedCluster, EmbeddedOptions};
use jiff::Timestamp;
use kubernaut::config::RunOptions;
use kubernaut::manifests::{self, Installation};
use kubernaut::rehearsal::simulation::SeededRng;
use kubernaut_crds::names;
use kubernaut_machines::Settings;
use serde_json::{Value, json};

/// A secret value, as it is and in base64.
pub(crate) const PLANTED: [&str; 2] = ["planted-secret-value", "cGxhbnRlZC1zZWNyZXQtdmFsdWU="];

/// An installation and the targets. To be made once: definitions take longer to load than a workflow to run.
pub(crate) fn installed() -> EmbeddedCluster {
    let mut objects =
        manifests::objects(&Installation::without_pods(Settings::default())).expect("manifests");
    // They are stored and not evaluated: to store them takes time. Without this one nobody's Approval counts.
    objects.retain(|object| {
        object["metadata"]["name"] == names::APPROVALS_POLICY
            || !object["kind"]
                .as_str()
                .expect("a kind")
                .starts_with("ValidatingAdmission")
    });
    let cluster = EmbeddedCluster::new(EmbeddedOptions {
        now: Arc::new(|| Timestamp::UNIX_EPOCH),
        ..EmbeddedOptions::default()
    });
    objects.extend(targets());
    cluster.load(objects).expect("an installation");
    cluster
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    run: RunOptions,
}

/// The controller's own defaults, with so many Jobs and calls at once where they are given.
pub(crate) fn options(limits: Option<(u64, u64)>) -> RunOptions {
    let mut flags = vec![
        "kubernaut".to_owned(),
        "--controller-namespace=kubernaut-system".to_owned(),
        "--monitoring-window=0s".to_owned(),
    ];
    if let Some((jobs, calls)) = limits {
        flags.extend([
            format!("--max-running-jobs={jobs}"),
            format!("--api-concurrency={calls}"),
        ]);
    }
    Flags::try_parse_from(flags).expect("flags").run
}

/// Two nodes, and what is in namespace shop.
fn targets() -> Vec<Value> {
    let mut objects = Vec::new();
    for node in ["node-1", "node-2"] {
        objects.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}));
    }
    objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "shop"}}));
    for number in 1..=4 {
        let name = format!("web-{number}");
        let labels = json!({"app": name});
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels},
                                  "spec": {"containers": [{"name": "app", "image": "example/app:1"}]}}},
        }));
    }
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "shop"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "shop"}],
    }));
    objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"}, "data": {"a": "1"}}));
    objects.push(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "shop"}, "data": {"k": "b2xk"}}));
    objects
}

/// One or two workflows of up to `most` steps.
pub(crate) fn workflows(most: u64, chance: &mut SeededRng) -> Vec<Value> {
    let number = if chance.one_in(4) { 2 } else { 1 };
    (1..=number)
        .map(|number| {
            let steps = 1 + chance.below(most);
            workflow(&format!("flow-{number}"), steps, chance)
        })
        .collect()
}

/// One of so many steps.
pub(crate) fn workflow(name: &str, steps: u64, chance: &mut SeededRng) -> Value {
    let steps: Vec<Value> = (1..=steps).map(|number| step(number, chance)).collect();
    json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"workflowDefinition": {"name": name, "version": "1", "steps": steps},
                 "executionStrategy": {"rollbackStrategy": "manual", "dryRunFirst": chance.one_in(6)}},
    })
}

/// One of so many steps, none of which waits for another or ends the workflow.
pub(crate) fn abreast(name: &str, steps: u64, chance: &mut SeededRng) -> Value {
    let mut workflow = workflow(name, steps, chance);
    let steps = workflow["spec"]["workflowDefinition"]["steps"].as_array_mut();
    for step in steps.into_iter().flatten() {
        step["dependsOn"] = json!([]);
        step["criticalStep"] = json!(false);
    }
    workflow
}

/// One by eve that waits for one or two people.
pub(crate) fn asking(name: &str, chance: &mut SeededRng) -> Value {
    let mut workflow = abreast(name, 2, chance);
    workflow["metadata"]["annotations"] = json!({names::ANNOTATION_CREATED_BY: "eve"});
    let strategy = &mut workflow["spec"]["executionStrategy"];
    strategy["approvalRequired"] = json!(true);
    strategy["requiredApprovals"] = json!(1 + chance.below(2));
    workflow
}

/// One whose steps can be undone, and are when a critical one fails: the last one does where it shall, since its target is not
/// there. One of its steps may clean up.
pub(crate) fn undone(name: &str, fails: bool, chance: &mut SeededRng) -> Value {
    let steps = 2 + chance.below(4);
    let mut steps: Vec<Value> = (1..=steps).map(|number| reversible(number, chance)).collect();
    let all: Vec<u64> = steps
        .iter()
        .filter_map(|step| step["stepNumber"].as_u64())
        .collect();
    if fails {
        steps.push(json!({"stepNumber": 8, "name": "fails", "action": "scale-deployment", "dependsOn": all, "criticalStep": true,
            "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "nothing", "replicas": 1}}}));
    }
    if chance.one_in(2) {
        let after = if chance.one_in(2) {
            all
        } else {
            vec![*chance.pick(&all)]
        };
        steps.push(json!({"stepNumber": 9, "name": "cleans-up", "action": "update-configmap", "always": true, "dependsOn": after,
            "parameters": {"updateConfigMap": {"namespace": "shop", "name": "settings", "dataUpdates": {"cleaned": "up"}}}}));
    }
    json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"workflowDefinition": {"name": name, "version": "1", "steps": steps},
                 "executionStrategy": {"rollbackStrategy": "automatic"}},
    })
}

/// A workflow that scales, and whose last step fails.
pub(crate) fn scaled(name: &str, chance: &mut SeededRng) -> Value {
    let scale = |number: u64, deployment: &str, replicas: u64| {
        json!({"stepNumber": number, "name": format!("step-{number}"), "action": "scale-deployment", "timeout": "1m",
               "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": deployment, "replicas": replicas}}})
    };
    let mut steps: Vec<Value> = (1..=1 + chance.below(3))
        .map(|number| {
            scale(
                number,
                &format!("web-{}", 1 + chance.below(3)),
                4 + chance.below(4),
            )
        })
        .collect();
    let all: Vec<u64> = (1..).take(steps.len()).collect();
    let mut last = scale(8, "nothing", 1);
    last["dependsOn"] = json!(all);
    last["criticalStep"] = json!(true);
    steps.push(last);
    json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"workflowDefinition": {"name": name, "version": "1", "steps": steps},
                 "executionStrategy": {"rollbackStrategy": "automatic"}},
    })
}

/// A step that can be undone.
fn reversible(number: u64, chance: &mut SeededRng) -> Value {
    let web = format!("web-{}", 1 + chance.below(3));
    let (action, parameters) = match chance.below(4) {
        0 => (
            "scale-deployment",
            json!({"scaleDeployment": {"namespace": "shop", "deployment": web, "replicas": chance.below(4)}}),
        ),
        1 => (
            "update-configmap",
            json!({"updateConfigMap": {"namespace": "shop", "name": "settings", "dataUpdates": {format!("key-{}", chance.below(3)): format!("v{number}")}}}),
        ),
        2 => (
            "update-image",
            json!({"updateImage": {"namespace": "shop", "deployment": web, "container": "app", "newImage": format!("example/app:{}", 2 + chance.below(3))}}),
        ),
        _ => ("cordon-node", json!({"cordonNode": {"nodeName": "node-1"}})),
    };
    let before: Vec<u64> = (1..number).filter(|_| chance.one_in(2)).collect();
    json!({"stepNumber": number, "name": format!("step-{number}"), "action": action, "parameters": parameters,
           "dependsOn": before, "maxRetries": chance.below(2)})
}

fn step(number: u64, chance: &mut SeededRng) -> Value {
    let web = format!("web-{}", 1 + chance.below(3));
    let node = "node-1";
    let (action, parameters) = match chance.below(8) {
        0 | 1 => (
            "scale-deployment",
            json!({"scaleDeployment": {"namespace": "shop", "deployment": web, "replicas": 1 + chance.below(3)}}),
        ),
        2 => (
            "restart-deployment",
            json!({"restartDeployment": {"namespace": "shop", "deployment": web}}),
        ),
        3 => (
            "update-configmap",
            json!({"updateConfigMap": {"namespace": "shop", "name": "settings", "dataUpdates": {format!("key-{number}"): "v"}}}),
        ),
        4 => (
            "update-image",
            json!({"updateImage": {"namespace": "shop", "deployment": web, "container": "app", "newImage": format!("example/app:{}", 2 + chance.below(3))}}),
        ),
        5 => (
            "update-secret",
            json!({"updateSecret": {"namespace": "shop", "name": "keys", "dataUpdates": {"k": PLANTED[1]}}}),
        ),
        6 => (
            "restart-pod",
            // Of a Deployment that nothing else rolls out: it would take pods away meanwhile.
            json!({"restartPod": {"namespace": "shop", "selector": "app=web-4"}}),
        ),
        _ if chance.one_in(2) => ("cordon-node", json!({"cordonNode": {"nodeName": node}})),
        _ => ("uncordon-node", json!({"uncordonNode": {"nodeName": node}})),
    };
    let before: Vec<u64> = (1..number).filter(|_| chance.one_in(2)).collect();
    json!({"stepNumber": number, "name": format!("step-{number}"), "action": action, "parameters": parameters,
           "dependsOn": before, "criticalStep": chance.one_in(3), "maxRetries": chance.below(4)})
}
