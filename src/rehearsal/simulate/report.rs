//! What a simulation tells: the ends of all runs, alike ones together, each with an example that can be repeated.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::draw::Drawn;
use super::totals::Totals;
use super::verdict::{End, Light, Verdict, find, text as word};
use super::{Ran, Simulation, words};
use crate::rehearsal::input::Input;
use crate::rehearsal::rehearse::advice::Objects;
use crate::rehearsal::rehearse::{changes, report};
use crate::rehearsal::simulation::Outcome;

/// The first and the last line.
const SIMULATION: &str = "Simulation only: all of this happens inside this process. No cluster was changed.";

/// Most different ends that are told in words.
const MOST_TOLD: usize = 12;
/// Most seeds that are listed of one end.
const MOST_SEEDS: usize = 10;

/// Runs that ended alike.
type Groups<'a> = Vec<(&'a [End], Vec<u64>)>;

/// The run in which nothing goes wrong.
pub(super) struct Calm {
    pub(super) verdict: Verdict,
    /// How each workflow ended, with what to do.
    pub(super) told: String,
    /// The timeouts along the longest path, where there is one workflow.
    pub(super) longest: String,
}

/// What a report is made of.
pub(super) struct Report<'a> {
    pub(super) simulation: &'a Simulation<'a>,
    pub(super) light: &'a Light<'a>,
    pub(super) input: &'a Input,
    pub(super) calm: &'a Calm,
    pub(super) ran: &'a BTreeMap<u64, Ran>,
    /// How many runs were asked for.
    pub(super) asked: usize,
}

