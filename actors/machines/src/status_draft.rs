//! The status of an object: as it is in the cluster, as it shall be, and what of it was sent and told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubernaut_crds::{
    Condition, ConditionReason, ConditionType, ExecutionPhase, KubernetesExecutionStatus, MicroTime,
    PhaseTransition, WorkflowExecutionStatus, WorkflowPhase, names,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::classify::cut;
use crate::defect::{Defect, planted};
use crate::time::seconds_between;

/// Longest message of a condition, and longest note of an Event.
pub(crate) const MESSAGE_MAX: usize = 1000;

/// As many transitions as a status keeps: the first half and the last.
const TRANSITIONS_MAX: usize = 32;

/// What the statuses of both kinds have in common.
pub(crate) trait Status: Clone + Default + PartialEq + Serialize + DeserializeOwned {
    type Phase: Copy + PartialEq + Serialize + DeserializeOwned;

    fn phase(&self) -> Option<Self::Phase>;
    fn set_phase(&mut self, phase: Self::Phase, generation: Option<i64>);
    fn transitions(&self) -> &[PhaseTransition];
    fn transitions_mut(&mut self) -> &mut Vec<PhaseTransition>;
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    fn spell(phase: Self::Phase) -> &'static str;
}

macro_rules! status {
    ($status:ty, $phase:ty) => {
        impl Status for $status {
            type Phase = $phase;

            fn phase(&self) -> Option<$phase> {
                self.phase
            }

            fn set_phase(&mut self, phase: $phase, generation: Option<i64>) {
                self.phase = Some(phase);
                self.observed_generation = generation;
            }

            fn transitions(&self) -> &[PhaseTransition] {
                &self.phase_transitions
            }

            fn transitions_mut(&mut self) -> &mut Vec<PhaseTransition> {
                &mut self.phase_transitions
            }

            fn conditions_mut(&mut self) -> &mut Vec<Condition> {
                &mut self.conditions
            }

            fn spell(phase: $phase) -> &'static str {
                phase.as_str()
            }
        }
    };
}

status!(KubernetesExecutionStatus, ExecutionPhase);
status!(WorkflowExecutionStatus, WorkflowPhase);

/// A status in the making.
#[derive(Debug)]
pub(crate) struct StatusDraft<S> {
    /// The status in the cluster.
    pub(crate) persisted: S,
    /// The status as it shall be.
    pub(crate) draft: S,
    /// The draft must be written before anything else is done.
    pub(crate) is_due: bool,
    /// What was sent last, until it is known to have arrived.
    sent: Option<S>,
    /// How many transitions were told of.
    announced: usize,
    /// How many statuses in a row the API server refused.
    pub(crate) refusals: u32,
}

/// A phase that was entered and not told of yet.
pub(crate) struct Entered<P> {
    pub(crate) phase: P,
    /// The phase before, and for how many seconds it lasted.
    pub(crate) before: Option<(P, f64)>,
    /// No other one was entered since.
    pub(crate) is_last: bool,
}

impl<S: Status> StatusDraft<S> {
    /// Of a status that was in the cluster before: what it tells was told.
    pub(crate) fn restore(persisted: S) -> Self {
        Self {
            announced: persisted.transitions().len(),
            draft: persisted.clone(),
            persisted,
            is_due: false,
            sent: None,
            refusals: 0,
        }
    }

    /// Somebody else's status is in the cluster: what was decided on an older one is decided again. True when it says
    /// something else than the one before.
    pub(crate) fn observed(&mut self, status: S) -> bool {
        let is_new = status != self.persisted;
        self.persisted = status;
        self.announced = self.announced.min(self.persisted.transitions().len());
        self.sent = None;
        self.discard();
        is_new
    }

    /// Whether the cluster has all of it.
    pub(crate) fn is_written(&self) -> bool {
        !self.is_due && self.draft == self.persisted
    }

    /// What was decided and not written is forgotten.
    pub(crate) fn discard(&mut self) {
        self.draft = self.persisted.clone();
        self.is_due = false;
    }

    /// The merge patch to send, for the object of this resourceVersion; `None` when there is nothing to write.
    pub(crate) fn send(&mut self, resource_version: Option<&str>) -> Option<Value> {
        let old = serde_json::to_value(&self.persisted).unwrap_or_default();
        let mut new = serde_json::to_value(&self.draft).unwrap_or_default();
        if fit(&mut new) {
            // What comes back is compared with what was sent.
            self.draft = serde_json::from_value(new.clone()).unwrap_or_else(|_| self.draft.clone());
        }
        self.is_due = false;
        let change = merge_patch(&old, &new)?;
        self.is_due = true;
        self.sent = Some(self.draft.clone());
        Some(json!({"metadata": {"resourceVersion": resource_version}, "status": change}))
    }

