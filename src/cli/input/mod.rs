//! What a command that runs workflows in the embedded cluster is given: read, checked, and a cluster to run it in.

mod check;
mod files;
mod manifest;
mod places;
mod wording;
mod world;

use std::path::PathBuf;

use clap::Args;
use kubernaut_actors::TokioClock;
use kubernaut_machines::Settings;
use serde_json::Value;

pub(crate) use self::manifest::Manifest;
use crate::memory::{LoadError, MemoryCluster, Rbac};

/// Where the input comes from.
#[derive(Args, Clone, Debug)]
pub(crate) struct InputArguments {
    /// Manifests: workflows, executions and the objects that they act on; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Checked input.
///
/// # Guarantees
/// Every object is what the API server would take, and every workflow passes planning.
#[derive(Debug)]
pub(crate) struct Input {
    /// A cluster with kubernaut installed and the definitions of the files, and nothing else: its controller not yet
    /// started, at rest.
    pub(crate) installed: MemoryCluster,
    /// Whether the files say who may do what.
    pub(crate) rbac: Rbac,
    /// What the workflows act on.
    world: Vec<Manifest>,
    /// What nobody brings and everybody needs.
    made: Vec<Value>,
    /// Workflows and executions, in the order of the files.
    runs: Vec<Manifest>,
}

impl Input {
    /// Reads and checks; what is made of it has times of this clock.
    ///
    /// # Errors
    /// Everything that is wrong, each in one line with its file, line, object and field.
    pub(crate) fn read(
        arguments: &InputArguments,
        settings: &Settings,
        clock: TokioClock,
    ) -> Result<Self, Vec<String>> {
        // Its pods do nothing with other images, and each step would fail for a reason that is none.
        if !settings.kubectl_image.contains("kubectl") {
            let image = &settings.kubectl_image;
            return Err(vec![format!(
                "--kubectl-image={image}: the cluster inside this process runs only images that have kubectl in their name"
            )]);
        }
        let manifests = files::read(&arguments.files).map_err(|problems| words(&problems))?;
        let rbac = world::rights_of(&manifests);
        let installed = world::installed(rbac, settings, clock).map_err(|error| vec![error])?;
        let definitions: Vec<&Manifest> = manifests.iter().filter(|one| one.is_definition()).collect();
        load(&installed, &definitions)?;
        let problems = check::check(&installed, &arguments.files, &manifests, settings);
        if !problems.is_empty() {
            return Err(words(&problems));
        }
        let made = match rbac {
            Rbac::AllowAll => world::missing_accounts(&manifests),
            Rbac::Evaluate => Vec::new(),
        };
        let (runs, world) = manifests
            .into_iter()
            .filter(|manifest| !manifest.is_definition())
            .partition(Manifest::runs);
        Ok(Self {
            installed,
            rbac,
            world,
            made,
            runs,
        })
    }

    /// What is there before anything runs, besides what is installed.
    #[expect(dead_code, reason = "for `kubernaut simulate`, which is being written")]
    pub(crate) fn world(&self) -> Vec<Value> {
        let brought = self.world.iter().map(Manifest::stored);
        brought.chain(self.made.iter().cloned()).collect()
    }

    /// Workflows and executions, in the order in which they are created.
    pub(crate) fn runs(&self) -> &[Manifest] {
        &self.runs
    }

    /// Loads what is there before anything runs into this cluster, which is the installed one or a copy of it.
    ///
    /// # Errors
    /// What the cluster refuses, each in one line with its file, line, object and field.
    pub(crate) fn load_world(&self, cluster: &MemoryCluster) -> Result<(), Vec<String>> {
        load(cluster, &self.world.iter().collect::<Vec<_>>())?;
        cluster
            .load(self.made.clone())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    /// Loads what is to run.
    ///
    /// # Errors
    /// As [`Self::load_world`].
    pub(crate) fn load_runs(&self, cluster: &MemoryCluster) -> Result<(), Vec<String>> {
        load(cluster, &self.runs.iter().collect::<Vec<_>>())
    }
}

fn words(problems: &[manifest::Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn load(cluster: &MemoryCluster, manifests: &[&Manifest]) -> Result<(), Vec<String>> {
    let objects = manifests.iter().map(|manifest| manifest.stored()).collect();
    let placed = |error: &LoadError| match manifests.get(error.index) {
        Some(manifest) => manifest.problem(&error.field, error.reason.clone()).to_string(),
        None => error.to_string(),
    };
    cluster
        .load(objects)
        .map_err(|errors| errors.iter().map(placed).collect())
}
