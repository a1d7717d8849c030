//! Lists: selectors, pages, versions.

use serde_json::json;

use super::super::bodies::{config, execution, named, plan, pod, workload};
use super::super::case_context::CaseContext;

super::cases!(
    a_list_is_ordered_and_says_what_it_is,
    a_list_over_all_namespaces_is_a_list_too,
    labels_select_in_every_way,
    a_bad_label_selector_is_refused,
    fields_select_names_and_namespaces,
    pods_are_selected_by_their_fields,
    secrets_and_events_are_selected_by_their_fields,
    custom_resources_are_selected_by_declared_fields,
    an_unknown_field_is_refused,
    a_bad_field_selector_is_refused,
    a_list_comes_in_pages,
    a_bad_token_is_refused,
    a_token_stays_good_when_its_object_goes,
    a_list_at_any_version_is_served,
    a_version_and_its_match_must_fit,
    a_version_that_is_none_is_refused,
    a_version_of_the_future_is_refused,
    one_object_is_read_at_any_version,
    a_bad_limit_is_refused,
);

async fn five(lab: &CaseContext) {
    for i in 0..5 {
        let labels = json!({"odd": (i % 2).to_string(), "n": i.to_string()});
        let labels = if i == 4 { json!({"n": "4"}) } else { labels };
        lab.given(
            "cm",
            json!({"metadata": {"name": format!("c{i}"), "labels": labels}}),
        )
        .await;
    }
}

async fn a_list_is_ordered_and_says_what_it_is(lab: &CaseContext) {
    for name in ["b", "a", "a-1", "a.b"] {
        lab.given("secret", named(name)).await;
        lab.given("plan", plan(name, json!({"size": 1}))).await;
    }
    let list = lab.get("secret").await;
    list.has_code(200)
        .has("/kind", "SecretList")
        .lacks("/items/0/kind");
    assert_eq!(list.names(), ["a", "a-1", "a.b", "b"]);
    let list = lab.get("plan").await;
    list.has_code(200)
        .has("/kind", "PlanList")
        .has("/items/0/kind", "Plan");
    assert_eq!(list.names(), ["a", "a-1", "a.b", "b"]);
    lab.get("lease").await.has_code(200).has("/items", json!([]));
    lab.get("ke")
        .await
        .has_code(200)
        .has("/kind", "KubernetesExecutionList")
        .has("/items", json!([]));
    lab.get("newevent").await.has_code(200).has("/kind", "EventList");
}

async fn a_list_over_all_namespaces_is_a_list_too(lab: &CaseContext) {
    lab.given(
        "cm",
        json!({"metadata": {"name": "a", "labels": {"case": "{ns}"}}}),
    )
    .await;
    let list = lab.get("/api/v1/configmaps?labelSelector=case={ns}").await;
    assert_eq!(list.has_code(200).names(), ["a"]);
    let list = lab
        .get("/api/v1/configmaps?fieldSelector=metadata.namespace={ns},metadata.name=a")
        .await;
    assert_eq!(list.has_code(200).names(), ["a"]);
    let list = lab.get("ns?fieldSelector=metadata.name={ns}").await;
    assert_eq!(list.has_code(200).names(), [lab.namespace()]);
}

async fn labels_select_in_every_way(lab: &CaseContext) {
    five(lab).await;
    for (selector, found) in [
        ("odd=1", vec!["c1", "c3"]),
        ("odd==1", vec!["c1", "c3"]),
        ("odd!=1", vec!["c0", "c2", "c4"]),
        ("odd in (1,0)", vec!["c0", "c1", "c2", "c3"]),
        ("odd in (1)", vec!["c1", "c3"]),
        ("odd notin (1)", vec!["c0", "c2", "c4"]),
        ("odd", vec!["c0", "c1", "c2", "c3"]),
        ("!odd", vec!["c4"]),
        ("odd,n=3", vec!["c3"]),
        ("odd=1,n notin (1, 2)", vec!["c3"]),
        ("n>2", vec!["c3", "c4"]),
        ("n<1", vec!["c0"]),
        ("odd=", vec![]),
        ("odd in ()", vec![]),
        ("odd notin ()", vec!["c0", "c1", "c2", "c3", "c4"]),
    ] {
        let list = lab
            .get(&format!("cm?labelSelector=n,{}", encoded(selector)))
            .await;
        assert_eq!(list.has_code(200).names(), found, "{selector}");
    }
}

