//! The present state of what the workflows act on, read from a real cluster. Nothing is written there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::client::ClientBuilder;
use kube::core::{ApiResource, TypeMeta};
use kubernaut_machines::actions::Subject;
use kubernaut_machines::reads::selector_text;
use serde_json::{Value, json};

use super::Manifest;
use super::messages::printable;
use super::planned_actions::PlannedAction;
use super::read_only::ReadOnly;
use crate::kubeconfig;

/// Longest chain of owners that is followed: a pod, its ReplicaSet, its Deployment, and one to spare.
const OWNERS_MAX: usize = 3;
/// Kinds of RBAC, and whether they belong to a namespace.
const RIGHTS: [(&str, bool); 4] = [
    ("Role", true),
    ("RoleBinding", true),
    ("ClusterRole", false),
    ("ClusterRoleBinding", false),
];
const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// All that is ever read: apiVersion, kind and plural. What an object says of itself becomes no part of a path.
const READ: [(&str, &str, &str); 25] = [
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "LimitRange", "limitranges"),
    ("v1", "Namespace", "namespaces"),
    ("v1", "Node", "nodes"),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("v1", "Pod", "pods"),
    ("v1", "ResourceQuota", "resourcequotas"),
    ("v1", "Secret", "secrets"),
    ("v1", "Service", "services"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    (
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    ),
    (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    ),
    ("batch/v1", "CronJob", "cronjobs"),
    ("batch/v1", "Job", "jobs"),
    ("networking.k8s.io/v1", "Ingress", "ingresses"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    (RBAC, "ClusterRole", "clusterroles"),
    (RBAC, "ClusterRoleBinding", "clusterrolebindings"),
    (RBAC, "Role", "roles"),
    (RBAC, "RoleBinding", "rolebindings"),
];

/// Which cluster is read.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = super::HEADING)]
pub(crate) struct ClusterArguments {
    /// Read them from a cluster, as they are now. It is only read, by nothing but GET, and the rehearsal itself does not
    /// touch it. Of Secrets only the keys are kept
    #[arg(long)]
    pub(super) from_cluster: bool,
    /// The kubeconfig of that cluster. Default: KUBECONFIG, then ~/.kube/config
    #[arg(long, value_name = "FILE", requires = "from_cluster")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: its current one
    #[arg(long, value_name = "NAME", requires = "from_cluster")]
    context: Option<String>,
}

impl ClusterArguments {
    /// The flags by which kubectl reaches the cluster that was read.
    pub(super) fn flags_of_kubectl(&self) -> Vec<String> {
        let kubeconfig = self
            .kubeconfig
            .iter()
            .map(|file| format!("--kubeconfig={}", file.display()));
        let context = self.context.iter().map(|name| format!("--context={name}"));
        kubeconfig.chain(context).collect()
    }
}

/// What was read, and what to say of it.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) objects: Vec<Value>,
    pub(super) notes: Vec<String>,
    /// The cluster, for messages.
    pub(super) name: String,
}

/// Reads what these actions and runs need. Not inside a runtime: it has one of its own, whose clock runs.
///
/// # Errors
/// In words for a person: no kubeconfig, no answer, not known there.
pub(super) fn read(
    arguments: &ClusterArguments,
    runs: &[Manifest],
    planned: &[PlannedAction],
) -> Result<Shown, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime does not start: {error}"))?;
    runtime.block_on(async {
        let (client, name) = connect(arguments).await?;
        let reader = Reader {
            client,
            name,
            found: BTreeMap::new(),
            absent: BTreeSet::new(),
            refused: BTreeSet::new(),
            unread: BTreeSet::new(),
        };
        reader.everything(runs, planned).await
    })
}

async fn connect(arguments: &ClusterArguments) -> Result<(Client, String), String> {
    let from = match &arguments.kubeconfig {
        Some(path) => format!("--kubeconfig={}", path.display()),
        None => "--from-cluster".to_owned(),
    };
    let found = kubeconfig::config(
        arguments.kubeconfig.as_deref(),
        arguments.context.as_deref(),
        &from,
    );
    let (config, context) = found.await?;
    let name = format!("{context} ({})", config.cluster_url);
    let client = ClientBuilder::try_from(config)
        .map_err(|error| format!("{from}: {error}"))?
        .with_layer(&ReadOnly)
        .build();
    Ok((client, name))
}

/// apiVersion, kind, namespace and name.
type Key = (String, String, String, String);

