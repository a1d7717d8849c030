//! The actors of kubernaut: shells around the pure machines, and the ports through which they reach the world.
//!
//! The way of an event: a watch pokes the supervisor, the supervisor pokes the actor of that uid, the actor reads
//! the store and feeds its machine, the machine's commands go to the effects, their outcome comes back as an event.
//! Nothing here decides about phases, and nothing here knows an API client.

pub mod ports;

mod supervisor;

mod workflow_actor;

mod step_actor;

mod complaints;
mod effects;
mod publisher;
mod rights;

mod claims;
mod lanes;
mod locks;
mod slots;

mod budget;
mod changes;
mod clock;
mod context;
mod desk;
mod restarts;
mod timer;

pub use changes::{Change, Changes};
pub use clock::TokioClock;
pub use context::{Context, FaultHook, Limits, Ports};
pub use publisher::Publisher;
pub use ractor::SpawnErr as StartError;
pub use supervisor::SupervisorHandle;
