//! What the fake kubelet knows of pods and nodes, and what each change starts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Ending;
use super::life::{Node, Outcome};
use super::schedule::choose;

/// Killing a process takes a moment, writing the last word a little longer.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not bound, and no node fits.
    Waiting,
    /// A binding was sent; the watch will tell.
    Binding,
    /// A task has it.
    Active,
    /// Its containers ended.
    Finished,
    /// Nothing is left to do.
    Closed,
}

struct Entry {
    pod: Arc<Pod>,
    stage: Stage,
    reported_unschedulable: bool,
    ending: watch::Sender<Ending>,
}

/// The tasks' results: whose it was, and how it ended; none for a task that only tells something.
type TaskResult = Option<(String, Outcome)>;

pub(super) struct Table {
    node: Arc<Node>,
    our_nodes: HashSet<String>,
    nodes: BTreeMap<String, NodeObject>,
    pods: HashMap<String, Entry>,
    tasks: JoinSet<TaskResult>,
    /// The uids seen since a watch began anew, until its list is complete.
    listed: HashSet<String>,
}

impl Table {
    pub(super) fn new(node: Arc<Node>, our_nodes: HashSet<String>) -> Self {
        let (nodes, pods) = (BTreeMap::new(), HashMap::new());
        Self {
            node,
            our_nodes,
            nodes,
            pods,
            tasks: JoinSet::new(),
            listed: HashSet::new(),
        }
    }

    /// Works until told to stop, then kills what runs. Pods keep the state they have.
    pub(super) async fn run(mut self, stop: impl Future<Output = ()>) {
        let client = self.node.api.client();
        let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff();
        let nodes = watcher(Api::<NodeObject>::all(client), watcher::Config::default()).default_backoff();
        let (mut pods, mut nodes, mut stop) = (pods.boxed(), nodes.boxed(), std::pin::pin!(stop));
        loop {
            tokio::select! {
                Some(event) = nodes.next() => self.on_node_event(event),
                Some(event) = pods.next() => self.on_pod_event(event),
                Some(result) = self.tasks.join_next() => self.on_task_end(result),
                () = &mut stop => break,
            }
        }
        for entry in self.pods.values() {
            entry.ending.send_replace(Ending::Stopped);
        }
        // A report that no API server takes is given up.
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_TIMEOUT, all_ended).await;
    }

    fn on_node_event(&mut self, event: Result<watcher::Event<NodeObject>, watcher::Error>) {
        match event {
            Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) => {
                if self.our_nodes.contains(&node.name_any()) {
                    self.nodes.insert(node.name_any(), node);
                    self.bind_waiting();
                }
            }
            Ok(watcher::Event::Delete(node)) => drop(self.nodes.remove(&node.name_any())),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => tracing::debug!(%error, "watching nodes"),
        }
    }

    fn on_pod_event(&mut self, event: Result<watcher::Event<Pod>, watcher::Error>) {
        match event {
            Ok(watcher::Event::Apply(pod)) => self.on_pod(pod),
            Ok(watcher::Event::Delete(pod)) => self.on_gone(pod.metadata.uid.as_deref().unwrap_or_default()),
            Ok(watcher::Event::Init) => self.listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.on_pod(pod);
            }
            Ok(watcher::Event::InitDone) => {
                let gone: Vec<_> = self
                    .pods
                    .keys()
                    .filter(|uid| !self.listed.contains(*uid))
                    .cloned()
                    .collect();
                for uid in gone {
                    self.on_gone(&uid);
                }
            }
            Err(error) => tracing::debug!(%error, "watching pods"),
        }
    }

    /// A pod is no more, perhaps by force: its process must not live on.
    fn on_gone(&mut self, uid: &str) {
        if let Some(entry) = self.pods.remove(uid) {
            entry.ending.send_replace(Ending::Deleted);
        }
    }

    fn on_pod(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let pod = Arc::new(pod);
        let entry = self.pods.entry(uid.clone()).or_insert_with(|| Entry {
            pod: pod.clone(),
            stage: Stage::Waiting,
            reported_unschedulable: false,
            ending: watch::Sender::new(Ending::No),
        });
        entry.pod = pod.clone();
        if pod.metadata.deletion_timestamp.is_some() {
            entry.ending.send_replace(Ending::Deleted);
        }
        self.advance(&uid);
    }

    fn advance(&mut self, uid: &str) {
        let Some(entry) = self.pods.get_mut(uid) else {
            return;
        };
        let pod = entry.pod.clone();
        let deleted = pod.metadata.deletion_timestamp.is_some();
        match entry.stage {
            Stage::Waiting | Stage::Binding => match node_of(&pod) {
                Some(node) if !self.our_nodes.contains(node) => {}
                Some(_) if is_finished(&pod) => {
                    entry.stage = Stage::Finished;
                    self.advance(uid);
                }
                Some(_) => {
                    entry.stage = Stage::Active;
                    let seen_running = phase(&pod) == Some("Running");
                    let life = self
                        .node
                        .clone()
                        .live(pod, seen_running, entry.ending.subscribe());
                    self.spawn(uid, life);
                }
                None if deleted || entry.stage == Stage::Binding => {}
                None => self.bind(uid),
            },
            // With a grace period of zero the API server itself has let go of it.
            Stage::Finished if deleted && pod.metadata.deletion_grace_period_seconds != Some(0) => {
                entry.stage = Stage::Closed;
                self.spawn(uid, self.node.clone().confirm(pod));
            }
            Stage::Active | Stage::Finished | Stage::Closed => {}
        }
    }

    fn bind_waiting(&mut self) {
        let waiting = self
            .pods
            .iter()
            .filter(|(_, entry)| entry.stage == Stage::Waiting);
        let waiting: Vec<_> = waiting.map(|(uid, _)| uid.clone()).collect();
        for uid in waiting {
            self.advance(&uid);
        }
    }

    fn bind(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).map(|entry| entry.pod.clone()) else {
            return;
        };
        let on = |name: &str| {
            self.pods
                .values()
                .filter(|e| node_of(&e.pod) == Some(name) && !is_finished(&e.pod))
                .count()
        };
        let chosen = choose(&pod, &self.nodes, on);
        let nodes_known = self.nodes.len() == self.our_nodes.len();
        let Some(entry) = self.pods.get_mut(uid) else {
            return;
        };
        let node = self.node.clone();
        if let Some(name) = chosen {
            entry.stage = Stage::Binding;
            self.tasks.spawn(async move {
                node.api.bind(&pod, &name).await;
                None
            });
        } else if nodes_known && !entry.reported_unschedulable {
            entry.reported_unschedulable = true;
            self.tasks.spawn(async move {
                node.api.report_unschedulable(&pod).await;
                None
            });
        }
    }

    fn spawn(&mut self, uid: &str, life: impl Future<Output = Outcome> + Send + 'static) {
        let uid = uid.to_owned();
        self.tasks.spawn(async move { Some((uid, life.await)) });
    }

    fn on_task_end(&mut self, result: Result<TaskResult, tokio::task::JoinError>) {
        match result {
            Ok(Some((uid, outcome))) => {
                if let Some(entry) = self.pods.get_mut(&uid) {
                    entry.stage = match outcome {
                        Outcome::Finished => Stage::Finished,
                        Outcome::Closed => Stage::Closed,
                    };
                    self.advance(&uid);
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a pod's task failed"),
        }
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}
