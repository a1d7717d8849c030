//! The controller's own rights: none that it never uses, and none that it lacks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use kubernaut::manifests::{CONTROLLER_NAMESPACE, Installation};

use crate::audit::forbidden;
use crate::bed::{Bed, BedOptions, CONTROLLER};
use crate::scene::{EXECUTION, EXECUTOR, POD, Scene, WORKFLOW, api, execution, step, workflow};

const NAMESPACE: &str = "rights-used";
const KINDS: &str = "--apply-manifest-kinds=ConfigMap";

/// group, resource (with subresource), verb.
type Right = (String, String, String);

/// Rights that no request shows.
const UNSEEN: [(&str, &str, &str, &str); 2] = [
    (
        "workflow.kubernaut.io",
        "workflowexecutions/finalizers",
        "update",
        "asked by the admission plugin OwnerReferencesPermissionEnforcement about whoever makes an execution that holds its \
         workflow back from going; the plugin is on here, and the test sees it refuse somebody without the right",
    ),
    (
        "kubernetesexecution.kubernaut.io",
        "kubernetesexecutions",
        "delete",
        "a week after the end of an execution that was made by hand (--execution-ttl)",
    ),
];

/// Rights by where they hold.
#[derive(Default)]
struct Rights {
    everywhere: BTreeSet<Right>,
    in_executor: BTreeSet<Right>,
    at_home: BTreeSet<Right>,
}

/// What the roles give.
fn granted() -> Rights {
    let settings = kubernaut_machines::Settings {
        apply_manifest_kinds: vec!["ConfigMap".to_owned()],
        ..kubernaut_machines::Settings::default()
    };
    let objects = kubernaut::manifests::objects(&Installation::without_pods(settings)).expect("manifests");
    let rights_of = |kind: &str, namespace: Option<&str>| {
        let role = objects
            .iter()
            .filter(|object| object["kind"] == kind && object["metadata"]["name"] == "kubernaut-controller")
            .find(|object| object["metadata"]["namespace"].as_str() == namespace)
            .expect("the role");
        let texts = |value: &Value| -> Vec<String> {
            let items = value.as_array().expect("a list").iter();
            items
                .map(|item| item.as_str().expect("a text").to_owned())
                .collect()
        };
        let mut rights = BTreeSet::new();
        for rule in role["rules"].as_array().expect("rules") {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
        rights
    };
    Rights {
        everywhere: rights_of("ClusterRole", None),
        in_executor: rights_of("Role", Some(EXECUTOR)),
        at_home: rights_of("Role", Some(CONTROLLER_NAMESPACE)),
    }
}

/// What the controller asked for.
fn used(audit: &[Value]) -> Rights {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut used = Rights::default();
    let own = audit
        .iter()
        .filter(|entry| entry["user"]["username"] == CONTROLLER);
    for entry in own.filter(|entry| entry["objectRef"].is_object()) {
        let object = &entry["objectRef"];
        let resource = match object["subresource"].as_str() {
            Some(part) => format!("{}/{part}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let right = (text(&object["apiGroup"]), resource, text(&entry["verb"]));
        let place = match object["namespace"].as_str() {
            Some(EXECUTOR) => &mut used.in_executor,
            Some(CONTROLLER_NAMESPACE) => &mut used.at_home,
            _ => &mut used.everywhere,
        };
        place.insert(right);
    }
    used
}

async fn targets(scene: &Scene<'_>) {
    scene.deployment("web", 2).await;
    scene.config_map("settings", json!({"a": "old"})).await;
    scene
        .create(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "data": {"a": "YQ=="}}),
        )
        .await;
    let pods = |app: &str| {
        json!({"metadata": {"labels": {"app": app}},
               "spec": {"terminationGracePeriodSeconds": 1,
                        "containers": [{"name": "server", "image": "registry.example/server:1"}]}})
    };
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    for (kind, app, spec) in [
        (
            "apps/v1/StatefulSet",
            "set",
            json!({"replicas": 1, "serviceName": "set", "selector": selector("set"), "template": pods("set")}),
        ),
        (
            "apps/v1/DaemonSet",
            "daemon",
            json!({"selector": selector("daemon"), "template": pods("daemon")}),
        ),
        (
            "v1/ReplicationController",
            "old",
            json!({"replicas": 1, "selector": {"app": "old"}, "template": pods("old")}),
        ),
    ] {
        let (api_version, kind) = kind.rsplit_once('/').expect("apiVersion/kind");
        scene
            .create(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": app}, "spec": spec}))
            .await;
    }
}

async fn ready_pod(scene: &Scene<'_>, app: &str) -> String {
    scene
        .eventually(&format!("a pod of {app}"), async || {
            let pods = scene.list(POD, &format!("app={app}")).await;
            let mut ready = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
            Some(ready.next()?["metadata"]["name"].as_str()?.to_owned())
        })
        .await
}

/// A workflow that does everything, one after the other.
async fn every_action(scene: &Scene<'_>) {
    let web = |more: Value| {
        let mut target = json!({"namespace": NAMESPACE, "deployment": "web"});
        crate::scene::merge(&mut target, more);
        target
    };
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
                          "metadata": {"name": "made", "namespace": NAMESPACE}});
    let mut actions = vec![
        (
            "scale-deployment",
            json!({"scaleDeployment": web(json!({"replicas": 3}))}),
        ),
        (
            "scale-stateful-set",
            json!({"scaleStatefulSet": {"namespace": NAMESPACE, "name": "set", "replicas": 2}}),
        ),
        ("restart-deployment", json!({"restartDeployment": web(json!({}))})),
        (
            "update-image",
            json!({"updateImage": web(json!({"container": "server", "newImage": "registry.example/server:2"}))}),
        ),
        (
            "restart-pod",
            json!({"restartPod": {"namespace": NAMESPACE, "selector": "app=web"}}),
        ),
        (
            "update-configmap",
            json!({"updateConfigMap": {"namespace": NAMESPACE, "name": "settings", "dataUpdates": {"a": "new"}}}),
        ),
        (
            "update-secret",
            json!({"updateSecret": {"namespace": NAMESPACE, "name": "key", "dataUpdates": {"a": "eg=="}}}),
        ),
        (
            "apply-manifest",
            json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": manifest.to_string()}}}),
        ),
    ];
    for app in ["set", "daemon", "old"] {
        let pod = ready_pod(scene, app).await;
        actions.push((
            "delete-pod",
            json!({"deletePod": {"namespace": NAMESPACE, "podName": pod, "gracePeriod": "1s"}}),
        ));
    }
    actions.extend([
        ("cordon-node", json!({"cordonNode": {"nodeName": "node-2"}})),
        ("uncordon-node", json!({"uncordonNode": {"nodeName": "node-2"}})),
        (
            "drain-node",
            json!({"drainNode": {"nodeName": "node-3", "gracePeriod": "1s", "ignoreDaemonSets": true}}),
        ),
    ]);
    let spellings: Vec<&str> = actions.iter().map(|(action, _)| *action).collect();
    assert_eq!(
        kubernaut_machines::actions::ActionKind::lacking(&spellings),
        [""; 0]
    );
    let steps: Vec<Value> = (1..)
        .zip(actions)
        .map(|(number, (action, parameters))| {
            let before: Vec<i64> = (1..number).next_back().into_iter().collect();
            step(number, action, parameters, json!({"dependsOn": before}))
        })
        .collect();
    scene
        .start(
            "everything",
            Value::Array(steps),
            json!({"ttlSecondsAfterFinished": 1}),
        )
        .await;
    scene
        .eventually("it ended, and its time to live is over", async || {
            let found = scene.find(WORKFLOW, "everything").await;
            if let Some(found) = &found {
                assert_ne!(
                    found["status"]["phase"],
                    "failed",
                    "{}",
                    crate::scene::pretty(found)
                );
            }
            (found.is_none() && scene.find(EXECUTION, "everything-step-1").await.is_none()).then_some(())
        })
        .await;
}

