//! The world behind the API: what controllers, scheduler and kubelets do about each commit.
//!
//! Every reaction is driven by a commit or by a timer, never by polling, and settles before the next request is
//! answered.

pub(crate) mod autoscaler;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod deployment_status;
pub(crate) mod garbage;
pub(crate) mod job;
pub(crate) mod kubelet;
pub(crate) mod node;
pub(crate) mod outside;
pub(crate) mod pdb;
pub(crate) mod replica_set;
pub(crate) mod revisions;
pub(crate) mod scheduler;
pub(crate) mod stateful_set;

pub(crate) use crate::controllers::job::Ended;
pub(crate) use crate::controllers::revisions::Revisions;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::api::admission::prepare_update;
use crate::api::delete::DeleteOptions;
use crate::api::state::State;
use crate::api::store::{Change, Commit, Key};
use crate::api::typed::drop_nulls;
use crate::api::write::{WriteOptions, count_generation, has_new_content, with_status};

/// As whom the world writes.
const MANAGER: &str = "kube-controller-manager";

/// What happens when its time has come.
#[derive(Clone, Debug)]
pub(crate) enum Timer {
    /// A bookmark for a watch, and the next one.
    Bookmark(u64),
    /// A watch reaches its time-out.
    EndWatch(u64),
    /// The next step of a running pod.
    Pod(Key, String),
    /// A pod in deletion stops.
    StopPod(Key, String),
    /// A controller has something to do for an object, such as what was refused, or a deadline that is over.
    Controller(Key, String),
}

impl State {
    /// Lets the world react to everything that happened, and to its reactions, until nothing is left.
    pub(crate) fn settle(&mut self) {
        while let Some(commit) = self.store.next_unseen() {
            self.react(&commit);
        }
    }

