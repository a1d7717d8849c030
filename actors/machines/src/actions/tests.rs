//! Spellings, samples and rights of all actions.

use kubernaut_crds::{NodeAction, ScaleDeployment};
use serde_json::json;

use super::*;

fn rights_of(action: &Action) -> Vec<AccessRequest> {
    let rules = kind_of(action).expect("a kind").rules(&Settings::default());
    operation(action).rights(&rules, &target_of(action, None), None)
}

#[test]
fn every_action_can_be_run_from_its_samples_by_each_of_its_spellings() {
    let settings = Settings {
        apply_manifest_kinds: crate::manifest_kinds::known_kinds(),
        ..Settings::default()
    };
    for kind in ActionKind::ALL {
        let samples = kind.samples();
        for spelling in kind.definition().spellings {
            let of_variant = samples.iter().filter(|(variant, _)| *variant == spelling.variant);
            assert!(
                of_variant.count() > 0,
                "{kind:?} has no sample of {:?}",
                spelling.variant
            );
        }
        for (variant, parameters) in samples {
            let known = kind.definition().spellings.iter();
            let known = known.filter(|known| known.variant == variant);
            for name in known.flat_map(|known| known.names) {
                let execution: KubernetesExecution = serde_json::from_value(json!({
                    "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
                    "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1"},
                    "spec": {"action": name, "parameters": parameters, "timeout": "1m"}
                }))
                .expect("an execution");
                let checked = crate::parameters::check(&execution, &settings)
                    .unwrap_or_else(|problems| panic!("{kind:?} as {name}: {problems:?}"));
                assert_eq!((checked.kind, checked.variant), (kind, variant), "{name}");
                assert!(!checked.rights.is_empty(), "{kind:?} asks for no right");
                assert!(kind.variant(name) == variant, "{name}");
            }
        }
    }
}

#[test]
fn every_spelling_belongs_to_one_action() {
    let mut seen = std::collections::BTreeSet::new();
    for kind in ActionKind::ALL {
        for spelling in kind.spellings() {
            assert!(seen.insert(spelling), "{spelling} is spelled twice");
        }
    }
}

#[test]
fn an_action_is_named_as_metrics_name_it_and_another_spelling_says_so() {
    for kind in ActionKind::ALL {
        assert_eq!(ActionKind::named(kind.canonical()), Ok(kind));
    }
    let error = ActionKind::named("restart-pod").expect_err("another spelling");
    assert!(error.contains("delete-pod stands for it"), "{error}");
    let error = ActionKind::named("reboot-node").expect_err("no action");
    assert!(
        error.contains("\"reboot-node\"") && error.contains("apply-manifest"),
        "{error}"
    );
}

#[test]
fn no_account_may_do_what_no_action_does() {
    let settings = Settings {
        apply_manifest_kinds: crate::manifest_kinds::known_kinds(),
        ..Settings::default()
    };
    for rule in ActionKind::ApplyManifest.rules(&settings) {
        // What was not there before is deleted when it is taken back.
        assert_eq!(rule.verbs, ["get", "patch", "create", "delete"]);
    }
}

#[test]
fn a_spelling_that_does_not_fit_is_answered_with_those_that_do() {
    let cordon = Action::CordonNode(NodeAction { node: "n".into() });
    assert_eq!(check_spelling("cordon_node", &cordon), None);
    let error = check_spelling("drain-node", &cordon)
        .expect("does not fit")
        .to_string();
    assert!(
        error.contains("\"drain-node\"") && error.contains("cordonNode") && error.contains("cordon-node"),
        "{error}"
    );
}

#[test]
fn scaling_asks_for_the_scale_of_that_deployment_in_that_namespace() {
    let action = Action::ScaleDeployment(ScaleDeployment {
        namespace: "shop".into(),
        deployment: "web".into(),
        replicas: 3,
    });
    let rights: Vec<String> = rights_of(&action).iter().map(ToString::to_string).collect();
    assert_eq!(
        rights,
        [
            "get deployments in group apps named web in namespace shop",
            "get deployments/scale in group apps named web in namespace shop",
            "patch deployments/scale in group apps named web in namespace shop",
        ]
    );
}

#[test]
fn a_drain_asks_for_pods_everywhere() {
    let action = Action::DrainNode(kubernaut_crds::DrainNode {
        node: "n1".into(),
        grace_period_seconds: 30,
        force: false,
        ignore_daemon_sets: true,
        delete_local_data: false,
    });
    let rights = rights_of(&action);
    assert!(
        rights
            .iter()
            .any(|r| r.resource == "pods" && r.namespace.is_none() && r.name.is_none() && r.verb == "list")
    );
    assert!(
        rights
            .iter()
            .any(|r| r.resource == "nodes" && r.name.as_deref() == Some("n1") && r.verb == "patch")
    );
}

#[test]
fn an_undo_asks_for_what_it_changes_and_no_more() {
    let settings = Settings {
        apply_manifest_kinds: vec!["ConfigMap".to_owned(), "NetworkPolicy".to_owned()],
        ..Settings::default()
    };
    let mut undone = Vec::new();
    for kind in ActionKind::ALL {
        for (variant, parameters) in kind.samples() {
            let mut known = kind.definition().spellings.iter();
            let known = known.find(|known| known.variant == variant).expect("a spelling");
            let execution: KubernetesExecution = serde_json::from_value(json!({
                "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
                "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1"},
                "spec": {"action": known.names[0], "parameters": parameters, "timeout": "1m"}
            }))
            .expect("an execution");
            let rights = rights_to_undo(&execution, &settings);
            let words: Vec<String> = rights.iter().map(ToString::to_string).collect();
            if !words.is_empty() {
                undone.push((known.names[0], words));
            }
        }
    }
    let of_node = ["get nodes named node-1", "patch nodes named node-1"];
    let rights = |action: &str| {
        let found = undone.iter().find(|(name, _)| *name == action);
        found.map(|(_, words)| words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(rights("drain-node"), Some(of_node.to_vec()), "{undone:?}");
    assert_eq!(
        rights("apply-manifest"),
        Some(vec![
            "delete configmaps named settings in namespace shop",
            "get configmaps named settings in namespace shop",
            "patch configmaps named settings in namespace shop",
        ]),
        "{undone:?}"
    );
    assert_eq!(rights("restart-deployment"), None);
    assert_eq!(rights("delete-pod"), None);
}
