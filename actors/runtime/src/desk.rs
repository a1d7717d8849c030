//! Long work, such as reading a manifest, off the actors' threads.

use std::future::pending;
use std::panic::resume_unwind;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Pieces of work at the same time: others wait their turn, and the threads of the actors go on.
const PLACES: usize = 2;

/// Where work is done that only computes, and takes long: what a workflow or an execution asks for is read there. A
/// spec of 256 KiB takes up to a fifth of a second, and on an actor's thread everybody would wait for it.
pub(crate) struct Desk {
    places: Semaphore,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            places: Semaphore::new(PLACES),
        }
    }
}

impl Desk {
    /// Does the work and returns what came of it. A panic in it is one of the caller.
    pub(crate) async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            // A runtime of one thread is a simulation's: there the order of everything follows from its seed.
            return work();
        }
        // It is never closed.
        let _place = self.places.acquire().await;
        match spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is being shut down.
                Err(_) => pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_threads_of_the_actors_go_on_while_work_is_done() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let desk = Arc::new(Desk::default());
        let (go_on, told) = mpsc::channel::<()>();
        runtime.block_on(async {
            let worker = Arc::clone(&desk);
            // It ends when another task of the only thread has said so.
            let work = tokio::spawn(async move {
                worker
                    .work(move || told.recv_timeout(Duration::from_secs(20)).is_ok())
                    .await
            });
            tokio::spawn(async move { go_on.send(()).is_ok() }).await.unwrap();
            assert!(work.await.unwrap());
        });
    }

    #[tokio::test]
    async fn on_one_thread_work_is_done_at_once() {
        let here = std::thread::current().id();
        let there = Desk::default().work(|| std::thread::current().id()).await;
        assert_eq!(here, there);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_panic_in_the_work_is_the_callers() {
        let work = tokio::spawn(async { Desk::default().work(|| panic!("boom")).await });
        let () = work
            .await
            .map_or_else(|error| assert!(error.is_panic()), |()| unreachable!());
    }
}
