//! Approvals: given by those who may, in their own name.

use serde_json::{Value, json};

use super::backend::{TEAM, administrator, alice, developer, flow, owner, single};
use super::way::{
    Act, all_are_refused, all_pass, apply, create, edit, get, patch, patch_part, put, send, way,
};
use crate::bed::bed;
use crate::scene::{EXECUTION, WORKFLOW};

fn annotate(annotations: Value) -> Value {
    json!({"metadata": {"annotations": annotations}})
}

/// An approval in this name.
fn by(name: &str) -> Value {
    annotate(json!({"kubernaut.io/approval": "approved", "kubernaut.io/approved-by": name}))
}

const DEVELOPER: &str = "system:serviceaccount:adm-team:developer";

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "attempts to do it, one after the other")]
async fn who_may_not_approve_gets_no_approval_in_any_way() {
    let workflow = |change: Value| patch(WORKFLOW, TEAM, "ended", change);
    let execution = |change: Value| patch(EXECUTION, TEAM, "ended", change);
    let approved = |change: Value| patch(WORKFLOW, TEAM, "approved", change);
    let note = || annotate(json!({"example.com/note": "looked at"}));
    let may_not = "may not approve: the verb approve on";
    let sign = "must be your own name, system:serviceaccount:adm-team:developer";
    let ways = vec![
        way(
            "a developer approves a workflow in the own name",
            workflow(by(DEVELOPER)),
            may_not,
            "a developer puts a note on it",
            workflow(note()),
        ),
        way(
            "a developer approves an execution in the own name",
            execution(by(DEVELOPER)),
            may_not,
            "a developer puts a note on it",
            execution(note()),
        ),
        way(
            "a developer approves in the name of one who may",
            workflow(by("alice")),
            sign,
            "a developer labels it",
            workflow(json!({"metadata": {"labels": {"example.com/team": "shop"}}})),
        ),
        way(
            "a developer brings the approval along when creating a workflow",
            create(flow("own-word", by(DEVELOPER))),
            may_not,
            "a developer creates one that waits for an approval",
            create(flow(
                "asks",
                json!({"spec": {"executionStrategy": {"approvalRequired": true}}}),
            )),
        ),
        way(
            "a developer brings the approval of one who may along when creating an execution",
            create(single("own-word", by("alice"))),
            sign,
            "a developer creates one that asks for no approval",
            create(single("asks-nobody", json!({}))),
        ),
        way(
            "a developer changes why somebody approved",
            approved(annotate(
                json!({"kubernaut.io/approval-reason": "because I say so"}),
            )),
            sign,
            "a developer changes another annotation of it",
            approved(note()),
        ),
        way(
            "a developer turns somebody's approval into a rejection",
            approved(annotate(json!({"kubernaut.io/approval": "rejected"}))),
            sign,
            "a developer stops it instead",
            patch(
                WORKFLOW,
                TEAM,
                "hang-flow",
                json!({"spec": {"shutdown": "Cancel"}}),
            ),
        ),
        way(
            "a developer takes the approver's name over",
            approved(annotate(json!({"kubernaut.io/approved-by": DEVELOPER}))),
            may_not,
            "a developer reads who approved",
            get(WORKFLOW, TEAM, "approved"),
        ),
        way(
            "a developer removes somebody's approval",
            approved(annotate(
                json!({"kubernaut.io/approval": null, "kubernaut.io/approved-by": null,
                                     "kubernaut.io/approval-reason": null}),
            )),
            sign,
            "a developer deletes the whole workflow",
            super::way::delete(WORKFLOW, TEAM, "approved"),
        ),
        way(
            "a developer sets approvalReceived of an execution that waits",
            patch(
                EXECUTION,
                TEAM,
                "unapproved",
                json!({"spec": {"approvalReceived": true}}),
            ),
            "may not set approvalReceived: the verb approve",
            "a developer stops it",
            patch(
                EXECUTION,
                TEAM,
                "unapproved",
                json!({"spec": {"shutdown": "Cancel"}}),
            ),
        ),
        way(
            "a developer names an approver when creating an execution",
            create(single("named", json!({"spec": {"approvedBy": "alice"}}))),
            "spec.approvedBy is set by the controller alone",
            "a developer creates one without",
            create(single("unnamed", json!({}))),
        ),
        way(
            "a developer writes an approval into a status",
            patch_part(
                EXECUTION,
                TEAM,
                "unapproved",
                "status",
                json!({"status": {"approval": {"source": "execution", "approvedBy": "alice"}}}),
            ),
            "cannot patch resource \"kubernetesexecutions/status\"",
            "a developer reads it",
            get(EXECUTION, TEAM, "unapproved"),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
}

#[tokio::test]
async fn an_approval_is_one_whatever_request_brings_it() {
    let mut nameless = flow("nameless", by(DEVELOPER));
    nameless["metadata"]["name"] = Value::Null;
    nameless["metadata"]["generateName"] = json!("own-word-");
    let mut unsigned = nameless.clone();
    unsigned["metadata"]["annotations"] = json!({});
    let annotation = |op: &str, key: &str, value: &str| json!({"op": op, "path": format!("/metadata/annotations/kubernaut.io~1{key}"), "value": value});
    let may_not = "may not approve: the verb approve on";
    let sign = "must be your own name, system:serviceaccount:adm-team:developer";
    let note = || annotate(json!({"example.com/note": "looked at"}));
    let ways = vec![
        way(
            "a developer approves by an update of the whole",
            put(WORKFLOW, TEAM, "ended", by(DEVELOPER)),
            may_not,
            "a developer updates the whole with a note",
            put(WORKFLOW, TEAM, "ended", note()),
        ),
        way(
            "a developer approves by a JSON patch",
            edit(
                WORKFLOW,
                TEAM,
                "approved",
                json!([annotation("replace", "approved-by", DEVELOPER)]),
            ),
            may_not,
            "a developer puts a note there by a JSON patch",
            edit(
                WORKFLOW,
                TEAM,
                "approved",
                json!([{"op": "add", "path": "/metadata/annotations/note", "value": "seen"}]),
            ),
        ),
        way(
            "a developer takes an approval away by a JSON patch",
            edit(
                WORKFLOW,
                TEAM,
                "approved",
                json!([{"op": "remove", "path": "/metadata/annotations"}]),
            ),
            sign,
            "a developer reads it",
            get(WORKFLOW, TEAM, "approved"),
        ),
        way(
            "a developer applies an approval",
            apply(EXECUTION, TEAM, "ended", by(DEVELOPER)),
            may_not,
            "a developer applies a note",
            apply(EXECUTION, TEAM, "ended", note()),
        ),
        way(
            "a developer approves what has no name yet",
            create(nameless),
            may_not,
            "a developer creates it without",
            create(unsigned),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
}

#[tokio::test]
async fn the_right_to_approve_may_be_a_groups_and_for_one_object_alone() {
    let rbac = "rbac.authorization.k8s.io";
    let allowed = json!([
        {"apiGroups": ["workflow.kubernaut.io"], "resources": ["workflowexecutions"], "verbs": ["get", "patch"]},
        {"apiGroups": ["workflow.kubernaut.io"], "resources": ["workflowexecutions"], "verbs": ["approve"],
         "resourceNames": ["ended"]},
    ]);
    let role = json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "rules": allowed,
                      "metadata": {"name": "approve-one", "namespace": TEAM}});
    let binding = json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
                         "metadata": {"name": "approve-one", "namespace": TEAM},
                         "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "approve-one"},
                         "subjects": [{"apiGroup": rbac, "kind": "Group", "name": "night-watch"}]});
    all_pass(
        &administrator().await,
        vec![
            ("a role for one object", create(role)),
            ("its binding", create(binding)),
        ],
    )
    .await;
    let carol = bed().await.cluster.client_as("carol", &["night-watch"]).await;
    let carol = carol.expect("a client");
    let allowed = || patch(WORKFLOW, TEAM, "ended", by("carol"));
    // RBAC sees a new binding a moment later.
    let mut tries = 0;
    while let Err(error) = send(&carol, &allowed(), true).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let ways = vec![
        way(
            "one of a group approves another object than the one that the group may",
            patch(WORKFLOW, TEAM, "approved", by("carol")),
            "carol may not approve",
            "the one that the group may",
            allowed(),
        ),
        way(
            "one of a group approves in the name of the group",
            patch(WORKFLOW, TEAM, "ended", by("night-watch")),
            "must be your own name, carol",
            "in the own name",
            allowed(),
        ),
    ];
    all_are_refused(&carol, ways).await;
}

