//! The engines that are measured: kubernaut, the least that could do it, and others by a small program.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kubernaut_testbed::ControlPlane;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::installation::leave_out;
use crate::shapes::Steps;
use crate::{BenchError, io};

/// Where the workflows of a run are.
pub(crate) const NAMESPACE: &str = "bench";
/// Namespace and name of the controller's account.
const ACCOUNT: (&str, &str) = ("kubernaut-system", "kubernaut-controller");
/// Creates of the load that are under way at once.
pub(crate) const AT_ONCE: usize = 16;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) enum Engine {
    /// This project's controller, with these flags.
    Ours { program: PathBuf, flags: Vec<String> },
    /// A process that creates each Job when those before it are complete, and keeps nothing: the floor. Its Jobs are like the
    /// one of the file.
    Oracle(Option<PathBuf>),
    /// A program with the verbs install, user, start, submit and left (tests/bench/engines).
    Other(PathBuf),
}

/// An engine that runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) user: String,
}

impl Engine {
    pub(crate) fn name(&self) -> String {
        match self {
            Engine::Ours { flags, .. } if flags.is_empty() => "ours".to_owned(),
            Engine::Ours { flags, .. } => format!("ours {}", flags.join(" ")),
            Engine::Oracle(None) => "oracle".to_owned(),
            Engine::Oracle(Some(_)) => "oracle-jobs".to_owned(),
            Engine::Other(path) => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// Puts what it needs into the cluster.
    pub(crate) async fn install(&self, cluster: &ControlPlane, without: &[String]) -> Result<(), BenchError> {
        cluster.run_kubectl(&["create", "namespace", NAMESPACE]).await?;
        match self {
            Engine::Ours { program, .. } => {
                let output = Command::new(program)
                    .args(["manifests", "--without-pods"])
                    .output()
                    .await
                    .map_err(|error| io("running kubernaut manifests", error))?;
                let manifests = String::from_utf8_lossy(&output.stdout);
                cluster.apply_yaml(&leave_out(&manifests, without)?).await?;
                cluster
                    .run_kubectl(&[
                        "wait",
                        "--for=condition=Established",
                        "--timeout=60s",
                        "crd",
                        "--all",
                    ])
                    .await?;
                admit(cluster, NAMESPACE).await?;
            }
            Engine::Oracle(_) => {
                cluster
                    .run_kubectl(&["create", "serviceaccount", "oracle", "--namespace", NAMESPACE])
                    .await?;
                let account = format!("--serviceaccount={NAMESPACE}:oracle");
                let rights = [
                    "create",
                    "clusterrolebinding",
                    "oracle",
                    "--clusterrole=cluster-admin",
                    &account,
                ];
                cluster.run_kubectl(&rights).await?;
            }
            Engine::Other(path) => drop(call(path, cluster, &["install"], "").await?),
        }
        Ok(())
    }

    /// Starts it, and returns when it works.
    pub(crate) async fn start(&self, cluster: &ControlPlane, port: u16) -> Result<Running, BenchError> {
        let (mut command, user) = match self {
            Engine::Ours { program, flags } => {
                let mut command = Command::new(program);
                command
                    .arg("controller")
                    .arg("--kubeconfig")
                    .arg(self.kubeconfig(cluster).await?)
                    .args([
                        format!("--http-address=127.0.0.1:{port}"),
                        "--log-format=json".to_owned(),
                    ])
                    .args(flags);
                // The steps are measured, not the look half a minute after the last of them.
                if !flags.iter().any(|flag| flag.starts_with("--monitoring-window")) {
                    command.arg("--monitoring-window=0s");
                }
                for (name, _) in std::env::vars_os() {
                    if name.to_string_lossy().starts_with("KUBERNAUT_") {
                        command.env_remove(name);
                    }
                }
                (
                    command,
                    format!("system:serviceaccount:{}:{}", ACCOUNT.0, ACCOUNT.1),
                )
            }
            Engine::Oracle(like) => {
                let kubeconfig = self.kubeconfig(cluster).await?;
                let mut command =
                    Command::new(std::env::current_exe().map_err(|e| io("finding this program", e))?);
                command.arg("oracle").arg("--kubeconfig").arg(kubeconfig);
                if let Some(file) = like {
                    command.arg("--like").arg(file);
                }
                (command, format!("system:serviceaccount:{NAMESPACE}:oracle"))
            }
            Engine::Other(path) => {
                let user = call(path, cluster, &["user"], "").await?.trim().to_owned();
                let mut command = Command::new(path);
                command.arg("start").envs(environment(cluster));
                (command, user)
            }
        };
        let log = cluster.state_dir().join("engine.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let log = log.map_err(|error| io("opening the engine's log", error))?;
        let also = log
            .try_clone()
            .map_err(|error| io("opening the engine's log", error))?;
        let child = command
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io("starting the engine", error))?;
        Ok(Running { child, user })
    }

    /// The way to the cluster with its own account.
    pub(crate) async fn kubeconfig(&self, cluster: &ControlPlane) -> Result<PathBuf, BenchError> {
        let (namespace, account) = match self {
            Engine::Ours { .. } => ACCOUNT,
            Engine::Oracle(_) => (NAMESPACE, "oracle"),
            Engine::Other(_) => return Ok(cluster.admin_kubeconfig()),
        };
        Ok(cluster
            .kubeconfig_for_service_account(namespace, account, None)
            .await?)
    }

    /// Asks for so many workflows of this shape, as fast as the API server takes them.
    pub(crate) async fn submit(
        &self,
        cluster: &ControlPlane,
        first: usize,
        workflows: usize,
        steps: &Steps,
    ) -> Result<(), BenchError> {
        let numbers = first..first + workflows;
        match self {
            Engine::Ours { .. } => {
                let api = resource(cluster, &WORKFLOW).await?;
                let workflows = numbers.map(|number| workflow(NAMESPACE, number, steps));
                create(&api, workflows.collect::<Result<_, _>>()?).await
            }
            Engine::Oracle(_) => {
                let api = Api::<DynamicObject>::namespaced_with(
                    cluster.admin_client().await?,
                    NAMESPACE,
                    &config_map(),
                );
                let order = |number: usize| {
                    object(json!({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"name": format!("w{number}"), "labels": {"oracle": "order"}},
                        "data": {"steps": json!(steps).to_string()}}))
                };
                create(&api, numbers.map(order).collect::<Result<_, _>>()?).await
            }
            Engine::Other(path) => {
                let (first, workflows) = (first.to_string(), workflows.to_string());
                let shape = json!(steps).to_string();
                call(path, cluster, &["submit", &first, &workflows], &shape)
                    .await
                    .map(drop)
            }
        }
    }

    /// What the steps act on, made before anything is measured.
    pub(crate) async fn prepare(
        &self,
        cluster: &ControlPlane,
        workflows: usize,
        steps: &Steps,
    ) -> Result<(), BenchError> {
        if let Engine::Ours { .. } = self {
            prepare_in(cluster, NAMESPACE, workflows, steps).await?;
        }
        Ok(())
    }

    /// How many workflows have not ended.
    pub(crate) async fn left(&self, cluster: &ControlPlane) -> Result<usize, BenchError> {
        match self {
            Engine::Ours { .. } => {
                let api = resource(cluster, &WORKFLOW).await?;
                // A page of one: it is asked often.
                let open = "status.phase!=completed,status.phase!=failed";
                let list = api.list(&ListParams::default().fields(open).limit(1)).await?;
                Ok(list.items.len()
                    + usize::try_from(list.metadata.remaining_item_count.unwrap_or(0)).unwrap_or(0))
            }
            Engine::Oracle(_) => {
                let maps = Api::<ConfigMap>::namespaced(cluster.admin_client().await?, NAMESPACE);
                Ok(maps
                    .list(&ListParams::default().labels("oracle=order").limit(1))
                    .await?
                    .items
                    .len())
            }
            Engine::Other(path) => {
                let text = call(path, cluster, &["left"], "").await?;
                text.trim()
                    .parse()
                    .map_err(|_| BenchError::Engine(format!("{}: left printed {text:?}", self.name())))
            }
        }
    }
}

/// The targets of so many workflows.
pub(crate) async fn prepare_in(
    cluster: &ControlPlane,
    namespace: &str,
    workflows: usize,
    steps: &Steps,
) -> Result<(), BenchError> {
    let api = Api::<DynamicObject>::namespaced_with(cluster.admin_client().await?, namespace, &config_map());
    let maps = (0..workflows).flat_map(|workflow| (0..steps.len()).map(move |step| (workflow, step)));
    let maps = maps.map(|(workflow, step)| {
        object(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "value"},
            "metadata": {"name": map_name(workflow, step)}}),
        )
    });
    create(&api, maps.collect::<Result<_, _>>()?).await
}

