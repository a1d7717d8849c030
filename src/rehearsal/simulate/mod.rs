//! `kubernaut simulate FILE...`: the workflows of the files in a cluster inside this process, many times, each time with other
//! things that go wrong. Does it always end, how, and what is left behind?

mod behind;
mod draw;
mod fits;
mod report;
mod totals;
mod verdict;
mod words;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::ops::Range;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use kubernaut_actors::TokioClock;

use self::draw::{Drawn, Extent, Trouble};
use self::verdict::{Light, Verdict};
use super::input::{Input, InputArguments};
use crate::config::RunOptions;
use crate::manifests as installation;
use crate::rehearsal::simulation::{Outcome, Scenario, SeededRng, Step, StepFault, simulate_with};

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
/// Somebody pressed Ctrl-C: what was run until then is told.
const INTERRUPTED: u8 = 130;

/// The end of the help.
fn after_help() -> String {
    format!(
        "Try it: kubernaut simulate deploy/samples/scale-and-restart.yaml\n\nWhat --fault can name, with the number or the name of a step:\n{}\n\nExit codes: 0 every run ended and left nothing of kubernaut's behind (however the workflows ended), 1 one did not, or fewer succeeded than --fail-below asks for, 2 bad input (nothing was run), 130 stopped by Ctrl-C (what was run until then is told).",
        draw::names("step 2")
    )
}

/// Rehearse workflows many times with random faults, and count how they end
///
/// Each run is decided by its seed: the same seed is the same run. What goes wrong is drawn from what the run without faults
/// has: its API calls, its Jobs, the pods that its steps start and evict. It is told which faults did harm, how each step
/// fared, and in what state the cluster is left. One run alone is told as it went. No cluster is changed.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help())]
pub(crate) struct SimulateArguments {
    #[command(flatten)]
    input: InputArguments,
    /// How many runs, or which: 200, or 5..25. Default: 200; 1 with --fault
    #[arg(long, value_parser = seeds, value_name = "NUMBER|FROM..TO")]
    seeds: Option<Seeds>,
    /// One run alone, told as it went
    #[arg(long, conflicts_with = "seeds", value_name = "SEED")]
    seed: Option<u64>,
    /// What may go wrong, separated by commas. Default: all but what is only when asked for; none with --fault
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KINDS")]
    faults: Option<Vec<Trouble>>,
    /// What goes wrong in each run, by name, such as 'image of step 2 never starts'; can be given several times
    #[arg(long, value_name = "NAME")]
    fault: Vec<String>,
    /// End with 1 when less than so much of a hundred runs does all that was asked for: for CI
    #[arg(long, value_parser = percent, value_name = "PERCENT")]
    fail_below: Option<f64>,
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
        text.parse::<u64>().map_err(|_| {
            format!("{text:?} is not a number: write 200, or 5..25; for seed 17 alone --seed 17")
        })
    };
    let seeds = match text.split_once("..") {
        Some((from, to)) => number(from)?..number(to)?,
        None => 0..number(text)?,
    };
    if seeds.is_empty() {
        return Err("there is no seed in it: write 200, or 5..25; for seed 17 alone --seed 17".to_owned());
    }
    Ok(Seeds(seeds))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    match number {
        Ok(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => Err("write a number from 0 to 100, such as 99".to_owned()),
    }
}

impl SimulateArguments {
    fn kinds(&self) -> Vec<Trouble> {
        match &self.faults {
            Some(kinds) => kinds.clone(),
            None if self.fault.is_empty() => Trouble::USUAL.to_vec(),
            None => Vec::new(),
        }
    }

    fn seeds(&self) -> Range<u64> {
        match (self.seed, &self.seeds) {
            (Some(seed), _) => seed..seed.saturating_add(1),
            (None, Some(Seeds(seeds))) => seeds.clone(),
            (None, None) if self.fault.is_empty() => 0..200,
            (None, None) => 0..1,
        }
    }
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
        Ok(code) => code,
        Err((problem, code)) => {
            complain(&format!("error: {problem}"));
            code
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

/// The exit code: whether every run ended and left nothing behind, and enough of them succeeded.
fn examine(arguments: &SimulateArguments, input: &Input) -> Result<ExitCode, (String, ExitCode)> {
    let here = |problem| (problem, ExitCode::FAILURE);
    let mut simulation = Simulation::new(arguments, input);
    let calm = simulation.learn().map_err(here)?;
    for asked in &arguments.fault {
        let by_name = simulation.extents[0].by_name(asked, &simulation.steps);
        let named = by_name.map_err(|problem| (problem, ExitCode::from(BAD_INPUT)))?;
        simulation.named.extend(named);
    }
    let own = [
        installation::CONTROLLER_NAMESPACE,
        simulation.scenario.options.executor_namespace.as_str(),
    ];
    let of_calm = behind::Calm::of(&calm, &own);
    let light = simulation.light(&own, Some(&of_calm));
    let told = report::Calm {
        verdict: Verdict::of(&calm, &Drawn::default(), &light),
        told: report::verdicts(&simulation, &calm),
        longest: report::longest_path(&simulation, &calm),
    };
    let seeds = arguments.seeds();
    let stopped = on_interrupt();
    let ran = simulation.run_all(&seeds, &light, &stopped);
    let report = report::Report {
        simulation: &simulation,
        light: &light,
        input,
        calm: &told,
        ran: &ran,
        asked: usize::try_from(seeds.end - seeds.start).unwrap_or(usize::MAX),
    };
    let text = match arguments.output {
        Output::Text => report.text(),
        Output::Json => {
            // Standard output is the object alone.
            input.notes.iter().for_each(|note| complain(note));
            report.json().map_err(here)?
        }
    };
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        // A reader that went away (`| head`) is no reason to fail; a full disk is.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(here(format!("the result can't be written: {error}")));
        }
        _ => {}
    }
    if stopped.load(Ordering::Relaxed) {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let well = ran.values().all(|ran| ran.as_ref().is_ok_and(Verdict::is_well));
    Ok(if well && enough(arguments.fail_below, &ran) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether as many runs succeeded as were asked for; else it is told.
fn enough(fail_below: Option<f64>, ran: &BTreeMap<u64, Ran>) -> bool {
    let Some(wanted) = fail_below else { return true };
    let succeeded = ran
        .values()
        .filter(|ran| ran.as_ref().is_ok_and(Verdict::is_success))
        .count();
    #[expect(clippy::cast_precision_loss, reason = "far fewer runs than a float can count")]
    let share = 100.0 * succeeded as f64 / ran.len().max(1) as f64;
    if share < wanted {
        complain(&format!(
            "error: {succeeded} of {} runs succeeded ({share:.1}%), fewer than --fail-below={wanted}",
            ran.len()
        ));
    }
    share >= wanted
}

/// Becomes true at the first Ctrl-C; at the second one the program ends.
fn on_interrupt() -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stopped);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                told.store(true, Ordering::Relaxed);
                complain("Stopped: the runs under way are finished, then what was run is told.");
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(i32::from(INTERRUPTED));
            }
        });
    });
    stopped
}

