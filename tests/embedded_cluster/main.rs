//! The embedded cluster, as the unchanged kube client sees it. All tests run on the paused clock.

#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "json!() reads better without a reference"
)]

mod actions;
mod autoscalers;
mod budgets;
mod conformance;
mod daemon_sets;
mod faults;
mod installation;
mod jobs;
mod load;
mod loaded_pods;
mod nodes;
mod rollouts;
mod stateful_sets;
mod support;
mod taints;
mod watch;
mod workloads;
