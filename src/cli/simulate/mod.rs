//! `kubernaut simulate FILE...`: the workflows of the files in a cluster inside this process, many times, each time with other
//! things that go wrong. Does it always end, how, and what is left behind?

mod report;
mod verdict;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::ops::Range;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use kubernaut_actors::TokioClock;

use self::verdict::Verdict;
use super::input::{Input, InputArguments};
use crate::config::RunOptions;
use crate::simulation::{Chance, FaultKind, Outcome, Planned, Scenario, plan, simulate};

/// A workflow that has not ended after this long on the cluster's own clock never will.
const PATIENCE: Duration = Duration::from_hours(24);
/// How long it is looked afterwards whether anything still happens.
const REST: Duration = Duration::from_secs(60);
/// How long pods of Jobs take; each run draws one of these, so that more or less of what goes wrong meets it.
const POD_TIMES: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_secs(2),
    Duration::from_secs(15),
];
/// How often somebody who reads a file hears how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Bad input: nothing was run.
const BAD_INPUT: u8 = 2;

/// Run workflows many times in a cluster inside this process, with things going wrong: do they always end, and how?
///
/// Each run is decided by its seed: the same seed is the same run. One seed alone is told as it went.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut simulate deploy/samples/scale-and-restart.yaml\n\nExit codes: 0 every run ended and left nothing of kubernaut's behind (however the workflows ended), 1 one did not, 2 bad input (nothing was run)."
)]
pub(crate) struct SimulateArguments {
    #[command(flatten)]
    input: InputArguments,
    /// How many runs, or which: 200, or 17..18 for seed 17 alone
    #[arg(long, default_value = "200", value_parser = seeds, value_name = "NUMBER|FROM..TO")]
    seeds: Seeds,
    /// What may go wrong, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = FaultKind::value_variants().to_vec(), hide_default_value = true, value_name = "KINDS")]
    faults: Vec<FaultKind>,
    /// Most things that go wrong in one run
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=100), value_name = "NUMBER")]
    most: u64,
    /// What is printed: words, or one JSON object
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Which runs.
#[derive(Clone, Debug)]
struct Seeds(Range<u64>);

fn seeds(text: &str) -> Result<Seeds, String> {
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("{text:?} is not a number: 200, or 17..18 for seed 17 alone"))
    };
    let seeds = match text.split_once("..") {
        Some((from, to)) => number(from)?..number(to)?,
        None => 0..number(text)?,
    };
    if seeds.is_empty() {
        return Err("there is no seed in it: 200, or 17..18 for seed 17 alone".to_owned());
    }
    Ok(Seeds(seeds))
}

/// Runs the command; the exit code is its verdict.
pub(crate) fn execute(arguments: &SimulateArguments) -> ExitCode {
    let input = match read(arguments) {
        Ok(input) => input,
        Err(problems) => {
            for problem in problems {
                complain(&format!("error: {problem}"));
            }
            return ExitCode::from(BAD_INPUT);
        }
    };
    match examine(arguments, &input) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            complain(&format!("error: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &SimulateArguments) -> Result<Input, Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| vec![format!("the runtime does not start: {error}")])?;
    let _within = runtime.enter();
    let clock = TokioClock::starting_at(Timestamp::now());
    Input::read(&arguments.input, &arguments.run.settings(), clock)
}

/// What comes of one run.
type Ran = Result<Verdict, String>;

/// True when every run ended and left nothing behind.
fn examine(arguments: &SimulateArguments, input: &Input) -> Result<bool, String> {
    let simulation = Simulation::new(arguments, input);
    let calm = simulation.run_with(0, Vec::new(), POD_TIMES[1])?;
    let calm = Calm {
        verdict: simulation.judged(&calm),
        told: report::verdicts(&simulation, &calm),
    };
    let ran = simulation.run_all(&arguments.seeds.0);
    let text = match arguments.output {
        Output::Text => report::text(&simulation, input, &calm, &ran),
        Output::Json => {
            // Standard output is the object alone.
            input.notes.iter().for_each(|note| complain(note));
            report::json(&simulation, &calm, &ran)?
        }
    };
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        // A reader that went away (`| head`) is no reason to fail; a full disk is.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(format!("the result can't be written: {error}"));
        }
        _ => {}
    }
    Ok(ran.values().all(|ran| ran.as_ref().is_ok_and(Verdict::is_well)))
}