#[tokio::test]
async fn nobody_gives_himself_the_right_to_approve() {
    let binding = |name: &str, role: &str, user: &str| {
        create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": TEAM},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }))
    };
    let developers = vec![way(
        "a developer binds kubernaut-approve to himself",
        binding("mine", "kubernaut-approve", DEVELOPER),
        "cannot create resource \"rolebindings\"",
        "a developer creates a ServiceAccount for workflows",
        create(
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "fixer", "namespace": TEAM}}),
        ),
    )];
    all_are_refused(&developer().await, developers).await;
    let owners = vec![
        way(
            "the owner of a namespace binds kubernaut-approve to himself",
            binding("mine", "kubernaut-approve", "owner"),
            "not currently held",
            "the owner lets somebody edit",
            binding("bob", "kubernaut-edit", "bob"),
        ),
        way(
            "the owner of a namespace approves without the verb",
            patch(WORKFLOW, TEAM, "ended", by("owner")),
            "owner may not approve",
            "the owner suspends it",
            patch(WORKFLOW, TEAM, "ended", json!({"spec": {"suspend": true}})),
        ),
    ];
    all_are_refused(&owner().await, owners).await;
}

#[tokio::test]
async fn who_may_approve_does_so_in_the_own_name_and_can_also_change_what_a_patch_may() {
    let workflow = |change: Value| patch(WORKFLOW, TEAM, "approved", change);
    let rejected =
        || annotate(json!({"kubernaut.io/approval": "rejected", "kubernaut.io/approved-by": "alice"}));
    let received = |mut change: Value| {
        change["spec"]["approvalReceived"] = json!(true);
        patch(EXECUTION, TEAM, "unapproved", change)
    };
    let ways = vec![
        way(
            "an approver approves in another's name",
            workflow(by("bob")),
            "must be your own name, alice",
            "an approver approves in the own name",
            workflow(by("alice")),
        ),
        way(
            "an approver removes an approval",
            workflow(annotate(
                json!({"kubernaut.io/approval": null, "kubernaut.io/approved-by": null,
                                     "kubernaut.io/approval-reason": null}),
            )),
            "set kubernaut.io/approval to rejected",
            "an approver rejects what was approved",
            workflow(rejected()),
        ),
        way(
            "an approver says neither yes nor no",
            workflow(annotate(
                json!({"kubernaut.io/approval": "maybe", "kubernaut.io/approved-by": "alice"}),
            )),
            "must be approved or rejected",
            "an approver says why",
            workflow(annotate(json!({"kubernaut.io/approval-reason": "seen twice"}))),
        ),
        way(
            "an approver names somebody in spec.approvedBy",
            // Signed, so that one policy alone refuses it: of several the API server names any.
            received({
                let mut change = by("alice");
                change["spec"]["approvedBy"] = json!("bob");
                change
            }),
            "spec.approvedBy is set by the controller alone",
            "an approver approves and sets approvalReceived",
            received(by("alice")),
        ),
        way(
            "an approver sets approvalReceived without a name",
            received(json!({})),
            "sets approvalReceived signs it",
            "an approver stops it",
            patch(
                EXECUTION,
                TEAM,
                "unapproved",
                json!({"spec": {"shutdown": "Cancel"}}),
            ),
        ),
        way(
            "an approver sets approvalReceived and rejects",
            received(rejected()),
            "sets approvalReceived signs it",
            "an approver labels it",
            patch(
                EXECUTION,
                TEAM,
                "unapproved",
                json!({"metadata": {"labels": {"a": "b"}}}),
            ),
        ),
        way(
            "an approver deletes a workflow",
            super::way::delete(WORKFLOW, TEAM, "hang-flow"),
            "cannot delete resource \"workflowexecutions\"",
            "an approver suspends it",
            patch(WORKFLOW, TEAM, "hang-flow", json!({"spec": {"suspend": true}})),
        ),
        way(
            "an approver creates a workflow",
            create(flow("alices", json!({}))),
            "cannot create resource \"workflowexecutions\"",
            "an approver reads one",
            get(WORKFLOW, TEAM, "hang-flow"),
        ),
    ];
    all_are_refused(&alice().await, ways).await;
}

