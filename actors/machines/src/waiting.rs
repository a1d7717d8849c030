//! What a pod waits for, and whether it heals by itself.

use serde_json::Value;

use crate::classify::cut;

/// What a kubelet says of a wait can be long, and the pod is there to look at.
const WHY_MAX: usize = 400;

/// Something that keeps a pod from running and that no waiting mends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// Its image can't be had.
    Image,
    /// Something that its containers are made of is missing or wrong.
    Configuration,
    /// Its container ends again and again.
    Crash,
    /// No node takes it.
    Place,
}

impl Obstacle {
    /// The obstacle behind the reason of a waiting container; `None` where it is only slow. A pull that failed and the pause before
    /// the next one are the same obstacle.
    pub fn of(reason: &str) -> Option<Self> {
        Some(match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable" => Obstacle::Image,
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                Obstacle::Configuration
            }
            "CrashLoopBackOff" => Obstacle::Crash,
            _ => return None,
        })
    }
}

/// A pod that is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingPod {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// What no waiting mends.
    pub obstacle: Option<Obstacle>,
    /// The reason and what is said of it, `ImagePullBackOff: Back-off pulling image "web:9"`.
    pub why: String,
}

/// What a pod waits for; `None` where it is ready, has ended, or is on its way out.
pub fn waiting(pod: &Value) -> Option<WaitingPod> {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    let ended = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    if ended || !metadata["deletionTimestamp"].is_null() || condition(status, "Ready")["status"] == "True" {
        return None;
    }
    let (obstacle, why) = reason_of(status);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(WaitingPod {
        name: text(&metadata["name"]),
        uid: text(&metadata["uid"]),
        obstacle,
        why: cut(&why, WHY_MAX),
    })
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

fn reason_of(status: &Value) -> (Option<Obstacle>, String) {
    let scheduled = condition(status, "PodScheduled");
    if scheduled["status"] == "False" {
        let reason = scheduled["reason"].as_str().unwrap_or("not scheduled");
        let obstacle = (reason == "Unschedulable").then_some(Obstacle::Place);
        return (obstacle, said(reason, &scheduled["message"]));
    }
    let containers = || {
        ["initContainerStatuses", "containerStatuses"]
            .into_iter()
            .flat_map(|list| status[list].as_array().into_iter().flatten())
    };
    let waits = || containers().map(|container| &container["state"]["waiting"]);
    let reason = |waiting: &Value| waiting["reason"].as_str().map(str::to_owned);
    // Beside one that can't start, others wait for it.
    if let Some((obstacle, waiting)) =
        waits().find_map(|waiting| Some((Obstacle::of(&reason(waiting)?)?, waiting)))
    {
        let reason = reason(waiting).unwrap_or_default();
        return (Some(obstacle), said(&reason, &waiting["message"]));
    }
    if let Some(crashed) = containers().find(|container| container["lastState"]["terminated"].is_object()) {
        let (name, last) = (&crashed["name"], &crashed["lastState"]["terminated"]);
        let why = format!(
            "container {} ended with exit code {} ({}) and was started again",
            name.as_str().unwrap_or_default(),
            last["exitCode"].as_i64().unwrap_or_default(),
            last["reason"].as_str().unwrap_or("no reason"),
        );
        return (None, why);
    }
    if let Some((reason, waiting)) = waits().find_map(|waiting| Some((reason(waiting)?, waiting))) {
        return (None, said(&reason, &waiting["message"]));
    }
    let unready = containers().find(|container| container["ready"] != true);
    let why = unready
        .and_then(|container| container["name"].as_str())
        .map_or_else(
            || "not started yet".to_owned(),
            |name| format!("container {name} runs and is not ready"),
        );
    (None, why)
}

fn said(reason: &str, message: &Value) -> String {
    match message.as_str().filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &Value) -> Value {
        json!({"metadata": {"name": "web-a", "uid": "u"}, "status": status})
    }

    fn waits(container: &Value) -> Value {
        pod(&json!({"phase": "Pending", "containerStatuses": [container]}))
    }

    #[test]
    fn a_pod_is_named_with_what_it_waits_for_and_whether_that_heals() {
        let waiting_for =
            |reason: &str| json!({"name": "app", "state": {"waiting": {"reason": reason, "message": "m"}}});
        let cases = [
            (
                waits(&waiting_for("ErrImagePull")),
                Some(Obstacle::Image),
                "ErrImagePull: m",
            ),
            (
                waits(&waiting_for("InvalidImageName")),
                Some(Obstacle::Image),
                "InvalidImageName: m",
            ),
            (
                waits(&waiting_for("CreateContainerConfigError")),
                Some(Obstacle::Configuration),
                "CreateContainerConfigError: m",
            ),
            (
                waits(&waiting_for("CrashLoopBackOff")),
                Some(Obstacle::Crash),
                "CrashLoopBackOff: m",
            ),
            (
                waits(&waiting_for("ContainerCreating")),
                None,
                "ContainerCreating: m",
            ),
            (
                waits(&json!({"name": "app", "ready": false, "state": {"running": {}},
                    "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}})),
                None,
                "container app ended with exit code 1 (Error) and was started again",
            ),
            (
                waits(&json!({"name": "app", "ready": false, "state": {"running": {}}})),
                None,
                "container app runs and is not ready",
            ),
            (pod(&json!({"phase": "Pending"})), None, "not started yet"),
            (
                pod(
                    &json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                    "reason": "Unschedulable", "message": "0/3 nodes are available"}]}),
                ),
                Some(Obstacle::Place),
                "Unschedulable: 0/3 nodes are available",
            ),
        ];
        for (pod, obstacle, why) in cases {
            let waiting = waiting(&pod).expect("it is not ready");
            assert_eq!(
                (waiting.obstacle, waiting.why.as_str()),
                (obstacle, why),
                "{pod:#}"
            );
        }
    }

    #[test]
    fn an_init_container_that_can_t_start_is_what_the_others_wait_for() {
        let status = json!({"phase": "Pending",
            "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}],
            "initContainerStatuses": [{"name": "setup", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        let waiting = waiting(&pod(&status)).expect("it is not ready");
        assert_eq!(
            (waiting.obstacle, waiting.why.as_str()),
            (Some(Obstacle::Image), "ImagePullBackOff")
        );
    }

    #[test]
    fn what_is_ready_has_ended_or_goes_waits_for_nothing() {
        let mut going = waits(&json!({"name": "app", "state": {"waiting": {"reason": "ErrImagePull"}}}));
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        for pod in [
            going,
            pod(&json!({"phase": "Failed"})),
            pod(&json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})),
        ] {
            assert_eq!(waiting(&pod), None, "{pod:#}");
        }
    }
}
