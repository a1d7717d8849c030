//! `kubernaut manifests`: prints what is to be installed.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory};

use super::Cli;
use crate::config::{ControllerOptions, LeaseOptions, RunOptions, TelemetryOptions, image, names_a_registry};
use crate::manifests::{self, CONTROLLER_NAMESPACE, IMAGE, Installation, POLICY_DIRECTORY, chart};

#[derive(Args, Debug)]
pub(super) struct ManifestsOptions {
    /// Write one file a part into this directory, instead of everything to standard output
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Write what of the Helm chart comes from the code into this directory; ./dev fix does so
    #[arg(long, value_name = "DIR", hide = true, exclusive = true)]
    chart: Option<PathBuf>,

    /// Image of the controller: where you pushed what the Dockerfile makes
    #[arg(long, env = "KUBERNAUT_IMAGE", default_value = IMAGE, value_parser = image, value_name = "IMAGE")]
    image: String,

    /// ConfigMap of the controller's namespace with policies in Rego: it is mounted into the controller's pods, as their --policy-dir
    #[arg(long, value_name = "NAME", value_parser = config_map, conflicts_with_all = ["policy_dir", "without_pods"])]
    policy_config_map: Option<String>,

    /// Leave out the controller's pods: it runs elsewhere
    #[arg(long)]
    without_pods: bool,

    #[command(flatten)]
    run: RunOptions,

    #[command(flatten)]
    lease: LeaseOptions,

    #[command(flatten)]
    telemetry: TelemetryOptions,
}

pub(super) fn manifests(options: &ManifestsOptions, matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    if let Some(directory) = &options.chart {
        for file in chart::files()? {
            write(directory, &file.path, &file.text)?;
        }
        return Ok(());
    }
    let mut run = options.run.clone();
    // Where this process runs says nothing of where the controller will.
    let namespace = run.controller_namespace.filter(|name| !name.is_empty());
    run.controller_namespace = Some(namespace.unwrap_or_else(|| CONTROLLER_NAMESPACE.to_owned()));
    if let Err(problem) = run.check().and(options.lease.times().map(drop)) {
        Cli::command().error(ErrorKind::ValueValidation, problem).exit();
    }
    if run.policy_directory().is_some() && !options.without_pods {
        let problem = "--policy-dir is a directory in the controller's pods: name the ConfigMap that is to be mounted there with \
                       --policy-config-map";
        Cli::command().error(ErrorKind::ValueValidation, problem).exit();
    }
    let installation = Installation {
        settings: run.settings(),
        controller_namespace: run.controller_namespace(),
        image: (!options.without_pods).then(|| options.image.clone()),
        flags: said(matches, options.policy_config_map.is_some()),
        policy_config_map: options.policy_config_map.clone(),
    };
    // In a directory a kustomization can still name it.
    let unnamed = installation
        .image
        .as_deref()
        .filter(|image| !names_a_registry(image));
    if let (Some(image), None) = (unnamed, &options.directory) {
        writeln!(
            std::io::stderr(),
            "warning: the image {image} names no registry: a node that does not have it will not find it; push it to one, \
             and name it with --image=REGISTRY/{image}"
        )?;
    }
    for file in manifests::files(&installation)? {
        let text = manifests::text(&file)?;
        match &options.directory {
            Some(directory) => write(directory, file.name, &text)?,
            None => match std::io::stdout().write_all(text.as_bytes()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            },
        }
    }
    Ok(())
}

fn write(directory: &Path, name: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let path = directory.join(name);
    let parent = path.parent().unwrap_or(directory);
    std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(())
}

fn config_map(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if text.is_empty() || text.len() > 253 || !text.chars().all(is_plain) {
        return Err("is not the name of a ConfigMap".to_owned());
    }
    Ok(text.to_owned())
}

/// The controller's flags that were given, by hand or by the environment, for a controller that has neither; and where its policies
/// are, if they are mounted.
fn said(matches: &ArgMatches, has_policies: bool) -> Vec<String> {
    let controller = ControllerOptions::augment_args(clap::Command::new("controller"));
    let mut said = Vec::new();
    for flag in controller.get_arguments() {
        let id = flag.get_id().as_str();
        if has_policies && flag.get_long() == Some("policy-dir") {
            said.push(format!("--policy-dir={POLICY_DIRECTORY}"));
            continue;
        }
        let (Some(long), Ok(Some(values))) = (flag.get_long(), matches.try_get_raw(id)) else {
            continue;
        };
        if matches.value_source(id) != Some(ValueSource::DefaultValue) {
            let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
            said.push(format!("--{long}={}", values.join(",")));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, Parser};

    use super::*;

    #[derive(Parser)]
    struct Controller {
        #[command(flatten)]
        options: ControllerOptions,
    }

    fn said_by(arguments: &[&str]) -> Vec<String> {
        let command = ManifestsOptions::augment_args(clap::Command::new("manifests"));
        let arguments = std::iter::once("manifests").chain(arguments.iter().copied());
        let matches = command.try_get_matches_from(arguments).expect("understood");
        ManifestsOptions::from_arg_matches(&matches).expect("options");
        said(&matches, false)
    }

    #[test]
    fn the_pods_get_the_flags_of_the_controller_that_were_given_and_no_other() {
        assert_eq!(
            said_by(&["--image=mirror.example/kubernaut:1"]),
            Vec::<String>::new()
        );
        let given = [
            "--executor-namespace=jobs",
            "--protected-namespaces=kube-system,vault",
            "--apply-manifest-kinds=ConfigMap,apps/Deployment",
            "--verification=false",
            "--max-step-timeout=20m",
            "--lease-duration=20s",
            "--log-format=json",
        ];
        let mut said = said_by(&given);
        let settings = |flags: &[String]| {
            let arguments = std::iter::once("controller".to_owned()).chain(flags.iter().cloned());
            Controller::try_parse_from(arguments)
                .expect("understood")
                .options
                .run
                .settings()
        };
        let given = given.map(str::to_owned);
        assert_eq!(settings(&said), settings(&given));
        let mut given = given.to_vec();
        said.sort();
        given.sort();
        assert_eq!(said, given);
    }
}
