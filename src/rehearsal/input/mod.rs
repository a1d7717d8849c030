//! What a command that runs workflows in the embedded cluster is given: read, checked, and a cluster to run it in.

mod approved;
mod base_cluster;
mod check;
mod checked;
mod cluster;
mod files;
mod import;
mod manifest;
mod messages;
mod planned_actions;
mod read_only;
mod source_map;
mod stand_in;
mod synthesized;
mod text;
mod warnings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use kubernaut_actors::TokioClock;
use kubernaut_machines::Settings;
use kubernaut_machines::duration::parse_go;
use serde_json::Value;

pub(crate) use self::checked::{Checked, checked};
use self::cluster::ClusterArguments;
pub(crate) use self::manifest::{Manifest, Problem, Rule};
pub(crate) use self::messages::{meant, printable};
use embedded_cluster::SeededRng;
use embedded_cluster::{EmbeddedCluster, LoadError, PodHabits, Rbac};

/// Flags about the world stand together in the help.
const HEADING: &str = "What the workflows act on";

/// Where the input comes from.
#[derive(Args, Clone, Debug)]
pub(crate) struct InputArguments {
    /// Manifests: workflows, executions and the objects that they act on; `-` reads standard input
    #[arg(required_unless_present = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A manifest, as kubectl takes it; can be given several times
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Objects as a cluster shows them, such as from kubectl get deploy,rs,pod,cm,node,pdb -A -o yaml, or a folder of
    /// manifests; can be given several times. What a server sets is dropped
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    world: Vec<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// An image that can't be pulled, as pods name it; can be given several times. To see what a workflow makes of it
    #[arg(long, value_name = "IMAGE", help_heading = HEADING)]
    bad_image: Vec<String>,
    /// How long pods take until they are ready that start while the workflows run, such as 10s
    #[arg(long, default_value = "0s", value_parser = parse_go, value_name = "DURATION", help_heading = HEADING)]
    ready_after: Duration,
}

impl InputArguments {
    /// Manifests of what is to be run, however they were named.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        [self.files.as_slice(), &self.filename].concat()
    }

    /// The flags by which kubectl reaches the cluster that was read; none without `--from-cluster`.
    pub(crate) fn flags_of_kubectl(&self) -> Vec<String> {
        self.cluster.flags_of_kubectl()
    }

    /// What pods do that start while the workflows run.
    pub(crate) fn habits(&self) -> PodHabits {
        PodHabits {
            ready_after: self.ready_after,
            bad_images: self.bad_image.clone(),
        }
    }
}

/// Checked input.
///
/// # Guarantees
/// Every object is what the API server would take, and every workflow passes planning.
#[derive(Debug)]
pub(crate) struct Input {
    /// A cluster with kubernaut installed and the definitions of the files, and nothing else: its controller not yet
    /// started, at rest.
    pub(crate) installed: EmbeddedCluster,
    /// Whether the files say who may do what.
    pub(crate) rbac: Rbac,
    /// What was made up, read or left out, a line each.
    pub(crate) notes: Vec<String>,
    /// What else the files hold, by kind and name: definitions and what the workflows act on.
    pub(crate) beside: Vec<String>,
    /// What the workflows act on.
    world: Vec<Manifest>,
    /// What nobody brings and everybody needs.
    made: Vec<Value>,
    /// Workflows and executions, in the order of the files.
    runs: Vec<Manifest>,
}

