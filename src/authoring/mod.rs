//! The commands for who writes workflows: nothing of a cluster is asked, and nothing is run.

mod explain_field;
mod kinds;
mod lint;
mod new;
mod rights;
mod schema;

use std::process::ExitCode;

use clap::Subcommand;

use crate::terminal;

#[derive(Subcommand, Debug)]
pub(crate) enum AuthoringCommand {
    New(new::NewOptions),
    Lint(Box<lint::LintOptions>),
    Rights(Box<rights::RightsOptions>),
    ExplainField(explain_field::ExplainFieldOptions),
    Schema(schema::SchemaOptions),
}

/// Runs the command; the exit code is its answer.
pub(crate) fn execute(command: &AuthoringCommand) -> ExitCode {
    terminal::run(async {
        match command {
            AuthoringCommand::Lint(options) => lint::lint(options),
            AuthoringCommand::Rights(options) => rights::rights(options),
            AuthoringCommand::New(options) => new::new(options),
            AuthoringCommand::ExplainField(options) => explain_field::explain_field(options),
            AuthoringCommand::Schema(options) => schema::schema(options),
        }
    })
}
