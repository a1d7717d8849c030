//! Policies in Rego: a directory of files that decide which executions may run (docs/executions.md, Policy).
//!
//! [`PolicySet`] is one version of the files, compiled. [`Policies`] keeps the present one, takes up changes, and answers the
//! actors.

mod error;
mod files;
mod judge;
mod ranges;
mod recorded;
mod recursion;
mod set;
mod stack;

pub use error::PolicyError;
pub use judge::Policies;
pub(crate) use judge::TOPIC;
pub use recorded::{Case, Expectation, cases, recorded_input};
pub use set::{PACKAGE, PolicySet, TIME_LIMIT};

#[cfg(test)]
mod tests;