fn encoded(selector: &str) -> String {
    selector
        .replace('=', "%3D")
        .replace(' ', "%20")
        .replace('>', "%3E")
        .replace('<', "%3C")
}

async fn a_bad_label_selector_is_refused(lab: &CaseContext) {
    for selector in [
        "a b",
        "a in",
        "a in (",
        "a=b=c",
        "a=b c",
        "=",
        "a in (b",
        "a_/b=c",
        "a>b",
        "!",
        "(a)",
        "a=b-",
        "a!=-b",
        "a in (b,c-)",
        "a>-5",
    ] {
        let answer = lab.get(&format!("cm?labelSelector={}", encoded(selector))).await;
        answer.refused(400, "BadRequest", "");
    }
    lab.get("plan?labelSelector=a%20b").await.has_code(400);
    lab.get("cm?labelSelector=a,,b").await;
    lab.get("cm?labelSelector=,a").await;
    lab.get("cm?labelSelector=a,").await;
}

async fn fields_select_names_and_namespaces(lab: &CaseContext) {
    five(lab).await;
    let list = lab.get("cm?fieldSelector=metadata.name=c2").await;
    assert_eq!(list.has_code(200).names(), ["c2"]);
    let list = lab
        .get("cm?fieldSelector=metadata.name==c2,metadata.namespace={ns}")
        .await;
    assert_eq!(list.has_code(200).names(), ["c2"]);
    let list = lab
        .get("cm?labelSelector=n&fieldSelector=metadata.name!=c2,metadata.name!=c3")
        .await;
    assert_eq!(list.has_code(200).names(), ["c0", "c1", "c4"]);
    let list = lab.get("cm?fieldSelector=metadata.namespace=other").await;
    assert_eq!(list.has_code(200).names(), Vec::<String>::new());
}

async fn pods_are_selected_by_their_fields(lab: &CaseContext) {
    lab.given("pod", pod("a")).await;
    let mut other = pod("b");
    other["spec"]["nodeName"] = json!("elsewhere");
    other["spec"]["restartPolicy"] = json!("Never");
    lab.given("pod", other).await;
    for (name, phase) in [("a", "Running"), ("b", "Failed")] {
        let target = format!("pod/{name}/status");
        lab.quietly()
            .merge(&target, json!({"status": {"phase": phase}}))
            .await
            .has_code(200);
    }
    for (selector, found) in [
        ("spec.nodeName=nowhere", vec!["a"]),
        ("spec.nodeName!=nowhere", vec!["b"]),
        ("status.phase=Running", vec!["a"]),
        ("status.phase!=Running", vec!["b"]),
        ("spec.restartPolicy=Never", vec!["b"]),
        ("spec.serviceAccountName=default", vec!["a", "b"]),
        ("spec.schedulerName=default-scheduler", vec!["a", "b"]),
        ("spec.hostNetwork=false", vec!["a", "b"]),
        ("spec.nodeName=nowhere,status.phase=Failed", vec![]),
    ] {
        let list = lab.get(&format!("pod?fieldSelector={selector}")).await;
        assert_eq!(list.has_code(200).names(), found, "{selector}");
    }
}

async fn secrets_and_events_are_selected_by_their_fields(lab: &CaseContext) {
    lab.given("secret", named("a")).await;
    let list = lab.get("secret?fieldSelector=type=Opaque").await;
    assert_eq!(list.has_code(200).names(), ["a"]);
    let event = |name: &str, reason: &str| {
        json!({"metadata": {"name": name}, "reason": reason, "type": "Normal",
            "involvedObject": {"kind": "Job", "name": name, "namespace": "{ns}", "uid": "u"}})
    };
    lab.given("event", event("a", "One")).await;
    lab.given("event", event("b", "Two")).await;
    for selector in [
        "reason=One",
        "involvedObject.kind=Job,involvedObject.name=a",
        "involvedObject.name=a,type=Normal",
        "involvedObject.name=a,involvedObject.uid=u,involvedObject.namespace={ns}",
    ] {
        let list = lab.get(&format!("event?fieldSelector={selector}")).await;
        assert_eq!(list.has_code(200).names(), ["a"], "{selector}");
    }
    lab.get("event?fieldSelector=message=x").await.has_code(400);
    lab.get("newevent?fieldSelector=involvedObject.name=a").await;
    lab.get("newevent?fieldSelector=note=a").await.has_code(400);
}

