//! Every way in which a workflow can fail in a rehearsal is explained in words that a person can act on.

use super::world::workflow;
use super::{program, run, text};

const SCALE: &str = "action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 3}}";
const RESTART: &str =
    "action: restart-deployment, parameters: {restartDeployment: {namespace: shop, deployment: web}}";
const DRAIN: &str = "action: drain-node, timeout: 1m, parameters: {drainNode: {nodeName: n1, ignoreDaemonSets: false, deleteLocalData: false}}";
const RESTART_PODS: &str =
    "action: restart-pod, timeout: 1m, parameters: {restartPod: {namespace: shop, selector: app=web}}";
const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'web:1'}], volumes: []}
---
";
const NODES: &str = "{apiVersion: v1, kind: Node, metadata: {name: n1}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}}
---
";
const ALONE: &str = "{apiVersion: v1, kind: Pod, metadata: {name: alone, namespace: shop}, spec: {nodeName: n1, containers: [{name: a, image: 'a:1'}]}}
---
";
const BUDGET: &str = "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: tight, namespace: shop}, spec: {maxUnavailable: 0, selector: {matchLabels: {app: web}}}}
---
";
const CONFIG: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: conf, namespace: shop}, immutable: true, data: {a: x}}
---
";
const NO_RIGHTS: &str = "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: none, namespace: shop}, rules: []}
---
";

/// The world, the steps, and what is said of the failure.
type Case<'a> = (String, &'a [&'a str], &'a [&'a str]);

/// Each fails with exit code 1 and these words; in a simulation it always ends, with the same words.
fn fail(cases: &[Case<'_>]) {
    for (world, steps, words) in cases {
        let input = format!("{world}{}", workflow(steps));
        let flags = ["-", "--apply-manifest-kinds=ConfigMap"];
        let simulated = program(
            "simulate",
            &[&flags[..], &["--seeds=2", "--faults=crashes"]].concat(),
            &input,
        );
        let told = text(&simulated.stdout);
        assert_eq!(
            simulated.status.code(),
            Some(0),
            "{told}{}",
            text(&simulated.stderr)
        );
        for word in *words {
            assert!(told.contains(word), "{word:?} is not in: {told}");
        }
        let output = run(&flags, &input);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
        let (_, verdict) = said.split_once("\nworkflow ").expect("a verdict");
        for word in *words {
            assert!(verdict.contains(word), "{word:?} is not in: {verdict}");
        }
    }
}

#[test]
fn missing_targets_are_named_with_what_to_do() {
    let other = WEB.replace("name: web, namespace", "name: webb, namespace");
    let as_told = "or bring the object in a file or with --world";
    fail(&[
        (
            other,
            &[SCALE],
            &[
                "resource_not_found",
                "deployment/shop/web does not exist",
                "it is not in your files or world: correct the name (there is webb)",
                as_told,
            ],
        ),
        (
            NODES.to_owned(),
            &[SCALE],
            &["correct the name, or bring the object", as_told],
        ),
        (
            NODES.to_owned(),
            &["action: cordon-node, parameters: {cordonNode: {nodeName: n7}}"],
            &["node/n7 does not exist", "(there is n1, n2)"],
        ),
        (
            WEB.to_owned(),
            &["action: delete-pod, parameters: {deletePod: {namespace: shop, podName: web-1}}"],
            &["pod/shop/web-1 does not exist", "(there is web-"],
        ),
        (
            WEB.to_owned(),
            &["action: restart-pod, parameters: {restartPod: {namespace: shop, selector: app=other}}"],
            &[
                "no running pod matches pod/shop/(app=other)",
                "correct the selector (there is web-",
            ],
        ),
        (
            WEB.to_owned(),
            &[
                "action: update-secret, parameters: {updateSecret: {namespace: shop, name: db, dataUpdates: {a: aGVsbG8=}}}",
            ],
            &[
                "secrets \"db\" not found",
                "correct the name, or bring the object",
            ],
        ),
        (
            WEB.to_owned(),
            &[
                "action: update-configmap, parameters: {updateConfigMap: {namespace: shop, name: conf, dataUpdates: {a: b}}}",
            ],
            &["configmap/shop/conf does not exist", as_told],
        ),
    ]);
}

#[test]
fn missing_rights_are_listed_with_what_to_bring() {
    let account = workflow(&[SCALE]).replace(
        "spec:\n  workflow",
        "spec:\n  serviceAccountName: nobody\n  workflow",
    );
    let output = run(&["-"], &format!("{NO_RIGHTS}{WEB}{account}"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("ServiceAccount shop/nobody does not exist"),
        "{said}"
    );
    assert!(
        said.contains("to do: bring the ServiceAccount in a file"),
        "{said}"
    );
    let own = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: kubernaut-scale-deployment}, rules: []}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: f, namespace: shop}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}, subjects: [{kind: ServiceAccount, name: default, namespace: shop}]}
