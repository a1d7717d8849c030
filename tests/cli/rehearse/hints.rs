//! What is wrong is told with what there is, in the words of the file, all at once and in its order.

use super::input::refused_input;
use super::world::workflow;
use super::{DEPLOYMENT, WORKFLOW, run, text};

fn step(parameters: &str) -> String {
    workflow(&[parameters])
}

#[test]
fn an_unknown_field_is_answered_with_those_that_there_are() {
    for (parameters, words) in [
        (
            "action: update-image, parameters: {updateImage: {namespace: shop, deployment: web, container: app, image: 'a:2'}}",
            "parameters.updateImage.image: unknown field; did you mean newImage? (there is container, deployment, namespace, newImage)",
        ),
        (
            "action: drain-node, parameters: {drainNode: {node: n1, deleteEmptyDirData: true}}",
            "drainNode.deleteEmptyDirData: unknown field; did you mean deleteLocalData?",
        ),
        (
            "action: drain-node, parameters: {drainNode: {node: n1}}",
            "drainNode.node: unknown field; did you mean nodeName?",
        ),
        (
            "action: apply-manifest, parameters: {applyManifest: {manifest: 'a: b'}}",
            "parameters.applyManifest: unknown field; did you mean custom: {actionType: apply-manifest, config: {manifest: ...}}?",
        ),
        (
            "action: rollout-restart, parameters: {rolloutRestart: {namespace: shop, deployment: web}}",
            "parameters.rolloutRestart: unknown field; did you mean restartDeployment?",
        ),
        (
            "action: wait, parameters: {wait: {seconds: 3}}",
            "parameters.wait: unknown field (there is cordonNode, ",
        ),
    ] {
        refused_input(&step(parameters), &[words]);
    }
    let typo = DEPLOYMENT.replace("selector:", "selektor:");
    refused_input(
        &format!("{typo}{WORKFLOW}"),
        &["-:7: Deployment shop/web: spec.selektor: unknown field; did you mean selector?"],
    );
    // Of a list that nobody reads, only what may be meant.
    let typo = DEPLOYMENT.replace(
        "{name: web, image: web:1}",
        "{name: web, image: web:1, resourcs: {limits: {cpu: 1}}}",
    );
    refused_input(
        &format!("{typo}{WORKFLOW}"),
        &["containers[0].resourcs: unknown field; did you mean resources?\n"],
    );
}

#[test]
fn a_kind_that_is_not_served_is_answered_with_those_that_are() {
    let changed = |from: &str, to: &str| WORKFLOW.replacen(from, to, 1);
    refused_input(
        &changed("kind: WorkflowExecution", "kind: Workflow"),
        &[
            "-:3: Workflow shop/fix: kind: no kind of this name in workflow.kubernaut.io/v1; did you mean WorkflowExecution? (there is Approval, WorkflowExecution)",
        ],
    );
    refused_input(
        &changed("workflow.kubernaut.io/v1", "workflow.kubernaut.io/v1alpha1"),
        &["apiVersion: is not served for this kind: there is workflow.kubernaut.io/v1"],
    );
    refused_input(
        &changed("workflow.kubernaut.io/v1", "workflow.kubernout.io/v1"),
        &["apiVersion: is not served; did you mean workflow.kubernaut.io/v1?"],
    );
    let old = DEPLOYMENT.replace("apps/v1", "extensions/v1beta1");
    refused_input(
        &format!("{old}{WORKFLOW}"),
        &["Deployment shop/web: apiVersion: is not served for this kind: there is apps/v1"],
    );
}

