//! `kubectl drain`: cordons, chooses pods by kubectl's own filters, evicts them, waits until they are gone.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::api::state::State;
use crate::controllers::controller_of;
use crate::kubectl::call::{Failure, bytes, eviction};
use crate::kubectl::{Process, Progress, edit};

const DAEMON_FATAL: &str = "DaemonSet-managed Pods (use --ignore-daemonsets to ignore)";
const DAEMON_WARNING: &str = "ignoring DaemonSet-managed Pods";
const LOCAL_FATAL: &str = "Pods with local storage (use --delete-emptydir-data to override)";
const LOCAL_WARNING: &str = "deleting Pods with local storage";
const UNMANAGED_FATAL: &str = "Pods that declare no controller (use --force to override)";
const UNMANAGED_WARNING: &str = "deleting Pods that declare no controller";

/// A drain under way.
#[derive(Debug)]
pub(crate) struct Drain {
    pods: Vec<Victim>,
}

#[derive(Debug)]
struct Victim {
    namespace: String,
    name: String,
    uid: String,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    ToEvict,
    ToVanish,
    Done,
    Failed(String),
}

/// What a filter says of a pod.
enum Verdict {
    Okay,
    Warn(String),
    Skip,
    SkipWarn(String),
    Fatal(String),
}

/// The next step of a drain.
pub(crate) fn step(state: &mut State, process: &mut Process, node: &str) -> Progress {
    if process.drain.is_none() {
        match begin(state, process, node) {
            Ok(drain) => process.drain = Some(drain),
            Err(failure) => return give_up(process, node, &failure),
        }
    }
    let Some(mut drain) = process.drain.take() else {
        return Progress::Done(1);
    };
    let wait = advance(state, process, &mut drain);
    let failures: Vec<String> = drain
        .pods
        .iter()
        .filter_map(|victim| match &victim.stage {
            Stage::Failed(text) => Some(text.clone()),
            Stage::ToEvict | Stage::ToVanish | Stage::Done => None,
        })
        .collect();
    if let Some(wait) = wait {
        process.drain = Some(drain);
        return Progress::Again(wait);
    }
    if failures.is_empty() {
        let line = format!("node/{node} drained{}", process.suffix());
        process.print(&line);
        return Progress::Done(0);
    }
    let text = aggregate(failures);
    process.print(&format!(
        "There are pending pods in node \"{node}\" when an error occurred: {text}"
    ));
    let left: Vec<String> = drain
        .pods
        .iter()
        .filter(|victim| victim.stage != Stage::Done)
        .map(|victim| format!("pod/{}", victim.name))
        .collect();
    for line in left {
        process.print(&line);
    }
    give_up(process, node, &Failure::Text(text))
}

fn give_up(process: &mut Process, node: &str, failure: &Failure) -> Progress {
    if let Failure::Status(_) = failure {
        return process.fail(failure);
    }
    let text = failure.message().to_owned();
    process.print(&format!(
        "error: unable to drain node \"{node}\" due to error: {text}, continuing command..."
    ));
    process.print("There are pending nodes to be drained:");
    process.print(&format!(" {node}"));
    // kubectl puts the word before its last line unless it is there already.
    let last = if text.starts_with("error: ") {
        text
    } else {
        format!("error: {text}")
    };
    process.print(&last);
    Progress::Done(1)
}

fn aggregate(mut texts: Vec<String>) -> String {
    if texts.len() == 1 {
        texts.remove(0)
    } else {
        format!("[{}]", texts.join(", "))
    }
}

fn begin(state: &mut State, process: &mut Process, node: &str) -> Result<Drain, Failure> {
    edit::cordon(state, process, node, true)?;
    let mut target = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&limit=500");
    if let Some(selector) = process.arguments.flag("pod-selector") {
        target.push_str("&labelSelector=");
        target.push_str(
            &selector
                .replace('%', "%25")
                .replace('=', "%3D")
                .replace('&', "%26"),
        );
    }
    let list = process
        .get(state, &target)
        .map_err(|e| Failure::Text(e.message().to_owned()))?;
    let mut fatal: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut warnings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut pods = Vec::new();
    for pod in list["items"].as_array().into_iter().flatten() {
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or("").to_owned();
        let full = format!("{}/{}", text("namespace"), text("name"));
        let mut go = true;
        let mut said: Option<(bool, String)> = None;
        for filter in [daemon_filter, mirror_filter, local_filter, unmanaged_filter] {
            match filter(state, process, pod) {
                Verdict::Okay => said = None,
                Verdict::Warn(text) => said = Some((false, text)),
                Verdict::Skip => {
                    said = None;
                    go = false;
                }
                Verdict::SkipWarn(text) => {
                    said = Some((false, text));
                    go = false;
                }
                Verdict::Fatal(text) => {
                    said = Some((true, text));
                    go = false;
                }
            }
            if !go {
                break;
            }
        }
        match said {
            Some((true, text)) => fatal.entry(text).or_default().push(full),
            Some((false, text)) => warnings.entry(text).or_default().push(full),
            None => {}
        }
        if go {
            pods.push(Victim {
                namespace: text("namespace"),
                name: text("name"),
                uid: text("uid"),
                stage: Stage::ToEvict,
            });
        }
    }
    if !fatal.is_empty() {
        let texts = fatal
            .iter()
            .map(|(text, pods)| format!("cannot delete {text}: {}", pods.join(", ")))
            .collect();
        return Err(Failure::Text(aggregate(texts)));
    }
    if !warnings.is_empty() {
        let texts: Vec<String> = warnings
            .iter()
            .map(|(text, pods)| format!("{text}: {}", pods.join(", ")))
            .collect();
        process.print(&format!("Warning: {}", texts.join("; ")));
    }
    Ok(Drain { pods })
}

