//! Roundabout ways to a pod of the executor: what binds it, what owns it, what it reads, and what pushes others away.

use serde_json::{Value, json};

use super::backend::{TEAM, administrator, developer, ground, pod, pod_spec};
use super::way::{Act, Way, all_are_refused, all_pass, create, delete, patch, patch_part, send, way};
use crate::bed::bed;
use crate::scene::{EXECUTOR, JOB, POD, merge};

const SECRET: &str = "v1/Secret";

fn binding(namespace: &'static str, name: &str, metadata: Value) -> Act {
    let mut object = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace},
                            "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"}});
    merge(&mut object["metadata"], metadata);
    Act::Post(POD, namespace, name.to_owned(), "binding", object)
}

/// The old way, by an object of its own.
fn old_binding(namespace: &'static str, name: &str, metadata: Value) -> Act {
    let mut object = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace},
                            "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"}});
    merge(&mut object["metadata"], metadata);
    create(object)
}

#[tokio::test]
async fn nobody_but_the_scheduler_gives_a_pod_of_the_executor_a_node_and_nobody_a_payload() {
    let ground = ground().await;
    let payload = || json!({"annotations": {"kubernaut.io/payload": "{}"}});
    let marked = || json!({"labels": {"kubernaut.io/execution-uid": "1-2-3"}});
    let scheduler = bed()
        .await
        .cluster
        .client_as("system:kube-scheduler", &[])
        .await
        .expect("a client");
    let alone = "are bound by the scheduler alone";
    let mut ways = Vec::new();
    for (metadata, words) in [(json!({}), alone), (payload(), alone), (marked(), alone)] {
        for act in [
            binding(EXECUTOR, &ground.pod, metadata.clone()),
            old_binding(EXECUTOR, &ground.pod, metadata),
        ] {
            ways.push(way(
                "an administrator binds a pod of the executor to a node of his choice",
                act,
                words,
                "an administrator binds a pod elsewhere",
                binding(TEAM, "own", json!({})),
            ));
        }
    }
    let elsewhere = "which a drain passes over: use another label";
    ways.push(way(
        "an administrator binds a pod elsewhere and puts the executor's label on it",
        binding(TEAM, "own", marked()),
        elsewhere,
        "an administrator binds it with another label",
        binding(TEAM, "own", json!({"labels": {"example.com/a": "b"}})),
    ));
    ways.push(way(
        "an administrator does so in the old way",
        old_binding(TEAM, "own", marked()),
        elsewhere,
        "an administrator binds it with another annotation",
        binding(TEAM, "own", json!({"annotations": {"example.com/a": "b"}})),
    ));
    all_are_refused(&administrator().await, ways).await;
    let brought = |metadata: Value| {
        way(
            "the scheduler brings something of ours along",
            binding(EXECUTOR, &ground.pod, metadata),
            "are the controller's alone",
            "the scheduler binds a pod elsewhere",
            binding(TEAM, "own", json!({})),
        )
    };
    all_are_refused(&scheduler, vec![brought(payload()), brought(marked())]).await;
}

#[tokio::test]
async fn nobody_reaches_into_a_pod_of_the_executor_by_its_ports_or_makes_it_larger() {
    let ground = ground().await;
    let enter = |namespace, pod: &str, how| Act::Enter(namespace, pod.to_owned(), how);
    let waiting = waiting_pod().await;
    let larger = json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "2"}}}]}});
    let inside = "nobody gets into them";
    let mut ways: Vec<Way> = ["portforward", "proxy"]
        .into_iter()
        .map(|how| {
            way(
                "an administrator reaches a port of a pod",
                enter(EXECUTOR, &ground.pod, how),
                inside,
                "an administrator reaches a port of another pod",
                enter(TEAM, "own", how),
            )
        })
        .collect();
    ways.push(way(
        "an administrator makes a pod larger",
        Act::Patch(
            POD,
            EXECUTOR,
            waiting.clone(),
            Some("resize"),
            resized(&waiting, larger).await,
        ),
        "stays as it was made",
        "an administrator puts a note on it",
        patch(
            POD,
            EXECUTOR,
            &waiting,
            json!({"metadata": {"annotations": {"example.com/note": "a"}}}),
        ),
    ));
    all_are_refused(&administrator().await, ways).await;
}

