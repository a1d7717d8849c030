//! The program as a person calls it: what is done with files, rehearsals, simulations, and the samples of deploy/samples.

#![allow(clippy::unwrap_used, reason = "a test may fail by a panic")]

mod authoring;
mod feel;
mod guide;
mod installs;
mod policy;
mod rehearse;
mod samples;
mod simulate;
#[path = "../support/transcript.rs"]
mod transcript;
