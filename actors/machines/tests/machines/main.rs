//! One machine, fed by hand: what happens is told event by event, and what it asks for is compared.

// What is not expected here is a failed test.
#![allow(clippy::unwrap_in_result, clippy::wildcard_enum_match_arm)]

mod step_harness;
mod workflow_harness;

mod approval;
mod control;
mod dry_runs;
mod dry_runs_first;
mod effects;
mod every_action;
mod jobs;
mod manifests;
mod monitoring;
mod outcomes;
mod pods;
mod policies;
mod refusals;
mod rollback;
mod safety_checks;
mod strangers;
mod waits;
mod workflow_steps;
