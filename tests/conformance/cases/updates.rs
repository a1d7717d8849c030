//! What an update changes, and what it does not.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::bodies::{config, job, named, plan, pod, with, workload};
use super::super::case_context::CaseContext;

super::cases!(
    a_write_on_an_old_version_conflicts,
    an_update_without_a_version_goes_through,
    a_custom_resource_is_not_overwritten_blindly,
    an_update_of_another_uid_conflicts,
    a_write_that_changes_nothing_keeps_the_version,
    a_spec_counts_generations,
    a_plan_counts_generations,
    a_status_is_a_world_of_its_own,
    a_status_of_a_built_in_kind_is_a_world_of_its_own,
    an_update_can_not_rename,
    what_the_server_sets_stays,
    an_immutable_config_map_stays,
    the_selector_of_a_workload_stays,
    the_template_of_a_job_stays,
    most_of_a_pod_stays,
    a_lease_is_made_by_an_update,
    a_service_account_is_updated,
    a_finalizer_can_come_and_go,
    labels_of_an_update_are_checked,
    a_bad_version_is_refused,
    an_update_takes_no_dry_run_back,
    metadata_of_a_status_is_hardly_written,
);

async fn a_write_on_an_old_version_conflicts(lab: &CaseContext) {
    let first = lab.post("cm", config("a", json!({"k": "1"}))).await;
    lab.put("cm/a", with(first.body.clone(), "/data/k", json!("2")))
        .await
        .has_code(200);
    let words = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                 changes to the latest version and try again";
    lab.put("cm/a", first.body.clone())
        .await
        .refused(409, "Conflict", words);
    let patch = json!({"metadata": {"resourceVersion": first.version()}, "data": {"k": "3"}});
    lab.merge("cm/a", patch.clone())
        .await
        .refused(409, "Conflict", words);
    lab.strategic("cm/a", patch).await.refused(409, "Conflict", words);
    let made = lab.post("plan", plan("a", json!({"size": 1}))).await;
    lab.merge("plan/a/status", json!({"status": {"phase": "early"}}))
        .await
        .has_code(200);
    lab.put("plan/a", made.body.clone()).await.refused(
        409,
        "Conflict",
        "plans.conformance.kubernaut.io \"a\"",
    );
    let patch = json!({"metadata": {"resourceVersion": made.version()}, "status": {"phase": "late"}});
    lab.merge("plan/a/status", patch)
        .await
        .refused(409, "Conflict", "plans.conformance.kubernaut.io \"a\"");
}

async fn an_update_without_a_version_goes_through(lab: &CaseContext) {
    lab.given("cm", config("a", json!({"k": "1"}))).await;
    lab.put("cm/a", config("a", json!({"l": "2"})))
        .await
        .has_code(200)
        .has("/data", json!({"l": "2"}));
    let zero = with(named("a"), "/metadata/resourceVersion", json!("0"));
    lab.put("cm/a", zero).await;
    lab.given("deploy", workload("a", 0)).await;
    // Its controller has annotated it, and this takes the annotation away.
    let annotated = |deployment: &Answer| deployment.at("/metadata/annotations").is_object();
    lab.quietly().until("deploy/a", annotated).await;
    lab.put("deploy/a", workload("a", 0))
        .await
        .has_code(200)
        .has("/metadata/generation", 2);
}

async fn a_custom_resource_is_not_overwritten_blindly(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    let words = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
    lab.put("plan/a", plan("a", json!({"size": 1})))
        .await
        .invalid(words);
    lab.put("plan/a/status", plan("a", json!({"size": 1})))
        .await
        .invalid(words);
    lab.given("lease", named("a")).await;
    lab.put("lease/a", named("a")).await.has_code(422);
    lab.given(
        "pdb",
        json!({"metadata": {"name": "a"}, "spec": {"minAvailable": 1}}),
    )
    .await;
    lab.put(
        "pdb/a",
        json!({"metadata": {"name": "a"}, "spec": {"minAvailable": 2}}),
    )
    .await;
    lab.given("role", named("a")).await;
    lab.put("role/a", named("a")).await.has_code(200);
    lab.merge("plan/a", json!({"metadata": {"resourceVersion": null}}))
        .await
        .has_code(422);
}

