//! Approvals: made by those who may, in their own name, and of what says truly who created it.

use serde_json::{Value, json};

use super::backend::{TEAM, administrator, alice, controller, developer, flow, owner, single};
use super::way::{
    Act, Way, all_are_refused, all_pass, apply, create, delete, edit, get, patch, patch_part, put, way,
};
use crate::bed::bed;
use crate::scene::{EXECUTION, WORKFLOW, merge};

const APPROVAL: &str = "workflow.kubernaut.io/v1/Approval";
const DEVELOPER: &str = "system:serviceaccount:adm-team:developer";

/// An Approval of an object that nobody has; `more` is merged into it.
pub(super) fn approval(name: &str, approver: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "Approval",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": {"objectRef": {"kind": "WorkflowExecution", "name": "asks", "uid": "nobody"},
                 "decision": "Approved", "approver": approver},
    });
    merge(&mut object, more);
    object
}

fn of_an_execution() -> Value {
    json!({"spec": {"objectRef": {"kind": "KubernetesExecution", "name": "unapproved", "uid": "nobody"}}})
}

fn by(creator: &str) -> Value {
    json!({"metadata": {"annotations": {"kubernaut.io/created-by": creator}}})
}

fn asking(name: &str, more: Value) -> Value {
    let mut object = flow(
        name,
        json!({"spec": {"executionStrategy": {"approvalRequired": true}}}),
    );
    merge(&mut object, more);
    object
}

/// Names that are not alice's, each with what it is.
const NOT_ALICE: [(&str, &str); 12] = [
    ("another person", "bob"),
    ("an administrator", "admin"),
    (
        "the controller",
        "system:serviceaccount:kubernaut-system:kubernaut-controller",
    ),
    ("an account", "system:serviceaccount:adm-team:alice"),
    ("a group", "system:masters"),
    ("nobody", "system:anonymous"),
    ("her name in capitals", "ALICE"),
    ("her name and a space", "alice "),
    ("a space and her name", " alice"),
    ("her name among others", "alice,bob"),
    ("a letter that looks the same", "\u{430}lice"),
    ("a star", "*"),
];

fn in_other_names() -> Vec<Way> {
    let mut ways = Vec::new();
    for (what, name) in NOT_ALICE {
        for (kind, more) in [("a workflow", json!({})), ("an execution", of_an_execution())] {
            let tried = format!("an approver approves {kind} in the name of {what}");
            ways.push(way(
                tried.leak(),
                create(approval("forged", name, more.clone())),
                "spec.approver must be your own name, alice",
                "an approver approves it in the own name",
                create(approval("own", "alice", more)),
            ));
        }
    }
    ways
}

fn own(more: Value) -> Act {
    create(approval("own", "alice", more))
}

/// What is no Approval at all.
fn malformed() -> Vec<Way> {
    let cases = [
        ("without an approver", json!({"approver": null}), "spec.approver"),
        (
            "of an approver that is no text",
            json!({"approver": 7}),
            "spec.approver",
        ),
        ("of an empty approver", json!({"approver": ""}), "spec.approver"),
        ("without a decision", json!({"decision": null}), "spec.decision"),
        (
            "with another decision",
            json!({"decision": "approved"}),
            "spec.decision",
        ),
        (
            "of no uid",
            json!({"objectRef": {"uid": null}}),
            "spec.objectRef.uid",
        ),
        (
            "of an empty uid",
            json!({"objectRef": {"uid": ""}}),
            "spec.objectRef.uid",
        ),
        (
            "of another kind",
            json!({"objectRef": {"kind": "Deployment"}}),
            "spec.objectRef.kind",
        ),
        (
            "of a plan that is none",
            json!({"planDigest": "any"}),
            "spec.planDigest",
        ),
        ("with an empty reason", json!({"reason": ""}), "spec.reason"),
        (
            "with a book as its reason",
            json!({"reason": "x".repeat(1025)}),
            "spec.reason",
        ),
    ];
    let ways = cases.into_iter().map(|(what, spec, words)| {
        let object = without_nulls(approval("forged", "alice", json!({"spec": spec})));
        way(
            format!("an approver makes one {what}").leak(),
            create(object),
            words,
            "an approver makes a whole one",
            own(json!({"spec": {"reason": "looked at", "planDigest": "a".repeat(64)}})),
        )
    });
    ways.collect()
}

pub(super) fn without_nulls(mut object: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.retain(|_, value| !value.is_null());
        for value in members.values_mut() {
            *value = without_nulls(value.take());
        }
    }
    object
}

