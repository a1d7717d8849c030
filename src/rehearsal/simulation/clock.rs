//! The clock of a controller's machine, which somebody sets.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kubernaut_actors::TokioClock;
use kubernaut_actors::ports::Clock;

use super::PlannedFault;

/// Longest sleep before the wall clock is looked at again, as that of the real clock.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// The cluster's time, and by how much this machine's clock differs. As the real one, it does not run back as long as the
/// process lives.
#[derive(Clone)]
pub(super) struct MachineClock {
    right: TokioClock,
    jumps: Arc<[(Duration, SignedDuration)]>,
    /// On the right clock's monotonic time.
    born: Duration,
}

impl MachineClock {
    pub(super) fn new(right: TokioClock, plan: &[PlannedFault]) -> Self {
        let mut jumps: Vec<(Duration, SignedDuration)> = plan
            .iter()
            .filter_map(|planned| match planned {
                PlannedFault::ClockJump { at, by } => Some((*at, SignedDuration::from_secs(*by))),
                _ => None,
            })
            .collect();
        jumps.sort_unstable();
        Self {
            born: right.monotonic(),
            right,
            jumps: jumps.into(),
        }
    }

    /// By how much it is ahead.
    fn ahead(&self) -> SignedDuration {
        let now = self.right.monotonic();
        let mut ahead = SignedDuration::ZERO;
        let mut most = SignedDuration::MIN;
        for (at, by) in self.jumps.iter().take_while(|(at, _)| *at <= now) {
            if *at > self.born {
                most = most.max(ahead);
            }
            ahead = ahead.saturating_add(*by);
        }
        ahead.max(most)
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        let right = self.right.now();
        right.saturating_add(self.ahead()).unwrap_or(right)
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        if self.jumps.is_empty() {
            return self.right.sleep_until(at);
        }
        let clock = self.clone();
        async move {
            loop {
                let left = at.duration_since(clock.now());
                if left <= SignedDuration::ZERO {
                    return;
                }
                tokio::time::sleep(left.unsigned_abs().min(LOOK_AGAIN)).await;
            }
        }
        .boxed()
    }

    fn monotonic(&self) -> Duration {
        self.right.monotonic()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.right.sleep(span)
    }
}
