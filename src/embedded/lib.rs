//! A Kubernetes cluster inside the process: an API server at HTTP level that the unchanged kube client talks to, and the controllers
//! that make a cluster out of it.
//!
//! Inside are one store, one table of kinds and one way for a request's write: admission, validation, commit, history,
//! watchers, and then the world reacts: Deployments bring up pods, Jobs run, garbage is collected; what was checked once is
//! not checked again for the world's own writes. Executor pods run
//! a small kubectl that acts with the rights of the pod's ServiceAccount through the same API. Nothing waits in real
//! time and nothing is random: on tokio's paused clock two runs with one seed give the same cluster.
//!
//! # Guarantees
//!
//! Codes, reasons, messages, causes and objects are those of kube-apiserver 1.35 wherever this project reads them: the
//! cases of tests/conformance run on both, and what they hear is compared line by line. Custom resources are pruned,
//! defaulted and validated by their schemas and CEL rules. resourceVersions are one global counter.
//!
//! # Caveats: what it does not do
//!
//! - Admission webhooks and policies are stored, not evaluated: whoever may write an object may write all of it, also
//!   what kubernaut's own policies keep to the controller or to approvers. Limit ranges and priorities neither; quotas
//!   count objects, not resources, and keep no status. Pods get no token, no priority and no tolerations of their own,
//!   namespaces no kube-root-ca.crt. A node is Ready unless its conditions say otherwise, and nobody finds it lost; of
//!   its taints only that of a cordon and those of conditions come and go, and none drives away other pods than those of
//!   DaemonSets.
//! - Built-in kinds are checked by type and by the rules this project can meet, not by all of the real ones. What has a
//!   wrong type is refused with the real code and reason, in words that are not Go's. Quantities stay as written.
//! - Objects in messages have their fields in the order of the alphabet, not of Go's types, and a rule that the real
//!   server asks twice of an update is told once.
//! - Server-side apply knows the owners of fields, but shows no managedFields, and has no owners of whole objects.
//! - Of schemas, oneOf and anyOf are checked, but told with fewer causes; rules have no cost limit, and transition rules
//!   inside lists compare items by index. An update is not asked for what was wrong before: per field and, for rules,
//!   per spec or status. Definitions are checked for types, keys and rules that compile, and go at once.
//! - Pods that serve are ready at once unless a script says otherwise, also where there is no node. What was loaded in a
//!   state of its own, such as a pod that can't pull its image, stays in it. A suspended Job has no condition, and pods of
//!   Jobs no finalizer. Revisions of StatefulSets and DaemonSets are no objects. Autoscalers have no metrics: they keep
//!   their bounds. Services, volumes and the network do nothing, and every claim is bound.
//! - Lists at a version are those of the present, also pages; a version of the future is refused at once. A continue
//!   token is not the real one's, and never expires.
//! - Warnings are not sent. Nobody impersonates. LocalSubjectAccessReview, TokenRequest and SelfSubjectReview are not
//!   served; nor are Table and metadata-only output, protobuf, exec, logs and port-forward.

#![allow(clippy::doc_markdown, reason = "names of Kubernetes kinds are words here")]

mod api;
mod controllers;
mod kubectl;
mod rng;

pub use api::{
    Committed, EmbeddedCluster, EmbeddedOptions, Fault, FaultAnswer, FaultFunction, FieldError, LoadError,
    PodHabits, PodScript, PodScriptFunction, Rbac, RequestInfo, RequestRecord, Session, Unserved, User,
    distance, fields_given_twice, labels_of_selector,
};
pub use rng::SeededRng;
