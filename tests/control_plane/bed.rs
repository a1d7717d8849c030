//! A control plane with fake nodes that run kubectl, and kubernaut installed there.

use std::ops::Deref;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kubernaut::manifests::Installation;
use kubernaut_crds::names;
use kubernaut_testbed::{ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, PodScript};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub(crate) use crate::controller::Controller;
pub(crate) use crate::installed::{CONTROLLER, established};
use crate::installed::{Installed, all_established};

/// A control plane with the custom resources installed, and neither policies nor a controller.
pub(crate) async fn api_server() -> &'static ControlPlane {
    static BED: OnceCell<ControlPlane> = OnceCell::const_new();
    BED.get_or_init(async || {
        with_custom_resources(ControlPlaneOptions {
            // What it makes of nodes is compared.
            node_lifecycle: true,
            ..ControlPlaneOptions::default()
        })
        .await
    })
    .await
}

/// Starts one with the custom resources, and nothing else of kubernaut.
pub(crate) async fn with_custom_resources(options: ControlPlaneOptions) -> ControlPlane {
    let control_plane = ControlPlane::start(options).await.expect("a control plane");
    let files = kubernaut::manifests::files(&Installation::default()).expect("manifests");
    let crds = files
        .iter()
        .find(|file| file.name == "crds.yaml")
        .expect("the file");
    let crds = kubernaut::manifests::text(crds).expect("text");
    control_plane.apply_yaml(&crds).await.expect("accepted");
    all_established(&control_plane).await;
    control_plane
}

/// The bed of the tests that don't disturb each other: each works in namespaces of its own, or on a node of its own.
pub(crate) async fn bed() -> &'static Bed {
    static BED: OnceCell<Bed> = OnceCell::const_new();
    let options = BedOptions {
        nodes: 6,
        run_flags: &["--apply-manifest-kinds=ConfigMap"],
        controller_flags: &["--cluster-name=production-cluster", PROTECTED],
        ..BedOptions::default()
    };
    BED.get_or_init(async || Bed::start(options).await).await
}

/// Said to the controller alone: no admission policy stands before this namespace.
pub(crate) const UNGUARDED: &str = "ref-unguarded";
const PROTECTED: &str = "--protected-namespaces=kube-system,kube-public,kube-node-lease,ref-unguarded";

/// How a [`Bed`] differs from the usual one.
#[derive(Clone, Copy)]
pub(crate) struct BedOptions {
    pub(crate) nodes: usize,
    /// Said to `kubernaut manifests` and to `kubernaut controller`.
    pub(crate) run_flags: &'static [&'static str],
    /// Said to `kubernaut controller` alone.
    pub(crate) controller_flags: &'static [&'static str],
    /// Said to kube-apiserver.
    pub(crate) apiserver_args: &'static [&'static str],
    /// What becomes of pods.
    pub(crate) script: fn(&Pod) -> Option<PodScript>,
}

impl Default for BedOptions {
    fn default() -> Self {
        Self {
            nodes: 2,
            run_flags: &[],
            controller_flags: &[],
            apiserver_args: &[],
            script: script_by_name,
        }
    }
}

/// A step whose execution's name begins with one of these words has its pods treated so.
fn script_by_name(pod: &Pod) -> Option<PodScript> {
    let execution = pod.labels().get(names::LABEL_EXECUTION_NAME)?;
    let exit = |message: &str| PodScript::Exit {
        code: 1,
        message: message.to_owned(),
    };
    match execution.split('-').next()? {
        "hang" => Some(PodScript::Hang),
        "fails" => Some(exit("error: told to fail")),
        "invalid" => Some(exit("Error from server (BadRequest): told to fail")),
        "stuck" => Some(PodScript::Waiting {
            reason: "ContainerCreating".to_owned(),
            message: String::new(),
        }),
        "slow" => Some(PodScript::RunAfter(Duration::from_secs(3))),
        _ => None,
    }
}

/// The container of a test's Deployment: a fake node runs any image.
pub(crate) fn server() -> Value {
    json!({"name": "server", "image": "registry.example/server:1"})
}

/// Nodes that are objects only, and what treats their pods as a node would.
pub(crate) struct FakeNodes {
    // Ends before what it talks to.
    pub(crate) kubelet: FakeKubelet,
    control_plane: ControlPlane,
}

impl Deref for FakeNodes {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.control_plane
    }
}

/// Where the tests of this tier work.
pub(crate) type Bed = Installed<FakeNodes>;

impl Bed {
    pub(crate) async fn start(options: BedOptions) -> Self {
        let bed = Self::not_started(options).await;
        bed.start_controller().await;
        bed
    }

    /// A bed without a controller.
    pub(crate) async fn not_started(options: BedOptions) -> Self {
        let nodes = FakeNodes::start(options).await;
        Self::without_controller(nodes, options.run_flags, options.controller_flags).await
    }
}

impl FakeNodes {
    /// Nothing of kubernaut is installed.
    pub(crate) async fn start(options: BedOptions) -> Self {
        let control_plane = ControlPlane::start(ControlPlaneOptions {
            audit_log: true,
            apiserver_args: options
                .apiserver_args
                .iter()
                .map(|arg| (*arg).to_owned())
                .collect(),
            ..ControlPlaneOptions::default()
        })
        .await
        .expect("a control plane");
        let kubelet_options = FakeKubeletOptions {
            nodes: options.nodes,
            ..FakeKubeletOptions::default()
        };
        let kubelet = FakeKubelet::start(&control_plane, kubelet_options.with_script(options.script))
            .await
            .expect("a fake kubelet");
        Self {
            kubelet,
            control_plane,
        }
    }
}
