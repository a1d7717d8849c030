//! Measures workflow engines beside each other: `./dev bench` runs this.

mod audit;
mod engine;
mod flood;
mod installation;
mod memory;
mod oracle;
mod processes;
mod report;
mod run;
mod shapes;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::engine::Engine;
use crate::run::{Load, Outcome, Profile};

/// Measures workflow engines beside each other, on a real control plane with fake nodes
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every engine on every shape, in turn, and say what it took
    ///
    /// Each run has a control plane of its own. Everything shares this machine's processors, so figures of one call can be
    /// compared with each other and with no others.
    Run(RunArguments),
    /// Say what one write of each of our objects costs the API server, by size
    Writes(WritesArguments),
    /// Say what the controller holds in memory, and what it asks for, while workflows wait to be started and after steps have ended
    Memory(MemoryArguments),
    /// Say how much longer one workflow takes while another namespace asks for thousands of steps
    Flood(FloodArguments),
    /// The floor: creates each Job when those before it are complete, and keeps nothing
    #[command(hide = true)]
    Oracle {
        #[arg(long)]
        kubeconfig: PathBuf,
        /// A Job that its Jobs are like
        #[arg(long)]
        like: Option<PathBuf>,
    },
}

#[derive(Args)]
struct RunArguments {
    /// What is measured: ours, oracle, oracle=FILE (its Jobs like the one in that file, such as `kubernaut-bench writes` leaves of
    /// ours), or the path of a program as in tests/bench/engines
    #[arg(long, value_delimiter = ',', default_value = "ours,oracle")]
    engines: Vec<String>,
    /// The kubernaut to measure; it should be a release build. Given twice, each is measured
    #[arg(long, value_name = "PROGRAM")]
    kubernaut: Vec<PathBuf>,
    /// Flags for kubernaut controller, in one text; given twice, each is measured
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    flags: Vec<String>,
    /// Shape and number of workflows: one, chain5, dia8 or random20, x, how many at once
    #[arg(long, value_delimiter = ',', default_value = "dia8x100,chain5x100")]
    loads: Vec<String>,
    /// How long each step's pod runs, in seconds
    #[arg(long, default_value_t = 0.0)]
    pod_seconds: f64,
    /// Times the engine is killed, and started again at once, while it works
    #[arg(long, default_value_t = 0)]
    kills: u32,
    /// Runs of each engine on each load; medians are told
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// One run of dia8x20 each
    #[arg(long, conflicts_with_all = ["loads", "repetitions"])]
    quick: bool,
    /// Have the API server write where its CPU goes, for `go tool pprof`: a file for each run, of so many seconds from the middle of it
    #[arg(long, value_name = "SECONDS")]
    profile: Option<u64>,
    /// What is left out of kubernaut's installation, to see what it costs: policies, the name of one, rules or schemas
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Longest time of one run, in seconds
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Where bench.md, bench.json and an SVG for each figure go; must not hold another's
    #[arg(long, default_value = "bench")]
    output: PathBuf,
}

#[derive(Args)]
struct WritesArguments {
    /// The kubernaut whose writes are measured; it should be a release build
    #[arg(long, value_name = "PROGRAM")]
    kubernaut: PathBuf,
    /// The shapes of workflows whose writes are measured: one, chain5, dia8 or random20, with as many steps as wanted
    #[arg(long, value_delimiter = ',', default_value = "one,dia8,random100")]
    shapes: Vec<String>,
    /// How often each write is made
    #[arg(long, default_value_t = 300)]
    writes: usize,
    /// What is left out of the installation, to see what it costs: policies, the name of one, rules or schemas
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// A write, as the table names it: the API server writes where its CPU goes meanwhile, for `go tool pprof`
    #[arg(long, value_name = "WRITE")]
    profile: Option<String>,
    /// Where writes.md, writes.json and an object of each kind go
    #[arg(long, default_value = "bench")]
    output: PathBuf,
}

#[derive(Args)]
struct MemoryArguments {
    /// The kubernaut to measure; it should be a release build
    #[arg(long, value_name = "PROGRAM")]
    kubernaut: PathBuf,
    /// How many workflows wait to be started; 0 leaves it out
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    waiting: Vec<usize>,
    /// How many workflows wait for a person's approval; 0 leaves it out
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    approvals: Vec<usize>,
    /// How many steps have ended when the controller starts; 0 leaves it out
    #[arg(long, value_delimiter = ',', default_value = "2000")]
    finished: Vec<usize>,
    /// Where memory.md and memory.json go
    #[arg(long, default_value = "bench")]
    output: PathBuf,
}

