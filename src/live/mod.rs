//! The verbs for workflows in a cluster: what is going on, and what a person wants of it.

mod approve;
mod connection;
mod control;
mod get;
mod list;
mod output;
mod result;
mod tree;
mod version;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;

/// The workflow did not succeed, or what was asked could not be done.
const FAILED: u8 = 1;
/// What was asked for can't be read, or there is no such thing.
const BAD_INPUT: u8 = 2;
/// It took longer than was said.
const LATE: u8 = 4;

/// What a command did, or why not.
pub(crate) enum Trouble {
    /// Nothing was done: what was asked for makes no sense.
    Input(String),
    /// It was tried, and did not succeed.
    Here(String),
    /// The time was over first.
    Late(String),
}

type Done = Result<ExitCode, Trouble>;

#[derive(Subcommand, Debug)]
pub(crate) enum LiveCommand {
    List(list::ListOptions),
    Get(get::GetOptions),
    Watch(wait::WatchOptions),
    Wait(wait::WaitOptions),
    Approve(approve::ApproveOptions),
    Reject(approve::RejectOptions),
    Suspend(control::SuspendOptions),
    Resume(control::ResumeOptions),
    Cancel(control::CancelOptions),
    Rollback(control::RollbackOptions),
    Delete(control::DeleteOptions),
    Version(version::VersionOptions),
}

/// Runs the command; the exit code is its answer.
pub(crate) fn execute(command: &LiveCommand) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                done = run(command) => done,
                _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
            }
        }),
        Err(error) => Err(Trouble::Here(format!("the runtime does not start: {error}"))),
    };
    let (words, code) = match done {
        Ok(code) => return code,
        Err(Trouble::Input(words)) => (words, BAD_INPUT),
        Err(Trouble::Here(words)) => (words, FAILED),
        Err(Trouble::Late(words)) => (words, LATE),
    };
    output::complain(&format!("error: {words}"));
    ExitCode::from(code)
}

async fn run(command: &LiveCommand) -> Done {
    match command {
        LiveCommand::List(options) => list::list(options).await,
        LiveCommand::Get(options) => get::get(options).await,
        LiveCommand::Watch(options) => wait::watch(options).await,
        LiveCommand::Wait(options) => wait::wait(options).await,
        LiveCommand::Approve(options) => approve::approve(options).await,
        LiveCommand::Reject(options) => approve::reject(options).await,
        LiveCommand::Suspend(options) => control::suspend(options).await,
        LiveCommand::Resume(options) => control::resume(options).await,
        LiveCommand::Cancel(options) => control::cancel(options).await,
        LiveCommand::Rollback(options) => control::rollback(options).await,
        LiveCommand::Delete(options) => control::delete(options).await,
        LiveCommand::Version(options) => version::version(options).await,
    }
}
