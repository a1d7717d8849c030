//! What goes wrong in one run, drawn from what the run without faults has: nothing that would meet nothing.

use std::time::Duration;

use clap::ValueEnum;

use super::fits::fits;
use crate::rehearsal::simulation::{
    CONTROLLER, CallFault, CrashPoint, Disturbance, Outcome, PlannedFault, SeededRng, Step, StepFault,
    StepFaultKind,
};

/// A kind of thing that goes wrong, as a person chooses it.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// The API server refuses a call for now, or its answer is lost, before or after the work was done
    Api,
    /// The API server answers late, or calls reach it late
    Slow,
    /// Watches end, lag, or find their history gone
    Watches,
    /// The controller dies at a write and is started again
    Crashes,
    /// A Job's pod fails, hangs, starts never, is evicted, or dies after its work
    Pods,
    /// Somebody deletes workflows, executions, Jobs, pods and Deployments
    Strangers,
    /// The new pods of a step can't pull their image
    Images,
    /// The new pods of a step take long until they are ready, or never are
    Readiness,
    /// A PodDisruptionBudget allows no eviction for a while, or for ever
    Budgets,
    /// The quota of a step's namespace allows no more pods for a while, or for ever
    Namespaces,
    /// A HorizontalPodAutoscaler sets replicas back
    Autoscalers,
    /// The node of a drain is not Ready for a while, or for ever
    Nodes,
    /// An admission webhook refuses a step
    Webhooks,
    /// Somebody else changes a step's Deployment meanwhile
    Changes,
    /// Somebody makes objects of the names that the controller is going to use (only when asked for)
    TakeNameters,
    /// For a while quotas allow no more Jobs, or pods, of the executor (only when asked for)
    Quotas,
    /// The clock of the controller's machine is set forward or back (only when asked for)
    Clocks,
    /// Of two controllers, the one that leads is cut off from the network for a while (only when asked for)
    Failover,
}

impl Trouble {
    /// What happens to people. The others are rare, and asked for by who tests the controller.
    pub(super) const USUAL: [Self; 14] = [
        Self::Api,
        Self::Slow,
        Self::Watches,
        Self::Crashes,
        Self::Pods,
        Self::Strangers,
        Self::Images,
        Self::Readiness,
        Self::Budgets,
        Self::Namespaces,
        Self::Autoscalers,
        Self::Nodes,
        Self::Webhooks,
        Self::Changes,
    ];

    /// As it is chosen.
    pub(super) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// The kind that a fault of a step is of.
    fn of(kind: StepFaultKind) -> Self {
        match kind {
            StepFaultKind::ImageNeverStarts => Self::Images,
            StepFaultKind::ReadinessSlow | StepFaultKind::ReadinessNever => Self::Readiness,
            StepFaultKind::BudgetBlocks => Self::Budgets,
            StepFaultKind::QuotaFull => Self::Namespaces,
            StepFaultKind::HpaTakesBack => Self::Autoscalers,
            StepFaultKind::NodeNotReady => Self::Nodes,
            StepFaultKind::WebhookRefuses => Self::Webhooks,
            StepFaultKind::TargetChanges => Self::Changes,
            StepFaultKind::PodNeverStarts
            | StepFaultKind::PodFails
            | StepFaultKind::PodFailsAfterWork
            | StepFaultKind::JobDisappears
            | StepFaultKind::PodHangs
            | StepFaultKind::PodEvicted
            | StepFaultKind::PodLost => Self::Pods,
        }
    }
}

/// What goes wrong in one run, each with its kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawn {
    /// What meets the controller.
    pub(super) planned: Vec<(Trouble, PlannedFault)>,
    /// What meets steps.
    pub(super) steps: Vec<(Trouble, StepFault)>,
}

/// What there is for faults to meet: taken from the run without any.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    /// Of each call of the controller, whether it is one that is counted as a write.
    calls: Vec<bool>,
    watches: usize,
    took: Duration,
    deployments: bool,
    /// What can take effect on steps.
    fits: Vec<StepFault>,
}

