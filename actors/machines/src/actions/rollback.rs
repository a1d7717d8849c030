//! How a change is taken back, as it is recorded before the first Job.

use kubernaut_crds::{RecordedConfig, RecordedRollback, RollbackInformation, TargetRef};
use serde_json::Value;

/// A larger state before is not stored.
const PREVIOUS_MAX: usize = 256 * 1024;

pub(super) fn reversible(action: &str, parameters: RecordedRollback) -> RollbackInformation {
    RollbackInformation {
        available: true,
        reason: None,
        rollback_action: Some(action.to_owned()),
        rollback_parameters: Some(parameters),
        undo: None,
        estimated_duration: None,
    }
}

pub(crate) fn not_reversible(reason: &str) -> RollbackInformation {
    RollbackInformation {
        available: false,
        reason: Some(reason.to_owned()),
        ..RollbackInformation::default()
    }
}

/// By the part of the target as it was.
pub(super) fn previous(target: &TargetRef, part: &Value) -> RollbackInformation {
    let text = part.to_string();
    if text.len() > PREVIOUS_MAX {
        return not_reversible("the state before is larger than 256 KiB and was not stored");
    }
    let restore_previous_config = Some(RecordedConfig {
        resource_kind: target.kind.clone(),
        namespace: target.namespace.clone().unwrap_or_default(),
        name: target.name.clone(),
        previous_spec: text,
    });
    reversible(
        "restore",
        RecordedRollback {
            restore_previous_config,
            ..RecordedRollback::default()
        },
    )
}

/// One word of a shell.
pub(super) fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