/// What all runs have in common.
struct Simulation<'a> {
    arguments: &'a SimulateArguments,
    scenario: Scenario,
    steps: Vec<Step>,
    kinds: Vec<Trouble>,
    /// What there is to meet, for each time that pods may take.
    extents: Vec<Extent>,
    /// What goes wrong in each run.
    named: Vec<StepFault>,
}

impl<'a> Simulation<'a> {
    fn new(arguments: &'a SimulateArguments, input: &Input) -> Self {
        let runs: Vec<serde_json::Value> = input.runs().iter().map(super::input::Manifest::stored).collect();
        Self {
            arguments,
            steps: Step::all(&runs),
            kinds: arguments.kinds(),
            extents: Vec::new(),
            named: Vec::new(),
            scenario: Scenario {
                installed: input.installed.clone(),
                world: input.world(),
                runs,
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

    /// Runs it without faults, to know what there is to meet; what came of the usual one.
    fn learn(&mut self) -> Result<Outcome, String> {
        let mut usual = None;
        for time in POD_TIMES {
            let outcome = self.run_with(0, &Drawn::default(), time)?;
            self.extents.push(Extent::of(&outcome, &self.steps));
            if time == POD_TIMES[1] {
                usual = Some(outcome);
            }
        }
        usual.ok_or_else(|| "there is no run without faults".to_owned())
    }

    fn light<'b>(&'b self, own: &'b [&'b str], calm: Option<&'b behind::Calm<'b>>) -> Light<'b> {
        Light {
            runs: &self.scenario.runs,
            steps: &self.steps,
            executor: &self.scenario.options.executor_namespace,
            own,
            calm,
        }
    }

    /// What goes wrong with this seed, and how long pods of Jobs take.
    fn draw(&self, seed: u64) -> (Drawn, Duration) {
        let time = SeededRng::new(seed ^ u64::MAX).below(POD_TIMES.len() as u64);
        let index = usize::try_from(time).unwrap_or(0);
        let mut drawn = self.extents[index].draw(&self.kinds, self.arguments.most, &mut SeededRng::new(seed));
        let named = self
            .named
            .iter()
            .map(|fault| (draw::kind_of(fault), fault.clone()));
        drawn.steps.extend(named);
        (drawn, POD_TIMES[index])
    }

    fn run(&self, seed: u64) -> Result<(Outcome, Drawn), String> {
        let (drawn, time) = self.draw(seed);
        Ok((self.run_with(seed, &drawn, time)?, drawn))
    }

    fn run_with(&self, seed: u64, drawn: &Drawn, pod_run_time: Duration) -> Result<Outcome, String> {
        let scenario = Scenario {
            plan: drawn.planned.iter().map(|(_, planned)| planned.clone()).collect(),
            pod_run_time,
            seed,
            ..self.scenario.clone()
        };
        let faults: Vec<StepFault> = drawn.steps.iter().map(|(_, fault)| fault.clone()).collect();
        match catch_unwind(|| simulate_with(&scenario, &faults)) {
            Ok(outcome) => outcome,
            Err(_) => Err("it panicked: this is a defect of kubernaut".to_owned()),
        }
    }

    /// All runs, on all cores, by their seeds.
    fn run_all(&self, seeds: &Range<u64>, light: &Light<'_>, stopped: &AtomicBool) -> BTreeMap<u64, Ran> {
        let next = AtomicU64::new(seeds.start);
        let all = Mutex::new(BTreeMap::new());
        let progress = Progress::new(seeds.end - seeds.start);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end || stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        let ran = self
                            .run(seed)
                            .map(|(outcome, drawn)| Verdict::of(&outcome, &drawn, light));
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
    fn a_share_is_a_number_with_or_without_its_sign() {
        assert_eq!(percent("99"), Ok(99.0));
        assert_eq!(percent("99.5%"), Ok(99.5));
        for wrong in ["", "101", "-1", "NaN", "all"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seeds_are_a_number_or_a_range() {
        assert_eq!(seeds("3").unwrap().0, 0..3);
        assert_eq!(seeds("17..18").unwrap().0, 17..18);
        for wrong in ["", "0", "5..5", "7..3", "x", "1..x", "-1"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }
}