async fn an_update_of_another_uid_conflicts(lab: &CaseContext) {
    let made = lab.given("cm", named("a")).await;
    lab.call(&made.uid(), "its uid");
    let words = "Precondition failed: UID in precondition: other, UID in object meta:";
    lab.put("cm/a", json!({"metadata": {"name": "a", "uid": "other"}}))
        .await
        .refused(409, "Conflict", words);
    lab.merge("cm/a", json!({"metadata": {"uid": "other"}}))
        .await
        .invalid("metadata.uid: Invalid value: \"other\": field is immutable");
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.merge("plan/a", json!({"metadata": {"uid": "other"}}))
        .await
        .has_code(422);
    lab.merge("plan/a/status", json!({"metadata": {"uid": "other"}}))
        .await
        .has_code(200);
}

async fn a_write_that_changes_nothing_keeps_the_version(lab: &CaseContext) {
    let made = lab.post("cm", config("a", json!({"k": "1"}))).await;
    lab.put("cm/a", made.body.clone())
        .await
        .has("/metadata/resourceVersion", made.version());
    lab.put("cm/a", config("a", json!({"k": "1"})))
        .await
        .has("/metadata/resourceVersion", made.version());
    lab.merge("cm/a", json!({"data": {"k": "1"}}))
        .await
        .has("/metadata/resourceVersion", made.version());
    lab.strategic("cm/a", json!({}))
        .await
        .has("/metadata/resourceVersion", made.version());
    lab.operations("cm/a", json!([]))
        .await
        .has("/metadata/resourceVersion", made.version());
    let labels = json!({"metadata": {"labels": {}, "annotations": null}});
    lab.merge("cm/a", labels)
        .await
        .has("/metadata/resourceVersion", made.version());
    let made = lab.post("plan", plan("a", json!({"size": 1}))).await;
    lab.put("plan/a", made.body.clone())
        .await
        .has("/metadata/resourceVersion", made.version());
    lab.merge("plan/a", json!({"spec": {"size": 1}}))
        .await
        .has("/metadata/resourceVersion", made.version());
    lab.merge("plan/a", json!({"spec": {"extra": 1}}))
        .await
        .has("/metadata/resourceVersion", made.version());
    lab.merge("plan/a", json!({"spec": {"mode": null}}))
        .await
        .has("/metadata/resourceVersion", made.version());
    lab.merge("plan/a/status", json!({}))
        .await
        .has("/metadata/resourceVersion", made.version());
    lab.merge("plan/a/status", json!({"spec": {"size": 2}}))
        .await
        .has("/metadata/resourceVersion", made.version());
}

async fn a_spec_counts_generations(lab: &CaseContext) {
    lab.post("deploy", workload("a", 0))
        .await
        .has("/metadata/generation", 1);
    let change = json!({"spec": {"minReadySeconds": 1}});
    lab.merge("deploy/a", change).await.has("/metadata/generation", 2);
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    lab.merge("deploy/a", label).await.has("/metadata/generation", 2);
    lab.merge("deploy/a", json!({"metadata": {"generation": 50}}))
        .await
        .has("/metadata/generation", 2);
    lab.merge("deploy/a/scale", json!({"spec": {"replicas": 1}}))
        .await
        .has_code(200);
    lab.get("deploy/a").await.has("/metadata/generation", 3);
    lab.post("job", job("a")).await.has("/metadata/generation", 1);
    lab.merge("job/a", json!({"spec": {"parallelism": 0}}))
        .await
        .has("/metadata/generation", 2);
    lab.post("pod", pod("a")).await.has("/metadata/generation", 1);
    lab.post("cm", named("a")).await.lacks("/metadata/generation");
    lab.post("secret", named("a")).await.lacks("/metadata/generation");
    lab.post("lease", named("a")).await.lacks("/metadata/generation");
    lab.post("role", named("a")).await.lacks("/metadata/generation");
}

async fn a_plan_counts_generations(lab: &CaseContext) {
    lab.post("plan", plan("a", json!({"size": 9})))
        .await
        .has("/metadata/generation", 1);
    let label = json!({"metadata": {"labels": {"x": "y"}, "finalizers": ["example.com/x"]}});
    lab.merge("plan/a", label).await.has("/metadata/generation", 1);
    lab.merge("plan/a", json!({"spec": {"note": "x"}}))
        .await
        .has("/metadata/generation", 2);
    lab.merge("plan/a/status", json!({"status": {"count": 1}}))
        .await
        .has("/metadata/generation", 2);
    lab.merge("plan/a", json!({"status": {"count": 2}}))
        .await
        .has("/metadata/generation", 2);
    lab.delete("plan/a").await.has("/metadata/generation", 3);
    lab.merge("plan/a", json!({"spec": {"note": "y"}}))
        .await
        .has("/metadata/generation", 4);
}

