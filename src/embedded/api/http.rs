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

use crate::api::request::ApiRequest;
use crate::api::status::ApiError;
use crate::api::verbs::Reply;
use crate::api::watch::Answer;
use crate::api::{EmbeddedCluster, Fault, FaultAnswer, Session, User, watch};

/// The API server as seen by one user's client.
pub(crate) struct ApiService {
    cluster: EmbeddedCluster,
    user: User,
    session: Session,
}

impl ApiService {
    pub(crate) fn new(cluster: EmbeddedCluster, user: User, session: Session) -> Self {
        Self {
            cluster,
            user,
            session,
        }
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
        let (cluster, user, session) = (self.cluster.clone(), self.user.clone(), self.session.clone());
        Box::pin(async move {
            let answer = answer(&cluster, &user, &session, request).await;
            // Whoever died hears nothing; who died of this answer has heard it.
            match answer {
                Ok((answer, true)) => Ok(answer),
                Ok((_, false)) | Err(_) if session.is_cut() => std::future::pending().await,
                Ok((answer, false)) => Ok(answer),
                Err(error) => Err(error),
            }
        })
    }
}

/// The answer, and whether it is heard although the session is cut.
type Heard = Result<(Response<Answer>, bool), BoxError>;

async fn answer(cluster: &EmbeddedCluster, user: &User, session: &Session, request: Request<Body>) -> Heard {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = ApiRequest::parse(user, parts.method.as_str(), target, body.to_vec());
    request.content_type = header_text(&parts.headers, &header::CONTENT_TYPE);
    request.user_agent = header_text(&parts.headers, &header::USER_AGENT);
    request.session = session.name();
    if let Some(until) = session.stalled() {
        tokio::time::sleep_until(until).await;
        return Err("connection timed out".into());
    }
    let faults = cluster.0.lock().faults.clone();
    let fault = if session.is_cut() {
        None
    } else {
        faults.and_then(|function| function(&request.info))
    };
    if session.is_cut() {
        return std::future::pending().await;
    }
    let Some(Fault {
        commit,
        delay,
        answer,
    }) = fault
    else {
        return Ok((respond(cluster.perform(&request), session)?, false));
    };
    if answer == FaultAnswer::Underway {
        let cluster = cluster.clone();
        let arrival = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            cluster.perform(&request)
        });
        return Ok((respond(arrival.await?, session)?, false));
    }
    let reply = commit.then(|| cluster.perform(&request));
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match (answer, reply) {
        (FaultAnswer::Ordinary, Some(reply)) => Ok((respond(reply, session)?, false)),
        (FaultAnswer::Lagging(lag), Some(Reply::Watch(receiver))) => {
            let late = Reply::Watch(watch::lagging(receiver, lag));
            Ok((respond(late, session)?, false))
        }
        (FaultAnswer::Died { answered }, reply) => {
            session.cut();
            match reply {
                Some(reply) if answered => Ok((respond(reply, session)?, true)),
                _ => std::future::pending().await,
            }
        }
        (
            FaultAnswer::Ordinary | FaultAnswer::Underway | FaultAnswer::Lagging(_) | FaultAnswer::Dropped,
            _,
        ) => Err("connection reset by peer".into()),
        (FaultAnswer::Status(code), reply) => {
            if reply.is_none() {
                cluster.0.lock().record(&request, code);
            }
            let refusal = Reply::Object(code, Arc::new(*ApiError::generic(code).0));
            Ok((respond(refusal, session)?, false))
        }
    }
}

impl EmbeddedCluster {
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

fn respond(reply: Reply, session: &Session) -> Result<Response<Answer>, BoxError> {
    let code = reply.code();
    let (media, body) = match reply {
        Reply::Object(_, object) => (
            "application/json",
            Answer::Whole(Some(Bytes::from(serde_json::to_vec(&*object)?))),
        ),
        Reply::Text(_, text) => (
            "text/plain; charset=utf-8",
            Answer::Whole(Some(Bytes::from_static(text.as_bytes()))),
        ),
        Reply::Watch(receiver) => ("application/json", Answer::stream(receiver, session.clone())),
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