/// A pod of a Job of the controller that no node takes, and that could still become larger.
async fn waiting_pod() -> String {
    let mut spec = pod_spec();
    spec["nodeSelector"] = json!({"kubernetes.io/hostname": "nowhere"});
    spec["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "waiting", "namespace": EXECUTOR},
                     "spec": {"template": {"spec": spec}}});
    send(&super::backend::controller().await, &create(job), false)
        .await
        .expect("a Job");
    let client = administrator().await;
    let pods = crate::scene::api(&client, POD, EXECUTOR);
    let of_it = kube::api::ListParams::default().labels("batch.kubernetes.io/job-name=waiting");
    loop {
        if let Some(pod) = pods.list(&of_it).await.expect("a list").items.pop() {
            break pod.metadata.name.expect("a name");
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// A merge patch replaces lists: the containers as they are, but for this.
async fn resized(name: &str, change: Value) -> Value {
    let client = administrator().await;
    let pod = crate::scene::api(&client, POD, EXECUTOR)
        .get(name)
        .await
        .expect("the pod");
    let mut containers = pod.data["spec"]["containers"].clone();
    merge(&mut containers[0], change["spec"]["containers"][0].clone());
    json!({"spec": {"containers": containers}})
}

#[tokio::test]
async fn nothing_that_makes_pods_is_made_in_the_executor_namespace() {
    ground().await;
    let metadata = |namespace: &str| json!({"name": "own", "namespace": namespace});
    let template = || {
        let mut spec = pod_spec();
        spec["restartPolicy"] = json!("Always");
        json!({"metadata": {"labels": {"app": "own"}}, "spec": spec})
    };
    let selected = || json!({"selector": {"matchLabels": {"app": "own"}}, "template": template()});
    let objects = |namespace: &str| {
        let job = json!({"spec": {"template": {"spec": pod_spec()}}});
        [
            ("apps/v1", "Deployment", selected()),
            ("apps/v1", "ReplicaSet", selected()),
            ("apps/v1", "DaemonSet", selected()),
            ("apps/v1", "StatefulSet", selected()),
            ("v1", "ReplicationController", json!({"selector": {"app": "own"}, "template": template()})),
            ("batch/v1", "CronJob", json!({"schedule": "0 0 1 1 *", "jobTemplate": job})),
        ]
        .map(|(api_version, kind, spec)| {
            create(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata(namespace), "spec": spec}))
        })
    };
    let ways = objects(EXECUTOR)
        .into_iter()
        .zip(objects(TEAM))
        .map(|(here, there)| {
            way(
                "an administrator has pods made by another controller",
                here,
                "nothing runs in namespace kubernaut-executor but the Jobs of the controller",
                "an administrator does so elsewhere",
                there,
            )
        })
        .collect();
    all_are_refused(&administrator().await, ways).await;
}

#[tokio::test]
async fn where_all_controllers_ask_as_one_user_only_a_job_has_pods_in_the_executor_namespace() {
    ground().await;
    let manager = bed()
        .await
        .cluster
        .client_as("system:kube-controller-manager", &["system:masters"])
        .await
        .expect("a client");
    let owned = |namespace: &str, api_version: &str, kind: &str| {
        let owner = json!({"apiVersion": api_version, "kind": kind, "name": "own", "uid": "1-2-3", "controller": true});
        create(pod(
            namespace,
            "own-pod",
            json!({"metadata": {"ownerReferences": [owner]}}),
        ))
    };
    let others = [
        ("apps/v1", "ReplicaSet"),
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "StatefulSet"),
        ("v1", "ReplicationController"),
        ("example.com/v1", "Job"),
    ];
    let ways = others
        .into_iter()
        .map(|(api_version, kind)| {
            way(
                "a pod of another controller is made",
                owned(EXECUTOR, api_version, kind),
                "come from the Jobs of the controller alone",
                "a pod of a Job is made",
                owned(EXECUTOR, "batch/v1", "Job"),
            )
        })
        .collect();
    all_are_refused(&manager, ways).await;
}

