//! A stack that is deep enough for any policy that people write.

use std::any::Any;
use std::io;
use std::thread;

/// The engine calls itself for each rule that needs another one and for each nested term, and does not count how deep: where the stack
/// ends, so does the process. Functions that call themselves are refused before; a chain of thousands of rules fits into this. Only what
/// is used of it is memory.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Why work has no result.
#[derive(Debug)]
pub(super) enum Unworked {
    /// No thread could be started.
    Thread(io::Error),
    /// It panicked.
    Panic(Box<dyn Any + Send>),
}

/// Does the work on a thread of its own, and waits for it.
pub(super) fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Unworked> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("policy".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(Unworked::Thread)?;
        thread.join().map_err(Unworked::Panic)
    })
}

impl Unworked {
    /// For a person.
    pub(super) fn words(&self) -> String {
        match self {
            Unworked::Thread(error) => format!("no thread could be started for it: {error}"),
            Unworked::Panic(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                format!("its evaluation panicked: {}", text.unwrap_or_default())
            }
        }
    }
}