struct Reader {
    client: Client,
    name: String,
    found: BTreeMap<Key, Value>,
    /// In words, what is not there.
    absent: BTreeSet<String>,
    /// In words, what may not be read.
    refused: BTreeSet<String>,
    /// In words, what is not read from any cluster.
    unread: BTreeSet<String>,
}

impl Reader {
    async fn everything(mut self, runs: &[Manifest], planned: &[PlannedAction]) -> Result<Shown, String> {
        let mut namespaces: BTreeSet<String> = runs.iter().map(Manifest::namespace).collect();
        for action in planned {
            namespaces.extend(action.target.namespace.clone());
        }
        for namespace in &namespaces {
            self.get("v1", "Namespace", None, namespace).await?;
        }
        // Pods that act need a node as well, and the rehearsal shall know which there are.
        self.list("v1", "Node", None, None, None).await?;
        for action in planned {
            self.needed_by(action).await?;
        }
        let with_pods: BTreeSet<String> = self
            .found
            .values()
            .filter(|object| object["kind"] == "Pod")
            .filter_map(|pod| pod["metadata"]["namespace"].as_str().map(ToOwned::to_owned))
            .collect();
        for namespace in &with_pods {
            self.list("policy/v1", "PodDisruptionBudget", Some(namespace), None, None)
                .await?;
        }
        let rights = self.rights(runs, &namespaces).await?;
        Ok(self.shown(rights))
    }

