//! Each reason for which an Approval does not count, and that nothing but a complete set of them approves.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ApprovalRules;

const DIGEST: &str = "aa";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

/// An Approval by `approver`, made at this second; `more` is merged into it.
fn approval(name: &str, approver: &str, second: i64, more: &Value) -> Arc<Approval> {
    let mut object = json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "Approval",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": at(second).to_string()},
        "spec": {"objectRef": {"kind": "WorkflowExecution", "name": "w", "uid": "w-uid"},
                 "decision": "Approved", "approver": approver},
    });
    merge(&mut object, more);
    Arc::new(serde_json::from_value(object).expect("an Approval"))
}

fn merge(base: &mut Value, more: &Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more.clone(),
    }
}

fn question() -> Question<'static> {
    Question {
        kind: ApprovalKind::WorkflowExecution,
        namespace: "shop",
        name: "w",
        uid: "w-uid",
        created_by: Some("eve"),
        required: 1,
        digest: Some(DIGEST),
        planned_anew: None,
        since: at(0),
    }
}

fn seen(approvals: Vec<Arc<Approval>>) -> Seen {
    Seen {
        requirement: Requirement::None,
        guard: Ok(at(-100)),
        approvals,
    }
}

fn decided(question: &Question<'_>, approvals: Vec<Arc<Approval>>, second: i64) -> Decision {
    question.decide(&seen(approvals), &Settings::default(), at(second))
}

fn words(decision: Decision) -> String {
    match decision {
        Decision::Waits(words) | Decision::Expired(words) | Decision::Rejected(words) => words,
        Decision::Approved(approval) => panic!("approved by {}", approval.names()),
    }
}

#[test]
fn one_approval_of_another_person_is_enough_and_is_recorded() {
    let ana = approval(
        "ok",
        "ana",
        5,
        &json!({"spec": {"reason": "seen", "planDigest": DIGEST}}),
    );
    let Decision::Approved(approved) = decided(&question(), vec![ana], 9) else {
        panic!("not approved");
    };
    assert_eq!(approved.time.0, at(9));
    let [approver] = approved.approvers.as_slice() else {
        panic!("{approved:?}");
    };
    assert_eq!(
        (
            approver.name.as_str(),
            approver.time.0,
            approver.reason.as_deref(),
            approver.approval.as_str()
        ),
        ("ana", at(5), Some("seen"), "ok")
    );
}

