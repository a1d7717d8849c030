//! What the fake kubelet makes of a pod.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

/// Decides what becomes of a pod, asked once when the pod's turn to start comes. `None`: the normal way.
pub type ScriptFn = Arc<dyn Fn(&Pod) -> Option<PodScript> + Send + Sync>;

/// What a test wants to happen to a pod instead of the normal way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodScript {
    /// Waits, still Pending, then goes the normal way.
    RunAfter(Duration),
    /// Never starts: its containers wait for ever with this reason (`ImagePullBackOff`,
    /// `CreateContainerConfigError`).
    Waiting {
        /// The reason in `containerStatuses[].state.waiting`.
        reason: String,
        /// The message beside it.
        message: String,
    },
    /// Runs nothing, and ends with this exit code.
    Exit {
        /// The exit code of every container.
        code: i32,
        /// The termination message; empty is none.
        message: String,
    },
    /// Runs nothing, and ends well: at once, without being seen as running, or after this time.
    Succeed {
        /// How long it is running.
        after: Duration,
    },
    /// Runs its kubectl, then reports this exit code whatever the true one was.
    RunThenExit {
        /// The exit code reported for every container.
        code: i32,
        /// The termination message; empty is none.
        message: String,
    },
    /// Runs nothing, and stays Running until it is deleted.
    Hang,
    /// Is evicted by its node, as under memory pressure: Failed, with the condition `DisruptionTarget`.
    Evict {
        /// Whether its kubectl had run before, so that the effect is there.
        after_run: bool,
    },
    /// Its node can't be reached: it stays Running, and nobody confirms its deletion.
    Unreachable {
        /// Whether its kubectl runs on that node, so that the effect is there though nobody hears of it.
        run: bool,
    },
}
