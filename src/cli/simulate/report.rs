//! What a simulation tells: the ends of all runs, alike ones together, each with an example that can be repeated.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::verdict::{End, Verdict, find, text as word};
use super::{Calm, Ran, Simulation};
use crate::cli::input::Input;
use crate::cli::run::{changes, report};
use crate::manifests as installation;
use crate::simulation::{FaultKind, Outcome, Planned};

/// Most different ends that are told in words.
const MOST_TOLD: usize = 12;
/// Most seeds that are listed of one end.
const MOST_SEEDS: usize = 10;

/// Runs that ended alike.
type Groups<'a> = Vec<(&'a [End], Vec<u64>)>;

fn groups(ran: &BTreeMap<u64, Ran>) -> Groups<'_> {
    let mut groups: BTreeMap<&[End], Vec<u64>> = BTreeMap::new();
    for (seed, ran) in ran {
        if let Ok(verdict) = ran {
            groups.entry(&verdict.ends).or_default().push(*seed);
        }
    }
    let mut groups: Groups<'_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, seeds)| std::cmp::Reverse(seeds.len()));
    groups
}

/// In words.
pub(super) fn text(
    simulation: &Simulation<'_>,
    input: &Input,
    calm: &Calm,
    ran: &BTreeMap<u64, Ran>,
) -> String {
    let mut out = String::new();
    for note in &input.notes {
        let _ = writeln!(out, "{note}");
    }
    let Calm { verdict: calm, told } = calm;
    let _ = writeln!(
        out,
        "When nothing goes wrong, {}: {}",
        taken(calm),
        ends(&calm.ends)
    );
    if !calm.ends.iter().all(End::is_success) {
        // Before anything goes wrong.
        out.push_str(&indented(told, 2));
    }
    if let Some((seed, only)) = ran.iter().next().filter(|_| ran.len() == 1) {
        out.push_str(&story(simulation, *seed, only));
        return out;
    }
    let _ = writeln!(
        out,
        "{} runs, in each up to {} things that go wrong ({}):\n",
        ran.len(),
        simulation.arguments.most,
        kinds(&simulation.arguments.faults).join(", ")
    );
    let groups = groups(ran);
    for (ended, seeds) in groups.iter().take(MOST_TOLD) {
        let _ = writeln!(out, "{:>6} {}", seeds.len(), ends(ended));
        if *ended != calm.ends
            && let Some(seed) = seeds.first()
        {
            out.push_str(&example(simulation, *seed));
        }
    }
    if groups.len() > MOST_TOLD {
        let _ = writeln!(
            out,
            "       and {} rarer ones: --output json has them all",
            groups.len() - MOST_TOLD
        );
    }
    out.push('\n');
    out.push_str(&conclusion(ran));
    out
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
        let waits = |ran: &&Ran| ran.as_ref().is_ok_and(|verdict| verdict.took.is_none());
        let waiting = ran.values().filter(waits).count();
        out.push_str("Every run ended, and left no Job, payload or hanging object of kubernaut's behind.\n");
        if waiting > 0 {
            let _ = writeln!(
                out,
                "In {waiting} of them something waits for what somebody has to do, and its message says for what."
            );
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
        let _ = writeln!(out, "  seed {seed}: {problem}");
    }
    out
}

/// One run of a kind, with what went wrong in it, and what to do.
fn example(simulation: &Simulation<'_>, seed: u64) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "         for example with --seeds {seed}..{}:", seed + 1);
    for planned in simulation.plan(seed) {
        let _ = writeln!(out, "         - {planned}");
    }
    if let Ok(outcome) = simulation.run(seed) {
        out.push_str(&indented(&verdicts(simulation, &outcome), 11));
    }
    out
}

fn indented(text: &str, spaces: usize) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{:spaces$}{line}", "");
        out
    })
}

/// One run, as it went.
fn story(simulation: &Simulation<'_>, seed: u64, ran: &Ran) -> String {
    let mut out = format!("\nSeed {seed}. What goes wrong:\n");
    let plan = simulation.plan(seed);
    for planned in &plan {
        let _ = writeln!(out, "- {planned}");
    }
    if plan.is_empty() {
        out.push_str("- nothing\n");
    }
    let outcome = match ran.clone().and_then(|_| simulation.run(seed)) {
        Ok(outcome) => outcome,
        Err(problem) => {
            let _ = writeln!(out, "\nseed {seed}: {problem}");
            return out;
        }
    };
    out.push('\n');
    out.push_str(&timeline(&outcome));
    let own = [
        installation::CONTROLLER_NAMESPACE,
        &simulation.executor_namespace(),
    ];
    let changed = changes::changes(&plain(&outcome.before), &plain(&outcome.objects), &own);
    if changed.is_empty() {
        out.push_str("\nNothing in the world has changed.\n\n");
    } else {
        let _ = writeln!(out, "\nWhat changed:\n{changed}");
    }
    out.push_str(&verdicts(simulation, &outcome));
    out.push('\n');
    out.push_str(&conclusion(&BTreeMap::from([(seed, ran.clone())])));
    out
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
    let objects = plain(&outcome.objects);
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

fn plain(objects: &[Arc<Value>]) -> Vec<Value> {
    objects.iter().map(|object| Value::clone(object)).collect()
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

fn kinds(kinds: &[FaultKind]) -> Vec<String> {
    use clap::ValueEnum as _;
    kinds
        .iter()
        .filter_map(FaultKind::to_possible_value)
        .map(|value| value.get_name().to_owned())
        .collect()
}

/// For programs.
pub(super) fn json(
    simulation: &Simulation<'_>,
    calm: &Calm,
    ran: &BTreeMap<u64, Ran>,
) -> Result<String, String> {
    let calm = &calm.verdict;
    let outcomes: Vec<Value> = groups(ran)
        .iter()
        .map(|(ends, seeds)| {
            let plan = seeds.first().map(|seed| simulation.plan(*seed)).unwrap_or_default();
            let plan: Vec<String> = plan.iter().map(Planned::to_string).collect();
            json!({"runs": seeds.len(), "ends": ends, "seeds": seeds.iter().take(MOST_SEEDS).collect::<Vec<_>>(),
                   "wrongInFirst": plan})
        })
        .collect();
    let bad: Vec<Value> = ran
        .iter()
        .filter_map(|(seed, ran)| match ran {
            Err(problem) => Some(json!({"seed": seed, "problem": problem})),
            Ok(verdict) if verdict.is_well() => None,
            Ok(verdict) => Some(json!({"seed": seed, "ends": verdict.ends, "leftBehind": verdict.left})),
        })
        .collect();
    let report = json!({
        "runs": ran.len(),
        "faults": kinds(&simulation.arguments.faults),
        "most": simulation.arguments.most,
        "withoutFaults": {"seconds": calm.took.map(|took| took.as_secs_f64()), "ends": calm.ends},
        "outcomes": outcomes,
        "notWell": bad,
    });
    serde_json::to_string_pretty(&report).map_err(|error| error.to_string())
}
