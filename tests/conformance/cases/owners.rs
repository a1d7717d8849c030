//! Owners and dependents: what the garbage collector does.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::bodies::{execution, named, owned_by, plan};
use super::super::case_context::CaseContext;

super::cases!(
    dependents_go_with_their_owner,
    an_orphan_keeps_living_without_its_reference,
    an_orphan_finalizer_is_seen_first,
    a_foreground_deletion_waits_for_a_blocking_dependent,
    a_foreground_deletion_waits_for_nobody_else,
    a_child_of_an_owner_that_never_was_is_collected,
    one_owner_is_enough_to_stay,
    grandchildren_go_too,
    a_child_in_another_namespace_is_collected,
    a_dependent_may_belong_to_a_node,
    a_policy_can_be_changed_under_way,
    an_owner_of_another_uid_is_none,
);

/// Who names an owner is not seen by the collector at once: a deletion before that leaves it to the next look.
async fn family(lab: &CaseContext, blocking: bool) -> Answer {
    let owner = lab.given("cm", named("owner")).await;
    lab.given("cm", child("child", owned_by(&owner, blocking))).await;
    owner
}

fn child(name: &str, owners: Value) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": owners}})
}

async fn dependents_go_with_their_owner(lab: &CaseContext) {
    family(lab, true).await;
    lab.delete_with("cm/owner", json!({"propagationPolicy": "Background"}))
        .await
        .has_code(200);
    lab.until_gone("cm/child").await;
    let owner = lab.given("cm", named("owner")).await;
    lab.given("secret", child("child", owned_by(&owner, false))).await;
    lab.delete("cm/owner").await.has_code(200);
    lab.until_gone("secret/child").await;
}

async fn an_orphan_keeps_living_without_its_reference(lab: &CaseContext) {
    family(lab, true).await;
    lab.quietly()
        .delete_with("cm/owner", json!({"propagationPolicy": "Orphan"}))
        .await
        .has_code(200);
    lab.until_gone("cm/owner").await;
    lab.until("cm/child", |child| {
        child.at("/metadata/ownerReferences").is_null()
    })
    .await;
}

async fn an_orphan_finalizer_is_seen_first(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    let answer = lab
        .delete_with("cm/a", json!({"propagationPolicy": "Orphan"}))
        .await;
    answer
        .has_code(200)
        .has("/metadata/finalizers", json!(["orphan"]));
    lab.until_gone("cm/a").await;
    lab.given("cm", named("b")).await;
    let answer = lab.delete_with("cm/b", json!({"orphanDependents": true})).await;
    answer
        .has_code(200)
        .has("/metadata/finalizers", json!(["orphan"]));
    lab.until_gone("cm/b").await;
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    let answer = lab.delete("plan/a?propagationPolicy=Foreground").await;
    answer
        .has_code(200)
        .has("/metadata/finalizers", json!(["foregroundDeletion"]));
}

async fn a_foreground_deletion_waits_for_a_blocking_dependent(lab: &CaseContext) {
    let owner = lab.given("cm", named("owner")).await;
    let mut body = child("child", owned_by(&owner, true));
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lab.given("cm", body).await;
    let answer = lab
        .delete_with("cm/owner", json!({"propagationPolicy": "Foreground"}))
        .await;
    answer
        .has_code(200)
        .has("/metadata/finalizers", json!(["foregroundDeletion"]));
    lab.quietly()
        .until("cm/child", |child| {
            child.at("/metadata/deletionTimestamp").is_string()
        })
        .await;
    lab.get("cm/owner").await.has_code(200);
    lab.quietly()
        .merge("cm/child", json!({"metadata": {"finalizers": null}}))
        .await
        .has_code(200);
    lab.until_gone("cm/child").await;
    lab.until_gone("cm/owner").await;
}

async fn a_foreground_deletion_waits_for_nobody_else(lab: &CaseContext) {
    let owner = lab.given("cm", named("owner")).await;
    let mut body = child("child", owned_by(&owner, false));
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lab.given("cm", body).await;
    lab.delete_with("cm/owner", json!({"propagationPolicy": "Foreground"}))
        .await
        .has_code(200);
    lab.until_gone("cm/owner").await;
    lab.quietly()
        .until("cm/child", |child| {
            child.at("/metadata/deletionTimestamp").is_string()
        })
        .await;
    lab.quietly()
        .merge("cm/child", json!({"metadata": {"finalizers": null}}))
        .await
        .has_code(200);
    lab.until_gone("cm/child").await;
}

