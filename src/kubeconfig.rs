//! Which cluster a person means: a context of a kubeconfig.

use std::path::Path;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

/// A person waits for it.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The configuration for a context of a kubeconfig, and the name of the context.
///
/// # Errors
/// In words for a person, which begin with `from`: what can't be read, or is not known there.
pub(crate) async fn config(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    from: &str,
) -> Result<(Config, String), String> {
    let read = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    // In a pod, as kubectl does: by its account, where nobody names a kubeconfig. One that is wrong is no reason to ask another
    // cluster than it means.
    let is_named = kubeconfig.is_some() || context.is_some() || std::env::var_os("KUBECONFIG").is_some();
    if !is_named
        && read.as_ref().is_err_and(is_absent)
        && let Ok(pod) = Config::incluster()
    {
        return Ok((for_a_person(pod), "of this pod".to_owned()));
    }
    let kubeconfig = read.map_err(|error| {
        let words = if let KubeconfigError::ReadConfig(error, path) = &error {
            format!("the kubeconfig {} can't be read: {error}", path.display())
        } else {
            error.to_string()
        };
        format!("{from}: {words}; name one with --kubeconfig or in the variable KUBECONFIG")
    })?;
    let context = context
        .map(str::to_owned)
        .or_else(|| kubeconfig.current_context.clone())
        .unwrap_or_default();
    let known: Vec<&str> = kubeconfig
        .contexts
        .iter()
        .map(|known| known.name.as_str())
        .collect();
    if !known.contains(&context.as_str()) {
        let which = if context.is_empty() {
            "the kubeconfig names no current context".to_owned()
        } else {
            format!("the kubeconfig has no context {context:?}")
        };
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        return Err(format!(
            "{from}: {which}: choose one with --context; there is {known}"
        ));
    }
    let options = KubeConfigOptions {
        context: Some(context.clone()),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| format!("{from}: context {context:?}: {error}"))?;
    Ok((for_a_person(config), context))
}

/// There is no file, as far as anybody can say.
fn is_absent(error: &KubeconfigError) -> bool {
    if let KubeconfigError::ReadConfig(error, _) = error {
        return error.kind() == std::io::ErrorKind::NotFound;
    }
    matches!(error, KubeconfigError::FindPath)
}

/// A person waits: what can't be answered now is told.
fn for_a_person(mut config: Config) -> Config {
    config.default_retry = false;
    config.connect_timeout = Some(TIMEOUT);
    config.read_timeout = Some(TIMEOUT);
    config
}
