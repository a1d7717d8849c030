//! Deployments, ReplicaSets and Jobs as the API server takes them, and what their controllers say.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::bodies::{job, with, workload};
use super::super::case_context::CaseContext;

super::cases!(
    a_deployment_has_what_the_server_sets,
    a_deployment_is_checked,
    a_replica_set_has_what_the_server_sets,
    a_stateful_set_and_a_daemon_set_have_what_the_server_sets,
    a_job_has_what_the_server_sets,
    a_job_is_checked,
    a_job_with_a_failure_policy_is_checked,
    a_deployment_makes_a_replica_set_of_its_template,
    a_deployment_goes_with_its_replica_sets,
    a_job_makes_one_pod_with_its_labels,
    a_suspended_job_makes_none,
    a_deleted_job_leaves_its_pod_unless_told_otherwise,
    a_job_without_its_account_says_so_in_an_event,
    a_name_too_long_for_a_job_is_refused,
);

async fn a_deployment_has_what_the_server_sets(lab: &CaseContext) {
    let made = lab.post("deploy", workload("a", 0)).await;
    made.has_code(201)
        .has("/spec/progressDeadlineSeconds", 600)
        .has("/spec/revisionHistoryLimit", 10);
    let mut body = workload("b", 0);
    body["spec"]["strategy"] = json!({"type": "Recreate"});
    body["spec"]["replicas"] = Value::Null;
    body["spec"]["paused"] = json!(true);
    body["spec"]["template"]["spec"]["serviceAccountName"] = json!("x");
    lab.post("deploy", body)
        .await
        .has_code(201)
        .has("/spec/replicas", 1);
    let mut body = workload("c", 0);
    body["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 2}});
    lab.post("deploy", body).await.has_code(201);
}

async fn a_deployment_is_checked(lab: &CaseContext) {
    for (pointer, value, words) in [
        (
            "/spec/replicas",
            json!(-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        ("/spec/minReadySeconds", json!(-1), "spec.minReadySeconds"),
        (
            "/spec/progressDeadlineSeconds",
            json!(0),
            "spec.progressDeadlineSeconds",
        ),
        (
            "/spec/template/spec/containers",
            json!([]),
            "spec.template.spec.containers: Required value",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "spec.template.spec.restartPolicy",
        ),
        (
            "/spec/template/metadata/labels",
            json!({"app": "b"}),
            "`selector` does not match template `labels`",
        ),
        (
            "/spec/template/metadata/labels",
            json!({"app": "a", "b c": "d"}),
            "spec.template.labels",
        ),
        (
            "/spec/template/metadata/annotations",
            json!({"b c": "d"}),
            "spec.template.annotations",
        ),
        (
            "/spec/selector",
            json!({"matchLabels": {"a b": "c"}}),
            "spec.selector",
        ),
        ("/spec/strategy", json!({"type": "Odd"}), "spec.strategy"),
        (
            "/spec/strategy",
            json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
            "spec.strategy.rollingUpdate",
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
            "maxUnavailable",
        ),
        (
            "/spec/template/spec/containers/0/image",
            json!(""),
            "spec.template.spec.containers[0].image",
        ),
    ] {
        // The real server repeats what is wrong with a selector.
        let lab = if pointer == "/spec/selector" {
            lab.quietly()
        } else {
            lab.clone()
        };
        lab.post("deploy?dryRun=All", with(workload("a", 0), pointer, value))
            .await
            .invalid(words);
    }
}

async fn a_replica_set_has_what_the_server_sets(lab: &CaseContext) {
    lab.post("rs", workload("a", 0))
        .await
        .has_code(201)
        .has("/metadata/generation", 1);
    let refused = lab
        .post(
            "rs?dryRun=All",
            with(workload("b", 0), "/spec/replicas", json!(-1)),
        )
        .await;
    refused.invalid("spec.replicas");
    lab.post(
        "rs?dryRun=All",
        with(workload("b", 0), "/spec/selector", Value::Null),
    )
    .await
    .has_code(422);
}

async fn a_stateful_set_and_a_daemon_set_have_what_the_server_sets(lab: &CaseContext) {
    lab.post("sts", with(workload("a", 0), "/spec/serviceName", json!("a")))
        .await
        .has_code(201);
    lab.post("ds", with(workload("a", 0), "/spec/replicas", Value::Null))
        .await
        .has_code(201);
}

async fn a_job_has_what_the_server_sets(lab: &CaseContext) {
    lab.post("job", job("a"))
        .await
        .has_code(201)
        .has("/spec/completions", 1)
        .has("/spec/parallelism", 1);
    let mut body = job("b");
    body["spec"] = json!({"suspend": true, "ttlSecondsAfterFinished": 5, "activeDeadlineSeconds": 60,
        "podFailurePolicy": {"rules": [{"action": "FailJob",
            "onPodConditions": [{"type": "DisruptionTarget"}]}]},
        "template": {"metadata": {"labels": {"x": "y"}, "annotations": {"a": "b"}},
            "spec": job("b")["spec"]["template"]["spec"]}});
    lab.post("job", body)
        .await
        .has_code(201)
        .has("/spec/backoffLimit", 6)
        .has("/spec/podReplacementPolicy", "Failed");
    let mut body = job("c");
    body["metadata"]["labels"] = json!({"own": "label"});
    lab.post("job", body).await.has_code(201);
}

async fn a_job_is_checked(lab: &CaseContext) {
    for (pointer, value, words) in [
        (
            "/spec/template/spec/restartPolicy",
            Value::Null,
            "spec.template.spec.restartPolicy: Required value",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Always"),
            "spec.template.spec.restartPolicy: Required value",
        ),
        ("/spec/backoffLimit", json!(-1), "spec.backoffLimit"),
        (
            "/spec/activeDeadlineSeconds",
            json!(-1),
            "spec.activeDeadlineSeconds",
        ),
        (
            "/spec/ttlSecondsAfterFinished",
            json!(-1),
            "spec.ttlSecondsAfterFinished",
        ),
        ("/spec/parallelism", json!(-1), "spec.parallelism"),
        ("/spec/completions", json!(-1), "spec.completions"),
        ("/spec/completionMode", json!("Odd"), "spec.completionMode"),
        (
            "/spec/podReplacementPolicy",
            json!("Odd"),
            "spec.podReplacementPolicy",
        ),
        (
            "/spec/selector",
            json!({"matchLabels": {"a": "b"}}),
            "spec.selector",
        ),
        (
            "/spec/template/spec/containers",
            json!([]),
            "spec.template.spec.containers: Required value",
        ),
        (
            "/spec/template/spec/volumes",
            json!([{"name": "A b", "emptyDir": {}}]),
            "spec.template.spec.volumes[0].name",
        ),
    ] {
        lab.post("job?dryRun=All", with(job("a"), pointer, value))
            .await
            .invalid(words);
    }
}

async fn a_job_with_a_failure_policy_is_checked(lab: &CaseContext) {
    let policy = |rules: Value| with(job("a"), "/spec/podFailurePolicy", json!({"rules": rules}));
    let condition = json!([{"type": "DisruptionTarget", "status": "True"}]);
    lab.post(
        "job?dryRun=All",
        policy(json!([{"action": "Odd", "onPodConditions": condition}])),
    )
    .await
    .has_code(422);
    lab.post("job?dryRun=All", policy(json!([{"action": "FailJob"}])))
        .await
        .has_code(422);
    let codes = json!([{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}}]);
    lab.post("job?dryRun=All", policy(codes)).await.has_code(422);
    let restarting = with(
        policy(json!([{"action": "Ignore", "onPodConditions": condition}])),
        "/spec/template/spec/restartPolicy",
        json!("OnFailure"),
    );
    lab.post("job?dryRun=All", restarting).await.has_code(422);
    let replacing = with(
        policy(json!([{"action": "Ignore", "onPodConditions": condition}])),
        "/spec/podReplacementPolicy",
        json!("TerminatingOrFailed"),
    );
    lab.post("job?dryRun=All", replacing).await.has_code(422);
}

fn one(list: &Answer) -> bool {
    list.names().len() == 1
}

async fn a_deployment_makes_a_replica_set_of_its_template(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    let sets = lab.quietly().until("rs", one).await;
    let set = sets.at("/items/0");
    lab.say(
        "owner",
        json!([
            set["metadata"]["ownerReferences"][0]["kind"],
            set["metadata"]["ownerReferences"][0]["controller"]
        ]),
    );
    let names: Vec<String> = set["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k.clone())
        .collect();
    assert_eq!(names, ["app", "pod-template-hash"]);
    let seen = |deployment: &Answer| {
        deployment.at("/status/observedGeneration") == deployment.at("/metadata/generation")
            && deployment.at("/status/conditions").is_array()
    };
    let deployment = lab.quietly().until("deploy/a", seen).await;
    deployment.has("/metadata/annotations/deployment.kubernetes.io~1revision", "1");
    lab.merge(
        "deploy/a",
        json!({"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}}),
    )
    .await
    .has_code(200);
    let two = |list: &Answer| list.names().len() == 2;
    lab.quietly().until("rs", two).await;
    let second = |deployment: &Answer| {
        deployment.text("/metadata/annotations/deployment.kubernetes.io~1revision") == "2"
    };
    lab.quietly().until("deploy/a", second).await;
}

async fn a_deployment_goes_with_its_replica_sets(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    lab.quietly().until("rs", one).await;
    lab.delete_with("deploy/a", json!({"propagationPolicy": "Foreground"}))
        .await
        .has_code(200);
    lab.until_gone("deploy/a").await;
    lab.until("rs", |list| list.names().is_empty()).await;
}

async fn a_job_makes_one_pod_with_its_labels(lab: &CaseContext) {
    let mut body = with(job("a"), "/spec/suspend", json!(false));
    body["spec"]["template"]["metadata"] = json!({"labels": {"x": "y"}, "annotations": {"payload": "p"}});
    let made = lab.given("job", body).await;
    let pods = lab
        .quietly()
        .until("pod?labelSelector=batch.kubernetes.io/job-name%3Da", one)
        .await;
    let pod = pods.at("/items/0");
    assert!(
        pod["metadata"]["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("a-") && name.len() == 7)
    );
    lab.call(&made.uid(), "the job");
    lab.say("labels", pod["metadata"]["labels"].clone());
    lab.say("annotations", pod["metadata"]["annotations"].clone());
    lab.say("finalizers", pod["metadata"]["finalizers"].clone());
    lab.say("owners", pod["metadata"]["ownerReferences"].clone());
    lab.say("policy", pod["spec"]["restartPolicy"].clone());
    let job = lab
        .quietly()
        .until("job/a", |job| job.at("/status/active") == json!(1))
        .await;
    lab.say("status of the job", job.at("/status/startTime"));
}

async fn a_suspended_job_makes_none(lab: &CaseContext) {
    lab.given("job", job("a")).await;
    // The controller has seen it when it has seen another that came later.
    lab.given("job", with(job("b"), "/spec/suspend", json!(false)))
        .await;
    lab.quietly().until("pod?labelSelector=job-name%3Db", one).await;
    assert_eq!(
        lab.get("pod?labelSelector=job-name%3Da").await.names(),
        Vec::<String>::new()
    );
}

async fn a_deleted_job_leaves_its_pod_unless_told_otherwise(lab: &CaseContext) {
    let body = with(job("a"), "/spec/suspend", json!(false));
    lab.given("job", body).await;
    lab.quietly().until("pod", one).await;
    lab.delete("job/a")
        .await
        .has_code(200)
        .has("/metadata/finalizers", json!(["orphan"]));
    lab.until_gone("job/a").await;
    let orphan = |pods: &Answer| pods.at("/items/0/metadata/ownerReferences").is_null() && one(pods);
    lab.quietly().until("pod", orphan).await;
    let body = with(job("b"), "/spec/suspend", json!(false));
    lab.given("job", body).await;
    lab.quietly().until("pod?labelSelector=job-name%3Db", one).await;
    lab.quietly()
        .delete_with("job/b", json!({"propagationPolicy": "Background"}))
        .await
        .has_code(200);
    lab.until_gone("job/b").await;
}

async fn a_job_without_its_account_says_so_in_an_event(lab: &CaseContext) {
    let body = with(job("a"), "/spec/suspend", json!(false));
    lab.given(
        "job",
        with(body, "/spec/template/spec/serviceAccountName", json!("nobody")),
    )
    .await;
    let target = "event?fieldSelector=involvedObject.name%3Da,reason%3DFailedCreate";
    let events = lab.quietly().until(target, |list| !list.names().is_empty()).await;
    let event = events.at("/items/0");
    lab.say("the message", event["message"].clone());
    lab.say("the type", event["type"].clone());
    let words = "Error creating: pods \"a-\" is forbidden: error looking up service account";
    assert!(
        event["message"]
            .as_str()
            .is_some_and(|message| message.starts_with(words)),
        "{event}"
    );
}

async fn a_name_too_long_for_a_job_is_refused(lab: &CaseContext) {
    lab.post(
        "job?dryRun=All",
        with(job("a"), "/metadata/name", json!("a".repeat(63))),
    )
    .await
    .has_code(201);
    lab.post(
        "job?dryRun=All",
        with(job("a"), "/metadata/name", json!("a".repeat(64))),
    )
    .await
    .has_code(422);
    lab.post(
        "deploy?dryRun=All",
        with(workload("a", 0), "/metadata/name", json!("a".repeat(253))),
    )
    .await
    .has_code(201);
}