impl Extent {
    /// What this run had.
    pub(super) fn of(outcome: &Outcome, steps: &[Step]) -> Self {
        let of_controller = || {
            let requests = outcome.requests.iter().map(|record| &record.request);
            requests.filter(|request| request.user.name == CONTROLLER)
        };
        let changes = ["create", "update", "patch", "delete"];
        let took = outcome.ended.unwrap_or(Duration::from_secs(60));
        Self {
            calls: of_controller()
                .filter(|request| request.verb != "watch")
                .map(|request| {
                    changes.contains(&request.verb.as_str())
                        && !["events", "subjectaccessreviews"].contains(&request.resource.as_str())
                })
                .collect(),
            watches: of_controller().filter(|request| request.verb == "watch").count(),
            took,
            deployments: outcome.before.iter().any(|object| object["kind"] == "Deployment"),
            fits: steps.iter().flat_map(|step| fits(outcome, step)).collect(),
        }
    }

    /// The kinds of these that can take effect.
    pub(super) fn possible(&self, kinds: &[Trouble]) -> Vec<Trouble> {
        let may = |kind: &&Trouble| match kind {
            Trouble::Api | Trouble::Slow => !self.calls.is_empty(),
            Trouble::Crashes => self.calls.contains(&true),
            Trouble::Watches => self.watches > 0,
            Trouble::Strangers
            | Trouble::TakeNameters
            | Trouble::Quotas
            | Trouble::Clocks
            | Trouble::Failover => true,
            Trouble::Pods
            | Trouble::Images
            | Trouble::Readiness
            | Trouble::Budgets
            | Trouble::Namespaces
            | Trouble::Autoscalers
            | Trouble::Nodes
            | Trouble::Webhooks
            | Trouble::Changes => self.fits.iter().any(|fault| Trouble::of(fault.kind) == **kind),
        };
        kinds.iter().filter(may).copied().collect()
    }

    /// At most so many things of these kinds.
    pub(super) fn draw(&self, kinds: &[Trouble], most: u64, chance: &mut SeededRng) -> Drawn {
        let kinds = self.possible(kinds);
        let mut drawn = Drawn::default();
        if kinds.is_empty() {
            return drawn;
        }
        for _ in 0..chance.below(most + 1) {
            let kind = *chance.pick(&kinds);
            let of_kind: Vec<&StepFault> = self
                .fits
                .iter()
                .filter(|fault| Trouble::of(fault.kind) == kind)
                .collect();
            if of_kind.is_empty() {
                drawn.planned.push((kind, self.plan(kind, chance)));
            } else {
                let fault = *chance.pick(of_kind.as_slice());
                let fault = fault.clone();
                drawn.steps.push((kind, vary(fault, chance)));
            }
        }
        drawn
    }

