//! The lives of objects, from the cluster's record of writes.

use std::collections::BTreeMap;
use std::time::Duration;

use embedded_cluster::Committed;
use serde_json::Value;

/// One object from its creation to its end.
pub(crate) struct Life<'a> {
    /// Each state, in order. Of a deleted object the last one is that of its deletion.
    pub(crate) states: Vec<&'a Committed>,
}

impl<'a> Life<'a> {
    pub(crate) fn born(&self) -> &'a Committed {
        self.states[0]
    }

    pub(crate) fn gone(&self) -> Option<&'a Committed> {
        self.states.last().copied().filter(|last| last.deleted)
    }

    /// The object just before or at a revision; none before its creation and after its end.
    pub(crate) fn at(&self, revision: u64) -> Option<&'a Value> {
        let state = self
            .states
            .iter()
            .rev()
            .find(|state| state.revision <= revision)?;
        (!state.deleted).then_some(&*state.object)
    }

    /// The first state for which this holds.
    pub(crate) fn first(&self, holds: impl Fn(&Value) -> bool) -> Option<&'a Committed> {
        self.states.iter().copied().find(|state| holds(&state.object))
    }

    /// Its last state.
    pub(crate) fn last(&self) -> &'a Value {
        &self.states[self.states.len() - 1].object
    }

    pub(crate) fn name(&self) -> String {
        format!(
            "{}/{}",
            text(&self.last()["kind"]),
            text(&self.last()["metadata"]["name"])
        )
    }
}

/// All lives of a kind, by uid.
pub(crate) type Lives<'a> = BTreeMap<&'a str, Life<'a>>;

/// The lives of one kind.
pub(crate) fn lives<'a>(record: &'a [Committed], kind: &str) -> Lives<'a> {
    let mut lives = Lives::new();
    for commit in record.iter().filter(|commit| commit.object["kind"] == kind) {
        let uid = text(&commit.object["metadata"]["uid"]);
        lives
            .entry(uid)
            .or_insert_with(|| Life { states: Vec::new() })
            .states
            .push(commit);
    }
    lives
}

/// The writes, one a line: when, by whom, of what, and what is new in its status.
pub(crate) fn story(record: &[Committed]) -> Vec<String> {
    let mut states: BTreeMap<&str, &Value> = BTreeMap::new();
    let told = record.iter().map(|commit| {
        let (object, metadata) = (&*commit.object, &commit.object["metadata"]);
        let before = states.insert(text(&metadata["uid"]), object);
        let status = object["status"].as_object().into_iter().flatten();
        let news = status
            .filter(|(field, value)| {
                let is_known = before.is_some_and(|before| before["status"][*field] == **value);
                !is_known
                    && !["conditions", "phaseTransitions", "containerStatuses"].contains(&field.as_str())
            })
            .map(|(field, value)| format!(" {field}: {value}"));
        format!(
            "{} r{} {} {}/{}{}{}",
            seconds(commit.at),
            commit.revision,
            commit.session,
            text(&object["kind"]),
            text(&metadata["name"]),
            if commit.deleted { " is gone" } else { "" },
            news.collect::<String>(),
        )
    });
    told.collect()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The uid of the owner that controls an object.
pub(crate) fn owner(object: &Value) -> &str {
    let mut owners = items(&object["metadata"]["ownerReferences"]);
    owners.next().map_or("", |owner| text(&owner["uid"]))
}

pub(crate) fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    text(&object["metadata"]["labels"][name])
}

pub(crate) fn has_condition(object: &Value, kind: &str) -> bool {
    items(&object["status"]["conditions"])
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

pub(crate) fn seconds(span: Duration) -> String {
    format!("{:.3} s", span.as_secs_f64())
}