async fn custom_resources_are_selected_by_declared_fields(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.given("plan", plan("b", json!({"size": 1}))).await;
    lab.quietly()
        .merge("plan/a/status", json!({"status": {"phase": "early"}}))
        .await
        .has_code(200);
    let list = lab.get("plan?fieldSelector=status.phase=early").await;
    assert_eq!(list.has_code(200).names(), ["a"]);
    let list = lab.get("plan?fieldSelector=status.phase!=early").await;
    assert_eq!(list.has_code(200).names(), ["b"]);
    lab.given("ke", execution("a")).await;
    let list = lab.get("ke?fieldSelector=spec.action=cordon-node").await;
    assert_eq!(list.has_code(200).names(), ["a"]);
    lab.get("ke?fieldSelector=spec.timeout=1m")
        .await
        .refused(400, "BadRequest", "field label not supported");
}

async fn an_unknown_field_is_refused(lab: &CaseContext) {
    lab.get("cm?fieldSelector=data.k=1").await.refused(
        400,
        "BadRequest",
        "\"data.k\" is not a known field selector",
    );
    lab.get("deploy?fieldSelector=spec.replicas=1").await.refused(
        400,
        "BadRequest",
        "is not a known field selector",
    );
    lab.get("plan?fieldSelector=spec.size=1").await.refused(
        400,
        "BadRequest",
        "field label not supported: spec.size",
    );
    lab.get("pod?fieldSelector=spec.x=1").await.has_code(400);
    lab.get("job?fieldSelector=spec.x=1").await.has_code(400);
    lab.get("node?fieldSelector=spec.x=1").await.has_code(400);
    lab.get("ns?fieldSelector=spec.x=1").await.has_code(400);
    lab.get("lease?fieldSelector=spec.x=1").await.has_code(400);
    lab.get("role?fieldSelector=spec.x=1").await.has_code(400);
    lab.get("event?fieldSelector=spec.x=1").await.has_code(400);
    lab.get("cm?watch=true&fieldSelector=data.k=1")
        .await
        .has_code(400);
    lab.delete("cm?fieldSelector=data.k=1").await.has_code(400);
}

async fn a_bad_field_selector_is_refused(lab: &CaseContext) {
    for selector in ["metadata.name", "metadata.name=a=b", "a"] {
        lab.get(&format!("cm?fieldSelector={}", encoded(selector))).await;
    }
}

async fn a_list_comes_in_pages(lab: &CaseContext) {
    five(lab).await;
    let page = lab.get("cm?labelSelector=n&limit=2").await;
    assert_eq!(page.has_code(200).names(), ["c0", "c1"]);
    let token = page.text("/metadata/continue");
    lab.call(&token, "more");
    let page = lab
        .get(&format!("cm?labelSelector=n&limit=2&continue={token}"))
        .await;
    assert_eq!(page.has_code(200).names(), ["c2", "c3"]);
    let token = page.text("/metadata/continue");
    lab.call(&token, "still more");
    let page = lab
        .get(&format!("cm?labelSelector=n&limit=2&continue={token}"))
        .await;
    assert_eq!(page.has_code(200).names(), ["c4"]);
    page.lacks("/metadata/continue");
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.given("plan", plan("b", json!({"size": 1}))).await;
    let page = lab.get("plan?limit=1").await;
    page.has_code(200).has("/metadata/remainingItemCount", 1);
    lab.get("plan?limit=2").await.has("/metadata/continue", "");
    lab.get("plan?limit=0").await.has("/metadata/continue", "");
}

