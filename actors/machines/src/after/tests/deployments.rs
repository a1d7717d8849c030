//! Scale, restart, image and patch: the counts and conditions of a rollout.

use super::*;

#[test]
fn a_scale_holds_when_the_wanted_number_is_ready_and_no_other_is_left() {
    let spec = json!({"replicas": 3});
    scale(3).expects([
        (deployment(spec.clone(), counts(3, 3, 3)), holds("replicas: 3")),
        // How many are of the newest template is no matter of a scale.
        (deployment(spec.clone(), counts(3, 0, 3)), holds("replicas: 3")),
        (
            deployment(spec.clone(), counts(3, 3, 2)),
            in_progress("2 of 3 replicas are ready; 3 exist"),
        ),
        (
            deployment(json!({"replicas": 2}), counts(3, 3, 3)),
            not_there("spec.replicas is 2, not 3"),
        ),
        // Not said is one.
        (
            deployment(json!({}), counts(3, 3, 3)),
            not_there("spec.replicas is 1, not 3"),
        ),
    ]);
}

#[test]
fn a_scale_that_has_its_ready_replicas_says_what_else_it_waits_for() {
    let older = json!({"observedGeneration": 6, "replicas": 1, "readyReplicas": 1});
    let unseen = in_progress("the controller of the Deployment has not seen the change");
    let spec = || json!({"replicas": 1});
    scale(1).expects([
        (deployment(spec(), older), unseen.clone()),
        (deployment(spec(), Value::Null), unseen),
        (
            deployment(spec(), counts(3, 3, 1)),
            in_progress("1 of 1 replicas are ready; 3 exist"),
        ),
    ]);
}

#[test]
fn absent_counts_are_zero() {
    let none = json!({"observedGeneration": 7});
    scale(0).expects([(
        deployment(json!({"replicas": 0}), none.clone()),
        holds("replicas: 0"),
    )]);
    scale(2).expects([(
        deployment(json!({"replicas": 2}), none),
        in_progress("0 of 2 replicas are ready; 0 exist"),
    )]);
}

#[test]
fn a_restart_holds_when_our_mark_is_rolled_out() {
    let spec = |by: &str| json!({"replicas": 2, "template": {"metadata": {"annotations": {"kubernaut.io/restarted-by": by}}}});
    let not_ours = not_there("the pod template does not carry this restart");
    restart().expects([
        (deployment(spec("uid-1"), counts(2, 2, 2)), holds("restarted")),
        (
            deployment(spec("uid-1"), counts(3, 1, 2)),
            in_progress("of 2 replicas 1 are updated and 2 ready; 3 exist"),
        ),
        (
            deployment(spec("uid-1"), counts(3, 2, 2)),
            in_progress("of 2 replicas 2 are updated and 2 ready; 3 exist"),
        ),
        (
            deployment(spec("uid-1"), counts(2, 2, 1)),
            in_progress("of 2 replicas 2 are updated and 1 ready; 2 exist"),
        ),
        (
            deployment(
                spec("uid-1"),
                json!({"observedGeneration": 6, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}),
            ),
            in_progress("the rollout has not begun"),
        ),
        (
            deployment(spec("uid-1"), Value::Null),
            in_progress("the rollout has not begun"),
        ),
        (deployment(spec("uid-2"), counts(2, 2, 2)), not_ours.clone()),
        (deployment(json!({"replicas": 2}), counts(2, 2, 2)), not_ours),
    ]);
}

#[test]
fn an_image_holds_when_the_container_has_it_and_is_rolled_out() {
    let spec = |name: &str, image: &str| {
        json!({"replicas": 2, "template": {"spec": {"containers": [
            {"name": "log", "image": "log:1"}, {"name": name, "image": image}]}}})
    };
    for what in [Success, Failure, Lost] {
        let look = Look {
            what,
            ..patch("update-image")
        };
        look.expects([
            (
                deployment(spec("app", "app:2"), counts(2, 2, 2)),
                holds("image of app: app:2"),
            ),
            (
                deployment(spec("app", "app:2"), counts(3, 1, 2)),
                in_progress("of 2 replicas 1 are updated and 2 ready; 3 exist"),
            ),
            (
                deployment(spec("app", "app:1"), counts(2, 2, 2)),
                not_there("the image of app is app:1"),
            ),
            (
                deployment(spec("other", "app:2"), counts(2, 2, 2)),
                not_there("the image of app is (no such container)"),
            ),
        ]);
    }
}