/// Workflows run with the rights of the account `default` of their namespace.
pub(crate) async fn admit(cluster: &ControlPlane, namespace: &str) -> Result<(), BenchError> {
    let rights = ["create", "rolebinding", "bench", "--clusterrole=admin"];
    let account = format!("--serviceaccount={namespace}:default");
    cluster
        .run_kubectl(&[&rights[..], &[&account, "--namespace", namespace]].concat())
        .await?;
    Ok(())
}

/// Group, version, kind and plural.
pub(crate) type Resource = (&'static str, &'static str, &'static str, &'static str);

pub(crate) const WORKFLOW: Resource = (
    "workflow.kubernaut.io",
    "v1",
    "WorkflowExecution",
    "workflowexecutions",
);

pub(crate) const EXECUTION: Resource = (
    "kubernetesexecution.kubernaut.io",
    "v1",
    "KubernetesExecution",
    "kubernetesexecutions",
);

pub(crate) async fn resource(
    cluster: &ControlPlane,
    kind: &Resource,
) -> Result<Api<DynamicObject>, BenchError> {
    resource_in(cluster, NAMESPACE, kind).await
}

pub(crate) async fn resource_in(
    cluster: &ControlPlane,
    namespace: &str,
    (group, version, kind, plural): &Resource,
) -> Result<Api<DynamicObject>, BenchError> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Ok(Api::namespaced_with(
        cluster.admin_client().await?,
        namespace,
        &resource,
    ))
}