#[test]
fn kinds_of_somebody_else_are_left_out_and_named() {
    let monitor = "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {name: web, namespace: shop}\nspec: {a: 1}\n---\n";
    let output = run(&["-"], &format!("{monitor}{DEPLOYMENT}{WORKFLOW}"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(
        said.contains("Left out, since no file holds their CustomResourceDefinition"),
        "{said}"
    );
    assert!(said.contains("ServiceMonitor shop/web."), "{said}");
}

#[test]
fn what_an_installation_brings_is_taken() {
    let files = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: edge}
spec: {controller: example.com/edge}
---
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, namespace: shop}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: migrate, image: 'migrate:1'}]}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: 'db:1', volumeMounts: [{name: data, mountPath: /data}]}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
";
    let output = run(&["-"], &format!("{files}{DEPLOYMENT}{WORKFLOW}"));
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn kinds_of_the_network_and_autoscalers_are_checked_as_others() {
    let named = |version: &str, kind: &str, spec: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec: {spec}\n---\n{WORKFLOW}"
        )
    };
    for (spec, words) in [
        (
            "{podSelectr: {}}",
            "spec.podSelectr: unknown field; did you mean podSelector?",
        ),
        (
            "{podSelector: {}, policyTypes: [Ingres]}",
            "spec.policyTypes[0]: Unsupported value: \"Ingres\"",
        ),
        (
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]}",
            "must be a valid CIDR",
        ),
        (
            "{podSelector: {}, egress: [{ports: [{port: 70000}]}]}",
            "must be between 1 and 65535",
        ),
        ("{podSelector: {}, egress: [{to: [{}]}]}", "must specify a peer"),
    ] {
        refused_input(&named("networking.k8s.io/v1", "NetworkPolicy", spec), &[words]);
    }
    for (spec, words) in [
        ("{rules: 5}", "spec.rules: must be of type array, not integer"),
        ("{}", "either `defaultBackend` or `rules` must be specified"),
        (
            "{rules: [{http: {paths: [{path: /, backend: {service: {name: a, port: {number: 80}}}}]}}]}",
            "pathType",
        ),
    ] {
        refused_input(&named("networking.k8s.io/v1", "Ingress", spec), &[words]);
    }
    for version in ["autoscaling/v1", "autoscaling/v2"] {
        let target = "scaleTargetRef: {kind: Deployment, name: web}";
        for (spec, words) in [
            (
                format!("{{{target}, maxReplicas: two}}"),
                "spec.maxReplicas: must be of type integer, not string",
            ),
            (
                format!("{{{target}, maxReplicas: 0}}"),
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            ),
            (
                format!("{{{target}, maxReplicas: 2, minReplicas: 3}}"),
                "must be greater than or equal to `minReplicas`",
            ),
            (
                format!("{{{target}, maxReplica: 2}}"),
                "spec.maxReplica: unknown field; did you mean maxReplicas?",
            ),
        ] {
            refused_input(&named(version, "HorizontalPodAutoscaler", &spec), &[words]);
        }
    }
    let service = |ports: &str| named("v1", "Service", &format!("{{ports: [{ports}]}}"));
    refused_input(&service("{port: 0}"), &["spec.ports[0].port: Invalid value: 0"]);
    refused_input(
        &service("{port: 53}, {port: 54}"),
        &["spec.ports[0].name: Required value"],
    );
    let amount = DEPLOYMENT.replace(
        "image: web:1",
        "image: web:1, resources: {limits: {memory: 2GiB}}",
    );
    refused_input(
        &format!("{amount}{WORKFLOW}"),
        &["quantities must match the regular expression"],
    );
}

#[test]
fn durations_are_explained_in_words() {
    for (from, to) in [
        ("timeout: 2m", "timeout: 120"),
        ("timeout: 2m", "timeout: \"120\""),
        ("timeout: 2m", "timeout: 1d"),
    ] {
        refused_input(
            &WORKFLOW.replacen(from, to, 1),
            &["-:13: ", "steps[0].timeout: ", "is not a duration: "],
        );
    }
    let grace = |text: &str| {
        step(&format!(
            "action: delete-pod, parameters: {{deletePod: {{namespace: shop, podName: a, gracePeriod: {text}}}}}"
        ))
    };
    for text in ["30", "\"30\""] {
        refused_input(&grace(text), &["deletePod.gracePeriod: ", "is not a duration: "]);
    }
}

