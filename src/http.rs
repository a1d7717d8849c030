//! The small server for probes and metrics.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::telemetry::Telemetry;

/// A client that has not sent its request by then is cut off.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);

/// What keeps the controller from working, in words, and what a person should know besides.
#[derive(Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    missing: Vec<&'static str>,
    notes: BTreeMap<&'static str, String>,
}

impl Readiness {
    /// Says that `what` is needed and not there yet.
    pub fn needs(&self, what: &'static str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.missing.contains(&what) {
            state.missing.push(what);
        }
    }

    /// Says that `what` is there.
    pub fn has(&self, what: &'static str) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .missing
            .retain(|missing| *missing != what);
    }

    /// What a person should know about `topic`, instead of what was said of it before.
    pub fn note(&self, topic: &'static str, note: String) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .notes
            .insert(topic, note);
    }

    /// True when nothing is missing, and the words.
    pub fn report(&self) -> (bool, String) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = state.missing.is_empty();
        let mut text = if ready {
            "ready\n".to_owned()
        } else {
            "not ready\n".to_owned()
        };
        for missing in &state.missing {
            text.extend(["missing: ", missing, "\n"]);
        }
        for note in state.notes.values() {
            text.extend(["note: ", note, "\n"]);
        }
        (ready, text)
    }
}

/// Opens the address.
///
/// # Errors
/// When it can't be bound.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, readiness: Readiness, telemetry: Arc<Telemetry>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, say: others close theirs meanwhile.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (readiness, telemetry) = (readiness.clone(), Arc::clone(&telemetry));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = respond(&request, &readiness, &telemetry);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_PATIENCE);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection to the probes ended");
            }
        });
    }
}

fn respond(
    request: &Request<Incoming>,
    readiness: &Readiness,
    telemetry: &Telemetry,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain; charset=utf-8",
            "GET only\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "text/plain; charset=utf-8", "alive\n".to_owned()),
        "/readyz" => {
            let (ready, report) = readiness.report();
            let code = if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            text(code, "text/plain; charset=utf-8", report)
        }
        "/metrics" => text(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            telemetry.encode(),
        ),
        _ => text(
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "there are /livez, /readyz and /metrics\n".to_owned(),
        ),
    }
}

fn text(code: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_missing_and_what_to_know() {
        let readiness = Readiness::default();
        readiness.needs("watch of workflows");
        readiness.note("policy", "no policy yet".to_owned());
        readiness.note("policy", "no policy configured: everything is allowed".to_owned());
        let (ready, text) = readiness.report();
        assert!(!ready);
        assert_eq!(
            text,
            "not ready\nmissing: watch of workflows\nnote: no policy configured: everything is allowed\n"
        );
        readiness.has("watch of workflows");
        assert!(readiness.report().0);
    }
}
