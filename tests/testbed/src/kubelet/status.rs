//! The status of a pod as a kubelet reports it.

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::node_ip;

/// What is known of one container.
#[derive(Clone)]
pub(super) enum ContainerState {
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        since: Timestamp,
    },
    Terminated {
        code: i32,
        reason: String,
        message: String,
        since: Timestamp,
        until: Timestamp,
    },
}

impl ContainerState {
    pub(super) fn waiting(reason: &str, message: &str) -> Self {
        Self::Waiting {
            reason: reason.into(),
            message: message.into(),
        }
    }

    pub(super) fn running() -> Self {
        Self::Running {
            since: Timestamp::now(),
        }
    }

    /// This container, ended now.
    pub(super) fn ended(&self, code: i32, reason: &str, message: &str) -> Self {
        let until = Timestamp::now();
        let since = if let Self::Running { since } = self {
            *since
        } else {
            until
        };
        Self::Terminated {
            code,
            reason: reason.into(),
            message: message.into(),
            since,
            until,
        }
    }

    fn exit_code(&self) -> Option<i32> {
        if let Self::Terminated { code, .. } = self {
            Some(*code)
        } else {
            None
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            Self::Running { since } => json!({"running": {"startedAt": Time(*since)}}),
            Self::Terminated {
                code,
                reason,
                message,
                since,
                until,
            } => json!({"terminated": {
                "exitCode": code, "reason": reason, "message": message,
                "startedAt": Time(*since), "finishedAt": Time(*until),
            }}),
        }
    }
}

/// One container's name, image and state.
pub(super) struct ContainerReport {
    name: String,
    image: String,
    pub(super) state: ContainerState,
}

/// Everything a kubelet says about a pod.
pub(super) struct PodReport {
    uid: String,
    started: Timestamp,
    host_ip: String,
    pod_ip: String,
    pub(super) init: Vec<ContainerReport>,
    pub(super) main: Vec<ContainerReport>,
    evicted: Option<String>,
}

impl PodReport {
    pub(super) fn new(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let report = |container: &Container| ContainerReport {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: ContainerState::waiting("ContainerCreating", ""),
        };
        Self {
            started: Timestamp::now(),
            host_ip: node_ip(spec.node_name.as_deref().unwrap_or_default()),
            pod_ip: pod_ip(&uid),
            uid,
            init: spec.init_containers.iter().flatten().map(report).collect(),
            main: spec.containers.iter().map(report).collect(),
            evicted: None,
        }
    }

    /// Gives every container that has not ended this state.
    pub(super) fn set_unfinished(&mut self, next: impl Fn(&ContainerState) -> ContainerState) {
        for container in self.init.iter_mut().chain(&mut self.main) {
            if container.state.exit_code().is_none() {
                container.state = next(&container.state);
            }
        }
    }

    /// The node needs what the pod uses: its containers are killed, and it is marked so that a Job's
    /// podFailurePolicy can tell this from a failure of its own.
    pub(super) fn evict(&mut self, message: &str) {
        self.set_unfinished(|state| state.ended(137, "Error", ""));
        self.evicted = Some(message.into());
    }

    /// Without restarts: this kubelet runs every container once.
    fn phase(&self) -> &'static str {
        let codes = |containers: &[ContainerReport]| -> Vec<Option<i32>> {
            containers
                .iter()
                .map(|container| container.state.exit_code())
                .collect()
        };
        let (init, main) = (codes(&self.init), codes(&self.main));
        let failed = |code: &Option<i32>| code.is_some_and(|code| code != 0);
        let all_ended = main.iter().all(Option::is_some);
        if self.evicted.is_some() || init.iter().any(failed) || all_ended && main.iter().any(failed) {
            "Failed"
        } else if all_ended {
            "Succeeded"
        } else if self
            .main
            .iter()
            .any(|container| !matches!(container.state, ContainerState::Waiting { .. }))
        {
            "Running"
        } else {
            "Pending"
        }
    }

    /// A strategic merge patch of the pod's status: conditions that others set (eviction does) stay.
    pub(super) fn to_patch(&self) -> Value {
        let phase = self.phase();
        let now = Time(Timestamp::now());
        let ready = phase == "Running";
        let initialized = self
            .init
            .iter()
            .all(|container| container.state.exit_code() == Some(0));
        let ready_reason = match phase {
            "Succeeded" => "PodCompleted",
            "Failed" => "PodFailed",
            "Running" => "",
            _ => "ContainersNotReady",
        };
        let condition = |name: &str, holds: bool, reason: &str| {
            let status = if holds { "True" } else { "False" };
            json!({"type": name, "status": status, "reason": reason, "lastTransitionTime": now})
        };
        let mut conditions = vec![
            condition("PodReadyToStartContainers", ready, ""),
            condition("Initialized", initialized, ""),
            condition("Ready", ready, ready_reason),
            condition("ContainersReady", ready, ready_reason),
            condition("PodScheduled", true, ""),
        ];
        let mut status = Map::new();
        if let Some(message) = &self.evicted {
            let mut disruption = condition("DisruptionTarget", true, "TerminationByKubelet");
            disruption["message"] = json!(message);
            conditions.push(disruption);
            status.insert("reason".into(), json!("Evicted"));
            status.insert("message".into(), json!(message));
        }
        let uid = &self.uid;
        let containers = |list: &[ContainerReport]| -> Value {
            list.iter()
                .map(|container| container_status(uid, container))
                .collect()
        };
        status.insert("phase".into(), json!(phase));
        status.insert("conditions".into(), json!(conditions));
        status.insert("startTime".into(), json!(Time(self.started)));
        status.insert("hostIP".into(), json!(self.host_ip));
        status.insert("hostIPs".into(), json!([{"ip": self.host_ip}]));
        status.insert("podIP".into(), json!(self.pod_ip));
        status.insert("podIPs".into(), json!([{"ip": self.pod_ip}]));
        status.insert("initContainerStatuses".into(), containers(&self.init));
        status.insert("containerStatuses".into(), containers(&self.main));
        // The uid makes the API server refuse the patch for a later pod of the same name.
        json!({"metadata": {"uid": self.uid}, "status": status})
    }
}

/// An address nobody answers at. It follows from the uid, because a pod must keep its address over a restart of the
/// fake kubelet: the API server refuses a second one.
fn pod_ip(uid: &str) -> String {
    let number = uid
        .get(..4)
        .and_then(|digits| u16::from_str_radix(digits, 16).ok())
        .unwrap_or(0);
    let [high, low] = number.to_be_bytes();
    format!("10.244.{high}.{low}")
}

fn container_status(uid: &str, container: &ContainerReport) -> Value {
    let running = matches!(container.state, ContainerState::Running { .. });
    let began = !matches!(container.state, ContainerState::Waiting { .. });
    json!({
        "name": container.name,
        "image": container.image,
        "imageID": if began { container.image.as_str() } else { "" },
        "containerID": if began { format!("fake://{uid}/{}", container.name) } else { String::new() },
        "ready": running,
        "started": running,
        "restartCount": 0,
        "state": container.state.to_json(),
    })
}
