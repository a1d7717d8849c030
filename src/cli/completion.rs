//! `kubernaut completion`: what shells complete.

use std::error::Error;
use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

#[derive(Args, Debug)]
pub(super) struct CompletionOptions {
    /// The shell
    shell: Shell,
}

pub(super) fn completion(options: &CompletionOptions) -> Result<(), Box<dyn Error>> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "kubernaut", &mut script);
    match std::io::stdout().write_all(&script) {
        // `kubernaut completion bash | head` is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
