//! What people ask of a workflow, what cleans up, and what is taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use embedded_cluster::Committed;
use kubernaut::rehearsal::simulation::{Disturbance, PlannedFault, STRANGER};
use serde_json::Value;

use super::jobs::{is_dry_run, is_traceless};
use super::{Checker, HEARSAY};
use crate::history::{Life, items, label, owner, text};

/// The label of an execution that takes another one back.
const ROLLBACK: &str = "kubernaut.io/rollback";
/// A person is heard within this time, when nothing is in the way.
const HEARD: Duration = Duration::from_secs(1);

/// Nothing that keeps a call from its end.
pub(super) fn is_plain(planned: &PlannedFault) -> bool {
    matches!(
        planned,
        PlannedFault::Crash { .. } | PlannedFault::Stranger { .. } | PlannedFault::Pod { .. }
    )
}

/// Whether an execution takes another one back.
pub(super) fn is_undo(object: &Value) -> bool {
    label(object, ROLLBACK) == "true"
}

/// Whether an execution runs the step of this number: it neither tries it beforehand nor takes it back.
pub(super) fn runs_step(object: &Value, number: &Value) -> bool {
    object["spec"]["stepNumber"] == *number && !is_undo(object) && !is_dry_run(object)
}

fn has_ended(object: &Value) -> bool {
    ["completed", "failed"].contains(&text(&object["status"]["phase"]))
}

fn has_begun(object: &Value) -> bool {
    items(&object["status"]["attempts"]).any(|attempt| attempt["attempt"] != 0)
}

/// The step of a workflow that has this number.
pub(super) fn step_of<'a>(workflow: &'a Value, number: &Value) -> Option<&'a Value> {
    items(&workflow["spec"]["workflowDefinition"]["steps"]).find(|step| step["stepNumber"] == *number)
}

pub(super) fn cleans_up(workflow: &Value, number: &Value) -> bool {
    step_of(workflow, number).is_some_and(|step| step["always"] == true)
}

