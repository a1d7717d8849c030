//! `kubernaut rehearse` as a person meets it: the program, its words and its exit codes.

mod changes;
mod failures;
mod for_real;
mod hints;
mod input;
mod pods;
mod shown;
mod told;
mod world;
mod yaml;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub(crate) fn run(arguments: &[&str], input: &str) -> Output {
    program("rehearse", arguments, input)
}

pub(crate) fn program(command: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubernaut"))
        .arg(command)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut stdin = child.stdin.take().expect("standard input");
    // A program that refuses its flags ends without having read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("ended")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web:1}]}
---
";

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
      name: scale
      action: scale-deployment
      timeout: 2m
      parameters:
        scaleDeployment: {namespace: shop, deployment: web, replicas: 3}
    - stepNumber: 2
      name: restart
      action: restart-deployment
      dependsOn: [1]
      parameters:
        restartDeployment: {namespace: shop, deployment: web}
";

#[test]
fn the_sample_completes_in_an_instant_and_says_so() {
    let output = run(&["deploy/samples/scale-and-restart.yaml"], "");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(
        said.contains("rights are not checked in this rehearsal"),
        "{said}"
    );
    assert!(
        said.contains("workflow shop/checkout-under-load: completed, success"),
        "{said}"
    );
    // The end of each step is told, the last one's too, and then that of the workflow.
    assert_eq!(said.matches("  completed  ").count(), 7, "{said}");
    let (told, _) = said.split_once("\n\n").expect("an empty line before the verdict");
    let last = told.lines().last().unwrap_or_default();
    assert!(
        last.contains("workflow shop/checkout-under-load  completed"),
        "{said}"
    );
}

#[test]
fn a_workflow_that_fails_ends_with_one_and_a_reason() {
    let other = DEPLOYMENT.replace("name: web, namespace", "name: other, namespace");
    let output = run(&["-"], &format!("{other}{WORKFLOW}"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
    assert!(said.contains("deployment/shop/web does not exist"), "{said}");
    assert!(said.contains("step 2   restart  skipped"), "{said}");
}

#[test]
fn json_and_yaml_are_one_list_of_every_object_in_its_final_state() {
    let input = format!("{DEPLOYMENT}{WORKFLOW}");
    let output = run(&["-", "--output", "json"], &input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    assert_eq!(list["kind"], "List");
    let find = |kind: &str, name: &str| {
        let items = list["items"].as_array().expect("items");
        items
            .iter()
            .find(|item| item["kind"] == kind && item["metadata"]["name"] == name)
            .cloned()
            .expect(name)
    };
    assert_eq!(find("Deployment", "web")["spec"]["replicas"], 3);
    assert_eq!(find("WorkflowExecution", "fix")["status"]["phase"], "completed");
    assert_eq!(
        find("KubernetesExecution", "fix-step-2")["status"]["phase"],
        "completed"
    );
    let output = run(&["-", "--output", "yaml"], &input);
    let yaml: Value = serde_saphyr::from_str(&text(&output.stdout)).expect("YAML and nothing else");
    assert_eq!(yaml["kind"], "List");
}

#[test]
fn values_of_secrets_are_not_printed() {
    let input = r#"
apiVersion: v1
kind: Secret
metadata:
  name: db
  namespace: shop
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: '{"data":{"password":"b2xkLXNlY3JldA=="}}'
data: {password: b2xkLXNlY3JldA==}
---
apiVersion: workflow.kubernaut.io/v1
kind: WorkflowExecution
metadata: {name: rotate, namespace: shop}
spec:
  workflowDefinition:
    name: rotate
    version: v1
    steps:
    - stepNumber: 1
      name: rotate
      action: update-secret
      parameters:
        updateSecret: {namespace: shop, name: db, dataUpdates: {password: bmV3LXNlY3JldA==}}
"#;
    for form in ["text", "json", "yaml"] {
        let output = run(&["-", "--log-level", "debug", "--output", form], input);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let all = text(&output.stdout) + &text(&output.stderr);
        for secret in ["bmV3LXNlY3JldA==", "new-secret", "b2xkLXNlY3JldA=="] {
            assert!(!all.contains(secret), "{form} shows {secret}");
        }
    }
}

#[test]
fn rights_count_when_the_files_have_any() {
    let rbac = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: nothing, namespace: shop}
rules: []
---
";
    let output = run(&["-"], &format!("{rbac}{DEPLOYMENT}{WORKFLOW}"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("rights are not checked"), "{said}");
    assert!(
        said.contains("ServiceAccount shop/default may not get deployments in group apps named web"),
        "{said}"
    );

    assert!(
        said.contains("workflow shop/fix: failed, insufficient_permissions\n"),
        "{said}"
    );
    // Once as it happens, and once in the verdict.
    assert_eq!(said.matches("ServiceAccount shop/default").count(), 2, "{said}");

    let grant = "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: fixer, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: default, namespace: shop}]
---
";
    let output = run(&["-"], &format!("{grant}{DEPLOYMENT}{WORKFLOW}"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn an_execution_made_by_hand_runs_too() {
    let execution = "
apiVersion: kubernetesexecution.kubernaut.io/v1
kind: KubernetesExecution
metadata: {name: by-hand, namespace: shop}
spec:
  action: scale-deployment
  approvalReceived: true
  parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 2}}
";
    let output = run(&["-"], &format!("{DEPLOYMENT}{execution}"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(said.contains("execution shop/by-hand: completed"), "{said}");
}

#[test]
fn the_controllers_flags_count() {
    let input = format!(
        "{DEPLOYMENT}{}",
        WORKFLOW.replacen("timeout: 2m", "targetCluster: elsewhere", 1)
    );
    let output = run(&["-", "--cluster-name", "here"], &input);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("\"elsewhere\" is not this cluster, \"here\""),
        "{}",
        text(&output.stderr)
    );
    let output = run(&["-", "--cluster-name", "elsewhere"], &input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn kinds_that_the_files_define_are_known() {
    let widget = "
apiVersion: example.com/v1
kind: Widget
metadata: {name: w, namespace: shop}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
";
    let output = run(&["-"], &format!("{widget}{DEPLOYMENT}{WORKFLOW}"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for form in ["text", "json", "yaml"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kubernaut"))
            .args([
                "rehearse",
                "deploy/samples/scale-and-restart.yaml",
                "--output",
                form,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(0), "{form}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("error"), "{form}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_result_that_can_t_be_written_is_a_failure() {
    for form in ["text", "json", "yaml"] {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full");
        let output = Command::new(env!("CARGO_BIN_EXE_kubernaut"))
            .args([
                "rehearse",
                "deploy/samples/scale-and-restart.yaml",
                "--output",
                form,
            ])
            .stdout(full)
            .output()
            .expect("the program");
        assert_eq!(output.status.code(), Some(1), "{form}");
        assert!(text(&output.stderr).contains("can't be written"), "{form}");
    }
}

/// A person does not wait for a rehearsal: some 0.3 s in a build without optimisation, on a machine with nothing else to do.
/// The limit allows for one that has; the fastest of ten counts, and all are printed.
#[test]
fn five_steps_take_a_moment() {
    let steps = world::workflow(&[
        "action: cordon-node, parameters: {cordonNode: {nodeName: n7}}",
        "action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 5}}",
        "action: update-configmap, parameters: {updateConfigMap: {namespace: shop, name: conf, dataUpdates: {timeout: 5s}}}",
        "action: restart-deployment, parameters: {restartDeployment: {namespace: shop, deployment: web}}",
        "action: uncordon-node, parameters: {uncordonNode: {nodeName: n7}}",
    ]);
    let mut took: Vec<std::time::Duration> = (0..10)
        .map(|_| {
            let begun = std::time::Instant::now();
            assert_eq!(run(&["-"], &steps).status.code(), Some(0));
            begun.elapsed()
        })
        .collect();
    took.sort();
    println!("a rehearsal of five steps took {took:.0?}");
    let fastest = took.first().copied().unwrap_or_default();
    assert!(fastest < std::time::Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_hundred_steps_are_enough() {
    let step = |number: usize| {
        format!(
            "    - {{stepNumber: {number}, name: s{number}, action: cordon-node, parameters: {{cordonNode: {{nodeName: n}}}}}}\n"
        )
    };
    let head = WORKFLOW.split("    - stepNumber: 1").next().expect("a head");
    let steps: String = (1..=101).map(step).collect();
    input::refused_input(&format!("{head}{steps}"), &["100"]);
}

/// The design document's own example, step 2 of payment-api-workflow, in the embedded cluster. The same is shown on a
/// real control plane.
#[test]
fn the_example_of_the_design_gives_the_execution_that_the_design_shows() {
    let input = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: payment-api, namespace: production}
spec:
  replicas: 3
  selector: {matchLabels: {app: payment-api}}
  template:
    metadata: {labels: {app: payment-api}}
    spec: {containers: [{name: api, image: payment-api:1}]}
---
apiVersion: workflow.kubernaut.io/v1
kind: WorkflowExecution
metadata: {name: payment-api-workflow, namespace: production}
spec:
  workflowDefinition:
    name: payment-api
    version: v1
    steps:
    - stepNumber: 1
      name: restart
      action: restart-deployment
      parameters:
        restartDeployment: {deployment: payment-api, namespace: production}
    - stepNumber: 2
      name: scale-deployment
      action: scale-deployment
      targetCluster: production-cluster
      parameters:
        scaleDeployment: {deployment: payment-api, namespace: production, replicas: 5}
      criticalStep: false
      maxRetries: 3
      timeout: 5m
      dependsOn: [1]
";
    let output = run(
        &["-", "--cluster-name", "production-cluster", "--output", "json"],
        input,
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = list["items"].as_array().expect("items");
    let find = |kind: &str, name: &str| {
        items
            .iter()
            .find(|item| item["kind"] == kind && item["metadata"]["name"] == name)
            .expect(name)
    };
    let workflow = find("WorkflowExecution", "payment-api-workflow");
    let uid = &workflow["metadata"]["uid"];
    let execution = find("KubernetesExecution", "payment-api-workflow-step-2");
    assert_eq!(execution["apiVersion"], "kubernetesexecution.kubernaut.io/v1");
    assert_eq!(execution["metadata"]["namespace"], "production");
    let mut owner = execution["metadata"]["ownerReferences"][0].clone();
    // Not in the design's YAML: an addition.
    owner
        .as_object_mut()
        .expect("an owner")
        .remove("blockOwnerDeletion");
    let wanted = serde_json::json!({"apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
        "name": "payment-api-workflow", "uid": uid, "controller": true});
    assert_eq!(owner, wanted);
    let mut spec = execution["spec"].clone();
    spec.as_object_mut().expect("a spec").remove("serviceAccountName");
    let wanted = serde_json::json!({
        "workflowExecutionRef": {"name": "payment-api-workflow", "namespace": "production", "uid": uid},
        "stepNumber": 2,
        "action": "scale-deployment",
        "parameters": {"scaleDeployment": {"deployment": "payment-api", "namespace": "production", "replicas": 5}},
        "targetCluster": "production-cluster",
        "maxRetries": 3,
        "timeout": "5m",
        "approvalReceived": true,
    });
    assert_eq!(spec, wanted);
    let transitions = execution["status"]["phaseTransitions"]
        .as_array()
        .expect("transitions");
    let phases: Vec<&str> = transitions
        .iter()
        .filter_map(|transition| transition["phase"].as_str())
        .collect();
    assert_eq!(
        phases,
        [
            "validating",
            "validated",
            "executing",
            "rollback_ready",
            "completed"
        ]
    );
    assert_eq!(find("Deployment", "payment-api")["spec"]["replicas"], 5);
}

#[test]
fn what_needs_an_approval_is_taken_as_approved_and_told() {
    let asking = WORKFLOW.replacen(
        "spec:\n",
        "spec:\n  executionStrategy: {approvalRequired: true}\n",
        1,
    );
    let waiting = "
---
apiVersion: kubernetesexecution.kubernaut.io/v1
kind: KubernetesExecution
metadata: {name: by-hand, namespace: shop}
spec:
  action: scale-deployment
  parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 2}}
";
    let output = run(&["-"], &format!("{DEPLOYMENT}{asking}{waiting}"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    let told = "Taken as approved, where in a cluster somebody has to create an Approval first: \
                WorkflowExecution shop/fix, KubernetesExecution shop/by-hand.";
    assert!(said.contains(told), "{said}");
    let required = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {kubernaut.io/approval: required}}
---
";
    let output = run(&["-"], &format!("{required}{DEPLOYMENT}{WORKFLOW}"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(said.contains("Taken as approved"), "{said}");
    let output = run(&["-"], &format!("{DEPLOYMENT}{WORKFLOW}"));
    assert!(!text(&output.stdout).contains("Taken as approved"));
}
