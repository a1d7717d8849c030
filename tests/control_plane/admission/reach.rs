//! What a token of the executor's accounts can do in other hands: no more than one action.

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use kubernaut_machines::actions::ActionKind;
use serde_json::{Value, json};

use super::backend::{TEAM, administrator, ground, pod, pod_spec};
use super::way::{Act, Way, all_are_refused, create, delete, patch, patch_part, way};
use crate::bed::{CONTROLLER, bed};
use crate::scene::{
    CONFIG_MAP, DEPLOYMENT, EXECUTOR, JOB, NODE, POD, STATEFUL_SET, api, merge, secret_account,
};

const SYSTEM: &str = "kube-system";
const SECRET: &str = "v1/Secret";
const TARGET: &str = "reach";
const PROTECTED: &str = "nothing is changed in namespace kube-system: it is protected";

/// A token as a kubelet gets it for a pod; one without a pod, as nobody does, for `None`.
async fn token(account: &str, pod: Option<&kube::api::DynamicObject>) -> String {
    let kubelet = bed()
        .await
        .cluster
        .client_as("kubelet", &["system:masters", "system:nodes"])
        .await
        .expect("a client");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(600),
            bound_object_ref: pod.map(|pod| BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let answer = Api::<ServiceAccount>::namespaced(kubelet, EXECUTOR)
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .expect("a token");
    answer.status.expect("a status").token
}

/// Who has nothing but this token.
async fn holder(token: &str) -> Client {
    bed()
        .await
        .cluster
        .client_for_token(token)
        .await
        .expect("a client")
}

/// Who took the token of a pod of this account from its node. Only the controller may make Jobs there.
async fn thief(account: &str) -> Client {
    let controller = bed()
        .await
        .cluster
        .client_as(CONTROLLER, &[])
        .await
        .expect("a client");
    let mut spec = pod_spec();
    spec["serviceAccountName"] = json!(account);
    let name = format!("taken-{account}");
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": EXECUTOR},
                     "spec": {"backoffLimit": 0, "template": {"spec": spec}}});
    super::way::send(&controller, &create(job), false)
        .await
        .expect("a Job");
    let administrator = administrator().await;
    let pods = api(&administrator, POD, EXECUTOR);
    let labels = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
    let pod = loop {
        if let Some(pod) = pods.list(&labels).await.expect("a list").items.pop() {
            break pod;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    holder(&token(account, Some(&pod)).await).await
}

fn deployment(namespace: &str) -> Value {
    let mut spec = pod_spec();
    spec["restartPolicy"] = json!("Always");
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": TARGET, "namespace": namespace},
           "spec": {"replicas": 0, "selector": {"matchLabels": {"app": TARGET}},
                    "template": {"metadata": {"labels": {"app": TARGET}}, "spec": spec}}})
}

fn stateful_set(namespace: &str) -> Value {
    let mut set = deployment(namespace);
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!(TARGET);
    set
}

/// Objects in a namespace of a team and in one of the cluster.
async fn targets() {
    ground().await;
    let client = administrator().await;
    let object = |kind: &str, namespace: &str| {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": TARGET, "namespace": namespace},
               "data": {"a": "YQ=="}})
    };
    for namespace in [TEAM, SYSTEM] {
        let target = pod(
            namespace,
            TARGET,
            json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": "nowhere"}}}),
        );
        for object in [
            deployment(namespace),
            stateful_set(namespace),
            object("ConfigMap", namespace),
            object("Secret", namespace),
            target,
        ] {
            super::way::send(&client, &create(object), false)
                .await
                .expect("accepted");
        }
    }
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": TARGET},
                      "spec": {"unschedulable": true}});
    super::way::send(&client, &create(node), false)
        .await
        .expect("accepted");
}

fn labels() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}})
}

fn note() -> Value {
    json!({"metadata": {"annotations": {"example.com/note": "b"}}})
}

fn data() -> Value {
    json!({"data": {"a": "Yg=="}})
}

