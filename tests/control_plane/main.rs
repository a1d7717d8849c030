//! What only a real kube-apiserver, controller manager and kubectl can show.

// Objects are made in place, and what is not expected here is a failed test.
#![allow(clippy::needless_pass_by_value, clippy::wildcard_enum_match_arm)]

#[path = "../support/audit.rs"]
mod audit;
mod bed;
#[path = "../support/controller.rs"]
mod controller;
#[path = "../support/installed.rs"]
mod installed;
#[path = "../support/scene.rs"]
mod scene;
#[path = "../support/tried.rs"]
mod tried;

mod admission;
mod conformance;
mod crash;
mod crds;
mod dataflow;
mod exhaustion;
mod helm;
mod lease;
mod live;
mod load;
mod many;
mod rehearse;
mod rights;
mod rights_used;
mod selectors;
