//! What the other tests of this tier may rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{ListParams, WatchParams};
use kube::{Api, ResourceExt};
use kubernaut_testbed::{Cluster, ControlPlaneOptions, Part};

use crate::ground::{client, cluster, cluster_with, deploy_web, end_of_job, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_run_a_deployment_and_a_restricted_job() {
    let cluster = cluster(2).await;
    let client = client(&cluster).await;
    deploy_web(&cluster, 2).await;
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let pods = pods.list(&ListParams::default()).await.expect("pods");
    let nodes: BTreeSet<_> = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
        .collect();
    assert_eq!(nodes.len(), 2, "the scheduler spreads them");

    let version = client.apiserver_version().await.expect("a version").git_version;
    let job = JOB.replace("VERSION", &version);
    cluster.apply_yaml(&job).await.expect("a Job");
    assert_eq!(end_of_job(&client, "executor", "scale").await, "Complete");
    let log = cluster
        .run_kubectl(&["logs", "--namespace=executor", "job/scale"])
        .await;
    assert_eq!(log.expect("a log"), "deployment.apps/web scaled\n");
    let deployments = Api::<Deployment>::namespaced(client.clone(), "default");
    eventually("three pods are ready", async || {
        let status = deployments.get("web").await.expect("a Deployment").status?;
        (status.ready_replicas == Some(3)).then_some(())
    })
    .await;

    // From outside, through the nodes' Services, to pods of both.
    let relay = cluster
        .relay_to(SocketAddr::from(([10, 96, 0, 80], 80)))
        .expect("a relay");
    eventually("pods on both nodes have answered", {
        let mut answers = BTreeSet::new();
        async move || {
            answers.insert(get(relay.address()));
            (answers.len() == 3).then_some(())
        }
    })
    .await;
}

const JOB: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: executor, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: scaler, namespace: executor}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: scaler, namespace: default}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [get]}
- {apiGroups: [apps], resources: [deployments/scale], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: scaler, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: scaler}
subjects: [{kind: ServiceAccount, name: scaler, namespace: executor}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: scale, namespace: executor}
spec:
  backoffLimit: 0
  template:
    spec:
      serviceAccountName: scaler
      restartPolicy: Never
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: kubectl
        image: registry.k8s.io/kubectl:VERSION
        args: [scale, deployment/web, --namespace=default, --replicas=3]
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          runAsUser: 65532
          capabilities: {drop: [ALL]}
";

