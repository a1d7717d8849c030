//! Values in YAML that people read and paste.

/// A text as YAML reads it as text, also by the older rules that kubectl follows: `123`, `1e3` and `on` are none unquoted.
pub(crate) fn scalar(text: &str) -> String {
    let others = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-_./=".contains(letter))
        && !others.iter().any(|other| text.eq_ignore_ascii_case(other));
    if is_plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_yaml_would_take_for_something_else_is_quoted() {
        for (text, written) in [
            ("web", "web"),
            ("30s", "\"30s\""),
            ("no", "\"no\""),
            ("Y", "\"Y\""),
            ("a: b", "\"a: b\""),
            ("kubernaut:shop:web", "\"kubernaut:shop:web\""),
            ("app=web", "app=web"),
            ("", "\"\""),
        ] {
            assert_eq!(scalar(text), written);
        }
    }
}
