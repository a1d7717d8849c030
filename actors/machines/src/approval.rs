//! Who has approved a workflow or an execution: which Approvals count, and what follows from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{
    Approval, ApprovalDecision, ApprovalKind, Approver, MicroTime, WorkflowApproval, names,
};

use crate::Settings;
use crate::classify::cut;
use crate::defect::{Defect, planted};
use crate::time::later;

/// As many Approvals that don't count are named, each with its reason.
const NAMED: usize = 3;
/// Longest name or reason in a message, in characters.
const NAME_SHOWN: usize = 100;

/// Whether a namespace requires an approval of everything in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requirement {
    /// Only what asks for an approval needs one.
    #[default]
    None,
    /// Everything in it needs one.
    Required,
    /// Nothing is known of the namespace yet.
    Unknown,
}

/// What of the cluster an approval depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What the namespace of the object asks for.
    pub requirement: Requirement,
    /// Since when the policy stands that makes Approvals true, or why it does not.
    pub guard: Result<Timestamp, String>,
    /// Approvals that name the uid of the object.
    pub approvals: Vec<Arc<Approval>>,
}

impl Default for Seen {
    /// Nothing is required, and nobody's Approval would count.
    fn default() -> Self {
        Self {
            requirement: Requirement::None,
            guard: Err("not looked at yet".to_owned()),
            approvals: Vec::new(),
        }
    }
}

/// What is to be approved, and by how many.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The kind of the object.
    pub kind: ApprovalKind,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Who created it, as its annotation says.
    pub created_by: Option<&'a str>,
    /// How many different people have to approve.
    pub required: usize,
    /// The digest of its plan, where it has one.
    pub digest: Option<&'a str>,
    /// The plan became another one then: who approved before without naming a plan meant the earlier one.
    pub planned_anew: Option<Timestamp>,
    /// Since when an approval is waited for.
    pub since: Timestamp,
}

/// What follows from the Approvals.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Everybody who has to approve has approved.
    Approved(WorkflowApproval),
    /// Somebody rejected it: who and why, in words.
    Rejected(String),
    /// It waits: for whom, in words.
    Waits(String),
    /// It has waited too long: in words.
    Expired(String),
}