#[tokio::test]
async fn even_an_administrator_signs_in_the_own_name_and_writes_no_status() {
    let status = |kind: &'static str, name: &str, status: Value| {
        patch_part(kind, TEAM, name, "status", json!({"status": status}))
    };
    let words = "only the controller writes a status";
    let ways = vec![
        way(
            "an administrator approves in another's name",
            patch(WORKFLOW, TEAM, "ended", by("alice")),
            "must be your own name, admin",
            "an administrator approves in the own name",
            patch(WORKFLOW, TEAM, "ended", by("admin")),
        ),
        way(
            "an administrator calls an execution completed",
            status(EXECUTION, "hang-alone", json!({"phase": "completed"})),
            words,
            "an administrator deletes it",
            super::way::delete(EXECUTION, TEAM, "hang-alone"),
        ),
        way(
            "an administrator writes an approval into the status of a workflow",
            status(
                WORKFLOW,
                "hang-flow",
                json!({"approval": {"approvedBy": "alice", "time": "2026-01-01T00:00:00.000000Z"}}),
            ),
            words,
            "an administrator shuts it down",
            patch(
                WORKFLOW,
                TEAM,
                "hang-flow",
                json!({"spec": {"shutdown": "Cancel"}}),
            ),
        ),
        way(
            "an administrator writes annotations through the status",
            patch_part(EXECUTION, TEAM, "unapproved", "status", by("admin")),
            words,
            "an administrator reads the status",
            get(EXECUTION, TEAM, "unapproved"),
        ),
    ];
    all_are_refused(&administrator().await, ways).await;
}

#[tokio::test]
async fn an_approval_is_given_and_taken_back_by_rejecting() {
    let acts: Vec<(&'static str, Act)> = vec![
        (
            "an approver rejects",
            patch(
                EXECUTION,
                TEAM,
                "approved",
                annotate(json!({"kubernaut.io/approval": "rejected", "kubernaut.io/approved-by": "alice"})),
            ),
        ),
        (
            "an approver approves",
            patch(EXECUTION, TEAM, "approved", by("alice")),
        ),
    ];
    all_pass(&alice().await, acts).await;
}
