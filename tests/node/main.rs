//! What only real nodes can show: kubelets, containers, Services, and what becomes of them when parts are killed.
//! Needs root; `./dev test node` looks whether the machine has what else it takes.

// Objects are made in place.
#![allow(clippy::needless_pass_by_value)]

mod bed;
mod ground;
// Each tier uses its part of these.
#[allow(dead_code)]
#[path = "../support/audit.rs"]
mod audit;
#[allow(dead_code)]
#[path = "../support/controller.rs"]
mod controller;
#[allow(dead_code)]
#[path = "../support/installed.rs"]
mod installed;
#[allow(dead_code)]
#[path = "../support/scene.rs"]
mod scene;
#[path = "../support/transcript.rs"]
mod transcript;
#[path = "../support/tried.rs"]
mod tried;

mod actions;
mod cluster;
mod crash;
mod failures;
mod night;
mod nodes;
mod replicas;
mod traces;
mod undoing;
mod work;
