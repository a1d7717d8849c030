//! Random lives of the machines in a small world without actors: calls that fail before and after they took effect,
//! answers that come twice or never, controllers that crash at any moment. Compared with a model of a few lines.

mod step;
mod workflow;
