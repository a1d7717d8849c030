//! The actors and adapters on the cluster in memory, on a paused clock: what happens when nothing goes wrong, when
//! people intervene, and when an actor crashes.

#![allow(clippy::unwrap_used, reason = "a test may fail by a panic")]

mod scene;
mod simulate;

mod calls;
mod cost;
mod crashes;
mod deletions;
mod faults;
mod holds;
mod installs;
mod lease;
mod run;
mod samples;
mod strangers;
mod waiting;
mod workflows;
