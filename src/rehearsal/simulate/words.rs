//! What did go wrong, in words that name steps.

use std::time::Duration;

use super::draw::{Drawn, Trouble};
use super::verdict::text;
use crate::rehearsal::simulation::{Cause, Happened, Met, PlannedFault, Step};
use embedded_cluster::RequestInfo;

/// What happened, with the kind of it.
pub(super) fn happened(drawn: &Drawn, happened: &Happened, steps: &[Step]) -> (Trouble, String) {
    let at = seconds(happened.at);
    match happened.cause {
        Cause::Step(index) => {
            let (kind, fault) = &drawn.steps[index];
            (*kind, format!("after {at}: {fault}"))
        }
        Cause::PlannedFault(index) => {
            let (kind, planned) = &drawn.planned[index];
            let met = met(&happened.met, steps);
            let words = match planned {
                PlannedFault::Call { number, fault } => {
                    format!("after {at}: API call no. {} ({met}) is {fault}", number + 1)
                }
                PlannedFault::Crash {
                    crash_point, down, ..
                } => format!(
                    "after {at}: the controller dies {} a write ({met}); the next one starts {} later",
                    crash_point.words(),
                    seconds(*down)
                ),
                PlannedFault::LaggingWatch { lag, .. } => {
                    format!("the watch of {met} tells each change {} late", seconds(*lag))
                }
                PlannedFault::Stranger { disturbance, .. } => {
                    format!("after {at}: somebody {disturbance}: {met}")
                }
                PlannedFault::Outage { .. }
                | PlannedFault::Slowness { .. }
                | PlannedFault::LateCalls { .. }
                | PlannedFault::Upgrade
                | PlannedFault::Pod { .. }
                | PlannedFault::CutWatches { .. }
                | PlannedFault::Quota { .. }
                | PlannedFault::ClockJump { .. }
                | PlannedFault::Partition { .. } => planned.to_string(),
            };
            (*kind, words)
        }
    }
}

fn met(met: &Met, steps: &[Step]) -> String {
    match met {
        Met::Call(request) => call(request, steps),
        Met::Object {
            kind,
            namespace,
            name,
        } => {
            let what = if namespace.is_empty() {
                format!("{kind} {name}")
            } else {
                format!("{kind} {namespace}/{name}")
            };
            match of_step(namespace, name, steps) {
                Some(step) => format!("{what} of {step}"),
                None => what,
            }
        }
        Met::Everything => String::new(),
    }
}

fn call(request: &RequestInfo, steps: &[Step]) -> String {
    let resource = if request.subresource.is_empty() {
        request.resource.clone()
    } else {
        format!("{}/{}", request.resource, request.subresource)
    };
    let verb = &request.verb;
    match of_step(&request.namespace, &request.name, steps) {
        Some(step) if request.subresource == "status" => format!("{verb} status of {step}"),
        Some(step) => format!("{verb} {resource} of {step}"),
        None if request.name.is_empty() => format!("{verb} {resource}"),
        None => format!("{verb} {resource} {}", request.name),
    }
}

/// Executions have the names of steps, and Jobs, pods and payloads begin with them.
fn of_step(namespace: &str, name: &str, steps: &[Step]) -> Option<String> {
    let exactly = steps
        .iter()
        .find(|step| step.execution == name && step.namespace == namespace);
    let begins = || {
        steps.iter().find(|step| {
            name.strip_prefix(step.execution.as_str())
                .is_some_and(|rest| rest.starts_with('-'))
        })
    };
    exactly.or_else(begins).map(Step::words)
}

/// So that a person reads it at a glance.
pub(super) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        let seconds = duration.as_secs();
        match (seconds / 60, seconds % 60) {
            (minutes, 0) => format!("{minutes} min"),
            (minutes, seconds) => format!("{minutes} min {seconds} s"),
        }
    }
}

/// `step 2 (drain) or step 3 (new-driver)`.
pub(super) fn any_of(words: &[String]) -> String {
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
        None => String::new(),
    }
}

/// The first line of a text, and not too much of it.
pub(super) fn shortened(message: &serde_json::Value) -> String {
    const MOST: usize = 200;
    let line = text(message).lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}