fn restart() -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {
        "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z", "kubernaut.io/restarted-by": "1-2-3"}}}}})
}

fn image() -> Value {
    let mut container = pod_spec()["containers"][0].clone();
    container["image"] = json!("registry.example/theirs");
    json!({"spec": {"template": {"spec": {"containers": [container]}}}})
}

fn with(mut change: Value, more: Value) -> Value {
    merge(&mut change, more);
    change
}

fn evict(namespace: &'static str) -> Act {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
                          "metadata": {"name": TARGET, "namespace": namespace}});
    Act::Post(POD, namespace, TARGET.to_owned(), "eviction", eviction)
}

/// What whoever has a token of a node's account tries.
fn of_a_node(may: Value) -> Vec<Way> {
    let node = |change: Value| patch(NODE, "", TARGET, change);
    let spec = "changes spec.unschedulable of a node and nothing else";
    let metadata = "leaves labels, annotations, owners and finalizers as they are";
    let taint = json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}});
    [
        (taint, spec),
        (json!({"spec": {"providerID": "theirs"}}), spec),
        (labels(), metadata),
        (note(), metadata),
    ]
    .into_iter()
    .flat_map(|(change, words)| {
        let both = with(change.clone(), may.clone());
        [change, both].map(|change| {
            way(
                "of a node something else is changed",
                node(change),
                words,
                "the node is cordoned or uncordoned",
                node(may.clone()),
            )
        })
    })
    .collect()
}