/// The run in which nothing goes wrong.
struct Calm {
    verdict: Verdict,
    /// How each workflow ended, with what to do.
    told: String,
}

/// What all runs have in common.
struct Simulation<'a> {
    arguments: &'a SimulateArguments,
    scenario: Scenario,
}

impl<'a> Simulation<'a> {
    fn new(arguments: &'a SimulateArguments, input: &Input) -> Self {
        Self {
            arguments,
            scenario: Scenario {
                installed: input.installed.clone(),
                world: input.world(),
                runs: input.runs().iter().map(super::input::Manifest::stored).collect(),
                options: arguments.run.clone(),
                rbac: input.rbac,
                plan: Vec::new(),
                pod_run_time: POD_TIMES[0],
                habits: arguments.input.habits(),
                seed: 0,
                patience: PATIENCE,
                rest: REST,
            },
        }
    }

    /// What goes wrong with this seed.
    fn plan(&self, seed: u64) -> Vec<Planned> {
        plan(
            &self.arguments.faults,
            self.arguments.most,
            &mut Chance::new(seed),
        )
    }

    fn run(&self, seed: u64) -> Result<Outcome, String> {
        let pod_run_time = *Chance::new(seed ^ u64::MAX).pick(&POD_TIMES);
        self.run_with(seed, self.plan(seed), pod_run_time)
    }

    fn run_with(&self, seed: u64, plan: Vec<Planned>, pod_run_time: Duration) -> Result<Outcome, String> {
        let scenario = Scenario {
            plan,
            pod_run_time,
            seed,
            ..self.scenario.clone()
        };
        match catch_unwind(|| simulate(&scenario)) {
            Ok(outcome) => outcome,
            Err(_) => Err("it panicked: this is a defect of kubernaut".to_owned()),
        }
    }

    fn judged(&self, outcome: &Outcome) -> Verdict {
        Verdict::of(outcome, &self.scenario.runs, &self.executor_namespace())
    }

    fn executor_namespace(&self) -> String {
        self.arguments.run.executor_namespace.clone()
    }

    /// All runs, on all cores, by their seeds.
    fn run_all(&self, seeds: &Range<u64>) -> BTreeMap<u64, Ran> {
        let next = AtomicU64::new(seeds.start);
        let all = Mutex::new(BTreeMap::new());
        let progress = Progress::new(seeds.end - seeds.start);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let ran = self.run(seed).map(|outcome| self.judged(&outcome));
                        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                        all.insert(seed, ran);
                        progress.tell(all.len() as u64);
                    }
                });
            }
        });
        progress.bar.finish_and_clear();
        all.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far it is: a bar for a person, a line now and then for a file.
struct Progress {
    bar: ProgressBar,
    number: u64,
    last: Mutex<Instant>,
}

impl Progress {
    fn new(number: u64) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} runs, {eta} left");
        let bar = ProgressBar::with_draw_target(Some(number), ProgressDrawTarget::stderr());
        Self {
            bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
            number,
            last: Mutex::new(Instant::now()),
        }
    }

    fn tell(&self, done: u64) {
        self.bar.set_position(done);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::io::stderr().is_terminal() && last.elapsed() >= TELL_EVERY {
            *last = Instant::now();
            complain(&format!("{done} of {} runs", self.number));
        }
    }
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_number_or_a_range() {
        assert_eq!(seeds("3").unwrap().0, 0..3);
        assert_eq!(seeds("17..18").unwrap().0, 17..18);
        for wrong in ["", "0", "5..5", "7..3", "x", "1..x", "-1"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }
}
