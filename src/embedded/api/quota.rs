//! Quotas of object counts: `pods`, `configmaps`, `secrets` ... and `count/<resource>.<group>`.

use serde_json::Value;

use crate::api::kinds::Kind;
use crate::api::state::State;
use crate::api::status::ApiError;

impl State {
    /// Whether a namespace's quotas allow one more of a kind.
    pub(crate) fn check_quotas(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), ApiError> {
        if namespace.is_empty() {
            return Ok(());
        }
        for (key, quota) in self.store.list("resourcequotas", namespace) {
            let names = [kind.storage.to_string(), format!("count/{}", kind.storage)];
            for limited in &names {
                let Some(hard) = whole(&quota["spec"]["hard"][limited]) else {
                    continue;
                };
                let counts = |object: &Value| {
                    // What has ended takes no room.
                    *limited != "pods"
                        || !["Succeeded", "Failed"]
                            .contains(&object["status"]["phase"].as_str().unwrap_or(""))
                };
                let objects = self.store.list(&kind.storage, namespace);
                let used = objects.filter(|(_, object)| counts(object)).count() as u64;
                if used + 1 > hard {
                    let why = format!(
                        "exceeded quota: {}, requested: {limited}=1, used: {limited}={used}, limited: {limited}={hard}",
                        key.name
                    );
                    return Err(ApiError::forbidden(kind, name, &why));
                }
            }
        }
        Ok(())
    }
}

/// A quantity without a unit; those with one count what is not counted here.
fn whole(quantity: &Value) -> Option<u64> {
    quantity
        .as_u64()
        .or_else(|| quantity.as_str().and_then(|text| text.parse().ok()))
}
