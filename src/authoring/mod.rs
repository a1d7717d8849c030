//! The commands for who writes workflows: nothing of a cluster is asked, and nothing is run.

mod lint;
mod rights;

use std::process::ExitCode;

use clap::Subcommand;

use crate::terminal;

#[derive(Subcommand, Debug)]
pub(crate) enum AuthoringCommand {
    Lint(Box<lint::LintOptions>),
    Rights(Box<rights::RightsOptions>),
}

/// Runs the command; the exit code is its answer.
pub(crate) fn execute(command: &AuthoringCommand) -> ExitCode {
    terminal::run(async {
        match command {
            AuthoringCommand::Lint(options) => lint::lint(options),
            AuthoringCommand::Rights(options) => rights::rights(options),
        }
    })
}