impl Report<'_> {
    fn totals(&self) -> Totals<'_> {
        let judged = |(seed, ran): (&u64, &'_ Ran)| -> Option<u64> { ran.is_ok().then_some(*seed) };
        let seeds: Vec<u64> = self.ran.iter().filter_map(judged).collect();
        let verdicts = seeds
            .into_iter()
            .filter_map(|seed| Some((seed, self.ran.get(&seed)?.as_ref().ok()?)))
            .collect();
        Totals::of(&self.simulation.steps, verdicts)
    }

    fn groups(&self) -> Groups<'_> {
        let mut groups: BTreeMap<&[End], Vec<u64>> = BTreeMap::new();
        for (seed, ran) in self.ran {
            if let Ok(verdict) = ran {
                groups.entry(&verdict.ends).or_default().push(*seed);
            }
        }
        let mut groups: Groups<'_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, seeds)| std::cmp::Reverse(seeds.len()));
        groups
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{SIMULATION}\n");
        for note in &self.input.notes {
            let _ = writeln!(out, "{note}");
        }
        let calm = &self.calm.verdict;
        let _ = writeln!(out, "Without faults, {}: {}", taken(calm), ends(&calm.ends));
        if !calm.ends.iter().all(End::is_success) {
            // Before anything goes wrong.
            out.push_str(&indented(&self.calm.told, 2));
        }
        if let Some((seed, only)) = self.ran.iter().next().filter(|_| self.asked == 1) {
            out.push_str(&self.story(*seed, only));
        } else {
            out.push_str(&self.all());
        }
        let _ = writeln!(out, "\n{SIMULATION}");
        out
    }

    fn all(&self) -> String {
        let mut out = String::new();
        let totals = self.totals();
        let most = self.simulation.arguments.most;
        if self.ran.len() < self.asked {
            let _ = writeln!(out, "Stopped after {} of {} runs.", self.ran.len(), self.asked);
        }
        let faults = if self.simulation.kinds.is_empty() {
            "with the faults that were named".to_owned()
        } else {
            format!("with 0-{most} faults each")
        };
        let _ = writeln!(
            out,
            "{} runs {faults}; in {} of them a fault took effect. {} of {} succeeded.",
            self.ran.len(),
            totals.met(),
            totals.succeeded(),
            self.ran.len()
        );
        let possible = self.simulation.extents[0].possible(&self.simulation.kinds);
        let idle: Vec<String> = self
            .simulation
            .kinds
            .iter()
            .filter(|kind| !possible.contains(kind))
            .map(|kind| kind.name())
            .collect();
        if !idle.is_empty() {
            let _ = writeln!(
                out,
                "Not drawn, since nothing here could meet them: {}.",
                idle.join(", ")
            );
        }
        out.push('\n');
        let groups = self.groups();
        for (ended, seeds) in groups.iter().take(MOST_TOLD) {
            let _ = writeln!(out, "{:>6} {}", seeds.len(), ends(ended));
            if *ended != self.calm.verdict.ends
                && let Some(seed) = seeds.first()
            {
                out.push_str(&self.example(*seed));
            }
        }
        if groups.len() > MOST_TOLD {
            let _ = writeln!(
                out,
                "       and {} rarer ones: --output json has them all",
                groups.len() - MOST_TOLD
            );
        }
        out.push_str(&totals.text(&self.calm.longest));
        out.push('\n');
        out.push_str(&conclusion(self.ran));
        out
    }

    /// One run of a kind, with what went wrong in it, and what to do.
    fn example(&self, seed: u64) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "         for example with --seed {seed}:");
        if let Ok((outcome, drawn)) = self.simulation.run(seed) {
            for line in self.wrong(&outcome, &drawn) {
                let _ = writeln!(out, "         - {line}");
            }
            out.push_str(&indented(&verdicts(self.simulation, &outcome), 11));
        }
        out
    }

    fn wrong(&self, outcome: &Outcome, drawn: &Drawn) -> Vec<String> {
        let happened = outcome.happened.iter();
        happened
            .map(|one| words::happened(drawn, one, self.light.steps).1)
            .collect()
    }

    /// One run, as it went.
    fn story(&self, seed: u64, ran: &Ran) -> String {
        let mut out = format!("\nSeed {seed}. What went wrong:\n");
        let (outcome, drawn) = match ran.clone().and_then(|_| self.simulation.run(seed)) {
            Ok(ran) => ran,
            Err(problem) => {
                let _ = writeln!(out, "\nseed {seed}: {problem}");
                return out;
            }
        };
        let wrong = self.wrong(&outcome, &drawn);
        for line in &wrong {
            let _ = writeln!(out, "- {line}");
        }
        if wrong.is_empty() {
            out.push_str("- nothing\n");
        }
        let of_plan = drawn.planned.len() + drawn.steps.len();
        if wrong.len() < of_plan {
            let _ = writeln!(
                out,
                "({} more had been drawn, and met nothing: the run went another way.)",
                of_plan - wrong.len()
            );
        }
        out.push('\n');
        out.push_str(&timeline(&outcome));
        let changed = changes::changes(&outcome.before, &outcome.objects, self.light.own);
        if changed.is_empty() {
            out.push_str("\nNothing in the world has changed.\n\n");
        } else {
            let _ = writeln!(
                out,
                "\nWhat changed:\n{}",
                changes::coloured(&crate::rehearsal::input::printable(&changed), 0)
            );
        }
        out.push_str(&verdicts(self.simulation, &outcome));
        if let Ok(verdict) = ran {
            for behind in &verdict.behind {
                let _ = writeln!(out, "  left behind: {}", behind.what);
            }
        }
        out.push('\n');
        out.push_str(&conclusion(&BTreeMap::from([(seed, ran.clone())])));
        out
    }

    /// For programs.
    pub(super) fn json(&self) -> Result<String, String> {
        let calm = &self.calm.verdict;
        let wrong_of = |seed: &u64| -> Vec<&str> {
            let verdict = self.ran.get(seed).and_then(|ran| ran.as_ref().ok());
            let wrong = verdict.into_iter().flat_map(|verdict| &verdict.wrong);
            wrong.map(|(_, words)| words.as_str()).collect()
        };
        let outcomes: Vec<Value> = self
            .groups()
            .iter()
            .map(|(ends, seeds)| {
                json!({"runs": seeds.len(), "ends": ends, "seeds": seeds,
                       "wrongInFirst": seeds.first().map(wrong_of).unwrap_or_default()})
            })
            .collect();
        let bad: Vec<Value> = self
            .ran
            .iter()
            .filter_map(|(seed, ran)| match ran {
                Err(problem) => Some(json!({"seed": seed, "problem": problem})),
                Ok(verdict) if verdict.is_well() => None,
                Ok(verdict) => Some(json!({"seed": seed, "ends": verdict.ends, "leftBehind": verdict.left})),
            })
            .collect();
        let each: Vec<Value> = self
            .ran
            .iter()
            .filter_map(|(seed, ran)| Some((seed, ran.as_ref().ok()?)))
            .map(|(seed, verdict)| {
                let behind: Vec<&str> = verdict.behind.iter().map(|behind| behind.what.as_str()).collect();
                json!({"seed": seed, "wentWrong": wrong_of(seed), "success": verdict.is_success(),
                       "seconds": verdict.lasted.map(|lasted| lasted.as_secs_f64()), "leftBehind": behind})
            })
            .collect();
        let mut report = json!({
            "simulation": SIMULATION,
            "runs": self.ran.len(),
            "asked": self.asked,
            "faults": self.simulation.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "named": self.simulation.arguments.fault,
            "most": self.simulation.arguments.most,
            "withoutFaults": {"seconds": calm.took.map(|took| took.as_secs_f64()), "ends": calm.ends},
            "outcomes": outcomes,
            "notWell": bad,
            "each": each,
        });
        if let (Some(report), Value::Object(totals)) = (report.as_object_mut(), self.totals().json()) {
            report.extend(totals);
        }
        serde_json::to_string_pretty(&report).map_err(|error| error.to_string())
    }
}

