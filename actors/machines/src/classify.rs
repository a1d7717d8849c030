//! Why an attempt failed, and whether another one may help.

use std::borrow::Cow;

use base64::Engine as _;
use kubernaut_crds::{ErrorType, Retry};

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
    if let (None, Some(reason)) = (server_reason(message), refused_whole(message)) {
        return Failure {
            message: format!("the patched object is invalid: {reason}"),
            ..failure(ErrorType::ValidationError, Retry::Never)
        };
    }
    match server_reason(message) {
        Some("Forbidden") if message.contains("exceeded quota") => {
            failure(ErrorType::ResourceQuotaExceeded, Retry::Backoff)
        }
        Some("Forbidden" | "Unauthorized") => failure(ErrorType::InsufficientPermissions, Retry::Never),
        // The pod, or its uid, is gone: whether that was all is seen by looking. One at a time they are evicted, so another
        // attempt goes on with the others.
        Some("NotFound") if kind.definition().acts_on_pods => {
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
                kind.definition().noun
            ),
            ..failure(ErrorType::ResourceConflict, Retry::Never)
        },
        None if message.contains(" is invalid:") => failure(ErrorType::ValidationError, Retry::Never),
        None => failure(ErrorType::JobFailed, Retry::Backoff),
    }
}

/// Why an object is refused whose whole text stands before the reason, escaped, as for a quantity that is none; a log that is
/// cut has only the end of it.
fn refused_whole(message: &str) -> Option<&str> {
    let (object, reason) = message.rsplit_once("}\": ")?;
    object.contains("\\\":").then_some(reason)
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

/// What is put where the beginning of a text was.
const TAIL_MARK: &str = "(cut) ... ";
/// What is put where the end of a text was.
const CUT_MARK: &str = " ... (cut)";

/// A text of somebody else on one line, without anything that a terminal or a reader of a log takes for more than text: line
/// breaks become spaces; control characters, and those that change the direction of a text or are not seen, are spelled out.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| !is_hidden(c)) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' if plain.ends_with(' ') => {}
            '\n' | '\r' | '\t' => plain.push(' '),
            hidden if is_hidden(hidden) => plain.extend(hidden.escape_unicode()),
            other => plain.push(other),
        }
    }
    Cow::Owned(plain.trim_end().to_owned())
}

/// Controls, and what Unicode's reports on security call bidirectional controls and invisible separators.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// At most `max` bytes from the beginning, with a mark where something was cut off; as [`plain`] has it.
pub fn cut(text: &str, max: usize) -> String {
    let text = plain(text);
    if text.len() <= max {
        return text.into_owned();
    }
    let end = text.floor_char_boundary(max.saturating_sub(CUT_MARK.len()));
    format!("{}{CUT_MARK}", &text[..end])
}

/// At most `max` bytes from the end, with a mark where something was cut off.
pub fn tail(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let start = text.ceil_char_boundary(text.len() - max.saturating_sub(TAIL_MARK.len()));
    format!("{TAIL_MARK}{}", &text[start..])
}

/// What stands in place of a value.
const MASK: &str = "<masked>";
/// Shorter values stay: they would blot out half of the text.
const SECRET_MIN: usize = 4;
/// Shorter lines of a value say little by themselves, and stand in many texts.
const LINE_MIN: usize = 8;

/// The text without these values of a Secret, which are in base64: neither as they are nor decoded, quoted or line by line, nor
/// the part that is left of one where a text was cut, by us or by a kubelet.
pub fn redact(text: &str, secrets: &[&str]) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut forms: Vec<String> = secrets.iter().flat_map(|secret| forms_of(secret)).collect();
    // What holds another one goes first.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    let whole = forms
        .iter()
        .fold(text.to_owned(), |text, form| text.replace(form.as_str(), MASK));
    forms.iter().fold(whole, |text, form| without_ends(text, form))
}

fn forms_of(secret: &str) -> Vec<String> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(secret);
    let decoded = decoded
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default();
    let quoted = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let lines = decoded
        .lines()
        .map(str::trim)
        .filter(|line| line.len() >= LINE_MIN);
    let mut forms: Vec<String> = lines.map(str::to_owned).collect();
    forms.extend([
        secret.to_owned(),
        quoted(&decoded),
        decoded.trim().to_owned(),
        plain(&decoded).into_owned(),
    ]);
    forms.push(decoded);
    forms.retain(|form| form.len() >= SECRET_MIN);
    forms
}