impl<'a> Checker<'a> {
    /// The executions of a workflow, steps and undos.
    fn executions_of(&self, uid: &str) -> Vec<&Life<'a>> {
        let all = self.executions.values();
        all.filter(|life| owner(&life.born().object) == uid).collect()
    }

    /// How long after it was said a person may not have been heard: while no controller runs or sees, and where calls fail.
    pub(super) fn deafness(&self) -> Duration {
        let more = if self.plan.iter().all(is_plain) {
            Duration::ZERO
        } else {
            HEARSAY
        };
        HEARD + self.blind_time() + more
    }

    /// I12: after a cancel nothing starts but what cleans up, and what runs is stopped; while it is paused nothing starts.
    pub(super) fn people_are_heard(&mut self) {
        let mut found = Vec::new();
        let late = self.deafness();
        let end = self
            .outcome
            .record
            .last()
            .map_or(Duration::ZERO, |commit| commit.at);
        for (uid, workflow) in &self.workflows {
            let shut = workflow
                .first(|object| !object["spec"]["shutdown"].is_null())
                .map(|state| state.at);
            for execution in self.executions_of(uid) {
                let born = execution.born();
                let number = &born.object["spec"]["stepNumber"];
                if is_undo(&born.object) || cleans_up(workflow.last(), number) {
                    continue;
                }
                if let Some(paused) = self.paused_since(workflow, born)
                    && born.at > paused + late
                {
                    found.push(format!(
                        "{} was made while its workflow was paused",
                        execution.name()
                    ));
                }
                let Some(shut) = shut else { continue };
                if born.at > shut + late {
                    found.push(format!(
                        "{} was made after its workflow was cancelled",
                        execution.name()
                    ));
                }
                let told = execution
                    .first(|object| {
                        !object["spec"]["shutdown"].is_null()
                            || !object["metadata"]["deletionTimestamp"].is_null()
                            || has_ended(object)
                    })
                    .map(|state| state.at)
                    .or(execution.gone().map(|state| state.at));
                if told.map_or(end > shut + late, |told| told > shut + late)
                    && workflow.last()["metadata"]["deletionTimestamp"].is_null()
                    && workflow.gone().is_none()
                    && !self.is_refused_for_ever()
                {
                    found.push(format!(
                        "{} was not told that its workflow was cancelled",
                        execution.name()
                    ));
                }
            }
        }
        for what in found {
            self.wrong("I12", &what);
        }
    }

    /// Since when a workflow was suspended at this commit; `None` when it was not.
    #[allow(clippy::unused_self, reason = "one of the checks")]
    fn paused_since(&self, workflow: &Life<'_>, at: &Committed) -> Option<Duration> {
        let mut since = None;
        for state in workflow
            .states
            .iter()
            .filter(|state| state.revision <= at.revision)
        {
            if state.object["spec"]["suspend"] == true {
                since = since.or(Some(state.at));
            } else {
                since = None;
            }
        }
        since
    }

    /// I3: a step that cleans up runs when all before it have ended and one of them had begun, whatever stopped the workflow.
    pub(super) fn what_cleans_up_runs(&mut self) {
        let mut found = Vec::new();
        for (uid, workflow) in &self.workflows {
            let object = workflow.last();
            let executions = self.executions_of(uid);
            let of_step = |number: &Value| {
                let mut all = executions.iter();
                all.find(|life| runs_step(&life.born().object, number)).copied()
            };
            for step in items(&object["spec"]["workflowDefinition"]["steps"]) {
                if step["always"] != true {
                    continue;
                }
                let before: Vec<_> = items(&step["dependsOn"]).filter_map(&of_step).collect();
                let begun = before
                    .iter()
                    .any(|life| life.states.iter().any(|state| has_begun(&state.object)));
                let made = of_step(&step["stepNumber"]);
                match made {
                    Some(made) if !begun && !made.born().author.is_empty() => {
                        found.push(format!("{} cleans up after nothing", made.name()));
                    }
                    Some(made) => {
                        let born = made.born();
                        let runs = before.iter().find(|life| {
                            life.at(born.revision).is_some_and(|object| {
                                !has_ended(object) && object["metadata"]["deletionTimestamp"].is_null()
                            })
                        });
                        if let Some(runs) = runs {
                            found.push(format!("{} was made while {} ran", made.name(), runs.name()));
                        }
                    }
                    None if begun && self.ended_by_itself(workflow) => {
                        found.push(format!(
                            "{} ended without its step {}",
                            workflow.name(),
                            step["stepNumber"]
                        ));
                    }
                    None => {}
                }
            }
        }
        for what in found {
            self.wrong("I3", &what);
        }
    }

    /// Its steps were let go their way: nobody took anything of it away, and no call that made something was refused.
    fn ended_by_itself(&self, workflow: &Life<'_>) -> bool {
        let status = &workflow.last()["status"];
        has_ended(workflow.last())
            && workflow.gone().is_none()
            && workflow.last()["metadata"]["deletionTimestamp"].is_null()
            && status["errorType"] != "unknown_error"
            && !items(&status["stepStatuses"]).any(|step| {
                [
                    "validation_error",
                    "insufficient_permissions",
                    "resource_conflict",
                    "cancelled",
                ]
                .contains(&text(&step["errorType"]))
                    && workflow.last()["spec"]["shutdown"].is_null()
            })
            && !self.strips_finalizers()
            && !self
                .plan
                .iter()
                .any(|planned| matches!(planned, PlannedFault::Outage { .. }))
    }

    /// I14: what was changed is undone after all else has ended, the last change first, one at a time, each once, and never what
    /// cleans up.
    pub(super) fn undoing_is_in_order(&mut self) {
        let mut found = Vec::new();
        for (uid, workflow) in &self.workflows {
            let executions = self.executions_of(uid);
            let mut undos: Vec<&Life<'_>> = executions
                .iter()
                .copied()
                .filter(|life| is_undo(&life.born().object))
                .collect();
            undos.sort_by_key(|life| life.born().revision);
            let mut names = BTreeSet::new();
            let mut last: Option<(String, String)> = None;
            for undo in &undos {
                let born = undo.born();
                let number = &born.object["spec"]["stepNumber"];
                if cleans_up(workflow.last(), number) {
                    found.push(format!("{} takes back what cleans up", undo.name()));
                }
                if !is_traceless(Some(workflow), undo) && !names.insert(undo.name()) {
                    found.push(format!("{} was made twice", undo.name()));
                }
                let runs = executions.iter().find(|other| {
                    other.born().object["metadata"]["uid"] != born.object["metadata"]["uid"]
                        && other.at(born.revision).is_some_and(|object| {
                            !has_ended(object) && object["metadata"]["deletionTimestamp"].is_null()
                        })
                });
                if let Some(runs) = runs.filter(|_| !self.strips_finalizers()) {
                    found.push(format!("{} was made while {} ran", undo.name(), runs.name()));
                }
                let mut all = executions.iter();
                let step = all.find(|life| runs_step(&life.born().object, number));
                let completed = step.map(|life| text(&life.last()["status"]["completionTime"]).to_owned());
                if let (Some(completed), Some((earlier, name))) = (&completed, &last)
                    && completed > earlier
                {
                    found.push(format!(
                        "{} came after {name}, whose step had ended before",
                        undo.name()
                    ));
                }
                last = completed.map(|completed| (completed, undo.name())).or(last);
                let patch = text(&born.object["spec"]["parameters"]["undo"]["patch"]);
                if let Some(path) = untested(patch) {
                    found.push(format!(
                        "{} does not test {path} before it changes it",
                        undo.name()
                    ));
                }
            }
        }
        for what in found {
            self.wrong("I14", &what);
        }
    }

    /// I14: a rollback of which nothing is said to have failed has forgotten no step.
    pub(super) fn no_step_is_forgotten(&mut self) {
        let mut found = Vec::new();
        for workflow in self.workflows.values() {
            let status = &workflow.last()["status"];
            let well = items(&status["conditions"])
                .any(|condition| condition["type"] == "RolledBack" && condition["status"] == "True");
            let forgotten = items(&status["stepStatuses"]).filter(|step| {
                step["status"] == "completed"
                    && step["undo"].is_null()
                    && !cleans_up(workflow.last(), &step["stepNumber"])
            });
            if well {
                found.extend(
                    forgotten.map(|step| {
                        format!("{} did not undo its step {}", workflow.name(), step["stepNumber"])
                    }),
                );
            }
        }
        for what in found {
            self.wrong("I14", &what);
        }
    }

    /// After a rollback that went well all that was changed is as it was.
    pub(super) fn all_that_was_undone_is_as_before(&mut self) {
        let edited = |planned: &PlannedFault| {
            matches!(planned, PlannedFault::Stranger { disturbance, .. }
                if !matches!(disturbance, Disturbance::Pause | Disturbance::Cancel | Disturbance::RollBack))
        };
        if self.workflows.len() != 1 || self.plan.iter().any(edited) {
            return;
        }
        let rolled_back = self.workflows.values().all(|workflow| {
            let steps: Vec<&Value> = items(&workflow.last()["status"]["stepStatuses"]).collect();
            let conditions = &workflow.last()["status"]["conditions"];
            let well = items(conditions)
                .any(|condition| condition["type"] == "RolledBack" && condition["status"] == "True");
            well && steps
                .iter()
                .all(|step| step["undo"]["status"] != "not_reversible" && step["status"] != "completed")
        });
        if !rolled_back {
            return;
        }
        let mut found = Vec::new();
        for object in &self.outcome.objects {
            let kind = text(&object["kind"]);
            let first = self.outcome.before.iter().find(|first| {
                first["kind"] == object["kind"]
                    && first["metadata"]["name"] == object["metadata"]["name"]
                    && first["metadata"]["namespace"] == object["metadata"]["namespace"]
            });
            let Some(first) = first else { continue };
            let part = |object: &Value| match kind {
                "Deployment" => Some(serde_json::json!([
                    object["spec"]["replicas"],
                    object["spec"]["template"]["spec"]["containers"][0]["image"]
                ])),
                "ConfigMap" => Some(object["data"].clone()),
                "Node" => Some((object["spec"]["unschedulable"] == true).into()),
                _ => None,
            };
            if part(object) != part(first) {
                found.push(format!(
                    "{kind} {} is {:?}, and was {:?}",
                    object["metadata"]["name"],
                    part(object),
                    part(first)
                ));
            }
        }
        for what in found {
            self.wrong("I14", &what);
        }
    }

    /// I16: what a stranger has written into a target no undo takes away.
    pub(super) fn what_others_changed_stays(&mut self) {
        let mut found = Vec::new();
        let path = "/spec/template/metadata/annotations/example.com~1edited";
        let mut edited: Vec<(String, Value)> = Vec::new();
        for commit in &self.outcome.record {
            if commit.object["kind"] != "Deployment" {
                continue;
            }
            let name = text(&commit.object["metadata"]["uid"]).to_owned();
            let now = commit.object.pointer(path).cloned().unwrap_or(Value::Null);
            if commit.author.as_ref() == STRANGER {
                edited.retain(|(known, _)| *known != name);
                edited.push((name, now));
            } else if let Some((_, theirs)) = edited.iter().find(|(known, _)| *known == name)
                && *theirs != now
                && !commit.deleted
            {
                found.push(format!(
                    "Deployment {} lost what somebody had written",
                    commit.object["metadata"]["name"]
                ));
            }
        }
        for what in found {
            self.wrong("I16", &what);
        }
    }
}

