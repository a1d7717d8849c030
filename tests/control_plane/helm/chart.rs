//! What helm makes of the chart is what `kubernaut manifests` prints.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use kubernaut_machines::actions::ActionKind;
use kubernaut_machines::manifest_kinds::known_kinds;
use serde_json::{Value, json};

use super::{chart_path, helm, path};
use crate::controller::kubernaut;

/// What the chart adds to objects: annotations that helm reads.
const OF_HELM: [&str; 1] = ["helm.sh/resource-policy"];

type Objects = BTreeMap<(String, String, String), Value>;

/// By kind, namespace and name.
fn by_name(yaml: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("YAML");
    let mut objects = Objects::new();
    for object in documents.into_iter().filter(|document| !document.is_null()) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let name = (
            text(&object["kind"]),
            text(&metadata["namespace"]),
            text(&metadata["name"]),
        );
        let twice = objects.insert(name.clone(), object);
        assert!(twice.is_none(), "{name:?} is there twice");
    }
    objects
}

fn template(namespace: &str, values: &Value) -> Result<Objects, String> {
    let chart = chart_path();
    let chart = chart.to_str().expect("a path");
    let values = values.to_string();
    helm(
        &[
            "template",
            "kubernaut",
            chart,
            "--namespace",
            namespace,
            "--values",
            "-",
        ],
        &values,
    )
    .map(|yaml| by_name(&yaml))
}

fn rendered(namespace: &str, values: &Value) -> Objects {
    template(namespace, values).expect("rendered")
}

/// What `kubernaut manifests` prints.
fn manifests(flags: &[String]) -> Objects {
    let output = Command::new(kubernaut())
        .arg("manifests")
        .args(flags)
        .output()
        .expect("kubernaut runs");
    assert!(output.status.success(), "{output:?}");
    by_name(&String::from_utf8(output.stdout).expect("text"))
}

/// Fails with the first object in which they differ. The namespace of a release is made by helm, not by the chart.
fn assert_same(mut chart: Objects, mut expected: Objects, release_namespace: &str) {
    let own = (
        "Namespace".to_owned(),
        String::new(),
        release_namespace.to_owned(),
    );
    assert!(expected.remove(&own).is_some(), "{own:?}");
    for (name, object) in &mut chart {
        let made_by = &mut object["metadata"]["labels"]["app.kubernetes.io/managed-by"];
        assert_eq!(*made_by, "Helm", "{name:?}");
        *made_by = json!("kubernaut-manifests");
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
            continue;
        };
        annotations.retain(|name, _| !OF_HELM.contains(&name.as_str()));
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    let names = |objects: &Objects| objects.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&chart), names(&expected));
    for (name, object) in &expected {
        let made = &chart[name];
        assert!(
            made == object,
            "{name:?}\n{}\nis not\n{}",
            serde_saphyr::to_string(made).unwrap_or_default(),
            serde_saphyr::to_string(object).unwrap_or_default()
        );
    }
}

