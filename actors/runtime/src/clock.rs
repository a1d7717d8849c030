use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::ports::Clock;

/// Longest sleep before the wall clock is looked at again: a jump of the clock is noticed after that.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Sleeps by tokio's timer.
///
/// [`TokioClock::system`] tells the wall clock's time, for clusters that others read, too. With
/// [`TokioClock::starting_at`] time is a start plus what tokio's clock says, so that a paused runtime pauses it and a
/// test's time is all its own.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    virtual_start: Option<Timestamp>,
    made: Instant,
}

impl TokioClock {
    /// The wall clock.
    pub fn system() -> Self {
        Self {
            virtual_start: None,
            made: Instant::now(),
        }
    }

    /// Time that begins with `start` and goes as tokio's clock goes. Needs a tokio runtime.
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            virtual_start: Some(start),
            made: Instant::now(),
        }
    }

    fn time(self) -> Timestamp {
        match self.virtual_start {
            None => Timestamp::now(),
            Some(start) => {
                let passed = SignedDuration::try_from(self.made.elapsed()).unwrap_or(SignedDuration::MAX);
                start.checked_add(passed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.time()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let clock = *self;
        async move {
            loop {
                let left = at.duration_since(clock.time());
                if left <= SignedDuration::ZERO {
                    return;
                }
                let left = left.unsigned_abs();
                // tokio rounds up to its next millisecond by itself.
                let wait = if clock.virtual_start.is_some() {
                    left
                } else {
                    left.min(LOOK_AGAIN)
                };
                tokio::time::sleep(wait).await;
            }
        }
        .boxed()
    }

    fn monotonic(&self) -> Duration {
        self.made.elapsed()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(span).boxed()
    }
}
