//! Ranges of numbers within bounds, in place of the engine's own.
//!
//! Of the engine's functions these alone make much of two small numbers, in one call that no clock interrupts: a slip of the
//! finger in a policy would take the memory of the node.

use std::io;

use regorus::{Engine, Value};

/// Numbers of a range.
const MOST: u64 = 100_000;

type Answer = Result<Value, Box<dyn std::error::Error + Send + Sync>>;

/// Puts them in place.
pub(super) fn bound(engine: &mut Engine) -> Result<(), String> {
    let numbers_range = |arguments: Vec<Value>| match arguments.as_slice() {
        [from, to] => Ok(range(from, to, 1).map_err(io::Error::other)?),
        _ => Ok(Value::Undefined),
    };
    let numbers_range_step = |arguments: Vec<Value>| match arguments.as_slice() {
        [from, to, step] => {
            let step = whole(step)
                .and_then(|step| u64::try_from(step).ok())
                .filter(|step| *step > 0);
            let step =
                step.ok_or_else(|| io::Error::other("the step of a range must be a whole number above 0"))?;
            Ok(range(from, to, step).map_err(io::Error::other)?)
        }
        _ => Ok(Value::Undefined),
    };
    let added = engine
        .add_extension("numbers.range".to_owned(), 2, Box::new(numbers_range))
        .and_then(|()| {
            engine.add_extension("numbers.range_step".to_owned(), 3, Box::new(numbers_range_step))
        });
    added.map_err(|error| format!("{error:#}"))
}

fn range(from: &Value, to: &Value, step: u64) -> Answer {
    let (Some(from), Some(to)) = (whole(from), whole(to)) else {
        return Err("a range goes from one whole number to another".into());
    };
    let count = from.abs_diff(to) / step;
    if count >= MOST {
        return Err(format!("a range has at most {MOST} numbers").into());
    }
    let signed = i64::try_from(step).unwrap_or(i64::MAX);
    let signed = if from <= to { signed } else { -signed };
    let mut numbers = Vec::new();
    let mut number = from;
    for _ in 0..=count {
        numbers.push(Value::from(number));
        number = number.saturating_add(signed);
    }
    Ok(Value::from(numbers))
}

fn whole(value: &Value) -> Option<i64> {
    value.as_i64().ok()
}