async fn a_child_of_an_owner_that_never_was_is_collected(lab: &CaseContext) {
    let owners = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
        "uid": "4a2c0b62-2f0e-4d4b-9a3e-222222222222"}]);
    lab.post("cm", child("child", owners)).await.has_code(201);
    lab.until_gone("cm/child").await;
}

async fn one_owner_is_enough_to_stay(lab: &CaseContext) {
    let one = lab.given("cm", named("one")).await;
    let two = lab.given("cm", named("two")).await;
    let mut owners = owned_by(&one, false).as_array().cloned().unwrap_or_default();
    owners.extend(owned_by(&two, false).as_array().cloned().unwrap_or_default());
    lab.given("cm", child("child", json!(owners))).await;
    lab.delete("cm/one").await.has_code(200);
    let left = |child: &Answer| child.at("/metadata/ownerReferences").as_array().map(Vec::len) == Some(1);
    lab.until("cm/child", left)
        .await
        .has("/metadata/ownerReferences/0/name", "two");
    lab.delete("cm/two").await.has_code(200);
    lab.until_gone("cm/child").await;
}

async fn grandchildren_go_too(lab: &CaseContext) {
    let owner = lab.given("cm", named("owner")).await;
    let middle = lab.given("secret", child("middle", owned_by(&owner, true))).await;
    lab.given("cm", child("last", owned_by(&middle, true))).await;
    lab.delete_with("cm/owner", json!({"propagationPolicy": "Foreground"}))
        .await
        .has_code(200);
    lab.until_gone("cm/owner").await;
    lab.get("cm/last").await.has_code(404);
    lab.get("secret/middle").await.has_code(404);
}

async fn a_child_in_another_namespace_is_collected(lab: &CaseContext) {
    let owner = lab.given("cm", named("owner")).await;
    lab.given("ns", named("{ns}-b")).await;
    let mut body = child("child", owned_by(&owner, false));
    body["apiVersion"] = json!("v1");
    body["kind"] = json!("ConfigMap");
    lab.given("/api/v1/namespaces/{ns}-b/configmaps", body).await;
    lab.until_gone("/api/v1/namespaces/{ns}-b/configmaps/child").await;
    lab.quietly().delete("ns/{ns}-b").await.has_code(200);
}

async fn a_dependent_may_belong_to_a_node(lab: &CaseContext) {
    let node = lab.given("node", named("{ns}")).await;
    lab.given("lease", child("child", owned_by(&node, false))).await;
    lab.delete("node/{ns}").await.has_code(200);
    lab.until_gone("lease/child").await;
}

async fn a_policy_can_be_changed_under_way(lab: &CaseContext) {
    let mut body = named("a");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lab.given("cm", body).await;
    let answer = lab
        .delete_with("cm/a", json!({"propagationPolicy": "Foreground"}))
        .await;
    answer.has_code(200).has(
        "/metadata/finalizers",
        json!(["example.com/hold", "foregroundDeletion"]),
    );
    lab.quietly()
        .until("cm/a", |a| {
            a.at("/metadata/finalizers") == json!(["example.com/hold"])
        })
        .await;
    lab.merge("cm/a", json!({"metadata": {"finalizers": null}}))
        .await
        .has_code(200);
    lab.until_gone("cm/a").await;
}

async fn an_owner_of_another_uid_is_none(lab: &CaseContext) {
    let made = lab.given("ke", execution("owner")).await;
    lab.given("cm", child("child", owned_by(&made, true))).await;
    let mut stranger = owned_by(&made, true);
    stranger[0]["uid"] = json!("4a2c0b62-2f0e-4d4b-9a3e-333333333333");
    stranger[0]["kind"] = json!("ConfigMap");
    stranger[0]["apiVersion"] = json!("v1");
    stranger[0]["name"] = json!("child");
    lab.given("cm", child("stranger", stranger)).await;
    lab.until_gone("cm/stranger").await;
    lab.get("cm/child").await.has_code(200);
}
