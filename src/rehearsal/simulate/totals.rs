//! What all runs together say: which faults did harm, how each step fared, how long it took, what is left behind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::draw::Trouble;
use super::verdict::{StepRun, Verdict};
use super::words::{any_of, seconds};
use crate::rehearsal::simulation::Step;

/// Most seeds that are named of one finding.
const SEEDS_MAX: usize = 3;

/// Some runs by seed, and how each ended.
type Runs<'a> = Vec<(u64, &'a Verdict)>;

/// The runs that were judged, by their seeds.
pub(super) struct Totals<'a> {
    steps: &'a [Step],
    ran: Vec<(u64, &'a Verdict)>,
}

/// How often what ended how.
#[derive(Default)]
struct Ends {
    runs: usize,
    success: usize,
    partly: usize,
    failed: usize,
    other: usize,
}

/// How one step fared in all runs.
#[derive(Default)]
struct Fared {
    failed: Vec<u64>,
    skipped: usize,
    retried: usize,
    took: Vec<Duration>,
}

impl<'a> Totals<'a> {
    pub(super) fn of(steps: &'a [Step], ran: Vec<(u64, &'a Verdict)>) -> Self {
        Self { steps, ran }
    }

    /// In how many runs something did go wrong.
    pub(super) fn met(&self) -> usize {
        self.ran
            .iter()
            .filter(|(_, verdict)| !verdict.wrong.is_empty())
            .count()
    }

    /// How many did all that was asked for.
    pub(super) fn succeeded(&self) -> usize {
        self.ran
            .iter()
            .filter(|(_, verdict)| verdict.is_success())
            .count()
    }

    fn by_fault(&self) -> BTreeMap<Trouble, Ends> {
        let mut table: BTreeMap<Trouble, Ends> = BTreeMap::new();
        for (_, verdict) in &self.ran {
            let mut kinds: Vec<Trouble> = verdict.wrong.iter().map(|(kind, _)| *kind).collect();
            kinds.sort_unstable();
            kinds.dedup();
            for kind in kinds {
                let ends = table.entry(kind).or_default();
                ends.runs += 1;
                let any = |phase: &str| verdict.ends.iter().any(|end| end.phase == phase);
                if verdict.is_success() {
                    ends.success += 1;
                } else if any("failed") {
                    ends.failed += 1;
                } else if verdict.ends.iter().any(|end| end.outcome == "partial_success") {
                    ends.partly += 1;
                } else {
                    ends.other += 1;
                }
            }
        }
        table
    }

    fn fared(&self, index: usize) -> Fared {
        let mut fared = Fared::default();
        for (seed, verdict) in &self.ran {
            let Some(Some(step)) = verdict.steps.get(index) else {
                continue;
            };
            match step.state.as_str() {
                "failed" => fared.failed.push(*seed),
                "skipped" => fared.skipped += 1,
                _ => {}
            }
            fared.retried += usize::from(step.retries > 0);
            fared.took.extend(step.took);
        }
        fared.took.sort_unstable();
        fared
    }

    /// Sorted; of runs that ended.
    fn lasted(&self) -> Vec<Duration> {
        let mut lasted: Vec<Duration> = self
            .ran
            .iter()
            .filter_map(|(_, verdict)| verdict.lasted)
            .collect();
        lasted.sort_unstable();
        lasted
    }

    /// The runs that leave something behind, by what it is.
    fn behind(&self) -> Vec<(&str, Option<usize>, Runs<'_>)> {
        let mut all: BTreeMap<(&str, Option<usize>), Runs<'_>> = BTreeMap::new();
        for (seed, verdict) in &self.ran {
            for behind in &verdict.behind {
                let runs = all.entry((&behind.what, behind.last_step)).or_default();
                runs.push((*seed, verdict));
            }
        }
        let mut all: Vec<_> = all
            .into_iter()
            .map(|((what, step), runs)| (what, step, runs))
            .collect();
        all.sort_by_key(|(_, _, runs)| std::cmp::Reverse(runs.len()));
        all
    }

    /// In words, for a person.
    pub(super) fn text(&self, longest: &str) -> String {
        let mut out = String::new();
        out.push_str(&self.faults_text());
        out.push_str(&self.steps_text());
        out.push_str(&self.time_text(longest));
        out.push_str(&self.behind_text());
        out
    }

    fn faults_text(&self) -> String {
        let table = self.by_fault();
        let mut out = String::new();
        if table.is_empty() {
            return out;
        }
        let _ = writeln!(
            out,
            "\nWhat took effect, and how these runs ended (a run with several counts in each):\n  {:<12} {:>6} {:>9} {:>9} {:>8} {:>8}",
            "fault", "runs", "success", "in part", "failed", "other"
        );
        for (kind, ends) in table {
            let _ = writeln!(
                out,
                "  {:<12} {:>6} {:>9} {:>9} {:>8} {:>8}",
                kind.name(),
                ends.runs,
                ends.success,
                ends.partly,
                ends.failed,
                ends.other
            );
        }
        out
    }

    fn steps_text(&self) -> String {
        let width = self
            .steps
            .iter()
            .map(|step| label(step).len())
            .max()
            .unwrap_or(0)
            .max(4);
        let mut out = format!(
            "\n  {:<width$} {:>7} {:>8} {:>8} {:>10} {:>14} {:>9}\n",
            "step", "failed", "skipped", "retried", "median", "longest", "timeout"
        );
        let mut worst: Option<(usize, usize)> = None;
        for (index, step) in self.steps.iter().enumerate() {
            let fared = self.fared(index);
            let time = |time: Option<&Duration>| time.map_or_else(|| "-".to_owned(), |time| seconds(*time));
            let timeout = if step.timeout.is_empty() {
                "5m"
            } else {
                &step.timeout
            };
            let _ = writeln!(
                out,
                "  {:<width$} {:>7} {:>8} {:>8} {:>10} {:>14} {:>9}",
                label(step),
                fared.failed.len(),
                fared.skipped,
                fared.retried,
                time(share(&fared.took, 50)),
                time(fared.took.last()),
                timeout
            );
            if fared.failed.len() > worst.map_or(0, |(_, failed)| failed) {
                worst = Some((index, fared.failed.len()));
            }
        }
        if let Some((index, failed)) = worst {
            let _ = writeln!(
                out,
                "Most fragile: {}, which failed in {failed} of {} runs.",
                self.steps[index].words(),
                self.ran.len()
            );
        }
        out
    }

    fn time_text(&self, longest: &str) -> String {
        let lasted = self.lasted();
        let (Some(half), Some(most), Some(last)) = (share(&lasted, 50), share(&lasted, 95), lasted.last())
        else {
            return String::new();
        };
        let timeouts = if longest.is_empty() {
            String::new()
        } else {
            format!("; the timeouts of the longest path are {longest} together")
        };
        format!(
            "\nHow long it takes: half of the runs {}, 95 of 100 at most {}, the longest {}{timeouts}.\n",
            seconds(*half),
            seconds(*most),
            seconds(*last)
        )
    }

    fn behind_text(&self) -> String {
        let behind = self.behind();
        if behind.is_empty() {
            return "\nNothing is left behind in the cluster but what the workflow wants or what was there before.\n"
                .to_owned();
        }
        let mut out = "\nLeft behind in the cluster:\n".to_owned();
        for (what, last_step, runs) in behind {
            let _ = writeln!(
                out,
                "- in {} of {} runs {what}{} (--seed {})",
                runs.len(),
                self.ran.len(),
                self.why(last_step, &runs),
                seeds(&runs)
            );
        }
        out
    }

    /// Why something is left, where the last step that acts on it did not complete.
    fn why(&self, last_step: Option<usize>, runs: &[(u64, &Verdict)]) -> String {
        let state_of = |verdict: &Verdict, index: usize| -> String {
            let step: Option<&StepRun> = verdict.steps.get(index).and_then(Option::as_ref);
            step.map(|step| step.state.clone()).unwrap_or_default()
        };
        let failed_in = |runs: &[&(u64, &Verdict)]| -> Vec<String> {
            let failed = self.steps.iter().enumerate().filter(|(index, _)| {
                runs.iter()
                    .any(|(_, verdict)| state_of(verdict, *index) == "failed")
            });
            failed.map(|(_, step)| step.words()).collect()
        };
        let Some(last) = last_step else {
            let failed = failed_in(&runs.iter().collect::<Vec<_>>());
            return if failed.is_empty() {
                String::new()
            } else {
                format!(" when {} fails", any_of(&failed))
            };
        };
        let words = self.steps[last].words();
        let in_state = |state: &str| -> Vec<&(u64, &Verdict)> {
            runs.iter()
                .filter(|(_, verdict)| state_of(verdict, last) == state)
                .collect()
        };
        let (skipped, failed, gone) = (in_state("skipped"), in_state("failed"), in_state(""));
        let share = |part: &[&(u64, &Verdict)]| {
            if part.len() == runs.len() {
                String::new()
            } else {
                format!("in {} ", part.len())
            }
        };
        let mut reasons = Vec::new();
        if !skipped.is_empty() {
            let failed = any_of(&failed_in(&skipped));
            reasons.push(format!(
                "{}{words} is skipped, because {failed} fails",
                share(&skipped)
            ));
        }
        if !failed.is_empty() {
            reasons.push(format!("{}{words} fails itself", share(&failed)));
        }
        if !gone.is_empty() {
            reasons.push(format!("{}somebody deletes the workflow", share(&gone)));
        }
        if reasons.is_empty() {
            String::new()
        } else {
            format!(": {}", reasons.join(", "))
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let milliseconds = |time: Option<&Duration>| time.map(Duration::as_secs_f64);
        let lasted = self.lasted();
        let steps: Vec<Value> = self
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| {
                let fared = self.fared(index);
                json!({"run": step.run, "number": step.number, "name": step.name, "action": step.action,
                       "failed": fared.failed.len(), "failedSeeds": fared.failed, "skipped": fared.skipped,
                       "retried": fared.retried, "medianSeconds": milliseconds(share(&fared.took, 50)),
                       "longestSeconds": milliseconds(fared.took.last())})
            })
            .collect();
        let behind: Vec<Value> = self
            .behind()
            .iter()
            .map(|(what, last_step, runs)| {
                let seeds: Vec<u64> = runs.iter().map(|(seed, _)| *seed).collect();
                json!({"what": what, "runs": runs.len(), "seeds": seeds,
                       "lastStep": last_step.map(|index| self.steps[index].words())})
            })
            .collect();
        let faults: serde_json::Map<String, Value> = self
            .by_fault()
            .into_iter()
            .map(|(kind, ends)| {
                (
                    kind.name(),
                    json!({"runs": ends.runs, "success": ends.success, "partialSuccess": ends.partly,
                           "failed": ends.failed, "other": ends.other}),
                )
            })
            .collect();
        let waiting: Vec<Value> = self
            .ran
            .iter()
            .flat_map(|(seed, verdict)| {
                verdict
                    .waiting
                    .iter()
                    .map(move |message| json!({"seed": seed, "message": message}))
            })
            .collect();
        json!({"tookEffect": self.met(), "succeeded": self.succeeded(), "byFault": faults, "steps": steps,
               "seconds": {"median": milliseconds(share(&lasted, 50)), "p95": milliseconds(share(&lasted, 95)),
                           "longest": milliseconds(lasted.last())},
               "leftBehind": behind, "waiting": waiting})
    }
}

fn label(step: &Step) -> String {
    match step.number {
        0 => step.name.clone(),
        number => format!("{number} {}", step.name),
    }
}

fn seeds(runs: &[(u64, &Verdict)]) -> String {
    let seeds: Vec<String> = runs
        .iter()
        .take(SEEDS_MAX)
        .map(|(seed, _)| seed.to_string())
        .collect();
    any_of(&seeds)
}

/// What so many of a hundred do not exceed, of sorted times.
fn share(sorted: &[Duration], percent: usize) -> Option<&Duration> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1).min(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_runs_and_95_of_100_are_within_their_shares() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_secs).collect();
        assert_eq!(share(&times, 50), Some(&Duration::from_secs(50)));
        assert_eq!(share(&times, 95), Some(&Duration::from_secs(95)));
        assert_eq!(share(&times[..1], 95), Some(&Duration::from_secs(1)));
        assert_eq!(share(&[], 50), None);
    }
}
