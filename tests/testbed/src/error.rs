//! What can go wrong with a cluster of the tests.

use std::path::PathBuf;

/// Why the test bed could not do what it was asked.
///
/// Nothing here is worth a second try by a test: what heals by waiting has been waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestbedError {
    /// The programs of the control plane are missing and could not be built.
    #[error("{script} failed ({status}); its output is on standard error")]
    Build {
        /// The script that builds them.
        script: PathBuf,
        /// How it ended.
        status: String,
    },
    /// The control plane did not come up; the message holds the last lines of its logs.
    #[error("the control plane did not start: {0}")]
    Start(String),
    /// A part of the control plane that should run does not.
    #[error("{part} does not run: {message}")]
    Part {
        /// Its program's name.
        part: String,
        /// What was seen.
        message: String,
    },
    /// A program (kubectl, kill) ended with an error.
    #[error("{program} failed: {message}")]
    Command {
        /// The program and its arguments.
        program: String,
        /// What it wrote to standard error.
        message: String,
    },
    /// The API server refused or did not answer.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// A kubeconfig could not be read.
    #[error(transparent)]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A file or process operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// Names what was tried when a file or process operation fails.
pub(crate) trait IoContext<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, TestbedError>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, TestbedError> {
        self.map_err(|source| TestbedError::Io { what: what(), source })
    }
}
