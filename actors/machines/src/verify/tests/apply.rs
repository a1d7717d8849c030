//! What was applied, and what the API server made of it.

use super::*;

#[test]
fn an_applied_object_holds_when_it_has_all_that_was_applied() {
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "flags", "namespace": "shop", "labels": {"app": "web"}},
        "data": {"a": "x"}});
    let seen = |labels: Value, data: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data, "immutable": false,
               "metadata": {"name": "flags", "namespace": "shop", "labels": labels, "uid": "u", "generation": 1}})
    };
    let lacks = not_there("the object does not have all that was applied");
    apply(&manifest).expects([
        (
            seen(json!({"app": "web", "by": "server"}), json!({"a": "x", "b": "y"})),
            holds("applied"),
        ),
        (seen(json!({"app": "web"}), json!({"a": "z"})), lacks.clone()),
        (seen(json!({"app": "web"}), json!({"b": "x"})), lacks.clone()),
        (seen(json!({"app": "web"}), Value::Null), lacks.clone()),
        (seen(Value::Null, json!({"a": "x"})), lacks),
    ]);
}

#[test]
fn elements_of_lists_may_have_more_than_was_applied_but_not_less() {
    let with = |containers: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
               "spec": {"template": {"spec": {"containers": containers}}}})
    };
    let lacks = not_there("the object does not have all that was applied");
    apply(&with(
        json!([{"name": "app", "image": "app:2", "env": [{"name": "A", "value": "1"}]}]),
    ))
    .expects([
        (
            with(json!([
                {"name": "injected", "image": "proxy:1"},
                {"name": "app", "image": "app:2", "imagePullPolicy": "Always",
                 "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            ])),
            holds("applied"),
        ),
        (
            with(json!([{"name": "app", "image": "app:1", "env": [{"name": "A", "value": "1"}]}])),
            lacks.clone(),
        ),
        // What was applied is spread over two elements.
        (
            with(
                json!([{"name": "app", "image": "app:1", "env": [{"name": "A", "value": "1"}]},
                        {"name": "other", "image": "app:2"}]),
            ),
            lacks.clone(),
        ),
        (with(json!([{"name": "app", "image": "app:2"}])), lacks),
    ]);
}

#[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
fn web(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
           "spec": spec})
}

/// Whether it holds when this was applied and that is read, after what.
fn is_applied(applied: Value, seen: Value, what: JobResult) -> bool {
    let look = Look {
        what,
        ..apply(&web(applied))
    };
    matches!(look.sees(&[web(seen)]), Postcondition::Holds { .. })
}

#[test]
fn a_quantity_holds_in_the_form_that_the_server_gives_it() {
    let same = [
        (json!("1000m"), json!("1")),
        (json!("0.3"), json!("300m")),
        (json!(2), json!("2")),
        (json!(0.5), json!("500m")),
        (json!("1024Mi"), json!("1Gi")),
        (json!("1.1M"), json!("1100k")),
        (json!("0.1Gi"), json!("107374182400m")),
        (json!("1e3"), json!("1k")),
        (json!("1E"), json!("1000P")),
        (json!("-5"), json!("-5")),
    ];
    for (applied, seen) in same {
        let words = format!("{applied} comes back as {seen}");
        let limits = |cpu: Value| json!({"limits": {"cpu": cpu}});
        assert!(is_applied(limits(applied), limits(seen), Success), "{words}");
    }
    let others = [
        (json!("1000m"), json!("1m")),
        (json!("1G"), json!("1Gi")),
        (json!(80), json!("http")),
        (json!("1"), json!("one")),
        (json!("nan"), json!("inf")),
        (json!("x1"), json!("x1.0")),
        (json!("m"), json!("")),
        (json!(1), json!(2)),
        (json!(true), json!(1)),
    ];
    for (applied, seen) in others {
        let words = format!("{applied} is not {seen}");
        let limits = |cpu: Value| json!({"limits": {"cpu": cpu}});
        assert!(!is_applied(limits(applied), limits(seen), Success), "{words}");
    }
}

#[test]
fn a_zero_value_holds_where_the_server_leaves_it_out() {
    for zero in [
        json!(false),
        json!(0),
        json!(""),
        json!([]),
        json!({}),
        json!({"labels": {}}),
    ] {
        assert!(is_applied(json!({"x": zero}), json!({}), Success), "{zero}");
        assert!(
            is_applied(json!({"x": zero}), json!({"x": null}), Success),
            "{zero}"
        );
        assert!(
            !is_applied(json!({"x": zero}), json!({"x": "other"}), Success),
            "{zero}"
        );
    }
    for value in [json!(true), json!(1), json!("a"), json!([0]), json!({"a": 1})] {
        assert!(!is_applied(json!({"x": value}), json!({}), Success), "{value}");
    }
}

#[test]
fn a_failed_apply_is_believed_only_where_all_is_literally_there() {
    let there = json!({"port": 80, "cpu": "1"});
    for what in [Failure, Lost] {
        assert!(is_applied(there.clone(), there.clone(), what));
        assert!(is_applied(json!({"gone": null}), there.clone(), what));
        for applied in [
            json!({"port": "http"}),
            json!({"port": "80"}),
            json!({"cpu": "1000m"}),
            json!({"paused": false}),
        ] {
            assert!(!is_applied(applied.clone(), there.clone(), what), "{applied}");
        }
    }
}
