//! A watch that is read event by event.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::case_context::CaseContext;

/// What does not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The stream of one watch.
pub(crate) struct Watching {
    lab: CaseContext,
    label: String,
    code: u16,
    body: Body,
    read: Vec<u8>,
}

impl Watching {
    pub(super) fn new(lab: CaseContext, label: String, response: http::Response<Body>) -> Self {
        Self {
            lab,
            label,
            code: response.status().as_u16(),
            body: response.into_body(),
            read: Vec::new(),
        }
    }

    /// The next events, each as its type and name; all of them are written down. Fewer when the stream ends.
    pub(super) async fn next(&mut self, count: usize) -> Vec<String> {
        let events = self.next_plain(count).await;
        let seen = events.iter().map(short).collect();
        self.lab
            .say(&self.label, json!({"code": self.code, "events": events}));
        seen
    }

    /// The events as they are, and without notes.
    pub(super) async fn next_plain(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            let Some(event) = self.event().await else {
                break;
            };
            // They come when the server likes.
            let marked = event["object"]["metadata"]["annotations"].is_object();
            if event["type"] != "BOOKMARK" || marked {
                events.push(event);
            }
        }
        events
    }

    /// Everything until the stream ends; it must end.
    pub(super) async fn rest(&mut self) -> Vec<String> {
        self.next(usize::MAX).await
    }

    async fn event(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let Some(frame) = frame.unwrap_or_else(|_| panic!("{}: nothing came", self.label)) else {
                // What is no watch has no end of line.
                return serde_json::from_slice(&std::mem::take(&mut self.read)).ok();
            };
            if let Ok(data) = frame.expect("a frame").into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}

fn short(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap_or("Status");
    let object = &event["object"];
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match (kind, &object["code"]) {
        ("ERROR", code) => format!("ERROR {code}"),
        ("Status", _) => format!("Status {}", event["code"]),
        (kind, _) => format!("{kind} {name}").trim_end().to_owned(),
    }
}