    pub(crate) fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Bookmark(id) => {
                if self.store.bookmark(id, false) {
                    self.after(self.options.bookmark_interval, Timer::Bookmark(id));
                }
            }
            Timer::EndWatch(id) => self.store.end_watch(id),
            Timer::Pod(key, uid) => self.step_pod(&key, &uid),
            Timer::StopPod(key, uid) => self.stop_pod(&key, &uid),
            Timer::Controller(key, uid) => {
                if self.same(&key, &uid).is_some() {
                    self.sync(&key);
                }
            }
        }
    }

    /// Lets the controller of an object's kind do what there is to do for it.
    fn sync(&mut self, key: &Key) {
        match key.resource.as_ref() {
            "deployments.apps" => self.sync_deployment(key),
            "replicasets.apps" => self.sync_replica_set(key),
            "statefulsets.apps" => self.sync_stateful_set(key),
            "daemonsets.apps" => self.sync_daemon_set(key),
            "jobs.batch" => self.sync_job(key),
            "horizontalpodautoscalers.autoscaling" => self.sync_autoscaler(key),
            "poddisruptionbudgets.policy" => self.sync_budget(key),
            _ => {}
        }
    }

    fn react(&mut self, commit: &Commit) {
        let gone = commit.change == Change::Deleted;
        self.collect_garbage(commit);
        match commit.key.resource.as_ref() {
            "namespaces" if !gone => self.sync_namespace(&commit.key),
            "serviceaccounts" if commit.change == Change::Added => {
                self.sync_all("jobs.batch", &commit.key.namespace, Self::sync_job);
                self.sync_all("replicasets.apps", &commit.key.namespace, Self::sync_replica_set);
            }
            // What it refused until now.
            "resourcequotas" => {
                self.sync_all("jobs.batch", &commit.key.namespace, Self::sync_job);
                self.sync_all("replicasets.apps", &commit.key.namespace, Self::sync_replica_set);
            }
            "nodes" => {
                if !gone {
                    self.sync_node(&commit.key);
                }
                self.sync_all("daemonsets.apps", "", Self::sync_daemon_set);
                self.sync_all("pods", "", Self::sync_pod);
            }
            "pods" => self.react_to_pod(commit),
            "replicasets.apps" => {
                if gone {
                    self.forget_owner(&commit.object);
                } else {
                    self.sync_replica_set(&commit.key);
                    self.ask_autoscalers(&commit.key);
                }
                self.sync_controller_of(&commit.object, &commit.key.namespace);
            }
            "deployments.apps" | "statefulsets.apps" if !gone => {
                self.sync(&commit.key);
                self.ask_autoscalers(&commit.key);
            }
            "statefulsets.apps" | "daemonsets.apps" if gone => self.forget_owner(&commit.object),
            "jobs.batch" if gone => self.forget_job(&commit.object),
            "horizontalpodautoscalers.autoscaling" if !gone => self.ask_autoscaler(&commit.key),
            "daemonsets.apps" | "jobs.batch" | "poddisruptionbudgets.policy" if !gone => {
                self.sync(&commit.key);
            }
            _ => {}
        }
        if gone {
            self.finish_namespace(&commit.key.namespace);
        }
    }

    fn react_to_pod(&mut self, commit: &Commit) {
        let namespace = &commit.key.namespace;
        self.count_job_pod(commit);
        if commit.change == Change::Deleted {
            self.forget_pod(&commit.object);
            self.bring_back(commit);
        } else {
            self.sync_pod(&commit.key);
        }
        self.sync_controller_of(&commit.object, namespace);
        if commit.change == Change::Deleted || is_terminal(&commit.object) {
            self.ask_deployment_of(&commit.object, namespace);
        }
        self.sync_all("poddisruptionbudgets.policy", namespace, Self::sync_budget);
    }

    fn sync_all(&mut self, resource: &str, namespace: &str, sync: fn(&mut Self, &Key)) {
        let keys: Vec<Key> = self
            .store
            .list(resource, namespace)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            sync(self, &key);
        }
    }

    fn sync_controller_of(&mut self, object: &Value, namespace: &str) {
        let Some(owner) = controller_of(object) else {
            return;
        };
        let resource = match owner["kind"].as_str() {
            Some("ReplicaSet") => "replicasets.apps",
            Some("Deployment") => "deployments.apps",
            Some("StatefulSet") => "statefulsets.apps",
            Some("DaemonSet") => "daemonsets.apps",
            Some("Job") => "jobs.batch",
            _ => return,
        };
        let key = Key::new(resource, namespace, owner["name"].as_str().unwrap_or(""));
        self.sync(&key);
    }

    /// A Deployment that makes all its pods anew waits for the last of the old ones, which its ReplicaSet does not count.
    fn ask_deployment_of(&mut self, pod: &Value, namespace: &str) {
        let set = controller_of(pod).and_then(|owner| {
            let set = self
                .store
                .find("replicasets.apps", namespace, owner["name"].as_str()?)?;
            (owner["kind"] == "ReplicaSet" && count(&set["spec"]["replicas"]) == 0).then(|| Arc::clone(set))
        });
        if let Some(set) = set {
            self.sync_controller_of(&set, namespace);
        }
    }

    fn forget_owner(&mut self, owner: &Value) {
        let uid = owner["metadata"]["uid"].as_str().unwrap_or("");
        self.refusals.remove(uid);
        self.revisions.remove(uid);
    }

    /// A write of the world's own, which needs no check. One that changes nothing is none.
    pub(crate) fn write(&mut self, key: &Key, change: impl FnOnce(&mut Value)) -> Option<Arc<Value>> {
        let kind = self.kinds.by_storage(&key.resource).cloned()?;
        let old = Arc::clone(self.store.get(key)?);
        let mut new = Value::clone(&old);
        change(&mut new);
        // In custom resources a null may mean something.
        if kind.custom.is_none() {
            drop_nulls(&mut new);
            prepare_update(&kind, &mut new, &old);
        }
        if new == *old {
            return Some(old);
        }
        if has_new_content(&kind, &old, &new) {
            count_generation(&old, &mut new);
        }
        let manager = WriteOptions::system(MANAGER).manager(&kind, false);
        Some(self.succeed(&kind, key, &old, new, Some(manager)))
    }

    /// Changes the status of an object, whose fields nobody owns.
    fn write_status(&mut self, key: &Key, change: impl FnOnce(&mut Value)) -> Option<Arc<Value>> {
        let kind = self.kinds.by_storage(&key.resource).cloned()?;
        let old = Arc::clone(self.store.get(key)?);
        let mut status = old["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        change(&mut status);
        drop_nulls(&mut status);
        if status == old["status"] {
            return Some(old);
        }
        let new = with_status(&old, Some(status));
        Some(self.succeed(&kind, key, &old, new, None))
    }

    fn remove_object(&mut self, key: &Key, options: &DeleteOptions) {
        if let Some(kind) = self.kinds.by_storage(&key.resource).cloned() {
            let _ = self.delete(&kind, key, options);
        }
    }

    /// Pods of a controller, in order.
    fn owned(&self, resource: &str, owner: &Value) -> Vec<(Key, Arc<Value>)> {
        let uid = owner["metadata"]["uid"].as_str().unwrap_or("");
        self.store
            .dependents(uid)
            .into_iter()
            .filter(|key| key.resource.as_ref() == resource)
            .filter_map(|key| self.store.get(&key).cloned().map(|object| (key, object)))
            .filter(|(_, object)| controller_of(object).is_some_and(|o| o["uid"] == uid))
            .collect()
    }

    /// Makes a pod from a controller's template. A refusal becomes a FailedCreate event of the controller; its words are
    /// the error.
    fn make_pod(
        &mut self,
        owner: &Value,
        template: &Value,
        name: Option<&str>,
        node: Option<&str>,
    ) -> Result<(), String> {
        let Some(kind) = self.kinds.by_storage("pods").cloned() else {
            return Err("no pods are served".to_owned());
        };
        let namespace = owner["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {
                "labels": template["metadata"]["labels"],
                "annotations": template["metadata"]["annotations"],
                "ownerReferences": [owner_reference(owner)],
            },
            "spec": template["spec"],
        });
        if let Some(name) = name {
            pod["metadata"]["name"] = json!(name);
        } else {
            let base = owner["metadata"]["name"].as_str().unwrap_or("");
            pod["metadata"]["generateName"] = json!(format!("{base}-"));
        }
        if let Some(node) = node {
            pod["spec"]["nodeName"] = json!(node);
        }
        match self.create(&kind, &namespace, pod, &trusted()) {
            Ok(made) => {
                let name = made["metadata"]["name"].as_str().unwrap_or("").to_owned();
                self.event(
                    owner,
                    "Normal",
                    "SuccessfulCreate",
                    &format!("Created pod: {name}"),
                );
                Ok(())
            }
            Err(error) => {
                let text = format!("Error creating: {}", error.message());
                self.event(owner, "Warning", "FailedCreate", &text);
                Err(error.message().to_owned())
            }
        }
    }

    /// Records an event about an object; the same one again only counts up.
    fn event(&mut self, about: &Value, class: &str, reason: &str, message: &str) {
        let Some(kind) = self.kinds.by_storage("events").cloned() else {
            return;
        };
        let text = |field: &str| about["metadata"][field].as_str().unwrap_or("").to_owned();
        let namespace = if text("namespace").is_empty() {
            "default".to_owned()
        } else {
            text("namespace")
        };
        let now = self.now_seconds();
        // Only warnings repeat; looking for the others would cost more with every event there is.
        let known = self
            .store
            .list("events", &namespace)
            .take_while(|_| class == "Warning")
            .find(|(_, event)| {
                event["involvedObject"]["uid"] == about["metadata"]["uid"]
                    && event["reason"] == reason
                    && event["message"] == message
            })
            .map(|(key, _)| key.clone());
        if let Some(key) = known {
            self.write(&key, |event| {
                event["count"] = json!(event["count"].as_i64().unwrap_or(1) + 1);
                event["lastTimestamp"] = json!(now);
            });
            return;
        }
        let name = format!("{}.{}", text("name"), &self.random.uuid().replace('-', "")[..16]);
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name},
            "involvedObject": {
                "apiVersion": about["apiVersion"], "kind": about["kind"], "name": text("name"),
                "namespace": about["metadata"]["namespace"], "uid": about["metadata"]["uid"],
                "resourceVersion": about["metadata"]["resourceVersion"],
            },
            "type": class, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now, "eventTime": null,
            "source": {"component": "memory"}, "reportingComponent": "memory", "reportingInstance": "",
        });
        let _ = self.create(&kind, &namespace, event, &trusted());
    }
}

