//! Watch streams: what a watcher is told, and the HTTP body that carries it.

use std::{
    convert::Infallible,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::{Instant, Sleep},
};

use crate::api::Session;
use crate::api::events_api::present;
use crate::api::kinds::Kind;
use crate::api::selector::Selector;
use crate::api::store::{Change, Commit};

/// One line of a watch stream.
pub(crate) enum Event {
    Added(Arc<Value>),
    Modified(Arc<Value>),
    Deleted(Arc<Value>),
    Bookmark { revision: u64, initial_end: bool },
}

/// Someone who watches a resource.
pub(crate) struct Watcher {
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Selector,
    pub(crate) sender: UnboundedSender<Bytes>,
}

impl Watcher {
    /// Tells about a commit if it concerns this watcher. An object that begins or ceases to match the selector is
    /// reported as ADDED or DELETED. False when nobody listens any more.
    pub(crate) fn offer(&self, commit: &Commit) -> bool {
        if commit.key.resource != self.kind.storage
            || self
                .namespace
                .as_ref()
                .is_some_and(|n| *n != commit.key.namespace)
        {
            return !self.sender.is_closed();
        }
        let before = commit.previous.as_ref().is_some_and(|p| self.selector.matches(p));
        let after = commit.change != Change::Deleted && self.selector.matches(&commit.object);
        let event = match (before, after) {
            (false, true) => Event::Added(Arc::clone(&commit.object)),
            (true, true) => Event::Modified(Arc::clone(&commit.object)),
            (true, false) => {
                // The last state that matched, with the revision of the change that ended it.
                let mut last = commit.previous.as_deref().cloned().unwrap_or_default();
                last["metadata"]["resourceVersion"] = json!(commit.revision.to_string());
                Event::Deleted(Arc::new(last))
            }
            (false, false) => return !self.sender.is_closed(),
        };
        self.send(&event)
    }

    /// Sends one line; false when nobody listens any more.
    pub(crate) fn send(&self, event: &Event) -> bool {
        let (name, object) = match event {
            Event::Added(object) => ("ADDED", present(&self.kind, object)),
            Event::Modified(object) => ("MODIFIED", present(&self.kind, object)),
            Event::Deleted(object) => ("DELETED", present(&self.kind, object)),
            Event::Bookmark {
                revision,
                initial_end,
            } => {
                let mut object = json!({
                    "apiVersion": self.kind.api_version(),
                    "kind": self.kind.kind,
                    "metadata": {"resourceVersion": revision.to_string()},
                });
                if *initial_end {
                    object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                }
                ("BOOKMARK", Arc::new(object))
            }
        };
        self.sender.send(line(name, &object)).is_ok()
    }
}

/// One line of the stream.
pub(crate) fn line(event: &str, object: &Value) -> Bytes {
    let mut line = format!("{{\"type\":\"{event}\",\"object\":").into_bytes();
    // Into memory nothing fails.
    let _ = serde_json::to_writer(&mut line, object);
    line.extend_from_slice(b"}\n");
    Bytes::from(line)
}

/// Lines of a watch, each of them later.
pub(crate) fn lagging(mut lines: UnboundedReceiver<Bytes>, lag: Duration) -> UnboundedReceiver<Bytes> {
    let (queue, mut queued) = mpsc::unbounded_channel();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            if queue.send((Instant::now() + lag, line)).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((at, line)) = queued.recv().await {
            tokio::time::sleep_until(at).await;
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The body of an answer: all of it at once, or a stream of watch events.
#[derive(Debug)]
pub(crate) enum Answer {
    Whole(Option<Bytes>),
    Stream(Lines),
}

/// Watch events; silent once their session is cut, and while it is stalled.
#[derive(Debug)]
pub(crate) struct Lines {
    receiver: UnboundedReceiver<Bytes>,
    session: Session,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Answer {
    pub(crate) fn stream(receiver: UnboundedReceiver<Bytes>, session: Session) -> Self {
        Self::Stream(Lines {
            receiver,
            session,
            stalled: None,
        })
    }
}

impl Lines {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.session.is_cut() {
            return Poll::Pending;
        }
        if let Some(until) = self.session.stalled() {
            self.stalled = Some(Box::pin(tokio::time::sleep_until(until)));
        }
        if let Some(stalled) = &mut self.stalled {
            ready!(stalled.as_mut().poll(context));
            self.stalled = None;
        }
        self.receiver.poll_recv(context)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Stream(lines) => ready!(lines.poll(context)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