async fn a_status_is_a_world_of_its_own(lab: &CaseContext) {
    let made = lab.post("plan", plan("a", json!({"size": 2}))).await;
    let patch = json!({
        "metadata": {"labels": {"no": "way"}}, "spec": {"size": 7, "note": "x"}, "status": {"phase": "early"},
    });
    let written = lab.merge("plan/a/status", patch).await;
    written
        .has_code(200)
        .has("/status/phase", "early")
        .has("/spec/size", 2)
        .lacks("/metadata/labels");
    lab.get("plan/a/status")
        .await
        .has_code(200)
        .has("/status/phase", "early");
    lab.merge("plan/a", json!({"status": {"phase": "late"}}))
        .await
        .has("/status/phase", "early");
    lab.merge("plan/a", json!({"status": null}))
        .await
        .has("/status/phase", "early");
    lab.merge("plan/a/status", json!({"status": {"phase": "wrong"}}))
        .await
        .invalid("status.phase");
    lab.merge("plan/a/status", json!({"status": {"count": 4, "odd": 1}}))
        .await
        .has_code(200)
        .lacks("/status/odd");
    let mut body = made.body.clone();
    body["metadata"]["resourceVersion"] = json!(lab.quietly().get("plan/a").await.version());
    body["status"] = json!({"phase": "late"});
    lab.put("plan/a/status", body)
        .await
        .has_code(200)
        .has("/status", json!({"phase": "late"}));
    lab.merge("plan/a/status", json!({"status": null}))
        .await
        .has_code(200)
        .lacks("/status");
    lab.operations(
        "plan/a/status",
        json!([{"op": "add", "path": "/status", "value": {"count": 1}}]),
    )
    .await
    .has_code(200);
}

async fn a_status_of_a_built_in_kind_is_a_world_of_its_own(lab: &CaseContext) {
    lab.given("pod", pod("a")).await;
    let patch = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "b"},
        "status": {"phase": "Running", "message": "hello"}});
    let written = lab.quietly().merge("pod/a/status", patch).await;
    written
        .has_code(200)
        .has("/status/message", "hello")
        .has("/spec/nodeName", "nowhere");
    lab.say("labels", written.at("/metadata/labels"));
    let written = lab
        .quietly()
        .merge("pod/a", json!({"status": {"message": "other"}}))
        .await;
    written.has_code(200).has("/status/message", "hello");
    lab.given("deploy", workload("a", 0)).await;
    let patch = json!({"spec": {"minReadySeconds": 9}, "status": {"collisionCount": 3}});
    let written = lab.strategic("deploy/a/status", patch).await;
    written
        .has_code(200)
        .has("/status/collisionCount", 3)
        .lacks("/spec/minReadySeconds");
    lab.merge("node/{ns}/status", json!({"status": {}}))
        .await
        .has_code(404);
    let body = json!({"metadata": {"name": "{ns}"}});
    lab.given("node", body).await;
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let written = lab.strategic("node/{ns}/status", patch).await;
    written.has_code(200).has("/status/conditions/0/status", "True");
    lab.merge("node/{ns}", json!({"status": {"conditions": []}}))
        .await
        .has("/status/conditions/0/type", "Ready");
    lab.quietly().delete("node/{ns}").await.has_code(200);
}

async fn an_update_can_not_rename(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.merge("plan/a", json!({"metadata": {"name": "b"}}))
        .await
        .has_code(400);
    lab.merge("plan/a", json!({"metadata": {"name": null}})).await;
    lab.given("cm", named("a")).await;
    lab.put("cm/a", json!({"metadata": {}})).await;
    lab.put("plan/a", json!({"metadata": {}, "spec": {"size": 1}}))
        .await;
    lab.put("cm/b", named("a")).await.has_code(400);
    lab.merge("cm/a", json!({"kind": "Secret"})).await.has_code(422);
    lab.merge("cm/a", json!({"apiVersion": "v2"})).await.has_code(422);
    lab.merge("plan/a", json!({"kind": "Other"})).await.has_code(422);
    lab.merge("plan/a", json!({"apiVersion": "conformance.kubernaut.io/v2"}))
        .await
        .has_code(422);
}

