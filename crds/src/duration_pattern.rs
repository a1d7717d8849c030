//! The pattern of a duration.

/// What a Go duration string looks like, as the API server checks it: one or more of number and unit, no sign.
/// Seven digits before the point keep every sum of a string of [`DURATION_MAX_LENGTH`] far below an overflow.
pub const DURATION_PATTERN: &str = r"^([0-9]{1,7}(\.[0-9]{1,9})?(ms|s|m|h))+$";

/// The longest duration string, in characters.
pub const DURATION_MAX_LENGTH: usize = 32;
