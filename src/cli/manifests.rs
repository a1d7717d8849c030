use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::config::RunOptions;
use crate::manifests;

#[derive(Args, Debug)]
pub(super) struct ManifestsOptions {
    /// Write one file a part into this directory, instead of everything to standard output
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    run: RunOptions,
}

pub(super) fn manifests(options: &ManifestsOptions) -> Result<(), Box<dyn Error>> {
    for file in manifests::files(&options.run.settings())? {
        let text = manifests::text(&file)?;
        match &options.directory {
            Some(directory) => {
                std::fs::create_dir_all(directory)
                    .map_err(|error| format!("{}: {error}", directory.display()))?;
                let path = directory.join(file.name);
                std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            None => match std::io::stdout().write_all(text.as_bytes()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            },
        }
    }
    Ok(())
}
