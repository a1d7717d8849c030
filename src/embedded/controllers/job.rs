//! The Job controller: one pod per attempt, and the conditions that clients read.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::api::delete::DeleteOptions;
use crate::api::state::State;
use crate::api::store::{Change, Commit, Key};
use crate::api::write::set_or_remove;
use crate::controllers::{
    SOON, Timer, condition, controller_of, count, is_deleting, is_ready, is_terminal, set_condition,
    set_count,
};

/// The ended pods of a Job; they count even when they are gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    failed: BTreeSet<String>,
    succeeded: BTreeSet<String>,
    /// Why no further pod is made.
    policy: Option<String>,
}

impl State {
    /// Counts a Job's pod when it ends, or vanishes before it has.
    pub(crate) fn count_job_pod(&mut self, commit: &Commit) {
        let pod = &commit.object;
        let Some(owner) = controller_of(pod).filter(|o| o["kind"] == "Job") else {
            return;
        };
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let (job_uid, uid) = (text(&owner["uid"]), text(&pod["metadata"]["uid"]));
        let key = Key::new("jobs.batch", &commit.key.namespace, &text(&owner["name"]));
        let Some(job) = self.same(&key, &job_uid) else {
            return;
        };
        let ended = self.ended.entry(job_uid).or_default();
        if ended.failed.contains(&uid) || ended.succeeded.contains(&uid) {
            return;
        }
        if pod["status"]["phase"] == "Succeeded" {
            ended.succeeded.insert(uid);
        } else if pod["status"]["phase"] == "Failed" {
            match pod_failure(&job, pod) {
                Some(Verdict::FailJob(why)) => {
                    ended.policy = Some(why);
                    ended.failed.insert(uid);
                }
                Some(Verdict::Ignore) => {}
                None => {
                    ended.failed.insert(uid);
                }
            }
        } else if commit.change == Change::Deleted {
            ended.failed.insert(uid);
        }
    }

    pub(crate) fn forget_job(&mut self, job: &Value) {
        if let Some(uid) = job["metadata"]["uid"].as_str() {
            self.ended.remove(uid);
            self.job_started.remove(uid);
            self.expiring.remove(uid);
        }
    }

    pub(crate) fn sync_job(&mut self, key: &Key) {
        let Some(job) = self.store.get(key).cloned() else {
            return;
        };
        let uid = job["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        if is_deleting(&job) {
            return;
        }
        if has_condition(&job, "Complete") || has_condition(&job, "Failed") {
            self.expire_job(key, &job);
            return;
        }
        if job["spec"]["suspend"] == true {
            return;
        }
        if job["status"]["startTime"].is_null() {
            self.start_job(key, &job, &uid);
            return;
        }
        let ended = self.ended.get(&uid).cloned().unwrap_or_default();
        let live: Vec<_> = self
            .owned("pods", &job)
            .into_iter()
            .filter(|(_, pod)| !is_terminal(pod))
            .collect();
        if let Some(target) = condition(&job, "FailureTarget").cloned() {
            for (pod_key, pod) in &live {
                if !is_deleting(pod) {
                    self.remove_object(pod_key, &DeleteOptions::default());
                }
            }
            self.write_counts(key, &ended);
            if self.owned("pods", &job).iter().all(|(_, pod)| is_terminal(pod)) {
                self.finish_job(key, "Failed", &target);
            }
            return;
        }
        let failure = if let Some(why) = &ended.policy {
            Some(("PodFailurePolicy", why.clone()))
        } else if ended.failed.len() > count(&job["spec"]["backoffLimit"]) {
            Some((
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit".to_owned(),
            ))
        } else if self.deadline_passed(&job) {
            Some((
                "DeadlineExceeded",
                "Job was active longer than specified deadline".to_owned(),
            ))
        } else {
            None
        };
        if let Some((reason, message)) = failure {
            self.mark_job(key, "FailureTarget", reason, &message);
            self.sync_job(key);
            return;
        }
        if ended.succeeded.len() >= count(&job["spec"]["completions"]) {
            let message = "Reached expected number of succeeded pods";
            self.write_counts(key, &ended);
            self.mark_job(key, "SuccessCriteriaMet", "CompletionsReached", message);
            let target = json!({"reason": "CompletionsReached", "message": message});
            self.finish_job(key, "Complete", &target);
            return;
        }
        if live.is_empty() {
            let waits = self.retry_wait(&job, ended.failed.len(), &uid, key);
            if !waits && self.make_pod(&job, &job["spec"]["template"], None, None).is_err() {
                self.after(Duration::from_secs(10), Timer::Controller(key.clone(), uid));
            }
        }
        self.write_counts(key, &ended);
    }