#[test]
fn planning_speaks_of_the_fields_of_the_file() {
    for (parameters, field) in [
        (
            "action: restart-pod, parameters: {restartPod: {namespace: shop, selector: 'app in (worker,'}}",
            "parameters.restartPod.selector: step 1 (s1): ",
        ),
        (
            "action: restart-deployment, parameters: {restartDeployment: {namespace: kube-system, deployment: web}}",
            "parameters.restartDeployment.namespace: step 1 (s1): kube-system is protected",
        ),
        (
            "action: apply-manifest, parameters: {custom: {actionType: apply-manifest, config: {manifest: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}'}}}",
            "parameters.custom.config.manifest: step 1 (s1): ",
        ),
        (
            "action: update-secret, parameters: {updateSecret: {namespace: shop, name: db, dataUpdates: {password: hunter2!}}}",
            "parameters.updateSecret.dataUpdates.password: step 1 (s1): is not base64",
        ),
    ] {
        refused_input(&step(parameters), &[field]);
    }
    let execution = "apiVersion: kubernetesexecution.kubernaut.io/v1
kind: KubernetesExecution
metadata: {name: once, namespace: shop}
spec:
  action: delete-pod
  approvalReceived: true
  stepNumber: 1
  parameters:
    deletePod: {namespace: shop, labelSelector: 'a in (b'}
";
    refused_input(
        execution,
        &["-:9: KubernetesExecution shop/once: spec.parameters.deletePod.labelSelector: "],
    );
}

#[test]
fn steps_that_wait_for_what_is_not_there_are_named() {
    refused_input(
        &WORKFLOW.replacen("dependsOn: [1]", "dependsOn: [7]", 1),
        &[
            "-:19: ",
            "steps[1].dependsOn[0]: steps[1] (\"restart\"): dependsOn[0] = 7: no step has this number",
        ],
    );
    refused_input(
        &WORKFLOW.replacen("name: restart\n", "name: scale\n", 1),
        &["-:17: ", "steps[1].name: "],
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_in_the_order_of_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let files = [
        file("b.yaml", "a: [\n"),
        file(
            "a.yaml",
            &DEPLOYMENT
                .replace("replicas: 1", "replicas: one")
                .replace("metadata: {name: web,", "metadata: {name: Web,"),
        ),
        file(
            "c.yaml",
            &WORKFLOW.replacen("timeout: 2m", "timeout: 16m", 1).replacen(
                "deployment: web}",
                "deployment: web, x: 1}",
                1,
            ),
        ),
    ];
    let world = file(
        "w.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: 3\n",
    );
    let arguments: Vec<&str> = files
        .iter()
        .map(String::as_str)
        .chain(["--world", &world])
        .collect();
    let output = run(&arguments, "");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let places: Vec<usize> = ["b.yaml:1", "a.yaml:", "c.yaml:13", "c.yaml:21", "w.yaml:"]
        .iter()
        .map(|place| {
            errors
                .find(place)
                .unwrap_or_else(|| panic!("{place} is not in: {errors}"))
        })
        .collect();
    assert!(places.is_sorted(), "{errors}");
}

#[test]
fn a_name_may_be_left_to_the_server() {
    let generated = |base: &str| {
        WORKFLOW.replacen(
            "name: fix, namespace",
            &format!("generateName: {base}, namespace"),
            1,
        )
    };
    let input = format!("{DEPLOYMENT}{}---{}", generated("fix-"), generated("fix-"));
    let output = run(&["-"], &input);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert_eq!(
        said.matches("workflow shop/fix-").count(),
        said.matches("workflow shop/").count(),
        "{said}"
    );
    let again = text(&run(&["-"], &input).stdout);
    let names = |said: &str| -> Vec<String> {
        let words = said
            .split_whitespace()
            .filter(|word| word.starts_with("shop/fix-"));
        words.map(ToOwned::to_owned).collect()
    };
    assert_eq!(names(&said), names(&again), "they are the same in every run");
    refused_input(
        &generated(&"a".repeat(48)),
        &["metadata.generateName: has 48 characters: write at most 47"],
    );
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let input = WORKFLOW.replacen("name: fix, namespace", "name: \"a\\e[31mb\", namespace", 1);
    let output = run(&["-"], &input);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(!errors.contains('\u{1b}'), "{errors:?}");
    assert!(
        errors.contains("WorkflowExecution shop/a\\u{1b}[31mb"),
        "{errors}"
    );
}

#[test]
fn what_is_right_and_may_not_be_meant_is_warned_of() {
    let steps = [
        "action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 3}}",
        "action: scale-deployment, parameters: {scaleDeployment: {namespace: shop, deployment: web, replicas: 1}}",
    ];
    let warning = "Steps 1 (s1) and 2 (s2) of workflow shop/fix both change deployment/shop/web, and neither depends on the \
                   other: nothing says which of them comes last.";
    let ordered = workflow(&steps);
    let abreast = ordered.replace("dependsOn: [1], ", "");
    let same = abreast.replace("replicas: 1}}", "replicas: 3}}");
    for (input, warned) in [(&ordered, false), (&abreast, true), (&same, false)] {
        let said = text(&run(&["-"], input).stdout);
        assert_eq!(said.contains(warning), warned, "{said}");
    }
    let account = ordered.replace(
        "  workflowDefinition:",
        "  serviceAccountName: repairer\n  workflowDefinition:",
    );
    let said = text(&run(&["-"], &account).stdout);
    assert!(
        said.contains("ServiceAccount shop/repairer is not in your files or world: it is taken to exist."),
        "{said}"
    );
}

#[test]
fn flags_are_what_people_are_used_to() {
    let output = run(&["-f", "deploy/samples/scale-and-restart.yaml"], "");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(
        said.contains("kubectl apply -f deploy/samples/scale-and-restart.yaml"),
        "{said}"
    );
    let output = run(&["-", "--log-level", "bogus"], "");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(
            "\"bogus\" is not a level: write error, warn, info, debug, trace or off, or MODULE=LEVEL"
        ),
        "{said}"
    );
}

