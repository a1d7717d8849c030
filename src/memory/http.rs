//! The HTTP face: a tower service under the kube client.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ::http::{HeaderMap, Request, Response, header};
use bytes::Bytes;
use kube::client::Body;
use tower::{BoxError, Service};

use super::{
    Fault, FaultAnswer, MemoryCluster, User, api::Reply, request::ApiRequest, status::ApiError, watch::Answer,
};

/// The API server as seen by one user's client.
pub(super) struct ApiService {
    cluster: MemoryCluster,
    user: User,
}

impl ApiService {
    pub(super) fn new(cluster: MemoryCluster, user: User) -> Self {
        Self { cluster, user }
    }
}

impl Service<Request<Body>> for ApiService {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (cluster, user) = (self.cluster.clone(), self.user.clone());
        Box::pin(async move { answer(&cluster, &user, request).await })
    }
}

async fn answer(
    cluster: &MemoryCluster,
    user: &User,
    request: Request<Body>,
) -> Result<Response<Answer>, BoxError> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = ApiRequest::parse(user, parts.method.as_str(), target, body.to_vec());
    request.content_type = header_text(&parts.headers, &header::CONTENT_TYPE);
    request.user_agent = header_text(&parts.headers, &header::USER_AGENT);
    let faults = cluster.0.lock().faults.clone();
    let fault = faults.and_then(|function| function(&request.info));
    let Some(Fault {
        commit,
        delay,
        answer,
    }) = fault
    else {
        return respond(cluster.perform(&request));
    };
    let reply = commit.then(|| cluster.perform(&request));
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match (answer, reply) {
        (FaultAnswer::Ordinary, Some(reply)) => respond(reply),
        (FaultAnswer::Ordinary | FaultAnswer::Dropped, _) => Err("connection reset by peer".into()),
        (FaultAnswer::Status(code), reply) => {
            if reply.is_none() {
                cluster.0.lock().record(&request, code);
            }
            respond(Reply::Object(code, Arc::new(*ApiError::generic(code).0)))
        }
    }
}

impl MemoryCluster {
    /// Carries a request out and lets the world react before anyone hears of it.
    fn perform(&self, request: &ApiRequest) -> Reply {
        let reply = {
            let mut state = self.0.lock();
            state.run_due();
            let reply = state.handle(request);
            state.settle();
            reply
        };
        self.0.timers.notify_one();
        reply
    }
}

fn respond(reply: Reply) -> Result<Response<Answer>, BoxError> {
    let code = reply.code();
    let (media, body) = match reply {
        Reply::Object(_, object) => (
            "application/json",
            Answer::Whole(Some(Bytes::from(object.to_string()))),
        ),
        Reply::Text(_, text) => (
            "text/plain; charset=utf-8",
            Answer::Whole(Some(Bytes::from_static(text.as_bytes()))),
        ),
        Reply::Watch(receiver) => ("application/json", Answer::Stream(receiver)),
    };
    Ok(Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, media)
        .body(body)?)
}

fn header_text(headers: &HeaderMap, name: &header::HeaderName) -> String {
    headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("")
        .to_owned()
}
