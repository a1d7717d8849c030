//! An embedded cluster with one controller.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use embedded_cluster::{EmbeddedCluster, EmbeddedOptions, PodScript, Rbac, User};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use kubernaut::config::RunOptions;
use kubernaut::http::Readiness;
use kubernaut::lease::{Candidate, LeaseTimes};
use kubernaut::manifests::CONTROLLER_NAMESPACE;
use kubernaut::telemetry::Telemetry;
use kubernaut::{Environment, RunError, run};
use kubernaut_actors::ports::Clock;
use kubernaut_actors::{FaultHook, TokioClock};
use kubernaut_crds::{ExecutionPhase, KubernetesExecution, WorkflowExecution, WorkflowPhase, crds};
use kubernaut_machines::actions::ActionKind;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Messages of an actor that make it panic.
struct Crash {
    actor: String,
    /// Messages before the first of them.
    spared: u32,
    times: u32,
}

impl Crash {
    /// Counts a message.
    fn is_now(&mut self) -> bool {
        if self.spared > 0 {
            self.spared -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// Longest time, in the cluster's clock, that anything here may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// User of the controller's requests.
pub(crate) const CONTROLLER: &str = "controller";

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    run: RunOptions,
}

/// A running controller. Dropped, it is asked to end.
pub(crate) struct Controller {
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) readiness: Readiness,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), RunError>>,
}

impl Controller {
    /// An orderly end.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }

    /// The end that it comes to by itself.
    pub(crate) async fn ended(self) -> RunError {
        self.ended.await.unwrap().unwrap_err()
    }

    pub(crate) fn leads(&self) -> bool {
        metric(&self.telemetry, "kubernaut_leader") == 1
    }
}

struct JumpingClock {
    clock: TokioClock,
    jumped: Arc<Mutex<SignedDuration>>,
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        self.clock
            .now()
            .checked_add(*self.jumped.lock().unwrap())
            .unwrap()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let at = at.checked_sub(*self.jumped.lock().unwrap());
        self.clock.sleep_until(at.unwrap_or(Timestamp::MIN))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(span)
    }
}

pub(crate) struct Scene {
    pub(crate) cluster: EmbeddedCluster,
    pub(crate) client: Client,
    pub(crate) telemetry: Arc<Telemetry>,
    clock: TokioClock,
    /// How far the controllers' wall clock has jumped.
    jumped: Arc<Mutex<SignedDuration>>,
    flags: Vec<String>,
    controller: Option<Controller>,
    /// Actors that panic, by the start of their name, and how often they still do.
    crashes: Arc<Mutex<Vec<Crash>>>,
}

impl Scene {
    /// Deployments `web-1` .. `web-9` with one replica, a node, everyone may do everything.
    pub(crate) async fn new() -> Self {
        Self::with(Rbac::AllowAll, &[]).await
    }

    pub(crate) async fn with(rbac: Rbac, flags: &[&str]) -> Self {
        let mut scene = Self::without_controller(rbac, flags);
        scene.start().await;
        scene
    }

    /// The CRDs accept anything, as those of another version might.
    pub(crate) async fn with_open_schemas() -> Self {
        let mut objects = objects();
        for object in &mut objects {
            if object["kind"] == "CustomResourceDefinition" {
                object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
                    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            }
        }
        let mut scene = Self::of(objects, Rbac::AllowAll, &[]);
        scene.start().await;
        scene
    }

    pub(crate) fn without_controller(rbac: Rbac, flags: &[&str]) -> Self {
        Self::of(objects(), rbac, flags)
    }

