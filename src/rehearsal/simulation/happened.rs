//! What of a plan took effect: a fault counts when it met something, not when it was planned.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::steps::text;
use embedded_cluster::RequestInfo;

/// Which of the things that were to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Of the scenario's plan, by its place there.
    PlannedFault(usize),
    /// Of the faults of steps, by its place there.
    Step(usize),
}

/// One thing that did go wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// Which one it was.
    pub cause: Cause,
    /// When it first took effect, since the start.
    pub at: Duration,
    /// What it met.
    pub met: Met,
}

/// What a fault met.
#[derive(Clone, Debug, PartialEq)]
pub enum Met {
    /// A call of the controller.
    Call(RequestInfo),
    /// An object.
    Object {
        /// Its kind.
        kind: String,
        /// Empty where it belongs to no namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// All of the controller, or of the cluster.
    Everything,
}

impl Met {
    /// This object.
    pub(super) fn object(object: &Value) -> Self {
        Self::Object {
            kind: text(&object["kind"]).to_owned(),
            namespace: text(&object["metadata"]["namespace"]).to_owned(),
            name: text(&object["metadata"]["name"]).to_owned(),
        }
    }
}

/// Takes note of what happens. Clones share what they note.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    began: Instant,
    first: Arc<Mutex<BTreeMap<Cause, (Duration, Met)>>>,
}

impl Notes {
    /// None yet; times are counted from now.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            first: Arc::default(),
        }
    }

    /// This took effect; only the first time is kept.
    pub(super) fn note(&self, cause: Cause, met: impl FnOnce() -> Met) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.began.elapsed();
        first.entry(cause).or_insert_with(|| (at, met()));
    }

    /// All that happened, in its order.
    pub(super) fn all(&self) -> Vec<Happened> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Happened> = first
            .iter()
            .map(|(cause, (at, met))| Happened {
                cause: *cause,
                at: *at,
                met: met.clone(),
            })
            .collect();
        all.sort_by_key(|happened| (happened.at, happened.cause));
        all
    }
}