    fn plan(&self, kind: Trouble, chance: &mut SeededRng) -> PlannedFault {
        let below = |chance: &mut SeededRng, end: usize| {
            usize::try_from(chance.below(u64::try_from(end).unwrap_or(u64::MAX))).unwrap_or(0)
        };
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        let moment = |chance: &mut SeededRng| Duration::from_millis(1 + chance.below(millis));
        match kind {
            Trouble::Api => {
                let number = below(chance, self.calls.len());
                let codes: &[u16] = if self.calls.get(number) == Some(&true) {
                    &[409, 429, 500, 503, 504]
                } else {
                    &[429, 500, 503, 504]
                };
                let fault = match chance.below(4) {
                    0 => CallFault::Refused(*chance.pick(codes)),
                    1 => CallFault::AfterCommit(*chance.pick(&[500, 504])),
                    2 => CallFault::Dropped(false),
                    _ => CallFault::Dropped(true),
                };
                PlannedFault::Call { number, fault }
            }
            Trouble::Slow => {
                let delay = Duration::from_millis(1 + chance.below(40) * chance.below(1000));
                let late = if chance.one_in(2) {
                    CallFault::Late
                } else {
                    CallFault::Underway
                };
                PlannedFault::Call {
                    number: below(chance, self.calls.len()),
                    fault: late(delay),
                }
            }
            Trouble::Watches if chance.one_in(2) => PlannedFault::LaggingWatch {
                number: below(chance, self.watches),
                lag: Duration::from_millis(1 + chance.below(100) * chance.below(100)),
            },
            Trouble::Watches => PlannedFault::CutWatches {
                at: moment(chance),
                compacted: chance.one_in(2),
            },
            Trouble::Crashes => PlannedFault::Crash {
                write: below(chance, self.calls.iter().filter(|write| **write).count()),
                crash_point: *chance.pick(&[CrashPoint::Before, CrashPoint::Committed, CrashPoint::Answered]),
                down: Duration::from_millis(chance.below(200) * chance.below(200)),
            },
            Trouble::TakeNameters => PlannedFault::Stranger {
                at: moment(chance).min(Duration::from_millis(1 + chance.below(1600))),
                disturbance: *chance.pick(&[Disturbance::TakeNameExecution, Disturbance::TakeNameJob]),
                choice: chance.draw(),
            },
            Trouble::Quotas => PlannedFault::Quota {
                at: moment(chance),
                lasts: Duration::from_millis(chance.below(300) * chance.below(300)),
                resource: if chance.one_in(2) {
                    "pods"
                } else {
                    "count/jobs.batch"
                },
            },
            Trouble::Clocks => PlannedFault::ClockJump {
                at: moment(chance),
                by: i64::try_from(1 + chance.below(30) * chance.below(30)).unwrap_or(1)
                    * chance.pick(&[1, -1]),
            },
            Trouble::Failover => PlannedFault::Partition {
                at: moment(chance),
                lasts: Duration::from_millis(chance.below(200) * chance.below(300)),
            },
            // The others are of steps.
            Trouble::Strangers
            | Trouble::Pods
            | Trouble::Images
            | Trouble::Readiness
            | Trouble::Budgets
            | Trouble::Namespaces
            | Trouble::Autoscalers
            | Trouble::Nodes
            | Trouble::Webhooks
            | Trouble::Changes => {
                let mut disturbances = vec![
                    Disturbance::DeleteExecution,
                    Disturbance::DeleteWorkflow,
                    Disturbance::DeleteJob,
                    Disturbance::DeletePod,
                ];
                if self.deployments {
                    disturbances.push(Disturbance::DeleteTarget);
                }
                PlannedFault::Stranger {
                    at: moment(chance),
                    disturbance: *chance.pick(&disturbances),
                    choice: chance.draw(),
                }
            }
        }
    }

    /// The faults of steps that a person names, such as `image of step 2 never starts`.
    ///
    /// # Errors
    /// What is wrong with the name, with the names that there are.
    pub(super) fn by_name(&self, asked: &str, steps: &[Step]) -> Result<Vec<StepFault>, String> {
        let Some((kind, step)) = parse(asked) else {
            return Err(format!(
                "--fault {asked:?}: no fault is called so. There are, with the number or the name of a step:\n{}",
                names("step 1")
            ));
        };
        let meant: Vec<&Step> = steps.iter().filter(|one| is_called(one, step)).collect();
        let Some(first) = meant.first() else {
            let known: Vec<String> = steps.iter().map(Step::words).collect();
            return Err(format!(
                "--fault {asked:?}: no step is called {step:?}; there is {}",
                known.join(", ")
            ));
        };
        let found: Vec<StepFault> = self
            .fits
            .iter()
            .filter(|fault| fault.kind == kind && meant.contains(&&fault.step))
            .map(|fault| StepFault {
                attempts: u64::MAX,
                lasts: (kind == StepFaultKind::ReadinessSlow).then_some(SLOW),
                ..fault.clone()
            })
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let why = kind.unfit(first).unwrap_or("it would meet nothing there");
        let of_step = self.fits.iter().filter(|fault| meant.contains(&&fault.step));
        let others: Vec<String> = of_step
            .map(|fault| fault.kind.name().replace("{}", &format!("step {step}")))
            .collect();
        Err(format!(
            "--fault {asked:?}: this can't happen to {} ({}): {why}. What can: {}",
            first.words(),
            first.action,
            others.join("; ")
        ))
    }
}

