//! Random lives of the machines in a small world without actors: calls that fail before and after they took effect,
//! answers that come twice or never, controllers that crash at any moment. Compared with a model of a few lines.

// What is not expected here is a failed test.
#![allow(clippy::unwrap_in_result, clippy::wildcard_enum_match_arm)]

mod step;
mod step_world;
mod workflow;
