//! The executor namespace, tried by an administrator: RBAC lets one in, the policies don't.

use serde_json::{Value, json};

use super::backend::{TEAM, administrator, controller, ground, pod, pod_spec};
use super::way::{Act, all_are_refused, create, delete, get, patch, patch_part, token_of, way};
use crate::scene::{EXECUTOR, JOB, POD};

const SECRET: &str = "v1/Secret";

fn secret(name: &str, kind: &str, data: Value, more: Value) -> Value {
    let mut metadata = json!({"name": name, "namespace": EXECUTOR});
    crate::scene::merge(&mut metadata, more);
    json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "stringData": data})
}

fn of_registry(name: &str, more: Value) -> Value {
    let data = json!({".dockerconfigjson": "{\"auths\":{}}"});
    secret(name, "kubernetes.io/dockerconfigjson", data, more)
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "attempts to do it, one after the other")]
async fn nothing_is_made_in_the_executor_namespace_but_by_the_controller() {
    ground().await;
    let client = administrator().await;
    super::way::send(&client, &create(of_registry("mirror", json!({}))), false)
        .await
        .expect("credentials of a mirror are an administrator's to bring");
    let payload = secret("a-payload", "Opaque", json!({"patch.json": "{}"}), json!({}));
    super::way::send(&controller().await, &create(payload), false)
        .await
        .expect("payloads are the controller's to make");
    let job = |namespace: &str| {
        create(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "own", "namespace": namespace},
            "spec": {"template": {"spec": pod_spec()}},
        }))
    };
    let marked = || json!({"labels": {"kubernaut.io/execution-uid": "1-2-3"}});
    let jobs = "are made by the controller alone";
    let pods = "come from the Jobs of the controller alone";
    let secrets = "are payloads of Jobs, made by the controller alone";
    let mirror = || create(of_registry("another-mirror", json!({})));
    let token = json!({"annotations": {"kubernetes.io/service-account.name": "drain-node-sa"}});
    let ways = vec![
        way(
            "an administrator creates a Job that runs as an account of the executor",
            job(EXECUTOR),
            jobs,
            "an administrator creates a Job elsewhere",
            job(TEAM),
        ),
        way(
            "an administrator creates a pod that runs as an account of the executor",
            create(pod(
                EXECUTOR,
                "own",
                json!({"spec": {"serviceAccountName": "drain-node-sa"}}),
            )),
            pods,
            "an administrator creates a pod elsewhere",
            create(pod(TEAM, "elsewhere", json!({}))),
        ),
        way(
            "an administrator creates a pod that looks like one of a Job",
            create(pod(EXECUTOR, "own", json!({"metadata": marked()}))),
            pods,
            "an administrator reads the pods",
            get(POD, EXECUTOR, &ground().await.pod),
        ),
        way(
            "an administrator makes a payload beforehand",
            create(secret("own", "Opaque", json!({"patch.json": "{}"}), marked())),
            secrets,
            "an administrator brings credentials of a registry",
            mirror(),
        ),
        way(
            "an administrator makes a payload that looks like credentials of a registry",
            create(of_registry("own", marked())),
            secrets,
            "an administrator brings credentials of a registry",
            mirror(),
        ),
        way(
            "an administrator turns credentials of a registry into a payload",
            patch(SECRET, EXECUTOR, "mirror", json!({"metadata": marked()})),
            secrets,
            "an administrator changes the credentials",
            patch(
                SECRET,
                EXECUTOR,
                "mirror",
                json!({"metadata": {"labels": {"example.com/a": "b"}}}),
            ),
        ),
        way(
            "an administrator changes a payload before kubectl reads it",
            patch(
                SECRET,
                EXECUTOR,
                "a-payload",
                json!({"stringData": {"patch.json": "{\"a\":\"theirs\"}"}}),
            ),
            secrets,
            "an administrator writes it again as it is",
            patch(
                SECRET,
                EXECUTOR,
                "a-payload",
                json!({"metadata": {"annotations": {"example.com/key": "2"}}}),
            ),
        ),
        way(
            "an administrator has a token of an account of the executor put into a Secret",
            create(secret(
                "token",
                "kubernetes.io/service-account-token",
                json!({}),
                token,
            )),
            secrets,
            "an administrator deletes what was brought",
            delete(SECRET, EXECUTOR, "mirror"),
        ),
        way(
            "an administrator asks for a token of an account of the executor",
            token_of(EXECUTOR, "drain-node-sa"),
            "are for the nodes that run its pods",
            "an administrator asks for a token of another account",
            token_of(TEAM, "default"),
        ),
    ];
    all_are_refused(&client, ways).await;
}

