//! Whose turn it is among the calls to the API server, and how many of them go at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_machines::api_command::Lane;
use tokio::sync::oneshot;

/// Running steps may take all places, validation half of them, clean-up a quarter. Of two lanes that want a free place the first
/// one here gets it.
const SHARES: [f64; 3] = [1.0, 2.0, 4.0];

/// So many others get a free place before a lane that wants it, too.
const PATIENCE: usize = 8;

/// An answer is late after this part of its call's deadline: a second, where a healthy API server needs less (its own objective).
const SLOW: u32 = 10;

/// At least this part of the calls allowed goes at once, or as many as [`ENOUGH`], however slow the answers are: what is slow may
/// be a webhook that nothing of ours makes faster.
const LEAST: usize = 8;

/// More calls at once need not go on when answers are slow, however many are allowed.
const ENOUGH: usize = 4;

/// So many go at once before there are answers to go by.
const FIRST: usize = 32;

/// As many calls under way as the API server takes well, with a share for each lane.
///
/// # Guarantees
/// Within a lane the first to ask is the first to go. Validation takes at most half of the places and clean-up a quarter, so
/// that however many of them wait, a running step finds at most as many before it as there are places. Running steps come
/// first, but of nine free places the others get one each that want it, so that none waits for ever.
///
/// How many go at once follows the answers, as TCP follows losses: half as many when one is late or refused for load, one
/// more each time that as many as go at once came in time.
pub(crate) struct Lanes {
    most: usize,
    state: Mutex<State>,
}

struct State {
    /// How many may be under way; a part of one more has been earned.
    window: f64,
    /// When it was made smaller. Answers to what was sent before then say nothing new.
    narrowed: Timestamp,
    /// In the order of [`SHARES`].
    queues: [Queue; 3],
}

#[derive(Default)]
struct Queue {
    under_way: usize,
    /// How often another one got the place that this one could have had.
    passed_over: usize,
    waiters: VecDeque<oneshot::Sender<Turn>>,
}

/// It is a call's turn, until this is dropped.
pub(crate) struct Turn {
    /// `None` when the place went to somebody else.
    lanes: Option<Arc<Lanes>>,
    lane: usize,
}

impl Lanes {
    /// At most `concurrency` calls under way, at least one. A call has one request under way, rarely a few: the reads of one
    /// command go side by side.
    pub(crate) fn new(concurrency: usize) -> Arc<Self> {
        let most = concurrency.clamp(1, usize::from(u16::MAX));
        Arc::new(Self {
            most,
            state: Mutex::new(State {
                window: float(most.min(FIRST)),
                narrowed: Timestamp::MIN,
                queues: Default::default(),
            }),
        })
    }

    /// Waits for its turn.
    pub(crate) async fn turn(self: &Arc<Self>, lane: Lane) -> Turn {
        let lane = index(lane);
        let given = {
            let mut state = self.state();
            let (sender, receiver) = oneshot::channel();
            state.queues[lane].waiters.push_back(sender);
            self.give(&mut state);
            receiver
        };
        match given.await {
            Ok(turn) => turn,
            // The sender is only dropped with these lanes, of which this call keeps one.
            Err(_) => std::future::pending().await,
        }
    }

    /// What was sent at `sent` was answered at `now`, or given up then; `is_refused` where the server has too much to do.
    pub(crate) fn answered(
        self: &Arc<Self>,
        sent: Timestamp,
        now: Timestamp,
        deadline: Duration,
        is_refused: bool,
    ) {
        let took = Duration::try_from(now.duration_since(sent)).unwrap_or_default();
        if is_refused || took > deadline / SLOW {
            self.overloaded(sent, now);
        } else {
            self.in_time();
        }
    }

    /// An answer came in time.
    fn in_time(self: &Arc<Self>) {
        let mut state = self.state();
        state.window = (state.window + 1.0 / state.window).min(float(self.most));
        self.give(&mut state);
    }

    /// At `now` the answer to what was sent at `sent` is late, or says that the server has too much to do.
    fn overloaded(&self, sent: Timestamp, now: Timestamp) {
        let mut state = self.state();
        if sent > state.narrowed {
            state.narrowed = now;
            state.window = (state.window / 2.0).max(float((self.most / LEAST).clamp(1, ENOUGH)));
        }
    }

