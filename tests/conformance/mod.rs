//! Requests to the embedded cluster and to the real API server, and what both must answer.
//!
//! A case is a function of a [`CaseContext`]: a namespace of its own and a client that writes a transcript. It says what it
//! expects, so that it can fail on each of them alone; where there is a real server, both transcripts are compared
//! line by line as well. What may differ stands in [`differences`], each with its reason.

mod answer;
mod backend;
mod bodies;
mod case_context;
mod cases;
mod differences;
mod transcript;
mod watching;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures::{FutureExt as _, StreamExt as _, stream};

pub(crate) use self::backend::{Backend, Memory};
pub(crate) use self::bodies::definition;
use self::case_context::CaseContext;
pub(crate) use self::cases::*;
pub(crate) use self::differences::compare;
pub(crate) use self::transcript::Transcript;

/// One thing that the project relies on.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    run: for<'a> fn(&'a CaseContext) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
}

/// What a case came to.
pub(crate) struct Outcome {
    pub(crate) case: &'static str,
    pub(crate) transcript: Transcript,
    /// What was not as expected.
    pub(crate) failures: Vec<String>,
}

/// Cases that run side by side: each waits most of its time.
const AT_ONCE: usize = 8;

/// Runs the cases, each in a namespace of its own.
pub(crate) async fn run(ground: &Backend, cases: &[Case]) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = stream::iter(cases)
        .map(|case| async move {
            let lab = CaseContext::new(ground.clone(), case.name).await;
            let result = AssertUnwindSafe((case.run)(&lab)).catch_unwind().await;
            let mut failures = lab.failures();
            failures.extend(result.err().map(|panic| words(panic.as_ref())));
            Outcome {
                case: case.name,
                transcript: lab.transcript(),
                failures,
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    outcomes.sort_by_key(|outcome| outcome.case);
    outcomes
}

/// The failed cases, each with its name.
pub(crate) fn failures(ground: &str, outcomes: &[Outcome]) -> Vec<String> {
    let failures_of = |outcome: &Outcome| -> Vec<String> {
        let failures = outcome.failures.iter();
        failures
            .map(|failure| format!("{} ({ground}): {failure}", outcome.case))
            .collect()
    };
    outcomes.iter().flat_map(failures_of).collect()
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