impl<'a> Checker<'a> {
    /// I16: an undo gives a Deployment the replicas that it had before its step, and none where somebody has scaled it since.
    pub(super) fn undos_give_back_what_was_there(&mut self) {
        let mut found = Vec::new();
        let mut theirs = BTreeSet::new();
        // What each step may have seen before its Job, and what stood there since when.
        let mut before: BTreeMap<(String, String), Vec<&Value>> = BTreeMap::new();
        let mut stood: BTreeMap<&str, Vec<(Duration, &Value)>> = BTreeMap::new();
        for object in self
            .outcome
            .before
            .iter()
            .filter(|object| object["kind"] == "Deployment")
        {
            let past = vec![(Duration::ZERO, &object["spec"]["replicas"])];
            stood.insert(text(&object["metadata"]["uid"]), past);
        }
        for commit in self
            .outcome
            .record
            .iter()
            .filter(|commit| commit.object["kind"] == "Deployment")
        {
            let uid = text(&commit.object["metadata"]["uid"]);
            let now = &commit.object["spec"]["replicas"];
            let stood = stood.entry(uid).or_default();
            let past = stood.clone();
            if past.last().is_none_or(|(_, last)| *last == now) {
                continue;
            }
            stood.push((commit.at, now));
            if commit.author.as_ref() == STRANGER {
                theirs.insert(uid);
                continue;
            }
            let Some(writer) = self.writer_of(commit) else {
                theirs.remove(uid);
                continue;
            };
            let born = &writer.born().object;
            let step = (owner(born).to_owned(), born["spec"]["stepNumber"].to_string());
            if !is_undo(born) {
                theirs.remove(uid);
                let looked = self.looked_at(writer, commit);
                before.entry(step).or_insert_with(|| {
                    let ends = past.iter().skip(1).map(|(at, _)| *at).chain([commit.at]);
                    let seen = past.iter().zip(ends).filter(|(_, end)| *end >= looked);
                    seen.map(|((_, value), _)| *value).collect()
                });
            } else if theirs.contains(uid) {
                found.push(format!("{} scaled what somebody had scaled since", writer.name()));
            } else if let Some(wanted) = before.get(&step).filter(|wanted| !wanted.contains(&now)) {
                found.push(format!(
                    "{} gave {now} replicas back, and there were {wanted:?}",
                    writer.name()
                ));
            }
        }
        for what in found {
            self.wrong("I16", &what);
        }
    }

