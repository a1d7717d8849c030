use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use jiff::{SignedDuration, Timestamp};
use kubernaut_machines::outcome::EventRecord;
use tokio::sync::mpsc;

use crate::ports::{Clock, ClusterApi, Observer, Subject, WriteGate};

/// Events that wait to be published. Nothing depends on an event, so a slow API server costs events, not memory.
const QUEUE: usize = 1024;

/// Longest time for one event.
const DEADLINE: Duration = Duration::from_secs(10);

/// Publishes events one after the other, off everybody's way.
pub(crate) struct Publisher {
    queue: mpsc::Sender<(Subject, EventRecord)>,
    observer: Arc<dyn Observer>,
}

impl Publisher {
    /// Starts the task; it ends when the publisher is dropped. Needs a tokio runtime.
    pub(crate) fn start(
        api: Arc<dyn ClusterApi>,
        gate: Arc<dyn WriteGate>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let (queue, mut events) = mpsc::channel::<(Subject, EventRecord)>(QUEUE);
        tokio::spawn(async move {
            while let Some((subject, event)) = events.recv().await {
                if !gate.may_write() {
                    continue;
                }
                let span = SignedDuration::try_from(DEADLINE).unwrap_or(SignedDuration::MAX);
                let limit = clock.now().checked_add(span).unwrap_or(Timestamp::MAX);
                match select(api.publish(&subject, &event), clock.sleep_until(limit)).await {
                    Either::Left((Ok(()), _)) => {}
                    Either::Left((Err(failure), _)) => {
                        tracing::debug!(object = %subject.key, reason = event.reason, failure = failure.message, "an event was not published");
                    }
                    Either::Right(_) => {
                        tracing::debug!(object = %subject.key, reason = event.reason, "an event was not published in time");
                    }
                }
            }
        });
        Self { queue, observer }
    }

    /// Queues an event, or drops it when the queue is full.
    pub(crate) fn publish(&self, subject: &Subject, event: EventRecord) {
        if self.queue.try_send((subject.clone(), event)).is_err() {
            self.observer.event_dropped();
        }
    }
}
