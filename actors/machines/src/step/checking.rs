//! Checking the parameters as a piece of work of its own.

use std::sync::Arc;

use kubernaut_crds::KubernetesExecution;

use crate::Settings;
use crate::parameters::{self, ValidatedExecution};
use crate::problem::Problem;

/// What came of checking an execution: all that is wrong with it.
pub type CheckResult = Result<Arc<ValidatedExecution>, Vec<Problem>>;

/// Checking reads the manifest of an execution, and others would wait meanwhile: whoever runs a machine may do it
/// elsewhere, and give the machine what came of it.
#[derive(Clone, Debug)]
pub struct Checking {
    pub(super) settings: Arc<Settings>,
    pub(super) execution: Arc<KubernetesExecution>,
    pub(super) begun: bool,
}

impl Checking {
    /// Checks. What has begun is brought to its end, also when the flags became stricter since.
    pub fn make(&self) -> CheckResult {
        let checked = if self.begun {
            parameters::check(&self.execution, &self.settings.without_limits())
        } else {
            parameters::check(&self.execution, &self.settings)
        };
        checked.map(Arc::new)
    }
}
