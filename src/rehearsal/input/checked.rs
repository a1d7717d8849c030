//! Files that are checked, and not run here.

use std::path::PathBuf;

use jiff::Timestamp;
use kubernaut_actors::TokioClock;
use kubernaut_machines::Settings;

use super::manifest::{Manifest, Problem};
use super::{base_cluster, check, load, read_files, sorted, warnings};

/// What files hold, and what is to be said of it.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Every object that can be read.
    pub(crate) manifests: Vec<Manifest>,
    /// All that is wrong, in the order of the files.
    pub(crate) problems: Vec<Problem>,
    /// All that is right and yet not what somebody means.
    pub(crate) warnings: Vec<Problem>,
}

/// Checks every object of the files as the API server would, and every workflow as planning does. Inside a runtime.
///
/// # Errors
/// What keeps all of it from being checked.
pub(crate) fn checked(files: &[PathBuf], settings: &Settings) -> Result<Checked, Vec<String>> {
    let (manifests, _, mut problems) = read_files(files, &[])?;
    let clock = TokioClock::starting_at(Timestamp::now());
    let cluster = base_cluster::installed(settings, clock).map_err(|error| vec![error])?;
    let definitions: Vec<&Manifest> = manifests
        .iter()
        .filter(|manifest| manifest.is_definition())
        .collect();
    problems.extend(load(&cluster, &definitions, &[]).err().unwrap_or_default());
    problems.extend(check::check(&cluster, &manifests, settings));
    let warnings = warnings::warnings(&manifests, settings);
    Ok(Checked {
        problems: sorted(problems, files),
        warnings: sorted(warnings, files),
        manifests,
    })
}
