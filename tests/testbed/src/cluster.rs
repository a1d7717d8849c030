//! A control plane with real nodes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt};
use tokio::process::Command;

use crate::control_plane::{ControlPlane, ControlPlaneOptions, build, start_error};
use crate::error::{IoContext, TestbedError};
use crate::part::Part;
use crate::process;
use crate::relay::Relay;

/// Where the API server listens in the cluster's network; the script says so too.
const API_SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 111, 0, 1)), 6443);

/// Nodes are ready within two seconds, on a machine that has nothing else to do.
const NODES_TIMEOUT: Duration = Duration::from_secs(60);

/// How a [`Cluster`] is started.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes there are: `node-1`, `node-2` and so on. Each takes half a gigabyte of memory.
    pub nodes: usize,
    /// How their control plane is started.
    pub control_plane: ControlPlaneOptions,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            control_plane: ControlPlaneOptions::default(),
        }
    }
}

/// A [`ControlPlane`] with real nodes: kubelet, containerd, runc, pod network, Services and a scheduler. It can do all
/// that a control plane can do, and derefs to it.
///
/// The images are `kubernaut.test/web:1`, which is ready at `/readyz` of port 8080 (`READY_AFTER=5s` in its environment
/// makes that later), `registry.k8s.io/kubectl` in the version of the cluster, and what [`load_image`](Self::load_image)
/// brought. No other can be pulled: nothing in a cluster reaches anything outside of it.
///
/// # Guarantees
/// Two clusters, also of the same addresses, do not meet: each has a network of its own, without a way out. As with a
/// control plane, dropping it leaves no process, mount, link, cgroup or file, and neither does the death of its owner.
///
/// # Caveats
/// Needs root and the programs that `tests/cluster/node-tools` looks for. No DNS, no storage, no pulls; a
/// NetworkPolicy is accepted and does nothing. When the API server is dead, a connection to it is not refused but
/// accepted and closed.
pub struct Cluster {
    // It ends before what it leads to.
    _relay: Relay,
    control_plane: ControlPlane,
    images: Vec<PathBuf>,
    nodes: usize,
}

impl Deref for Cluster {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.control_plane
    }
}

impl Cluster {
    /// Builds programs and images when they are missing (minutes, once per machine), starts all parts, and returns
    /// when every node is ready.
    pub async fn start(options: ClusterOptions) -> Result<Self, TestbedError> {
        let built = tokio::task::spawn_blocking(|| build(&["node"]).and_then(|dirs| images_in(&dirs)));
        let (bin_dir, images) = built.await.map_err(|e| start_error(&e))??;

        // The port is ours from here on; whoever connects early is served when the relay has begun.
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = bound.context(|| "listening on loopback".into())?;
        let address = listener.local_addr().context(|| "listening on loopback".into())?;
        let args = [
            format!("--nodes={}", options.nodes),
            format!("--port={}", address.port()),
        ];
        let control_plane = ControlPlane::launch(bin_dir, options.control_plane, &args).await?;
        let relay = Relay::start(listener, &network_of(&control_plane), API_SERVER)?;
        let this = Self {
            _relay: relay,
            control_plane,
            images,
            nodes: options.nodes,
        };
        // Kubelets and the scheduler try again later and later when the API server isn't ready.
        let loaded = try_join_all(this.node_numbers().map(|node| this.start_containerd(node)));
        tokio::try_join!(this.wait_until_ready(), loaded)?;
        this.order_start(Part::Scheduler)?;
        for node in this.node_numbers() {
            this.order_start_on(node)?;
        }
        this.wait_until_nodes_are_ready().await?;
        Ok(this)
    }

    /// Loads an image into every node, from a file as `docker save` and `tests/cluster/image` write.
    pub async fn load_image(&self, archive: &Path) -> Result<(), TestbedError> {
        try_join_all(self.node_numbers().map(|node| self.import(node, archive)))
            .await
            .map(drop)
    }

    /// Runs a program of this machine (`ctr`, `ip`, `nft` ...) in the namespaces of a node and returns its standard
    /// output.
    pub async fn run_on_node(&self, node: usize, command: &[&str]) -> Result<String, TestbedError> {
        process::output(self.on_node(node)?.args(command), b"").await
    }

    /// Pulls the cable of a node: neither it nor its pods reach anything but themselves, and nothing reaches them.
    pub async fn cut_off(&self, node: usize) -> Result<(), TestbedError> {
        self.set_cable(node, "down").await
    }

    /// Plugs the cable of a node in again.
    pub async fn rejoin(&self, node: usize) -> Result<(), TestbedError> {
        self.set_cable(node, "up").await
    }

    /// Starts a node that was killed ([`Part::Node`]), with an empty disk, and returns when all nodes are ready.
    pub async fn start_node(&self, node: usize) -> Result<(), TestbedError> {
        if self.running(Part::Node(node)).is_none() {
            self.order_start(Part::Node(node))?;
        }
        self.start_containerd(node).await?;
        self.order_start_on(node)?;
        self.wait_until_nodes_are_ready().await
    }