impl Question<'_> {
    /// What the Approvals that were seen say of it.
    pub fn decide(&self, seen: &Seen, settings: &Settings, now: Timestamp) -> Decision {
        let mut approvers: BTreeMap<&str, Approver> = BTreeMap::new();
        let mut passed_over = Vec::new();
        let mut approvals: Vec<&Approval> = seen.approvals.iter().map(|approval| &**approval).collect();
        approvals.sort_by_key(|approval| (created(approval), approval.metadata.name.clone()));
        for approval in approvals {
            match self.why_not(approval, &seen.guard, settings, now) {
                None if approval.spec.decision == ApprovalDecision::Rejected
                    && planted(Defect::PassOverARejection) => {}
                None if approval.spec.decision == ApprovalDecision::Rejected => {
                    let reason = approval.spec.reason.as_deref().unwrap_or("without a reason");
                    let by = shown(&approval.spec.approver);
                    return Decision::Rejected(format!("rejected by {by}: {}", cut(reason, 1000)));
                }
                None => {
                    let spec = &approval.spec;
                    approvers.entry(&spec.approver).or_insert_with(|| Approver {
                        name: spec.approver.clone(),
                        time: MicroTime(created(approval).unwrap_or(now)),
                        reason: spec.reason.clone(),
                        approval: approval.metadata.name.clone().unwrap_or_default(),
                    });
                }
                Some(why) => passed_over.push((approval, why)),
            }
        }
        let required = self.required.clamp(1, names::APPROVERS_MAX);
        if approvers.len() >= required {
            let mut approvers: Vec<Approver> = approvers.into_values().collect();
            approvers.sort_by(|a, b| (a.time.0, &a.name).cmp(&(b.time.0, &b.name)));
            approvers.truncate(names::APPROVERS_MAX);
            let time = MicroTime(now);
            return Decision::Approved(WorkflowApproval { time, approvers });
        }
        let deadline = later(self.since, settings.approval.timeout);
        let count = format!("{} of {required}", approvers.len());
        if now >= deadline {
            return Decision::Expired(format!(
                "not approved in time: {count} approvals within {}{}",
                humantime(settings),
                told(&passed_over)
            ));
        }
        Decision::Waits(self.words(&count, &seen.guard, settings, &passed_over))
    }

    /// When a wait that has begun at `since` is over.
    pub fn deadline(&self, settings: &Settings) -> Timestamp {
        later(self.since, settings.approval.timeout)
    }

    fn words(
        &self,
        count: &str,
        guard: &Result<Timestamp, String>,
        settings: &Settings,
        passed_over: &[(&Approval, String)],
    ) -> String {
        if let Err(why) = guard {
            return format!(
                "waits for approval, but nobody's Approval counts: {}",
                cut(why, 1000)
            );
        }
        let but = match self.created_by {
            _ if settings.approval.allow_self => String::new(),
            Some(creator) => format!(", but not {}, who created it", shown(creator)),
            None => {
                return format!(
                    "waits for approval, but nobody's Approval counts: the annotation {} does not say who created it; \
                     create it anew with that annotation, or run the controller with --allow-self-approval",
                    names::ANNOTATION_CREATED_BY
                );
            }
        };
        format!(
            "waits for approval ({count}): whoever may create Approvals in namespace {} (ClusterRole kubernaut-approve){but}, \
             creates one with spec.objectRef.uid {}{}",
            self.namespace,
            self.uid,
            told(passed_over)
        )
    }

    /// Why an Approval does not count; `None` where it does.
    fn why_not(
        &self,
        approval: &Approval,
        guard: &Result<Timestamp, String>,
        settings: &Settings,
        now: Timestamp,
    ) -> Option<String> {
        let spec = &approval.spec;
        let named = &spec.object_ref;
        let is_named = named.uid == self.uid && named.name == self.name && named.kind == self.kind;
        if !is_named || approval.metadata.namespace.as_deref() != Some(self.namespace) {
            return Some("it speaks of another object".to_owned());
        }
        if approval.metadata.deletion_timestamp.is_some() {
            return Some("it is being deleted".to_owned());
        }
        let since = match guard {
            Ok(since) => *since,
            Err(why) => return Some(cut(why, 300)),
        };
        let Some(made) = created(approval) else {
            return Some("nobody knows when it was made".to_owned());
        };
        if made <= since {
            return Some(format!(
                "it was made before the policy {} stood as it stands now; make another one",
                names::APPROVALS_POLICY
            ));
        }
        if spec.decision == ApprovalDecision::Rejected {
            return None;
        }
        if spec.approver.is_empty() {
            return Some("it has no approver".to_owned());
        }
        if !settings.approval.allow_self {
            match self.created_by {
                None => return Some("nobody knows who created the object".to_owned()),
                Some(creator) if creator == spec.approver && !planted(Defect::CountTheCreator) => {
                    return Some("its approver created the object".to_owned());
                }
                Some(_) => {}
            }
        }
        if now > later(made, settings.approval.validity) {
            return Some("it is too old; make another one".to_owned());
        }
        match (&spec.plan_digest, self.digest) {
            (Some(given), Some(digest)) if given == digest => None,
            (Some(_), _) if planted(Defect::CountAnotherPlan) => None,
            (Some(_), _) => Some("it names another plan than status.executionPlan.digest".to_owned()),
            (None, _) if self.planned_anew.is_some_and(|at| made <= at) => {
                Some("the plan has changed since; make another one".to_owned())
            }
            (None, _) => None,
        }
    }
}

fn created(approval: &Approval) -> Option<Timestamp> {
    Some(approval.metadata.creation_timestamp.as_ref()?.0)
}

fn humantime(settings: &Settings) -> String {
    crate::duration::format_go(settings.approval.timeout)
}

fn shown(name: &str) -> String {
    cut(name, NAME_SHOWN)
}

/// Those that don't count, at the end of a sentence.
fn told(passed_over: &[(&Approval, String)]) -> String {
    if passed_over.is_empty() {
        return String::new();
    }
    let named = passed_over.iter().take(NAMED).map(|(approval, why)| {
        let name = approval.metadata.name.as_deref().unwrap_or_default();
        format!("{} by {} ({why})", shown(name), shown(&approval.spec.approver))
    });
    let named: Vec<String> = named.collect();
    let more = match passed_over.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("; not counted: {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests;
