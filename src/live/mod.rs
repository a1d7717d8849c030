//! The verbs for workflows in a cluster: what is going on, and what a person wants of it.

mod approve;
mod complete;
mod connection;
mod control;
mod explain;
mod get;
mod graph;
mod history;
mod list;
mod logs;
mod plan;
mod result;
mod retry;
mod start;
mod states;
mod tree;
mod undone;
mod version;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;

use crate::terminal::{self, Done};

/// The beginning of a name that another one is made from: at most so many bytes, and nothing that a name may not have there.
fn stem(name: &str, max: usize) -> &str {
    let end = name.floor_char_boundary(max);
    name.get(..end).unwrap_or_default().trim_end_matches(['-', '.'])
}

#[derive(Subcommand, Debug)]
pub(crate) enum LiveCommand {
    Plan(Box<plan::PlanOptions>),
    Start(start::StartOptions),
    List(list::ListOptions),
    Get(get::GetOptions),
    Explain(explain::ExplainOptions),
    Logs(logs::LogsOptions),
    Graph(graph::GraphOptions),
    Watch(wait::WatchOptions),
    Wait(wait::WaitOptions),
    Approve(approve::ApproveOptions),
    Reject(approve::RejectOptions),
    Suspend(control::SuspendOptions),
    Resume(control::ResumeOptions),
    Cancel(control::CancelOptions),
    Rollback(control::RollbackOptions),
    Retry(retry::RetryOptions),
    Delete(control::DeleteOptions),
    History(history::HistoryOptions),
    Version(version::VersionOptions),
}

/// Runs the command; the exit code is its answer.
pub(crate) fn execute(command: &LiveCommand) -> ExitCode {
    terminal::run(run(command))
}

async fn run(command: &LiveCommand) -> Done {
    match command {
        LiveCommand::Plan(options) => plan::plan(options).await,
        LiveCommand::Start(options) => start::start(options).await,
        LiveCommand::List(options) => list::list(options).await,
        LiveCommand::Get(options) => get::get(options).await,
        LiveCommand::Explain(options) => explain::explain(options).await,
        LiveCommand::Logs(options) => logs::logs(options).await,
        LiveCommand::Graph(options) => graph::graph(options).await,
        LiveCommand::Watch(options) => wait::watch(options).await,
        LiveCommand::Wait(options) => wait::wait(options).await,
        LiveCommand::Approve(options) => approve::approve(options).await,
        LiveCommand::Reject(options) => approve::reject(options).await,
        LiveCommand::Suspend(options) => control::suspend(options).await,
        LiveCommand::Resume(options) => control::resume(options).await,
        LiveCommand::Cancel(options) => control::cancel(options).await,
        LiveCommand::Rollback(options) => control::rollback(options).await,
        LiveCommand::Retry(options) => Box::pin(retry::retry(options)).await,
        LiveCommand::History(options) => history::history(options).await,
        LiveCommand::Delete(options) => control::delete(options).await,
        LiveCommand::Version(options) => version::version(options).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_name_that_is_too_long_its_beginning_is_a_name() {
        assert_eq!(stem("checkout-slow", 40), "checkout-slow");
        let long = "checkout-slow-again-x7k2p-again-q9z4w-again-m3n5b";
        assert_eq!(stem(long, 40), "checkout-slow-again-x7k2p-again-q9z4w-ag");
        assert_eq!(stem("a-b.c", 4), "a-b");
    }
}
