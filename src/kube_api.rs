//! The only writer: every call to the API server but the watches.

mod events;
mod failure;
mod home;
mod kinds;
mod target;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use kube::api::{PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Resource};
use kubernaut_machines::api_command::{ApiFailure, FailureClass};

use crate::telemetry::Telemetry;
use failure::failure_of;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use failure::{chain, code_of};

/// Who writes, as managedFields and events say it.
pub const MANAGER: &str = "kubernaut";

/// The API server through a kube client.
///
/// # Caveats
/// The client must not retry by itself (`Config::default_retry = false`): its retries take minutes, and the machines
/// would not know of a write that was made twice. Deadlines are the caller's.
pub struct KubeApi {
    client: Client,
    executor_namespace: String,
    telemetry: Arc<Telemetry>,
    /// Makes the names of events unique: the time of the start and a number.
    started: Timestamp,
    events: AtomicU64,
}

impl KubeApi {
    /// Through this client; Jobs and payloads are in `executor_namespace`; this controller started at `started`.
    pub fn new(
        client: Client,
        executor_namespace: String,
        telemetry: Arc<Telemetry>,
        started: Timestamp,
    ) -> Self {
        Self {
            client,
            executor_namespace,
            telemetry,
            started,
            events: AtomicU64::new(0),
        }
    }

    async fn counted<T>(
        &self,
        verb: &'static str,
        resource: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, kube::Error> {
        let mut counting = Counting {
            telemetry: &self.telemetry,
            verb,
            resource,
            code: 0,
        };
        let result = call.await;
        counting.code = code_of(verb, result.as_ref().err());
        result
    }

    /// POST of an object; of the answer only what `R` reads is decoded.
    async fn create<K, R>(
        &self,
        resource: &'static str,
        namespace: &str,
        object: &K,
    ) -> Result<R, kube::Error>
    where
        K: Resource<DynamicType = ()> + Serialize,
        R: DeserializeOwned,
    {
        let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
        let request = Request::new(K::url_path(&(), Some(namespace)))
            .create(&post(), body)
            .map_err(kube::Error::BuildRequest)?;
        self.counted("create", resource, self.client.request(request))
            .await
    }

    async fn get<T>(
        &self,
        resource: &'static str,
        call: impl Future<Output = kube::Result<Option<T>>>,
    ) -> Result<Option<T>, ApiFailure> {
        self.counted("get", resource, call)
            .await
            .map_err(|error| failure_of("get", error))
    }
}

/// Counts a request when it ends, with 0 when nobody waited for its answer.
struct Counting<'a> {
    telemetry: &'a Telemetry,
    verb: &'static str,
    resource: &'static str,
    code: u16,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.telemetry.api_request(self.verb, self.resource, self.code);
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn by_us() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn precondition(uid: Option<String>) -> Preconditions {
    Preconditions {
        uid,
        resource_version: None,
    }
}

fn absent_is_success<T>(result: Result<T, kube::Error>) -> Result<(), ApiFailure> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if code_of("delete", Some(&error)) == 404 => Ok(()),
        Err(error) => Err(failure_of("delete", error)),
    }
}

/// What stays wrong however often it is asked.
fn rejected(message: String) -> ApiFailure {
    ApiFailure {
        class: FailureClass::Rejected,
        message,
    }
}

/// It was in the way a moment ago: try again.
fn vanished(kind: &str, name: &str) -> ApiFailure {
    ApiFailure {
        class: FailureClass::Throttled,
        message: format!("{kind} {name} vanished between two calls"),
    }
}
