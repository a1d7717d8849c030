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
    let lacks = not_yet("the object does not have all that was applied");
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
    let lacks = not_yet("the object does not have all that was applied");
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
