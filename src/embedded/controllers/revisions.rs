//! Templates that pods of a StatefulSet or a DaemonSet were made of, by the label that tells them apart.

use serde_json::{Value, json};

use crate::api::state::{State, template_hash};
use crate::controllers::replica_set::Owned;

/// The label of a pod with the revision that it was made of.
pub(crate) const LABEL: &str = "controller-revision-hash";

/// A template by its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Revision {
    pub(crate) name: String,
    pub(crate) template: Value,
}

impl Revision {
    pub(crate) fn made(&self, pod: &Value) -> bool {
        pod["metadata"]["labels"][LABEL] == self.name.as_str()
    }

    /// The template with its label.
    pub(crate) fn labelled(&self) -> Value {
        let mut template = self.template.clone();
        template["metadata"]["labels"][LABEL] = json!(self.name);
        template
    }
}

/// What pods are made of, and what they are to become.
#[derive(Clone, Debug)]
pub(crate) struct Revisions {
    /// That of the last rollout that came to its end.
    pub(crate) current: Revision,
    /// That of the present template.
    pub(crate) update: Revision,
}

impl State {
    /// The revisions of an owner of these pods, whose names begin so. What was loaded keeps the names that it has.
    pub(crate) fn revisions(&mut self, owner: &Value, pods: &Owned, prefix: &str) -> Revisions {
        let uid = owner["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        let template = &owner["spec"]["template"];
        let hashed = || format!("{prefix}{}", template_hash(template));
        let revision = |name: String| Revision {
            name,
            template: template.clone(),
        };
        let known = self.revisions.get(&uid).cloned();
        let revisions = if let Some(mut known) = known {
            if known.update.template == *template {
                return known;
            }
            known.update = if known.current.template == *template {
                known.current.clone()
            } else {
                revision(hashed())
            };
            known
        } else {
            let labelled = |same: bool| {
                let mut pods = pods.iter().filter(|(_, pod)| is_made_of(pod, template) == same);
                pods.find_map(|(_, pod)| pod["metadata"]["labels"][LABEL].as_str().map(str::to_owned))
            };
            let told = |field: &str| owner["status"][field].as_str().map(str::to_owned);
            let update = told("updateRevision")
                .or_else(|| labelled(true))
                .unwrap_or_else(hashed);
            // The template of what was loaded is not known: the present one stands for it.
            let current = told("currentRevision")
                .or_else(|| labelled(false))
                .unwrap_or_else(|| update.clone());
            Revisions {
                current: revision(current),
                update: revision(update),
            }
        };
        self.revisions.insert(uid, revisions.clone());
        revisions
    }
}

/// Whether a pod may have been made of a template, as far as its containers and annotations tell.
fn is_made_of(pod: &Value, template: &Value) -> bool {
    let containers = |spec: &Value| -> Vec<[Value; 4]> {
        let containers = spec["containers"].as_array().into_iter().flatten();
        containers
            .map(|container| ["name", "image", "command", "args"].map(|field| container[field].clone()))
            .collect()
    };
    let mut annotations = template["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten();
    containers(&pod["spec"]) == containers(&template["spec"])
        && annotations.all(|(key, value)| pod["metadata"]["annotations"].get(key) == Some(value))
}