/// What whoever has a token of update-configmap-sa or update-secret-sa tries.
fn of_data(kind: &'static str) -> Vec<Way> {
    let at = |namespace: &'static str, change: Value| patch(kind, namespace, TARGET, change);
    let only_data = "changes data and nothing else";
    let metadata = "leaves labels, annotations, owners and finalizers as they are";
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "one", "uid": "1-2-3"});
    let mut ways = vec![way(
        "data of the cluster itself is changed",
        at(SYSTEM, data()),
        PROTECTED,
        "data of a team is changed",
        at(TEAM, data()),
    )];
    for (change, words) in [
        (json!({"immutable": true}), only_data),
        (labels(), metadata),
        (note(), metadata),
        (
            json!({"metadata": {"finalizers": ["example.com/kept"]}}),
            metadata,
        ),
        (json!({"metadata": {"ownerReferences": [owner]}}), metadata),
    ] {
        ways.push(way(
            "something besides data is changed",
            at(TEAM, with(change, data())),
            words,
            "data is changed",
            at(TEAM, data()),
        ));
    }
    ways
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn ways_of(kind: ActionKind) -> Vec<Way> {
    let deployment = |namespace: &'static str, change: Value| patch(DEPLOYMENT, namespace, TARGET, change);
    let scale = |namespace: &'static str| {
        patch_part(
            DEPLOYMENT,
            namespace,
            TARGET,
            "scale",
            json!({"spec": {"replicas": 0}}),
        )
    };
    let restarts_only = "changes the annotations kubectl.kubernetes.io/restartedAt";
    let metadata = "leaves labels, annotations, owners and finalizers as they are";
    match kind {
        ActionKind::ScaleDeployment => vec![way(
            "a Deployment of the cluster itself is scaled",
            scale(SYSTEM),
            PROTECTED,
            "a Deployment of a team is scaled",
            scale(TEAM),
        )],
        ActionKind::ScaleStatefulSet => {
            let scale = |namespace: &'static str| {
                let change = json!({"spec": {"replicas": 0}});
                patch_part(STATEFUL_SET, namespace, TARGET, "scale", change)
            };
            vec![way(
                "a StatefulSet of the cluster itself is scaled",
                scale(SYSTEM),
                PROTECTED,
                "a StatefulSet of a team is scaled",
                scale(TEAM),
            )]
        }
        ActionKind::RolloutRestart => [
            (SYSTEM, restart(), PROTECTED),
            (TEAM, with(restart(), image()), restarts_only),
            (TEAM, image(), restarts_only),
            (TEAM, json!({"spec": {"replicas": 3}}), restarts_only),
            (TEAM, json!({"spec": {"template": note()}}), restarts_only),
            (
                TEAM,
                json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
                restarts_only,
            ),
            (TEAM, with(restart(), labels()), metadata),
        ]
        .into_iter()
        .map(|(namespace, change, words)| {
            way(
                "more than a restart is written",
                deployment(namespace, change),
                words,
                "a Deployment of a team is restarted",
                deployment(TEAM, restart()),
            )
        })
        .collect(),
        ActionKind::PatchDeployment => vec![way(
            "a Deployment of the cluster itself is patched",
            deployment(SYSTEM, image()),
            PROTECTED,
            "a Deployment of a team is patched",
            deployment(TEAM, with(image(), labels())),
        )],
        ActionKind::DeletePod => vec![
            way(
                "a pod of the cluster itself is deleted",
                delete(POD, SYSTEM, TARGET),
                PROTECTED,
                "a pod of a team is deleted",
                delete(POD, TEAM, TARGET),
            ),
            way(
                "a pod of the cluster itself is evicted",
                evict(SYSTEM),
                PROTECTED,
                "a pod of a team is evicted",
                evict(TEAM),
            ),
        ],
        ActionKind::CordonNode => of_a_node(json!({"spec": {"unschedulable": true}})),
        ActionKind::UncordonNode => of_a_node(json!({"spec": {"unschedulable": null}})),
        ActionKind::DrainNode => {
            let mut ways = of_a_node(json!({"spec": {"unschedulable": true}}));
            ways.push(way(
                "a taint is written",
                patch(
                    NODE,
                    "",
                    TARGET,
                    json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
                ),
                "changes spec.unschedulable of a node and nothing else",
                "a pod of the cluster itself is evicted, for a drain empties the node",
                evict(SYSTEM),
            ));
            ways
        }
        ActionKind::UpdateConfigMap => {
            let mut ways = of_data(CONFIG_MAP);
            ways.push(way(
                "binary data is changed",
                patch(CONFIG_MAP, TEAM, TARGET, json!({"binaryData": {"b": "Yg=="}})),
                "changes data and nothing else",
                "a key is added",
                patch(CONFIG_MAP, TEAM, TARGET, json!({"data": {"b": "c"}})),
            ));
            ways
        }
        ActionKind::UpdateSecret => of_data(SECRET),
        // Its role has ConfigMaps here.
        ActionKind::ApplyManifest => {
            let at = |namespace: &str| {
                create(json!({"apiVersion": "v1", "kind": "ConfigMap",
                              "metadata": {"name": "applied", "namespace": namespace}}))
            };
            vec![way(
                "an object is made in a namespace of the cluster itself",
                at(SYSTEM),
                PROTECTED,
                "an object is made in a namespace of a team",
                at(TEAM),
            )]
        }
    }
}

#[tokio::test]
async fn a_token_that_was_taken_from_a_pod_does_what_its_action_does_and_no_more() {
    targets().await;
    let _turn = secret_account().await;
    for kind in ActionKind::ALL {
        let client = thief(kind.service_account()).await;
        println!("{}", kind.service_account());
        all_are_refused(&client, ways_of(kind)).await;
    }
    an_account_with_more_rights_has_no_longer_reach().await;
    a_token_that_is_not_of_a_pod_is_good_for_nothing().await;
}

