//! Why an attempt failed, and whether another one may help.

use std::time::Duration;

use kubernaut_crds::ErrorType;

use crate::actions::ActionKind;
use crate::job_view::JobEnd;

/// Why an attempt failed, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its class.
    pub error_type: ErrorType,
    /// For a person.
    pub message: String,
    /// Whether another attempt may help.
    pub retry: Retry,
}

/// Whether another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It would fail again.
    Never,
    /// After 1, 2, 4 ... 30 s.
    Backoff,
    /// An eviction was refused for a disruption budget: after 10, 20, 30 s.
    Eviction,
    /// Our own pod was evicted: like `Backoff`, and not counted against maxRetries.
    Uncounted,
}

/// The class of a failed Job, from its reason, and from kubectl's words.
pub fn classify(end: &JobEnd, kind: ActionKind) -> Failure {
    let JobEnd::Failed {
        reason,
        message,
        evicted,
        deadline,
        ..
    } = end
    else {
        return Failure {
            error_type: ErrorType::UnknownError,
            message: String::new(),
            retry: Retry::Backoff,
        };
    };
    let failure = |error_type, retry| Failure {
        error_type,
        message: message.clone(),
        retry,
    };
    if *evicted {
        return failure(ErrorType::JobFailed, Retry::Uncounted);
    }
    if *deadline {
        let message = format!("the Job did not end within its deadline: {message}");
        return Failure {
            error_type: ErrorType::Timeout,
            message,
            retry: Retry::Never,
        };
    }
    if reason == "OOMKilled" {
        return failure(ErrorType::JobFailed, Retry::Backoff);
    }
    // Before the budgets: a drain may have met both, and rights don't come back by waiting.
    if is_missing_right(message) {
        return failure(ErrorType::InsufficientPermissions, Retry::Never);
    }
    if is_refused_eviction(message) {
        return failure(ErrorType::ResourceConflict, Retry::Eviction);
    }
    // kubectl apply names the manager that owns a field; forcing it is never right.
    if kind == ActionKind::ApplyManifest && message.contains("conflict") && message.contains("managed by")
        || message.contains("Apply failed with")
    {
        return failure(ErrorType::ResourceConflict, Retry::Never);
    }
    match server_reason(message) {
        Some("Forbidden") if message.contains("exceeded quota") => {
            failure(ErrorType::ResourceQuotaExceeded, Retry::Backoff)
        }
        Some("Forbidden" | "Unauthorized") => failure(ErrorType::InsufficientPermissions, Retry::Never),
        // The pod, or its uid, is gone: whether that was all is seen by looking. One at a time they are evicted, so another
        // attempt goes on with the others.
        Some("NotFound") if kind == ActionKind::DeletePod => {
            failure(ErrorType::ResourceNotFound, Retry::Backoff)
        }
        Some("NotFound") => failure(ErrorType::ResourceNotFound, Retry::Never),
        Some("Conflict") => failure(ErrorType::ResourceConflict, Retry::Backoff),
        Some(
            "Invalid" | "BadRequest" | "UnsupportedMediaType" | "MethodNotAllowed" | "RequestEntityTooLarge",
        ) => failure(ErrorType::ValidationError, Retry::Never),
        Some(_) => failure(ErrorType::JobFailed, Retry::Backoff),
        None if message.contains("The request is invalid") => Failure {
            message: format!(
                "the {} changed since it was read, or a path of the patch does not exist: {message}",
                if kind == ActionKind::PatchDeployment {
                    "Deployment"
                } else {
                    "object"
                }
            ),
            ..failure(ErrorType::ResourceConflict, Retry::Never)
        },
        None if message.contains(" is invalid:") => failure(ErrorType::ValidationError, Retry::Never),
        None => failure(ErrorType::JobFailed, Retry::Backoff),
    }
}

/// The reason in kubectl's `Error from server (Reason): ...`.
fn server_reason(message: &str) -> Option<&str> {
    let (_, after) = message.split_once("Error from server (")?;
    after.split_once(')').map(|(reason, _)| reason)
}

/// RBAC's own words. A drain that may not evict says them without `Error from server`.
fn is_missing_right(message: &str) -> bool {
    message
        .split_once(" is forbidden: User \"")
        .is_some_and(|(_, after)| after.contains("\" cannot "))
}

