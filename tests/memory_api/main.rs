//! The cluster in memory, as the unchanged kube client sees it. All tests run on the paused clock.

#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;
mod crud;
mod watch;
mod patch;
mod delete;
mod rbac;
mod crd;
mod jobs;
mod actions;
mod nodes;
mod workloads;
mod faults;
