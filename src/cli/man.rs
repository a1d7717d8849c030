//! `kubernaut man-pages`: a page for each command.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

#[derive(Args, Debug)]
pub(super) struct ManOptions {
    /// The directory into which they are written
    directory: PathBuf,
}

pub(super) fn man(options: &ManOptions) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(&options.directory)?;
    Ok(clap_mangen::generate_to(
        super::Cli::command(),
        &options.directory,
    )?)
}
