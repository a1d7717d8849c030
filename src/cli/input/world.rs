//! The embedded cluster before anything runs: what an installation brings, and the accounts that nobody brings.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubernaut_actors::TokioClock;
use kubernaut_actors::ports::Clock as _;
use serde_json::{Value, json};

use super::manifest::Manifest;
use crate::manifests::{self, Installation};
use crate::memory::{MemoryCluster, MemoryOptions, Rbac};

use kubernaut_machines::Settings;

/// Whether the files say who may do what.
pub(super) fn rights_of(files: &[Manifest]) -> Rbac {
    let any = files.iter().any(|manifest| {
        manifest
            .text("apiVersion")
            .starts_with("rbac.authorization.k8s.io/")
    });
    if any { Rbac::Evaluate } else { Rbac::AllowAll }
}

/// A cluster with kubernaut installed, its controller not yet started. Its admission policies are there to be seen; the
/// embedded cluster does not evaluate them.
pub(super) fn installed(rbac: Rbac, settings: &Settings, clock: TokioClock) -> Result<MemoryCluster, String> {
    let cluster = MemoryCluster::new(MemoryOptions {
        rbac,
        now: Arc::new(move || clock.now()),
        ..MemoryOptions::default()
    });
    let installation = Installation::without_pods(settings.clone());
    let objects = manifests::objects(&installation).map_err(|error| error.to_string())?;
    cluster.load(objects).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!(
            "the manifests of the installation don't load: {}",
            errors.join("; ")
        )
    })?;
    Ok(cluster)
}

/// Accounts that the workflows name and the files don't bring. Where every account may do everything, they are made.
pub(super) fn missing_accounts(files: &[Manifest]) -> Vec<Value> {
    let brought: BTreeSet<(String, String)> = files
        .iter()
        .filter(|manifest| manifest.is("", "ServiceAccount"))
        .map(|manifest| {
            (
                manifest.metadata("namespace").to_owned(),
                manifest.metadata("name").to_owned(),
            )
        })
        .collect();
    let named: BTreeSet<(String, String)> = files
        .iter()
        .filter(|manifest| manifest.runs())
        .filter_map(|manifest| {
            let account = manifest.object["spec"]["serviceAccountName"].as_str()?;
            Some((manifest.namespace(), account.to_owned()))
        })
        .filter(|(_, account)| account != "default")
        .collect();
    named
        .difference(&brought)
        .map(|(namespace, name)| {
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
        })
        .collect()
}
