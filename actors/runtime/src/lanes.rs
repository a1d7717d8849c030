//! Whose turn it is among the calls to the API server.

use kubernaut_machines::api_command::Lane;
use tokio::sync::{Semaphore, SemaphorePermit};

/// As many calls under way as the API server takes well, with a share for each lane.
///
/// # Guarantees
/// Within a lane the first to ask is the first to go. Validation takes at most half of the places and clean-up a quarter, so
/// that however many of them wait, a running step finds at most as many before it as there are places.
pub(crate) struct Lanes {
    all: Semaphore,
    validation: Semaphore,
    clean_up: Semaphore,
}

/// It is a call's turn, until this is dropped.
pub(crate) struct Turn<'a> {
    _lane: Option<SemaphorePermit<'a>>,
    _place: SemaphorePermit<'a>,
}

impl Lanes {
    /// `concurrency` calls under way, at least one. A call has one request under way, rarely a few: the reads of one command
    /// go side by side.
    pub(crate) fn new(concurrency: usize) -> Self {
        Self {
            all: Semaphore::new(concurrency.max(1)),
            validation: Semaphore::new((concurrency / 2).max(1)),
            clean_up: Semaphore::new((concurrency / 4).max(1)),
        }
    }

    /// Waits for its turn; `None` when no more turns are given.
    pub(crate) async fn turn(&self, lane: Lane) -> Option<Turn<'_>> {
        let lane = match lane {
            Lane::Running => None,
            Lane::Validation => Some(self.validation.acquire().await.ok()?),
            Lane::CleanUp => Some(self.clean_up.acquire().await.ok()?),
        };
        Some(Turn {
            _lane: lane,
            _place: self.all.acquire().await.ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_flood_of_checks_and_of_cleaning_leaves_a_place_for_what_runs() {
        let lanes = Lanes::new(8);
        let mut under_way = Vec::new();
        for lane in [Lane::Validation, Lane::CleanUp] {
            while let Some(turn) = lanes.turn(lane).now_or_never() {
                under_way.push(turn.expect("open"));
            }
        }
        assert_eq!(under_way.len(), 4 + 2);
        for _ in 0..2 {
            under_way.push(
                lanes
                    .turn(Lane::Running)
                    .now_or_never()
                    .expect("a place")
                    .expect("open"),
            );
        }
        let mut waits = Box::pin(lanes.turn(Lane::Running));
        assert!(waits.as_mut().now_or_never().is_none());
        under_way.clear();
        assert!(waits.now_or_never().is_some());
    }

    #[test]
    fn one_place_serves_all_lanes() {
        let lanes = Lanes::new(1);
        for lane in [Lane::Validation, Lane::CleanUp, Lane::Running] {
            assert!(lanes.turn(lane).now_or_never().is_some());
        }
    }
}
