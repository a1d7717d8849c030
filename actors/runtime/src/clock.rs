use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::ports::Clock;

/// Longest sleep before the wall clock is looked at again: a jump of the clock is noticed after that.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// The wall clock of this process.
static WALL: LazyLock<(std::time::Instant, Onward)> =
    LazyLock::new(|| (std::time::Instant::now(), Onward::default()));

/// Sleeps by tokio's timer.
///
/// [`TokioClock::system`] tells the wall clock's time, for clusters that others read, too, but never runs back: pauses
/// and deadlines are told by the time at which they end, and would last as long as the wall clock was set back. With
/// [`TokioClock::starting_at`] time is a start plus what tokio's clock says, so that a paused runtime pauses it and a
/// test's time is all its own.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    virtual_start: Option<Timestamp>,
    made: Instant,
}

impl TokioClock {
    /// The wall clock. After it was set back this one goes on from where it was, and stays ahead of it until the wall clock has
    /// caught up or the process ends.
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
            None => {
                let (start, onward) = &*WALL;
                onward.time(Timestamp::now(), start.elapsed())
            }
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

/// The most that the wall clock has been ahead of the monotonic one, in microseconds.
struct Onward(AtomicI64);

impl Default for Onward {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Onward {
    /// `wall` unless it was set back; then the time goes on as `monotonic` does.
    fn time(&self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        let monotonic = i64::try_from(monotonic.as_micros()).unwrap_or(i64::MAX);
        let ahead = wall.as_microsecond().saturating_sub(monotonic);
        let ahead = self.0.fetch_max(ahead, Ordering::Relaxed).max(ahead);
        Timestamp::from_microsecond(monotonic.saturating_add(ahead)).unwrap_or(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_follows_the_wall_clock_forward_and_never_back() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let passed = Duration::from_secs;
        let onward = Onward::default();
        assert_eq!(onward.time(at(0), passed(0)), at(0));
        assert_eq!(onward.time(at(10), passed(10)), at(10));
        // Set back by an hour: seconds stay seconds.
        assert_eq!(onward.time(at(11 - 3600), passed(11)), at(11));
        assert_eq!(onward.time(at(20 - 3600), passed(20)), at(20));
        // Set right again, and an hour ahead.
        assert_eq!(onward.time(at(21), passed(21)), at(21));
        assert_eq!(onward.time(at(22 + 3600), passed(22)), at(22 + 3600));
        assert_eq!(onward.time(at(23), passed(23)), at(23 + 3600));
    }
}