    /// Gives away what is free.
    fn give(self: &Arc<Self>, state: &mut State) {
        while let Some(lane) = state.next() {
            let Some(waiter) = state.queues[lane].waiters.pop_front() else {
                return;
            };
            let turn = Turn {
                lanes: Some(Arc::clone(self)),
                lane,
            };
            match waiter.send(turn) {
                Ok(()) => state.queues[lane].under_way += 1,
                // Nobody waits there any more.
                Err(mut turn) => turn.lanes = None,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The lane that gets a place, when there is one and somebody who wants it.
    fn next(&mut self) -> Option<usize> {
        let under_way: usize = self.queues.iter().map(|queue| queue.under_way).sum();
        if float(under_way + 1) > self.window {
            return None;
        }
        let window = self.window;
        let mut wanting: Vec<(usize, &mut Queue)> = (self.queues.iter_mut().enumerate())
            .filter(|(lane, queue)| {
                let share = (window / SHARES[*lane]).max(1.0);
                !queue.waiters.is_empty() && float(queue.under_way + 1) <= share
            })
            .collect();
        let patient = wanting
            .iter()
            .position(|(_, queue)| queue.passed_over >= PATIENCE);
        let next = patient.unwrap_or_default();
        for (_, queue) in &mut wanting {
            queue.passed_over += 1;
        }
        let (lane, queue) = wanting.get_mut(next)?;
        queue.passed_over = 0;
        Some(*lane)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(lanes) = self.lanes.take() {
            let mut state = lanes.state();
            state.queues[self.lane].under_way -= 1;
            lanes.give(&mut state);
        }
    }
}

fn index(lane: Lane) -> usize {
    match lane {
        Lane::Running => 0,
        Lane::Validation => 1,
        Lane::CleanUp => 2,
    }
}

/// A number of calls; there are never more than fit.
fn float(calls: usize) -> f64 {
    f64::from(u16::try_from(calls).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::FutureExt;
    use jiff::SignedDuration;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// An API server that thrashes: each call under way makes all slower, and beyond some twenty far more so.
    #[derive(Default)]
    struct Thrashing {
        under_way: AtomicU32,
        answered: AtomicU32,
    }

    impl Thrashing {
        async fn ask(&self) {
            let others = f64::from(self.under_way.fetch_add(1, Ordering::Relaxed));
            sleep(Duration::from_secs_f64(
                0.02 * (1.0 + others + (others / 24.0).powi(3)),
            ))
            .await;
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers a second, when so many ask again and again and at most `concurrency` calls may be under way.
    fn throughput(callers: usize, concurrency: usize) -> f64 {
        const SECONDS: u32 = 300;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (lanes, server) = (Lanes::new(concurrency), Arc::new(Thrashing::default()));
            let begun = Instant::now();
            let now = move || at(0) + SignedDuration::try_from(begun.elapsed()).expect("a duration");
            for _ in 0..callers {
                let (lanes, server) = (Arc::clone(&lanes), Arc::clone(&server));
                tokio::spawn(async move {
                    loop {
                        let _turn = lanes.turn(Lane::Running).await;
                        let sent = now();
                        server.ask().await;
                        lanes.answered(sent, now(), Duration::from_secs(10), false);
                    }
                });
            }
            sleep(Duration::from_secs(SECONDS.into())).await;
            f64::from(server.answered.load(Ordering::Relaxed)) / f64::from(SECONDS)
        })
    }

    #[test]
    fn more_that_ask_get_no_less_from_an_api_server_that_slows_down_under_load() {
        for concurrency in [32, 128, 512] {
            let rates = [16, 64, 256, 1024].map(|callers| throughput(callers, concurrency));
            let mut best = 0_f64;
            for rate in rates {
                assert!(rate > 0.9 * best, "{concurrency} at once: {rates:?}");
                best = best.max(rate);
            }
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn fill(lanes: &Arc<Lanes>, lane: Lane) -> Vec<Turn> {
        std::iter::from_fn(|| lanes.turn(lane).now_or_never()).collect()
    }

    #[test]
    fn a_flood_of_checks_and_of_cleaning_leaves_a_place_for_what_runs() {
        let lanes = Lanes::new(8);
        let mut under_way = fill(&lanes, Lane::Validation);
        under_way.extend(fill(&lanes, Lane::CleanUp));
        assert_eq!(under_way.len(), 4 + 2);
        let running = fill(&lanes, Lane::Running);
        assert_eq!(running.len(), 2);
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

    #[test]
    fn what_runs_comes_first_and_nobody_waits_for_ever() {
        let lanes = Lanes::new(1);
        let mut turn = lanes.turn(Lane::Running).now_or_never();
        let mut cleans = Box::pin(lanes.turn(Lane::CleanUp));
        assert!(cleans.as_mut().now_or_never().is_none());
        for _ in 0..PATIENCE {
            let mut runs = Box::pin(lanes.turn(Lane::Running));
            assert!(runs.as_mut().now_or_never().is_none());
            drop(turn.take());
            turn = Some(runs.now_or_never().expect("what runs comes first"));
        }
        let mut runs = Box::pin(lanes.turn(Lane::Running));
        assert!(runs.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(runs.as_mut().now_or_never().is_none());
        drop(cleans.now_or_never().expect("its turn has come"));
        assert!(runs.now_or_never().is_some());
    }

    #[test]
    fn a_place_that_nobody_waits_for_any_more_goes_to_the_next() {
        let lanes = Lanes::new(1);
        let first = lanes.turn(Lane::Running).now_or_never();
        let mut before = Box::pin(lanes.turn(Lane::Running));
        let mut after = Box::pin(lanes.turn(Lane::Running));
        assert!(before.as_mut().now_or_never().is_none());
        assert!(after.as_mut().now_or_never().is_none());
        drop(before);
        drop(first);
        // It was given the place, and does not look any more.
        drop(after);
        assert_eq!(fill(&lanes, Lane::Running).len(), 1);
    }

    #[test]
    fn late_answers_halve_what_goes_at_once_and_answers_in_time_give_it_back() {
        let lanes = Lanes::new(32);
        let at_once = || fill(&lanes, Lane::Running).len();
        for (sent, now, left) in [
            (1, 11, 16),
            (1, 11, 16),
            (11, 21, 16),
            (12, 22, 8),
            (23, 33, 4),
            (34, 44, 4),
        ] {
            lanes.overloaded(at(sent), at(now));
            assert_eq!(at_once(), left, "sent at {sent}");
        }
        for _ in 0..5 {
            lanes.in_time();
        }
        assert_eq!(at_once(), 5);
        for _ in 0..2000 {
            lanes.in_time();
        }
        assert_eq!(at_once(), 32);
    }

    #[test]
    fn who_waits_goes_when_answers_come_in_time_again() {
        let lanes = Lanes::new(2);
        lanes.overloaded(at(1), at(2));
        let _turn = lanes.turn(Lane::Running).now_or_never().expect("one");
        let mut waits = Box::pin(lanes.turn(Lane::Running));
        assert!(waits.as_mut().now_or_never().is_none());
        lanes.in_time();
        assert!(waits.now_or_never().is_some());
    }
}