/// An eviction that a PodDisruptionBudget does not allow now.
pub fn is_refused_eviction(message: &str) -> bool {
    message.contains("Cannot evict pod as it would violate the pod's disruption budget")
}

/// Whether the events of a Job without a running pod say that waiting can't help.
pub fn hopeless(note: &str) -> Option<ErrorType> {
    if note.contains("violates PodSecurity") {
        return Some(ErrorType::ValidationError);
    }
    if note.contains("serviceaccount") && note.contains("not found") {
        return Some(ErrorType::ResourceNotFound);
    }
    None
}

/// Before the next attempt: 1, 2, 4 ... 30 s after the first, second, third ... failure.
pub fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(30))
}

/// At most `max` bytes from the beginning, with a mark where something was cut off.
pub fn cut(text: &str, max: usize) -> String {
    const MARK: &str = " ... (cut)";
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max.saturating_sub(MARK.len()));
    format!("{}{MARK}", &text[..end])
}

/// At most `max` bytes from the end, with a mark where something was cut off.
pub fn tail(text: &str, max: usize) -> String {
    const MARK: &str = "(cut) ... ";
    if text.len() <= max {
        return text.to_owned();
    }
    let start = text.ceil_char_boundary(text.len() - max.saturating_sub(MARK.len()));
    format!("{MARK}{}", &text[start..])
}

/// The text without these values. Values of up to three characters stay: they would blot out half of the text.
pub fn redact(text: &str, secrets: &[&str]) -> String {
    secrets
        .iter()
        .filter(|secret| secret.len() > 3)
        .fold(text.to_owned(), |text, secret| text.replace(secret, "<masked>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: &str) -> JobEnd {
        JobEnd::Failed {
            reason: "Error".into(),
            message: message.into(),
            exit_code: Some(1),
            evicted: false,
            deadline: false,
        }
    }

    #[test]
    fn kubectls_words_decide_the_class_and_whether_another_attempt_may_help() {
        let cases = [
            (
                "Error from server (Forbidden): deployments.apps \"web\" is forbidden: User ...",
                ErrorType::InsufficientPermissions,
                Retry::Never,
            ),
            (
                "error when evicting pods/\"web\" -n \"a\": pods \"web\" is forbidden: User \"u\" cannot create resource \
                 \"pods/eviction\" in API group \"\" in the namespace \"a\"",
                ErrorType::InsufficientPermissions,
                Retry::Never,
            ),
            (
                "Error from server (Forbidden): pods \"a\" is forbidden: exceeded quota: q",
                ErrorType::ResourceQuotaExceeded,
                Retry::Backoff,
            ),
            (
                "Error from server (NotFound): deployments.apps \"web\" not found",
                ErrorType::ResourceNotFound,
                Retry::Never,
            ),
            (
                "Error from server (Conflict): Operation cannot be fulfilled",
                ErrorType::ResourceConflict,
                Retry::Backoff,
            ),
            (
                "The request is invalid: the server rejected our request due to an error in our request",
                ErrorType::ResourceConflict,
                Retry::Never,
            ),
            (
                "The Deployment \"web\" is invalid: spec.replicas: Invalid value: -1",
                ErrorType::ValidationError,
                Retry::Never,
            ),
            (
                "Error from server (ServiceUnavailable): the server is currently unable",
                ErrorType::JobFailed,
                Retry::Backoff,
            ),
            (
                "Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded)",
                ErrorType::JobFailed,
                Retry::Backoff,
            ),
            (
                "Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget.",
                ErrorType::ResourceConflict,
                Retry::Eviction,
            ),
        ];
        for (message, error_type, retry) in cases {
            let failure = classify(&failed(message), ActionKind::ScaleDeployment);
            assert_eq!(
                (failure.error_type, failure.retry),
                (error_type, retry),
                "{message}"
            );
        }
    }

    #[test]
    fn texts_are_cut_at_a_character_and_say_so() {
        assert_eq!(cut("short", 10), "short");
        let long = "ä".repeat(100);
        for max in 20..40 {
            assert!(cut(&long, max).len() <= max && cut(&long, max).ends_with("(cut)"));
            assert!(tail(&long, max).len() <= max && tail(&long, max).starts_with("(cut)"));
        }
    }

    #[test]
    fn attempts_wait_longer_and_longer_up_to_half_a_minute() {
        let waits: Vec<u64> = (1..=7).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }
}