/// Somebody else writes an object while the controller does: its own write meets a conflict, and it reads the object.
async fn disturbed(scene: &Scene<'_>) {
    let update = json!({"updateConfigMap": {"namespace": NAMESPACE, "name": "settings", "dataUpdates": {"a": "newer"}}});
    let mut round = 0;
    scene
        .eventually("the controller reads both kinds after a conflict", async || {
            round += 1;
            let name = format!("disturbed-{round}");
            let steps = json!([step(1, "update-configmap", update.clone(), json!({}))]);
            scene.start(&name, steps, json!({})).await;
            for number in 0.. {
                let note = json!({"metadata": {"annotations": {"example.com/note": number.to_string()}}});
                let execution = format!("{name}-step-1");
                for (kind, name) in [(WORKFLOW, &name), (EXECUTION, &execution)] {
                    // The execution is not there at first.
                    let parameters = kube::api::PatchParams::default();
                    let patch = kube::api::Patch::Merge(&note);
                    let _ = scene.api(kind).patch(name, &parameters, &patch).await;
                }
                let phase = scene.workflow(&name).await["status"]["phase"].clone();
                if phase == "completed" || phase == "failed" {
                    break;
                }
            }
            let outside = used(&scene.bed.audit()).everywhere;
            let read = |group: &str, resource: &str| {
                outside.contains(&(group.to_owned(), resource.to_owned(), "get".to_owned()))
            };
            let both = read("workflow.kubernaut.io", "workflowexecutions")
                && read("kubernetesexecution.kubernaut.io", "kubernetesexecutions");
            both.then_some(())
        })
        .await;
}