#[tokio::test]
async fn what_was_made_in_the_executor_namespace_stays_as_it_was_made() {
    let ground = ground().await;
    let on_pod = |change: Value| patch(POD, EXECUTOR, &ground.pod, change);
    let on_job = |change: Value| patch(JOB, EXECUTOR, &ground.job, change);
    let annotate = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    let label = |key: &str, value: Value| json!({"metadata": {"labels": {key: value}}});
    let note = || annotate("example.com/note", json!("looked at"));
    let kept = "stays as it was made";
    let image = json!({"spec": {"containers": [{"name": "kubectl", "image": "registry.example/theirs"}]}});
    let image = Act::Patch(POD, EXECUTOR, ground.pod.clone(), None, merged_image(image).await);
    let mut debug = pod_spec()["containers"][0].clone();
    debug["name"] = json!("debug");
    let debug = json!({"spec": {"ephemeralContainers": [debug]}});
    let ways = vec![
        way(
            "an administrator changes the payload that kubectl reads",
            on_pod(annotate(
                "kubernaut.io/payload",
                json!("{\"data\":{\"a\":\"theirs\"}}"),
            )),
            kept,
            "an administrator puts a note on the pod",
            on_pod(note()),
        ),
        way(
            "an administrator changes it through the pod's status",
            patch_part(
                POD,
                EXECUTOR,
                &ground.pod,
                "status",
                annotate("kubernaut.io/payload", json!("{}")),
            ),
            kept,
            "an administrator does what a network does through the status",
            patch_part(
                POD,
                EXECUTOR,
                &ground.pod,
                "status",
                annotate("network.example.com/address", json!("10.0.0.1")),
            ),
        ),
        way(
            "an administrator changes the image of a pod",
            image,
            kept,
            "an administrator deletes the pod",
            delete(POD, EXECUTOR, &ground.pod),
        ),
        way(
            "an administrator makes a pod one of another execution",
            on_pod(label("kubernaut.io/execution-uid", json!("1-2-3"))),
            kept,
            "an administrator labels it otherwise",
            on_pod(label("example.com/a", json!("b"))),
        ),
        way(
            "an administrator hides a pod from the controller",
            on_pod(label("kubernaut.io/execution-uid", Value::Null)),
            kept,
            "an administrator deletes the Job",
            delete(JOB, EXECUTOR, &ground.job),
        ),
        way(
            "an administrator changes what a Job is compared with",
            on_job(annotate("kubernaut.io/job-hash", json!("0"))),
            kept,
            "an administrator puts a note on the Job",
            on_job(note()),
        ),
        way(
            "an administrator suspends a Job, so that its time stands still",
            on_job(json!({"spec": {"suspend": true}})),
            kept,
            "an administrator labels the Job",
            on_job(label("example.com/a", json!("b"))),
        ),
        way(
            "an administrator gets into a pod by exec",
            Act::Enter(EXECUTOR, ground.pod.clone(), "exec"),
            "nobody gets into them",
            "an administrator gets into another pod",
            Act::Enter(TEAM, "own".to_owned(), "exec"),
        ),
        way(
            "an administrator gets into a pod by attach",
            Act::Enter(EXECUTOR, ground.pod.clone(), "attach"),
            "nobody gets into them",
            "an administrator attaches to another pod",
            Act::Enter(TEAM, "own".to_owned(), "attach"),
        ),
        way(
            "an administrator puts a container of his own into a pod",
            patch_part(POD, EXECUTOR, &ground.pod, "ephemeralcontainers", debug.clone()),
            "nobody gets into them",
            "an administrator puts one into another pod",
            patch_part(POD, TEAM, "own", "ephemeralcontainers", debug),
        ),
    ];
    all_are_refused(&administrator().await, ways).await;
}

/// A merge patch replaces lists: the containers as they are, but for this image.
async fn merged_image(change: Value) -> Value {
    let client = administrator().await;
    let pod = crate::scene::api(&client, POD, EXECUTOR)
        .get(&ground().await.pod)
        .await
        .expect("the pod");
    let mut containers = pod.data["spec"]["containers"].clone();
    containers[0]["image"] = change["spec"]["containers"][0]["image"].clone();
    json!({"spec": {"containers": containers}})
}

#[tokio::test]
async fn the_controller_itself_can_not_do_what_it_never_does() {
    let ground = ground().await;
    let ways = vec![
        way(
            "the controller deletes an approval",
            delete("workflow.kubernaut.io/v1/Approval", TEAM, "alices"),
            "cannot delete resource \"approvals\"",
            "the controller releases an execution of a workflow that was approved",
            patch(
                crate::scene::EXECUTION,
                TEAM,
                "unapproved",
                json!({"spec": {"approvalReceived": true, "approvedBy": "alice"}}),
            ),
        ),
        way(
            "the controller makes a pod",
            create(pod(EXECUTOR, "own", json!({}))),
            "cannot create resource \"pods\"",
            "the controller reads one",
            get(POD, EXECUTOR, &ground.pod),
        ),
        way(
            "the controller reads a Secret of a team",
            get(SECRET, TEAM, "any"),
            "cannot get resource \"secrets\"",
            "the controller makes a payload",
            create(secret(
                "payload",
                "Opaque",
                json!({"patch.json": "{}"}),
                json!({}),
            )),
        ),
    ];
    all_are_refused(&controller().await, ways).await;
}
