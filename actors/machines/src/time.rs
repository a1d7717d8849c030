//! Times that are compared, and how long it is until something is tried again.

use std::time::Duration;

use jiff::Timestamp;

/// A create may take effect this long after it was sent: the API server gives a request up after 60 s by itself. For as
/// long after its attempt was recorded a Job is made.
pub const CREATE_WINDOW: Duration = Duration::from_secs(60);

/// A dry run must have ended this long after it was recorded.
pub const DRY_RUN_TIME: Duration = Duration::from_secs(30);

/// `time + duration`, at most the end of time. In whole microseconds, rounded up: now has no more, and would never quite
/// reach what has.
pub fn later(time: Timestamp, duration: Duration) -> Timestamp {
    i64::try_from(duration.as_nanos().div_ceil(1000))
        .ok()
        .and_then(|micros| time.checked_add(jiff::SignedDuration::from_micros(micros)).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Status times have microseconds; everything that is compared with them must have no more.
pub(crate) fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// Seconds from one time to a later one; 0 when they stand the other way round.
pub(crate) fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// Between calls to the API that failed and may succeed later: 0.2 s, doubled up to 10 s.
pub(crate) fn call_backoff(failures: u32) -> Duration {
    Duration::from_millis(200)
        .saturating_mul(1 << failures.saturating_sub(1).min(6))
        .min(Duration::from_secs(10))
}

/// Before the next attempt of a step: 1, 2, 4 ... 30 s after the first, second, third ... failure.
pub fn attempt_backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::attempt_backoff;

    #[test]
    fn attempts_wait_longer_and_longer_up_to_half_a_minute() {
        let waits: Vec<u64> = (1..=7).map(|n| attempt_backoff(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }
}
