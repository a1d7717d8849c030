//! The custom resources of kubernaut, `WorkflowExecution`, `KubernetesExecution` and `Approval`: their types, the rules
//! the API server checks, and the manifests made from them (`yaml/`, written by `crdgen`, compared in a test).
//!
//! Field names are the design document's; fields that it does not have are marked "Addition" in their docs.
//! Guarantees: every list, string and map of the schemas is bounded (the API server prices its CEL rules by
//! those bounds), and no field accepts `null` as a value (the API server drops it).

// The KubeSchema derive makes a hidden copy of each struct, with its visibility.
#![allow(unreachable_pub)]

pub mod names;

mod parameters;
mod workflow;
mod workflow_status;

mod action;
mod execution;
mod execution_status;

mod approval;
mod conditions;
mod duration_pattern;
mod manifest;
mod state;

pub use action::*;
pub use approval::*;
pub use conditions::{ConditionReason, ConditionType};
pub use duration_pattern::{DURATION_MAX_LENGTH, DURATION_PATTERN};
pub use execution::*;
pub use execution_status::*;
pub use manifest::{approval_crd, crds, execution_crd, manifest_yaml, workflow_crd};
pub use parameters::*;
pub use state::Attempts;
pub use workflow::*;
pub use workflow_status::*;

/// A time with microseconds: what every status field uses, so that a restored controller counts on from the same
/// instant and the order of short phases stays visible.
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
