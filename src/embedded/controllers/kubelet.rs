//! The kubelets: pods start, run and stop. Executor pods run the kubectl of this module's neighbour.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::delete::{DeleteOptions, FOREGROUND};
use crate::api::state::State;
use crate::api::store::Key;
use crate::api::write::set_or_remove;
use crate::controllers::scheduler::{is_up, unschedulable};
use crate::controllers::{SOON, Timer, controller_of, is_deleting, is_ready, is_terminal, set_condition};
use crate::kubectl;
use crate::kubectl::Process;

/// What happens to a pod instead of the usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodScript {
    /// The usual, but it takes this long.
    Run {
        /// From the pod's start to its end; of a pod that serves, until it is ready.
        after: Duration,
    },
    /// Ends without having done anything.
    ExitWith {
        /// Exit code of the container.
        code: i32,
        /// Its last words.
        message: String,
    },
    /// Does its work and then fails all the same.
    ActAndFail {
        /// Exit code of the container.
        code: i32,
        /// Its last words.
        message: String,
    },
    /// Does its work, and then its Job disappears.
    ActAndVanish,
    /// Never runs, such as with `ImagePullBackOff`.
    NeverStart {
        /// Why the container waits.
        reason: String,
        /// What the kubelet says about it.
        message: String,
    },
    /// Runs and never ends by itself; takes its whole grace period to stop. A pod that serves is never ready.
    Hang,
    /// Runs on a node that is lost: it never ends, and its deletion is never confirmed.
    Lost,
    /// The node evicts it before it does anything.
    Evicted,
}

/// What a kubelet knows about a pod.
#[derive(Debug)]
pub(crate) struct PodRun {
    script: Option<PodScript>,
    /// Which container is next, init containers first.
    container: usize,
    process: Option<Process>,
    stopping: Option<i64>,
    /// Empty in a cluster without nodes.
    pub(crate) node: String,
}

/// Whether a pod runs for ever and nothing about it is under way.
pub(crate) fn is_serving(pod: &Value) -> bool {
    pod["spec"]["restartPolicy"] == "Always" && is_ready(pod) && !is_deleting(pod)
}

impl PodScript {
    /// That of a pod which waits, and goes on waiting.
    fn stuck(reason: &str) -> Self {
        Self::NeverStart {
            reason: reason.to_owned(),
            message: String::new(),
        }
    }
}

/// What is known of a pod that was loaded with a state of its own: it stays in it.
fn begun_elsewhere(pod: &Value, node: &str) -> Option<PodRun> {
    let status = &pod["status"];
    if status["phase"] != "Pending" {
        return Some(PodRun::new(None, node));
    }
    let begun = ["startTime", "containerStatuses", "initContainerStatuses"];
    if begun.iter().all(|field| status[field].is_null()) {
        return None;
    }
    let reason = status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str();
    Some(PodRun::new(
        Some(PodScript::stuck(reason.unwrap_or_default())),
        node,
    ))
}

impl PodRun {
    fn new(script: Option<PodScript>, node: &str) -> Self {
        Self {
            script,
            container: 0,
            process: None,
            stopping: None,
            node: node.to_owned(),
        }
    }

    /// The pod without what it is doing just now.
    pub(crate) fn at_rest(&self) -> Self {
        Self {
            container: self.container,
            ..Self::new(self.script.clone(), &self.node)
        }
    }
}

impl State {
    /// Looks after a pod that is new or has changed.
    pub(crate) fn sync_pod(&mut self, key: &Key) {
        let Some(pod) = self.store.get(key).cloned().filter(|_| self.options.kubelets) else {
            return;
        };
        let uid = pod["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        if is_deleting(&pod) {
            self.begin_stop(key, &uid, &pod);
            return;
        }
        if is_terminal(&pod) {
            self.runs.remove(&uid);
            return;
        }
        if self.runs.contains_key(&uid) {
            return;
        }
        let at = pod["spec"]["nodeName"].as_str().unwrap_or("");
        if let Some(run) = begun_elsewhere(&pod, at) {
            self.runs.insert(uid, run);
            return;
        }
        let mut assigned = None;
        if at.is_empty() {
            let refused_before = !pod["status"]["conditions"].is_null();
            match self.choose_node(&pod) {
                Ok(_) if refused_before && !self.homeless.contains(&uid) => {
                    // It was loaded so: the reason is one that is not known here, and stays.
                    self.runs.insert(uid, PodRun::new(Some(PodScript::stuck("")), ""));
                    return;
                }
                Ok(node) => assigned = node,
                Err(why) => {
                    let now = self.now_seconds();
                    self.homeless.insert(uid);
                    self.write_status(key, |status| set_condition(status, &now, &unschedulable(&why)));
                    if !refused_before {
                        self.event(&pod, "Warning", "FailedScheduling", &why);
                    }
                    return;
                }
            }
            self.homeless.remove(&uid);
        } else if !self.is_node_up(at) {
            return;
        }
        let script = self.scripts.clone().and_then(|function| function(&pod));
        self.runs
            .insert(uid, PodRun::new(script, assigned.as_deref().unwrap_or(at)));
        if let Some(node) = assigned {
            self.write(key, |pod| {
                pod["spec"]["nodeName"] = json!(node);
            });
        }
        self.start_pod(key);
    }

