//! A Job and its pods as decisions see them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kubernaut_crds::names;

use crate::classify::tail;
use crate::waiting::Obstacle;

/// What is kept of a container's last words, in bytes (docs/executions.md, Attempts and Jobs).
const MESSAGE_MAX: usize = 4096;

/// A Job and its pods, as far as a decision depends on them.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// Name.
    pub name: String,
    /// Uid; empty when only its pods are left.
    pub uid: String,
    /// Hash of what was recorded before it was made.
    pub hash: Option<String>,
    /// Uid of the execution it was made for.
    pub execution_uid: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// It is being deleted.
    pub deleting: bool,
    /// How it ended; `None` while it has not.
    pub end: Option<JobEnd>,
    /// It has a pod that has not ended, or may still get one.
    pub live: bool,
    /// Its pods.
    pub pods: Vec<PodView>,
}

impl JobView {
    /// Whether a controller of this kind made it: each Job of ours carries the hash of what was recorded, and labels alone anybody
    /// can write. Of one that is gone only a pod is left to be seen.
    pub fn is_made_here(&self) -> bool {
        self.hash.is_some() || self.uid.is_empty()
    }
}

/// A pod of a Job.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    /// Name.
    pub name: String,
    /// Node, once it has one.
    pub node: Option<String>,
    /// Succeeded or Failed.
    pub ended: bool,
    /// A container runs.
    pub running: bool,
    /// Why it can't start, in words, and since when at the latest.
    pub stuck: Option<(String, Timestamp)>,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// kubectl ended well.
    Succeeded {
        /// Its last words; empty where nothing is known of them.
        message: String,
    },
    /// kubectl failed, or never ran.
    Failed {
        /// Reason of the Job's condition or of the pod.
        reason: String,
        /// kubectl's last words, else the Job's message.
        message: String,
        /// Exit code of the container that failed.
        exit_code: Option<i32>,
        /// The pod was evicted or preempted: the action did not fail by itself.
        evicted: bool,
        /// The Job's deadline passed.
        deadline: bool,
    },
}

impl JobView {
    /// Why its pod can't start, and since when.
    pub fn stuck(&self) -> Option<(String, Timestamp)> {
        self.pods.iter().find_map(|pod| pod.stuck.clone())
    }

    /// Whether a container of it runs.
    pub fn has_running_pod(&self) -> bool {
        self.pods.iter().any(|pod| pod.running)
    }
}

/// The Job named `name` with its pods; `None` when there is neither.
///
/// Pods count when the Job controls them by uid. Pods whose Job is gone make a view without a uid: they are live
/// until they end.
pub fn view<'a>(name: &str, job: Option<&Job>, pods: impl IntoIterator<Item = &'a Pod>) -> Option<JobView> {
    let uid = job.and_then(|job| job.metadata.uid.clone());
    let own: Vec<&Pod> = pods
        .into_iter()
        .filter(|pod| {
            pod.metadata.owner_references.iter().flatten().any(|owner| {
                owner.controller == Some(true)
                    && owner.kind == "Job"
                    && uid.as_ref().map_or(owner.name == name, |uid| *uid == owner.uid)
            })
        })
        .collect();
    let views: Vec<PodView> = own.iter().map(|pod| pod_view(pod)).collect();
    let pods_live = views.iter().any(|pod| !pod.ended);
    let Some(job) = job else {
        let execution_uid = own
            .iter()
            .find_map(|pod| label(pod.metadata.labels.as_ref(), names::LABEL_EXECUTION_UID));
        return pods_live.then(|| JobView {
            name: name.to_owned(),
            uid: String::new(),
            hash: None,
            execution_uid,
            created: None,
            deleting: true,
            end: None,
            live: true,
            pods: views,
        });
    };
    let end = own
        .iter()
        .find_map(|pod| pod_end(pod))
        .map(|end| at_deadline(end, job))
        .or_else(|| job_end(job));
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let finished = conditions.into_iter().flatten().any(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    });
    // With a back-off limit of 0 a pod that ended is the last one.
    let may_get_pod = !views.iter().any(|pod| pod.ended);
    Some(JobView {
        name: name.to_owned(),
        uid: uid.unwrap_or_default(),
        hash: job
            .metadata
            .annotations
            .as_ref()
            .and_then(|map| map.get(names::ANNOTATION_JOB_HASH).cloned()),
        execution_uid: label(job.metadata.labels.as_ref(), names::LABEL_EXECUTION_UID),
        created: job.metadata.creation_timestamp.as_ref().map(|time| time.0),
        deleting: job.metadata.deletion_timestamp.is_some(),
        // Complete and Failed come after the last pod has ended (since Kubernetes 1.31); a pod that seems to run then is
        // one that the watch of pods has not caught up with.
        live: !finished && (pods_live || (may_get_pod && job.metadata.deletion_timestamp.is_none())),
        end,
        pods: views,
    })
}

