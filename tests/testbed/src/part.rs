//! A program that is part of a cluster: started, stopped, killed.

/// A program of a control plane, or of a node. Nodes are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers: Jobs, Deployments, garbage collection and the rest.
    ControllerManager,
    /// What binds pods to nodes.
    Scheduler,
    /// A node with all that runs on it. Killed, it loses power, and its disk with it.
    Node(usize),
    /// What runs the containers of a node. They go on without it.
    Containerd(usize),
    /// What makes Services of a node lead somewhere.
    KubeProxy(usize),
    /// The kubelet of a node. Its pods go on without it.
    Kubelet(usize),
}

impl Part {
    /// The parts that every control plane has, in the order of starting.
    pub const CONTROL_PLANE: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];

    /// As the script calls it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Etcd => "etcd".into(),
            Self::ApiServer => "kube-apiserver".into(),
            Self::ControllerManager => "kube-controller-manager".into(),
            Self::Scheduler => "kube-scheduler".into(),
            Self::Node(number) => format!("node-{number}"),
            Self::Containerd(number) => format!("containerd@node-{number}"),
            Self::KubeProxy(number) => format!("kube-proxy@node-{number}"),
            Self::Kubelet(number) => format!("kubelet@node-{number}"),
        }
    }
}
