//! kubernaut.
pub mod memory;
