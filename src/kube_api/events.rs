//! Events: those that are read to explain a Job, those that are published.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as CoreEvent, ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kubernaut_actors::ports::Subject;
use kubernaut_crds::MicroTime;
use kubernaut_machines::announcement::EventRecord;
use kubernaut_machines::api_command::ApiFailure;
use serde::de::IgnoredAny;

use super::failure::failure_of;
use super::{KubeApi, MANAGER};

/// Pods of one Job that are asked about: it has one, and maybe one on its way out.
const PODS_MAX: u32 = 4;
/// Events of one object and reason that are read; their source counts the repeats of one in itself.
const EVENTS_MAX: u32 = 20;
/// Longest name of an object.
const NAME_MAX: usize = 253;
/// Longest note of an event (events.k8s.io/v1).
const NOTE_MAX: usize = 1024;

impl KubeApi {
    pub(super) async fn explain(&self, name: &str) -> Result<Vec<String>, ApiFailure> {
        let events: Api<CoreEvent> = Api::namespaced(self.client.clone(), &self.executor_namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.executor_namespace);
        let of_job = ListParams::default()
            .labels(&format!("batch.kubernetes.io/job-name={name}"))
            .limit(PODS_MAX);
        let pods = self.counted("list", "pods", pods.list(&of_job)).await;
        let pods = pods.map_err(|error| failure_of("list", error))?.items;
        let pods = pods.into_iter().filter_map(|pod| pod.metadata.name);
        let mut selectors = vec![format!("involvedObject.name={name},reason=FailedCreate")];
        selectors.extend(pods.map(|pod| format!("involvedObject.name={pod},reason=FailedScheduling")));
        let mut found = Vec::new();
        for selector in selectors {
            let parameters = ListParams::default().fields(&selector).limit(EVENTS_MAX);
            let list = self.counted("list", "events", events.list(&parameters)).await;
            found.extend(list.map_err(|error| failure_of("list", error))?.items);
        }
        let mut told: Vec<(Option<Timestamp>, String)> = found
            .into_iter()
            .filter_map(|event| {
                let micro = event.event_time.as_ref().map(|time| time.0);
                let time = event.last_timestamp.as_ref().map(|time| time.0).or(micro);
                event.message.map(|message| (time, message))
            })
            .collect();
        told.sort();
        let mut messages: Vec<String> = told.into_iter().map(|(_, message)| message).collect();
        messages.dedup();
        Ok(messages)
    }

    pub(super) async fn post_event(
        &self,
        subject: &Subject,
        record: &EventRecord,
        at: Timestamp,
    ) -> Result<(), ApiFailure> {
        let number = self.events.fetch_add(1, Ordering::Relaxed);
        // Unique by what follows the object's name, which may be as long as a whole name may be.
        let suffix = format!(".{:x}.{number:x}", self.started.as_microsecond());
        let stem: String = subject.key.name.chars().take(NAME_MAX - suffix.len()).collect();
        let stem = stem.trim_end_matches(['.', '-']);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{stem}{suffix}")),
                namespace: Some(subject.key.namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some(record.action.to_owned()),
            event_time: Some(MicroTime(at)),
            note: Some(cut(&record.note)),
            reason: Some(record.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(subject.api_version.to_owned()),
                kind: Some(subject.kind.to_owned()),
                name: Some(subject.key.name.clone()),
                namespace: Some(subject.key.namespace.clone()),
                uid: Some(subject.uid.clone()),
                ..ObjectReference::default()
            }),
            related: record.related.as_ref().map(|related| ObjectReference {
                api_version: related.api_version.clone(),
                kind: related.kind.clone(),
                name: Some(related.name.clone()),
                namespace: related.namespace.clone(),
                uid: related.uid.clone(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some("kubernaut.io/controller".to_owned()),
            reporting_instance: Some(MANAGER.to_owned()),
            type_: Some(if record.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let made: Result<IgnoredAny, _> = self.create("events", &subject.key.namespace, &event).await;
        made.map(drop).map_err(|error| failure_of("create", error))
    }
}

fn cut(note: &str) -> String {
    if note.chars().count() <= NOTE_MAX {
        return note.to_owned();
    }
    let mut short: String = note.chars().take(NOTE_MAX - 4).collect();
    short.push_str(" ...");
    short
}
