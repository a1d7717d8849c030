//! The words of an API server and of a YAML reader, without what only their makers understand.

use crate::memory::FieldError;

/// What a server finds wrong with one object: each field once, in few words.
pub(crate) fn of_server(errors: &[FieldError]) -> Vec<(String, String)> {
    let mut plain: Vec<(String, String)> = Vec::new();
    for error in errors {
        // It comes with the errors that are its reason.
        if error.message.contains("some validation rules were not checked") && errors.len() > 1 {
            continue;
        }
        // A rule on the whole object.
        let field = if error.field == "<nil>" { "" } else { &error.field };
        plain.push((field.to_owned(), shorten(field, &error.message)));
    }
    plain
}

fn shorten(field: &str, message: &str) -> String {
    if message.starts_with("unknown field ") {
        return "unknown field".to_owned();
    }
    let message = message.replace(&format!("{field} in body "), "");
    // `Invalid value: "integer": must be of type string: "integer"` names the type that it found twice.
    if let Some((_, types)) = message.split_once(": must be of type ")
        && let Some((wanted, found)) = types.split_once(": ")
    {
        let found = found.trim_matches('"');
        let quotes = if wanted == "string" && matches!(found, "boolean" | "integer" | "number") {
            ": put it in quotes"
        } else {
            ""
        };
        return format!("must be of type {wanted}, not {found}{quotes}");
    }
    message
}

/// What a YAML reader says, in its first line and without its place, which is that within the document.
pub(crate) fn of_yaml(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let said = match first.split_once(": ") {
        Some((place, said)) if place.starts_with("line ") => said,
        _ => first,
    };
    for (sign, plain) in [
        ("budget breached: Depth", "it is nested too deeply for a manifest"),
        (
            "recursion limit exceeded",
            "it is nested too deeply for a manifest",
        ),
        (
            "budget breached",
            "it holds more values than any API server takes in one object",
        ),
        (
            "multiple YAML documents detected",
            "a second document begins here: put --- before it",
        ),
    ] {
        if said.starts_with(sign) {
            return plain.to_owned();
        }
    }
    // Advice for programmers.
    said.split(", set DuplicateKeyPolicy")
        .next()
        .unwrap_or(said)
        .to_owned()
}