/// An execution made by hand whose pod does not start, and that is deleted.
async fn stuck(scene: &Scene<'_>) {
    let parameters = json!({"updateConfigMap": {"namespace": NAMESPACE, "configMap": "settings", "data": {"a": "newest"}}});
    scene
        .create(execution("stuck-here", "update-configmap", parameters, json!({})))
        .await;
    scene
        .eventually("the controller looks for the reason", async || {
            let events = (String::new(), "events".to_owned(), "list".to_owned());
            used(&scene.bed.audit())
                .in_executor
                .contains(&events)
                .then_some(())
        })
        .await;
    scene.delete(EXECUTION, "stuck-here").await;
    scene
        .eventually("it is gone", async || {
            scene.find(EXECUTION, "stuck-here").await.is_none().then_some(())
        })
        .await;
}

/// Whoever lacks the right on finalizers is refused by the plugin, before any policy is asked.
async fn the_plugin_is_on(scene: &Scene<'_>) {
    let steps = json!([step(
        1,
        "cordon-node",
        json!({"cordonNode": {"nodeName": "node-1"}}),
        json!({})
    )]);
    let made = scene
        .create(workflow("owner", steps, json!({"shutdown": "Cancel"})))
        .await;
    scene
        .create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "bob"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kubernaut-edit"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
        }))
        .await;
    let bob = scene.bed.cluster.client_as("bob", &[]).await.expect("a client");
    let parameters = json!({"cordonNode": {"node": "node-1"}});
    let mut object = execution("of-bob", "cordon-node", parameters, json!({}));
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution", "name": "owner",
        "uid": made["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}]);
    let object = serde_json::from_value(object).expect("an object");
    let refused = api(&bob, EXECUTION, NAMESPACE)
        .create(&kube::api::PostParams::default(), &object)
        .await
        .expect_err("refused");
    let words =
        "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on";
    assert!(refused.to_string().contains(words), "{refused}");
}

#[tokio::test]
async fn the_controller_uses_every_right_that_it_has_and_lacks_none() {
    let bed = Bed::start(BedOptions {
        nodes: 3,
        run_flags: &[KINDS],
        apiserver_args: &["--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement"],
        ..BedOptions::default()
    })
    .await;
    let scene = Scene::of_a_cluster_admin(&bed, NAMESPACE).await;
    the_plugin_is_on(&scene).await;
    targets(&scene).await;
    every_action(&scene).await;
    disturbed(&scene).await;
    stuck(&scene).await;

    // One that waits for the lease watches it.
    let _waiting = bed.start_replica("waiting").await;
    let watch = (
        "coordination.k8s.io".to_owned(),
        "leases".to_owned(),
        "watch".to_owned(),
    );
    scene
        .eventually("a watch of the lease", async || {
            used(&bed.audit()).at_home.contains(&watch).then_some(())
        })
        .await;

    let audit = bed.audit();
    assert_eq!(forbidden(&audit), Vec::<String>::new(), "rights that it lacks");
    let (granted, used) = (granted(), used(&audit));
    let unseen: BTreeMap<Right, &str> = UNSEEN
        .iter()
        .map(|(group, resource, verb, why)| {
            let right = ((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned());
            (right, *why)
        })
        .collect();
    let unused = |granted: &BTreeSet<Right>, used: &BTreeSet<Right>| -> Vec<Right> {
        let unused = granted.difference(used);
        unused
            .filter(|right| !unseen.contains_key(*right))
            .cloned()
            .collect()
    };
    assert_eq!(
        unused(&granted.everywhere, &used.everywhere),
        Vec::<Right>::new(),
        "of the ClusterRole"
    );
    for (granted, used) in [
        (&granted.in_executor, &used.in_executor),
        (&granted.at_home, &used.at_home),
    ] {
        assert_eq!(unused(granted, used), Vec::<Right>::new(), "of a Role");
    }
    for (right, why) in &unseen {
        assert!(
            granted.everywhere.contains(right),
            "{right:?} is not needed any more: {why}"
        );
        assert!(!used.everywhere.contains(right), "{right:?} can be seen");
    }
    // Were it let through by other means, by the discovery role say, it would still be a right that is not written down.
    let beyond = |used: &BTreeSet<Right>, written: &BTreeSet<Right>| -> Vec<Right> {
        used.difference(written).cloned().collect()
    };
    assert_eq!(beyond(&used.everywhere, &granted.everywhere), Vec::<Right>::new());
    for (used, granted_here) in [
        (&used.in_executor, &granted.in_executor),
        (&used.at_home, &granted.at_home),
    ] {
        let written = granted.everywhere.union(granted_here).cloned().collect();
        assert_eq!(beyond(used, &written), Vec::<Right>::new());
    }
}
