//! What a person can do about a failure, in this rehearsal or in the workflow.

use std::collections::BTreeMap;
use std::sync::Arc;

use kubernaut_crds::{ErrorType, TargetRef};

use serde_json::Value;

use crate::roles;

/// Most names that are listed beside one that is missing.
const NAMES_MAX: usize = 5;

/// Every object of the cluster before anything ran, and in its final state.
#[derive(Debug)]
pub(crate) struct Objects<'a> {
    before: &'a [Arc<Value>],
    after: &'a [Arc<Value>],
    /// Those of the end, by namespace and name.
    executions: BTreeMap<(&'a str, &'a str), &'a Value>,
}

impl<'a> Objects<'a> {
    pub(crate) fn new(before: &'a [Arc<Value>], after: &'a [Arc<Value>]) -> Self {
        let executions = after
            .iter()
            .filter(|object| object["kind"] == "KubernetesExecution")
            .map(|object| {
                let field = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                ((field("namespace"), field("name")), &**object)
            })
            .collect();
        Self {
            before,
            after,
            executions,
        }
    }

    /// An execution in its final state.
    pub(crate) fn execution(&self, namespace: &str, name: &str) -> Option<&'a Value> {
        self.executions.get(&(namespace, name)).copied()
    }
}

/// A failure, and what else was there in the end.
pub(crate) struct Failure<'a> {
    /// Its class; none where nobody wrote one down.
    pub(crate) error_type: Option<ErrorType>,
    /// What the controller says of it.
    pub(crate) message: &'a str,
    /// What was acted on, such as `deployment/shop/web`.
    pub(crate) target: &'a str,
    /// What was there, and what is.
    pub(crate) objects: &'a Objects<'a>,
}

