//! The life of one pod on its node.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use tokio::sync::watch;

use super::api::KubeletApi;
use super::runner::{Runner, termination_message};
use super::script::{PodScript, ScriptFn};
use super::status::{ContainerState, PodReport};
use super::volumes::Volumes;
use super::{Ending, ended, unless_ended};

/// What every pod's task shares.
pub(super) struct Node {
    pub(super) api: KubeletApi,
    pub(super) runner: Runner,
    pub(super) script: Option<ScriptFn>,
    pub(super) report_running: bool,
}

/// How the kubelet's work on a pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its containers ended; a deletion that comes later is still to be confirmed.
    Finished,
    /// Nothing is left to do, or nobody is there to do it.
    Closed,
}

/// What is reported instead of the truth.
struct Pretence {
    code: i32,
    message: String,
}

impl Node {
    /// Runs a pod that was bound to one of our nodes until its containers end or it is deleted.
    ///
    /// `seen_running`: it was called running before we knew of it, so that an earlier kubelet had it.
    pub(super) async fn live(
        self: Arc<Self>,
        pod: Arc<Pod>,
        seen_running: bool,
        mut ending: watch::Receiver<Ending>,
    ) -> Outcome {
        let mut report = PodReport::new(&pod);
        let script = self.script.as_ref().and_then(|script| script(&pod));
        let unreachable = matches!(script, Some(PodScript::Unreachable { .. }));
        let result = self
            .run(&pod, script, seen_running, &mut report, &mut ending)
            .await;
        match result {
            Ok(()) => Outcome::Finished,
            Err(Ending::Deleted) if unreachable => Outcome::Closed,
            Err(Ending::Deleted) => {
                self.bury(&pod, &mut report).await;
                Outcome::Closed
            }
            Err(Ending::Stopped | Ending::No) => Outcome::Closed,
        }
    }

    /// Confirms the deletion of a pod whose containers had ended before.
    pub(super) async fn confirm(self: Arc<Self>, pod: Arc<Pod>) -> Outcome {
        self.api.confirm_deletion(&pod).await;
        Outcome::Closed
    }

    async fn run(
        &self,
        pod: &Pod,
        script: Option<PodScript>,
        seen_running: bool,
        report: &mut PodReport,
        ending: &mut watch::Receiver<Ending>,
    ) -> Result<(), Ending> {
        match script {
            Some(PodScript::Waiting { reason, message }) => {
                report.set_unfinished(|_| ContainerState::waiting(&reason, &message));
                self.report(pod, report, ending).await?;
                Err(ended(ending).await)
            }
            Some(PodScript::Hang) => {
                self.report_all_running(pod, report, ending).await?;
                Err(ended(ending).await)
            }
            Some(PodScript::Exit { code, message }) => {
                report.set_unfinished(|state| state.ended(code, reason_of(code), &message));
                self.report(pod, report, ending).await
            }
            Some(PodScript::Succeed { after }) => {
                if !after.is_zero() {
                    self.report_all_running(pod, report, ending).await?;
                    unless_ended(ending, tokio::time::sleep(after)).await?;
                }
                report.set_unfinished(|state| state.ended(0, reason_of(0), ""));
                self.report(pod, report, ending).await
            }
            Some(PodScript::Unreachable { run }) => {
                self.report_all_running(pod, report, ending).await?;
                if run {
                    // The node does its work whatever is asked of it; it only can't tell.
                    let (_not_told, mut deaf) = watch::channel(Ending::No);
                    let mut unsaid = PodReport::new(pod);
                    tokio::select! {
                        _ = self.run_kubectl(pod, &mut unsaid, &mut deaf, false) => {}
                        _ = ending.wait_for(|ending| *ending == Ending::Stopped) => {}
                    }
                }
                Err(ended(ending).await)
            }
            Some(PodScript::Evict { after_run }) => {
                if after_run {
                    self.run_kubectl(pod, &mut PodReport::new(pod), ending, false)
                        .await?;
                }
                report.evict("The node was low on resource: memory.");
                self.report(pod, report, ending).await
            }
            Some(PodScript::RunThenExit { code, message }) => {
                let pretence = Some(Pretence { code, message });
                self.run_normally(pod, seen_running, report, ending, pretence)
                    .await
            }
            Some(PodScript::RunAfter(delay)) => {
                unless_ended(ending, tokio::time::sleep(delay)).await?;
                self.run_normally(pod, seen_running, report, ending, None).await
            }
            None => self.run_normally(pod, seen_running, report, ending, None).await,
        }
    }

    async fn run_normally(
        &self,
        pod: &Pod,
        seen_running: bool,
        report: &mut PodReport,
        ending: &mut watch::Receiver<Ending>,
        pretence: Option<Pretence>,
    ) -> Result<(), Ending> {
        if !is_kubectl(pod) {
            if seen_running {
                report.set_unfinished(|_| ContainerState::running());
            } else {
                self.report_all_running(pod, report, ending).await?;
            }
            return Err(ended(ending).await);
        }
        if seen_running {
            report_lost(report);
        } else {
            self.run_kubectl(pod, report, ending, self.report_running).await?;
        }
        if let Some(Pretence { code, message }) = pretence {
            *report = PodReport::new(pod);
            report.set_unfinished(|state| state.ended(code, reason_of(code), &message));
        }
        self.report(pod, report, ending).await
    }

