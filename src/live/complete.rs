//! What a shell offers where a name of the cluster is wanted. Whatever goes wrong, nothing is offered, and nothing is said.

use std::path::PathBuf;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::config::Kubeconfig;

use super::connection::{ConnectArguments, Connection};

/// Who presses a key waits no longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many names are offered.
const NAMES_MAX: u32 = 500;

/// Workflows of the namespace.
pub(super) fn workflows() -> Vec<CompletionCandidate> {
    asked(async |connection| {
        let listed = connection
            .workflows()
            .list_metadata(&ListParams::default().limit(NAMES_MAX))
            .await
            .ok()?;
        Some(
            listed
                .items
                .into_iter()
                .filter_map(|item| item.metadata.name)
                .collect(),
        )
    })
}

/// Namespaces of the cluster.
pub(super) fn namespaces() -> Vec<CompletionCandidate> {
    asked(async |connection| {
        let api: Api<Namespace> = Api::all(connection.client.clone());
        let listed = api
            .list_metadata(&ListParams::default().limit(NAMES_MAX))
            .await
            .ok()?;
        Some(
            listed
                .items
                .into_iter()
                .filter_map(|item| item.metadata.name)
                .collect(),
        )
    })
}

/// Contexts of the kubeconfig.
pub(super) fn contexts() -> Vec<CompletionCandidate> {
    let file = said(&["--kubeconfig"]).map(PathBuf::from);
    let read = file.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let contexts = read.into_iter().flat_map(|read| read.contexts);
    contexts
        .map(|context| CompletionCandidate::new(context.name))
        .collect()
}

fn asked(ask: impl AsyncFnOnce(Connection) -> Option<Vec<String>>) -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let arguments = ConnectArguments::of_completion(
        said(&["--namespace", "-n"]),
        said(&["--kubeconfig"]).map(PathBuf::from),
        said(&["--context"]),
    );
    let names = runtime.block_on(async {
        let asking = async { ask(Connection::open(&arguments).await.ok()?).await };
        tokio::time::timeout(PATIENCE, asking).await.ok().flatten()
    });
    let names = names.into_iter().flatten();
    names.map(CompletionCandidate::new).collect()
}

/// What the line that is being completed says for a flag.
fn said(flags: &[&str]) -> Option<String> {
    value_of(
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()),
        flags,
    )
}

fn value_of(words: impl Iterator<Item = String>, flags: &[&str]) -> Option<String> {
    let mut words = words.peekable();
    let mut found = None;
    while let Some(word) = words.next() {
        for flag in flags {
            if word == *flag {
                found = words.peek().cloned();
            } else if let Some(value) = word.strip_prefix(&format!("{flag}=")) {
                found = Some(value.to_owned());
            }
        }
    }
    found.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_line_are_read_in_both_forms() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter();
        let line = "kubernaut -- kubernaut get -n shop --context=east";
        assert_eq!(
            value_of(words(line), &["--namespace", "-n"]).as_deref(),
            Some("shop")
        );
        assert_eq!(value_of(words(line), &["--context"]).as_deref(), Some("east"));
        assert_eq!(value_of(words(line), &["--kubeconfig"]), None);
    }
}
