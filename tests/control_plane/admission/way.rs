//! A request that somebody tries, and what stands beside it that passes.

use std::time::Duration;

use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::scene::{api, merge};

/// A request.
pub(super) enum Act {
    Create(Value),
    /// kind (apiVersion/kind), namespace, name, subresource, merge patch.
    Patch(&'static str, &'static str, String, Option<&'static str>, Value),
    /// kind, namespace, name, subresource, object.
    Post(&'static str, &'static str, String, &'static str, Value),
    /// kind, namespace, name, list of operations.
    Edit(&'static str, &'static str, String, Value),
    /// kind, namespace, name, object: server-side apply.
    Apply(&'static str, &'static str, String, Value),
    /// kind, namespace, name, what is merged into the object that is there before the whole is sent back.
    Put(&'static str, &'static str, String, Value),
    Delete(&'static str, &'static str, String),
    Get(&'static str, &'static str, String),
    /// namespace, pod, exec, attach, portforward or proxy: whether it is let through to the node.
    Enter(&'static str, String, &'static str),
}

pub(super) fn create(object: Value) -> Act {
    Act::Create(object)
}

pub(super) fn patch(kind: &'static str, namespace: &'static str, name: &str, patch: Value) -> Act {
    Act::Patch(kind, namespace, name.to_owned(), None, patch)
}

pub(super) fn patch_part(
    kind: &'static str,
    namespace: &'static str,
    name: &str,
    subresource: &'static str,
    patch: Value,
) -> Act {
    Act::Patch(kind, namespace, name.to_owned(), Some(subresource), patch)
}

/// By a JSON patch.
pub(super) fn edit(kind: &'static str, namespace: &'static str, name: &str, operations: Value) -> Act {
    Act::Edit(kind, namespace, name.to_owned(), operations)
}

/// By server-side apply.
pub(super) fn apply(kind: &'static str, namespace: &'static str, name: &str, mut object: Value) -> Act {
    let (api_version, short) = kind.rsplit_once('/').expect("apiVersion/kind");
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(short);
    object["metadata"]["name"] = json!(name);
    Act::Apply(kind, namespace, name.to_owned(), object)
}

/// By an update of the whole object.
pub(super) fn put(kind: &'static str, namespace: &'static str, name: &str, change: Value) -> Act {
    Act::Put(kind, namespace, name.to_owned(), change)
}

pub(super) fn delete(kind: &'static str, namespace: &'static str, name: &str) -> Act {
    Act::Delete(kind, namespace, name.to_owned())
}

pub(super) fn get(kind: &'static str, namespace: &'static str, name: &str) -> Act {
    Act::Get(kind, namespace, name.to_owned())
}

pub(super) fn token_of(namespace: &'static str, account: &str) -> Act {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": null}});
    Act::Post(
        "v1/ServiceAccount",
        namespace,
        account.to_owned(),
        "token",
        request,
    )
}

/// A way to get more than one's part.
pub(super) struct Way {
    /// In one sentence.
    pub(super) tried: &'static str,
    pub(super) act: Act,
    /// What the refusal says.
    pub(super) words: &'static str,
    /// What the same person may do.
    pub(super) allowed: &'static str,
    pub(super) instead: Act,
}

pub(super) fn way(
    tried: &'static str,
    act: Act,
    words: &'static str,
    allowed: &'static str,
    instead: Act,
) -> Way {
    Way {
        tried,
        act,
        words,
        allowed,
        instead,
    }
}

/// Tries each way in earnest, and what is allowed beside it as a dry run.
pub(super) async fn all_are_refused(client: &Client, ways: Vec<Way>) {
    let mut wrong = Vec::new();
    for way in ways {
        match send(client, &way.act, false).await {
            Ok(()) => wrong.push(format!("{}: let through", way.tried)),
            Err(error) if !error.contains(way.words) => {
                wrong.push(format!("{}: `{}` is not in: {error}", way.tried, way.words));
            }
            Err(_) => {}
        }
        if let Err(error) = send(client, &way.instead, true).await {
            wrong.push(format!("{}: refused: {error}", way.allowed));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Does each of these in earnest.
pub(super) async fn all_pass(client: &Client, acts: Vec<(&'static str, Act)>) {
    let mut wrong = Vec::new();
    for (what, act) in acts {
        if let Err(error) = send(client, &act, false).await {
            wrong.push(format!("{what}: refused: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a busy machine makes of a request is neither a refusal nor a permission: then it is asked again.
pub(super) async fn send(client: &Client, act: &Act, dry_run: bool) -> Result<(), String> {
    let mut pauses = [1, 2, 4].into_iter().map(Duration::from_secs);
    loop {
        match send_once(client, act, dry_run).await {
            Ok(()) => return Ok(()),
            Err(error) => match pauses.next().filter(|_| says_nothing(&error)) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error.to_string()),
            },
        }
    }
}

fn says_nothing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500 || status.reason == "Conflict",
        _ => true,
    }
}

async fn send_once(client: &Client, act: &Act, dry_run: bool) -> Result<(), kube::Error> {
    let post = PostParams {
        dry_run,
        ..PostParams::default()
    };
    match act {
        Act::Create(object) => {
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            let kind = format!("{}/{}", text(&object["apiVersion"]), text(&object["kind"]));
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            let typed = serde_json::from_value(object.clone()).expect("an object");
            api(client, &kind, namespace)
                .create(&post, &typed)
                .await
                .map(drop)
        }
        Act::Patch(kind, namespace, name, subresource, patch) => {
            let parameters = PatchParams {
                dry_run,
                ..PatchParams::default()
            };
            let (objects, patch) = (api(client, kind, namespace), Patch::Merge(patch));
            match subresource {
                Some(part) => objects
                    .patch_subresource(part, name, &parameters, &patch)
                    .await
                    .map(drop),
                None => objects.patch(name, &parameters, &patch).await.map(drop),
            }
        }
        Act::Edit(kind, namespace, name, operations) => {
            let parameters = PatchParams {
                dry_run,
                ..PatchParams::default()
            };
            let operations = serde_json::from_value(operations.clone()).expect("operations");
            let patch = Patch::<Value>::Json(operations);
            api(client, kind, namespace)
                .patch(name, &parameters, &patch)
                .await
                .map(drop)
        }
        Act::Apply(kind, namespace, name, object) => {
            let parameters = PatchParams {
                dry_run,
                force: true,
                field_manager: Some("somebody".to_owned()),
                ..PatchParams::default()
            };
            api(client, kind, namespace)
                .patch(name, &parameters, &Patch::Apply(object))
                .await
                .map(drop)
        }
        Act::Put(kind, namespace, name, change) => {
            let objects = api(client, kind, namespace);
            let there = objects.get(name).await?;
            let mut object = serde_json::to_value(there).expect("an object");
            merge(&mut object, change.clone());
            let object = serde_json::from_value(object).expect("an object");
            objects.replace(name, &post, &object).await.map(drop)
        }
        Act::Post(kind, namespace, name, subresource, object) => api(client, kind, namespace)
            .create_subresource::<_, Value>(subresource, name, &post, object)
            .await
            .map(drop),
        Act::Delete(kind, namespace, name) => {
            let parameters = DeleteParams {
                dry_run,
                ..DeleteParams::default()
            };
            api(client, kind, namespace)
                .delete(name, &parameters)
                .await
                .map(drop)
        }
        Act::Get(kind, namespace, name) => api(client, kind, namespace).get(name).await.map(drop),
        Act::Enter(namespace, pod, how) => enter(client, namespace, pod, how).await,
    }
}

/// The request does not ask for another protocol, so that it never leaves the API server: it ends there with an error,
/// which is one of 403 or another one. A proxy looks for the pod, and finds that no node has it.
async fn enter(client: &Client, namespace: &str, pod: &str, how: &str) -> Result<(), kube::Error> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/{how}?command=id&stdout=true");
    let request = http::Request::post(path).body(Vec::new()).expect("a request");
    match client.request_text(request).await {
        Err(kube::Error::Api(status)) if status.code != 403 && how == "proxy" => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 400 => Ok(()),
        Err(error) => Err(error),
        Ok(answer) => panic!("neither refused nor let through: {answer}"),
    }
}