fn config_map() -> ApiResource {
    ApiResource::erase::<ConfigMap>(&())
}

fn map_name(workflow: usize, step: usize) -> String {
    format!("map-{workflow}-{step}")
}

/// Each step sets a key of a ConfigMap of its own to what it is: the cheapest action there is.
pub(crate) fn workflow(namespace: &str, number: usize, steps: &Steps) -> Result<DynamicObject, BenchError> {
    let step = |(index, before): (usize, &Vec<usize>)| {
        json!({
            "stepNumber": index + 1, "name": format!("step-{}", index + 1), "action": "update-configmap",
            "dependsOn": before.iter().map(|other| other + 1).collect::<Vec<_>>(),
            "parameters": {"updateConfigMap": {
                "namespace": namespace, "name": map_name(number, index), "dataUpdates": {"key": "value"}}},
        })
    };
    object(json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
        "metadata": {"name": format!("w{number}")},
        "spec": {"workflowDefinition": {
            "name": "bench", "version": "1", "steps": steps.iter().enumerate().map(step).collect::<Vec<_>>()}},
    }))
}

pub(crate) fn object(value: Value) -> Result<DynamicObject, BenchError> {
    Ok(serde_json::from_value(value)?)
}

pub(crate) async fn create(api: &Api<DynamicObject>, objects: Vec<DynamicObject>) -> Result<(), BenchError> {
    let parameters = PostParams::default();
    stream::iter(objects)
        .map(async |object| api.create(&parameters, &object).await.map(drop))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(())
}

fn environment(cluster: &ControlPlane) -> [(&'static str, PathBuf); 3] {
    [
        ("KUBECONFIG", cluster.admin_kubeconfig()),
        ("KUBECTL", cluster.kubectl()),
        ("KUBECACHEDIR", cluster.kubectl_cache_dir()),
    ]
}

/// Runs a verb of another engine to its end; returns what it printed.
async fn call(
    path: &Path,
    cluster: &ControlPlane,
    arguments: &[&str],
    input: &str,
) -> Result<String, BenchError> {
    use tokio::io::AsyncWriteExt;
    let failed =
        |why: String| BenchError::Engine(format!("{} {}: {why}", path.display(), arguments.join(" ")));
    let mut child = Command::new(path)
        .args(arguments)
        .envs(environment(cluster))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let ended = tokio::time::timeout(Duration::from_mins(10), child.wait_with_output()).await;
    let output = ended
        .map_err(|_| failed("it did not end in 10 minutes".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
