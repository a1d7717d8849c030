//! Time that goes on evenly, whatever becomes of the machine's clock.

use std::sync::{LazyLock, Mutex, PoisonError};
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
    /// The wall clock. After it was set back this one goes on from where it was, at half its pace, until the wall clock has
    /// caught up.
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

/// Time that is the wall clock's, and never runs back: what was told last, and when by the monotonic clock.
#[derive(Default)]
struct Onward(Mutex<Option<(Duration, Timestamp)>>);

impl Onward {
    /// `wall`, unless that was set back: then time goes on at half its pace until the wall clock has caught up. Pauses and
    /// deadlines last twice as long meanwhile, and what objects of the cluster say of time is right again as soon as may be.
    fn time(&self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, told) = last.unwrap_or((monotonic, wall));
        let passed = SignedDuration::try_from(monotonic.saturating_sub(then)).unwrap_or(SignedDuration::MAX);
        let slowly = told.checked_add(passed / 2).unwrap_or(Timestamp::MAX);
        let time = wall.max(slowly);
        *last = Some((monotonic.max(then), time));
        time
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
        // A little behind is no jump.
        assert_eq!(onward.time(at(20), passed(21)), at(20));
        assert_eq!(onward.time(at(5), passed(21)), at(20));
    }

    #[test]
    fn after_a_jump_that_was_corrected_time_goes_at_half_its_pace_until_it_is_right_again() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let passed = Duration::from_secs;
        let onward = Onward::default();
        assert_eq!(onward.time(at(0), passed(0)), at(0));
        assert_eq!(onward.time(at(3600), passed(1)), at(3600));
        assert_eq!(onward.time(at(11), passed(11)), at(3605));
        assert_eq!(onward.time(at(3601), passed(3601)), at(5400));
        assert_eq!(onward.time(at(7199), passed(7199)), at(7199));
        assert_eq!(onward.time(at(7200), passed(7200)), at(7200));
    }
}
