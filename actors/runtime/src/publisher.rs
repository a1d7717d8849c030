//! Events of Kubernetes, published off everybody's way.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use kubernaut_machines::announcement::EventRecord;
use tokio::sync::mpsc;

use crate::ports::{Clock, HomeApi, Observer, Subject, WriteGate};

/// Events that wait to be published, about 300 bytes each. A burst of a thousand steps has some eight thousand; beyond
/// that a slow API server costs events, not memory.
const QUEUE: usize = 16_384;

/// Events under way at the same time. With one, they fall behind the steps, which have several calls under way; with
/// more than the steps have, they would be in their way.
const CONCURRENCY: usize = 8;

/// Longest time for one event.
const DEADLINE: Duration = Duration::from_secs(10);

/// Publishes events, off everybody's way: nothing waits for one, and nothing depends on one.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Queued>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
}

struct Queued {
    subject: Arc<Subject>,
    event: EventRecord,
    at: Timestamp,
}

impl Publisher {
    /// Starts the task; it ends when the last clone is dropped and the queue is empty. Needs a tokio runtime.
    pub fn start(
        api: Arc<dyn HomeApi>,
        gate: Arc<dyn WriteGate>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let (queue, events) = mpsc::channel::<Queued>(QUEUE);
        let publisher = Self {
            queue,
            clock: Arc::clone(&clock),
            observer: Arc::clone(&observer),
        };
        let events = stream::unfold(events, async |mut events| Some((events.recv().await?, events)));
        tokio::spawn(events.for_each_concurrent(CONCURRENCY, move |queued| {
            let (api, gate) = (Arc::clone(&api), Arc::clone(&gate));
            let (clock, observer) = (Arc::clone(&clock), Arc::clone(&observer));
            async move {
                let published = gate.may_write() && publish(api.as_ref(), clock.as_ref(), &queued).await;
                if !published {
                    observer.event_dropped();
                }
            }
        }));
        publisher
    }

    /// Queues an event, or drops it when the queue is full.
    pub fn publish(&self, subject: &Arc<Subject>, event: EventRecord) {
        let queued = Queued {
            subject: Arc::clone(subject),
            event,
            at: self.clock.now(),
        };
        if self.queue.try_send(queued).is_err() {
            self.observer.event_dropped();
        }
    }
}

/// True when it was published.
async fn publish(api: &dyn HomeApi, clock: &dyn Clock, queued: &Queued) -> bool {
    let Queued { subject, event, at } = queued;
    let span = SignedDuration::try_from(DEADLINE).unwrap_or(SignedDuration::MAX);
    let limit = clock.now().checked_add(span).unwrap_or(Timestamp::MAX);
    let failure = match select(api.publish(subject, event, *at), clock.sleep_until(limit)).await {
        Either::Left((Ok(()), _)) => return true,
        Either::Left((Err(failure), _)) => failure.message,
        Either::Right(_) => format!("no answer within {} s", DEADLINE.as_secs()),
    };
    tracing::debug!(object = %subject.key, reason = event.reason, failure, "an event was not published");
    false
}
