//! The pure part of kubernaut: what is decided, and nothing of how it is carried out.
//!
//! No clock, no I/O, no async: time is an argument, what happened comes as an event, what is to be done goes out as
//! a command. The crate's dependencies keep it so.

mod calls;
mod job_run;
mod settings;
mod status_draft;
mod target_state;

pub mod actions;
pub mod approval;
pub mod duration;
pub mod execution_key;
pub mod graph;
pub mod label_selector;
pub mod manifest_kinds;
pub mod mapping;
pub mod owner;
pub mod parameters;
pub mod plan;
pub mod policy;
pub mod policy_input;
pub mod problem;

pub mod classify;
pub mod job_view;
pub mod preflight;
mod quantity;
pub mod rbac;
pub mod reads;
pub mod render;
pub mod requests;
pub mod toleration;
pub mod undoing;
pub mod verify;
pub mod waiting;
pub mod yaml;

pub mod announcement;
pub mod api_command;
pub mod defect;
pub mod step;
pub mod time;
pub mod workflow;

pub use settings::{ApprovalRules, Settings};