---
";
    fail(&[
        (
            format!("{NO_RIGHTS}{WEB}"),
            &[SCALE],
            &[
                "ServiceAccount shop/default may not get deployments in group apps named web",
                "to do: bring a Role with these rights and a RoleBinding",
                "or leave all RBAC objects out",
            ],
        ),
        (
            format!("{own}{WEB}"),
            &[SCALE],
            &[
                "insufficient_permissions",
                "scale-deployment-sa",
                "to do: it is the action's own account",
            ],
        ),
    ]);
}

#[test]
fn what_the_target_does_not_allow_is_said_with_the_way_out() {
    let paused = WEB.replace("  replicas: 2", "  replicas: 2\n  paused: true");
    let by_argo = WEB.replace(
        "namespace: shop}\nspec",
        "namespace: shop, labels: {argocd.argoproj.io/instance: shop}}\nspec",
    );
    let image = "action: update-image, parameters: {updateImage: {namespace: shop, deployment: web, container: api, newImage: 'a:2'}}";
    let negative = "action: patch-deployment, parameters: {patchDeployment: {namespace: shop, deployment: web, patchType: merge, patch: '{\"spec\":{\"replicas\":-1}}'}}";
    let nowhere = "action: patch-deployment, parameters: {patchDeployment: {namespace: shop, deployment: web, patchType: json, patch: '[{\"op\":\"replace\",\"path\":\"/spec/a/b\",\"value\":1}]'}}";
    let apply = "action: apply-manifest, parameters: {custom: {actionType: apply-manifest, config: {manifest: '{apiVersion: v1, kind: ConfigMap, metadata: {name: conf, namespace: shop}, data: {a: z}}'}}}";
    fail(&[
        (
            WEB.to_owned(),
            &[image],
            &["no container \"api\"", "to do: name one of its containers: web"],
        ),
        (
            paused,
            &[RESTART],
            &["validation_error", "is paused", "to do: take spec.paused out"],
        ),
        (
            by_argo,
            &[SCALE],
            &[
                "gitops_managed",
                "to do: change it in its repository, or rehearse with --allow-gitops-managed",
            ],
        ),
        (
            WEB.replace("replicas: 2", "replicas: 25"),
            &[RESTART_PODS],
            &["matches more than 20 pods", "to do: narrow the selector"],
        ),
        (
            ALONE.to_owned(),
            &["action: restart-pod, parameters: {restartPod: {namespace: shop, podName: alone}}"],
            &["no controller that would bring it back: use delete-pod"],
        ),
        (
            WEB.to_owned(),
            &[negative],
            &[
                "validation_error",
                "spec.replicas: Invalid value: -1",
                "to do: correct the field that is named",
            ],
        ),
        (
            WEB.to_owned(),
            &[nowhere],
            &[
                "resource_conflict",
                "to do: see that every path of the patch is there",
            ],
        ),
        (
            CONFIG.replace("immutable: true, ", ""),
            &[apply],
            &[
                "resource_conflict",
                "Apply failed with 1 conflict",
                "to do: leave the fields that are named out",
            ],
        ),
        (
            CONFIG.to_owned(),
            &[
                "action: update-configmap, parameters: {updateConfigMap: {namespace: shop, name: conf, dataUpdates: {a: z}}}",
            ],
            &[
                "validation_error",
                "immutable",
                "to do: what is immutable can only be replaced",
            ],
        ),
    ]);
}

