//! Where one case works.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use embedded_cluster::User;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::answer::Answer;
use super::backend::Backend;
use super::bodies;
use super::transcript::{Notes, Transcript};
use super::watching::Watching;

pub(super) const JSON: &str = "application/json";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(super) const OPERATIONS: &str = "application/json-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";

/// How often something is looked at that another does, and how long; a loaded machine can take seconds for it.
const PAUSE: Duration = Duration::from_millis(50);
const LOOKS: usize = 600;

/// What is no watch ends in this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A namespace, and a client that writes down what it asks and hears.
///
/// Targets are short: `cm/a?dryRun=All` is the ConfigMap `a` in the case's namespace, and a path that begins with a
/// slash is itself. `{ns}` stands for the namespace everywhere, and begins the names of what has no namespace.
#[derive(Clone)]
pub(crate) struct CaseContext {
    ground: Backend,
    namespace: String,
    user: Option<User>,
    notes: Arc<Mutex<Notes>>,
    quiet: bool,
}

impl CaseContext {
    pub(super) async fn new(ground: Backend, case: &str) -> Self {
        let mut namespace = case.replace('_', "-");
        namespace.truncate(60);
        let lab = Self {
            ground,
            namespace: namespace.trim_end_matches('-').to_owned(),
            user: None,
            notes: Arc::default(),
            quiet: false,
        };
        let name = json!({"metadata": {"name": "{ns}"}});
        lab.quietly().post("ns", name).await.has_code(201);
        // Without it no pod is taken.
        lab.quietly()
            .until("sa/default", |answer| answer.code == 200)
            .await;
        lab
    }

    /// A lab that takes no notes: for what prepares a case.
    pub(super) fn quietly(&self) -> Self {
        Self {
            quiet: true,
            ..self.clone()
        }
    }

