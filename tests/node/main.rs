//! What only real nodes can show: kubelets, containers, Services, and what becomes of them when parts are killed.
//! Needs root; `./dev test node` looks whether the machine has what else it takes.

mod bed;
mod scene;