/// The kind that a fault is of.
pub(super) fn kind_of(fault: &StepFault) -> Trouble {
    Trouble::of(fault.kind)
}

/// How long pods take when they are slow and nothing else is said.
const SLOW: Duration = Duration::from_mins(5);

/// The names of all faults of steps, a line each.
pub(super) fn names(step: &str) -> String {
    let lines: Vec<String> = StepFaultKind::ALL
        .iter()
        .map(|(_, name)| format!("  {}", name.replace("{}", step)))
        .collect();
    lines.join("\n")
}

/// The kind, and what stands for the step.
fn parse(asked: &str) -> Option<(StepFaultKind, &str)> {
    let asked = asked.trim();
    StepFaultKind::ALL.iter().find_map(|(kind, name)| {
        let (before, after) = name.split_once("{}")?;
        let starts = asked.get(..before.len())?.eq_ignore_ascii_case(before);
        let end = asked.len().checked_sub(after.len())?;
        let ends = asked.get(end..)?.eq_ignore_ascii_case(after);
        let step = asked.get(before.len()..end)?;
        let word = ["step ", "execution "].iter().find(|word| {
            step.get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word))
        })?;
        (starts && ends).then_some((*kind, step.get(word.len()..)?.trim()))
    })
}

fn is_called(step: &Step, asked: &str) -> bool {
    let number = asked.split_whitespace().next().unwrap_or_default();
    asked == step.name || asked == step.words() || number.parse() == Ok(step.number)
}

/// How often, how long.
fn vary(mut fault: StepFault, chance: &mut SeededRng) -> StepFault {
    let minutes = |minutes| Some(Duration::from_mins(minutes));
    match fault.kind {
        StepFaultKind::ReadinessSlow => {
            fault.lasts = Some(Duration::from_secs(10 + chance.below(20) * chance.below(20)));
        }
        StepFaultKind::BudgetBlocks | StepFaultKind::QuotaFull | StepFaultKind::NodeNotReady => {
            fault.lasts = *chance.pick(&[
                Some(Duration::from_secs(20)),
                minutes(1),
                minutes(3),
                minutes(10),
                None,
            ]);
            let evicts = (!fault.evicts.is_empty()).then(|| chance.pick(&fault.evicts).clone());
            fault.evicts = evicts.into_iter().collect();
        }
        StepFaultKind::WebhookRefuses
        | StepFaultKind::PodNeverStarts
        | StepFaultKind::PodFails
        | StepFaultKind::PodFailsAfterWork
        | StepFaultKind::JobDisappears
        | StepFaultKind::PodHangs
        | StepFaultKind::PodEvicted
        | StepFaultKind::PodLost => fault.attempts = *chance.pick(&[1, 1, 2, u64::MAX]),
        StepFaultKind::ImageNeverStarts
        | StepFaultKind::ReadinessNever
        | StepFaultKind::HpaTakesBack
        | StepFaultKind::TargetChanges => {}
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_known_by_its_name_and_the_number_or_name_of_its_step() {
        for (asked, kind, step) in [
            (
                "image of step 2 never starts",
                StepFaultKind::ImageNeverStarts,
                "2",
            ),
            (
                "Image of step new-pods never starts",
                StepFaultKind::ImageNeverStarts,
                "new-pods",
            ),
            ("pod of step 1 fails", StepFaultKind::PodFails, "1"),
            (
                "pod of step 1 fails after its work",
                StepFaultKind::PodFailsAfterWork,
                "1",
            ),
            (
                "HPA takes back step 3 (more)",
                StepFaultKind::HpaTakesBack,
                "3 (more)",
            ),
            ("budget blocks step drain", StepFaultKind::BudgetBlocks, "drain"),
        ] {
            assert_eq!(parse(asked), Some((kind, step)), "{asked}");
        }
        for wrong in ["", "step 2", "image of 2 never starts", "image of step 2"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
