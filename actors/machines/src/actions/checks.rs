//! What parameters are checked for: names, keys, seconds.

use std::time::Duration;

use crate::problem::Problem;

/// Longest name of a namespace.
const NAMESPACE_MAX: usize = 63;
/// Longest name of anything else.
const NAME_MAX: usize = 253;
/// Shortest timeout of a step that has nothing to wait for.
pub(crate) const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// DNS-1123: no name can begin with `-` and be taken for an option.
fn bad(text: &str, max: usize) -> Option<String> {
    let inner = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (c == '.' && max > NAMESPACE_MAX)
    };
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let good =
        text.len() <= max && text.chars().all(inner) && end(text.chars().next()) && end(text.chars().last());
    (!good).then(|| format!("{text:?} is not a name: lower case letters, digits and -, at most {max}, beginning and ending with a letter or digit"))
}

/// Why a text is not the name of an object.
pub(super) fn bad_name(field: &str, text: &str) -> Option<Problem> {
    bad(text, NAME_MAX).map(|problem| Problem::new(field, problem))
}

/// Why a text is not the name of a namespace.
pub(super) fn bad_namespace(field: &str, text: &str) -> Option<Problem> {
    bad(text, NAMESPACE_MAX).map(|problem| Problem::new(field, problem))
}

/// Why a number is not within a range, both ends of which are in it.
pub(crate) fn bad_number(field: &str, number: i64, least: i64, most: i64) -> Option<Problem> {
    let good = (least..=most).contains(&number);
    (!good).then(|| Problem::new(field, format!("{number} is not within {least} to {most}")))
}

pub(super) fn bad_grace(seconds: i64) -> Option<Problem> {
    bad_number("gracePeriodSeconds", seconds, 0, 3600)
}

pub(super) fn bad_keys<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<Problem> {
    let mut keys = keys.peekable();
    if keys.peek().is_none() {
        return vec![Problem::new("data", "no key is set")];
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    keys.filter(|key| key.is_empty() || key.len() > NAME_MAX || !key.chars().all(good))
        .map(|key| {
            Problem::new(
                "data",
                format!("{key:?} is not a key: letters, digits, -, _ and ."),
            )
        })
        .collect()
}
