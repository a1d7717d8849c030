//! In what state a run leaves the cluster, where that is neither what there was before nor what a run without faults leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::verdict::text;
use crate::rehearsal::rehearse::changes::{Key, title, world_of};
use crate::rehearsal::simulation::{Happened, Met, Outcome, Step, Target};

/// Something that a person finds afterwards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Behind {
    /// In words, such as `node worker-2 stays cordoned`.
    pub(super) what: String,
    /// The last step that acts on the object, by its place among all steps.
    pub(super) last_step: Option<usize>,
}

type World<'a> = BTreeMap<Key, &'a Value>;

/// The run without faults, to compare with.
pub(super) struct Calm<'a> {
    before: World<'a>,
    after: World<'a>,
}

impl<'a> Calm<'a> {
    pub(super) fn of(outcome: &'a Outcome, own: &[&str]) -> Self {
        Self {
            before: world(&outcome.before, own),
            after: world(&outcome.objects, own),
        }
    }

    /// What this run leaves behind; of a run that did not succeed, changes that stay as well.
    pub(super) fn left_by(
        &self,
        outcome: &Outcome,
        steps: &[Step],
        succeeded: bool,
        own: &[&str],
    ) -> Vec<Behind> {
        let after = world(&outcome.objects, own);
        let mut left = Vec::new();
        for (key, wanted) in &self.after {
            let (Some(found), before) = (after.get(key), self.before.get(key)) else {
                if !was_met(&outcome.happened, key) {
                    left.push((key, format!("{} is gone", title(key))));
                }
                continue;
            };
            let states = States {
                title: title(key),
                before: before.copied(),
                wanted,
                found,
                succeeded,
            };
            left.extend(states.words().into_iter().map(|words| (key, words)));
        }
        let mut left: Vec<Behind> = left
            .into_iter()
            .map(|(key, what)| Behind {
                what,
                last_step: steps.iter().rposition(|step| acts_on(step, key)),
            })
            .collect();
        left.sort();
        left
    }
}

fn world<'a>(objects: &'a [Arc<Value>], own: &[&str]) -> World<'a> {
    world_of(objects.iter().map(AsRef::as_ref), own)
}

/// Whether a fault met this object: somebody deleted it, say.
fn was_met(happened: &[Happened], key: &Key) -> bool {
    happened.iter().any(|happened| match &happened.met {
        Met::Object {
            kind,
            namespace,
            name,
        } => {
            // With its namespace everything in it goes.
            (kind, namespace, name) == (&key.0, &key.1, &key.2)
        }
        Met::Call(_) | Met::Everything => false,
    })
}

fn acts_on(step: &Step, (kind, namespace, name): &Key) -> bool {
    match &step.target {
        Target::Node { name: node } => kind == "Node" && node == name,
        Target::Deployment {
            namespace: of,
            name: deployment,
            ..
        } => kind == "Deployment" && of == namespace && deployment == name,
        Target::Pods { .. } | Target::Other => false,
    }
}

/// One object: before, after the run without faults, and after this run.
struct States<'a> {
    title: String,
    before: Option<&'a Value>,
    wanted: &'a Value,
    found: &'a Value,
    /// Whether no workflow failed: then what steps have changed was meant.
    succeeded: bool,
}

