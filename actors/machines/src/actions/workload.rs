//! What actions on a Deployment have in common.

use serde_json::Value;

use super::{Examination, target_name};
use crate::preflight::{Refusal, refuse};
use kubernaut_crds::ErrorType;

/// apiVersion of Deployments.
pub(super) const VERSION: &str = "apps/v1";

/// Of one that is paused no pod would change.
pub(super) fn refuse_paused(at: Examination<'_>) -> Result<(), Refusal> {
    if at.object["spec"]["paused"] == true {
        let message = format!(
            "{} is paused, so its pods would not change: resume it first",
            target_name(&at.checked.target)
        );
        return refuse(ErrorType::ValidationError, message);
    }
    Ok(())
}

/// Its pod template as it was.
pub(super) fn template(deployment: &Value) -> Value {
    serde_json::json!({"template": deployment["spec"]["template"]})
}
