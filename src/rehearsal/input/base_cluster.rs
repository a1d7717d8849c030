//! The embedded cluster before anything runs: what an installation brings, and the accounts that nobody brings.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubernaut_actors::TokioClock;
use kubernaut_actors::ports::Clock as _;
use serde_json::{Value, json};

use super::import;
use super::manifest::Manifest;
use crate::manifests::{self, Installation};
use embedded_cluster::{EmbeddedCluster, EmbeddedOptions, Rbac};

use kubernaut_machines::Settings;

/// As many Events as somebody may still read.
const EVENTS: usize = 2_000;

/// As many writes as a watch can catch up with.
const HISTORY: usize = 200;

/// Whether the files say who may do what.
pub(super) fn rights_of(manifests: &[Manifest]) -> Rbac {
    let any = manifests.iter().any(|manifest| {
        manifest
            .text("apiVersion")
            .starts_with("rbac.authorization.k8s.io/")
    });
    if any { Rbac::Evaluate } else { Rbac::AllowAll }
}

pub(super) fn options(rbac: Rbac, settings: &Settings, clock: TokioClock) -> EmbeddedOptions {
    EmbeddedOptions {
        // What is applied is applied by server; a rehearsal that allows no kind for it needs to remember nobody.
        field_owners: !settings.apply_manifest_kinds.is_empty(),
        rbac,
        now: Arc::new(move || clock.now()),
        // Nobody asks what was asked; and a watch that has missed more lists anew.
        history: HISTORY,
        events: EVENTS,
        request_log: 0,
        ..EmbeddedOptions::default()
    }
}

/// A cluster with kubernaut installed, its controller not yet started. Its admission policies are there to be seen; the
/// embedded cluster does not evaluate them.
pub(super) fn installed(settings: &Settings, clock: TokioClock) -> Result<EmbeddedCluster, String> {
    let cluster = EmbeddedCluster::new(options(Rbac::AllowAll, settings, clock));
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

/// Accounts that are needed and that nobody brings. Where every account may do everything, those that the workflows name
/// are made; and always those that pods of a real cluster run as.
pub(super) fn missing_accounts(runs: &[Manifest], world: &[Manifest], rbac: Rbac) -> Vec<Value> {
    let account = |manifest: &Manifest| (manifest.namespace(), manifest.metadata("name").to_owned());
    let brought: BTreeSet<(String, String)> = world
        .iter()
        .filter(|manifest| manifest.is_kind("", "ServiceAccount"))
        .map(account)
        .collect();
    let of_pods = world
        .iter()
        .filter(|manifest| manifest.taken || rbac == Rbac::AllowAll)
        .filter_map(|manifest| import::account_of(&manifest.object));
    let named = runs
        .iter()
        .filter(|_| rbac == Rbac::AllowAll)
        .filter_map(|manifest| {
            let account = manifest.object["spec"]["serviceAccountName"].as_str()?;
            Some((manifest.namespace(), account.to_owned()))
        })
        .filter(|(_, account)| account != "default");
    let needed: BTreeSet<(String, String)> = of_pods.chain(named).collect();
    needed
        .difference(&brought)
        .map(|(namespace, name)| {
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
        })
        .collect()
}

/// What to say of the accounts that workflows name and nobody brings, such as one with a typo.
pub(super) fn unknown_accounts(runs: &[Manifest], missing: &[Value]) -> Vec<String> {
    let named = |account: &&Value| {
        runs.iter().any(|run| {
            run.object["spec"]["serviceAccountName"] == account["metadata"]["name"]
                && run.namespace() == account["metadata"]["namespace"].as_str().unwrap_or_default()
        })
    };
    let words = |account: &Value| {
        let text = |field: &str| account["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        format!("ServiceAccount {namespace}/{name} is not in your files or world: it is taken to exist.")
    };
    missing.iter().filter(named).map(words).collect()
}

/// Namespaces of what is to run that are not there: a person who rehearses a workflow has not said that they are missing.
pub(super) fn missing_namespaces(runs: &[Manifest], world: &[Manifest], installed: &[Value]) -> Vec<Value> {
    let in_installation = installed
        .iter()
        .filter(|object| object["kind"] == "Namespace")
        .filter_map(|object| object["metadata"]["name"].as_str());
    let in_world = world
        .iter()
        .filter(|manifest| manifest.is_kind("", "Namespace"))
        .map(|manifest| manifest.metadata("name"));
    let there: BTreeSet<&str> = in_installation.chain(in_world).collect();
    let needed: BTreeSet<String> = runs.iter().map(Manifest::namespace).collect();
    needed
        .iter()
        .filter(|name| !there.contains(name.as_str()))
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect()
}