fn label(labels: Option<&std::collections::BTreeMap<String, String>>, name: &str) -> Option<String> {
    labels.and_then(|labels| labels.get(name).cloned())
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().flatten().chain(main.into_iter().flatten())
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

fn pod_view(pod: &Pod) -> PodView {
    let since = pod
        .status
        .as_ref()
        .and_then(|status| status.start_time.as_ref())
        .or(pod.metadata.creation_timestamp.as_ref())
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let stuck = statuses(pod).find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting
            .reason
            .as_deref()
            .filter(|reason| Obstacle::of(reason).is_some())?;
        Some((
            format!("{reason}: {}", waiting.message.as_deref().unwrap_or("no message")),
            since,
        ))
    });
    PodView {
        name: pod.metadata.name.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        ended: matches!(phase(pod), "Succeeded" | "Failed"),
        running: statuses(pod)
            .any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some())),
        stuck,
    }
}

fn pod_end(pod: &Pod) -> Option<JobEnd> {
    let terminated = |failed: bool| {
        statuses(pod)
            .filter_map(|status| status.state.as_ref()?.terminated.as_ref())
            .filter(move |terminated| (terminated.exit_code != 0) == failed)
            .last()
    };
    let words = |failed| {
        let message = terminated(failed).and_then(|terminated| terminated.message.clone());
        tail(&without_log_lines(&message.unwrap_or_default()), MESSAGE_MAX)
    };
    match phase(pod) {
        "Succeeded" => Some(JobEnd::Succeeded {
            message: words(false),
        }),
        "Failed" => {
            let status = pod.status.as_ref();
            let evicted = status
                .and_then(|status| status.conditions.as_ref())
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
            let reason = status
                .and_then(|status| status.reason.clone())
                .or_else(|| terminated(true).and_then(|terminated| terminated.reason.clone()))
                .unwrap_or_else(|| "PodFailed".to_owned());
            let said = error_first(&words(true));
            let message = if said.is_empty() {
                status
                    .and_then(|status| status.message.clone())
                    .unwrap_or_else(|| format!("its pod failed: {reason}"))
            } else {
                said
            };
            let deadline = reason == "DeadlineExceeded";
            let exit_code = terminated(true).map(|terminated| terminated.exit_code);
            Some(JobEnd::Failed {
                reason,
                message,
                exit_code,
                evicted,
                deadline,
            })
        }
        _ => None,
    }
}

/// What kubectl says to a person, without what its libraries log beside it; all of it when it says nothing else.
fn without_log_lines(message: &str) -> String {
    let logged = |line: &&str| {
        let head: Vec<char> = line.chars().take(6).collect();
        matches!(head.as_slice(), ['I' | 'W' | 'E' | 'F', date @ .., ' '] if date.len() == 4 && date.iter().all(char::is_ascii_digit))
    };
    let words: Vec<&str> = message.lines().filter(|line| !logged(line)).collect();
    match words.join("\n").trim() {
        "" => message.trim().to_owned(),
        words => words.to_owned(),
    }
}

