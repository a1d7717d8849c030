//! What other tests may rely on: a control plane that refuses and accepts as a real one does, a kubelet that runs
//! kubectl with the rights of a pod's service account, and nothing left behind.

mod background;
mod control_plane;
mod pods;
mod restarts;
mod scene;