async fn what_the_server_sets_stays(lab: &CaseContext) {
    let made = lab.post("plan", plan("a", json!({"size": 1}))).await;
    let words = "metadata.deletionGracePeriodSeconds: Invalid value: 3: field is immutable";
    let patch = json!({"metadata": {"deletionGracePeriodSeconds": 3}});
    lab.merge("plan/a", patch).await.invalid(words);
    let patch =
        json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z", "generation": 9, "selfLink": "/x"}});
    let written = lab.merge("plan/a", patch).await;
    written
        .has_code(200)
        .has("/metadata/uid", made.uid())
        .has("/metadata/generation", 1);
}

async fn an_immutable_config_map_stays(lab: &CaseContext) {
    let body = with(config("a", json!({"k": "1"})), "/immutable", json!(true));
    lab.post("cm", body).await.has_code(201);
    lab.merge("cm/a", json!({"data": {"k": "2"}}))
        .await
        .invalid("field is immutable when `immutable` is set");
    lab.merge("cm/a", json!({"binaryData": {"l": "eA=="}}))
        .await
        .invalid("binaryData");
    lab.merge("cm/a", json!({"immutable": false}))
        .await
        .invalid("immutable");
    lab.merge("cm/a", json!({"immutable": null, "data": {"k": "2"}}))
        .await
        .invalid("immutable");
    lab.merge("cm/a", json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .has_code(200);
}

async fn the_selector_of_a_workload_stays(lab: &CaseContext) {
    let none = with(workload("a", 0), "/spec/selector", json!(null));
    lab.post("deploy", none).await.has_code(422);
    lab.post("deploy", with(workload("a", 0), "/spec/selector", json!({})))
        .await
        .has_code(422);
    let other = with(
        workload("a", 0),
        "/spec/selector/matchLabels",
        json!({"app": "other"}),
    );
    lab.post("deploy", other)
        .await
        .invalid("`selector` does not match template `labels`");
    for kind in ["deploy", "rs"] {
        lab.given(kind, workload(kind, 0)).await;
        let change = json!({"spec": {"selector": {"matchLabels": {"more": "x"}},
            "template": {"metadata": {"labels": {"more": "x"}}}}});
        lab.merge(&format!("{kind}/{kind}"), change)
            .await
            .invalid("field is immutable");
    }
    let mut sts = workload("s", 0);
    sts["spec"]["serviceName"] = json!("s");
    lab.given("sts", sts).await;
    let change = json!({"spec": {"serviceName": "t"}});
    lab.merge("sts/s", change).await.has_code(422);
}

async fn the_template_of_a_job_stays(lab: &CaseContext) {
    lab.post("job", job("a"))
        .await
        .has_code(201)
        .has("/spec/backoffLimit", 0);
    for change in [
        json!({"spec": {"completions": 2}}),
        json!({"spec": {"completionMode": "Indexed"}}),
        json!({"spec": {"podFailurePolicy": {"rules": [{"action": "FailJob",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}}}),
        json!({"spec": {"selector": {"matchLabels": {"x": "y"}}}}),
    ] {
        lab.merge("job/a", change).await.has_code(422);
    }
    let running = with(job("b"), "/spec/suspend", json!(false));
    lab.given("job", running).await;
    // Until it has begun, a template of a Job that was suspended may be changed.
    let image = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "x:2"}]);
    let refused = lab.quietly().operations("job/b", image).await;
    refused
        .invalid("spec.template: Invalid value")
        .invalid("field is immutable");
    for change in [
        json!({"spec": {"backoffLimit": 3}}),
        json!({"spec": {"activeDeadlineSeconds": 100}}),
        json!({"spec": {"ttlSecondsAfterFinished": 100}}),
        json!({"spec": {"suspend": true}}),
    ] {
        lab.merge("job/b", change).await.has_code(200);
    }
}

async fn most_of_a_pod_stays(lab: &CaseContext) {
    lab.given("pod", pod("a")).await;
    let image = json!({"spec": {"containers": [{"name": "app", "image": "registry.example/app:2"}]}});
    lab.strategic("pod/a", image).await.has_code(200);
    for change in [
        json!({"spec": {"nodeName": "other"}}),
        json!({"spec": {"serviceAccountName": "other"}}),
        json!({"spec": {"restartPolicy": "Never"}}),
    ] {
        let refused = lab.quietly().merge("pod/a", change).await;
        refused.invalid("pod updates may not change fields other than");
        let message = refused.message().split(',').next().unwrap_or_default().to_owned();
        lab.say("the beginning of the message", json!(message));
    }
    lab.merge("pod/a", json!({"spec": {"activeDeadlineSeconds": 10}}))
        .await
        .has_code(200);
    lab.merge("pod/a", json!({"metadata": {"labels": {"x": "y"}}}))
        .await
        .has_code(200);
    let more = json!({"spec": {"tolerations": [{"key": "x", "operator": "Exists"}]}});
    lab.merge("pod/a", more).await;
}