/// Evicts and looks after what was evicted; how long to wait, if there is anything left to wait for.
fn advance(state: &mut State, process: &mut Process, drain: &mut Drain) -> Option<Duration> {
    let timeout = process.arguments.flag("timeout").unwrap_or("0s").to_owned();
    let limit = timeout.trim_end_matches('s').parse::<u64>().unwrap_or(0);
    let expired = limit > 0 && process.started.elapsed() >= Duration::from_secs(limit);
    let grace: Option<i64> = process
        .arguments
        .flag("grace-period")
        .and_then(|g| g.parse().ok())
        .filter(|g| *g >= 0);
    let dry_run = process.dry_run();
    let mut wait: Option<Duration> = None;
    let mut sooner = |delay: u64| {
        let delay = Duration::from_secs(delay);
        wait = Some(wait.map_or(delay, |w| w.min(delay)));
    };
    for victim in &mut drain.pods {
        let (namespace, name) = (victim.namespace.clone(), victim.name.clone());
        let failed = |text: &str| {
            Stage::Failed(format!(
                "error when evicting pods/\"{name}\" -n \"{namespace}\": {text}"
            ))
        };
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        if victim.stage == Stage::ToEvict {
            if expired {
                victim.stage = failed(&format!("global timeout reached: {timeout}"));
                continue;
            }
            process.print(&format!("evicting pod {namespace}/{name}{}", process.suffix()));
            let body = bytes(&eviction(&namespace, &name, grace, dry_run));
            let target = format!("{path}/eviction");
            match process.call(state, "POST", &target, "application/json", body) {
                Ok(_) if dry_run => victim.stage = Stage::Done,
                Ok(_) => victim.stage = Stage::ToVanish,
                Err(failure) if failure.code() == 404 => victim.stage = Stage::Done,
                Err(failure) if failure.code() == 429 => {
                    process.print(&format!(
                        "error when evicting pods/\"{name}\" -n \"{namespace}\" (will retry after 5s): {}",
                        failure.message()
                    ));
                    sooner(5);
                }
                Err(failure) => victim.stage = failed(failure.message()),
            }
        }
        if victim.stage == Stage::ToVanish {
            match process.get(state, &path) {
                Ok(pod) if pod["metadata"]["uid"] == victim.uid.as_str() => {
                    if expired {
                        victim.stage = Stage::Failed(format!(
                            "error when waiting for pod \"{name}\" in namespace \"{namespace}\" to terminate: global \
                             timeout reached: {timeout}"
                        ));
                    } else {
                        sooner(1);
                    }
                }
                Ok(_) => victim.stage = Stage::Done,
                Err(failure) if failure.code() == 404 => victim.stage = Stage::Done,
                Err(failure) => {
                    victim.stage = Stage::Failed(format!(
                        "error when waiting for pod \"{name}\" in namespace \"{namespace}\" to terminate: {}",
                        failure.message()
                    ));
                }
            }
            if victim.stage == Stage::Done {
                process.print(&format!("pod/{name} evicted"));
            }
        }
    }
    // The time-out ends a wait, too.
    let left = Duration::from_secs(limit).saturating_sub(process.started.elapsed());
    wait.map(|wait| if limit > 0 { wait.min(left) } else { wait })
}

fn finished(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn daemon_filter(state: &mut State, process: &mut Process, pod: &Value) -> Verdict {
    let Some(owner) = controller_of(pod).filter(|o| o["kind"] == "DaemonSet") else {
        return Verdict::Okay;
    };
    if finished(pod) {
        return Verdict::Okay;
    }
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
    let path = format!(
        "/apis/apps/v1/namespaces/{namespace}/daemonsets/{}",
        owner["name"].as_str().unwrap_or("")
    );
    match process.get(state, &path) {
        Err(failure) if failure.code() == 404 && process.arguments.is_set("force") => {
            Verdict::Warn(failure.message().to_owned())
        }
        Err(failure) => Verdict::Fatal(failure.message().to_owned()),
        Ok(_) if process.arguments.is_set("ignore-daemonsets") => {
            Verdict::SkipWarn(DAEMON_WARNING.to_owned())
        }
        Ok(_) => Verdict::Fatal(DAEMON_FATAL.to_owned()),
    }
}

fn mirror_filter(_: &mut State, _: &mut Process, pod: &Value) -> Verdict {
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
        Verdict::Okay
    } else {
        Verdict::Skip
    }
}

fn local_filter(_: &mut State, process: &mut Process, pod: &Value) -> Verdict {
    let local = pod["spec"]["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|v| v["emptyDir"].is_object());
    if !local || finished(pod) {
        Verdict::Okay
    } else if process.arguments.is_set("delete-emptydir-data") {
        Verdict::Warn(LOCAL_WARNING.to_owned())
    } else {
        Verdict::Fatal(LOCAL_FATAL.to_owned())
    }
}

fn unmanaged_filter(_: &mut State, process: &mut Process, pod: &Value) -> Verdict {
    if finished(pod) || controller_of(pod).is_some() {
        Verdict::Okay
    } else if process.arguments.is_set("force") {
        Verdict::Warn(UNMANAGED_WARNING.to_owned())
    } else {
        Verdict::Fatal(UNMANAGED_FATAL.to_owned())
    }
}
