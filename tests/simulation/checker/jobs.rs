//! What Jobs the controller may make, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use embedded_cluster::Committed;
use kubernaut::rehearsal::simulation::{CONTROLLER, Disturbance, PlannedFault};
use serde_json::Value;

use super::control::{cleans_up, is_undo, runs_step};
use super::{Checker, EXECUTION, HEARSAY};
use crate::history::{Life, has_condition, items, label, owner, text};

/// What holds an execution until nothing of it is left.
const CLEANUP: &str = "kubernetesexecution.kubernaut.io/kubernetesexecution-cleanup";

impl Checker<'_> {
    pub(super) fn strips_finalizers(&self) -> bool {
        let strips = |planned: &PlannedFault| {
            matches!(
                planned,
                PlannedFault::Stranger {
                    disturbance: Disturbance::StripFinalizer,
                    ..
                }
            )
        };
        self.plan.iter().any(strips)
    }

    /// I1.
    pub(super) fn one_job_an_attempt(&mut self) {
        let mut twice = Vec::new();
        let mut of_attempts: BTreeMap<(&str, &str), Vec<&Life<'_>>> = BTreeMap::new();
        for job in self.jobs.values() {
            let object = &job.born().object;
            let attempt = (label(object, EXECUTION), label(object, "kubernaut.io/attempt"));
            of_attempts.entry(attempt).or_default().push(job);
        }
        for jobs in of_attempts.values_mut() {
            jobs.sort_by_key(|job| job.born().revision);
            if jobs
                .windows(2)
                .any(|pair| !self.may_be_made_again(pair[0], pair[1]))
            {
                twice.push(jobs[0].name());
            }
        }
        let mut steps = BTreeSet::new();
        for execution in self.executions.values() {
            let born = execution.born();
            let step = (
                born.object["spec"]["stepNumber"].as_i64(),
                is_dry_run(&born.object),
                is_undo(&born.object),
            );
            let workflow = self.workflows.get(owner(&born.object));
            // A create that arrives when the workflow is gone makes one for the garbage collector.
            let too_late = workflow
                .and_then(Life::gone)
                .is_some_and(|gone| gone.revision < born.revision);
            // A dry run changes nothing: one that somebody deletes may be made again by another controller.
            let tried_again = is_dry_run(&born.object)
                && execution
                    .first(|object| !object["metadata"]["deletionTimestamp"].is_null())
                    .is_some_and(|deleted| deleted.author.as_ref() != CONTROLLER);
            let traceless = is_traceless(workflow, execution);
            if born.author.as_ref() == CONTROLLER
                && !too_late
                && !traceless
                && !tried_again
                && !steps.insert((owner(&born.object).to_owned(), step))
            {
                twice.push(execution.name());
            }
        }
        for name in twice {
            self.wrong("I1", &format!("{name} was made twice"));
        }
    }

    /// One that somebody else made vanish while no controller looked can't be told from one that was never made (docs/
    /// executions.md: it is made within a minute of its attempt's start, and not later). A controller that has had
    /// the answer to its create knows better.
    pub(super) fn may_be_made_again(&self, first: &Life<'_>, again: &Life<'_>) -> bool {
        let by_somebody = first
            .gone()
            .is_some_and(|gone| gone.author.as_ref() != CONTROLLER);
        let (first, again) = (first.born(), again.born());
        let unanswered = self
            .plan
            .iter()
            .any(|planned| matches!(planned, PlannedFault::Call { .. }));
        let unknown = unanswered || first.session != again.session;
        by_somebody && unknown && again.at <= first.at + Duration::from_secs(60) + self.blind_time()
    }

    /// I2, I3, I5, I9, I10, I12, I13.
    pub(super) fn jobs_are_due(&mut self) {
        let mut found = Vec::new();
        for job in self.jobs.values() {
            let born = job.born();
            let uid = label(&born.object, EXECUTION);
            let Some(execution) = self.executions.get(uid) else {
                found.push(("I11", format!("{} belongs to no execution", job.name())));
                continue;
            };
            let Some(at) = execution.at(born.revision) else {
                // Its creation may have been under way.
                let gone = execution.gone().map_or(Duration::ZERO, |gone| gone.at);
                if born.at > gone + HEARSAY {
                    found.push((
                        "I12",
                        format!("{} was made after its execution was gone", job.name()),
                    ));
                }
                continue;
            };
            if !items(&at["status"]["phaseTransitions"]).any(|phase| phase["phase"] == "validated") {
                found.push((
                    "I5",
                    format!("{} was made before its execution was validated", job.name()),
                ));
            }
            let held = items(&at["metadata"]["finalizers"]).any(|finalizer| finalizer == CLEANUP);
            if !held && at["metadata"]["deletionTimestamp"].is_null() && !self.strips_finalizers() {
                found.push((
                    "I12",
                    format!("{} was made for an execution that nothing holds", job.name()),
                ));
            }
            let recorded = items(&at["status"]["attempts"])
                .find(|attempt| attempt["jobName"] == born.object["metadata"]["name"]);
            match recorded {
                None => found.push(("I9", format!("{} was made before it was recorded", job.name()))),
                Some(attempt) => {
                    let hash = &born.object["metadata"]["annotations"]["kubernaut.io/job-hash"];
                    if attempt["jobHash"] != *hash {
                        found.push(("I9", format!("{} is not what was recorded", job.name())));
                    }
                    if attempt["attempt"].as_i64() != label(&born.object, "kubernaut.io/attempt").parse().ok()
                    {
                        found.push(("I9", format!("{} is another attempt's", job.name())));
                    }
                }
            }
            found.extend(self.as_the_table_says(job));
            found.extend(self.no_other_lives(job, uid));
            found.extend(self.its_workflow_wants_it(job, execution));
        }
        for (invariant, what) in found {
            self.wrong(invariant, &what);
        }
    }

    /// I10: by hand, from the table in docs/actions.md.
    fn as_the_table_says(&self, job: &Life<'_>) -> Option<(&'static str, String)> {
        let object = &job.born().object;
        let action = label(object, "kubernaut.io/action");
        // An undo patches, or deletes, with the account of what it takes back.
        let undone = (action == "undo")
            .then(|| self.executions.get(label(object, EXECUTION)))
            .flatten();
        let undone = undone.map(|undo| text(&undo.born().object["spec"]["parameters"]["undo"]["of"]));
        let pod = &object["spec"]["template"]["spec"];
        let (verb, account) = match undone.unwrap_or(action) {
            "scale-deployment" => ("scale", "scale-deployment-sa"),
            "rollout-restart" | "restart-deployment" => ("patch", "rollout-restart-sa"),
            "patch-deployment" | "update-image" => ("patch", "patch-deployment-sa"),
            "update-configmap" => ("patch", "update-configmap-sa"),
            "update-secret" => ("patch", "update-secret-sa"),
            "cordon-node" => ("cordon", "cordon-node-sa"),
            "uncordon-node" => ("uncordon", "uncordon-node-sa"),
            "drain-node" => ("drain", "drain-node-sa"),
            "delete-pod" | "restart-pod" | "restart-pods" => ("delete create", "delete-pod-sa"),
            "apply-manifest" => ("apply", "apply-manifest-sa"),
            _ => ("?", "?"),
        };
        let verb = if undone.is_some() { "patch delete" } else { verb };
        let acts_as = text(&pod["serviceAccountName"]);
        let said = text(&pod["containers"][0]["args"][0]);
        let image = text(&pod["containers"][0]["image"]);
        let mut sources = items(&pod["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
        let short = sources.any(|source| source["serviceAccountToken"]["expirationSeconds"] == 600);
        let is_tried = label(object, "kubernaut.io/attempt") == "0";
        let arguments = items(&pod["containers"]).chain(items(&pod["initContainers"]));
        let mut arguments = arguments.map(|container| container["args"].to_string());
        let is_raw = |arguments: &String| arguments.contains("--raw=");
        let payload = object["spec"]["template"]["metadata"]["annotations"].to_string();
        let is_dry = arguments.all(|arguments| {
            if is_raw(&arguments) {
                payload.contains("dryRun") && arguments.contains("?dryRun=All")
            } else {
                arguments.contains("--dry-run=server")
            }
        });
        let fits = verb.split(' ').any(|verb| verb == said)
            && is_tried == is_dry
            && acts_as == account
            && short
            && pod["automountServiceAccountToken"] == false
            && image.starts_with("registry.k8s.io/kubectl:")
            && items(&pod["containers"]).count() == 1;
        (!fits).then(|| {
            (
                "I10",
                format!(
                    "{} ({action}) runs {image} {said} as {acts_as}, its token short: {short}",
                    job.name()
                ),
            )
        })
    }

    /// I2: never two live Jobs of one execution; the next one only when the pod of the last has ended.
    fn no_other_lives(&self, job: &Life<'_>, execution: &str) -> Option<(&'static str, String)> {
        let revision = job.born().revision;
        let mut others = self.jobs.iter().filter(|(uid, other)| {
            label(&other.born().object, EXECUTION) == execution
                && other.born().revision < revision
                && self.lives_at(uid, other, revision)
        });
        let (_, other) = others.next()?;
        Some((
            "I2",
            format!("{} was made while {} lived", job.name(), other.name()),
        ))
    }

    /// I2: an execution ends, or is let go, when nothing of it works any more; but for a pod of which nobody knows.
    pub(super) fn nothing_works_after_the_end(&mut self) {
        if self.outruns_what_is_under_way() {
            return;
        }
        let mut found = Vec::new();
        for (uid, execution) in &self.executions {
            let ended = execution.first(|object| {
                let status = &object["status"];
                ["completed", "failed"].contains(&text(&status["phase"]))
                    && !text(&status["message"]).contains("could not be confirmed stopped")
            });
            for state in ended.into_iter().chain(execution.gone()) {
                let mut jobs = self.jobs.iter().filter(|(job_uid, job)| {
                    let born = job.born();
                    label(&born.object, EXECUTION) == *uid
                        && born.author.as_ref() == CONTROLLER
                        && born.revision < state.revision
                        && self.lives_at(job_uid, job, state.revision)
                });
                if state.author.as_ref() == CONTROLLER
                    && let Some((_, job)) = jobs.next()
                {
                    found.push(format!("{} ended while {} lived", execution.name(), job.name()));
                }
            }
        }
        for what in found {
            self.wrong("I2", &what);
        }
    }

    /// Whether a pod of the Job could still do something.
    fn lives_at(&self, uid: &str, job: &Life<'_>, revision: u64) -> bool {
        let mut pods = self.pods.values().filter(|pod| owner(&pod.born().object) == uid);
        let mut any = false;
        let working = pods.any(|pod| {
            let now = pod.at(revision);
            any |= pod.born().revision <= revision;
            now.is_some_and(|pod| !["Succeeded", "Failed"].contains(&text(&pod["status"]["phase"])))
        });
        let can_start_one = job.at(revision).is_some_and(|job| {
            !any && job["metadata"]["deletionTimestamp"].is_null()
                && !["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"]
                    .iter()
                    .any(|kind| has_condition(job, kind))
        });
        working || can_start_one
    }

    /// I3, I12, I13.
    fn its_workflow_wants_it(&self, job: &Life<'_>, execution: &Life<'_>) -> Vec<(&'static str, String)> {
        let born = job.born();
        let mut found = Vec::new();
        let deleted = |life: &Life<'_>| {
            life.first(|object| !object["metadata"]["deletionTimestamp"].is_null())
                .map(|state| state.at)
        };
        if deleted(execution).is_some_and(|at| born.at > at + HEARSAY) {
            found.push((
                "I12",
                format!("{} was made long after its execution was deleted", job.name()),
            ));
        }
        let Some(workflow) = self.workflows.get(owner(&execution.born().object)) else {
            return found;
        };
        let object = &workflow.born().object;
        let is_tried = |workflow: &Value| workflow["status"]["validationResults"]["dryRunPerformed"] == true;
        if is_dry_run(&execution.born().object) {
            // Steps are tried side by side, before the first one runs.
            return found;
        }
        if object["spec"]["executionStrategy"]["dryRunFirst"] == true
            && workflow
                .first(is_tried)
                .is_none_or(|tried| tried.revision > born.revision)
        {
            found.push(("I3", format!("{} was made before all was tried", job.name())));
        }
        let number = &execution.born().object["spec"]["stepNumber"];
        let steps: Vec<&Value> = items(&object["spec"]["workflowDefinition"]["steps"]).collect();
        // One that somebody took away may have been made once more.
        let first_of_step = |number: &Value, phase: &str| {
            let of_this = |other: &&Life<'_>| {
                owner(&other.born().object) == owner(&execution.born().object)
                    && runs_step(&other.born().object, number)
            };
            let made = self.executions.values().filter(of_this);
            made.filter_map(|other| other.first(|object| object["status"]["phase"] == phase))
                .min_by_key(|state| state.revision)
        };
        // What takes a step back, and what cleans up, have rules of their own.
        if is_undo(&execution.born().object) || cleans_up(object, number) {
            return found;
        }
        let this = steps.iter().find(|step| step["stepNumber"] == *number);
        for before in this.into_iter().flat_map(|step| items(&step["dependsOn"])) {
            let done = first_of_step(before, "completed");
            if done.is_none_or(|done| done.revision > born.revision) {
                found.push((
                    "I3",
                    format!("{} was made before step {before} had completed", job.name()),
                ));
            }
        }
        for critical in steps.iter().filter(|step| step["criticalStep"] == true) {
            let failed = first_of_step(&critical["stepNumber"], "failed");
            let begun = execution.first(|object| object["status"]["phase"] == "executing");
            let late = |failed: &Committed| {
                born.at > failed.at + HEARSAY && begun.is_some_and(|begun| begun.at > failed.at + HEARSAY)
            };
            // One that said then what it waits for, a lock, say, is in flight and is finished (docs/workflows.md).
            let waited = |failed: &Committed| {
                let heard = failed.at + Duration::from_secs(1);
                let then = execution.states.iter().rfind(|state| state.at <= heard);
                then.is_some_and(|state| text(&state.object["status"]["message"]).starts_with("waits"))
            };
            if failed.is_some_and(|failed| late(failed) && !waited(failed)) {
                found.push((
                    "I13",
                    format!("{} was made after a critical step had failed", job.name()),
                ));
            }
        }
        found
    }
}

/// One that somebody takes away, with its finalizer, while no controller runs and before its workflow's status names it, leaves
/// no trace.
pub(super) fn is_traceless(workflow: Option<&Life<'_>>, execution: &Life<'_>) -> bool {
    let uid = &execution.born().object["metadata"]["uid"];
    execution.gone().is_some_and(|gone| {
        let then = workflow.and_then(|workflow| workflow.at(gone.revision));
        let named = then.is_some_and(|workflow| {
            items(&workflow["status"]["stepStatuses"]).any(|step| {
                step["k8sExecutionRef"]["uid"] == *uid || step["undo"]["k8sExecutionRef"]["uid"] == *uid
            })
        });
        gone.author.as_ref() != CONTROLLER && !named
    })
}

/// It only tries its step.
pub(super) fn is_dry_run(execution: &Value) -> bool {
    execution["spec"]["dryRun"] == true
}
