//! What a rehearsal changed is told, and nothing else.

use super::world::workflow;
use super::{DEPLOYMENT, WORKFLOW, run, text};

/// What is told of changes, without what varies from run to run.
fn changes(input: &str) -> String {
    let output = run(&["-"], input);
    let said = text(&output.stdout);
    let (_, changed) = said.split_once("\nWhat changed:\n").expect("changes");
    let (changed, _) = changed.split_once("\n\nworkflow ").expect("a verdict");
    changed
        .lines()
        .map(|line| match line.split_once("restarted") {
            Some((before, _)) => format!("{before}restarted..."),
            None => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn each_object_is_told_with_the_lines_that_changed_and_where_they_stand() {
    let two = "{apiVersion: v1, kind: Node, metadata: {name: n1}}\n---\n{apiVersion: v1, kind: Node, metadata: {name: n2}}\n---\n";
    let containers = DEPLOYMENT.replace(
        "{name: web, image: web:1}",
        "{name: proxy, image: proxy:1}, {image: web:1, name: web, env: [{name: A, value: b}]}",
    );
    let steps = workflow(&[
        "action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 2}}",
        "action: update-image, parameters: {updateImage: {namespace: shop, deployment: web, container: web, newImage: 'web:2'}}",
        "action: restart-deployment, parameters: {restartDeployment: {namespace: shop, deployment: web}}",
        "action: cordon-node, parameters: {cordonNode: {nodeName: n1}}",
    ]);
    assert_eq!(
        changes(&format!("{two}{containers}{steps}")),
        "Deployment shop/web
    spec:
  -   replicas: 1
  +   replicas: 2
      template:
        metadata:
  +       annotations:
  +         kubectl.kubernetes.io/restarted...
  +         kubernaut.io/restarted...
        spec:
          containers:
  -         image: web:1
  +         image: web:2
            name: web
Node n1
  + spec:
  +   unschedulable: true
Deployment shop/web: 1 pod replaced, 1 pod added"
    );
}

#[test]
fn a_changed_secret_is_seen_to_be_changed_and_not_shown() {
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: db, namespace: shop}, data: {user: cm9vdA==, password: b2xkLXNlY3JldA==}}\n---\n";
    let steps = workflow(&[
        "action: update-secret, parameters: {updateSecret: {namespace: shop, name: db, dataUpdates: {password: bmV3LXNlY3JldA==, token: dG9rZW4=}}}",
    ]);
    assert_eq!(
        changes(&format!("{secret}{steps}")),
        "Secret shop/db
    data:
  -   password: <masked>
  +   password: <masked, another value>
  +   token: <masked>"
    );
}

#[test]
fn what_is_new_is_shown_as_a_whole_and_pods_are_counted() {
    let input = format!(
        "{DEPLOYMENT}{{apiVersion: v1, kind: Pod, metadata: {{name: alone, namespace: shop}}, spec: {{containers: [{{name: a, image: 'a:1'}}]}}}}\n{}",
        workflow(&[
            "action: delete-pod, parameters: {deletePod: {namespace: shop, podName: alone}}",
            "action: restart-pod, parameters: {restartPod: {namespace: shop, selector: app=web}}",
            "action: apply-manifest, parameters: {custom: {actionType: apply-manifest, config: {manifest: '{apiVersion: v1, kind: ConfigMap, metadata: {name: conf, namespace: shop}, data: {a: z}}'}}}",
        ])
    );
    let output = run(&["-", "--apply-manifest-kinds=ConfigMap"], &input);
    let said = text(&output.stdout);
    let told = "
What changed:
ConfigMap shop/conf: created
  + apiVersion: v1
  + data:
  +   a: z
  + kind: ConfigMap
  + metadata:
  +   name: conf
  +   namespace: shop
Deployment shop/web: 1 pod replaced
Pod shop/alone: deleted
";
    assert!(said.contains(told), "{said}");
}

#[test]
fn a_run_that_changed_nothing_says_so() {
    let scaled = WORKFLOW
        .split("    - stepNumber: 2")
        .next()
        .expect("the first step");
    let output = run(
        &["-"],
        &format!("{}{scaled}", DEPLOYMENT.replace("replicas: 1", "replicas: 3")),
    );
    let said = text(&output.stdout);
    assert!(said.contains("\nNothing in the world has changed.\n"), "{said}");
}