#[derive(Args)]
struct FloodArguments {
    /// The kubernaut to measure; it should be a release build
    #[arg(long, value_name = "PROGRAM")]
    kubernaut: PathBuf,
    /// How many steps the other namespace asks for at once
    #[arg(long, default_value_t = 5000)]
    steps: usize,
    /// How long each step's pod runs, in seconds
    #[arg(long, default_value_t = 5.0)]
    pod_seconds: f64,
    /// Where flood.md and flood.json go
    #[arg(long, default_value = "bench")]
    output: PathBuf,
}

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Cluster(#[from] kubernaut_testbed::TestbedError),
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Watch(#[from] kube::runtime::watcher::Error),
    #[error(transparent)]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{0}")]
    Engine(String),
    #[error("{0}")]
    Arguments(String),
}

pub(crate) fn io(what: &str, source: std::io::Error) -> BenchError {
    BenchError::Io {
        what: what.to_owned(),
        source,
    }
}

#[tokio::main]
#[expect(
    clippy::print_stderr,
    reason = "the one place that reports an error to a person"
)]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(arguments) => measure(arguments).await,
        Command::Writes(WritesArguments {
            kubernaut,
            shapes,
            writes,
            without,
            profile,
            output,
        }) => writes::run(&kubernaut, &shapes, writes, &without, profile.as_deref(), &output).await,
        Command::Memory(MemoryArguments {
            kubernaut,
            waiting,
            approvals,
            finished,
            output,
        }) => memory::run(&kubernaut, &waiting, &approvals, &finished, &output).await,
        Command::Flood(FloodArguments {
            kubernaut,
            steps,
            pod_seconds,
            output,
        }) => flood::run(&kubernaut, steps, pod_seconds, &output).await,
        Command::Oracle { kubeconfig, like } => oracle::run(&kubeconfig, like.as_deref()).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kubernaut-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress")]
async fn measure(mut arguments: RunArguments) -> Result<(), BenchError> {
    if arguments.quick {
        arguments.loads = vec!["dia8x20".to_owned()];
        arguments.repetitions = 1;
    }
    let engines = engines(&arguments)?;
    let loads = arguments
        .loads
        .iter()
        .map(|text| load(text, &arguments))
        .collect::<Result<Vec<_>, _>>()?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for repetition in 1..=arguments.repetitions {
        for load in &loads {
            // In turn, so that a machine that gets slower does so for all.
            for engine in &engines {
                eprintln!(
                    "{repetition}/{}: {} on {}",
                    arguments.repetitions,
                    engine.name(),
                    load.name
                );
                let profile = arguments.profile.map(|seconds| Profile {
                    seconds,
                    file: arguments
                        .output
                        .join(format!("apiserver-{}-{}.pprof", outcomes.len(), load.name)),
                });
                let outcome = run::run(engine, load, &arguments.without, profile).await?;
                eprintln!("  {}", report::line(&outcome));
                outcomes.push(outcome);
                report::write(&arguments.output, &outcomes)?;
            }
        }
    }
    println!("{}", report::markdown(&outcomes));
    eprintln!(
        "Also in {}: bench.md, bench.json and a plot for each figure.",
        arguments.output.display()
    );
    Ok(())
}

fn engines(arguments: &RunArguments) -> Result<Vec<Engine>, BenchError> {
    let mut engines = Vec::new();
    for name in &arguments.engines {
        match name.as_str() {
            "ours" => {
                if arguments.kubernaut.is_empty() {
                    return Err(BenchError::Arguments(
                        "--kubernaut=PROGRAM: which build of it?".to_owned(),
                    ));
                }
                let none = vec![String::new()];
                let flags = if arguments.flags.is_empty() {
                    &none
                } else {
                    &arguments.flags
                };
                for program in &arguments.kubernaut {
                    for flags in flags {
                        engines.push(Engine::Ours {
                            program: program.clone(),
                            flags: flags.split_whitespace().map(str::to_owned).collect(),
                        });
                    }
                }
            }
            "oracle" => engines.push(Engine::Oracle(None)),
            like if let Some(file) = like.strip_prefix("oracle=") => {
                engines.push(Engine::Oracle(Some(file.into())));
            }
            path if path.contains('/') => engines.push(Engine::Other(path.into())),
            other => {
                let words = format!(
                    "there is no engine {other}: ours, oracle, oracle=FILE, or a path such as tests/bench/engines/argo"
                );
                return Err(BenchError::Arguments(words));
            }
        }
    }
    Ok(engines)
}

fn load(text: &str, arguments: &RunArguments) -> Result<Load, BenchError> {
    let (shape, workflows) = text.rsplit_once('x').unwrap_or((text, ""));
    let workflows = workflows
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| {
            BenchError::Arguments(format!(
                "{text}: shape, x and a number of workflows, such as dia8x100"
            ))
        })?;
    Ok(Load {
        name: text.to_owned(),
        steps: shapes::steps(shape).map_err(BenchError::Arguments)?,
        workflows,
        pod_time: Duration::try_from_secs_f64(arguments.pod_seconds)
            .map_err(|error| BenchError::Arguments(format!("--pod-seconds: {error}")))?,
        kills: arguments.kills,
        timeout: Duration::from_secs(arguments.timeout),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