/// Somebody has bound an account to a larger role, to make a step pass.
async fn an_account_with_more_rights_has_no_longer_reach() {
    let client = administrator().await;
    let bound = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "reach-too-much"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "cordon-node-sa", "namespace": EXECUTOR}],
    });
    super::way::send(&client, &create(bound), false)
        .await
        .expect("accepted");
    let pods = api(&client, POD, EXECUTOR);
    let labels = ListParams::default().labels("batch.kubernetes.io/job-name=taken-cordon-node-sa");
    let pod = pods
        .list(&labels)
        .await
        .expect("a list")
        .items
        .pop()
        .expect("its pod");
    let thief = holder(&token("cordon-node-sa", Some(&pod)).await).await;
    // Authorization hears of a binding a moment later.
    while super::way::send(&thief, &super::way::get(SECRET, TEAM, TARGET), false)
        .await
        .is_err()
    {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (may_not, at_home) = ("cordon-node-sa may not", "change no pod and no Job there");
    let name = pod.name_any();
    let label = || json!({"metadata": {"labels": {"reached": "yes"}}});
    let cordon = || patch(NODE, "", TARGET, json!({"spec": {"unschedulable": true}}));
    let scale = json!({"spec": {"replicas": 3}});
    let ways = [
        (patch(SECRET, TEAM, TARGET, data()), may_not),
        (patch(DEPLOYMENT, TEAM, TARGET, image()), may_not),
        (patch_part(DEPLOYMENT, TEAM, TARGET, "scale", scale), may_not),
        (delete(POD, TEAM, TARGET), may_not),
        (delete(NODE, "", TARGET), may_not),
        (evict(TEAM), may_not),
        // The steps of others.
        (delete(POD, EXECUTOR, &name), may_not),
        (delete(JOB, EXECUTOR, "taken-cordon-node-sa"), may_not),
        (patch(POD, EXECUTOR, &name, label()), at_home),
        (patch(JOB, EXECUTOR, "taken-cordon-node-sa", label()), at_home),
    ];
    let ways = ways
        .into_iter()
        .map(|(act, words)| {
            way(
                "something else is changed",
                act,
                words,
                "the node is cordoned",
                cordon(),
            )
        })
        .collect();
    all_are_refused(&thief, ways).await;
    super::way::send(
        &client,
        &delete(
            "rbac.authorization.k8s.io/v1/ClusterRoleBinding",
            "",
            "reach-too-much",
        ),
        false,
    )
    .await
    .expect("deleted");
}

/// One from a Secret, say, or of somebody who impersonates the account.
async fn a_token_that_is_not_of_a_pod_is_good_for_nothing() {
    let client = administrator().await;
    let loose = holder(&token("update-configmap-sa", None).await).await;
    let user = format!("system:serviceaccount:{EXECUTOR}:update-configmap-sa");
    let impersonator = bed().await.cluster.client_as(&user, &[]).await.expect("a client");
    for thief in [loose, impersonator] {
        let ways = vec![way(
            "data is changed with a token that is not that of a pod",
            patch(CONFIG_MAP, TEAM, TARGET, data()),
            "this token is not that of a pod",
            "the ConfigMap is read",
            super::way::get(CONFIG_MAP, TEAM, TARGET),
        )];
        all_are_refused(&thief, ways).await;
    }
    // With the pod its token ends.
    let jobs = ListParams::default().labels("batch.kubernetes.io/job-name=taken-update-configmap-sa");
    let pods = api(&client, POD, EXECUTOR);
    let pod = pods
        .list(&jobs)
        .await
        .expect("a list")
        .items
        .pop()
        .expect("its pod");
    let thief = holder(&token("update-configmap-sa", Some(&pod)).await).await;
    super::way::send(&thief, &super::way::get(CONFIG_MAP, TEAM, TARGET), false)
        .await
        .expect("it reads");
    super::way::send(
        &client,
        &delete(JOB, EXECUTOR, "taken-update-configmap-sa"),
        false,
    )
    .await
    .expect("deleted");
    super::way::send(&client, &delete(POD, EXECUTOR, &pod.name_any()), false)
        .await
        .ok();
    let mut answer = Ok(());
    // The API server keeps what it found of a token for a few seconds.
    for _ in 0..300 {
        answer = super::way::send(&thief, &super::way::get(CONFIG_MAP, TEAM, TARGET), false).await;
        if answer.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let refused = answer.expect_err("a token of a pod that is gone");
    assert!(refused.contains("Unauthorized"), "{refused}");
}
