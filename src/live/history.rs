//! `kubernaut history`: who changed an object by workflows, and what became of it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use kubernaut_crds::{KubernetesExecution, WorkflowApproval, WorkflowExecution, names};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{ConnectArguments, Connection};
use super::result::word;
use super::undone::undone;
use crate::rehearsal::input::meant;
use crate::terminal::{
    Done, Output, RESULT_VERSION, Trouble, complain, in_a_line, print, print_result, span, table,
};

/// What steps act on: each kind with its plural, and as kubectl shortens it.
const KINDS: [(&str, &str, &str); 17] = [
    ("configmap", "configmaps", "cm"),
    ("cronjob", "cronjobs", "cj"),
    ("daemonset", "daemonsets", "ds"),
    ("deployment", "deployments", "deploy"),
    ("horizontalpodautoscaler", "horizontalpodautoscalers", "hpa"),
    ("ingress", "ingresses", "ing"),
    ("job", "jobs", ""),
    ("limitrange", "limitranges", "limits"),
    ("networkpolicy", "networkpolicies", "netpol"),
    ("node", "nodes", "no"),
    ("persistentvolumeclaim", "persistentvolumeclaims", "pvc"),
    ("pod", "pods", "po"),
    ("poddisruptionbudget", "poddisruptionbudgets", "pdb"),
    ("resourcequota", "resourcequotas", "quota"),
    ("secret", "secrets", ""),
    ("service", "services", "svc"),
    ("statefulset", "statefulsets", "sts"),
];

/// Show who changed an object by workflows, when, how, who approved it, and what was taken back
///
/// As far back as the executions of steps are kept: those of a workflow as long as it is there.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut history deployment/shop/web\n\nExit codes: 0 it is shown (also where there is none), 1 the cluster could not be asked, 2 wrong arguments."
)]
pub(crate) struct HistoryOptions {
    /// The object: KIND/NAMESPACE/NAME, or KIND/NAME for a node or one of the namespace
    #[arg(value_name = "TARGET")]
    target: String,
    /// What is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connect: ConnectArguments,
}

/// One change, or the try of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    time: Option<Timestamp>,
    namespace: String,
    execution: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    step: i32,
    action: String,
    /// Whether it takes back what another one did.
    undoes: bool,
    phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_by: Option<String>,
    /// What took it back, where something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    undone_by: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct History {
    api_version: &'static str,
    kind: &'static str,
    target: String,
    /// The oldest execution that is kept, of any target.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_since: Option<Timestamp>,
    items: Vec<Entry>,
}

