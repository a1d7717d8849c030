//! WorkflowExecution -> KubernetesExecution -> Job, as the design document draws it.

mod actions;
mod addresses;
mod approvals;
mod deletion;
mod design;
mod dry_runs;
mod namespaces;
mod nodes;
mod outcomes;
mod refusals;
mod undoing;