fn flags(values: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let as_text = |value: &Value| match value.as_array() {
        Some(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        None => text(value),
    };
    let values = values.as_object().expect("flags");
    values
        .iter()
        .map(|(name, value)| format!("--{name}={}", as_text(value)))
        .collect()
}

#[test]
fn with_its_own_values_the_chart_is_the_base() {
    let mut base = String::new();
    for entry in std::fs::read_dir(path("deploy/base")).expect("deploy/base") {
        let file = entry.expect("a file").path();
        if !file.ends_with("kustomization.yaml") {
            base.push_str("---\n");
            base.push_str(&std::fs::read_to_string(file).expect("text"));
        }
    }
    assert_same(
        rendered("kubernaut-system", &json!({})),
        by_name(&base),
        "kubernaut-system",
    );
}

/// Every flag, with another value than its default.
fn every_flag() -> Value {
    json!({
        "executor-namespace": "repairs",
        // A number for YAML, when it is not written as text.
        "protected-namespaces": ["vault", "kube-system", "100"],
        "cluster-name": "east",
        "kubectl-image": "mirror.example/kubectl:v1",
        "max-step-timeout": "1h30m",
        "job-ttl": "90s",
        "execution-ttl": "36h",
        "verification": false,
        "allow-gitops-managed": true,
        "apply-manifest-kinds": ["ConfigMap", "apps/Deployment", "Ingress"],
        "actions": ["rollout-restart", "apply-manifest"],
        "executor-node-selector": ["pool=repairs", "example.com/zone=a"],
        "executor-tolerations": ["pool=repairs:NoSchedule", "spot"],
        "authorization": "none",
        "monitoring-window": "0s", "approval-timeout": "30m", "approval-validity": "20m", "allow-self-approval": true,
        "max-running-jobs": 7,
        "api-concurrency": 8,
        "leader-elect": false,
        "lease-duration": "30s",
        "lease-renew-deadline": "20s",
        "lease-retry-period": "3s",
        "log-format": "json",
        "log-level": "info,kubernaut=debug",
    })
}

#[test]
fn every_flag_has_the_same_effect_as_with_kubernaut_manifests() {
    let given = every_flag();
    let schema = std::fs::read_to_string(chart_path().join("values.schema.json")).expect("a schema");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let names = |object: &Value| {
        object
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        names(&given),
        names(&schema["properties"]["flags"]["properties"]),
        "a flag came or went: name it in every_flag"
    );
    let image = json!({"repository": "registry.example:5000/kubernaut", "tag": "v2", "digest": format!("sha256:{}", "0".repeat(64))});
    let chart = rendered("ops", &json!({"flags": given, "image": image}));
    let mut said = flags(&given);
    said.push("--controller-namespace=ops".to_owned());
    said.push(format!(
        "--image=registry.example:5000/kubernaut:v2@sha256:{}",
        "0".repeat(64)
    ));
    assert_same(chart, manifests(&said), "ops");
}

#[test]
fn policies_are_mounted_as_with_kubernaut_manifests() {
    let chart = rendered("kubernaut-system", &json!({"rego": {"configMap": "our-policy"}}));
    let made = manifests(&["--policy-config-map=our-policy".to_owned()]);
    assert_same(chart, made, "kubernaut-system");
}

#[test]
fn rights_follow_each_kind_that_may_be_applied() {
    for kind in known_kinds() {
        let given = json!({"apply-manifest-kinds": [kind]});
        let chart = rendered("kubernaut-system", &json!({"flags": given}));
        assert_same(chart, manifests(&flags(&given)), "kubernaut-system");
    }
}

#[test]
fn an_action_that_is_left_out_has_no_account() {
    for left_out in ActionKind::ALL {
        let actions = ActionKind::ALL.into_iter().filter(|kind| *kind != left_out);
        let actions: Vec<&str> = actions.map(ActionKind::canonical).collect();
        let given = json!({"actions": actions});
        let chart = rendered("kubernaut-system", &json!({"flags": given}));
        let of_it = |(kind, _, name): &&(String, String, String)| {
            let account = kind == "ServiceAccount" && name == left_out.service_account();
            account || (kind.starts_with("ClusterRole") && *name == left_out.cluster_role())
        };
        assert_eq!(chart.keys().filter(of_it).count(), 0, "{}", left_out.canonical());
        assert_same(chart, manifests(&flags(&given)), "kubernaut-system");
    }
}

/// Whoever skips the schema has what he says taken as what it is, or is told why not: no value becomes a rule of a policy
/// or a field of an object.
#[test]
fn without_the_schema_values_are_still_nothing_but_values() {
    let evil = "a' || true || 'b\"}}{{ .Values }}\n- injected: {yes: [\"no\"";
    let names = |objects: &Objects| objects.keys().cloned().collect::<BTreeSet<_>>();
    let usual = names(&rendered("kubernaut-system", &json!({})));
    let loose = |namespace: &str, values: &Value| {
        let chart = chart_path();
        let chart = chart.to_str().expect("a path");
        let arguments = [
            "template",
            "kubernaut",
            chart,
            "--skip-schema-validation",
            "--namespace",
            namespace,
            "--values",
            "-",
        ];
        helm(&arguments, &values.to_string()).map(|yaml| by_name(&yaml))
    };
    for values in [
        json!({"image": {"repository": evil}}),
        json!({"image": {"tag": evil}}),
        json!({"image": {"digest": evil}}),
        json!({"image": {"pullPolicy": evil}}),
        json!({"image": {"pullSecrets": [{"name": evil}]}}),
        json!({"kubectlPullSecrets": [{"name": evil}]}),
        json!({"flags": {"kubectl-image": evil}}),
        json!({"flags": {"log-level": evil}}),
        json!({"flags": {"cluster-name": evil}}),
        json!({"flags": {"executor-node-selector": [evil]}}),
        json!({"policy": {"failurePolicy": evil}}),
        json!({"policy": {"validationActions": [evil]}}),
        json!({"people": {"aggregateToEdit": evil}}),
        json!({"networkPolicy": {"apiServerPorts": [evil]}}),
        json!({"networkPolicy": {"apiServerPeers": [{"ipBlock": {"cidr": evil}}]}}),
        json!({"networkPolicy": {"metricsPeers": [{"ipBlock": {"cidr": evil}}]}}),
        json!({"pods": {"replicas": evil}}),
        json!({"pods": {"labels": {"team": evil}, "annotations": {"note": evil}, "nodeSelector": {"pool": evil}}}),
        json!({"pods": {"tolerations": [{"key": evil}], "affinity": {"a": evil}}}),
        json!({"pods": {"resources": {"limits": {"memory": evil}}}}),
        json!({"priorityClass": {"name": evil}}),
    ] {
        let objects =
            loose("kubernaut-system", &values).unwrap_or_else(|error| panic!("{values}: {error:?}"));
        assert_eq!(names(&objects), usual, "{values}");
        for object in objects
            .values()
            .filter(|object| object["kind"] == "ValidatingAdmissionPolicy")
        {
            let rules = object["spec"]["validations"].to_string();
            assert!(!rules.contains("true ||"), "{rules}");
        }
        let injected = objects
            .values()
            .any(|object| object.to_string().contains("\"injected\""));
        assert!(!injected, "{values}");
    }
    for (namespace, values) in [
        ("kubernaut-system", json!({"flags": {"executor-namespace": evil}})),
        (
            "kubernaut-system",
            json!({"flags": {"protected-namespaces": [evil]}}),
        ),
        ("a' || true || 'b", json!({})),
    ] {
        let refused = loose(namespace, &values).expect_err("refused");
        assert!(refused.contains("is not the name of a namespace"), "{refused}");
    }
    // What is not known installs nothing.
    let objects = loose("kubernaut-system", &json!({"flags": {"actions": [evil]}})).expect("rendered");
    assert!(!objects.keys().any(|(_, _, name)| name.ends_with("-sa")));
    let objects = loose(
        "kubernaut-system",
        &json!({"flags": {"apply-manifest-kinds": [evil]}}),
    )
    .expect("rendered");
    assert_eq!(names(&objects), usual);
}

#[test]
fn empty_lists_are_the_flag_without_a_value() {
    let given = json!({"apply-manifest-kinds": [], "protected-namespaces": [], "executor-node-selector": [],
                       "executor-tolerations": []});
    let chart = rendered("kubernaut-system", &json!({"flags": given}));
    assert_same(chart, manifests(&flags(&given)), "kubernaut-system");
}

#[test]
fn without_pods_it_is_what_the_flag_of_that_name_leaves() {
    let chart = rendered("kubernaut-system", &json!({"pods": {"enabled": false}}));
    assert_same(
        chart,
        manifests(&["--without-pods".to_owned()]),
        "kubernaut-system",
    );
}

#[test]
fn each_switch_takes_out_its_objects_and_nothing_else() {
    let all = rendered("kubernaut-system", &json!({}));
    for (values, gone) in [
        (
            json!({"crds": {"install": false}}),
            vec!["CustomResourceDefinition"],
        ),
        (json!({"createExecutorNamespace": false}), vec!["Namespace"]),
        (
            json!({"policy": {"enabled": false}}),
            vec!["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"],
        ),
        (
            json!({"networkPolicy": {"enabled": false}}),
            vec!["NetworkPolicy"],
        ),
        (
            json!({"podDisruptionBudget": {"enabled": false}}),
            vec!["PodDisruptionBudget"],
        ),
        (json!({"priorityClass": {"create": false}}), vec!["PriorityClass"]),
    ] {
        let mut left = all.clone();
        left.retain(|(kind, ..), _| !gone.contains(&kind.as_str()));
        assert!(left.len() < all.len(), "{values}");
        assert!(rendered("kubernaut-system", &values) == left, "{values}");
    }
    let people = rendered("kubernaut-system", &json!({"people": {"install": false}}));
    let gone: Vec<_> = all
        .keys()
        .filter(|name| !people.contains_key(*name))
        .map(|(_, _, name)| name.as_str())
        .collect();
    assert_eq!(gone, ["kubernaut-approve", "kubernaut-edit", "kubernaut-view"]);
}

#[test]
fn only_the_custom_resources_outlive_the_release() {
    let kept = |object: &&Value| object["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
    let all = rendered("kubernaut-system", &json!({}));
    let kinds: Vec<_> = all.values().filter(kept).map(|object| &object["kind"]).collect();
    assert_eq!(kinds, ["CustomResourceDefinition"; 3]);
}

#[test]
fn what_is_said_of_pods_and_policies_stands_where_it_belongs() {
    let toleration = json!({"key": "critical", "operator": "Exists"});
    let peers = json!([{"ipBlock": {"cidr": "10.0.0.1/32"}}]);
    let monitoring =
        json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
    let objects = rendered(
        "kubernaut-system",
        &json!({
            "image": {"pullPolicy": "Always", "pullSecrets": [{"name": "mirror"}]},
            "kubectlPullSecrets": [{"name": "jobs"}],
            "people": {"aggregateToEdit": false},
            "policy": {"failurePolicy": "Ignore", "validationActions": ["Warn", "Audit"]},
            "networkPolicy": {"apiServerPorts": [8443], "apiServerPeers": peers, "metricsPeers": monitoring},
            "priorityClass": {"create": false, "name": "mine"},
            "pods": {
                "replicas": 3, "labels": {"team": "a"}, "annotations": {"note": "b"}, "nodeSelector": {"pool": "c"},
                "tolerations": [toleration], "affinity": {"nodeAffinity": {}}, "topologySpreadConstraints": [],
                "resources": {"limits": {"memory": "1Gi", "cpu": null}},
            },
        }),
    );
    let object = |kind: &str, namespace: &str, name: &str| {
        &objects[&(kind.to_owned(), namespace.to_owned(), name.to_owned())]
    };
    let deployment = &object("Deployment", "kubernaut-system", "kubernaut-controller")["spec"];
    let template = &deployment["template"];
    let pod = &template["spec"];
    let container = &pod["containers"][0];
    let network = object("NetworkPolicy", "kubernaut-executor", "kubernaut-executor");
    let ingress = &object("NetworkPolicy", "kubernaut-system", "kubernaut-controller")["spec"]["ingress"][0];
    let account = object("ServiceAccount", "kubernaut-executor", "drain-node-sa");
    let policy = object("ValidatingAdmissionPolicy", "", "kubernaut-statuses");
    let binding = object("ValidatingAdmissionPolicyBinding", "", "kubernaut-statuses");
    let view = object("ClusterRole", "", "kubernaut-view");
    for (found, expected) in [
        (&deployment["replicas"], json!(3)),
        (&ingress["from"], monitoring.clone()),
        (&template["metadata"]["labels"]["team"], json!("a")),
        (
            &template["metadata"]["labels"]["app.kubernetes.io/component"],
            json!("controller"),
        ),
        (&template["metadata"]["annotations"], json!({"note": "b"})),
        (&pod["nodeSelector"], json!({"pool": "c"})),
        (&pod["tolerations"], json!([toleration])),
        (&pod["affinity"], json!({"nodeAffinity": {}})),
        (&pod["topologySpreadConstraints"], Value::Null),
        (&pod["priorityClassName"], json!("mine")),
        (&pod["imagePullSecrets"], json!([{"name": "mirror"}])),
        (&container["imagePullPolicy"], json!("Always")),
        (&container["resources"]["limits"]["memory"], json!("1Gi")),
        (
            &network["spec"]["egress"][1],
            json!({"ports": [{"port": 8443, "protocol": "TCP"}], "to": peers}),
        ),
        (&account["imagePullSecrets"], json!([{"name": "jobs"}])),
        (&policy["spec"]["failurePolicy"], json!("Ignore")),
        (&binding["spec"]["validationActions"], json!(["Warn", "Audit"])),
        (
            &view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"],
            json!("false"),
        ),
    ] {
        assert_eq!(*found, expected);
    }
}

#[test]
fn bad_values_are_refused_in_words_that_name_them() {
    let chart = |values: Value| template("kubernaut-system", &values).expect_err(&values.to_string());
    for (values, words) in [
        (
            json!({"flags": {"apply-manifest-kinds": ["Secret"]}}),
            vec!["/flags/apply-manifest-kinds/0", "'ConfigMap'"],
        ),
        (
            json!({"flags": {"max-step-timeuot": "1m"}}),
            vec!["/flags", "'max-step-timeuot' not allowed"],
        ),
        (
            json!({"flags": {"max-step-timeout": "soon"}}),
            vec!["/flags/max-step-timeout", "'soon'"],
        ),
        (
            json!({"flags": {"max-running-jobs": "7"}}),
            vec!["/flags/max-running-jobs", "want integer"],
        ),
        (
            json!({"flags": {"max-running-jobs": 0}}),
            vec!["/flags/max-running-jobs", "0"],
        ),
        (
            json!({"flags": {"verification": "no"}}),
            vec!["/flags/verification", "want boolean"],
        ),
        (
            json!({"flags": {"executor-namespace": ""}}),
            vec!["/flags/executor-namespace", "''"],
        ),
        (
            json!({"flags": {"protected-namespaces": ["a b"]}}),
            vec!["/flags/protected-namespaces/0", "'a b'"],
        ),
        (
            json!({"flags": {"controller-namespace": "ops"}}),
            vec!["/flags", "'controller-namespace' not allowed"],
        ),
        (
            json!({"flags": {"executor-namespace": "kubernaut-system"}}),
            vec!["can't share the namespace kubernaut-system"],
        ),
        (
            json!({"flags": {"executor-namespace": "kube-system"}}),
            vec!["flags.executor-namespace is kube-system", "the cluster's own"],
        ),
        (
            json!({"flags": {"protected-namespaces": ["vault"], "executor-namespace": "vault"}}),
            vec![
                "flags.executor-namespace is vault",
                "flags.protected-namespaces names",
            ],
        ),
        (json!({"flags": {"actions": []}}), vec!["/flags/actions"]),
        (
            json!({"flags": {"actions": ["reboot-node"]}}),
            vec!["/flags/actions/0", "'drain-node'"],
        ),
        (json!({"image": {"repository": ""}}), vec!["/image/repository"]),
        (json!({"image": {"digest": "sha256:0"}}), vec!["/image/digest"]),
        (json!({"polcy": {"enabled": false}}), vec!["'polcy' not allowed"]),
        (
            json!({"policy": {"validationActions": []}}),
            vec!["/policy/validationActions"],
        ),
        (
            json!({"pods": {"replicas": "two"}}),
            vec!["/pods/replicas", "want integer"],
        ),
        (
            json!({"pods": {"labels": {"app.kubernetes.io/component": "mine"}}}),
            vec!["/pods/labels/app.kubernetes.io"],
        ),
    ] {
        let said = chart(values);
        for words in words {
            assert!(said.contains(words), "{said:?} says nothing of {words}");
        }
    }
}

#[test]
fn a_release_does_not_go_where_the_cluster_or_everybody_else_lives() {
    for namespace in ["default", "kube-system"] {
        let refused = template(namespace, &json!({})).expect_err("refused");
        assert!(
            refused.contains(&format!("(--namespace) is {namespace}")),
            "{refused}"
        );
    }
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    let chart = chart_path();
    helm(&["lint", "--strict", chart.to_str().expect("a path")], "").expect("sound");
}