    /// When the target was looked at for the Job that wrote this: a little before its attempt was recorded.
    #[allow(clippy::unused_self, reason = "one of the questions")]
    fn looked_at(&self, writer: &Life<'_>, commit: &Committed) -> Duration {
        let begun = |object: &Value| {
            let last = items(&object["status"]["attempts"]).last();
            last.map(|attempt| attempt["startTime"].clone())
        };
        let known = writer.states.iter();
        let states: Vec<_> = known.filter(|state| state.revision <= commit.revision).collect();
        let last = states.last().and_then(|state| begun(&state.object));
        let recorded = states.iter().find(|state| begun(&state.object) == last);
        let recorded = recorded.map_or(commit.at, |state| state.at);
        recorded.saturating_sub(Duration::from_secs(1))
    }

    /// The execution that wrote this of its target, where no other one can have.
    fn writer_of(&self, commit: &Committed) -> Option<&Life<'a>> {
        let name = &commit.object["metadata"]["name"];
        let mut writers = self.executions.values().filter(|life| {
            life.at(commit.revision).is_some_and(|object| {
                object["status"]["phase"] == "executing"
                    && object["status"]["target"]["kind"] == "Deployment"
                    && object["status"]["target"]["name"] == *name
            })
        });
        writers.next().filter(|_| writers.next().is_none())
    }
}

/// A path that a patch changes without having tested it.
fn untested(patch: &str) -> Option<String> {
    let operations: Vec<Value> = serde_json::from_str(patch).ok()?;
    let tested: BTreeSet<&str> = operations
        .iter()
        .filter(|operation| operation["op"] == "test")
        .map(|operation| text(&operation["path"]))
        .collect();
    let changed = operations.iter().filter(|operation| operation["op"] != "test");
    changed
        .map(|operation| text(&operation["path"]))
        .find(|path| !tested.contains(path))
        .map(str::to_owned)
}
