//! Controllers that are not here: each brings back its pods as they were.

use serde_json::json;

use crate::api::state::State;
use crate::api::store::Commit;
use crate::controllers::{controller_of, trusted};

impl State {
    /// A pod that serves comes back under its name, as most operators and every kubelet make it. One that works was done, or
    /// is made again by nobody can say what.
    pub(crate) fn bring_back(&mut self, commit: &Commit) {
        let pod = &commit.object;
        let Some(owner) = controller_of(pod) else { return };
        let uid = owner["uid"].as_str().unwrap_or("");
        if !self.outside.contains(uid) || pod["spec"]["restartPolicy"] != "Always" {
            return;
        }
        let Some(kind) = self.kinds.by_storage(&commit.key.resource).cloned() else {
            return;
        };
        let metadata = &pod["metadata"];
        let mut spec = pod["spec"].clone();
        // A static pod belongs to its node.
        if owner["kind"] != "Node"
            && let Some(map) = spec.as_object_mut()
        {
            map.remove("nodeName");
        }
        let next = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": metadata["name"], "labels": metadata["labels"], "annotations": metadata["annotations"],
                "finalizers": metadata["finalizers"], "ownerReferences": metadata["ownerReferences"],
            },
            "spec": spec,
        });
        let _: Result<_, _> = self.create(&kind, &commit.key.namespace, next, &trusted());
    }
}