#[test]
fn a_patch_that_kubectl_made_holds_once_it_is_rolled_out_whatever_it_changed() {
    let generation = |generation: i64, status: Value| {
        let mut object = deployment(json!({"replicas": 1}), status);
        object["metadata"]["generation"] = json!(generation);
        object
    };
    // Labels and annotations of the Deployment, and what is there already, do not let the generation grow.
    let look = patch("patch-deployment");
    look.expects([
        (generation(7, counts(1, 1, 1)), holds("patched")),
        (generation(6, counts(1, 1, 1)), holds("patched")),
        (
            generation(7, counts(2, 1, 1)),
            in_progress("of 1 replicas 1 are updated and 1 ready; 2 exist"),
        ),
    ]);
}

#[test]
fn the_effect_of_a_patch_is_not_provable_when_kubectl_did_not_end_well() {
    for what in [Failure, Lost] {
        let look = Look {
            what,
            ..patch("patch-deployment")
        };
        look.expects([(
            deployment(json!({"replicas": 1}), counts(1, 1, 1)),
            unprovable("nothing shows that a patch took effect"),
        )]);
    }
}

#[test]
fn a_rollout_that_passed_its_own_deadline_fails_at_once() {
    for (look, spec) in on_deployments() {
        let mut older = stuck(counts(3, 1, 1));
        older["observedGeneration"] = json!(6);
        let progressing = json!({"observedGeneration": 7, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 1,
                                 "conditions": [{"type": "Progressing", "status": "True"}]});
        look.expects([(
            deployment(spec.clone(), stuck(counts(3, 1, 1))),
            stuck_at("the rollout does not progress: timed out"),
        )]);
        // What is said of an older generation is not said of this rollout.
        for status in [older, progressing] {
            let seen = look.sees(&[deployment(spec.clone(), status)]);
            assert!(matches!(seen, Postcondition::InProgress { .. }), "{seen:?}");
        }
    }
}

#[test]
fn deployments_that_do_not_say_their_replicas_have_one() {
    for (look, mut spec) in on_deployments().into_iter().skip(1) {
        spec["replicas"] = Value::Null;
        let seen = look.sees(&[deployment(spec.clone(), counts(1, 1, 1))]);
        assert!(matches!(seen, Postcondition::Holds { .. }), "{seen:?}");
        let seen = look.sees(&[deployment(spec, counts(2, 2, 2))]);
        assert!(matches!(seen, Postcondition::InProgress { .. }), "{seen:?}");
    }
}

/// Seconds that the outcome of a scale may take which is looked at since second 0, and now again at this second.
fn patience(spec: Value, status: Value, now: i64) -> i64 {
    let read = Read::get("apps/v1", "Deployment", Some("shop"), "web");
    let facts = Facts::from([(read, vec![deployment(spec, status)])]);
    let at = |second| Timestamp::from_second(second).expect("a time");
    limit(
        &scale(1).checked().1,
        &facts,
        (at(0), at(now)),
        Duration::from_secs(120),
    )
    .as_second()
}

#[test]
fn rollouts_get_their_own_deadline_and_half_a_minute() {
    let spec = |seconds: i32| json!({"progressDeadlineSeconds": seconds});
    assert_eq!(patience(spec(200), json!({}), 0), 230);
    assert_eq!(patience(spec(10), json!({}), 0), 120);
    assert_eq!(patience(json!({}), json!({}), 0), 630);
    // The largest number means no deadline; a day is the end of patience.
    assert_eq!(patience(spec(i32::MAX), json!({}), 0), 86_430);
}

#[test]
fn the_deadline_of_a_rollout_begins_anew_with_each_of_its_steps() {
    let spec = || json!({"progressDeadlineSeconds": 200});
    let condition = |status: &str, at: &str| json!({"conditions": [{"type": "Progressing", "status": status, "lastUpdateTime": at}]});
    assert_eq!(
        patience(spec(), condition("True", "1970-01-01T00:05:00Z"), 400),
        530
    );
    assert_eq!(
        patience(spec(), condition("False", "1970-01-01T00:05:00Z"), 400),
        230
    );
    // Progress from before, and from a clock that is ahead.
    assert_eq!(
        patience(spec(), condition("True", "1969-12-31T00:00:00Z"), 400),
        230
    );
    assert_eq!(
        patience(spec(), condition("True", "1999-01-01T00:00:00Z"), 400),
        630
    );
    assert_eq!(patience(spec(), condition("True", "yesterday"), 400), 230);
}
