//! The words of an API server, without what only its makers understand, and with what a person needs to go on.

use kubernaut_crds::DURATION_PATTERN;
use kubernaut_machines::classify::is_hidden;
use serde_json::Value;

use embedded_cluster::{EmbeddedCluster, FieldError, Unserved, distance};

/// Longer lists of fields are not read.
const FIELDS_MAX: usize = 15;

const DURATION: &str = "is not a duration: write a number and a unit (ms, s, m, h), such as 30s, 5m or 1h30m";

/// What a server finds wrong with one object: each field once, in few words.
pub(crate) fn of_server(
    cluster: &EmbeddedCluster,
    object: &Value,
    errors: &[FieldError],
) -> Vec<(String, String)> {
    let mut plain: Vec<(String, String)> = Vec::new();
    for error in errors {
        // It comes with the errors that are its reason.
        if error.message.contains("some validation rules were not checked") && errors.len() > 1 {
            continue;
        }
        // A rule on the whole object.
        let field = if error.field == "<nil>" { "" } else { &error.field };
        let reason = if error.message.starts_with("unknown field ") {
            unknown_field(cluster, object, field)
        } else {
            shorten(cluster, object, field, &error.message)
        };
        plain.push((field.to_owned(), reason));
    }
    plain
}

fn shorten(cluster: &EmbeddedCluster, object: &Value, field: &str, message: &str) -> String {
    let message = message.replace(&format!("{field} in body "), "");
    if let Some((value, _)) = message.split_once(&format!(": should match '{DURATION_PATTERN}'")) {
        let value = value.trim_start_matches("Invalid value: ");
        return format!("{value} {DURATION}");
    }
    // `Invalid value: "integer": must be of type string: "integer"` names the type that it found twice.
    if let Some((_, types)) = message.split_once(": must be of type ")
        && let Some((wanted, found)) = types.split_once(": ")
    {
        let found = found.trim_matches('"');
        if wanted == "string" && cluster.schema_of(object, field)["pattern"] == DURATION_PATTERN {
            return format!("a {found} {DURATION}");
        }
        let quotes = if wanted == "string" && matches!(found, "boolean" | "integer" | "number") {
            ": put it in quotes"
        } else {
            ""
        };
        return format!("must be of type {wanted}, not {found}{quotes}");
    }
    message
}

/// A field that there is not: what may have been meant, and what there is.
fn unknown_field(cluster: &EmbeddedCluster, object: &Value, field: &str) -> String {
    let at = field.rfind(['.', '[']).unwrap_or(0);
    let (parent, name) = field.split_at(at);
    let name = name.trim_matches(['.', '[', ']', '"']);
    let schema = cluster.schema_of(object, parent);
    let known: Vec<&str> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let mut words = "unknown field".to_owned();
    if let Some(meant) = meant(name, &known) {
        words.push_str("; did you mean ");
        words.push_str(meant);
        if meant == "custom" {
            words.push_str(": {actionType: apply-manifest, config: {manifest: ...}}");
        }
        words.push('?');
    }
    if (1..=FIELDS_MAX).contains(&known.len()) {
        words.push_str(" (there is ");
        words.push_str(&known.join(", "));
        words.push(')');
    }
    words
}

/// Fields that kubectl and others call otherwise.
const OTHER_NAMES: [(&str, &str); 8] = [
    ("applyManifest", "custom"),
    ("manifest", "config"),
    ("rolloutRestart", "restartDeployment"),
    ("deleteEmptyDirData", "deleteLocalData"),
    ("data", "dataUpdates"),
    ("image", "newImage"),
    ("labelSelector", "selector"),
    ("pod", "podName"),
];

/// The name that was probably meant by another.
pub(crate) fn meant<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
    if let Some((_, own)) = other
        && let Some(found) = known.iter().find(|known| *known == own)
    {
        return Some(found);
    }
    let lower = name.to_lowercase();
    let close = |known: &&&str| distance(&lower, &known.to_lowercase());
    let near = known.iter().min_by_key(close)?;
    if close(&near) <= (name.len() / 3).max(1) {
        return Some(near);
    }
    let within = |known: &&&str| {
        let known = known.to_lowercase();
        lower.len() > 2 && (known.contains(&lower) || lower.contains(&known) && known.len() > 2)
    };
    known.iter().find(within).copied()
}

/// A kind that there is not: the field that says so, and what there is. None for one of somebody else's.
pub(crate) fn unserved(object: &Value, why: &Unserved) -> Option<(&'static str, String)> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    Some(match why {
        Unserved::Kinds(kinds) => {
            let known: Vec<&str> = kinds.iter().map(String::as_str).collect();
            let guess = match meant(text("kind"), &known) {
                Some(meant) => format!("; did you mean {meant}?"),
                None => String::new(),
            };
            let reason = format!(
                "no kind of this name in {}{guess} (there is {})",
                text("apiVersion"),
                known.join(", ")
            );
            ("kind", reason)
        }
        Unserved::Versions(versions) => {
            let known: Vec<&str> = versions.iter().map(String::as_str).collect();
            (
                "apiVersion",
                format!("is not served for this kind: there is {}", known.join(", ")),
            )
        }
        Unserved::Misspelt(group) => ("apiVersion", format!("is not served; did you mean {group}?")),
        Unserved::Foreign => return None,
    })
}

/// A text that can't do anything to a terminal: names may come from anybody.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => c.to_string(),
            c if is_hidden(c) => c.escape_default().to_string(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found_by_its_letters_and_by_its_other_names() {
        let known = ["namespace", "deployment", "container", "newImage"];
        for (name, wanted) in [
            ("image", Some("newImage")),
            ("newimage", Some("newImage")),
            ("deploymnt", Some("deployment")),
            ("wait", None),
            ("x", None),
        ] {
            assert_eq!(meant(name, &known), wanted, "{name}");
        }
        assert_eq!(meant("node", &["nodeName", "force"]), Some("nodeName"));
        assert_eq!(meant("a", &[]), None);
    }

    #[test]
    fn control_characters_are_shown_and_not_sent_to_a_terminal() {
        assert_eq!(
            printable("a\u{1b}[31mb\u{9b}c\nd\r"),
            "a\\u{1b}[31mb\\u{9b}c\nd\\r"
        );
    }
}
