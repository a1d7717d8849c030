//! The small server for probes and metrics.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::telemetry::Telemetry;

/// A client that has not sent its request by then is cut off.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);

/// A connection is closed after this long, also one whose client doesn't read its answer: a scraper opens another one.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(30);
/// Connections at the same time. One more closes the oldest: whoever opens many closes their own, while a probe needs
/// its connection for milliseconds.
const CONNECTIONS: usize = 64;
/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// How often the threads of the actors say that they get on.
const PULSE_INTERVAL: Duration = Duration::from_secs(1);
/// Threads that have not got on for this long never will: /livez says so, and the process is started again. Nothing that
/// they do takes a hundredth of it.
const PULSE_PATIENCE: Duration = Duration::from_mins(2);

/// What keeps the controller from working, in words, and what a person should know besides.
#[derive(Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// When the threads of the actors last got on, where somebody takes their pulse.
    pulse: Option<Instant>,
    missing: Vec<&'static str>,
    notes: BTreeMap<&'static str, String>,
}

impl Readiness {
    /// Says, for ever, that the runtime that this runs in gets on. The probes have a runtime of their own, and would else
    /// call a process alive whose actors stand still.
    pub async fn keep_pulse(self) {
        loop {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).pulse = Some(Instant::now());
            tokio::time::sleep(PULSE_INTERVAL).await;
        }
    }

    fn is_alive(&self) -> bool {
        let pulse = self.state.lock().unwrap_or_else(PoisonError::into_inner).pulse;
        pulse.is_none_or(|pulse| pulse.elapsed() < PULSE_PATIENCE)
    }

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

    /// Whether this is what was said last about `topic`.
    pub fn is_noted(&self, topic: &'static str, note: &str) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.notes.get(topic).is_some_and(|known| known == note)
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
    let mut tasks = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
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
        while tasks.try_join_next().is_some() {}
        open.retain(|connection| !connection.is_finished());
        while open.len() >= CONNECTIONS {
            open.pop_front().iter().for_each(AbortHandle::abort);
        }
        open.push_back(tasks.spawn(attend(stream, readiness.clone(), Arc::clone(&telemetry))));
    }
}

/// Answers the requests of one connection.
async fn attend(stream: TcpStream, readiness: Readiness, telemetry: Arc<Telemetry>) {
    let service = service_fn(move |request| {
        let response = respond(&request, &readiness, &telemetry);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(HEAD_MAX);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the probes ended"),
        Err(_) => tracing::debug!("a connection to the probes was open for too long"),
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
        "/livez" if readiness.is_alive() => {
            text(StatusCode::OK, "text/plain; charset=utf-8", "alive\n".to_owned())
        }
        "/livez" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            "the threads of the actors stand still\n".to_owned(),
        ),
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn readiness_names_what_is_missing_and_what_to_know() {
        let readiness = Readiness::default();
        readiness.needs("watch of workflows");
        readiness.note("policy", "no policy yet".to_owned());
        readiness.note("policy", "no extra policy".to_owned());
        let (ready, text) = readiness.report();
        assert!(!ready);
        assert_eq!(
            text,
            "not ready\nmissing: watch of workflows\nnote: no extra policy\n"
        );
        readiness.has("watch of workflows");
        assert!(readiness.report().0);
    }

    #[test]
    fn a_process_whose_actors_stand_still_is_not_alive() {
        let readiness = Readiness::default();
        assert!(readiness.is_alive());
        let pulse = |ago: Duration| readiness.state.lock().unwrap().pulse = Instant::now().checked_sub(ago);
        pulse(PULSE_PATIENCE / 2);
        assert!(readiness.is_alive());
        pulse(PULSE_PATIENCE);
        assert!(!readiness.is_alive());
    }

    /// A server, and connections to it.
    async fn opened() -> (JoinSet<()>, SocketAddr) {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let telemetry = Arc::new(Telemetry::default());
        tasks.spawn(serve(listener, Readiness::default(), telemetry));
        (tasks, address)
    }

    async fn livez(address: SocketAddr) -> String {
        let mut probe = TcpStream::connect(address).await.unwrap();
        let request = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        probe.write_all(request).await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(1), probe.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer
    }

    #[tokio::test]
    async fn a_probe_is_answered_whoever_holds_connections_open() {
        let (_server, address) = opened().await;
        let mut idle = Vec::new();
        for number in 0..500 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Some say nothing, some begin a request, some ask for much and don't read it.
            match number % 3 {
                0 => {}
                1 => stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap(),
                _ => {
                    let many = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50);
                    stream.write_all(many.as_bytes()).await.unwrap();
                }
            }
            idle.push(stream);
        }
        assert!(livez(address).await.starts_with("HTTP/1.1 200"));
        // The first of them were closed.
        let closed = timeout(Duration::from_secs(1), idle[0].read(&mut [0; 8])).await;
        assert!(matches!(closed.unwrap(), Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_head_of_a_request_that_does_not_end_is_refused() {
        let (_server, address) = opened().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /livez HTTP/1.1\r\nX: {}", "x".repeat(1024 * 1024));
        // It may be closed before all was sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(1), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "still open");
        assert!(livez(address).await.starts_with("HTTP/1.1 200"));
    }
}