impl Failure<'_> {
    /// What to do; nothing where the message says it, or nobody knows.
    pub(crate) fn advice(&self) -> Option<String> {
        let says = |words: &str| self.message.contains(words);
        // The words of kubectl and of the API server come with several classes.
        let budgets = self.tight_budgets();
        // A drain that ran into its deadline could not say what it waited for.
        let drain_in_vain = self.kind() == "node" && self.error_type == Some(ErrorType::Timeout);
        if !budgets.is_empty() && (says("disruption budget") || drain_in_vain) {
            return Some(format!(
                "PodDisruptionBudget {} allows no eviction of these pods: let more of them run, or allow more disruptions, \
                 before this step",
                budgets.join(", ")
            ));
        }
        if says("--delete-emptydir-data") {
            return Some(
                "set deleteLocalData: true in drainNode if the data of these pods' emptyDirs may be lost"
                    .to_owned(),
            );
        }
        if says("declare no controller") {
            return Some(
                "nothing would bring these pods back: delete them with delete-pod before the drain, or let a controller own them"
                    .to_owned(),
            );
        }
        if says("DaemonSet-managed Pods") {
            return Some("set ignoreDaemonSets: true in drainNode: their pods stay on the node".to_owned());
        }
        match self.error_type? {
            ErrorType::ResourceNotFound => Some(self.missing()),
            ErrorType::InsufficientPermissions => Some(self.rights()),
            ErrorType::ValidationError => self.invalid(),
            ErrorType::ResourceConflict => self.conflict(),
            ErrorType::Timeout => Some(self.too_slow()),
            ErrorType::VerificationFailed => Some(self.not_there()),
            ErrorType::GitopsManaged => Some(
                "change it in its repository, or rehearse with --allow-gitops-managed what the controller does with that flag"
                    .to_owned(),
            ),
            ErrorType::ResourceQuotaExceeded => Some("raise the quota of the namespace, or ask for less".to_owned()),
            ErrorType::JobFailed => Some(
                "the words are those of kubectl: the action itself was refused, and repeating it did not help".to_owned(),
            ),
            ErrorType::JobLost => Some(
                "look at the target before running it again: nobody knows whether the action took effect".to_owned(),
            ),
            ErrorType::Cancelled => {
                Some("somebody stopped or deleted it: give it another name to run it again".to_owned())
            }
            // Of a step that was not run, its dependency tells more; the others are not in this version.
            ErrorType::DependencyFailed
            | ErrorType::PolicyDenied
            | ErrorType::ApprovalRejected
            | ErrorType::ApprovalTimeout
            | ErrorType::UnknownError => None,
        }
    }

    fn missing(&self) -> String {
        if self.was_there() {
            return "it was there before, and somebody or something deleted it: bring it back, and run this again under another name"
                .to_owned();
        }
        let there = self.others(self.kind());
        let there = if there.is_empty() {
            String::new()
        } else {
            format!(" (there is {})", there.join(", "))
        };
        let what = if TargetRef::is_selector(self.namespaced_name().1) {
            "selector"
        } else {
            "name"
        };
        format!(
            "it is not in your files or world: correct the {what}{there}, or bring the object in a file or with --world"
        )
    }

    /// Whether the target was there before anything ran.
    fn was_there(&self) -> bool {
        let (namespace, name) = self.namespaced_name();
        !name.is_empty()
            && self.objects.before.iter().any(|object| {
                let field = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                let kind = object["kind"].as_str().unwrap_or_default();
                kind.eq_ignore_ascii_case(self.kind())
                    && field("namespace") == namespace
                    && field("name") == name
            })
    }

    fn rights(&self) -> String {
        if self.message.contains("kubernaut-executor") || self.message.contains("-sa\"") {
            return "it is the action's own account that lacks the right: the files change one of kubernaut's own roles or bindings"
                .to_owned();
        }
        if self.message.contains("does not exist") {
            return "bring the ServiceAccount in a file, or take its name out of the workflow".to_owned();
        }
        let how = "bring a Role with these rights and a RoleBinding for the account in a file, or leave all RBAC objects out to \
                   rehearse without rights";
        match roles::to_paste(self.message) {
            Some(roles) => format!("{how}:\n{roles}"),
            None => how.to_owned(),
        }
    }

    fn invalid(&self) -> Option<String> {
        let says = |words: &str| self.message.contains(words);
        if says("has no container") {
            let names = self.containers();
            return Some(format!("name one of its containers: {}", names.join(", ")));
        }
        if says("last schedulable node") {
            return Some(
                "bring another Node that pods can go to, or uncordon one in a step before".to_owned(),
            );
        }
        if says("is paused") {
            return Some("take spec.paused out of the Deployment (kubectl rollout resume)".to_owned());
        }
        if says("are evicted at once") {
            return Some(
                "narrow the selector, or use restart-deployment, which has no such limit".to_owned(),
            );
        }
        if says("immutable") {
            return Some(
                "what is immutable can only be replaced: make one of another name and have the pods use it"
                    .to_owned(),
            );
        }
        if says(" is invalid: ") {
            return Some("correct the field that is named; the API server refused the change".to_owned());
        }
        None
    }

    fn conflict(&self) -> Option<String> {
        let says = |words: &str| self.message.contains(words);
        if says("Apply failed with") {
            return Some(
                "leave the fields that are named out of the manifest, or give it the values that are there: somebody else owns \
                 them, and they are never taken by force"
                    .to_owned(),
            );
        }
        says("a path of the patch does not exist").then(|| {
            "see that every path of the patch is there in the Deployment: a JSON patch makes no parents"
                .to_owned()
        })
    }

    fn too_slow(&self) -> String {
        if self.message.contains("could not be confirmed stopped") {
            return "look on the node whether the pod still runs, and release the target as the message says"
                .to_owned();
        }
        if self.message.contains("deadline") && !self.any_node_takes_pods() {
            return "no node takes the pod that acts: uncordon one, or bring a Node that is schedulable"
                .to_owned();
        }
        "give the step a longer timeout if it would end in time then".to_owned()
    }

    fn not_there(&self) -> String {
        let pending = self.objects.after.iter().find_map(|object| {
            let conditions = object["status"]["conditions"].as_array()?;
            let waits = conditions
                .iter()
                .find(|condition| condition["reason"] == "Unschedulable")?;
            let name = object["metadata"]["name"].as_str()?;
            let why = waits["message"].as_str()?;
            (object["kind"] == "Pod").then(|| format!("pod {name} finds no node: {why}"))
        });
        pending.unwrap_or_else(|| match self.kind() {
            "deployment" => "the change was made, but its pods do not become ready: see what holds them up in the \
                             Deployment's status and events (kubectl describe)"
                .to_owned(),
            "pod" => "a pod is still there, or its replacement is not ready: see its finalizers, and the status and events of \
                      what owns it (kubectl describe)"
                .to_owned(),
            _ => "kubectl reported success, but the change is not there: look whether something else sets it back".to_owned(),
        })
    }

    /// The kind of the target as people write it, in lower case.
    fn kind(&self) -> &str {
        self.target
            .split('/')
            .next()
            .filter(|kind| !kind.is_empty())
            .unwrap_or("object")
    }

    fn namespaced_name(&self) -> (&str, &str) {
        let mut parts = self.target.split('/').skip(1);
        match (parts.next(), parts.next()) {
            (Some(namespace), Some(name)) => (namespace, name),
            (Some(name), None) => ("", name),
            (None, _) => ("", ""),
        }
    }

    /// Objects of that kind in that namespace.
    fn others(&self, kind: &str) -> Vec<String> {
        let (namespace, _) = self.namespaced_name();
        let all = self.objects.after.iter().filter(|object| {
            let own_namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            let own_kind = object["kind"].as_str().unwrap_or_default();
            own_kind.eq_ignore_ascii_case(kind) && own_namespace == namespace
        });
        let mut names: Vec<String> = all
            .filter_map(|object| object["metadata"]["name"].as_str())
            .map(ToOwned::to_owned)
            .collect();
        if names.len() > NAMES_MAX {
            let more = names.len() - NAMES_MAX;
            names.truncate(NAMES_MAX);
            names.push(format!("{more} more"));
        }
        names
    }

    fn containers(&self) -> Vec<&str> {
        let (namespace, name) = self.namespaced_name();
        let deployment = self.objects.after.iter().find(|object| {
            object["kind"] == "Deployment"
                && object["metadata"]["namespace"] == namespace
                && object["metadata"]["name"] == name
        });
        let containers = deployment.and_then(|object| {
            object
                .pointer("/spec/template/spec/containers")
                .and_then(Value::as_array)
        });
        containers
            .into_iter()
            .flatten()
            .filter_map(|container| container["name"].as_str())
            .collect()
    }

    /// Those that protect pods and allow nothing now.
    fn tight_budgets(&self) -> Vec<String> {
        self.objects
            .after
            .iter()
            .filter(|object| {
                let status = |field: &str| object["status"][field].as_i64().unwrap_or(0);
                object["kind"] == "PodDisruptionBudget"
                    && status("expectedPods") > 0
                    && status("disruptionsAllowed") == 0
            })
            .map(|object| {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                format!("{}/{}", text("namespace"), text("name"))
            })
            .collect()
    }

    fn any_node_takes_pods(&self) -> bool {
        let mut nodes = self
            .objects
            .after
            .iter()
            .filter(|object| object["kind"] == "Node");
        nodes.clone().count() == 0 || nodes.any(|node| node["spec"]["unschedulable"] != true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_there_and_was_deleted_needs_no_other_name() {
        let web = Arc::new(json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}}));
        let api = Arc::new(json!({"kind": "Deployment", "metadata": {"name": "api", "namespace": "shop"}}));
        let (before, after) = ([web, Arc::clone(&api)], [api]);
        let advice = |target| {
            let failure = Failure {
                error_type: Some(ErrorType::ResourceNotFound),
                message: "does not exist",
                target,
                objects: &Objects::new(&before, &after),
            };
            failure.advice().unwrap_or_default()
        };
        let deleted = advice("deployment/shop/web");
        assert!(deleted.starts_with("it was there before"), "{deleted}");
        let unknown = advice("deployment/shop/wep");
        assert!(unknown.contains("correct the name (there is api)"), "{unknown}");
    }
}
