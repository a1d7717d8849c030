//! What follows from an error of the client.

use kube::core::Status;
use kubernaut_machines::api_command::{ApiFailure, FailureClass};

/// What the admission plugin ResourceQuota says when there is no room, and when it does not know yet.
const QUOTA_WORDS: [&str; 2] = ["exceeded quota", "status unknown for quota"];
/// The cause that the admission plugin NamespaceLifecycle gives.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// The class of a failed call, with the server's words.
pub(super) fn failure_of(verb: &str, error: kube::Error) -> ApiFailure {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else can happen leaves a write uncertain"
    )]
    match error {
        kube::Error::Api(status) => ApiFailure {
            class: class_of(&status),
            message: status.message.clone(),
        },
        kube::Error::SerdeError(error) => unread(verb, &error.to_string()),
        kube::Error::BuildRequest(error) => ApiFailure {
            class: FailureClass::Rejected,
            message: error.to_string(),
        },
        error => ApiFailure {
            class: FailureClass::Unknown,
            message: chain(&error),
        },
    }
}

/// The answer came and can't be read: a read stays unreadable, a write was made.
pub(super) fn unread(verb: &str, error: &str) -> ApiFailure {
    ApiFailure {
        class: if matches!(verb, "get" | "list") {
            FailureClass::Rejected
        } else {
            FailureClass::Unknown
        },
        message: format!("the answer can't be read: {error}"),
    }
}

fn class_of(status: &Status) -> FailureClass {
    match status.code {
        404 => FailureClass::NotFound,
        409 => FailureClass::Conflict,
        // ResourceQuota's own words, also for seconds after it was made, when nobody has counted yet; LimitRange says something
        // else and stays.
        403 if QUOTA_WORDS.iter().any(|words| status.message.contains(words)) => FailureClass::Quota,
        // The namespace is on its way out: what is to be in it can't be there any more.
        403 if is_namespace_going(status) => FailureClass::NotFound,
        403 => FailureClass::Forbidden,
        // Who we are was not recognized: a token that is being replaced, or an authenticator that is away. It says nothing
        // about rights.
        401 | 429 => FailureClass::Throttled,
        // The server gave up waiting for the body: nothing is certain.
        408 => FailureClass::Unknown,
        400..=499 => FailureClass::Rejected,
        _ => FailureClass::Unknown,
    }
}

fn is_namespace_going(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.reason == NAMESPACE_TERMINATING)
}

/// The HTTP code: of a success what the verb gives, 0 when there was no answer.
pub(crate) fn code_of(verb: &str, error: Option<&kube::Error>) -> u16 {
    match error {
        None if verb == "create" => 201,
        None => 200,
        Some(kube::Error::Api(status)) => status.code,
        Some(_) => 0,
    }
}

/// 409 because of the name, not because of a version.
pub(super) fn already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

/// 404 because the API server does not serve the kind, not because there is no such object.
pub(super) fn is_unknown_kind(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.message.contains("could not find the requested resource"))
}

/// An error and what caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn api(code: u16, reason: &str, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
    }

    #[test]
    fn codes_become_classes() {
        let class = |code, message: &str| failure_of("create", api(code, "", message)).class;
        assert_eq!(class(404, ""), FailureClass::NotFound);
        assert_eq!(class(409, ""), FailureClass::Conflict);
        assert_eq!(
            class(
                403,
                "jobs.batch \"a\" is forbidden: exceeded quota: q, requested: 1"
            ),
            FailureClass::Quota
        );
        assert_eq!(
            class(403, "jobs.batch is forbidden: User can't create"),
            FailureClass::Forbidden
        );
        assert_eq!(class(401, "Unauthorized"), FailureClass::Throttled);
        assert_eq!(class(422, ""), FailureClass::Rejected);
        assert_eq!(class(400, ""), FailureClass::Rejected);
        assert_eq!(class(429, ""), FailureClass::Throttled);
        for code in [408, 500, 502, 503, 504] {
            assert_eq!(class(code, ""), FailureClass::Unknown, "{code}");
        }
    }

    #[test]
    fn a_quota_that_nobody_has_counted_yet_is_waited_for() {
        let words = "pods \"a\" is forbidden: status unknown for quota: q, resources: pods";
        assert_eq!(
            failure_of("create", api(403, "Forbidden", words)).class,
            FailureClass::Quota
        );
    }

    #[test]
    fn a_namespace_that_is_on_its_way_out_is_no_missing_right() {
        let mut status =
            Status::failure("a is forbidden: it is being terminated", "Forbidden").with_code(403);
        status.details = Some(StatusDetails {
            causes: vec![StatusCause {
                reason: "NamespaceTerminating".into(),
                message: "namespace shop is being terminated".into(),
                field: "metadata.namespace".into(),
            }],
            name: "a".into(),
            group: String::new(),
            kind: "jobs".into(),
            uid: String::new(),
            retry_after_seconds: 0,
        });
        let failure = failure_of("create", kube::Error::Api(status.boxed()));
        assert_eq!(failure.class, FailureClass::NotFound);
    }

    #[test]
    fn an_answer_that_can_t_be_read_says_nothing_about_a_write() {
        let error = || kube::Error::SerdeError(serde_json::from_str::<i32>("x").unwrap_err());
        assert_eq!(failure_of("patch", error()).class, FailureClass::Unknown);
        assert_eq!(failure_of("get", error()).class, FailureClass::Rejected);
    }

    #[test]
    fn a_taken_name_is_not_a_version_conflict() {
        assert!(already_exists(&api(409, "AlreadyExists", "")));
        assert!(!already_exists(&api(409, "Conflict", "")));
    }

    #[test]
    fn an_unknown_kind_is_not_an_absent_object() {
        assert!(is_unknown_kind(&api(
            404,
            "NotFound",
            "the server could not find the requested resource"
        )));
        assert!(!is_unknown_kind(&api(
            404,
            "NotFound",
            "deployments.apps \"web\" not found"
        )));
    }
}
