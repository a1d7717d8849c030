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
mod version;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;

use crate::terminal::{self, Done};

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
        LiveCommand::Retry(options) => retry::retry(options).await,
        LiveCommand::History(options) => history::history(options).await,
        LiveCommand::Delete(options) => control::delete(options).await,
        LiveCommand::Version(options) => version::version(options).await,
    }
}