/// Whether all ended, and whether anything is left, in words that name what to do.
fn conclusion(ran: &BTreeMap<u64, Ran>) -> String {
    let mut out = String::new();
    let bad: Vec<(u64, String)> = ran
        .iter()
        .filter_map(|(seed, ran)| match ran {
            Err(problem) => Some((*seed, problem.clone())),
            Ok(verdict) if !verdict.left.is_empty() => {
                Some((*seed, format!("left behind: {}", verdict.left.join(", "))))
            }
            Ok(verdict) if !verdict.is_well() => {
                Some((*seed, format!("never ended: {}", ends(&verdict.ends))))
            }
            Ok(_) => None,
        })
        .collect();
    if bad.is_empty() {
        out.push_str("Every run ended, and left no Job, payload or hanging object of kubernaut's behind.\n");
        let waiting: Vec<(u64, &String)> = ran
            .iter()
            .filter_map(|(seed, ran)| Some((*seed, ran.as_ref().ok()?)))
            .flat_map(|(seed, verdict)| verdict.waiting.iter().map(move |message| (seed, message)))
            .collect();
        if !waiting.is_empty() {
            let _ = writeln!(
                out,
                "In {} of them something waits for what somebody has to do:",
                waiting.len()
            );
        }
        for (seed, message) in waiting.iter().take(MOST_SEEDS) {
            let _ = writeln!(out, "  --seed {seed}: {message}");
        }
        return out;
    }
    let _ = writeln!(
        out,
        "Not well: {} of {} runs. Please report this, with the seeds:",
        bad.len(),
        ran.len()
    );
    for (seed, problem) in bad.iter().take(MOST_SEEDS) {
        let _ = writeln!(out, "  --seed {seed}: {problem}");
    }
    out
}

/// The timeouts along the longest path, as the plan of the only workflow has them.
pub(super) fn longest_path(simulation: &Simulation<'_>, outcome: &Outcome) -> String {
    let [only] = simulation.scenario.runs.as_slice() else {
        return String::new();
    };
    let metadata = &only["metadata"];
    let object = find(
        &outcome.objects,
        word(&only["kind"]),
        word(&metadata["namespace"]),
        word(&metadata["name"]),
    );
    object
        .map(|object| word(&object["status"]["executionPlan"]["estimatedDuration"]).to_owned())
        .unwrap_or_default()
}

fn indented(text: &str, spaces: usize) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{:spaces$}{line}", "");
        out
    })
}

/// The phases of everything that ran, as they were written.
fn timeline(outcome: &Outcome) -> String {
    let mut out = String::new();
    let mut last: BTreeMap<String, (String, String)> = BTreeMap::new();
    for commit in &outcome.record {
        let short = match word(&commit.object["kind"]) {
            "WorkflowExecution" => "workflow",
            "KubernetesExecution" => "execution",
            "Job" if commit.object["metadata"]["labels"]["kubernaut.io/attempt"].is_string() => "job",
            _ => continue,
        };
        let metadata = &commit.object["metadata"];
        let what = format!(
            "{short} {}/{}",
            word(&metadata["namespace"]),
            word(&metadata["name"])
        );
        let status = &commit.object["status"];
        let phase = if commit.deleted {
            "is gone"
        } else if metadata["deletionTimestamp"].is_string() {
            "is being deleted"
        } else if short == "job" {
            "is there"
        } else {
            word(&status["phase"])
        };
        let message = word(&status["message"]).replace('\n', " ");
        let now = (phase.to_owned(), message.clone());
        if phase.is_empty() || last.get(&what) == Some(&now) {
            continue;
        }
        let _ = writeln!(
            out,
            "{:9.3}s  {what}  {phase}  {message}",
            commit.at.as_secs_f64()
        );
        last.insert(what, now);
    }
    out
}

/// What is told of each workflow in the end, with what to do.
pub(super) fn verdicts(simulation: &Simulation<'_>, outcome: &Outcome) -> String {
    let mut out = String::new();
    let objects = Objects::new(&outcome.before, &outcome.objects);
    for run in &simulation.scenario.runs {
        let (kind, metadata) = (word(&run["kind"]), &run["metadata"]);
        let (namespace, name) = (word(&metadata["namespace"]), word(&metadata["name"]));
        let Some(object) = find(&outcome.objects, kind, namespace, name) else {
            let _ = writeln!(out, "{kind} {namespace}/{name}: somebody deleted it");
            continue;
        };
        let verdict = match kind {
            "WorkflowExecution" => serde_json::from_value(object.clone())
                .ok()
                .and_then(|workflow| report::of_workflow(&workflow, &objects)),
            _ => serde_json::from_value(object.clone())
                .ok()
                .and_then(|execution| report::of_execution(&execution, &objects)),
        };
        if let Some(verdict) = verdict {
            out.push_str(verdict.text());
        } else {
            let status = &object["status"];
            let (phase, message) = (word(&status["phase"]), word(&status["message"]));
            let _ = writeln!(out, "{kind} {namespace}/{name}: {phase} {message}");
        }
    }
    out
}

fn ends(ends: &[End]) -> String {
    let ends: Vec<String> = ends
        .iter()
        .map(|end| format!("{}: {}", end.what, end.words()))
        .collect();
    ends.join("; ")
}

fn taken(verdict: &Verdict) -> String {
    match verdict.took {
        Some(took) => format!("within {:.1} s", took.as_secs_f64()),
        None => "without an end".to_owned(),
    }
}