    fn start_job(&mut self, key: &Key, job: &Value, uid: &str) {
        let now = self.now_seconds();
        if let Some(seconds) = job["spec"]["activeDeadlineSeconds"].as_u64() {
            self.after(
                Duration::from_secs(seconds),
                Timer::Controller(key.clone(), uid.to_owned()),
            );
        }
        self.job_started.insert(uid.to_owned(), self.now());
        self.write_status(key, |status| status["startTime"] = json!(now));
    }

    /// A failed pod is replaced after 10 s, 20 s, 40 s and so on.
    fn retry_wait(&mut self, job: &Value, failures: usize, uid: &str, key: &Key) -> bool {
        if failures == 0 {
            return false;
        }
        let exponent = u32::try_from(failures - 1).unwrap_or(0).min(6);
        let delay = 10_i64 << exponent;
        let last = self
            .owned("pods", job)
            .iter()
            .filter_map(|(_, pod)| {
                pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
                    .as_str()?
                    .parse::<jiff::Timestamp>()
                    .ok()
            })
            .max();
        let Some(last) = last else { return false };
        let left = delay - (self.now().as_second() - last.as_second());
        if left <= 0 {
            return false;
        }
        self.after(
            Duration::from_secs(left.unsigned_abs()),
            Timer::Controller(key.clone(), uid.to_owned()),
        );
        true
    }

    fn deadline_passed(&self, job: &Value) -> bool {
        let Some(seconds) = job["spec"]["activeDeadlineSeconds"].as_i64() else {
            return false;
        };
        let uid = job["metadata"]["uid"].as_str().unwrap_or("");
        let written = job["status"]["startTime"]
            .as_str()
            .and_then(|t| t.parse::<jiff::Timestamp>().ok());
        let Some(start) = self.job_started.get(uid).copied().or(written) else {
            return false;
        };
        self.now().duration_since(start) >= jiff::SignedDuration::from_secs(seconds)
    }

    fn write_counts(&mut self, key: &Key, ended: &Ended) {
        let Some(job) = self.store.get(key).cloned() else {
            return;
        };
        let pods = self.owned("pods", &job);
        let live = || pods.iter().filter(|(_, pod)| !is_terminal(pod));
        let active = live().filter(|(_, pod)| !is_deleting(pod)).count();
        let ready = live()
            .filter(|(_, pod)| is_ready(pod) && !is_deleting(pod))
            .count();
        let terminating = live().filter(|(_, pod)| is_deleting(pod)).count();
        self.write_status(key, |status| {
            set_count(status, "active", active);
            set_count(status, "failed", ended.failed.len());
            set_count(status, "succeeded", ended.succeeded.len());
            status["ready"] = json!(ready);
            status["terminating"] = json!(terminating);
            status["uncountedTerminatedPods"] = json!({});
        });
    }

    fn mark_job(&mut self, key: &Key, kind: &str, reason: &str, message: &str) {
        let now = self.now_seconds();
        let condition = json!({
            "type": kind, "status": "True", "reason": reason, "message": message, "lastProbeTime": now,
        });
        self.write_status(key, |status| set_condition(status, &now, &condition));
    }

