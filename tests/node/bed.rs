//! Clusters of real nodes with kubernaut installed there.

use kubernaut_testbed::{Cluster, ControlPlaneOptions, Part};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::ground::cluster_with;
use crate::installed::Installed;

/// Where the tests of this tier work.
pub(crate) type Bed = Installed<Cluster>;

/// How a [`Bed`] differs from the usual one.
#[derive(Clone)]
pub(crate) struct BedOptions {
    pub(crate) nodes: usize,
    /// Said to `kubernaut manifests` and to `kubernaut controller`.
    pub(crate) run_flags: &'static [&'static str],
    /// Said to `kubernaut controller` alone.
    pub(crate) controller_flags: &'static [&'static str],
}

impl Default for BedOptions {
    fn default() -> Self {
        Self {
            nodes: 2,
            run_flags: &["--apply-manifest-kinds=ConfigMap"],
            controller_flags: &[],
        }
    }
}

impl Bed {
    pub(crate) async fn start(options: BedOptions) -> Self {
        let bed = Self::not_started(options).await;
        bed.start_controller().await;
        bed
    }

    /// A bed without a controller.
    pub(crate) async fn not_started(options: BedOptions) -> Self {
        let control_plane = ControlPlaneOptions {
            audit_log: true,
            ..ControlPlaneOptions::default()
        };
        let cluster = cluster_with(options.nodes, control_plane).await;
        // Another image with the same program: nothing can be pulled.
        for node in 1..=options.nodes {
            let tag = ["ctr", "--namespace=k8s.io", "images", "tag", WEB, OTHER_WEB];
            cluster.run_on_node(node, &tag).await.expect("a second name");
        }
        Self::without_controller(cluster, options.run_flags, options.controller_flags).await
    }
}

pub(crate) const WEB: &str = "kubernaut.test/web:1";
pub(crate) const OTHER_WEB: &str = "kubernaut.test/web:2";

/// The container of a test's Deployment. A machine that has much to do must not make it unready for a moment.
pub(crate) fn server() -> Value {
    json!({"name": "server", "image": WEB,
           "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 15}})
}

/// The bed of the tests that don't disturb each other: each works in namespaces of its own, and leaves nodes and the
/// cluster's parts alone.
pub(crate) async fn bed() -> &'static Bed {
    static BED: OnceCell<Bed> = OnceCell::const_new();
    BED.get_or_init(async || Bed::start(BedOptions::default()).await)
        .await
}

/// A bed for the tests that disturb all others, one after the other.
pub(crate) async fn bed_alone() -> (&'static Bed, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    static BED: OnceCell<Bed> = OnceCell::const_new();
    let turn = TURN.lock().await;
    let bed = BED
        .get_or_init(async || Bed::start(BedOptions::default()).await)
        .await;
    tidy(bed, 2).await;
    (bed, turn)
}

/// A bed with one node alone, for one test after the other.
pub(crate) async fn bed_of_one_node() -> (&'static Bed, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    static BED: OnceCell<Bed> = OnceCell::const_new();
    let turn = TURN.lock().await;
    let options = BedOptions {
        nodes: 1,
        ..BedOptions::default()
    };
    let bed = BED.get_or_init(async || Bed::start(options).await).await;
    tidy(bed, 1).await;
    (bed, turn)
}

/// What the test before left, also one that failed half-way, must not become this one's trouble.
async fn tidy(bed: &Bed, nodes: usize) {
    let cluster = &bed.cluster;
    cluster.resume(Part::Scheduler).await.expect("a signal");
    for node in 1..=nodes {
        cluster.resume(Part::Kubelet(node)).await.expect("a signal");
        let name = format!("node-{node}");
        cluster
            .run_kubectl(&["uncordon", &name])
            .await
            .expect("uncordoned");
    }
    cluster.wait_until_nodes_are_ready().await.expect("ready nodes");
    let all = [
        "delete",
        "poddisruptionbudgets,deployments",
        "--all",
        "--all-namespaces",
    ];
    cluster.run_kubectl(&all).await.expect("deleted");
}
