//! What only a real kube-apiserver, controller manager and kubectl can show.

mod bed;
mod scene;

mod crash;
mod crds;
mod dataflow;
mod load;
mod rights;
