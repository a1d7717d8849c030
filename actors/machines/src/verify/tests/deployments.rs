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
            in_progress("2 of 3 pods are ready; 3 exist"),
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
            in_progress("1 of 1 pods are ready; 3 exist"),
        ),
    ]);
}

#[test]
fn a_stateful_set_is_scaled_when_its_pods_are_ready_and_its_pods_tell_what_they_wait_for() {
    let look = Look {
        spelling: "scale-stateful-set",
        parameters: json!({"scaleStatefulSet": {"namespace": "shop", "name": "web", "replicas": 3}}),
        ..scale(3)
    };
    let set = |replicas: i64, status: Value| {
        let mut set = deployment(
            json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}}),
            status,
        );
        set["kind"] = json!("StatefulSet");
        set
    };
    look.expects([
        (set(3, counts(3, 3, 3)), holds("replicas: 3")),
        (
            set(3, counts(2, 2, 1)),
            in_progress("1 of 3 pods are ready; 2 exist"),
        ),
        (set(2, counts(2, 2, 2)), not_there("spec.replicas is 2, not 3")),
        (
            set(3, Value::Null),
            in_progress("the controller of the StatefulSet has not seen the change"),
        ),
    ]);
    let (_, checked) = look.checked();
    let target = target_read(&checked).expect("a target");
    let facts = ReadResults::from([(target, vec![set(3, counts(2, 2, 1))])]);
    let pods = Read::pods_of("shop", "app=web", None, 20);
    let reads = crate::verify::reads(&checked, &attempt(Vec::new()), &facts);
    assert_eq!(reads, [pods], "no ReplicaSet stands between");
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
        in_progress("0 of 2 pods are ready; 0 exist"),
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
            in_progress("0 of 2 new pods are ready; 2 old ones still serve"),
        ),
        (
            deployment(spec("uid-1"), counts(3, 2, 2)),
            in_progress("1 of 2 new pods are ready; 1 old one still serves"),
        ),
        (
            deployment(spec("uid-1"), counts(2, 2, 1)),
            in_progress("1 of 2 new pods are ready"),
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
                in_progress("0 of 2 new pods are ready; 2 old ones still serve"),
            ),
            (
                deployment(spec("app", "app:1"), counts(2, 2, 2)),
                not_there("the image of app is app:1"),
            ),
            (
                deployment(spec("other", "app:2"), counts(2, 2, 2)),
                not_there("the image of app is (no such container)"),
            ),
            (
                deployment(
                    json!({"replicas": 2, "template": {"spec": {"containers": [],
                           "initContainers": [{"name": "app", "image": "app:2"}]}}}),
                    counts(2, 2, 2),
                ),
                holds("image of app: app:2"),
            ),
        ]);
    }
}

#[test]
fn a_patch_that_kubectl_made_holds_once_it_is_rolled_out_whatever_it_changed() {
    let template = json!({"spec": {"containers": [{"name": "app", "image": "app:3"}]}});
    let generation = |generation: i64, status: Value| {
        let mut object = deployment(json!({"replicas": 1, "template": template}), status);
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
            in_progress("0 of 1 new pods are ready; 1 old one still serves"),
        ),
    ]);
    look.expects([(
        deployment(json!({"replicas": 1}), counts(1, 1, 1)),
        holds("patched, but the Deployment has no spec.template now: look for a mistyped field"),
    )]);
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

/// The Deployment's ReplicaSet of this revision, with so many pods ready.
fn set(revision: &str, ready: i64) -> Value {
    let labels = json!({"matchLabels": {"app": "web", "pod-template-hash": revision}});
    json!({"kind": "ReplicaSet",
           "metadata": {"name": format!("web-{revision}"), "namespace": "shop",
                        "annotations": {"deployment.kubernetes.io/revision": revision},
                        "ownerReferences": [{"kind": "Deployment", "uid": "d", "controller": true}]},
           "spec": {"selector": labels}, "status": {"readyReplicas": ready}})
}

fn new_pod(name: &str, reason: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "uid": name},
           "status": {"phase": "Pending", "containerStatuses": [
               {"name": "app", "state": {"waiting": {"reason": reason, "message": "m"}}}]}})
}

fn of_three(total: i64, updated: i64, ready: i64) -> Value {
    let template = json!({"metadata": {"annotations": {"kubernaut.io/restarted-by": "uid-1"}}});
    let selector = json!({"matchLabels": {"app": "web"}});
    let spec = json!({"replicas": 3, "template": template, "selector": selector});
    let mut deployment = deployment(spec, counts(total, updated, ready));
    deployment["metadata"]["uid"] = json!("d");
    deployment
}