    async fn needed_by(&mut self, action: &PlannedAction) -> Result<(), String> {
        let namespace = action.target.namespace.as_deref();
        let name = &action.target.name;
        match &action.subject {
            Subject::Workload { .. } => {
                let kind = &action.target.kind;
                let Some(workload) = self.get("apps/v1", kind, namespace, name).await? else {
                    return Ok(());
                };
                self.list("autoscaling/v2", "HorizontalPodAutoscaler", namespace, None, None)
                    .await?;
                let labels = selector_text(&workload["spec"]["selector"]);
                if let Some(pods) = self.list("v1", "Pod", namespace, labels.as_deref(), None).await? {
                    self.owners_of(&pods).await?;
                }
            }
            Subject::Pod { .. } => {
                let pod = self.get("v1", "Pod", namespace, name).await?;
                self.owners_of(pod.as_slice()).await?;
            }
            Subject::Pods { selector, node } => {
                let node = node.as_ref().map(|node| format!("spec.nodeName={node}"));
                let pods = self
                    .list("v1", "Pod", namespace, Some(selector), node.as_deref())
                    .await?;
                self.owners_of(&pods.unwrap_or_default()).await?;
            }
            Subject::Node { emptied: true, .. } => {
                let on_node = format!("spec.nodeName={name}");
                let pods = self.list("v1", "Pod", None, None, Some(&on_node)).await?;
                self.owners_of(&pods.unwrap_or_default()).await?;
            }
            // All nodes are read anyway.
            Subject::Node { emptied: false, .. } => {}
            Subject::ConfigMap { .. } => drop(self.get("v1", "ConfigMap", namespace, name).await?),
            Subject::Secret { keys } => {
                let read = self.get("v1", "Secret", namespace, name).await?;
                let words = words_of("Secret", namespace, name);
                if read.is_none() && self.refused.remove(&words) {
                    // Who may write a Secret need not be allowed to read it.
                    self.refused
                        .insert(format!("{words} (taken to be there, with the keys of the step)"));
                    let data: BTreeMap<&String, &str> = keys.iter().map(|key| (key, "")).collect();
                    self.keep(json!({
                        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
                        "data": data,
                    }));
                }
            }
            Subject::Any { api_version } => {
                if let Some(api_version) = api_version {
                    self.get(api_version, &action.target.kind, namespace, name)
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn owners_of(&mut self, pods: &[Value]) -> Result<(), String> {
        for pod in pods {
            let mut object = pod.clone();
            for _ in 0..OWNERS_MAX {
                let owners = object["metadata"]["ownerReferences"].as_array();
                let controller = owners
                    .into_iter()
                    .flatten()
                    .find(|owner| owner["controller"] == true);
                let Some(controller) = controller else { break };
                let text = |field: &str| controller[field].as_str().unwrap_or_default();
                let namespace = object["metadata"]["namespace"].as_str();
                if text("apiVersion") != "apps/v1" {
                    break;
                }
                let owner = self.get("apps/v1", text("kind"), namespace, text("name")).await?;
                let Some(owner) = owner else { break };
                object = owner;
            }
        }
        Ok(())
    }

    /// Whether rights are known: roles and bindings, and the accounts of the workflows.
    async fn rights(&mut self, runs: &[Manifest], namespaces: &BTreeSet<String>) -> Result<bool, String> {
        let mut all = true;
        for (kind, namespaced) in RIGHTS {
            if !namespaced {
                all &= self.list(RBAC, kind, None, None, None).await?.is_some();
                continue;
            }
            for namespace in namespaces {
                all &= self
                    .list(RBAC, kind, Some(namespace), None, None)
                    .await?
                    .is_some();
            }
        }
        if !all {
            self.found.retain(|(api_version, ..), _| api_version != RBAC);
            return Ok(false);
        }
        for run in runs {
            let account = run.object["spec"]["serviceAccountName"]
                .as_str()
                .unwrap_or("default");
            let namespace = run.namespace();
            self.get("v1", "ServiceAccount", Some(&namespace), account)
                .await?;
            if self
                .refused
                .contains(&words_of("ServiceAccount", Some(&namespace), account))
            {
                // Rights are those of its name.
                self.keep(json!({
                    "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": {"name": account, "namespace": namespace},
                }));
            }
        }
        Ok(true)
    }

    fn shown(self, rights: bool) -> Shown {
        let mut counts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (_, kind, namespace, name) in self.found.keys() {
            let place = if namespace.is_empty() {
                name.clone()
            } else {
                format!("{namespace}/{name}")
            };
            counts.entry(kind).or_default().push(place);
        }
        let read: Vec<String> = counts
            .into_iter()
            .map(|(kind, places)| match places.as_slice() {
                [only] => format!("{kind} {only}"),
                several => format!("{} {kind}s", several.len()),
            })
            .collect();
        let mut notes = vec![format!("Read from {}: {}.", self.name, read.join(", "))];
        let listed = |words: BTreeSet<String>| words.into_iter().collect::<Vec<_>>().join(", ");
        if !self.absent.is_empty() {
            notes.push(format!("Not there: {}.", listed(self.absent)));
        }
        if !self.refused.is_empty() {
            notes.push(format!("Not allowed to read: {}.", listed(self.refused)));
        }
        if !self.unread.is_empty() {
            notes.push(format!(
                "Not read, since no kind and name of this form is read from a cluster: {}.",
                listed(self.unread)
            ));
        }
        if !rights {
            notes.push("Without all roles and bindings, rights can't be rehearsed.".to_owned());
        }
        Shown {
            objects: self.found.into_values().collect(),
            notes,
            name: self.name,
        }
    }

    /// Reads one object, once; `None` when it is not there or may not be read, which is noted.
    async fn get(
        &mut self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, String> {
        let key = (
            api_version.to_owned(),
            kind.to_owned(),
            namespace.unwrap_or_default().to_owned(),
            name.to_owned(),
        );
        if let Some(known) = self.found.get(&key) {
            return Ok(Some(known.clone()));
        }
        let words = words_of(kind, namespace, name);
        let Some(api) = self.api(api_version, kind, namespace).filter(|_| is_name(name)) else {
            self.unread.insert(format!("{words} of {api_version}"));
            return Ok(None);
        };
        if self.absent.contains(&words) || self.refused.contains(&words) {
            return Ok(None);
        }
        match api.get_opt(name).await {
            Ok(Some(object)) => {
                self.check_answer(object.types.as_ref(), api_version, kind)?;
                let value = value_of(&object, api_version, kind);
                let metadata = &value["metadata"];
                if metadata["name"] != name || metadata["namespace"].as_str() != namespace {
                    return Err(format!(
                        "the cluster {} answered with another object than {words}",
                        self.name
                    ));
                }
                Ok(Some(self.keep(value)))
            }
            Ok(None) => {
                self.absent.insert(words);
                Ok(None)
            }
            Err(error) => self.failed(&error, words).map(|()| None),
        }
    }

    /// Reads all objects of a kind that match; `None` when they may not be read, which is noted.
    async fn list(
        &mut self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Option<Vec<Value>>, String> {
        let parameters = ListParams {
            label_selector: labels.map(ToOwned::to_owned),
            field_selector: fields.map(ToOwned::to_owned),
            ..ListParams::default()
        };
        let Some(api) = self.api(api_version, kind, namespace) else {
            self.unread.insert(format!("{kind}s of {api_version}"));
            return Ok(None);
        };
        match api.list(&parameters).await {
            Ok(list) => {
                self.check_answer(Some(&list.types), api_version, &format!("{kind}List"))?;
                let objects = list.items.iter().map(|item| value_of(item, api_version, kind));
                Ok(Some(objects.map(|object| self.keep(object)).collect()))
            }
            Err(error) => {
                let place = namespace.map_or_else(String::new, |namespace| format!(" in {namespace}"));
                self.failed(&error, format!("{kind}s{place}")).map(|()| None)
            }
        }
    }

    /// `None` for what is never read.
    fn api(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Option<Api<DynamicObject>> {
        let (known, kind, plural) = READ
            .into_iter()
            .find(|(known, name, _)| *known == api_version && *name == kind)?;
        let (group, version) = known.split_once('/').unwrap_or(("", known));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: known.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        match namespace {
            Some(namespace) if !is_name(namespace) => None,
            Some(namespace) => Some(Api::namespaced_with(self.client.clone(), namespace, &resource)),
            None => Some(Api::all_with(self.client.clone(), &resource)),
        }
    }

    /// An answer of another kind is none: what is kept of an object depends on its kind.
    fn check_answer(&self, found: Option<&TypeMeta>, api_version: &str, kind: &str) -> Result<(), String> {
        if found.is_some_and(|found| found.api_version == api_version && found.kind == kind) {
            return Ok(());
        }
        let found = found.map_or_else(
            || "nothing that has a kind".to_owned(),
            |found| found.kind.clone(),
        );
        Err(format!(
            "the cluster {} was asked for {kind} of {api_version}, and answered with {found}",
            self.name
        ))
    }

    /// Keeps an object; of a Secret, only the keys.
    fn keep(&mut self, mut object: Value) -> Value {
        drop_secret_values(&mut object);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (
            text(&object["apiVersion"]),
            text(&object["kind"]),
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        );
        self.found.insert(key, object.clone());
        object
    }

    /// What may not be read is noted; anything else ends it.
    fn failed(&mut self, error: &kube::Error, words: String) -> Result<(), String> {
        let name = &self.name;
        let kube::Error::Api(status) = error else {
            return Err(format!("the cluster {name} can't be reached: {}", cause(error)));
        };
        match status.code {
            403 => {
                self.refused.insert(words);
                Ok(())
            }
            // The kind is not served there.
            404 => {
                self.absent.insert(words);
                Ok(())
            }
            401 => Err(format!(
                "the cluster {name} does not accept the credentials of the kubeconfig: log in again"
            )),
            _ => Err(format!(
                "{words} can't be read from the cluster {name}: {}",
                printable(&status.message)
            )),
        }
    }
}

fn drop_secret_values(object: &mut Value) {
    if object["kind"] != "Secret" {
        return;
    }
    let values = object["data"].as_object_mut();
    for value in values.into_iter().flat_map(|data| data.values_mut()) {
        *value = json!("");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        // kubectl keeps a copy of the whole object there.
        metadata.remove("annotations");
    }
}

/// What is behind an error, in its own words: those around it are the client's.
fn cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Whether a name can stand in a path: whatever is read from somewhere may hold anything.
fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    name.bytes().all(good) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 253
}

fn words_of(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Items of a list do not name their kind.
fn value_of(object: &DynamicObject, api_version: &str, kind: &str) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(kind);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_only_the_keys_are_kept() {
        let mut secret = json!({
            "kind": "Secret", "data": {"password": "b2xk", "user": "cm9vdA=="},
            "metadata": {"name": "db", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "b2xk"}},
        });
        drop_secret_values(&mut secret);
        assert_eq!(
            secret,
            json!({"kind": "Secret", "data": {"password": "", "user": ""}, "metadata": {"name": "db"}})
        );
        let mut other = json!({"kind": "ConfigMap", "data": {"a": "b"}});
        drop_secret_values(&mut other);
        assert_eq!(other["data"]["a"], "b");
    }

    #[test]
    fn only_a_name_can_stand_in_a_path() {
        for good in ["a", "web-1", "a.b.c", "0"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../secrets/x",
            "a/proxy",
            "a?watch=1",
            "a%2f",
            "A",
            "-a",
            "a b",
            "a\u{1b}[m",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
