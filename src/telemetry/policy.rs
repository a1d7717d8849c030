//! Counts of policies: what was loaded, and what was answered.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Telemetry;

/// What came of loading the files of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyLoad {
    /// They decide from now on.
    Loaded,
    /// They can't be used: those before go on to decide.
    Broken,
}

impl PolicyLoad {
    fn as_str(self) -> &'static str {
        match self {
            PolicyLoad::Loaded => "loaded",
            PolicyLoad::Broken => "broken",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The metrics of policies.
#[derive(Default)]
pub(super) struct PolicyMetrics {
    loads: Family<Outcome, Counter>,
    verdicts: Family<Outcome, Counter>,
    stale: Gauge,
}

impl PolicyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "policy_loads",
            "Versions of the policy files that were loaded, and those that could not be used",
            self.loads.clone(),
        );
        registry.register(
            "policy_verdicts",
            "Answers of the policies about executions",
            self.verdicts.clone(),
        );
        registry.register(
            "policy_stale",
            "1 while the policy files can't be used, and those before them decide: /readyz says why",
            self.stale.clone(),
        );
    }
}

impl Telemetry {
    /// Counts a load of policy files.
    pub fn policy_loaded(&self, load: PolicyLoad) {
        let outcome = load.as_str();
        self.policy.loads.get_or_create(&Outcome { outcome }).inc();
        self.policy.stale.set(i64::from(load == PolicyLoad::Broken));
    }

    /// Counts an answer of the policies.
    pub fn policy_asked(&self, allowed: bool) {
        let outcome = if allowed { "allowed" } else { "denied" };
        self.policy.verdicts.get_or_create(&Outcome { outcome }).inc();
    }
}
