//! When a machine wants to be woken.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::task::AbortHandle;

use crate::ports::Clock;

/// How soon a machine that wants to be woken in the past is woken again right after a tick: it must not be able to
/// spin.
const PAUSE_AFTER_TICK: SignedDuration = SignedDuration::from_secs(1);

/// The one timer of an actor. Each arming has a key; a tick with another key is stale.
pub(crate) struct Timer {
    clock: Arc<dyn Clock>,
    key: u64,
    armed: Option<(Timestamp, AbortHandle)>,
}

impl Timer {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            key: 0,
            armed: None,
        }
    }

    /// Arms for `deadline`, or disarms. `tick` sends the key to the actor.
    pub(crate) fn arm(
        &mut self,
        deadline: Option<Timestamp>,
        ticked: bool,
        tick: impl FnOnce(u64) + Send + 'static,
    ) {
        let Some(mut at) = deadline else {
            self.disarm();
            return;
        };
        if ticked {
            let now = self.clock.now();
            if at <= now {
                at = now.checked_add(PAUSE_AFTER_TICK).unwrap_or(Timestamp::MAX);
            }
        }
        if self.armed.as_ref().is_some_and(|(armed, _)| *armed == at) {
            return;
        }
        self.disarm();
        self.key += 1;
        let key = self.key;
        let sleep = self.clock.sleep_until(at);
        let task = tokio::spawn(async move {
            sleep.await;
            tick(key);
        });
        self.armed = Some((at, task.abort_handle()));
    }

    /// True when this tick is of the current arming, which it ends.
    pub(crate) fn is_due(&mut self, key: u64) -> bool {
        let due = key == self.key && self.armed.is_some();
        if due {
            self.armed = None;
        }
        due
    }

    fn disarm(&mut self) {
        if let Some((_, task)) = self.armed.take() {
            task.abort();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
    }
}
