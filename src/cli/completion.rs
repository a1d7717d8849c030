//! `kubernaut completion`: what shells complete.

use std::error::Error;
use std::io::Write;

use clap::Args;

#[derive(Args, Debug)]
pub(super) struct CompletionOptions {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints what a shell reads. Where names of a cluster can be offered, the script asks the program at each key.
pub(super) fn completion(options: &CompletionOptions) -> Result<(), Box<dyn Error>> {
    let mut script = Vec::new();
    write_script(options.shell, &mut script)?;
    match std::io::stdout().write_all(&script) {
        // `kubernaut completion bash | head` is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(feature = "rehearsal")]
fn write_script(shell: clap_complete::Shell, script: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    let known = clap_complete::env::Shells::builtins();
    let completer = known
        .completer(&shell.to_string())
        .ok_or_else(|| format!("no completions for {shell}"))?;
    Ok(completer.write_registration("COMPLETE", "kubernaut", "kubernaut", "kubernaut", script)?)
}

#[cfg(not(feature = "rehearsal"))]
#[expect(clippy::unnecessary_wraps, reason = "the other one can fail")]
fn write_script(shell: clap_complete::Shell, script: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    use clap::CommandFactory as _;
    clap_complete::generate(shell, &mut super::Cli::command(), "kubernaut", script);
    Ok(())
}
