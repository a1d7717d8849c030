//! The program as a person calls it: rehearsals, simulations, and the samples of deploy/samples.

#![allow(clippy::unwrap_used, reason = "a test may fail by a panic")]

mod installs;
mod policy;
mod rehearse;
mod samples;
mod simulate;
