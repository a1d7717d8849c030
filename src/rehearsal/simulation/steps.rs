//! The steps of what is run, as people know them: by number and name, and by what they act on.

use serde_json::Value;

use embedded_cluster::labels_of_selector;

/// One step of a workflow, or an execution made by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// `namespace/name` of its workflow, or of itself.
    pub run: String,
    /// Namespace of its execution.
    pub namespace: String,
    /// Name of its execution.
    pub execution: String,
    /// From 1; 0 of an execution made by hand.
    pub number: i64,
    /// As the workflow calls it.
    pub name: String,
    /// Its action as it is spelled.
    pub action: String,
    /// As it is written; empty where it is not.
    pub timeout: String,
    /// What it acts on.
    pub target: Target,
}

/// What a step acts on.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A Deployment, and how many replicas it is to have, where that is asked for.
    Deployment {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Of a step that scales.
        replicas: Option<i64>,
    },
    /// Pods that somebody brings back.
    Pods {
        /// Their namespace.
        namespace: String,
        /// Labels that they have; empty where they are known by their name.
        labels: Vec<(String, String)>,
    },
    /// A node.
    Node {
        /// Its name.
        name: String,
    },
    /// Anything else.
    Other,
}

impl Step {
    /// All steps of these workflows and executions, in the order of their numbers.
    pub fn all(runs: &[Value]) -> Vec<Self> {
        runs.iter().flat_map(Self::of_run).collect()
    }

    fn of_run(run: &Value) -> Vec<Self> {
        let (namespace, name) = (
            text(&run["metadata"]["namespace"]),
            text(&run["metadata"]["name"]),
        );
        let step = |spec: &Value, execution: String, number: i64, name: &str| Self {
            run: format!("{namespace}/{}", text(&run["metadata"]["name"])),
            namespace: namespace.to_owned(),
            execution,
            number,
            name: name.to_owned(),
            action: text(&spec["action"]).to_owned(),
            timeout: text(&spec["timeout"]).to_owned(),
            target: Target::of(&spec["parameters"]),
        };
        let Some(steps) = run["spec"]["workflowDefinition"]["steps"].as_array() else {
            return vec![step(&run["spec"], name.to_owned(), 0, name)];
        };
        let mut steps: Vec<Self> = steps
            .iter()
            .map(|spec| {
                let number = spec["stepNumber"].as_i64().unwrap_or_default();
                let execution = format!("{name}-step-{number}");
                step(spec, execution, number, text(&spec["name"]))
            })
            .collect();
        steps.sort_by_key(|step| step.number);
        steps
    }

    /// In words: `step 2 (drain)`.
    pub fn words(&self) -> String {
        match self.number {
            0 => format!("execution {}", self.name),
            number => format!("step {number} ({})", self.name),
        }
    }

    /// Whether an object has the labels of this step's Job and pods.
    pub fn made(&self, object: &Value) -> bool {
        use kubernaut_crds::names::{LABEL_EXECUTION_NAME, LABEL_EXECUTION_NAMESPACE};
        let labels = &object["metadata"]["labels"];
        labels[LABEL_EXECUTION_NAME] == self.execution.as_str()
            && labels[LABEL_EXECUTION_NAMESPACE] == self.namespace.as_str()
    }
}

impl Target {
    fn of(parameters: &Value) -> Self {
        let Some((member, of)) = parameters.as_object().and_then(|members| members.iter().next()) else {
            return Self::Other;
        };
        let namespace = text(&of["namespace"]).to_owned();
        match member.as_str() {
            "scaleDeployment" | "restartDeployment" | "rolloutRestart" | "updateImage"
            | "patchDeployment" => Self::Deployment {
                namespace,
                name: text(&of["deployment"]).to_owned(),
                replicas: of["replicas"].as_i64(),
            },
            "deletePod" | "restartPod" => {
                let selector = [&of["selector"], &of["labelSelector"]];
                let selector = selector.iter().find_map(|selector| selector.as_str());
                let labels = selector.and_then(labels_of_selector).unwrap_or_default();
                Self::Pods {
                    namespace,
                    labels: labels.into_iter().collect(),
                }
            }
            "cordonNode" | "uncordonNode" | "drainNode" => Self::Node {
                name: text(if of["nodeName"].is_string() {
                    &of["nodeName"]
                } else {
                    &of["node"]
                })
                .to_owned(),
            },
            _ => Self::Other,
        }
    }

    /// Whether a pod that starts while the step runs starts for its sake.
    pub fn brings(&self, pod: &Value) -> bool {
        let metadata = &pod["metadata"];
        if pod["spec"]["restartPolicy"] != "Always" {
            return false;
        }
        match self {
            Self::Deployment { namespace, name, .. } => {
                let owner = text(&metadata["ownerReferences"][0]["name"]);
                metadata["namespace"] == namespace.as_str()
                    && owner
                        .rsplit_once('-')
                        .is_some_and(|(deployment, _)| deployment == name)
            }
            Self::Pods { namespace, labels } => {
                metadata["namespace"] == namespace.as_str()
                    && labels
                        .iter()
                        .all(|(key, value)| metadata["labels"][key] == value.as_str())
            }
            Self::Node { .. } | Self::Other => false,
        }
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_known_by_number_name_and_target() {
        let runs = [
            json!({"kind": "WorkflowExecution", "metadata": {"name": "fix", "namespace": "shop"},
            "spec": {"workflowDefinition": {"steps": [
                {"stepNumber": 2, "name": "give-back", "action": "uncordon-node", "parameters": {"uncordonNode": {"nodeName": "n1"}}},
                {"stepNumber": 1, "name": "more", "action": "scale-deployment", "timeout": "2m",
                 "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 5}}},
            ]}}}),
            json!({"kind": "KubernetesExecution", "metadata": {"name": "by-hand", "namespace": "shop"},
                "spec": {"action": "cordon-node", "parameters": {"cordonNode": {"node": "n2"}}}}),
        ];
        let steps = Step::all(&runs);
        let words: Vec<String> = steps.iter().map(Step::words).collect();
        assert_eq!(
            words,
            ["step 1 (more)", "step 2 (give-back)", "execution by-hand"]
        );
        let executions: Vec<&str> = steps.iter().map(|step| step.execution.as_str()).collect();
        assert_eq!(executions, ["fix-step-1", "fix-step-2", "by-hand"]);
        assert_eq!(steps[0].timeout, "2m");
        let node = |name: &str| Target::Node {
            name: name.to_owned(),
        };
        assert_eq!([&steps[1].target, &steps[2].target], [&node("n1"), &node("n2")]);
        let pod = |owner: &str| json!({"metadata": {"namespace": "shop", "ownerReferences": [{"name": owner}]}, "spec": {"restartPolicy": "Always"}});
        assert!(steps[0].target.brings(&pod("web-5c6d7")));
        assert!(!steps[0].target.brings(&pod("web-api-5c6d7")));
    }
}
