//! What holds for the repository itself: who may use whom, and that generated files are current.

mod arrows;
mod circles;
mod generated;
mod supply;
mod words;
