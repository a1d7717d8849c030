//! The actors and adapters on the cluster in memory, on a paused clock: what happens when nothing goes wrong, when
//! people intervene, and when an actor crashes.

mod scene;

mod crashes;
mod deletions;
mod strangers;
mod workflows;
