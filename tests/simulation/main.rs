//! The whole controller in random worlds, with random workflows and faults, each decided by one seed; and a checker that
//! shares no code with it.

mod checker;
#[cfg(feature = "planted-defects")]
mod defects;
mod diamond;
mod history;
mod search;
mod situations;
mod worlds;