/// Without the end of this value at the beginning of the text, and its beginning at the end.
fn without_ends(text: String, form: &str) -> String {
    let (mark, body) = text
        .strip_prefix(TAIL_MARK)
        .map_or(("", text.as_str()), |body| (TAIL_MARK, body));
    let parts = || (SECRET_MIN..form.len()).rev();
    let first = parts()
        .filter(|length| form.is_char_boundary(form.len() - length))
        .find_map(|length| body.strip_prefix(&form[form.len() - length..]));
    let (masked, body) = first.map_or(("", body), |rest| (MASK, rest));
    let (body, end) = body
        .strip_suffix(CUT_MARK)
        .map_or((body, ""), |body| (body, CUT_MARK));
    let last = parts()
        .filter(|length| form.is_char_boundary(*length))
        .find_map(|length| body.strip_suffix(&form[..length]));
    let (body, masked_end) = last.map_or((body, ""), |rest| (rest, MASK));
    if masked.is_empty() && masked_end.is_empty() {
        return text;
    }
    format!("{mark}{masked}{body}{masked_end}{end}")
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
                r#"The request is invalid: patch: Invalid value: "{\"kind\":\"Deployment\",\"spec\":{}}": quantities must match"#,
                ErrorType::ValidationError,
                Retry::Never,
            ),
            (
                r#"nt\",\"spec\":{\"a\":{}}}": json: quantities must match"#,
                ErrorType::ValidationError,
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
    fn nothing_of_a_foreign_text_is_more_than_text() {
        assert_eq!(plain("ready: 3 of 4 (web-ä)"), "ready: 3 of 4 (web-ä)");
        assert_eq!(plain("one\r\n  two\tthree\n"), "one   two three");
        for (hidden, shown) in [
            ("\u{1b}[31m", "\\u{1b}[31m"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{85}", "\\u{85}"),
            ("\u{2028}", "\\u{2028}"),
            ("\0", "\\u{0}"),
        ] {
            assert_eq!(plain(hidden), shown);
            assert_eq!(cut(hidden, 100), shown);
        }
    }

    #[test]
    fn a_secret_value_is_masked_in_each_of_its_forms() {
        let value = "first line of it\npass\"word=Hunter2-Hunter2";
        let encoded = base64::engine::general_purpose::STANDARD.encode(value);
        let quoted = serde_json::Value::from(value).to_string();
        for said in [
            format!("bad value {encoded} given"),
            format!("bad value {value} given"),
            format!("bad value {quoted} given"),
            "bad value pass\"word=Hunter2-Hunter2 given".to_owned(),
            format!("bad value {} given", plain(value)),
        ] {
            let told = redact(&said, &[&encoded]);
            assert!(!told.contains("Hunter2") && told.contains(MASK), "{told}");
            assert!(
                told.starts_with("bad value ") && told.ends_with(" given"),
                "{told}"
            );
        }
        assert_eq!(redact("nothing of it", &[&encoded]), "nothing of it");
        assert_eq!(
            redact("ab abc", &["YWI=", "ab"]),
            "ab abc",
            "too short to be told from other text"
        );
    }

    #[test]
    fn what_a_cut_leaves_of_a_secret_value_is_masked() {
        let value = "Hunter2-Hunter3-Hunter4";
        let encoded = base64::engine::general_purpose::STANDARD.encode(value);
        for length in SECRET_MIN..value.len() {
            let start = value.len() - length;
            for (cut, left) in [
                (
                    format!("{TAIL_MARK}{} is bad", &value[start..]),
                    format!("{TAIL_MARK}{MASK} is bad"),
                ),
                (format!("{} is bad", &value[start..]), format!("{MASK} is bad")),
                (
                    format!("bad: {}{CUT_MARK}", &value[..length]),
                    format!("bad: {MASK}{CUT_MARK}"),
                ),
                (format!("bad: {}", &value[..length]), format!("bad: {MASK}")),
            ] {
                assert_eq!(redact(&cut, &[&encoded]), left, "{cut}");
            }
        }
    }
}