#[test]
fn an_approval_that_does_not_count_is_named_with_its_reason() {
    let cases = [
        (json!({"spec": {"objectRef": {"uid": "other"}}}), "another object"),
        (
            json!({"spec": {"objectRef": {"name": "other"}}}),
            "another object",
        ),
        (
            json!({"spec": {"objectRef": {"kind": "KubernetesExecution"}}}),
            "another object",
        ),
        (json!({"metadata": {"namespace": "bank"}}), "another object"),
        (
            json!({"metadata": {"deletionTimestamp": "2027-01-15T08:00:00Z"}}),
            "is being deleted",
        ),
        (
            json!({"metadata": {"creationTimestamp": null}}),
            "when it was made",
        ),
        (
            json!({"metadata": {"creationTimestamp": at(-100).to_string()}}),
            "before the policy kubernaut-approvals stood",
        ),
        (json!({"spec": {"approver": ""}}), "has no approver"),
        (
            json!({"spec": {"approver": "eve"}}),
            "its approver created the object",
        ),
        (json!({"spec": {"planDigest": "bb"}}), "names another plan"),
    ];
    for (change, why) in cases {
        let told = words(decided(&question(), vec![approval("no", "ana", 5, &change)], 9));
        assert!(told.contains("waits for approval (0 of 1)"), "{told}");
        assert!(told.contains("not counted: no by "), "{told}");
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[test]
fn an_approval_counts_for_as_long_as_it_is_valid() {
    let made = |second| vec![approval("a", "ana", second, &json!({}))];
    let late = Question {
        since: at(3000),
        ..question()
    };
    assert!(matches!(decided(&late, made(0), 3600), Decision::Approved(_)));
    let told = words(decided(&late, made(0), 3601));
    assert!(told.contains("too old"), "{told}");
}

#[test]
fn so_many_different_people_have_to_approve() {
    let two = Question {
        required: 2,
        ..question()
    };
    let ana = approval("a", "ana", 5, &json!({}));
    let again = approval("b", "ana", 6, &json!({}));
    let told = words(decided(&two, vec![ana.clone(), again], 9));
    assert!(told.contains("(1 of 2)"), "{told}");
    let bob = approval("c", "bob", 4, &json!({}));
    let Decision::Approved(approved) = decided(&two, vec![ana, bob], 9) else {
        panic!("not approved");
    };
    assert_eq!(approved.names(), "bob, ana");
}

#[test]
fn one_rejection_rejects_whoever_approves() {
    let ana = approval("a", "ana", 5, &json!({}));
    // Also the creator's own.
    for by in ["bob", "eve"] {
        let no = approval(
            "b",
            by,
            6,
            &json!({"spec": {"decision": "Rejected", "reason": "not today"}}),
        );
        let told = words(decided(&question(), vec![ana.clone(), no], 9));
        assert_eq!(told, format!("rejected by {by}: not today"));
    }
    // One that nobody may have made rejects nothing.
    let old = approval("b", "bob", -100, &json!({"spec": {"decision": "Rejected"}}));
    assert!(matches!(
        decided(&question(), vec![ana, old], 9),
        Decision::Approved(_)
    ));
}

#[test]
fn a_wait_is_over_at_its_deadline() {
    assert!(matches!(
        decided(&question(), Vec::new(), 3599),
        Decision::Waits(_)
    ));
    assert_eq!(question().deadline(&Settings::default()), at(3600));
    let Decision::Expired(told) = decided(&question(), Vec::new(), 3600) else {
        panic!("not expired");
    };
    assert_eq!(told, "not approved in time: 0 of 1 approvals within 1h0m0s");
}

#[test]
fn without_the_policy_nobodys_approval_counts() {
    let without = Seen {
        guard: Err("it does not exist".to_owned()),
        ..seen(vec![approval("a", "ana", 5, &json!({}))])
    };
    let told = words(question().decide(&without, &Settings::default(), at(9)));
    assert!(
        told.contains("nobody's Approval counts: it does not exist"),
        "{told}"
    );
}

#[test]
fn who_created_it_has_to_be_known_and_may_approve_only_by_a_flag() {
    let unknown = Question {
        created_by: None,
        ..question()
    };
    let ana = || vec![approval("a", "ana", 5, &json!({}))];
    let told = words(decided(&unknown, ana(), 9));
    assert!(told.contains("kubernaut.io/created-by does not say"), "{told}");
    let alone = Settings {
        approval: ApprovalRules {
            allow_self: true,
            ..ApprovalRules::default()
        },
        ..Settings::default()
    };
    let eve = seen(vec![approval("a", "eve", 5, &json!({}))]);
    for asked in [&unknown, &question()] {
        assert!(matches!(asked.decide(&eve, &alone, at(9)), Decision::Approved(_)));
    }
}

#[test]
fn another_plan_voids_what_named_none() {
    let anew = Question {
        planned_anew: Some(at(7)),
        ..question()
    };
    let told = words(decided(&anew, vec![approval("a", "ana", 7, &json!({}))], 9));
    assert!(told.contains("the plan has changed since"), "{told}");
    let of_this = json!({"spec": {"planDigest": DIGEST}});
    for counted in [
        approval("a", "ana", 8, &json!({})),
        approval("a", "ana", 5, &of_this),
    ] {
        assert!(matches!(decided(&anew, vec![counted], 9), Decision::Approved(_)));
    }
}

#[test]
fn no_message_is_longer_than_a_status_takes() {
    let long = "x".repeat(253);
    let many: Vec<_> = (0..100)
        .map(|number| approval(&format!("{number}{long}"), &long, -200, &json!({})))
        .collect();
    let told = words(decided(&question(), many, 9));
    assert!(told.contains(" and 97 more"), "{told}");
    assert!(told.chars().count() < names::TEXT_MAX / 2, "{told}");
}

/// What may be wrong with an Approval, drawn.
#[derive(Clone, Debug)]
struct Drawn {
    approver: u8,
    second: i64,
    uid: bool,
    namespace: bool,
    digest: Option<bool>,
    rejects: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        0_u8..5,
        -120_i64..5000,
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.4, prop::bool::weighted(0.7)),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(approver, second, uid, namespace, digest, rejects)| Drawn {
            approver,
            second,
            uid,
            namespace,
            digest,
            rejects,
        })
}

proptest! {
    #[test]
    fn nothing_but_a_complete_set_approves(
        drawn in prop::collection::vec(drawn(), 0..8),
        required in 1_usize..4,
        stands in prop::bool::weighted(0.9),
        creator in prop::option::weighted(0.9, 0_u8..5),
        now in 0_i64..6000,
    ) {
        let people = ["ana", "bob", "cem", "dee", "eve"];
        let approvals = drawn.iter().enumerate().map(|(number, one)| {
            let digest = one.digest.map(|right| if right { DIGEST } else { "bb" });
            let mut more = json!({"spec": {"objectRef": {"uid": if one.uid { "w-uid" } else { "other" }}},
                "metadata": {"namespace": if one.namespace { "shop" } else { "bank" }}});
            if let Some(digest) = digest {
                more["spec"]["planDigest"] = json!(digest);
            }
            if one.rejects {
                more["spec"]["decision"] = json!("Rejected");
            }
            approval(&format!("a{number}"), people[usize::from(one.approver)], one.second, &more)
        });
        let mut seen = seen(approvals.collect());
        if !stands {
            seen.guard = Err("gone".to_owned());
        }
        let asked = Question { required, created_by: creator.map(|who| people[usize::from(who)]), ..question() };
        let decision = asked.decide(&seen, &Settings::default(), at(now));
        // By hand, from the specification.
        let meant = |one: &&Drawn| stands && one.uid && one.namespace && one.second > -100;
        let rejected = drawn.iter().filter(meant).any(|one| one.rejects);
        let counts: std::collections::BTreeSet<u8> = drawn
            .iter()
            .filter(meant)
            .filter(|one| !one.rejects && one.digest != Some(false) && one.second >= now - 3600)
            .filter(|one| creator.is_some_and(|creator| creator != one.approver))
            .map(|one| one.approver)
            .collect();
        let complete = counts.len() >= required && !rejected;
        prop_assert_eq!(matches!(decision, Decision::Approved(_)), complete, "{:?}", decision);
        prop_assert_eq!(matches!(decision, Decision::Rejected(_)), rejected);
    }
}
