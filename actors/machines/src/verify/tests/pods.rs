//! Deleted pods, and those that come instead.

use super::*;

fn pod(name: &str, uid: &str, ready: bool) -> Value {
    json!({"kind": "Pod",
           "metadata": {"name": name, "uid": uid,
                        "ownerReferences": [{"kind": "Any", "name": "owner", "uid": "owner-uid", "controller": true}]},
           "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
}

fn ending(mut pod: Value) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    pod
}

/// A controller that shall have two pods and says that so many are ready.
fn owner(kind: &str, ready: i64) -> Value {
    let mut owner = json!({"kind": kind, "metadata": {"name": "owner", "uid": "owner-uid"},
                           "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}},
                           "status": {"readyReplicas": ready}});
    if kind == "DaemonSet" {
        owner["status"] = json!({"desiredNumberScheduled": 2, "numberReady": ready});
    }
    if kind == "ReplicationController" {
        owner["spec"]["selector"] = json!({"app": "web"});
    }
    owner
}

fn missing(ready: i64) -> Postcondition {
    in_progress(format!("owner has {ready} of 2 pods ready"))
}

const KINDS: [&str; 4] = ["ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"];

#[test]
fn a_pod_is_deleted_when_that_uid_is_gone() {
    let look = delete(vec![
        web_pod("web-a", "u1", None),
        web_pod("web-b", "u2", Some("Job")),
    ]);
    assert_eq!(look.sees(&[]), holds("deleted: web-a, web-b"));
    let there = pod("web-a", "u1", true);
    look.expects([
        (there.clone(), not_there("pod web-a is still there")),
        (ending(there.clone()), in_progress("pod web-a is on its way out")),
        // A replacement of the same name.
        (pod("web-a", "another", true), holds("deleted: web-a, web-b")),
    ]);
    // As long as one is not even on its way out, the others do not matter.
    let other = pod("web-b", "u2", true);
    assert_eq!(
        look.sees(&[ending(there), other]),
        not_there("pod web-b is still there")
    );
}

#[test]
fn a_deleted_pod_is_waited_for_until_its_controller_is_back_at_its_count() {
    for kind in KINDS {
        let look = delete(vec![web_pod("web-a", "u1", Some(kind))]);
        let two = [pod("web-b", "u2", true), pod("web-c", "u3", true)];
        let all = |first: Value| [vec![first], two.to_vec()].concat();
        assert_eq!(look.sees(&all(owner(kind, 2))), holds("deleted: web-a"), "{kind}");
        assert_eq!(look.sees(&all(owner(kind, 1))), missing(1), "{kind}");
        // Nobody waits for a controller that was deleted too, or made anew.
        assert_eq!(look.sees(&two), holds("deleted: web-a"), "{kind}");
        let mut anew = owner(kind, 0);
        anew["metadata"]["uid"] = json!("another");
        assert_eq!(look.sees(&[anew]), holds("deleted: web-a"), "{kind}");
    }
    let look = delete(vec![web_pod("web-a", "u1", Some("ReplicaSet"))]);
    let mut none = owner("ReplicaSet", 0);
    none["spec"]["replicas"] = json!(0);
    look.expects([(none, holds("deleted: web-a"))]);
}

#[test]
fn a_count_that_is_older_than_the_deletion_fools_nobody() {
    for kind in KINDS {
        let look = delete(vec![web_pod("web-a", "u1", Some(kind))]);
        let says_two = owner(kind, 2);
        let ready = || pod("web-b", "u2", true);
        let mut stranger = pod("web-x", "u9", true);
        stranger["metadata"]["ownerReferences"][0]["uid"] = json!("another");
        for other in [
            ending(pod("web-c", "u3", true)),
            pod("web-c", "u3", false),
            stranger,
        ] {
            let seen = look.sees(&[says_two.clone(), ready(), other.clone()]);
            assert_eq!(seen, missing(1), "{kind}: {other}");
        }
    }
}

#[test]
fn pods_are_listed_only_where_a_controller_says_that_they_are_there() {
    let look = delete(vec![web_pod("web-a", "u1", Some("ReplicaSet"))]);
    let (_, checked) = look.checked();
    let attempt = attempt(look.pods.clone());
    let lists = |mut owner: Value, selector: Value| {
        owner["spec"]["selector"] = selector;
        let mut facts = ReadResults::new();
        for read in reads(&checked, &attempt, &facts) {
            let found = matches!(&read, Read::Get { kind, .. } if kind == "ReplicaSet");
            facts.insert(read, found.then(|| owner.clone()).into_iter().collect());
        }
        reads(&checked, &attempt, &facts)
    };
    let labels = json!({"matchLabels": {"app": "web"}});
    assert_eq!(lists(owner("ReplicaSet", 1), labels.clone()), []);
    let selector = |text: &str| vec![Read::list("v1", "Pod", Some("shop"), Some(text))];
    assert_eq!(lists(owner("ReplicaSet", 2), labels), selector("app=web"));
    let expressions = json!({"matchLabels": {"app": "web", "tier": "a"}, "matchExpressions": [
        {"key": "b", "operator": "In", "values": ["1", "2"]}, {"key": "c", "operator": "NotIn", "values": ["3"]},
        {"key": "d", "operator": "Exists"}, {"key": "e", "operator": "DoesNotExist"}]});
    assert_eq!(
        lists(owner("ReplicaSet", 2), expressions),
        selector("app=web,tier=a,b in (1,2),c notin (3),d,!e")
    );
}

#[test]
fn after_a_deletion_the_pods_and_their_controllers_are_read_once_each() {
    let look = delete(vec![
        web_pod("web-a", "u1", Some("ReplicaSet")),
        web_pod("web-b", "u2", Some("ReplicaSet")),
        web_pod("web-c", "u3", Some("Job")),
        web_pod("web-d", "u4", None),
    ]);
    let pod = |name: &str| Read::get("v1", "Pod", Some("shop"), name);
    let expected = [
        Read::get("apps/v1", "ReplicaSet", Some("shop"), "owner"),
        pod("web-a"),
        pod("web-b"),
        pod("web-c"),
        pod("web-d"),
    ];
    assert_eq!(look.reads(), expected);
}

#[test]
fn what_a_pod_says_of_its_controller_is_read_only_where_it_is_one_of_the_four() {
    for api_version in [
        "v1%2Fpods?x=",
        "apps.kruise.io/v1beta1",
        "apps/v1/namespaces/other/pods?x=",
        "/v1",
        "",
    ] {
        for kind in KINDS {
            let mut pod = web_pod("web-a", "u1", Some(kind));
            pod.controller.as_mut().expect("a controller").api_version = Some(api_version.into());
            let reads = delete(vec![pod]).reads();
            for read in &reads {
                let Read::Get {
                    api_version: asked, ..
                } = read
                else {
                    panic!("a list: {read:?}")
                };
                assert!(["v1", "apps/v1"].contains(&asked.as_str()), "{read:?}");
            }
        }
    }
}
