//! `kubernaut start`: the workflows of files, in a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::ApiResource;
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, names};
use kubernaut_machines::Settings;
use serde_json::json;

use super::connection::{ConnectArguments, Connection};
use super::get::shown;
use super::result::{WorkflowResult, WorkflowResultList};
use super::wait::seen_to_its_end;
use crate::rehearsal::input::{self, Manifest};
use crate::terminal::{BAD_INPUT, Done, FAILED, Output, Trouble, complain, print, print_result};

/// Most objects that are named beside the workflows.
const NAMED_MAX: usize = 5;

/// Start the workflows of files in a cluster
///
/// They are checked first as kubernaut lint does, and nothing is created while anything is wrong. You are recorded as who created
/// them. Objects of other kinds in the files are left alone.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut start restart-web.yaml --watch\n\nExit codes: 0 they are created (with --watch: all completed with success), 1 one could not be created (with --watch: or did not complete with success), 2 something is wrong with the files; nothing was created, 130 Ctrl-C; what was created goes on."
)]
pub(crate) struct StartOptions {
    /// Manifests, or folders of them; `-` reads standard input
    #[arg(required_unless_present = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A manifest, as kubectl takes it; can be given several times
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Follow them until they have ended
    #[arg(long, short)]
    watch: bool,
    /// Have the API server check them, and create nothing. What each step would change says kubernaut plan
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// Another name for the workflow: to run a file again whose workflow has ended
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connect: ConnectArguments,
}