fn of_registry(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
           "metadata": {"name": name, "namespace": EXECUTOR}, "stringData": data})
}

#[tokio::test]
async fn credentials_of_a_registry_are_no_payload_and_a_payload_that_is_deleted_goes() {
    let ground = ground().await;
    let auths = || json!({".dockerconfigjson": "{\"auths\":{}}"});
    let both = || json!({".dockerconfigjson": "{\"auths\":{}}", "patch.json": "{\"data\":{}}"});
    let client = administrator().await;
    send(&client, &create(of_registry("two-keys", auths())), false)
        .await
        .expect("accepted");
    let payload = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"patch.json": "{}"},
                         "metadata": {"name": "held", "namespace": EXECUTOR}});
    send(&super::backend::controller().await, &create(payload), false)
        .await
        .expect("payloads are the controller's to make");
    let keys = "with that key alone";
    let ways = vec![
        way(
            "an administrator brings a payload under the name of a Job, as credentials",
            create(of_registry(&ground.job, both())),
            keys,
            "an administrator brings credentials",
            create(of_registry("credentials", auths())),
        ),
        way(
            "an administrator adds a payload to credentials",
            patch(
                SECRET,
                EXECUTOR,
                "two-keys",
                json!({"stringData": {"patch.json": "{}"}}),
            ),
            keys,
            "an administrator changes the credentials",
            patch(
                SECRET,
                EXECUTOR,
                "two-keys",
                json!({"stringData": {".dockerconfigjson": "{}"}}),
            ),
        ),
        way(
            "an administrator keeps a payload by a finalizer",
            patch(
                SECRET,
                EXECUTOR,
                "held",
                json!({"metadata": {"finalizers": ["example.com/kept"]}}),
            ),
            keys,
            "an administrator deletes it",
            delete(SECRET, EXECUTOR, "held"),
        ),
    ];
    all_are_refused(&client, ways).await;
    all_pass(
        &client,
        vec![
            ("the payload is deleted", delete(SECRET, EXECUTOR, "held")),
            (
                "the credentials are deleted",
                delete(SECRET, EXECUTOR, "two-keys"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_priority_of_the_controller_is_nobody_elses() {
    ground().await;
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1_000_000,
                       "metadata": {"name": "kubernaut-controller"}});
    let administrator = administrator().await;
    let classes = kube::Api::<kube::api::DynamicObject>::all_with(
        administrator.clone(),
        &kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
            "scheduling.k8s.io",
            "v1",
            "PriorityClass",
        )),
    );
    let class = serde_json::from_value(class).expect("an object");
    classes
        .create(&kube::api::PostParams::default(), &class)
        .await
        .expect("accepted");
    let of_class = |namespace: &str| {
        create(pod(
            namespace,
            "urgent",
            json!({"spec": {"priorityClassName": "kubernaut-controller"}}),
        ))
    };
    let words = "is for the controller's pods in namespace kubernaut-system";
    let plain = || create(pod(TEAM, "urgent", json!({})));
    all_are_refused(
        &developer().await,
        vec![way(
            "a developer's pod pushes others away",
            of_class(TEAM),
            words,
            "it does not",
            plain(),
        )],
    )
    .await;
    all_are_refused(
        &administrator,
        vec![way(
            "an administrator's does",
            of_class("default"),
            words,
            "the controller's own may",
            of_class("kubernaut-system"),
        )],
    )
    .await;
}

/// What the executor needs to be stopped stays possible.
#[tokio::test]
async fn what_runs_in_the_executor_namespace_can_be_deleted_and_its_status_written() {
    let ground = ground().await;
    let client = administrator().await;
    for act in [
        delete(POD, EXECUTOR, &ground.pod),
        delete(JOB, EXECUTOR, &ground.job),
    ] {
        send(&client, &act, true).await.expect("it would be deleted");
    }
    let status = json!({"status": {"message": "looked at"}});
    send(
        &client,
        &patch_part(POD, EXECUTOR, &ground.pod, "status", status),
        true,
    )
    .await
    .expect("a kubelet's part");
}