    fn of(objects: Vec<Value>, rbac: Rbac, flags: &[&str]) -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_second(1_767_225_600).unwrap());
        let now = Arc::new(move || clock.now());
        let cluster = EmbeddedCluster::new(EmbeddedOptions {
            now,
            rbac,
            ..EmbeddedOptions::default()
        });
        cluster.load(objects).unwrap();
        Self {
            client: cluster.client(User::admin()),
            cluster,
            telemetry: Arc::new(Telemetry::default()),
            clock,
            jumped: Arc::default(),
            flags: if flags.iter().any(|flag| flag.starts_with("--monitoring-window")) {
                flags.iter().map(|&flag| flag.to_owned()).collect()
            } else {
                // A test waits for ends, not for what is looked at half a minute after them.
                let flags = flags.iter().map(|&flag| flag.to_owned());
                flags.chain(["--monitoring-window=0s".to_owned()]).collect()
            },
            controller: None,
            crashes: Arc::default(),
        }
    }

    pub(crate) async fn start(&mut self) {
        let controller = self.spawn(CONTROLLER, Arc::clone(&self.telemetry), None);
        let readiness = controller.readiness.clone();
        self.controller = Some(controller);
        eventually("the controller is ready", async || readiness.report().0).await;
    }

    /// Starts the controller, and what it says of itself.
    pub(crate) async fn start_told(&mut self) -> Readiness {
        self.start().await;
        self.controller.as_ref().unwrap().readiness.clone()
    }

    /// Why a controller ends before it has begun.
    pub(crate) async fn refuses_to_start(&self) -> RunError {
        self.spawn(CONTROLLER, Arc::default(), None).ended().await
    }

    /// What /readyz of the running controller says.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.controller.as_ref().unwrap().readiness
    }

    /// A controller that waits for the lease, under its own name in the log of requests.
    pub(crate) async fn candidate(&self, name: &str) -> Controller {
        let candidate = Candidate {
            client: self.cluster.client(user(name)),
            namespace: CONTROLLER_NAMESPACE.to_owned(),
            identity: name.to_owned(),
            times: LeaseTimes::default(),
            runtime: None,
        };
        let controller = self.spawn(name, Arc::default(), Some(candidate));
        eventually("the candidate is ready", async || controller.readiness.report().0).await;
        controller
    }

    fn spawn(&self, name: &str, telemetry: Arc<Telemetry>, candidate: Option<Candidate>) -> Controller {
        let arguments = std::iter::once("kubernaut".to_owned()).chain(self.flags.iter().cloned());
        let options = Flags::try_parse_from(arguments).unwrap().run;
        let readiness = Readiness::default();
        let clock = JumpingClock {
            clock: self.clock,
            jumped: Arc::clone(&self.jumped),
        };
        let mut world = Environment::new(Arc::new(clock), Arc::clone(&telemetry), readiness.clone());
        world.fault = Some(self.fault_hook());
        world.candidate = candidate;
        let client = self.cluster.client(user(name));
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            let shutdown = async move {
                // A scene that is dropped ends its controller, too.
                let _ = stopped.await;
            };
            run(&options, client, world, shutdown).await
        });
        Controller {
            telemetry,
            readiness,
            stop,
            ended,
        }
    }

    /// An orderly end.
    pub(crate) async fn stop(&mut self) {
        self.controller.take().unwrap().stop().await;
    }

    /// The next `times` messages of actors whose name starts so make them panic.
    pub(crate) fn crash(&self, actor: &str, times: u32) {
        self.crash_after(actor, 0, times);
    }

    /// After `spared` more messages, the next `times` messages of actors whose name starts so make them panic.
    pub(crate) fn crash_after(&self, actor: &str, spared: u32, times: u32) {
        let actor = actor.to_owned();
        self.crashes.lock().unwrap().push(Crash { actor, spared, times });
    }

    /// The controllers' wall clock jumps, as after a sleep of their machine; their monotonic one does not.
    pub(crate) fn jump(&self, span: SignedDuration) {
        *self.jumped.lock().unwrap() += span;
    }

    fn fault_hook(&self) -> FaultHook {
        let crashes = Arc::clone(&self.crashes);
        Arc::new(move |actor| {
            let planned = {
                let mut crashes = crashes.lock().unwrap();
                let found = crashes
                    .iter_mut()
                    .find(|crash| crash.times > 0 && actor.starts_with(&crash.actor));
                found.is_some_and(Crash::is_now)
            };
            assert!(!planned, "planned panic of {actor}");
        })
    }

    /// From now on the executor's pods run for so many seconds.
    pub(crate) fn pods_take(&self, seconds: u64) {
        self.cluster.script_pods(Arc::new(move |pod| {
            let ours = pod["metadata"]["namespace"] == "kubernaut-executor";
            ours.then_some(PodScript::Run {
                after: Duration::from_secs(seconds),
            })
        }));
    }

    /// From now on the executor's pods run until they are stopped.
    pub(crate) fn hang_pods(&self) {
        self.cluster.script_pods(Arc::new(|pod| {
            (pod["metadata"]["namespace"] == "kubernaut-executor").then_some(PodScript::Hang)
        }));
    }

    pub(crate) fn workflows(&self) -> Api<WorkflowExecution> {
        Api::namespaced(self.client.clone(), "shop")
    }

    pub(crate) fn executions(&self) -> Api<KubernetesExecution> {
        Api::namespaced(self.client.clone(), "shop")
    }

    pub(crate) fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), "kubernaut-executor")
    }

    pub(crate) async fn submit(&self, workflow: Value) -> WorkflowExecution {
        let workflow = serde_json::from_value(workflow).unwrap();
        self.workflows()
            .create(&PostParams::default(), &workflow)
            .await
            .unwrap()
    }

    pub(crate) async fn submit_execution(&self, execution: Value) -> KubernetesExecution {
        let execution = serde_json::from_value(execution).unwrap();
        self.executions()
            .create(&PostParams::default(), &execution)
            .await
            .unwrap()
    }

    /// Submits an execution that changes a Secret, which is made for it.
    pub(crate) async fn submit_secret_update(&self, name: &str) -> KubernetesExecution {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "shop");
        let target = json!({"metadata": {"name": "db"}, "data": {"password": "b2xk"}});
        let target = serde_json::from_value(target).unwrap();
        secrets.create(&PostParams::default(), &target).await.unwrap();
        let mut update = execution(name, "web-1");
        update["spec"]["action"] = json!("update-secret");
        update["spec"]["parameters"] =
            json!({"updateSecret": {"namespace": "shop", "secret": "db", "data": {"password": "bmV3"}}});
        self.submit_execution(update).await
    }

    /// Whether a payload lies in the executor's namespace.
    pub(crate) async fn has_payload(&self) -> bool {
        let remains = self.remains().await;
        remains.iter().any(|name| name.starts_with("secret "))
    }

    /// The workflow once it is terminal.
    pub(crate) async fn finished(&self, name: &str) -> WorkflowExecution {
        let phase = async || self.workflow_phase(name).await;
        eventually(&format!("{name} is terminal"), async || {
            phase().await.is_some_and(WorkflowPhase::is_terminal)
        })
        .await;
        self.workflows().get(name).await.unwrap()
    }

    /// The execution once it is terminal.
    pub(crate) async fn finished_execution(&self, name: &str) -> KubernetesExecution {
        eventually(&format!("{name} is terminal"), async || {
            self.execution_phase(name)
                .await
                .is_some_and(ExecutionPhase::is_terminal)
        })
        .await;
        self.executions().get(name).await.unwrap()
    }

    pub(crate) async fn workflow_phase(&self, name: &str) -> Option<WorkflowPhase> {
        self.workflows().get_opt(name).await.unwrap()?.status?.phase
    }

    pub(crate) async fn execution_phase(&self, name: &str) -> Option<ExecutionPhase> {
        self.executions().get_opt(name).await.unwrap()?.status?.phase
    }

    pub(crate) async fn label_execution(&self, name: &str, labels: Value) {
        let patch = json!({"metadata": {"labels": labels}});
        self.executions()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    pub(crate) async fn delete_workflow(&self, name: &str) {
        self.workflows()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    pub(crate) async fn delete_execution(&self, name: &str) {
        self.executions()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Waits until nothing that kubernaut made is left: executions, Jobs, pods, payloads.
    pub(crate) async fn is_clean(&self) {
        eventually("nothing of ours is left", async || {
            self.remains().await.is_empty()
        })
        .await;
    }

    pub(crate) async fn remains(&self) -> Vec<String> {
        let all = ListParams::default();
        let mut names = Vec::new();
        let executions: Api<KubernetesExecution> = Api::all(self.client.clone());
        names.extend(
            executions
                .list(&all)
                .await
                .unwrap()
                .items
                .iter()
                .map(|found| format!("execution {}", found.name_any())),
        );
        names.extend(
            self.jobs()
                .list(&all)
                .await
                .unwrap()
                .items
                .iter()
                .map(|found| format!("job {}", found.name_any())),
        );
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.client.clone(), "kubernaut-executor");
        names.extend(
            pods.list(&all)
                .await
                .unwrap()
                .items
                .iter()
                .map(|found| format!("pod {}", found.name_any())),
        );
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "kubernaut-executor");
        names.extend(
            secrets
                .list(&all)
                .await
                .unwrap()
                .items
                .iter()
                .map(|found| format!("secret {}", found.name_any())),
        );
        names
    }

    pub(crate) async fn replicas(&self, deployment: &str) -> i32 {
        let api: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(self.client.clone(), "shop");
        api.get(deployment).await.unwrap().spec.unwrap().replicas.unwrap()
    }

    /// How many actors live, by the gauge.
    pub(crate) fn actors(&self, kind: &str) -> i64 {
        self.metric(&format!("kubernaut_actors{{kind=\"{kind}\"}}"))
    }

    /// How many executions hold their target, and how many a place for a Job.
    pub(crate) fn holds(&self) -> (i64, i64) {
        (
            self.metric("kubernaut_lock_requests{state=\"held\"}"),
            self.metric("kubernaut_job_slots{state=\"used\"}"),
        )
    }

    /// The value of a line of /metrics; 0 when there is none.
    pub(crate) fn metric(&self, name: &str) -> i64 {
        metric(&self.telemetry, name)
    }
}