#[test]
fn a_patch_that_the_api_server_does_not_take_is_answered_with_the_reason_alone() {
    let patch = "action: patch-deployment, parameters: {patchDeployment: {namespace: shop, deployment: web, patchType: strategic, \
                 patch: '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"app\",\"resources\":{\"limits\":{\"memory\":\"2GiB\"}}}]}}}}'}}";
    let output = run(&["-"], &workflow(&[patch]));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("workflow shop/fix: failed, validation_error"),
        "{said}"
    );
    assert!(
        said.contains("the patched object is invalid: json: quantities must match the regular expression"),
        "{said}"
    );
    assert!(said.contains("to do: correct the field that is named"), "{said}");
    assert!(!said.contains("terminationMessagePolicy"), "{said}");
}

#[test]
fn a_field_of_a_patch_that_the_api_server_drops_is_named() {
    for (kind, patch) in [
        (
            "strategic",
            "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"app\",\"resourcs\":{\"limits\":{\"memory\":\"2Gi\"}}}]}}}}",
        ),
        ("merge", "{\"spec\":{\"replica\":3}}"),
        (
            "json",
            "[{\"op\":\"add\",\"path\":\"/spec/template/spec/containers/0/resourcs\",\"value\":{\"limits\":{\"memory\":\"2Gi\"}}}]",
        ),
    ] {
        let step = format!(
            "action: patch-deployment, parameters: {{patchDeployment: {{namespace: shop, deployment: web, patchType: {kind}, patch: '{patch}'}}}}"
        );
        let output = run(&["-"], &workflow(&[&step]));
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(
            said.contains("patched, but the Deployment has no spec."),
            "{kind}: {said}"
        );
        assert!(said.contains("now: look for a mistyped field"), "{kind}: {said}");
    }
}

#[test]
fn a_kind_that_may_not_be_applied_names_the_flag_that_allows_it() {
    let output = run(&["deploy/samples/quarantine.yaml"], "");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(
            "allow the one that is needed with --apply-manifest-kinds=networking.k8s.io/NetworkPolicy"
        ),
        "{said}"
    );
}