pub(super) async fn history(options: &HistoryOptions) -> Done {
    let connection = Connection::open(&options.connect).await?;
    let target = Target::parse(&options.target, &connection.namespace)?;
    let workflows: Vec<WorkflowExecution> = all(&connection).await?;
    let executions: Vec<KubernetesExecution> = all(&connection).await?;
    let history = History {
        api_version: RESULT_VERSION,
        kind: "History",
        target: target.name(),
        kept_since: executions.iter().filter_map(created).min(),
        items: entries(&target, &workflows, &executions),
    };
    let now = Timestamp::now();
    match options.output {
        Output::Json | Output::Yaml => print_result(&history, options.output)?,
        Output::Name => {
            for entry in &history.items {
                print(&format!("{}/{}\n", entry.namespace, entry.execution))?;
            }
        }
        Output::Table | Output::Wide => {
            if !history.items.is_empty() {
                print(&as_table(&history.items, options.output == Output::Wide, now))?;
            }
            complain(&how_far(&history, &connection, now));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn how_far(history: &History, connection: &Connection, now: Timestamp) -> String {
    let changes = match history.items.len() {
        0 => format!("No workflow changed {}", history.target),
        1 => "1 change".to_owned(),
        many => format!("{many} changes"),
    };
    match history.kept_since {
        Some(since) => format!(
            "{changes}, as far back as executions are kept in cluster {}: {} ({since}).",
            connection.name,
            span(since, now)
        ),
        None => format!("{changes}: no execution is kept in cluster {}.", connection.name),
    }
}

/// Every object of the kind that may be read: in all namespaces, or else in the one of the context.
async fn all<K>(connection: &Connection) -> Result<Vec<K>, Trouble>
where
    K: DeserializeOwned + kube::Resource<DynamicType = ()>,
{
    let resource = ApiResource::erase::<K>(&());
    let everywhere = Api::<DynamicObject>::all_with(connection.client.clone(), &resource);
    match every(connection, &everywhere).await {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            complain(&format!(
                "note: only namespace {} is looked at: {}",
                connection.namespace, status.message
            ));
            let client = connection.client.clone();
            let here = Api::<DynamicObject>::namespaced_with(client, &connection.namespace, &resource);
            every(connection, &here).await
        }
        read => read,
    }
    .map_err(|error| connection.trouble(&format!("listing {}", resource.plural), &error))
}

async fn every<K: DeserializeOwned>(
    connection: &Connection,
    api: &Api<DynamicObject>,
) -> Result<Vec<K>, kube::Error> {
    let mut found = Vec::new();
    let read = connection.each(api, ListParams::default(), |object| found.push(object));
    read.await?;
    Ok(found)
}

fn created<K: kube::Resource>(object: &K) -> Option<Timestamp> {
    object.meta().creation_timestamp.as_ref().map(|time| time.0)
}

/// An object that steps act on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    kind: String,
    namespace: Option<String>,
    name: String,
}

impl Target {
    fn parse(text: &str, namespace: &str) -> Result<Self, Trouble> {
        let parts: Vec<&str> = text.splitn(3, '/').collect();
        let kind = |kind: &str| {
            let lower = kind.to_lowercase();
            let mut known = KINDS.iter();
            let found = known.find(|(one, many, short)| [*one, *many, *short].contains(&lower.as_str()));
            found.map(|(one, ..)| (*one).to_owned()).ok_or_else(|| {
                let all = KINDS.map(|(one, ..)| one);
                let hint = meant(&lower, &all).map_or_else(
                    || format!("there are {}", all.join(", ")),
                    |meant| format!("did you mean {meant}?"),
                );
                Trouble::Input(format!("{kind:?} is no kind that steps act on: {hint}"))
            })
        };
        let named = |kind: String, namespace: Option<&str>, name: &str| Self {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        };
        match parts.as_slice() {
            [of, name] if !of.is_empty() && !name.is_empty() => {
                let kind = kind(of)?;
                let namespace = (kind != "node").then_some(namespace);
                Ok(named(kind, namespace, name))
            }
            [of, namespace, name] if parts.iter().all(|part| !part.is_empty()) => {
                Ok(named(kind(of)?, Some(namespace), name))
            }
            _ => Err(Trouble::Input(format!(
                "{text:?} names no object: write KIND/NAMESPACE/NAME, such as deployment/shop/web, or node/NAME"
            ))),
        }
    }

    /// As the status of an execution names it.
    fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{}/{namespace}/{}", self.kind, self.name),
            None => format!("{}/{}", self.kind, self.name),
        }
    }

    /// Whether the execution acts on it, or changed it on its way.
    fn is_of(&self, execution: &KubernetesExecution) -> bool {
        let Some(status) = &execution.status else {
            return false;
        };
        let results = status.execution_results.iter();
        let mut affected = results.flat_map(|results| &results.resources_affected);
        status.target_name.as_deref() == Some(self.name().as_str())
            || affected.any(|one| {
                one.kind.eq_ignore_ascii_case(&self.kind)
                    && one.namespace == self.namespace
                    && one.name == self.name
            })
    }
}

/// The changes of a target, the newest first.
fn entries(
    target: &Target,
    workflows: &[WorkflowExecution],
    executions: &[KubernetesExecution],
) -> Vec<Entry> {
    let by_uid: BTreeMap<&str, &WorkflowExecution> = workflows
        .iter()
        .filter_map(|workflow| Some((workflow.metadata.uid.as_deref()?, workflow)))
        .collect();
    let mut entries: Vec<Entry> = executions
        .iter()
        .filter(|execution| execution.spec.dry_run != Some(true) && target.is_of(execution))
        .map(|execution| {
            let workflow = owner(execution).and_then(|uid| by_uid.get(uid).copied());
            let mut entry = Entry::new(execution, workflow);
            if let Some(workflow) = workflow.filter(|_| !entry.undoes) {
                let undone = undone(workflow, workflows);
                entry.undone_by = undone.get(&execution.spec.step_number).map(|by| (*by).to_owned());
            }
            entry
        })
        .collect();
    entries.sort_by(|one, other| (other.time, &one.execution).cmp(&(one.time, &other.execution)));
    entries
}

fn owner(execution: &KubernetesExecution) -> Option<&str> {
    let mut owners = execution.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.kind == names::WORKFLOW_KIND)?;
    Some(owner.uid.as_str())
}

fn undoes(execution: &KubernetesExecution) -> bool {
    let labels = execution.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(names::LABEL_ROLLBACK))
}