impl Input {
    /// Reads and checks; what is made of it has times of this clock. Not inside a runtime that runs: a cluster is read in
    /// one whose clock can't be paused.
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
        let named = arguments.files();
        let (files, mut shown, mut problems) = read_files(&named, &arguments.world)?;
        let mut installed = base_cluster::installed(settings, clock).map_err(|error| vec![error])?;
        let definitions: Vec<&Manifest> = files.iter().filter(|manifest| manifest.is_definition()).collect();
        problems.extend(load(&installed, &definitions, &[]).err().unwrap_or_default());
        problems.extend(check::check(&installed, &files, settings));
        if problems.is_empty() {
            problems.extend(check::check_runs(&named, &files));
        }
        let from_cluster = arguments.cluster.from_cluster;
        let order = [named.as_slice(), arguments.world.as_slice()].concat();
        // All that can be known is told at once; a cluster is read only for what can be run.
        let taken = if from_cluster && problems.is_empty() {
            None
        } else {
            let shown = std::mem::take(&mut shown);
            let taken = import::take(&installed, shown, settings);
            problems.extend(check::check_objects(&installed, &taken.manifests));
            Some(taken)
        };
        if !problems.is_empty() {
            return Err(in_order(problems, &order));
        }
        let beside = files.iter().filter(|one| !one.runs());
        let beside = beside.filter_map(Manifest::title).collect();
        let (mut notes, manifests) = without_foreign(&installed, files);
        let (mut runs, of_files): (Vec<Manifest>, Vec<Manifest>) = manifests
            .into_iter()
            .filter(|manifest| !manifest.is_definition())
            .partition(Manifest::runs);
        let planned = planned_actions::planned_actions(&runs, settings);
        let taken = if let Some(taken) = taken {
            taken
        } else {
            let read = cluster::read(&arguments.cluster, &runs, &planned).map_err(|error| vec![error])?;
            notes.extend(read.notes);
            // What stands in a file counts more.
            let of_cluster = read.objects.into_iter();
            let of_cluster = of_cluster.map(|object| Manifest::of_cluster(&read.name, object));
            let shown = of_cluster.chain(std::mem::take(&mut shown)).collect();
            let taken = import::take(&installed, shown, settings);
            let problems = check::check_objects(&installed, &taken.manifests);
            if !problems.is_empty() {
                return Err(in_order(problems, &order));
            }
            taken
        };
        notes.extend(taken.notes);
        installed.assume_owners(taken.outside);
        let (mut world, mut made) = (taken.manifests, taken.added);
        // What people wrote for this run comes last, and counts.
        world.extend(of_files);
        notes.extend(approved::take_as_approved(&mut runs, &mut world));
        if !from_cluster && arguments.world.is_empty() && !world.iter().any(synthesized::is_of_the_world) {
            let invented = synthesized::invent(&planned);
            notes.push(format!(
                "No objects in the files: made up {}.",
                some_of(invented.words)
            ));
            made.extend(invented.objects);
        }
        let rbac = base_cluster::rights_of(&world);
        if rbac == Rbac::Evaluate {
            installed = installed.copy(base_cluster::options(rbac, settings, clock));
        }
        made.extend(base_cluster::missing_namespaces(
            &runs,
            &world,
            &installed.objects(),
        ));
        let accounts = base_cluster::missing_accounts(&runs, &world, rbac);
        notes.extend(base_cluster::unknown_accounts(&runs, &accounts));
        made.extend(accounts);
        let warned = warnings::warnings(&runs, settings).into_iter();
        // What planning finds unusual, the workflow itself says.
        let warned = warned.filter(|warning| warning.rule != Rule::Unusual);
        notes.extend(warned.map(|warning| warning.reason));
        Ok(Self {
            installed,
            rbac,
            notes: notes.iter().map(|note| messages::printable(note)).collect(),
            beside,
            world,
            made,
            runs,
        })
    }

    /// What is there before anything runs, besides what is installed.
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
    pub(crate) fn load_world(&self, cluster: &EmbeddedCluster) -> Result<(), Vec<String>> {
        // At once: what has lost its owners would be collected.
        load(cluster, &self.world.iter().collect::<Vec<_>>(), &self.made).map_err(|problems| words(&problems))
    }

    /// Loads what is to run.
    ///
    /// # Errors
    /// As [`Self::load_world`].
    pub(crate) fn load_runs(&self, cluster: &EmbeddedCluster) -> Result<(), Vec<String>> {
        load(cluster, &self.runs.iter().collect::<Vec<_>>(), &[]).map_err(|problems| words(&problems))
    }
}