    /// Runs each init container, then each container, one after the other, until one fails.
    async fn run_kubectl(
        &self,
        pod: &Pod,
        report: &mut PodReport,
        ending: &mut watch::Receiver<Ending>,
        report_running: bool,
    ) -> Result<(), Ending> {
        let volumes = self.prepare(pod, report, ending).await?;
        let mut slot = unless_ended(ending, self.runner.start_slot()).await?;
        if !self.claim(pod) {
            report_lost(report);
            return Ok(());
        }
        let spec = pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let containers = init.iter().map(|container| (container, true));
        let containers: Vec<_> = containers
            .chain(spec.containers.iter().map(|c| (c, false)))
            .collect();
        for (index, (container, is_init)) in containers.into_iter().enumerate() {
            let index = if is_init { index } else { index - init.len() };
            if slot.is_none() {
                slot = unless_ended(ending, self.runner.start_slot()).await?;
            }
            let process = self.runner.start((pod, container), &volumes, slot.take());
            set_state(report, is_init, index, |_| ContainerState::running());
            let code = match process {
                Ok(process) => {
                    if report_running {
                        self.report(pod, report, ending).await?;
                    }
                    process.wait(ending).await?
                }
                Err(message) => {
                    set_state(report, is_init, index, |state| {
                        state.ended(128, "StartError", &message)
                    });
                    return Ok(());
                }
            };
            let message = self.message_of(pod, container, code);
            set_state(report, is_init, index, |state| {
                state.ended(code, reason_of(code), &message)
            });
            if code != 0 && is_init {
                return Ok(());
            }
        }
        Ok(())
    }

    fn message_of(&self, pod: &Pod, container: &Container, code: i32) -> String {
        if code == 0 {
            return String::new();
        }
        termination_message(&self.runner.pod_dir(pod), container)
    }

    /// The pod's volumes; waits, as a kubelet does, for what is missing.
    async fn prepare(
        &self,
        pod: &Pod,
        report: &mut PodReport,
        ending: &mut watch::Receiver<Ending>,
    ) -> Result<Volumes, Ending> {
        let client = self.api.client();
        let dir = self.runner.pod_dir(pod);
        let mut told = false;
        loop {
            match unless_ended(ending, Volumes::write(&client, pod, &dir)).await? {
                Ok(volumes) => return Ok(volumes),
                Err(missing) if !told => {
                    told = true;
                    tracing::debug!(pod = pod.name_any(), missing, "waits");
                    report.set_unfinished(|_| ContainerState::waiting("ContainerCreating", &missing));
                    self.report(pod, report, ending).await?;
                }
                Err(_) => {}
            }
            unless_ended(ending, tokio::time::sleep(Duration::from_millis(500))).await?;
        }
    }

    /// Marks, on disk, that the pod ran; false when it had been marked before. What a container runtime remembers over
    /// the restart of its kubelet.
    fn claim(&self, pod: &Pod) -> bool {
        let dir = self.runner.pod_dir(pod);
        let mark = fs::create_dir_all(&dir).and_then(|()| fs::File::create_new(dir.join("started")));
        mark.is_ok()
    }

    /// Nothing of the pod runs any more: says so, then lets it go.
    async fn bury(&self, pod: &Pod, report: &mut PodReport) {
        let code = if is_kubectl(pod) { 137 } else { 0 };
        report.set_unfinished(|state| state.ended(code, reason_of(code), ""));
        self.api.report(pod, report).await;
        self.api.confirm_deletion(pod).await;
        // Secrets may be in it. The mark in it is not needed either: its uid never comes back.
        let _ = fs::remove_dir_all(self.runner.pod_dir(pod));
    }

    async fn report_all_running(
        &self,
        pod: &Pod,
        report: &mut PodReport,
        ending: &mut watch::Receiver<Ending>,
    ) -> Result<(), Ending> {
        for container in &mut report.init {
            container.state = container.state.ended(0, "Completed", "");
        }
        report.set_unfinished(|_| ContainerState::running());
        self.report(pod, report, ending).await
    }

    async fn report(
        &self,
        pod: &Pod,
        report: &PodReport,
        ending: &mut watch::Receiver<Ending>,
    ) -> Result<(), Ending> {
        unless_ended(ending, self.api.report(pod, report)).await
    }
}

/// Pods of an executor: of all others nothing is run.
fn is_kubectl(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut images = containers.filter_map(|container| container.image.as_deref());
    pod.labels().contains_key("kubernaut.io/execution-uid")
        || images.any(|image| image.starts_with("registry.k8s.io/kubectl"))
}

/// The words of a kubelet for containers that it has no trace of.
fn report_lost(report: &mut PodReport) {
    let message = "The container could not be located when the pod was terminated";
    report.set_unfinished(|state| state.ended(137, "ContainerStatusUnknown", message));
}

fn set_state(
    report: &mut PodReport,
    is_init: bool,
    index: usize,
    next: impl FnOnce(&ContainerState) -> ContainerState,
) {
    let list = if is_init {
        &mut report.init
    } else {
        &mut report.main
    };
    if let Some(container) = list.get_mut(index) {
        container.state = next(&container.state);
    }
}

fn reason_of(code: i32) -> &'static str {
    if code == 0 { "Completed" } else { "Error" }
}