impl Entry {
    fn new(execution: &KubernetesExecution, workflow: Option<&WorkflowExecution>) -> Self {
        let metadata = &execution.metadata;
        let status = execution.status.clone().unwrap_or_default();
        let results = status.execution_results.as_ref();
        let affected = results.and_then(|results| results.resources_affected.first());
        let change = affected.map(|one| {
            let before = one.before.as_deref().unwrap_or("?");
            let after = one.after.as_deref().unwrap_or("?");
            format!("{before} -> {after}")
        });
        let approval = status.approval.and_then(|approval| approval.approved_by);
        let of_workflow = workflow
            .and_then(|workflow| workflow.status.as_ref()?.approval.as_ref())
            .map(WorkflowApproval::names);
        Self {
            time: status
                .start_time
                .map(|time| time.0)
                .or_else(|| created(execution)),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            execution: metadata.name.clone().unwrap_or_default(),
            workflow: execution
                .spec
                .workflow_execution_ref
                .as_ref()
                .map(|workflow| workflow.name.clone()),
            step: execution.spec.step_number,
            action: match &execution.spec.parameters.undo {
                Some(undo) => undo.of.clone(),
                None => execution.spec.action.clone(),
            },
            undoes: undoes(execution),
            phase: status.phase.map(word).unwrap_or_default(),
            error_type: status.error_type.map(word),
            change,
            created_by: execution
                .created_by()
                .or_else(|| workflow?.created_by())
                .map(str::to_owned),
            approved_by: approval.or(of_workflow),
            undone_by: None,
        }
    }
}

fn as_table(entries: &[Entry], is_wide: bool, now: Timestamp) -> String {
    let mut heads = vec![
        "AGE",
        "WORKFLOW",
        "STEP",
        "ACTION",
        "RESULT",
        "CHANGE",
        "BY",
        "APPROVED BY",
    ];
    heads.push("UNDONE BY");
    if is_wide {
        heads.push("EXECUTION");
    }
    let row = |entry: &Entry| {
        let workflow = entry.workflow.as_deref().unwrap_or("-");
        let undoes = if entry.undoes { "undo " } else { "" };
        let result = entry.error_type.as_ref().unwrap_or(&entry.phase);
        let or_none = |text: &Option<String>| in_a_line(text.as_deref().unwrap_or("-"));
        let mut row = vec![
            entry.time.map(|time| span(time, now)).unwrap_or_default(),
            format!("{}/{workflow}", entry.namespace),
            entry.step.to_string(),
            format!("{undoes}{}", entry.action),
            result.clone(),
            or_none(&entry.change),
            or_none(&entry.created_by),
            or_none(&entry.approved_by),
            or_none(&entry.undone_by),
        ];
        if is_wide {
            row.push(format!("{}/{}", entry.namespace, entry.execution));
        }
        row
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    table(&heads, &rows)
}

#[cfg(test)]
mod tests {
    use kubernaut_machines::Settings;
    use kubernaut_machines::actions::ActionKind;

    use super::*;

    #[test]
    fn a_target_is_named_as_kubectl_and_the_status_name_it() {
        for (text, name) in [
            ("deployment/shop/web", "deployment/shop/web"),
            ("deploy/web", "deployment/here/web"),
            ("Deployments/web", "deployment/here/web"),
            ("sts/shop/db", "statefulset/shop/db"),
            ("node/node-1", "node/node-1"),
            ("no/node-1", "node/node-1"),
            ("cm/shop/settings", "configmap/shop/settings"),
            ("networkpolicies/shop/web", "networkpolicy/shop/web"),
            ("ing/shop/web", "ingress/shop/web"),
        ] {
            let target = Target::parse(text, "here").map(|target| target.name());
            assert_eq!(target.ok().as_deref(), Some(name), "{text}");
        }
        for text in [
            "web",
            "deployment/",
            "/web",
            "deployment//web",
            "",
            "deplyment/web",
        ] {
            assert!(Target::parse(text, "here").is_err(), "{text}");
        }
    }

    #[test]
    fn every_kind_that_steps_act_on_can_be_asked_for() {
        let settings = Settings::default().without_limits();
        let mut kinds = settings.apply_manifest_kinds.clone();
        for kind in ActionKind::ALL {
            for (_, parameters) in kind.samples() {
                let execution = serde_json::json!({"metadata": {"name": "x"},
                    "spec": {"action": kind.canonical(), "parameters": parameters}});
                let execution: KubernetesExecution = serde_json::from_value(execution).expect("an execution");
                let checked = kubernaut_machines::parameters::check(&execution, &settings).expect("sound");
                kinds.push(checked.target.kind);
            }
        }
        for kind in kinds {
            let kind = kind.split('.').next().unwrap_or_default().to_lowercase();
            assert!(KINDS.iter().any(|(one, ..)| *one == kind), "{kind}");
        }
    }
}
