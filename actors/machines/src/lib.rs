//! The pure part of kubernaut: what is decided, and nothing of how it is carried out.
//!
//! No clock, no I/O, no async: time is an argument, what happened comes as an event, what is to be done goes out as
//! a command. The crate's dependencies keep it so.

mod settings;

pub use settings::Settings;
