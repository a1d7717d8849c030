//! What pods of a world usually do, where that is not to be ready at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::PodScript;

/// What pods of a world usually do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodHabits {
    /// How long a pod that serves takes until it is ready.
    pub ready_after: Duration,
    /// Images that can't be pulled, as pods name them.
    pub bad_images: Vec<String>,
}

impl PodHabits {
    /// What becomes of a pod; none when it does the usual.
    pub fn script(&self, pod: &Value) -> Option<PodScript> {
        let mut images = ["initContainers", "containers"]
            .iter()
            .filter_map(|list| pod["spec"][list].as_array())
            .flatten()
            .map(|container| &container["image"]);
        if let Some(bad) = images.find(|image| self.bad_images.iter().any(|bad| **image == *bad)) {
            return Some(PodScript::NeverStart {
                reason: "ImagePullBackOff".to_owned(),
                message: format!("Back-off pulling image {bad}"),
            });
        }
        let serves = json!("Always") == pod["spec"]["restartPolicy"];
        (serves && !self.ready_after.is_zero()).then_some(PodScript::Run {
            after: self.ready_after,
        })
    }
}