    fn finish_job(&mut self, key: &Key, kind: &str, target: &Value) {
        let now = self.now_seconds();
        let condition = json!({
            "type": kind, "status": "True", "reason": target["reason"], "message": target["message"],
            "lastProbeTime": now,
        });
        let written = self.write_status(key, |status| {
            set_or_remove(status, "active", None);
            status["ready"] = json!(0);
            status["terminating"] = json!(0);
            if kind == "Complete" {
                status["completionTime"] = json!(now);
            }
            set_condition(status, &now, &condition);
        });
        if let Some(job) = written {
            let (class, reason) = if kind == "Complete" {
                ("Normal", "Completed")
            } else {
                ("Warning", target["reason"].as_str().unwrap_or("Failed"))
            };
            let message = if kind == "Complete" {
                "Job completed"
            } else {
                target["message"].as_str().unwrap_or("")
            };
            self.event(&job, class, reason, message);
        }
    }

    /// Deletes a finished Job when its time is over, its pods first.
    fn expire_job(&mut self, key: &Key, job: &Value) {
        let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"].as_i64() else {
            return;
        };
        let uid = job["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        let finished = condition(job, "Complete")
            .or_else(|| condition(job, "Failed"))
            .and_then(|c| c["lastTransitionTime"].as_str()?.parse::<jiff::Timestamp>().ok());
        let Some(finished) = finished else { return };
        let left = ttl - (self.now().as_second() - finished.as_second());
        if left > 0 {
            let due = Duration::from_secs(left.unsigned_abs()) + SOON;
            if self.expiring.insert(uid.clone()) {
                self.after(due, Timer::Controller(key.clone(), uid));
            }
        } else {
            let foreground = DeleteOptions {
                uid: Some(uid),
                propagation: Some("Foreground".to_owned()),
                ..DeleteOptions::default()
            };
            self.remove_object(key, &foreground);
        }
    }
}

enum Verdict {
    FailJob(String),
    Ignore,
}

/// What the Job's pod failure policy says of a failed pod; nothing when no rule fits.
fn pod_failure(job: &Value, pod: &Value) -> Option<Verdict> {
    let name = format!(
        "{}/{}",
        pod["metadata"]["namespace"].as_str().unwrap_or(""),
        pod["metadata"]["name"].as_str().unwrap_or("")
    );
    let rules = job["spec"]["podFailurePolicy"]["rules"].as_array()?;
    for (i, rule) in rules.iter().enumerate() {
        let action = rule["action"].as_str().unwrap_or("Count");
        let verdict = |what: String| match action {
            "FailJob" => Some(Verdict::FailJob(format!(
                "{what} matching FailJob rule at index {i}"
            ))),
            "Ignore" => Some(Verdict::Ignore),
            _ => None,
        };
        for pattern in rule["onPodConditions"].as_array().into_iter().flatten() {
            let wanted = pattern["status"].as_str().unwrap_or("True");
            let found = pod["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|c| c["type"] == pattern["type"] && c["status"] == wanted);
            if found {
                let kind = pattern["type"].as_str().unwrap_or("");
                return verdict(format!("Pod {name} has condition {kind}"));
            }
        }
        let codes = &rule["onExitCodes"];
        if codes.is_object() {
            let values = codes["values"].as_array().cloned().unwrap_or_default();
            for status in pod["status"]["containerStatuses"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let code = &status["state"]["terminated"]["exitCode"];
                let listed = values.contains(code);
                let fits = !code.is_null() && *code != 0 && (codes["operator"] == "In") == listed;
                if fits && (codes["containerName"].is_null() || codes["containerName"] == status["name"]) {
                    let container = status["name"].as_str().unwrap_or("");
                    return verdict(format!(
                        "Container {container} for pod {name} failed with exit code {code}"
                    ));
                }
            }
        }
    }
    None
}

fn has_condition(job: &Value, kind: &str) -> bool {
    condition(job, kind).is_some()
}
