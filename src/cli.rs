//! The command line: one module a subcommand.

mod completion;
mod controller;
#[cfg(feature = "rehearsal")]
mod man;
mod manifests;
mod policy;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

#[cfg(feature = "rehearsal")]
use crate::authoring;
#[cfg(feature = "rehearsal")]
use crate::live;
#[cfg(feature = "rehearsal")]
use crate::rehearsal::{rehearse, simulate};

/// Runs remediation workflows in Kubernetes: typed steps, one checked Job each, nothing lost and nothing repeated.
#[derive(Parser, Debug)]
#[command(
    name = "kubernaut",
    version,
    max_term_width = 110,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the controller in, or beside, a cluster
    ///
    /// Watches WorkflowExecutions and KubernetesExecutions in all namespaces and runs them. The CRDs and the ServiceAccounts
    /// of the actions must be installed (deploy/base). Of several controllers one leads, the others wait for its lease.
    /// SIGTERM and SIGINT end it in order: calls under way may end, then the lease is released; Jobs that run go on, and the
    /// next controller takes them up. A controller that loses its lease ends with exit code 1, to be started again.
    Controller(Box<crate::config::ControllerOptions>),
    #[cfg(feature = "rehearsal")]
    #[command(alias = "run")]
    Rehearse(Box<rehearse::RehearseArguments>),
    #[cfg(feature = "rehearsal")]
    Simulate(Box<simulate::SimulateArguments>),
    #[cfg(feature = "rehearsal")]
    #[command(flatten)]
    Authoring(authoring::AuthoringCommand),
    #[cfg(feature = "rehearsal")]
    #[command(flatten)]
    Live(live::LiveCommand),
    /// Print what has to be installed, for these flags
    ///
    /// CRDs, namespaces, the accounts and roles of the actions, the controller's account and rights, admission and network
    /// policies, and the controller's pods, which get the flags of the controller that were given here:
    /// kubernaut manifests --apply-manifest-kinds=ConfigMap | kubectl apply --server-side -f -
    Manifests(Box<manifests::ManifestsOptions>),
    /// Try policies in Rego on recorded inputs
    ///
    /// What they decide, and what they are asked about, is in docs/executions.md.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Write a manual page for each command
    #[cfg(feature = "rehearsal")]
    #[command(hide = true)]
    ManPages(man::ManOptions),
    /// Print completions for a shell
    ///
    /// For bash: source <(kubernaut completion bash)
    Completion(completion::CompletionOptions),
}

/// Runs the program with the process's arguments. 0: it did what was asked; 1: it could not; 2: the arguments are wrong.
pub fn main() -> ExitCode {
    // A shell asks what could come next, and gets its answer there.
    #[cfg(feature = "rehearsal")]
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    // clap prints help and errors itself, and exits with 0 or 2.
    let matches = called().get_matches();
    let Cli { command } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let done = match command {
        Command::Controller(options) => controller::controller(&options),
        #[cfg(feature = "rehearsal")]
        Command::Rehearse(options) => return rehearse::execute(&options),
        #[cfg(feature = "rehearsal")]
        Command::Simulate(options) => return simulate::execute(&options),
        #[cfg(feature = "rehearsal")]
        Command::Authoring(command) => return authoring::execute(&command),
        #[cfg(feature = "rehearsal")]
        Command::Live(command) => return live::execute(&command),
        Command::Policy(command) => return policy::execute(&command),
        Command::Manifests(options) => {
            let own = matches.subcommand().map_or(&matches, |(_, own)| own);
            manifests::manifests(&options, own)
        }
        #[cfg(feature = "rehearsal")]
        Command::ManPages(options) => man::man(&options),
        Command::Completion(options) => completion::completion(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// The commands, called as this process was: kubectl runs a program of the name kubectl-kubernaut as its own.
fn called() -> clap::Command {
    let name = std::env::args_os().next().map(std::path::PathBuf::from);
    let stem = name.as_deref().and_then(std::path::Path::file_stem);
    if stem.is_some_and(|stem| stem == "kubectl-kubernaut") {
        Cli::command().bin_name("kubectl kubernaut")
    } else {
        Cli::command()
    }
}

/// The error and what caused it, in one line, for a person.
#[expect(clippy::print_stderr, reason = "the log may not have started")]
fn complain(error: &dyn std::error::Error) {
    eprintln!("error: {}", crate::kube_api::chain(error));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