#[test]
fn a_rollout_is_told_in_the_terms_of_its_new_pods() {
    let seen = |deployment: Value, new: i64| restart().sees(&[deployment, set("4", 3), set("12", new)]);
    for (deployment, new, words) in [
        (
            of_three(4, 1, 3),
            0,
            "0 of 3 new pods are ready; 3 old ones still serve",
        ),
        (
            of_three(4, 2, 3),
            1,
            "1 of 3 new pods are ready; 2 old ones still serve",
        ),
        (
            of_three(4, 3, 3),
            2,
            "2 of 3 new pods are ready; 1 old one still serves",
        ),
        (
            of_three(4, 3, 3),
            3,
            "3 of 3 new pods are ready; 1 old one is still there",
        ),
        // The old ones are those that are broken.
        (
            of_three(4, 1, 1),
            1,
            "1 of 3 new pods are ready; 3 old ones are still there",
        ),
        (of_three(2, 2, 1), 1, "1 of 3 new pods are ready"),
    ] {
        assert_eq!(seen(deployment, new), in_progress(words), "{words}");
    }
}

#[test]
fn only_a_rollout_under_way_has_its_newest_set_and_a_few_of_its_pods_read() {
    let (_, checked) = restart().checked();
    let read = |deployment: Value, sets: Vec<Value>| {
        let reads_kind = |read: &Read, kind: &str| matches!(read, Read::Get { kind: k, .. } | Read::List { kind: k, .. } if k == kind);
        let mut facts = ReadResults::new();
        loop {
            let reads = crate::verify::reads(&checked, &attempt(Vec::new()), &facts);
            if reads.is_empty() {
                return facts
                    .into_keys()
                    .filter(|read| reads_kind(read, "ReplicaSet") || reads_kind(read, "Pod"))
                    .collect::<Vec<_>>();
            }
            for read in reads {
                let found = if reads_kind(&read, "Deployment") {
                    vec![deployment.clone()]
                } else if reads_kind(&read, "ReplicaSet") {
                    sets.clone()
                } else {
                    Vec::new()
                };
                facts.insert(read, found);
            }
        }
    };
    let sets = Read::list("apps/v1", "ReplicaSet", Some("shop"), Some("app=web"));
    let pods = Read::pods_of("shop", "app=web,pod-template-hash=12", None, 20);
    let mut stranger = set("99", 0);
    stranger["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    let found = vec![set("12", 0), set("4", 3), stranger];
    assert_eq!(read(of_three(4, 1, 3), found.clone()), [sets.clone(), pods]);
    assert_eq!(read(of_three(3, 3, 3), found), [], "it is complete");
    assert_eq!(read(of_three(4, 1, 3), Vec::new()), [sets]);
}

#[test]
fn of_several_new_pods_the_one_that_does_not_heal_is_named() {
    let (_, checked) = restart().checked();
    let mut facts = ReadResults::new();
    let objects = [
        of_three(4, 1, 3),
        set("12", 0),
        new_pod("web-a", "ContainerCreating"),
        new_pod("web-b", "ImagePullBackOff"),
    ];
    for _ in 0..3 {
        for read in reads(&checked, &attempt(Vec::new()), &facts) {
            let (Read::Get { kind, .. } | Read::List { kind, .. }) = &read;
            let found = objects
                .iter()
                .filter(|object| object["kind"] == kind.as_str())
                .cloned()
                .collect();
            facts.insert(read, found);
        }
    }
    let seen = waits(&checked, &facts);
    assert_eq!(seen.why().as_deref(), Some("pod web-b: ImagePullBackOff: m"));
    assert!(!seen.are_healthy());
}

#[test]
fn a_deadline_that_an_earlier_rollout_missed_is_not_this_ones() {
    let mut attempt = attempt(Vec::new());
    attempt.start_time = MicroTime("2026-01-01T00:10:00.5Z".parse().expect("a time"));
    let seen = |at: &str| {
        let mut status = stuck(counts(4, 1, 3));
        status["conditions"][1]["lastUpdateTime"] = json!(at);
        let (execution, checked) = scale(3).checked();
        let read = Read::get("apps/v1", "Deployment", Some("shop"), "web");
        let facts = ReadResults::from([(read, vec![deployment(json!({"replicas": 3}), status)])]);
        postcondition(&execution, &checked, &attempt, &facts, Success)
    };
    let earlier = seen("2026-01-01T00:09:59Z");
    assert!(matches!(earlier, Postcondition::InProgress { .. }), "{earlier:?}");
    assert_eq!(
        seen("2026-01-01T00:20:10Z"),
        stuck_at("the rollout does not progress: timed out")
    );
}