/// kubectl's last error first: it says why it gave up, and tables show the first line alone. What a drain repeats every five
/// seconds is quoted once.
fn error_first(said: &str) -> String {
    let mut lines: Vec<&str> = said.lines().collect();
    // A kubelet keeps the last two kilobytes, wherever they begin.
    if let [first, others @ ..] = lines.as_slice()
        && others.iter().any(|other| other.ends_with(first))
    {
        lines.remove(0);
    }
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(*line));
    let is_error = |line: &&str| line.starts_with("error: ") || line.starts_with("Error from server");
    let Some(last) = lines.iter().rposition(is_error) else {
        return said.to_owned();
    };
    let others = lines.iter().enumerate().filter(|(index, _)| *index != last);
    let others = others.map(|(_, line)| *line);
    std::iter::once(lines[last])
        .chain(others)
        .collect::<Vec<_>>()
        .join("\n")
}

/// At the deadline the Job controller deletes the pod: that it failed then says nothing of what it did.
fn at_deadline(mut end: JobEnd, job: &Job) -> JobEnd {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let passed = conditions.into_iter().flatten().any(|condition| {
        condition.status == "True"
            && matches!(condition.type_.as_str(), "FailureTarget" | "Failed")
            && condition.reason.as_deref() == Some("DeadlineExceeded")
    });
    if let JobEnd::Failed { deadline, .. } = &mut end {
        *deadline |= passed;
    }
    end
}

/// Never FailureTarget or SuccessCriteriaMet: those come before the pods have ended.
fn job_end(job: &Job) -> Option<JobEnd> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .find_map(|condition| match condition.type_.as_str() {
            "Complete" => Some(JobEnd::Succeeded {
                message: String::new(),
            }),
            "Failed" => {
                let reason = condition.reason.clone().unwrap_or_default();
                Some(JobEnd::Failed {
                    message: condition
                        .message
                        .clone()
                        .unwrap_or_else(|| format!("the Job failed: {reason}")),
                    exit_code: None,
                    evicted: reason == "PodFailurePolicy",
                    deadline: reason == "DeadlineExceeded",
                    reason,
                })
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
    fn job(conditions: Value) -> Job {
        let status = json!({"conditions": conditions});
        serde_json::from_value(json!({"metadata": {"name": "j", "uid": "u"}, "status": status})).unwrap()
    }

    fn running_pod() -> Pod {
        let owner =
            json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true});
        let metadata = json!({"name": "j-1", "ownerReferences": [owner]});
        serde_json::from_value(json!({"metadata": metadata, "status": {"phase": "Running"}})).unwrap()
    }

    #[test]
    fn a_job_that_is_complete_does_not_live_although_the_watch_of_pods_lags() {
        let pods = [running_pod()];
        for condition in ["Complete", "Failed"] {
            let done = job(json!([{"type": condition, "status": "True"}]));
            assert!(!view("j", Some(&done), &pods).unwrap().live);
        }
        let ending = job(json!([{"type": "SuccessCriteriaMet", "status": "True"}]));
        assert!(view("j", Some(&ending), &pods).unwrap().live);
    }

    #[test]
    fn the_error_that_kubectl_ends_with_comes_first() {
        for (said, quoted) in [
            (
                "node/n1 already cordoned\nevicting pod a/b\nerror: unable to drain node \"n1\" due to error: x\nThere are pending nodes",
                "error: unable to drain node \"n1\" due to error: x\nnode/n1 already cordoned\nevicting pod a/b\nThere are pending nodes",
            ),
            ("error: told to fail", "error: told to fail"),
            ("a\nb", "a\nb"),
            (
                "y the budget\nevicting a\nany the budget\nevicting a\nany the budget\nerror: timeout",
                "error: timeout\nevicting a\nany the budget",
            ),
            ("", ""),
        ] {
            assert_eq!(error_first(said), quoted);
        }
    }

    #[test]
    fn kubectl_is_quoted_without_what_its_libraries_log() {
        let refused = "The connection to the server localhost:8080 was refused - did you specify the right host or port?";
        let logged = "E1125 08:11:53.180310       1 memcache.go:265] \"Unhandled Error\" err=\"refused\"";
        for (said, quoted) in [
            (format!("{logged}\n{logged}\n{refused}\n"), refused),
            (format!("{refused}\n"), refused),
            (format!("{logged}\n"), logged),
            (
                "Error from server\nE1125a is no date\n".to_owned(),
                "Error from server\nE1125a is no date",
            ),
            (String::new(), ""),
        ] {
            assert_eq!(without_log_lines(&said), quoted);
        }
    }
}