/// What a web server answers on `/`: the name of its pod.
fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let request = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.lines().last().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_do_not_meet_and_a_dropped_one_leaves_nothing() {
    let (first, second) = tokio::join!(cluster(1), cluster(1));
    first
        .run_kubectl(&["create", "namespace", "mine"])
        .await
        .expect("a namespace");
    let namespaces = Api::<Namespace>::all(client(&second).await);
    assert_eq!(namespaces.get_opt("mine").await.expect("an answer"), None);

    // Nothing leads out of it.
    for command in [
        &["ip", "route", "get", "192.0.2.1"],
        &["ip", "route", "get", "10.0.0.1"],
    ] {
        let error = first.run_on_node(1, command).await.expect_err("no route");
        assert!(error.to_string().contains("unreachable"), "{error}");
    }

    deploy_web(&first, 1).await;
    let traces = Traces::of(&first);
    // What is stopped ends like the rest.
    for part in [Part::Kubelet(1), Part::ApiServer] {
        first.pause(part).await.expect("a signal");
    }
    let panicking = std::thread::spawn(move || {
        let _owned = first;
        panic!("a test that fails");
    });
    assert!(panicking.join().is_err());
    assert_eq!(traces.left(), Vec::<String>::new());
    namespaces
        .get("default")
        .await
        .expect("the other one still answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_watches_live_side_by_side() {
    let cluster = cluster(1).await;
    let client = client(&cluster).await;
    let namespaces = Api::<Namespace>::all(client.clone());
    let watch = async || {
        let params = WatchParams::default().fields("metadata.name=late");
        namespaces.watch(&params, "0").await.expect("a watch").boxed()
    };
    let mut watches = futures::future::join_all((0..400).map(|_| watch())).await;
    cluster
        .run_kubectl(&["create", "namespace", "late"])
        .await
        .expect("a namespace");
    for watch in &mut watches {
        let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        event.expect("an event").expect("a connection").expect("no error");
    }
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing() {
    let scratch = tempfile::tempdir().expect("a directory");
    let state = scratch.path().join("state");
    // This test's program again, with nothing but the other half of this test.
    let mut owner = Command::new(std::env::current_exe().expect("a program"))
        .args(["--ignored", "--exact", "cluster::owner"])
        .env("OWNED_STATE", &state)
        .stdout(Stdio::null())
        .spawn()
        .expect("an owner");
    eventually("the cluster is up", async || {
        assert!(matches!(owner.try_wait(), Ok(None)), "the owner ended");
        state.join("ready").exists().then_some(())
    })
    .await;
    let traces = Traces::in_state(&state);
    owner.kill().expect("SIGKILL");
    owner.wait().expect("its end");
    let begun = Instant::now();
    eventually("nothing is left", async || traces.left().is_empty().then_some(())).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
#[ignore = "a_killed_owner_leaves_nothing starts and kills it"]
async fn owner() {
    let state_dir = Some(PathBuf::from(
        std::env::var_os("OWNED_STATE").expect("a directory"),
    ));
    let options = ControlPlaneOptions {
        state_dir,
        ..ControlPlaneOptions::default()
    };
    let cluster = cluster_with(2, options).await;
    deploy_web(&cluster, 3).await;
    fs::write(cluster.state_dir().join("ready"), "").expect("a file");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_can_be_stopped_killed_and_started_again() {
    let options = ControlPlaneOptions {
        controller_manager_args: vec![
            "--node-monitor-grace-period=6s".into(),
            "--node-monitor-period=1s".into(),
        ],
        ..ControlPlaneOptions::default()
    };
    let cluster = cluster_with(2, options).await;
    let nodes = Api::<Node>::all(client(&cluster).await);
    let unready = async |name: &str| {
        eventually("the node is not ready", async || {
            let conditions = nodes.get(name).await.expect("a node").status?.conditions?;
            let mut ready = conditions
                .into_iter()
                .filter(|condition| condition.type_ == "Ready");
            (ready.next()?.status == "Unknown").then_some(())
        })
        .await;
    };
    let ready = async || {
        cluster
            .wait_until_nodes_are_ready()
            .await
            .expect("all nodes ready");
    };
    deploy_web(&cluster, 1).await;

    cluster.pause(Part::Kubelet(1)).await.expect("a signal");
    cluster.cut_off(2).await.expect("a cut");
    unready("node-1").await;
    unready("node-2").await;
    cluster.resume(Part::Kubelet(1)).await.expect("a signal");
    cluster.rejoin(2).await.expect("a link");
    ready().await;

    // Containers outlive what looks after them.
    for part in [
        Part::Containerd(1),
        Part::Containerd(2),
        Part::Kubelet(1),
        Part::Kubelet(2),
        Part::Scheduler,
        Part::ApiServer,
    ] {
        cluster.kill_part(part).await.expect("a signal");
        cluster.start_part(part).await.expect("a start");
    }
    let pods = Api::<Pod>::namespaced(client(&cluster).await, "default");
    let web = pods
        .list(&ListParams::default())
        .await
        .expect("pods")
        .items
        .remove(0);
    let restarts = async || {
        let status = pods.get(&web.name_any()).await.expect("a pod").status?;
        Some(status.container_statuses?.first()?.restart_count)
    };
    assert_eq!(restarts().await, Some(0));
    let process = cluster
        .container_process("default", &web.name_any(), "web")
        .await
        .expect("a process");
    process.pause().await.expect("a signal");
    process.resume().await.expect("a signal");
    process.kill().await.expect("a signal");
    eventually("the kubelet starts it again", async || {
        (restarts().await? == 1).then_some(())
    })
    .await;
    assert!(process.kill().await.is_err(), "its number may be another's");

    cluster.kill_part(Part::Node(2)).await.expect("a signal");
    assert!(cluster.pid(Part::Kubelet(2)).is_err(), "all of it is gone");
    unready("node-2").await;
    cluster.start_node(2).await.expect("a start");
    deploy_web(&cluster, 4).await;
}

/// What a cluster has on this machine while it runs.
struct Traces {
    processes: BTreeSet<u32>,
    cgroup: String,
    state: PathBuf,
}

impl Traces {
    fn of(cluster: &Cluster) -> Self {
        Self::in_state(cluster.state_dir())
    }

    fn in_state(state: &Path) -> Self {
        let etcd = fs::read_to_string(state.join("pid/etcd")).expect("a number");
        let parents = parents();
        let runner = parents[&etcd.trim().parse().expect("a number")];
        let below = |mut pid: u32| {
            while let Some(parent) = parents.get(&pid) {
                if *parent == runner {
                    return true;
                }
                pid = *parent;
            }
            false
        };
        let mut processes: BTreeSet<_> = parents.keys().copied().filter(|pid| below(*pid)).collect();
        processes.insert(runner);
        let this = Self {
            processes,
            cgroup: format!("kubernaut-{runner}"),
            state: state.to_owned(),
        };
        // What is found now can be missed later.
        let found = this.left().join("\n");
        for what in ["containerd-shim", "kubelet", "cgroup", "state"] {
            assert!(found.contains(what), "{what} is not in {found}");
        }
        this
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for pid in &self.processes {
            if let Ok(command) = fs::read_to_string(format!("/proc/{pid}/cmdline"))
                && !command.is_empty()
            {
                left.push(format!("process {pid} {}", command.replace('\0', " ")));
            }
        }
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
        let mut places: Vec<_> = hierarchies.map(|entry| entry.path()).collect();
        places.push("/sys/fs/cgroup".into());
        let cgroups = places.iter().map(|place| place.join(&self.cgroup));
        left.extend(
            cgroups
                .filter(|path| path.exists())
                .map(|path| format!("cgroup {}", path.display())),
        );
        let state = self.state.to_string_lossy();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&*state))
                .map(str::to_owned),
        );
        let links = Command::new("ip")
            .args(["-oneline", "link"])
            .output()
            .expect("ip runs");
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        left.extend(
            links
                .lines()
                .filter(|link| link.contains(": node"))
                .map(str::to_owned),
        );
        if self.state.exists() {
            left.push(format!("state {state}"));
        }
        left
    }
}

/// Every process of this machine, with its parent.
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        Some((pid, parent.trim().parse().ok()?))
    })
    .collect()
}