impl States<'_> {
    fn words(&self) -> Vec<String> {
        match text(&self.found["kind"]) {
            "Node" => self.node(),
            "Deployment" => self.deployment(),
            _ => self.other(|object| {
                let mut object = object.clone();
                if let Some(map) = object.as_object_mut() {
                    map.remove("metadata");
                    map.remove("status");
                }
                object
            }),
        }
    }

    fn node(&self) -> Vec<String> {
        let cordoned = |object: &Value| object["spec"]["unschedulable"] == true;
        let before = self.before.is_some_and(cordoned);
        let name = text(&self.found["metadata"]["name"]);
        match (before, cordoned(self.wanted), cordoned(self.found)) {
            (_, false, true) => vec![format!("node {name} stays cordoned")],
            (false, true, true) if !self.succeeded => {
                vec![format!("node {name} stays cordoned, as the workflow wanted it")]
            }
            (true, true, false) => vec![format!("node {name} takes pods again")],
            _ => Vec::new(),
        }
    }

    fn deployment(&self) -> Vec<String> {
        let mut words = Vec::new();
        let replicas = |object: &Value| object["spec"]["replicas"].as_i64().unwrap_or(1);
        let before = self.before.map_or(0, replicas);
        let (wanted, found) = (replicas(self.wanted), replicas(self.found));
        if found != before && found == wanted && !self.succeeded {
            words.push(format!("{} stays scaled from {before} to {found}", self.title));
        } else if found != before && found != wanted {
            words.push(format!("{} has {found} replicas instead of {wanted}", self.title));
        }
        words.extend(self.other(template));
        if !is_rolled_out(self.found) && is_rolled_out(self.wanted) {
            words.push(format!("the rollout of {} is not complete", self.title));
        }
        words
    }

    fn other(&self, shown: impl Fn(&Value) -> Value) -> Vec<String> {
        let before = self.before.map(&shown);
        let (wanted, found) = (shown(self.wanted), shown(self.found));
        if before.as_ref() == Some(&found) || (found == wanted && self.succeeded) {
            Vec::new()
        } else if found == wanted {
            vec![format!("{} keeps its change", self.title)]
        } else {
            vec![format!("{} is neither as before nor as wanted", self.title)]
        }
    }
}

/// Whether all pods that are wanted are there, new and ready, and no others.
fn is_rolled_out(deployment: &Value) -> bool {
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let count = |field: &str| deployment["status"][field].as_i64().unwrap_or(0);
    ["replicas", "updatedReplicas", "readyReplicas"]
        .iter()
        .all(|field| count(field) == wanted)
}

/// The pod template, without what differs in each run and what somebody else put there.
fn template(deployment: &Value) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    if let Some(annotations) = template["metadata"]["annotations"].as_object_mut() {
        annotations.remove(crate::rehearsal::simulation::EDITED);
        for value in annotations.values_mut() {
            // Times and uids.
            *value = json!(!value.is_null());
        }
    }
    let metadata = &mut template["metadata"];
    if metadata["annotations"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.remove("annotations");
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(before: &Value, wanted: &Value, found: &Value, succeeded: bool) -> Vec<String> {
        let states = States {
            title: "Deployment shop/web".to_owned(),
            before: Some(before),
            wanted,
            found,
            succeeded,
        };
        states.words()
    }

    #[test]
    fn a_node_that_is_not_given_back_is_told_and_one_that_was_never_taken_is_not() {
        let node = |cordoned: bool| json!({"kind": "Node", "metadata": {"name": "n1"}, "spec": {"unschedulable": cordoned}});
        let (free, taken) = (node(false), node(true));
        assert_eq!(words(&free, &free, &taken, false), ["node n1 stays cordoned"]);
        assert_eq!(words(&taken, &free, &taken, false), ["node n1 stays cordoned"]);
        assert!(words(&free, &free, &free, false).is_empty());
        assert!(words(&free, &taken, &taken, true).is_empty());
        assert!(words(&free, &taken, &free, false).is_empty());
    }

    #[test]
    fn of_a_failed_run_a_change_that_stays_is_told_and_one_that_was_not_made_is_not() {
        let deployment = |replicas: i64, ready: i64, restarted: &str| {
            json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"replicas": replicas, "template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": restarted}}}},
                "status": {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready}})
        };
        let before = json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"replicas": 2, "template": {"metadata": {}}},
            "status": {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}});
        let wanted = deployment(5, 5, "then");
        assert!(words(&before, &wanted, &before, false).is_empty());
        assert!(words(&before, &wanted, &deployment(5, 5, "at another time"), true).is_empty());
        assert_eq!(
            words(&before, &wanted, &deployment(5, 4, "at another time"), false),
            [
                "Deployment shop/web stays scaled from 2 to 5",
                "Deployment shop/web keeps its change",
                "the rollout of Deployment shop/web is not complete"
            ]
        );
    }
}
