//! What is tried before it runs: workflows on the embedded cluster, with the whole controller above it.

pub(crate) mod input;
pub(crate) mod rehearse;
pub(crate) mod simulate;
pub mod simulation;
