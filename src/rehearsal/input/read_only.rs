//! A connection that can't write: whatever its user asks for, nothing but GET of objects and lists leaves this process. What
//! lies below an object acts when it is asked for, as `exec` and `proxy` do.

use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{Method, Request};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// What was to be sent, and was not.
#[derive(Debug, thiserror::Error)]
#[error("{method} {path} was not sent: this connection only reads")]
pub(super) struct Refused {
    method: Method,
    path: String,
}

/// Makes a connection read-only.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadOnly;

impl<S> Layer<S> for ReadOnly {
    type Service = Reading<S>;

    fn layer(&self, inner: S) -> Reading<S> {
        Reading(inner)
    }
}

/// A service that is asked to GET and nothing else.
#[derive(Clone, Debug)]
pub(super) struct Reading<S>(S);

impl<S> Service<Request<Body>> for Reading<S>
where
    S: Service<Request<Body>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<S::Future, Ready<Result<S::Response, BoxError>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.method() == Method::GET && is_of_objects(request.uri().path()) {
            return Either::Left(self.0.call(request));
        }
        let refused = Refused {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        };
        Either::Right(ready(Err(refused.into())))
    }
}

/// Whether a path is that of an object or of a list of them.
fn is_of_objects(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let plain = |segment: &&str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
        !segment.is_empty() && !matches!(*segment, "." | "..") && segment.bytes().all(good)
    };
    let (["api", _, within @ ..] | ["apis", _, _, within @ ..]) = segments.as_slice() else {
        return false;
    };
    let is_one = match within {
        // Of old, these led into nodes, pods and watches.
        ["proxy" | "watch" | "redirect", ..] | [] => false,
        ["namespaces", _namespace, _resource] | ["namespaces", _namespace, _resource, _] => true,
        [_resource] | [_resource, _] => true,
        _ => false,
    };
    is_one && segments.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
    use kube::client::ClientBuilder;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_objects_and_lists_are_asked_for() {
        for good in [
            "/api/v1/nodes",
            "/api/v1/namespaces/shop",
            "/api/v1/namespaces/proxy/pods/log",
            "/apis/apps/v1/namespaces/shop/deployments",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
        ] {
            assert!(is_of_objects(good), "{good}");
        }
        for bad in [
            "/api/v1/namespaces/shop/services/web/proxy",
            "/api/v1/namespaces/shop/pods/web/exec",
            "/api/v1/namespaces/shop/pods/web/attach",
            "/api/v1/namespaces/shop/pods/web/portforward",
            "/api/v1/namespaces/shop/pods/web/log",
            "/api/v1/nodes/n1/proxy",
            "/api/v1/nodes/n1/proxy/run/a",
            "/api/v1/proxy/nodes",
            "/api/v1/watch/pods",
            "/api/v1/namespaces/shop/../kube-system",
            "/api/v1//pods",
            "/api/v1/namespaces/a%2fb/pods",
            "/metrics",
            "/logs",
            "/api",
            "/",
        ] {
            assert!(!is_of_objects(bad), "{bad}");
        }
    }

    /// Every way to write that the client knows.
    #[tokio::test]
    async fn only_reads_are_sent() {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let server = tower::service_fn(move |request: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            let answer = if request.uri().path().ends_with("/configmaps") {
                json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {}, "items": []})
            } else {
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
            };
            ready(Ok::<_, BoxError>(Response::new(Body::from(
                answer.to_string().into_bytes(),
            ))))
        });
        let client = ClientBuilder::new(server, "default")
            .with_layer(&ReadOnly)
            .build();
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        assert!(api.get("a").await.is_ok());
        assert!(api.list(&ListParams::default()).await.is_ok());
        assert_eq!(sent.load(Ordering::Relaxed), 2);

        let object: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": "a"}})).expect("an object");
        let patch = Patch::Merge(json!({"data": {"a": "b"}}));
        let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}));
        let (post, dry) = (PostParams::default(), PatchParams::default().dry_run());
        let tried = [
            api.create(&post, &object).await.map(drop),
            api.replace("a", &post, &object).await.map(drop),
            api.patch("a", &PatchParams::default(), &patch).await.map(drop),
            api.patch("a", &PatchParams::apply("x"), &apply).await.map(drop),
            api.patch("a", &dry, &patch).await.map(drop),
            api.delete("a", &DeleteParams::default()).await.map(drop),
            api.delete_collection(&DeleteParams::default(), &ListParams::default())
                .await
                .map(drop),
        ];
        for outcome in tried {
            let error = outcome.expect_err("refused").to_string();
            assert!(error.contains("this connection only reads"), "{error}");
        }
        assert_eq!(sent.load(Ordering::Relaxed), 2, "something was sent");
    }
}
