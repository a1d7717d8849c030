//! A real control plane (etcd, kube-apiserver, kube-controller-manager) and a fake kubelet, for tests and for
//! playing.
//!
//! [`ControlPlane`] answers what no imitation answers well: CEL rules, RBAC, admission, field ownership, the Job
//! controller. [`FakeKubelet`] stands in for nodes: it binds pods, runs the kubectl of an executor's pod as a
//! process with the rights of the pod's service account, and calls every other pod ready. Neither needs root.
//!
//! ```no_run
//! # async fn example() -> Result<(), kubernaut_testbed::TestbedError> {
//! use kubernaut_testbed::{ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions};
//! let control_plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
//! let kubelet = FakeKubelet::start(&control_plane, FakeKubeletOptions::default()).await?;
//! let client = control_plane.admin_client().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Both stop when dropped, also while a panic unwinds. When the process that owns them is killed, the control plane
//! ends within a second and removes its files.

mod access;
mod cluster;
mod control_plane;
mod error;
mod kubelet;
mod part;
mod process;
mod relay;

pub use cluster::{Cluster, ClusterOptions, ContainerProcess};
pub use control_plane::{ControlPlane, ControlPlaneOptions};
pub use error::TestbedError;
pub use kubelet::{FakeKubelet, FakeKubeletOptions, KubectlRun, PodScript, ScriptFn};
pub use part::Part;
pub use relay::Relay;
