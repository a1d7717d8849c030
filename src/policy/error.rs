//! What can be wrong with a directory of policies.

use std::io;

/// Why policies can't be used. Says which file, and where in it.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The directory or a file in it can't be read.
    #[error("{path} can't be read: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// There is more of it than policies need.
    #[error("{path} holds more than {max}: policies need less; move what is no policy elsewhere")]
    TooMuch {
        /// The directory.
        path: String,
        /// The limit, with its unit.
        max: String,
    },
    /// There is nothing to ask.
    #[error(
        "{path} has no file NAME.rego that declares the rule allow in package {package}: nothing could be allowed; \
         deploy/policy shows one"
    )]
    NoRule {
        /// The directory.
        path: String,
        /// The package that is asked.
        package: &'static str,
    },
    /// There is nothing to try policies on.
    #[error(
        "{path} has no file NAME.input.json: record an input there, and what is expected of it in NAME.expected.json"
    )]
    NoInput {
        /// The directory.
        path: String,
    },
    /// Rego that can't be read.
    #[error("{0}")]
    Rego(String),
    /// A file of data that can't be read.
    #[error("{file}: {problem}")]
    Data {
        /// Its name.
        file: String,
        /// What is wrong with it, and where.
        problem: String,
    },
}