async fn a_bad_token_is_refused(lab: &CaseContext) {
    five(lab).await;
    lab.get("cm?limit=2&continue=nonsense")
        .await
        .refused(400, "BadRequest", "continue key is not valid");
    lab.get("cm?limit=2&continue=e30").await.has_code(400);
    lab.get("plan?limit=2&continue=%25").await.has_code(400);
    let page = lab.quietly().get("cm?labelSelector=n&limit=2").await;
    let token = page.text("/metadata/continue");
    lab.call(&token, "more");
    lab.get(&format!("cm?limit=2&continue={token}&resourceVersion=5"))
        .await
        .has_code(400);
}

async fn a_token_stays_good_when_its_object_goes(lab: &CaseContext) {
    five(lab).await;
    let page = lab.quietly().get("cm?labelSelector=n&limit=2").await;
    let token = page.text("/metadata/continue");
    lab.call(&token, "more");
    lab.delete("cm/c1").await.has_code(200);
    let rest = lab
        .get(&format!("cm?labelSelector=n&limit=5&continue={token}"))
        .await;
    assert_eq!(rest.has_code(200).names(), ["c2", "c3", "c4"]);
}

async fn a_list_at_any_version_is_served(lab: &CaseContext) {
    let made = lab
        .given("cm", json!({"metadata": {"name": "a", "labels": {"n": "1"}}}))
        .await;
    let version = made.version();
    lab.call(&version, "first");
    lab.until("cm?labelSelector=n&resourceVersion=0", |list| {
        list.names() == ["a"]
    })
    .await;
    let list = lab
        .get(&format!("cm?labelSelector=n&resourceVersion={version}"))
        .await;
    assert_eq!(list.has_code(200).names(), ["a"]);
    for how in ["NotOlderThan", "Exact"] {
        let target = format!("cm?labelSelector=n&resourceVersion={version}&resourceVersionMatch={how}");
        assert_eq!(lab.get(&target).await.has_code(200).names(), ["a"]);
    }
}

async fn a_version_and_its_match_must_fit(lab: &CaseContext) {
    lab.get("cm?resourceVersionMatch=Exact").await.has_code(422);
    lab.get("cm?resourceVersion=0&resourceVersionMatch=Exact")
        .await
        .has_code(422);
    lab.get("cm?resourceVersion=0&resourceVersionMatch=Sometimes")
        .await
        .has_code(422);
    lab.get("cm?sendInitialEvents=true").await.has_code(422);
    lab.get("cm?watch=true&sendInitialEvents=true")
        .await
        .has_code(422);
    lab.get("cm?watch=true&resourceVersionMatch=NotOlderThan")
        .await
        .has_code(422);
    lab.get("plan?resourceVersionMatch=Exact").await.has_code(422);
    lab.get("cm?continue=abc&resourceVersionMatch=Exact")
        .await
        .has_code(422);
}

async fn a_version_that_is_none_is_refused(lab: &CaseContext) {
    lab.get("cm?resourceVersion=new").await;
    lab.get("cm?resourceVersion=-1").await;
    lab.get("plan?resourceVersion=new").await;
    lab.get("cm?watch=true&resourceVersion=new").await;
    lab.get("cm/a?resourceVersion=new").await;
}

async fn a_version_of_the_future_is_refused(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    let refused = lab.quietly().get("cm?resourceVersion=999999999999").await;
    refused.refused(504, "Timeout", "Too large resource version");
    lab.say(
        "reason",
        json!([
            refused.code,
            refused.at("/reason"),
            refused.at("/details/causes/0/reason")
        ]),
    );
    lab.say("retry", refused.at("/details/retryAfterSeconds"));
}

async fn one_object_is_read_at_any_version(lab: &CaseContext) {
    lab.given("cm", config("a", json!({"k": "v"}))).await;
    lab.until("cm/a?resourceVersion=0", |answer| answer.code == 200)
        .await
        .has("/data/k", "v");
}

async fn a_bad_limit_is_refused(lab: &CaseContext) {
    lab.get("cm?limit=x").await;
    lab.get("cm?limit=-1&labelSelector=none").await;
    lab.get("cm?timeoutSeconds=x").await;
    lab.given("deploy", workload("a", 0)).await;
    lab.get("deploy/a?limit=x").await.has_code(200);
}
