//! The actors and adapters on the embedded cluster, on a paused clock: what happens when nothing goes wrong, when
//! people intervene, and when an actor crashes.

#![allow(clippy::unwrap_used, reason = "a test may fail by a panic")]

mod scene;

mod approvals;
mod calls;
mod cost;
mod crashes;
mod deletions;
mod dry_runs;
mod faults;
mod holds;
mod lease;
mod policies;
mod starting;
mod strangers;
mod undoing;
mod waiting;
mod workflows;