pub(super) async fn start(options: &StartOptions) -> Done {
    let files = [options.files.as_slice(), &options.filename].concat();
    // What a controller takes its flags say, which are not known here.
    let settings = Settings::default().without_limits();
    let checked =
        input::checked(&files, &settings).map_err(|problems| Trouble::Input(problems.join("; ")))?;
    for warning in &checked.warnings {
        complain(&format!("warning: {warning}"));
    }
    for problem in &checked.problems {
        complain(&format!("error: {problem}"));
    }
    if !checked.problems.is_empty() {
        return Ok(ExitCode::from(BAD_INPUT));
    }
    let (mut runs, others): (Vec<Manifest>, Vec<Manifest>) =
        checked.manifests.into_iter().partition(Manifest::runs);
    check(options, &runs)?;
    if let (Some(name), Some(run)) = (&options.name, runs.first_mut()) {
        run.object["metadata"]["name"] = json!(name);
    }
    if let Some(words) = named(&others) {
        complain(&format!(
            "note: left alone, since only workflows are started: {words}. What of it the cluster lacks: kubectl apply"
        ));
    }
    let connection = Connection::open(&options.connect).await?;
    let user = connection.user().await?;
    // Where one of several would be refused, none is started.
    if runs.len() > 1 && !options.dry_run {
        let trial = StartOptions {
            dry_run: true,
            ..options.clone()
        };
        for run in &mut runs {
            create(&trial, &connection, run, &user).await?;
        }
    }
    let mut created = Vec::new();
    for run in &mut runs {
        match create(options, &connection, run, &user).await {
            Ok(one) => created.push(one),
            Err(trouble) => {
                for created in &created {
                    complain(created.line(options, &connection).trim_end());
                }
                return Err(trouble);
            }
        }
    }
    if options.watch {
        return followed(options, &connection, created).await;
    }
    match options.output {
        Output::Json | Output::Yaml => {
            let workflows = created.iter().filter_map(|created| created.workflow.as_ref());
            let results = workflows.map(|workflow| WorkflowResult::new(workflow, &[]));
            print_results(results.collect(), options.output)?;
        }
        Output::Name => {
            for created in &created {
                print(&format!("{}\n", created.name))?;
            }
        }
        Output::Table | Output::Wide => {
            for created in &created {
                print(&created.line(options, &connection))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// That there is something to start, and that the flags fit it.
fn check(options: &StartOptions, runs: &[Manifest]) -> Result<(), Trouble> {
    if runs.is_empty() {
        return Err(Trouble::Input(
            "the files hold neither a WorkflowExecution nor a KubernetesExecution: there is nothing to start"
                .to_owned(),
        ));
    }
    if options.name.is_some() && runs.len() > 1 {
        return Err(Trouble::Input(format!(
            "--name is for one workflow, and the files hold {}",
            runs.len()
        )));
    }
    if let Some(execution) = runs.iter().find(|run| options.watch && run.is_execution()) {
        return Err(Trouble::Input(format!(
            "{}: only workflows can be followed: start it without --watch",
            execution.title().unwrap_or_default()
        )));
    }
    let namespace = options.connect.namespace.as_deref();
    let elsewhere = runs.iter().find(|run| {
        let own = run.metadata("namespace");
        namespace.is_some_and(|namespace| !own.is_empty() && own != namespace)
    });
    match elsewhere {
        Some(run) => Err(Trouble::Input(format!(
            "{}: its file says another namespace than --namespace={}",
            run.title().unwrap_or_default(),
            namespace.unwrap_or_default()
        ))),
        None => Ok(()),
    }
}

/// What was created.
struct Created {
    kind: &'static str,
    namespace: String,
    name: String,
    workflow: Option<WorkflowExecution>,
}

impl Created {
    fn line(&self, options: &StartOptions, connection: &Connection) -> String {
        let Self {
            kind,
            namespace,
            name,
            workflow,
        } = self;
        if options.dry_run {
            return format!(
                "{kind} {namespace}/{name} would be created in cluster {}\n",
                connection.name
            );
        }
        let follow = if workflow.is_some() {
            format!(
                "\nFollow it: kubernaut watch -n {namespace} {name}{}",
                connection.flags
            )
        } else {
            String::new()
        };
        format!("{kind} {namespace}/{name} created{follow}\n")
    }
}

async fn create(
    options: &StartOptions,
    connection: &Connection,
    run: &mut Manifest,
    user: &str,
) -> Result<Created, Trouble> {
    let namespace = match run.metadata("namespace") {
        "" => connection.namespace.clone(),
        namespace => namespace.to_owned(),
    };
    let annotations = &mut run.object["metadata"]["annotations"];
    if annotations[names::ANNOTATION_CREATED_BY].is_null() {
        annotations[names::ANNOTATION_CREATED_BY] = json!(user);
    }
    run.object["metadata"]["namespace"] = json!(namespace);
    if run.is_name_made_up
        && options.name.is_none()
        && let Some(metadata) = run.object["metadata"].as_object_mut()
    {
        metadata.remove("name");
    }
    let (kind, resource) = if run.is_workflow() {
        ("workflow", ApiResource::erase::<WorkflowExecution>(&()))
    } else {
        ("execution", ApiResource::erase::<KubernetesExecution>(&()))
    };
    let object: DynamicObject = serde_json::from_value(run.object.clone())
        .map_err(|error| Trouble::Input(format!("{}: {error}", run.title().unwrap_or_default())))?;
    let api = Api::<DynamicObject>::namespaced_with(connection.client.clone(), &namespace, &resource);
    let parameters = PostParams {
        dry_run: options.dry_run,
        field_manager: None,
    };
    let created = api.create(&parameters, &object).await;
    let created = created.map_err(|error| refused(connection, kind, &namespace, &object, &error))?;
    let name = created.metadata.name.clone().unwrap_or_default();
    let workflow = run.is_workflow().then(|| connection.typed(created)).transpose()?;
    Ok(Created {
        kind,
        namespace,
        name,
        workflow,
    })
}

fn refused(
    connection: &Connection,
    kind: &str,
    namespace: &str,
    object: &DynamicObject,
    error: &kube::Error,
) -> Trouble {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    if matches!(error, kube::Error::Api(status) if status.reason == "AlreadyExists") {
        return Trouble::Here(format!(
            "there is a {kind} {namespace}/{name} in cluster {} already, and none runs twice: give it another name with --name, \
             or metadata.generateName instead of a name in its file",
            connection.name
        ));
    }
    connection.trouble(&format!("creating {kind} {namespace}/{name}"), error)
}

/// Follows all of them; the exit code says how they ended.
async fn followed(options: &StartOptions, connection: &Connection, created: Vec<Created>) -> Done {
    let mut results = Vec::new();
    for created in created {
        let Some(workflow) = created.workflow else {
            continue;
        };
        complain(&format!(
            "workflow {}/{} created",
            created.namespace, created.name
        ));
        let result = seen_to_its_end(&connection.within(&created.namespace), workflow).await?;
        match options.output {
            Output::Table | Output::Wide => print(&shown(&result, Timestamp::now(), true))?,
            Output::Name => print(&format!("{}\n", result.name))?,
            Output::Json | Output::Yaml => {}
        }
        results.push(result);
    }
    let is_success = results.iter().all(WorkflowResult::is_success);
    if matches!(options.output, Output::Json | Output::Yaml) {
        print_results(results, options.output)?;
    }
    Ok(if is_success {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

/// One result as itself, several as a list.
fn print_results(results: Vec<WorkflowResult>, output: Output) -> Result<(), Trouble> {
    match <[WorkflowResult; 1]>::try_from(results) {
        Ok([one]) => print_result(&one, output),
        Err(several) => print_result(&WorkflowResultList::new(several), output),
    }
}

/// Some of them, and how many more; none when there is none.
fn named(objects: &[Manifest]) -> Option<String> {
    let mut names: Vec<String> = objects.iter().filter_map(Manifest::title).collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    (!names.is_empty()).then(|| names.join(", "))
}