    /// A write is under way, or its answer was lost.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.is_some()
    }

    /// Whether this is what was sent last.
    pub(crate) fn is_what_was_sent(&self, status: Option<&S>) -> bool {
        self.sent.is_some() && self.sent.as_ref() == status
    }

    /// The write was taken; returns the status before it.
    pub(crate) fn written(&mut self, status: S) -> S {
        let before = std::mem::replace(&mut self.persisted, status);
        self.sent = None;
        self.refusals = 0;
        self.discard();
        before
    }

    /// The API server refuses what was sent.
    pub(crate) fn refused(&mut self) {
        self.refusals = self.refusals.saturating_add(1);
    }

    /// Notes a phase in the draft.
    pub(crate) fn enter(&mut self, phase: S::Phase, generation: Option<i64>, now: Timestamp) {
        if self.draft.phase() == Some(phase) {
            return;
        }
        self.draft.set_phase(phase, generation);
        let name = S::spell(phase);
        if planted(Defect::SkipValidated) && name == ExecutionPhase::Validated.as_str() {
            return;
        }
        push_transition(self.draft.transitions_mut(), name, now);
    }

    /// Sets a condition of the draft; its time moves only when its status does.
    pub(crate) fn condition(
        &mut self,
        kind: ConditionType,
        holds: bool,
        reason: ConditionReason,
        message: &str,
        generation: Option<i64>,
        now: Timestamp,
    ) {
        set_condition(
            self.draft.conditions_mut(),
            kind,
            holds,
            reason,
            message,
            generation,
            now,
        );
    }

    /// The phases of the status in the cluster that were not told of yet, each once.
    pub(crate) fn entered(&mut self) -> Vec<Entered<S::Phase>> {
        let transitions = self.persisted.transitions();
        let phase_of = |transition: &PhaseTransition| serde_json::from_value(json!(transition.phase)).ok();
        let entered = (self.announced..transitions.len()).filter_map(|index| {
            let earlier = index.checked_sub(1).and_then(|before| transitions.get(before));
            Some(Entered {
                phase: phase_of(&transitions[index])?,
                before: earlier.and_then(|earlier| {
                    let seconds = seconds_between(earlier.time.0, transitions[index].time.0);
                    Some((phase_of(earlier)?, seconds))
                }),
                is_last: index + 1 == transitions.len(),
            })
        });
        let entered = entered.collect();
        self.announced = transitions.len();
        entered
    }
}

/// Whether `new` is a later version. Versions of one object grow (Kubernetes promises it since 1.35 and has always
/// kept it); one that is no number is taken as later when it differs.
pub(crate) fn is_newer(old: Option<&str>, new: Option<&str>) -> bool {
    match (old.map(str::parse::<u64>), new.map(str::parse::<u64>)) {
        (Some(Ok(old)), Some(Ok(new))) => new > old,
        _ => old != new,
    }
}

/// Makes every text [plain](crate::classify::plain) and cuts it to what the API server takes; true when one was changed. The
/// state before stays as it is: half of it, or another one, restores nothing, and it has a limit of its own.
fn fit(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let fitting = cut(text, names::TEXT_MAX);
            let changed = fitting != *text;
            *text = fitting;
            changed
        }
        Value::Array(values) => values
            .iter_mut()
            .fold(false, |was_cut, value| fit(value) | was_cut),
        Value::Object(values) => values
            .iter_mut()
            .filter(|(key, _)| *key != "previousSpec")
            .fold(false, |was_cut, (_, value)| fit(value) | was_cut),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The merge patch (RFC 7386) that turns `old` into `new`; `None` when they are equal.
fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch: BTreeMap<String, Value> = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| (key.clone(), Value::Null))
        .collect();
    for (key, value) in new {
        match old.get(key) {
            Some(before) => {
                if let Some(change) = merge_patch(before, value) {
                    patch.insert(key.clone(), change);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Some(Value::Object(patch.into_iter().collect()))
}

/// Appends a phase: the first 16 and the last 16 are kept. Times never go back.
fn push_transition(transitions: &mut Vec<PhaseTransition>, phase: &str, now: Timestamp) {
    let time = transitions.last().map_or(now, |last| last.time.0.max(now));
    transitions.push(PhaseTransition {
        phase: phase.to_owned(),
        time: MicroTime(time),
    });
    if transitions.len() > TRANSITIONS_MAX {
        transitions.remove(TRANSITIONS_MAX / 2);
    }
}

fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: ConditionType,
    holds: bool,
    reason: ConditionReason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let earlier = conditions
        .iter()
        .find(|condition| condition.r#type == kind.as_str());
    let since = match earlier {
        Some(condition) if condition.status == status => condition.last_transition_time.clone(),
        Some(condition) if planted(Defect::TurnBackTime) => {
            MicroTime(condition.last_transition_time.0 - jiff::SignedDuration::from_secs(1))
        }
        Some(condition) => MicroTime(condition.last_transition_time.0.max(now)),
        None => MicroTime(now),
    };
    let condition = Condition {
        r#type: kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message: cut(message, MESSAGE_MAX),
        last_transition_time: since,
        observed_generation: generation,
    };
    match conditions
        .iter_mut()
        .find(|condition| condition.r#type == kind.as_str())
    {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::merge_patch;

    #[test]
    fn a_merge_patch_sets_what_changed_and_removes_what_is_gone() {
        let old = json!({"a": 1, "b": {"c": 1, "d": [1]}, "e": 5});
        let new = json!({"a": 1, "b": {"c": 2, "d": [1]}, "f": 6});
        assert_eq!(
            merge_patch(&old, &new),
            Some(json!({"b": {"c": 2}, "e": null, "f": 6}))
        );
        assert_eq!(merge_patch(&new, &new), None);
    }
}