/// What stands in the files that are to run and in those of --world, each object with a name, and what is wrong with it.
type FilesRead = (Vec<Manifest>, Vec<Manifest>, Vec<manifest::Problem>);

fn read_files(named: &[PathBuf], world: &[PathBuf]) -> Result<FilesRead, Vec<String>> {
    let standard_input = |files: &[PathBuf]| files.iter().filter(|file| file.as_os_str() == "-").count();
    if standard_input(named) + standard_input(world) > 1 {
        return Err(vec!["- : standard input can be read only once".to_owned()]);
    }
    let mut files = files::read(named);
    let mut shown = files::read(world);
    let mut problems = std::mem::take(&mut files.problems);
    problems.append(&mut shown.problems);
    let mut chance = SeededRng::new(NAMES);
    for manifest in files.manifests.iter_mut().chain(&mut shown.manifests) {
        manifest.name_it(&mut chance);
    }
    problems.extend(
        shown
            .manifests
            .iter()
            .filter(|manifest| manifest.runs())
            .map(|manifest| manifest.problem("", "is to be run: name its file without --world")),
    );
    Ok((files.manifests, shown.manifests, problems))
}

/// So many made-up things are named.
const NAMED_MAX: usize = 12;

fn some_of(mut words: Vec<String>) -> String {
    let more = words.len().saturating_sub(NAMED_MAX);
    words.truncate(NAMED_MAX);
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

/// Names that the files leave to the server are the same in every run.
const NAMES: u64 = 0;

/// All that is wrong, in the order of the files and of their lines, each in a line.
fn in_order(problems: Vec<manifest::Problem>, files: &[PathBuf]) -> Vec<String> {
    let mut words: Vec<String> = sorted(problems, files).iter().map(ToString::to_string).collect();
    words.dedup();
    words
}

/// In the order of the files and of their lines.
fn sorted(mut problems: Vec<manifest::Problem>, files: &[PathBuf]) -> Vec<manifest::Problem> {
    // The files of a folder come where it was named.
    let place = |file: &Path| files.iter().position(|named| file.starts_with(named));
    problems.sort_by(|one, other| {
        let key = |problem: &manifest::Problem| {
            let (file, line) = problem.place();
            (place(file), file.to_owned(), line)
        };
        key(one).cmp(&key(other))
    });
    problems.dedup();
    problems
}

/// Objects of kinds that nothing here knows and no file defines are left out.
fn without_foreign(installed: &EmbeddedCluster, manifests: Vec<Manifest>) -> (Vec<String>, Vec<Manifest>) {
    let (foreign, known): (Vec<Manifest>, Vec<Manifest>) = manifests
        .into_iter()
        .partition(|manifest| installed.unserved(&manifest.object).is_some());
    let mut named = import::Named::default();
    for manifest in &foreign {
        named.add(manifest);
    }
    let note = named.words().map(|words| {
        format!("Left out, since no file holds their CustomResourceDefinition, and nothing here acts on them: {words}.")
    });
    (note.into_iter().collect(), known)
}

fn words(problems: &[manifest::Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn load(
    cluster: &EmbeddedCluster,
    manifests: &[&Manifest],
    made: &[Value],
) -> Result<(), Vec<manifest::Problem>> {
    let brought = manifests.iter().map(|manifest| manifest.stored());
    let objects = brought.chain(made.iter().cloned()).collect();
    let placed = |error: &LoadError| match manifests.get(error.index) {
        Some(manifest) => manifest.problem(&error.field, error.reason.clone()),
        None => manifest::Problem::of_file(
            Path::new("the cluster inside this process"),
            None,
            error.to_string(),
        ),
    };
    cluster
        .load(objects)
        .map_err(|errors| errors.iter().map(placed).collect())
}