    /// A lab for another user.
    pub(super) fn user(&self, name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| self.fill(group)).collect();
        groups.push("system:authenticated".to_owned());
        Self {
            user: Some(User {
                name: self.fill(name),
                groups,
            }),
            ..self.clone()
        }
    }

    pub(super) fn ground(&self) -> &Backend {
        &self.ground
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What stands for something random in the transcript.
    pub(super) fn call(&self, random: &str, name: &str) {
        self.note(|notes| notes.call(random, name));
    }

    /// Writes down something that is no answer.
    pub(super) fn say(&self, what: &str, value: Value) {
        self.note(|notes| notes.add(what, value));
    }

    /// An expectation failed.
    pub(super) fn fail(&self, failure: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.failures.push(failure);
    }

    pub(super) fn failures(&self) -> Vec<String> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.failures.clone()
    }

    pub(super) fn transcript(&self) -> Transcript {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).finish()
    }

    pub(super) async fn get(&self, target: &str) -> Answer {
        self.send(Method::GET, target, "", Vec::new()).await
    }

    /// Creates; an object without a kind gets that of the target.
    pub(super) async fn post(&self, target: &str, body: Value) -> Answer {
        let body = self.object(target, body);
        self.send(Method::POST, target, JSON, body).await
    }

    pub(super) async fn put(&self, target: &str, body: Value) -> Answer {
        let body = self.object(target, body);
        self.send(Method::PUT, target, JSON, body).await
    }

    /// Creates without notes, and expects it to work.
    pub(super) async fn given(&self, target: &str, body: Value) -> Answer {
        let answer = self.quietly().post(target, body).await;
        answer.has_code(201);
        answer
    }

    pub(super) async fn merge(&self, target: &str, body: Value) -> Answer {
        self.patch(target, MERGE, body).await
    }

    pub(super) async fn strategic(&self, target: &str, body: Value) -> Answer {
        self.patch(target, STRATEGIC, body).await
    }

    pub(super) async fn operations(&self, target: &str, body: Value) -> Answer {
        self.patch(target, OPERATIONS, body).await
    }

    pub(super) async fn apply(&self, target: &str, body: Value) -> Answer {
        let body = self.object(target, body);
        self.send(Method::PATCH, target, APPLY, body).await
    }

    pub(super) async fn patch(&self, target: &str, media: &str, body: Value) -> Answer {
        let body = self.fill(&body.to_string()).into_bytes();
        self.send(Method::PATCH, target, media, body).await
    }

    pub(super) async fn delete(&self, target: &str) -> Answer {
        self.send(Method::DELETE, target, "", Vec::new()).await
    }

    pub(super) async fn delete_with(&self, target: &str, options: Value) -> Answer {
        let body = self.fill(&options.to_string()).into_bytes();
        self.send(Method::DELETE, target, JSON, body).await
    }

    pub(super) async fn send(&self, method: Method, target: &str, media: &str, body: Vec<u8>) -> Answer {
        let label = format!("{method} {target}");
        let mut looks = LOOKS;
        let (code, body) = loop {
            let (code, body) = self.ask(method.clone(), target, media, body.clone()).await;
            // A real API server that has just got a definition asks to come again, now and then.
            let starts = code == 429 && body["message"] == "storage is (re)initializing";
            looks -= 1;
            if !starts || looks == 0 {
                break (code, body);
            }
            tokio::time::sleep(PAUSE).await;
        };
        self.note(|notes| notes.add(&label, json!({"code": code, "body": body})));
        Answer {
            lab: self.clone(),
            request: label,
            code,
            body,
        }
    }

    async fn ask(&self, method: Method, target: &str, media: &str, body: Vec<u8>) -> (u16, Value) {
        let response = self.open(method, target, media, body).await;
        let code = response.status().as_u16();
        let bytes = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
        let bytes = bytes.map_or_else(
            |_| "an answer without an end".into(),
            |body| body.expect("a body").to_bytes(),
        );
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (code, body)
    }

    pub(super) async fn watch(&self, target: &str) -> Watching {
        let joint = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{joint}watch=true");
        let response = self.open(Method::GET, &target, "", Vec::new()).await;
        Watching::new(self.clone(), format!("GET {target}"), response)
    }

    /// Asks until it is so, and writes down the last answer alone.
    pub(super) async fn until(&self, target: &str, is_reached: impl Fn(&Answer) -> bool) -> Answer {
        let quiet = self.quietly();
        for _ in 0..LOOKS {
            let answer = quiet.get(target).await;
            if is_reached(&answer) {
                let body = json!({"code": answer.code, "body": answer.body});
                self.note(|notes| notes.add(&format!("until {target}"), body));
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{target} did not become so: {}", quiet.get(target).await.body);
    }

    pub(super) async fn until_gone(&self, target: &str) -> Answer {
        self.until(target, |answer| answer.code == 404).await
    }

    async fn open(&self, method: Method, target: &str, media: &str, body: Vec<u8>) -> http::Response<Body> {
        let (client, headers) = self.ground.client(self.user.as_ref());
        let mut request = Request::builder()
            .method(method)
            .uri(self.path(target))
            .header("accept", JSON)
            .header("user-agent", "conformance/1");
        if !media.is_empty() {
            request = request.header("content-type", media);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body)).expect("a request");
        client.send(request).await.expect("an answer")
    }

    fn object(&self, target: &str, mut body: Value) -> Vec<u8> {
        if let (Some(kind), true) = (bodies::kind_of(target), body.is_object()) {
            for (field, value) in [("apiVersion", kind.api_version()), ("kind", kind.kind.to_owned())] {
                if body.get(field).is_none() {
                    body[field] = json!(value);
                }
            }
        }
        self.fill(&body.to_string()).into_bytes()
    }

    fn path(&self, target: &str) -> String {
        let path = match bodies::kind_of(target) {
            None => target.to_owned(),
            Some(kind) => kind.path(target),
        };
        self.fill(&path).replace(' ', "%20").replace('"', "%22")
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{ns}", &self.namespace)
    }

    pub(super) fn note(&self, write: impl FnOnce(&mut Notes)) {
        if !self.quiet {
            write(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}
