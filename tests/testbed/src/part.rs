/// A program of a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers: Jobs, Deployments, garbage collection and the rest.
    ControllerManager,
}

impl Part {
    /// Every part, in the order of starting.
    pub const ALL: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];

    pub(crate) fn name(self) -> String {
        let name = match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        };
        name.to_owned()
    }
}