    /// Returns when the API server says that every node is ready.
    pub async fn wait_until_nodes_are_ready(&self) -> Result<(), TestbedError> {
        let nodes = Api::<Node>::all(self.admin_client().await?);
        let deadline = Instant::now() + NODES_TIMEOUT;
        loop {
            let mut unready = self.node_numbers();
            let listed = nodes.list(&kube::api::ListParams::default()).await?;
            let is_ready = |number: usize| {
                let mut named = listed.iter();
                named.any(|node| node.name_any() == format!("node-{number}") && is_ready(node))
            };
            let Some(unready) = unready.find(|number| !is_ready(*number)) else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(TestbedError::Start(format!(
                    "node-{unready} is not ready after {} s; its kubelet says:\n{}",
                    NODES_TIMEOUT.as_secs(),
                    self.log_tail(Part::Kubelet(unready))
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The first process of a container that runs, to be stopped or killed behind the kubelet's back.
    pub async fn container_process(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<ContainerProcess, TestbedError> {
        let pods = Api::<Pod>::namespaced(self.admin_client().await?, namespace);
        let status = pods.get(pod).await?.status.unwrap_or_default();
        let mut statuses = status.container_statuses.into_iter().flatten();
        let id = statuses
            .find(|status| status.name == container)
            .and_then(|status| status.container_id)
            .and_then(|id| id.rsplit('/').next().map(str::to_owned))
            .filter(|id| !id.is_empty());
        id.and_then(ContainerProcess::find)
            .ok_or_else(|| TestbedError::Part {
                part: format!("container {container} of pod {namespace}/{pod}"),
                message: "it has no process".into(),
            })
    }

    /// Opens a port of this machine's loopback that leads to an address in the cluster, of a pod or a Service, for as
    /// long as the answer is kept.
    pub fn relay_to(&self, target: SocketAddr) -> Result<Relay, TestbedError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.context(|| "listening on loopback".into())?;
        Relay::start(listener, &network_of(&self.control_plane), target)
    }

    fn node_numbers(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.nodes
    }

    /// Starts containerd and loads the images that every node has.
    async fn start_containerd(&self, node: usize) -> Result<(), TestbedError> {
        self.order_start(Part::Containerd(node))?;
        let deadline = Instant::now() + NODES_TIMEOUT;
        while let Err(error) = self.run_on_node(node, &["ctr", "version"]).await {
            self.pid(Part::Containerd(node))?;
            if Instant::now() > deadline {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for image in &self.images {
            self.import(node, image).await?;
        }
        Ok(())
    }

    fn order_start_on(&self, node: usize) -> Result<(), TestbedError> {
        self.order_start(Part::KubeProxy(node))?;
        self.order_start(Part::Kubelet(node))
    }

    /// From standard input: the node doesn't see all of this machine's files.
    async fn import(&self, node: usize, archive: &Path) -> Result<(), TestbedError> {
        let file = File::open(archive).context(|| format!("opening {}", archive.display()))?;
        let mut command = self.on_node(node)?;
        command.args(["ctr", "--namespace=k8s.io", "images", "import", "-"]);
        process::output_from(&mut command, file).await.map(drop)
    }

    fn on_node(&self, node: usize) -> Result<Command, TestbedError> {
        let pid = self.pid(Part::Node(node))?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--all", "--"]);
        Ok(command)
    }

    async fn set_cable(&self, node: usize, state: &str) -> Result<(), TestbedError> {
        let network = format!("--net={}", network_of(&self.control_plane).display());
        let mut command = Command::new("nsenter");
        command.args([network.as_str(), "--", "ip", "link", "set"]);
        command.args([format!("node-{node}").as_str(), state]);
        process::output(&mut command, b"").await.map(drop)
    }
}

/// The first process of a container.
#[derive(Debug)]
pub struct ContainerProcess {
    container_id: String,
    pid: u32,
}

impl ContainerProcess {
    /// Its number on this machine.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Stops the process where it is (SIGSTOP).
    pub async fn pause(&self) -> Result<(), TestbedError> {
        self.signal("STOP").await
    }

    /// Lets the paused process go on (SIGCONT).
    pub async fn resume(&self) -> Result<(), TestbedError> {
        self.signal("CONT").await
    }

    /// Kills the process (SIGKILL), and the container with it.
    pub async fn kill(&self) -> Result<(), TestbedError> {
        self.signal("KILL").await
    }

    /// Processes of a container are known by their cgroup; the first of them is number 1 in its own namespace.
    fn find(container_id: String) -> Option<Self> {
        let entries = fs::read_dir("/proc").ok()?;
        let mut pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let pid = pids.find(|pid| is_first_of(&container_id, *pid))?;
        Some(Self { container_id, pid })
    }

    async fn signal(&self, signal: &str) -> Result<(), TestbedError> {
        // The number may have become somebody else's.
        if !is_first_of(&self.container_id, self.pid) {
            return Err(TestbedError::Part {
                part: format!("container {}", self.container_id),
                message: format!("process {} has ended", self.pid),
            });
        }
        process::signal(self.pid, signal).await
    }
}

fn is_first_of(container_id: &str, pid: u32) -> bool {
    let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let is_first = || {
        let status = read("status");
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_whitespace().next_back() == Some("1"))
    };
    read("cgroup").contains(container_id) && is_first()
}

/// The network that all of the cluster is in. It is found by the process of the script.
fn network_of(control_plane: &ControlPlane) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/net", control_plane.runner_pid()))
}

/// What `build node` printed: the programs' directory, and what is in the images' directory.
fn images_in(dirs: &[PathBuf]) -> Result<(PathBuf, Vec<PathBuf>), TestbedError> {
    let [bin_dir, images] = dirs else {
        return Err(TestbedError::Start(format!("where are the images? {dirs:?}")));
    };
    let context = || format!("reading {}", images.display());
    let entries = fs::read_dir(images).context(context)?;
    let files: std::io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    Ok((bin_dir.clone(), files.context(context)?))
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| &status.conditions);
    let mut conditions = conditions.flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