fn by_other_requests() -> Vec<Way> {
    let mut nameless = approval("x", "bob", json!({}));
    nameless["metadata"] = json!({"generateName": "forged-", "namespace": TEAM});
    let mut proper = nameless.clone();
    proper["spec"]["approver"] = json!("alice");
    let rejected = |approver: &str| approval("no", approver, json!({"spec": {"decision": "Rejected"}}));
    vec![
        way(
            "an approver makes one that has no name yet in another's name",
            create(nameless),
            "must be your own name, alice",
            "in the own name",
            create(proper),
        ),
        way(
            "an approver rejects in another's name",
            create(rejected("bob")),
            "must be your own name, alice",
            "an approver rejects in the own name",
            create(rejected("alice")),
        ),
        way(
            "an approver changes another's approval into a rejection",
            patch(
                APPROVAL,
                TEAM,
                "admins",
                json!({"spec": {"decision": "Rejected"}}),
            ),
            "cannot patch resource \"approvals\"",
            "an approver reads it",
            get(APPROVAL, TEAM, "admins"),
        ),
        way(
            "an approver takes another's approval back",
            delete(APPROVAL, TEAM, "admins"),
            "only admin takes this Approval back",
            "an approver takes the own one back",
            delete(APPROVAL, TEAM, "alices"),
        ),
        way(
            "an approver releases an execution past all approvals",
            patch(
                EXECUTION,
                TEAM,
                "unapproved",
                json!({"spec": {"approvalReceived": true}}),
            ),
            "cannot patch resource \"kubernetesexecutions\"",
            "an approver reads it",
            get(EXECUTION, TEAM, "unapproved"),
        ),
        way(
            "an approver suspends a workflow",
            patch(WORKFLOW, TEAM, "asks", json!({"spec": {"suspend": true}})),
            "cannot patch resource \"workflowexecutions\"",
            "an approver reads it",
            get(WORKFLOW, TEAM, "asks"),
        ),
        way(
            "an approver creates a workflow",
            create(flow("alices", json!({}))),
            "cannot create resource \"workflowexecutions\"",
            "an approver reads one",
            get(WORKFLOW, TEAM, "hang-flow"),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "attempts to do it, one after the other")]
fn developers() -> Vec<Way> {
    let no_right = "cannot create resource \"approvals\"";
    let asks = || create(asking("asks-too", by(DEVELOPER)));
    let reads = || get(APPROVAL, TEAM, "alices");
    vec![
        way(
            "a developer approves in the own name",
            create(approval("own", DEVELOPER, json!({}))),
            no_right,
            "a developer creates a workflow that waits for an approval",
            asks(),
        ),
        way(
            "a developer approves in the name of one who may",
            create(approval("own", "alice", json!({}))),
            no_right,
            "a developer reads an approval",
            reads(),
        ),
        way(
            "a developer approves an execution",
            create(approval("own", DEVELOPER, of_an_execution())),
            no_right,
            "a developer reads an approval",
            reads(),
        ),
        way(
            "a developer applies an approval",
            apply(
                APPROVAL,
                TEAM,
                "own",
                json!({"spec": approval("own", DEVELOPER, json!({}))["spec"]}),
            ),
            "resource \"approvals\"",
            "a developer reads an approval",
            reads(),
        ),
        way(
            "a developer turns an approval to another object",
            patch(
                APPROVAL,
                TEAM,
                "alices",
                json!({"spec": {"objectRef": {"uid": "mine"}}}),
            ),
            "cannot patch resource \"approvals\"",
            "a developer reads it",
            reads(),
        ),
        way(
            "a developer takes somebody's approval back",
            delete(APPROVAL, TEAM, "alices"),
            "cannot delete resource \"approvals\"",
            "a developer reads it",
            reads(),
        ),
        way(
            "a developer says that somebody else created a workflow",
            create(asking("forged", by("alice"))),
            "is the name of who creates it: system:serviceaccount:adm-team:developer",
            "a developer says who creates it",
            asks(),
        ),
        way(
            "a developer says that somebody else created an execution",
            create(single("forged", by("alice"))),
            "is the name of who creates it: system:serviceaccount:adm-team:developer",
            "a developer says who creates it",
            create(single("own", by(DEVELOPER))),
        ),
        way(
            "a developer does not say who creates what has to be approved",
            create(asking("forged", json!({}))),
            "kubernaut.io/created-by: \"system:serviceaccount:adm-team:developer\"",
            "a developer adds the line that the refusal prints",
            asks(),
        ),
        way(
            "a developer does not say who creates an execution that waits",
            create(single("forged", json!({"spec": {"approvalReceived": false}}))),
            "kubernaut.io/created-by: \"system:serviceaccount:adm-team:developer\"",
            "a developer creates one that waits for nobody",
            create(single("own", json!({}))),
        ),
        way(
            "a developer says later that somebody else created it",
            patch(WORKFLOW, TEAM, "asks", by(DEVELOPER)),
            "created-by never changes",
            "a developer puts a note on it",
            patch(
                WORKFLOW,
                TEAM,
                "asks",
                json!({"metadata": {"annotations": {"note": "seen"}}}),
            ),
        ),
        way(
            "a developer removes who created it",
            patch(
                EXECUTION,
                TEAM,
                "unapproved",
                json!({"metadata": {"annotations": {"kubernaut.io/created-by": null}}}),
            ),
            "created-by never changes",
            "a developer stops it",
            patch(
                EXECUTION,
                TEAM,
                "unapproved",
                json!({"spec": {"shutdown": "Cancel"}}),
            ),
        ),
        way(
            "a developer says only later who created it",
            patch(WORKFLOW, TEAM, "hang-flow", by("alice")),
            "created-by never changes",
            "a developer labels it",
            patch(
                WORKFLOW,
                TEAM,
                "hang-flow",
                json!({"metadata": {"labels": {"a": "b"}}}),
            ),
        ),
        way(
            "a developer sets approvalReceived of an execution that waits",
            patch(
                EXECUTION,
                TEAM,
                "unapproved",
                json!({"spec": {"approvalReceived": true}}),
            ),
            "approvalReceived is set by the controller alone",
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
        way(
            "a developer stops and undoes a workflow that needed an approval",
            patch(WORKFLOW, TEAM, "asks", json!({"spec": {"shutdown": "Rollback"}})),
            "may not set shutdown: Rollback on a workflow that needed an approval",
            "a developer stops it",
            patch(WORKFLOW, TEAM, "asks", json!({"spec": {"shutdown": "Cancel"}})),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "attempts to do it, one after the other")]
fn administrators() -> Vec<Way> {
    let reads = || get(APPROVAL, TEAM, "alices");
    let mut ways = vec![
        way(
            "an administrator approves in another's name",
            create(approval("forged", "alice", json!({}))),
            "must be your own name, admin",
            "an administrator approves in the own name",
            create(approval("own", "admin", json!({}))),
        ),
        way(
            "an administrator applies an approval in another's name",
            apply(
                APPROVAL,
                TEAM,
                "forged",
                json!({"spec": approval("x", "alice", json!({}))["spec"]}),
            ),
            "must be your own name, admin",
            "an administrator reads one",
            reads(),
        ),
        way(
            "an administrator takes somebody's approval back",
            delete(APPROVAL, TEAM, "alices"),
            "only alice takes this Approval back",
            "an administrator takes the own one back",
            delete(APPROVAL, TEAM, "admins"),
        ),
        way(
            "an administrator says that somebody else created a workflow",
            create(asking("forged", by("alice"))),
            "is the name of who creates it: admin",
            "an administrator says who creates it",
            create(asking("own", by("admin"))),
        ),
        way(
            "an administrator calls an execution completed",
            patch_part(
                EXECUTION,
                TEAM,
                "hang-alone",
                "status",
                json!({"status": {"phase": "completed"}}),
            ),
            "only the controller writes a status",
            "an administrator deletes it",
            delete(EXECUTION, TEAM, "hang-alone"),
        ),
        way(
            "an administrator writes an approval into the status of a workflow",
            patch_part(
                WORKFLOW,
                TEAM,
                "asks",
                "status",
                json!({"status": {"approval": {"time": "2026-01-01T00:00:00.000000Z", "approvers": []}}}),
            ),
            "only the controller writes a status",
            "an administrator shuts it down",
            patch(WORKFLOW, TEAM, "asks", json!({"spec": {"shutdown": "Rollback"}})),
        ),
        way(
            "an administrator sets approvalReceived",
            patch(
                EXECUTION,
                TEAM,
                "unapproved",
                json!({"spec": {"approvalReceived": true}}),
            ),
            "approvalReceived is set by the controller alone",
            "an administrator reads it",
            get(EXECUTION, TEAM, "unapproved"),
        ),
    ];
    let replace = |path: &str, value: &str| json!([{"op": "replace", "path": path, "value": value}]);
    for (what, act) in [
        (
            "approver",
            patch(APPROVAL, TEAM, "admins", json!({"spec": {"approver": "alice"}})),
        ),
        (
            "decision",
            patch(
                APPROVAL,
                TEAM,
                "alices",
                json!({"spec": {"decision": "Rejected"}}),
            ),
        ),
        (
            "object",
            edit(APPROVAL, TEAM, "alices", replace("/spec/objectRef/uid", "other")),
        ),
        (
            "kind",
            edit(
                APPROVAL,
                TEAM,
                "alices",
                replace("/spec/objectRef/kind", "KubernetesExecution"),
            ),
        ),
        (
            "plan",
            put(
                APPROVAL,
                TEAM,
                "alices",
                json!({"spec": {"planDigest": "b".repeat(64)}}),
            ),
        ),
        (
            "reason",
            patch(
                APPROVAL,
                TEAM,
                "alices",
                json!({"spec": {"reason": "because I say so"}}),
            ),
        ),
        (
            "approver by a whole update",
            put(APPROVAL, TEAM, "alices", json!({"spec": {"approver": "admin"}})),
        ),
    ] {
        ways.push(way(
            format!("an administrator changes the {what} of an approval").leak(),
            act,
            "immutable",
            "an administrator labels it",
            patch(
                APPROVAL,
                TEAM,
                "alices",
                json!({"metadata": {"labels": {"a": "b"}}}),
            ),
        ));
    }
    ways
}

#[tokio::test]
async fn of_more_than_fifty_forged_approvals_none_is_taken() {
    let alices: Vec<Way> = in_other_names()
        .into_iter()
        .chain(malformed())
        .chain(by_other_requests())
        .collect();
    let (developers, administrators) = (developers(), administrators());
    let count = alices.len() + developers.len() + administrators.len();
    assert!(count >= 50, "{count}");
    all_are_refused(&alice().await, alices).await;
    all_are_refused(&developer().await, developers).await;
    all_are_refused(&administrator().await, administrators).await;
}

#[tokio::test]
async fn in_a_namespace_that_requires_approval_everything_says_who_creates_it() {
    let client = administrator().await;
    let namespace = "adm-required";
    let made = json!({"apiVersion": "v1", "kind": "Namespace",
                      "metadata": {"name": namespace, "labels": {"kubernaut.io/approval": "required"}}});
    all_pass(&client, vec![("the namespace", create(made))]).await;
    let there = |object: Value| create(super::backend::at(namespace, object));
    let words = "kubernaut.io/created-by: \"admin\"";
    let ways = vec![
        way(
            "a workflow that asks for no approval",
            there(flow("w", json!({}))),
            words,
            "with who creates it",
            there(flow("w", by("admin"))),
        ),
        way(
            "an execution that says it was approved",
            there(single("e", json!({}))),
            words,
            "with who creates it",
            there(single("e", by("admin"))),
        ),
    ];
    all_are_refused(&client, ways).await;
}

#[tokio::test]
async fn an_approval_of_a_whole_group_is_signed_by_the_person() {
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
                         "metadata": {"name": "night-watch", "namespace": TEAM},
                         "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "kubernaut-approve"},
                         "subjects": [{"apiGroup": rbac, "kind": "Group", "name": "night-watch"}]});
    all_pass(&administrator().await, vec![("its binding", create(binding))]).await;
    let carol = bed().await.cluster.client_as("carol", &["night-watch"]).await;
    let carol = carol.expect("a client");
    // RBAC sees a new binding a moment later.
    let mut tries = 0;
    while let Err(error) = super::way::send(&carol, &create(approval("own", "carol", json!({}))), true).await
    {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let ways = vec![way(
        "one of a group approves in the name of the group",
        create(approval("forged", "night-watch", json!({}))),
        "must be your own name, carol",
        "in the own name",
        create(approval("own", "carol", json!({}))),
    )];
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
            "the owner of a namespace approves without the right",
            create(approval("own", "owner", json!({}))),
            "cannot create resource \"approvals\"",
            "the owner suspends it",
            patch(WORKFLOW, TEAM, "asks", json!({"spec": {"suspend": true}})),
        ),
    ];
    all_are_refused(&owner().await, owners).await;
}

#[tokio::test]
async fn the_controller_makes_no_approval_and_carries_on_who_created_a_workflow() {
    let step_of = |creator: &str| single("step", by(creator));
    let ways = vec![way(
        "the controller approves",
        create(approval("forged", crate::bed::CONTROLLER, json!({}))),
        "cannot create resource \"approvals\"",
        "the controller makes an execution of somebody's workflow",
        create(step_of("alice")),
    )];
    all_are_refused(&controller().await, ways).await;
}