async fn a_lease_is_made_by_an_update(lab: &CaseContext) {
    let body = json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "x"}});
    lab.put("lease/a", body).await;
    lab.get("lease/a").await;
    lab.put("cm/a", named("a")).await.refused(404, "NotFound", "");
    lab.put("role/a", named("a")).await.has_code(201);
    lab.put("plan/a", plan("a", json!({"size": 1})))
        .await
        .has_code(404);
}

async fn a_service_account_is_updated(lab: &CaseContext) {
    lab.given("sa", named("a")).await;
    let patch = json!({"secrets": [{"name": "x"}], "imagePullSecrets": [{"name": "y"}]});
    lab.strategic("sa/a", patch).await.has_code(200);
    lab.strategic("sa/a", json!({"imagePullSecrets": [{"name": "z"}]}))
        .await
        .has_code(200);
}

async fn a_finalizer_can_come_and_go(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    let hold = |list: Value| json!({"metadata": {"finalizers": list}});
    lab.merge("plan/a", hold(json!(["example.com/a"])))
        .await
        .has_code(200);
    lab.merge("plan/a", hold(json!(["example.com/a", "example.com/b"])))
        .await
        .has_code(200);
    lab.merge("plan/a", hold(json!(["none"]))).await.has_code(200);
    lab.merge("plan/a", hold(json!([])))
        .await
        .has_code(200)
        .lacks("/metadata/finalizers");
    lab.get("plan/a").await.lacks("/metadata/finalizers");
}

async fn labels_of_an_update_are_checked(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.merge("cm/a", json!({"metadata": {"labels": {"a": "b c"}}}))
        .await
        .invalid("metadata.labels");
    lab.merge("cm/a", json!({"metadata": {"annotations": {"a b": "c"}}}))
        .await
        .invalid("metadata.annotations");
    lab.merge("cm/a", json!({"data": {"a b": "c"}}))
        .await
        .invalid("data[a b]");
    lab.merge("cm/a", json!({"data": {"a": 1}})).await.has_code(422);
    lab.merge("cm/a", json!({"data": {"a": null, "b": "c"}}))
        .await
        .has_code(200)
        .has("/data", json!({"b": "c"}));
}

async fn a_bad_version_is_refused(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.put(
        "cm/a",
        with(named("a"), "/metadata/resourceVersion", json!("new")),
    )
    .await;
    lab.merge("cm/a", json!({"metadata": {"resourceVersion": "999999999"}}))
        .await
        .has_code(409);
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    let bad = with(
        plan("a", json!({"size": 1})),
        "/metadata/resourceVersion",
        json!("new"),
    );
    lab.put("plan/a", bad).await;
}

async fn an_update_takes_no_dry_run_back(lab: &CaseContext) {
    let made = lab.given("plan", plan("a", json!({"size": 5}))).await;
    lab.call(&made.version(), "first");
    lab.merge("plan/a?dryRun=All", json!({"spec": {"note": "x"}}))
        .await
        .has_code(200)
        .has("/metadata/generation", 2);
    lab.merge("plan/a/status?dryRun=All", json!({"status": {"count": 1}}))
        .await
        .has_code(200);
    lab.merge("plan/a?dryRun=All", json!({"spec": {"size": 6}}))
        .await
        .invalid("size is immutable");
    lab.delete("plan/a?dryRun=All").await.has_code(200);
    lab.get("plan/a")
        .await
        .has("/metadata/generation", 1)
        .lacks("/status");
}

async fn metadata_of_a_status_is_hardly_written(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    let patch = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": ["example.com/x"]},
        "status": {"count": 1}});
    lab.merge("plan/a/status", patch)
        .await
        .has_code(200)
        .lacks("/metadata/labels")
        .lacks("/metadata/finalizers");
    let patch = json!({"metadata": {"labels": {"a b": "b"}}, "status": {"count": 2}});
    lab.merge("plan/a/status", patch).await.has_code(200);
}