/// The value of a line of /metrics; 0 when there is none.
pub(crate) fn metric(telemetry: &Telemetry, name: &str) -> i64 {
    let text = telemetry.encode();
    let line = text
        .lines()
        .find(|line| line.rsplit_once(' ').is_some_and(|(found, _)| found == name));
    line.and_then(|line| line.rsplit_once(' '))
        .map_or(0, |(_, value)| value.parse().unwrap())
}

/// Looks every 50 ms of the cluster's time until it holds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let looks = PATIENCE.as_millis() / 50;
    for _ in 0..looks {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within {PATIENCE:?}");
}

/// A step that scales `web-<number>` to two replicas.
pub(crate) fn step(number: u32, depends_on: &[u32]) -> Value {
    json!({
        "stepNumber": number, "name": format!("step-{number}"), "action": "scale-deployment", "dependsOn": depends_on,
        "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": format!("web-{number}"), "replicas": 2}},
    })
}

pub(crate) fn workflow(name: &str, steps: &[Value]) -> Value {
    json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"workflowDefinition": {"name": name, "version": "1", "steps": steps}},
    })
}

/// An execution that a person makes.
pub(crate) fn execution(name: &str, deployment: &str) -> Value {
    json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "action": "scale-deployment", "approvalReceived": true,
            "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": deployment, "replicas": 2}},
        },
    })
}

/// A controller's own name, so that its requests can be told from the test's.
fn user(name: &str) -> User {
    User {
        name: name.to_owned(),
        ..User::admin()
    }
}

fn objects() -> Vec<Value> {
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CONTROLLER_NAMESPACE}}),
        account("shop", "default"),
    ];
    objects.extend(crds().iter().map(|crd| serde_json::to_value(crd).unwrap()));
    for number in 1..=9 {
        let name = format!("web-{number}");
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "app", "image": "example/app:1"}]},
                },
            },
        }));
    }
    let accounts: std::collections::BTreeSet<&str> = ActionKind::ALL
        .iter()
        .map(|kind| kind.service_account())
        .collect();
    objects.extend(
        accounts
            .into_iter()
            .map(|name| account("kubernaut-executor", name)),
    );
    objects
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}