    fn start_pod(&mut self, key: &Key) {
        let Some(pod) = self.store.get(key).cloned() else {
            return;
        };
        let uid = pod["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        let script = self.runs.get(&uid).and_then(|run| run.script.clone());
        let now = self.now_seconds();
        let waiting = match &script {
            Some(PodScript::NeverStart { reason, message }) => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            _ => json!({"waiting": {"reason": "ContainerCreating"}}),
        };
        let works = pod["spec"]["restartPolicy"] != "Always";
        let runs_at_once = !works && !matches!(script, Some(PodScript::NeverStart { .. }));
        let ready_later = matches!(script, Some(PodScript::Run { .. } | PodScript::Hang));
        self.write_status(key, |status| {
            status["startTime"] = json!(now);
            let scheduled = json!({"type": "PodScheduled", "status": "True"});
            set_condition(status, &now, &scheduled);
            if runs_at_once {
                status["podIP"] = json!("10.0.0.1");
                set_running(status, &pod, &now, !ready_later);
            } else {
                set_ready(status, &now, false);
                set_statuses(status, &pod, "initContainers", &waiting, false);
                set_statuses(status, &pod, "containers", &waiting, false);
            }
        });
        match (works, script) {
            (_, Some(PodScript::NeverStart { .. })) => {}
            (true, script) => {
                let half = self.run_time(script.as_ref()) / 2;
                self.after(half, Timer::Pod(key.clone(), uid));
            }
            (false, Some(PodScript::Run { after })) => self.after(after, Timer::Pod(key.clone(), uid)),
            (false, _) => {}
        }
    }

    fn run_time(&self, script: Option<&PodScript>) -> Duration {
        match script {
            Some(PodScript::Run { after }) => *after,
            _ => self.options.pod_run_time,
        }
    }

    /// The next step of a pod that works: it begins to run, its containers act one after the other, it ends.
    pub(crate) fn step_pod(&mut self, key: &Key, uid: &str) {
        let Some(pod) = self.same(key, uid) else { return };
        let Some(run) = self.runs.get(uid) else { return };
        if is_terminal(&pod) || run.stopping.is_some() {
            return;
        }
        let script = run.script.clone();
        if pod["spec"]["restartPolicy"] == "Always" {
            let now = self.now_seconds();
            self.write_status(key, |status| set_running(status, &pod, &now, true));
            return;
        }
        let begun = pod["status"]["phase"] == "Running" || run.container > 0 || run.process.is_some();
        if !begun {
            if let Some(missing) = self.missing_secret(&pod) {
                let text = format!("MountVolume.SetUp failed for volume: secret \"{missing}\" not found");
                self.event(&pod, "Warning", "FailedMount", &text);
                self.after(Duration::from_secs(2), Timer::Pod(key.clone(), uid.to_owned()));
                return;
            }
            let now = self.now_seconds();
            self.write_status(key, |status| set_running(status, &pod, &now, true));
            match script {
                Some(PodScript::Hang | PodScript::Lost) => {}
                Some(PodScript::Evicted) => self.evict_by_node(key),
                _ => {
                    let half = self.run_time(script.as_ref()) / 2;
                    self.after(half, Timer::Pod(key.clone(), uid.to_owned()));
                }
            }
            return;
        }
        if let Some(PodScript::ExitWith { code, message }) = &script {
            self.end_pod(key, &pod, *code, message);
            return;
        }
        self.act(key, uid, &pod, script.as_ref());
    }

    fn act(&mut self, key: &Key, uid: &str, pod: &Value, script: Option<&PodScript>) {
        let Some(run) = self.runs.get_mut(uid) else { return };
        let (index, process) = (run.container, run.process.take());
        let inits = pod["spec"]["initContainers"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let mains = pod["spec"]["containers"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let Some(container) = inits.iter().chain(mains).nth(index) else {
            return;
        };
        let is_kubectl = container["image"]
            .as_str()
            .is_some_and(|image| image.contains("kubectl"));
        let (code, output) = if is_kubectl {
            let mut process = process.unwrap_or_else(|| Process::new(pod, container));
            match kubectl::run(self, &mut process) {
                kubectl::Progress::Again(delay) => {
                    if let Some(run) = self.runs.get_mut(uid) {
                        run.process = Some(process);
                        self.after(delay, Timer::Pod(key.clone(), uid.to_owned()));
                    }
                    return;
                }
                kubectl::Progress::Done(code) => (code, process.output),
            }
        } else {
            (0, String::new())
        };
        // The work may have removed the pod itself, as when a node is drained that the pod runs on.
        let Some(pod) = self.same(key, uid).filter(|pod| !is_deleting(pod)) else {
            return;
        };
        if index < inits.len() {
            self.end_init(key, uid, &pod, index, code, &output);
            return;
        }
        match script {
            Some(PodScript::ActAndFail { code, message }) => self.end_pod(key, &pod, *code, message),
            Some(PodScript::ActAndVanish) => self.vanish(&pod),
            _ => self.end_pod(key, &pod, code, &output),
        }
    }

    fn end_init(&mut self, key: &Key, uid: &str, pod: &Value, index: usize, code: i32, output: &str) {
        let now = self.now_seconds();
        let policy = pod["spec"]["initContainers"][index]["terminationMessagePolicy"].clone();
        let state = terminated(&now, code, output, &policy);
        self.write_status(key, |status| {
            if status["initContainerStatuses"][index].is_object() {
                status["initContainerStatuses"][index]["state"] = state;
                status["initContainerStatuses"][index]["ready"] = json!(code == 0);
            }
            if code != 0 {
                status["phase"] = json!("Failed");
                set_ready(status, &now, false);
                let waiting = json!({"waiting": {"reason": "PodInitializing"}});
                set_statuses(status, pod, "containers", &waiting, false);
            }
        });
        if code == 0
            && let Some(run) = self.runs.get_mut(uid)
        {
            run.container += 1;
            self.after(SOON, Timer::Pod(key.clone(), uid.to_owned()));
        }
    }

    fn end_pod(&mut self, key: &Key, pod: &Value, code: i32, output: &str) {
        let now = self.now_seconds();
        let policy = pod["spec"]["containers"][0]["terminationMessagePolicy"].clone();
        let mut state = terminated(&now, code, output, &policy);
        state["terminated"]["startedAt"] =
            pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].clone();
        self.write_status(key, |status| {
            status["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
            set_ready(status, &now, false);
            set_statuses(status, pod, "containers", &state, false);
        });
    }

    fn evict_by_node(&mut self, key: &Key) {
        let Some(pod) = self.store.get(key).cloned() else {
            return;
        };
        let now = self.now_seconds();
        let message = "The node was low on resource: memory.";
        self.write_status(key, |status| {
            status["phase"] = json!("Failed");
            status["reason"] = json!("Evicted");
            status["message"] = json!(message);
            set_ready(status, &now, false);
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
                "message": message,
            });
            set_condition(status, &now, &condition);
            set_statuses(
                status,
                &pod,
                "containers",
                &terminated(&now, 137, "", &json!("File")),
                false,
            );
        });
    }

    /// The pod's Job is gone with its pods, as if someone had deleted it.
    fn vanish(&mut self, pod: &Value) {
        if let Some(owner) = controller_of(pod) {
            let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
            let key = Key::new("jobs.batch", namespace, owner["name"].as_str().unwrap_or(""));
            self.remove_finalizer(&key, FOREGROUND);
            self.remove_object(&key, &DeleteOptions::background());
        }
    }

    /// A pod in deletion gets its signal, once; a shorter grace period counts.
    fn begin_stop(&mut self, key: &Key, uid: &str, pod: &Value) {
        let grace = pod["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0);
        if !self.is_node_up(pod["spec"]["nodeName"].as_str().unwrap_or("")) {
            // Nobody there confirms that it has stopped.
            return;
        }
        let Some(run) = self.runs.get_mut(uid) else {
            // Nothing runs it: nothing keeps it.
            self.remove_object(
                key,
                &DeleteOptions {
                    grace: Some(0),
                    ..DeleteOptions::default()
                },
            );
            return;
        };
        if run.stopping.is_some_and(|known| known <= grace) && !is_terminal(pod) {
            return;
        }
        let first = run.stopping.is_none();
        run.stopping = Some(grace);
        let full = Duration::from_secs(grace.unsigned_abs());
        let delay = match run.script {
            Some(PodScript::Lost) => return,
            Some(PodScript::Hang) if !is_terminal(pod) => full,
            _ => SOON.min(full),
        };
        if first || delay == full {
            self.after(delay, Timer::StopPod(key.clone(), uid.to_owned()));
        }
    }

    /// The containers have stopped: the phase becomes final, then the pod goes.
    pub(crate) fn stop_pod(&mut self, key: &Key, uid: &str) {
        let Some(pod) = self.same(key, uid) else { return };
        if !is_terminal(&pod) {
            let code = if matches!(
                self.runs.get(uid),
                Some(PodRun {
                    script: Some(PodScript::Hang),
                    ..
                })
            ) {
                137
            } else {
                i32::from(pod["spec"]["restartPolicy"] == "Never") * 2
            };
            self.end_pod(key, &pod, code, "");
            self.settle();
        }
        self.remove_object(
            key,
            &DeleteOptions {
                grace: Some(0),
                ..DeleteOptions::default()
            },
        );
    }

    pub(crate) fn forget_pod(&mut self, pod: &Value) {
        if let Some(uid) = pod["metadata"]["uid"].as_str() {
            self.runs.remove(uid);
            self.homeless.remove(uid);
        }
    }

    /// Lets a pod that was loaded in its deletion go on as it is: what should have stopped it has not.
    pub(crate) fn keep_from_stopping(&mut self, pod: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let run = PodRun::new(Some(PodScript::Lost), &text(&pod["spec"]["nodeName"]));
        self.runs.insert(text(&pod["metadata"]["uid"]), run);
    }

    /// Whether a kubelet looks after the pods of a node. One that is no object has one, or nothing would happen in a
    /// cluster without nodes.
    fn is_node_up(&self, name: &str) -> bool {
        self.store.find("nodes", "", name).is_none_or(|node| is_up(node))
    }

    /// A failing or healed readiness probe.
    pub(crate) fn set_pod_ready(&mut self, namespace: &str, name: &str, ready: bool) {
        let now = self.now_seconds();
        self.write_status(&Key::new("pods", namespace, name), |status| {
            set_ready(status, &now, ready);
        });
    }

    fn missing_secret(&self, pod: &Value) -> Option<String> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
        pod["spec"]["volumes"]
            .as_array()?
            .iter()
            .filter(|volume| volume["secret"]["optional"] != true)
            .filter_map(|volume| volume["secret"]["secretName"].as_str())
            .find(|name| self.store.find("secrets", namespace, name).is_none())
            .map(ToOwned::to_owned)
    }
}

fn terminated(now: &str, code: i32, output: &str, policy: &Value) -> Value {
    let mut state = json!({
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
        "startedAt": now, "finishedAt": now,
    });
    // The log takes the place of a termination message only when the container failed.
    if code != 0 && policy == "FallbackToLogsOnError" && !output.is_empty() {
        let start = output.len().saturating_sub(2048);
        let start = (start..output.len())
            .find(|i| output.is_char_boundary(*i))
            .unwrap_or(0);
        state["message"] = json!(output[start..]);
    }
    json!({"terminated": state})
}

fn set_ready(status: &mut Value, now: &str, ready: bool) {
    let text = if ready { "True" } else { "False" };
    for kind in ["Initialized", "Ready", "ContainersReady"] {
        let text = if kind == "Initialized" { "True" } else { text };
        set_condition(status, now, &json!({"type": kind, "status": text}));
    }
}

fn set_running(status: &mut Value, pod: &Value, now: &str, ready: bool) {
    status["phase"] = json!("Running");
    set_ready(status, now, ready);
    let running = json!({"running": {"startedAt": now}});
    set_statuses(status, pod, "containers", &running, ready);
}

fn set_statuses(status: &mut Value, pod: &Value, list: &str, state: &Value, ready: bool) {
    let statuses: Vec<Value> = pod["spec"][list]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": "", "ready": ready,
                "started": ready, "restartCount": 0, "state": state,
            })
        })
        .collect();
    let field = if list == "containers" {
        "containerStatuses"
    } else {
        "initContainerStatuses"
    };
    set_or_remove(status, field, (!statuses.is_empty()).then(|| json!(statuses)));
}
