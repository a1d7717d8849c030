//! The kubectl of executor pods: exactly the commands that this project's Jobs run, with kubectl 1.35's requests,
//! output and exit codes, under the rights of the pod's ServiceAccount.

mod call;
mod drain;
mod edit;

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use crate::api::User;
use crate::api::state::State;
use crate::kubectl::call::Failure;

/// A running kubectl.
#[derive(Debug)]
pub(crate) struct Process {
    arguments: Arguments,
    user: User,
    namespace: String,
    pod: Value,
    container: Value,
    started: Instant,
    drain: Option<drain::Drain>,
    /// What it has printed, both streams together as a container log has them.
    pub(crate) output: String,
}

/// How far a kubectl has come.
pub(crate) enum Progress {
    /// Wants to go on after a time.
    Again(Duration),
    /// Has ended with this exit code.
    Done(i32),
}

/// The command line, taken apart.
#[derive(Debug, Default)]
struct Arguments {
    words: Vec<String>,
    flags: BTreeMap<String, String>,
}

impl Arguments {
    fn parse(container: &Value) -> Self {
        let mut list: Vec<&str> = ["command", "args"]
            .iter()
            .flat_map(|field| container[*field].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .collect();
        if list
            .first()
            .is_some_and(|first| first.rsplit('/').next() == Some("kubectl"))
        {
            list.remove(0);
        }
        let mut out = Self::default();
        for word in list {
            match word
                .strip_prefix("--")
                .map(|flag| flag.split_once('=').unwrap_or((flag, "true")))
            {
                Some((name, value)) => {
                    out.flags.insert(name.to_owned(), value.to_owned());
                }
                None => out.words.push(word.to_owned()),
            }
        }
        out
    }

    fn flag(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str)
    }

    fn is_set(&self, name: &str) -> bool {
        self.flag(name) == Some("true")
    }
}

/// Flags of any command that our Jobs may use. Not those that make a real kubectl forget which cluster its pod runs in,
/// such as --request-timeout.
const KNOWN: &[&str] = &[
    "namespace",
    "replicas",
    "type",
    "patch",
    "patch-file",
    "subresource",
    "raw",
    "filename",
    "server-side",
    "field-manager",
    "force-conflicts",
    "dry-run",
    "grace-period",
    "ignore-daemonsets",
    "delete-emptydir-data",
    "force",
    "timeout",
    "pod-selector",
    "validate",
    "v",
];

impl Process {
    pub(crate) fn new(pod: &Value, container: &Value) -> Self {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        Self {
            arguments: Arguments::parse(container),
            user: User::service_account(&namespace, account),
            namespace,
            pod: pod.clone(),
            container: container.clone(),
            started: Instant::now(),
            drain: None,
            output: String::new(),
        }
    }

    fn print(&mut self, line: &str) {
        self.output.push_str(line);
        self.output.push('\n');
    }

    fn fail(&mut self, failure: &Failure) -> Progress {
        let text = failure.to_string();
        self.print(&text);
        Progress::Done(1)
    }

    fn dry_run(&self) -> bool {
        self.arguments.flag("dry-run") == Some("server")
    }

    /// What a dry run adds to a line of success.
    fn suffix(&self) -> &'static str {
        if self.dry_run() { " (server dry run)" } else { "" }
    }
}

/// Whether a token of the pod's account is where kubectl looks for it: mounted by itself, unless the pod says no, or by
/// a volume of the pod.
fn has_account(process: &Process) -> bool {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let spec = &process.pod["spec"];
    let mut mounts = items(&process.container["volumeMounts"]).into_iter();
    let mount = mounts.find(|mount| mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount");
    let Some(mount) = mount else {
        return spec["automountServiceAccountToken"] != false;
    };
    let volumes = items(&spec["volumes"]).into_iter();
    volumes
        .filter(|volume| volume["name"] == mount["name"])
        .flat_map(|volume| items(&volume["projected"]["sources"]))
        .any(|source| source["serviceAccountToken"]["path"] == "token")
}

/// Runs a kubectl as far as it comes.
pub(crate) fn run(state: &mut State, process: &mut Process) -> Progress {
    if let Some(unknown) = process
        .arguments
        .flags
        .keys()
        .find(|f| !KNOWN.contains(&f.as_str()))
    {
        let failure = Failure::Text(format!("error: unknown flag: --{unknown}"));
        return process.fail(&failure);
    }
    if !has_account(process) {
        let nowhere = "The connection to the server localhost:8080 was refused - did you specify the right host or port?";
        return process.fail(&Failure::Text(nowhere.to_owned()));
    }
    let words: Vec<String> = process.arguments.words.clone();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["scale", target] => edit::scale(state, process, target),
        ["patch", target] => edit::patch(state, process, target),
        ["delete"] => edit::raw(state, process, "DELETE"),
        ["create"] => edit::raw(state, process, "POST"),
        ["apply"] => edit::apply(state, process),
        ["cordon", node] => edit::cordon(state, process, node, true),
        ["uncordon", node] => edit::cordon(state, process, node, false),
        ["drain", node] => return drain::step(state, process, node),
        other => Err(Failure::Text(format!(
            "error: unknown command \"{}\" for \"kubectl\"",
            other.join(" ")
        ))),
    };
    match result {
        Ok(()) => Progress::Done(0),
        Err(failure) => process.fail(&failure),
    }
}