/// How what the world itself makes is created: its fields are known, and its spec is that of a template that was checked.
fn trusted() -> WriteOptions {
    WriteOptions {
        trusted: true,
        ..WriteOptions::system(MANAGER)
    }
}

/// The owner that controls an object.
pub(crate) fn controller_of(object: &Value) -> Option<&Value> {
    object["metadata"]["ownerReferences"]
        .as_array()?
        .iter()
        .find(|r| r["controller"] == true)
}

fn owner_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    })
}

/// Sets a condition; its transition time changes with its status only.
fn set_condition(status: &mut Value, now: &str, new: &Value) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    let position = conditions.iter().position(|c| c["type"] == new["type"]);
    let mut new = new.clone();
    new["lastTransitionTime"] = json!(now);
    if let Some(i) = position {
        let old = &conditions[i];
        if old["status"] == new["status"] {
            new["lastTransitionTime"] = old["lastTransitionTime"].clone();
        }
        if old["status"] == new["status"]
            && old["reason"] == new["reason"]
            && old["message"] == new["message"]
        {
            return;
        }
        conditions[i] = new;
    } else {
        conditions.push(new);
    }
}

fn is_terminal(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some()
}

fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The condition of this type.
fn condition_of<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut conditions = object["status"]["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == kind)
}

/// The condition of this type, where it holds.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    condition_of(object, kind).filter(|condition| condition["status"] == "True")
}

/// A number of replicas or the like; none is zero.
fn count(value: &Value) -> usize {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}

/// A number, or a percentage of the total, rounded up or down; none when neither is given.
fn share(value: &Value, total: usize, up: bool) -> Option<usize> {
    if let Some(number) = value.as_u64() {
        return Some(usize::try_from(number).unwrap_or(usize::MAX));
    }
    let percent: usize = value.as_str()?.strip_suffix('%')?.parse().ok()?;
    let hundredths = total.saturating_mul(percent);
    Some(if up {
        hundredths.div_ceil(100)
    } else {
        hundredths / 100
    })
}

/// Numbers of zero are left out, as the server's types do it.
fn set_count(status: &mut Value, field: &str, count: usize) {
    let value = (count > 0).then(|| json!(count));
    crate::api::write::set_or_remove(status, field, value);
}

/// A moment so short that it only keeps order.
const SOON: Duration = Duration::from_millis(1);