#[test]
fn nodes_and_budgets_that_do_not_give_way_are_named() {
    let empty_dir = WEB.replace("volumes: []", "volumes: [{name: v, emptyDir: {}}]");
    let daemons = WEB
        .replace("kind: Deployment", "kind: DaemonSet")
        .replace("web", "agent")
        .replace("  replicas: 2\n", "");
    let one = "{apiVersion: v1, kind: Node, metadata: {name: n1}}\n---\n";
    let cordoned = one.replace("name: n1}", "name: n1}, spec: {unschedulable: true}");
    let picky = WEB
        .replace("volumes: []", "nodeSelector: {disk: ssd}")
        .replace("replicas: 2", "replicas: 0");
    fail(&[
        (
            one.to_owned(),
            &["action: cordon-node, parameters: {cordonNode: {nodeName: n1}}"],
            &["last schedulable node", "to do: bring another Node"],
        ),
        (
            format!("{BUDGET}{WEB}"),
            &[RESTART_PODS],
            &[
                "timeout",
                "to do: PodDisruptionBudget shop/tight allows no eviction",
            ],
        ),
        (
            format!("{NODES}{BUDGET}{WEB}"),
            &[DRAIN],
            &[
                "timeout",
                "to do: PodDisruptionBudget shop/tight allows no eviction",
            ],
        ),
        (
            format!("{NODES}{empty_dir}"),
            &[DRAIN],
            &["job_failed", "to do: set deleteLocalData: true"],
        ),
        (
            format!("{NODES}{ALONE}"),
            &[DRAIN],
            &["job_failed", "to do: nothing would bring these pods back"],
        ),
        (
            format!("{NODES}{daemons}{WEB}"),
            &[DRAIN],
            &["job_failed", "to do: set ignoreDaemonSets: true"],
        ),
        (
            format!("{one}{picky}"),
            &[SCALE],
            &["verification_failed", "finds no node: 0/1 nodes are available"],
        ),
        (
            format!("{cordoned}{WEB}"),
            &[SCALE],
            &["timeout", "to do: no node takes the pod that acts: uncordon one"],
        ),
    ]);
}

#[test]
fn what_follows_from_a_failed_step_is_told_with_the_step_that_failed() {
    let gone = SCALE.replace("deployment: web", "deployment: gone");
    let critical = format!("criticalStep: true, {gone}");
    fail(&[
        (
            WEB.to_owned(),
            &[SCALE, &critical, RESTART],
            &[
                "critical step 2 (s2) failed: deployment/shop/gone does not exist",
                "step 3   s3  skipped    not run: step 2",
            ],
        ),
        (
            WEB.to_owned(),
            &[SCALE, &gone, RESTART],
            &[
                "completed, partial_success",
                "1 of 3 steps completed; failed: 2 (s2)",
                "skipped    not run: step 2, which it needs, failed",
            ],
        ),
    ]);
    let by_hand = |name: &str, deployment: &str| {
        format!("---
apiVersion: kubernetesexecution.kubernaut.io/v1
kind: KubernetesExecution
metadata: {{name: {name}, namespace: shop}}
spec: {{action: scale-deployment, approvalReceived: true, parameters: {{scaleDeployment: {{namespace: shop, deployment: {deployment}, replicas: 4}}}}}}
")
    };
    fail(&[(
        format!("{WEB}{}", by_hand("fix-step-1", "web")),
        &[SCALE],
        &[
            "resource_conflict",
            "is already there and is not of this workflow; it was left alone: delete it (kubectl delete kubernetesexecution \
             fix-step-1 -n shop), or give the workflow another name",
        ],
    )]);
    let output = run(&["-"], &format!("{WEB}{}", by_hand("alone", "gone")));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("execution shop/alone: failed, resource_not_found"),
        "{said}"
    );
    assert!(said.contains("correct the name (there is web)"), "{said}");
}
