//! Who has to approve, and who did.

use std::collections::BTreeSet;

use kubernaut_crds::names;
use serde_json::Value;

use super::Checker;
use crate::history::{Life, items, owner, text};

/// Who approves by it; none where it does not count.
fn approver<'a>(workflow: &Value, approval: &'a Value) -> Option<&'a str> {
    let (spec, named) = (&approval["spec"], &approval["spec"]["objectRef"]);
    let by = text(&spec["approver"]);
    let creator = text(&workflow["metadata"]["annotations"][names::ANNOTATION_CREATED_BY]);
    let counts = named["uid"] == workflow["metadata"]["uid"]
        && named["kind"] == "WorkflowExecution"
        && named["name"] == workflow["metadata"]["name"]
        && spec["decision"] == "Approved"
        && spec["planDigest"].is_null()
        && by != creator;
    counts.then_some(by)
}

impl Checker<'_> {
    /// I6: where approval is needed nothing runs before it is recorded, and those who are recorded had approved, and may.
    pub(super) fn nothing_runs_unapproved(&mut self) {
        let mut found = Vec::new();
        for (uid, workflow) in &self.workflows {
            let first = &workflow.born().object;
            let strategy = &first["spec"]["executionStrategy"];
            if strategy["approvalRequired"] != true {
                continue;
            }
            let required = strategy["requiredApprovals"]
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(1);
            let recorded = workflow.first(|object| !object["status"]["approval"].is_null());
            let executions = self
                .executions
                .values()
                .filter(|life| owner(&life.born().object) == *uid);
            for execution in executions.filter(|life| life.born().object["spec"]["dryRun"] != true) {
                let begun = execution.first(|object| {
                    let mut attempts = items(&object["status"]["attempts"]);
                    attempts.any(|attempt| attempt["attempt"] != 0)
                });
                let Some(begun) = begun else { continue };
                if recorded.is_none_or(|recorded| recorded.revision > begun.revision) {
                    found.push(format!(
                        "{} ran before its workflow was approved",
                        execution.name()
                    ));
                }
            }
            let there = |revision: u64| -> BTreeSet<&str> {
                let alive = self.approvals.values().filter_map(|life| life.at(revision));
                alive.filter_map(|approval| approver(first, approval)).collect()
            };
            if let Some(recorded) = recorded {
                let names: BTreeSet<&str> = items(&recorded.object["status"]["approval"]["approvers"])
                    .map(|approver| text(&approver["name"]))
                    .collect();
                let had_approved = |name: &&str| {
                    let mut approvals = self.approvals.values();
                    approvals.any(|life| {
                        life.born().revision < recorded.revision
                            && approver(first, &life.born().object) == Some(*name)
                    })
                };
                if names.len() < required || !names.iter().all(had_approved) {
                    found.push(format!(
                        "{} was approved by {names:?} of {required}",
                        workflow.name()
                    ));
                }
                if let Some(rejection) = self.rejection(first)
                    && rejection.born().at + self.deafness() < recorded.at
                {
                    found.push(format!("{} was approved after it was rejected", workflow.name()));
                }
            } else if workflow.last()["status"]["errorType"] == "approval_timeout"
                && workflow.gone().is_none()
                && self.plan.iter().all(super::control::is_plain)
            {
                let last = self.outcome.record.last();
                let waits = last.is_some_and(|last| there(last.revision).len() >= required);
                if waits {
                    found.push(format!("{} was approved, and waited in vain", workflow.name()));
                }
            }
        }
        for what in found {
            self.wrong("I6", &what);
        }
    }

    /// The first that was not taken back.
    fn rejection(&self, workflow: &Value) -> Option<&Life<'_>> {
        self.approvals.values().find(|life| {
            let spec = &life.born().object["spec"];
            spec["objectRef"]["uid"] == workflow["metadata"]["uid"]
                && spec["decision"] == "Rejected"
                && life.gone().is_none()
        })
    }
}
