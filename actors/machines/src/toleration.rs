//! Where Jobs may run, as flags say it: labels of nodes and taints that are tolerated.

use serde_json::{Value, json};

/// Longest name in a label or a taint, and longest value.
const PART_MAX: usize = 63;
/// Longest prefix of a name.
const PREFIX_MAX: usize = 253;
/// What a taint can do to pods.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A taint that does not keep Jobs away, written as kubectl writes taints: `KEY[=VALUE][:EFFECT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    key: String,
    /// None: any value.
    value: Option<String>,
    /// None: any effect.
    effect: Option<&'static str>,
}

impl Toleration {
    /// Reads it.
    ///
    /// # Errors
    /// In words for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (taint, effect) = match text.rsplit_once(':') {
            Some((taint, effect)) => (taint, Some(effect)),
            None => (text, None),
        };
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (taint, None),
        };
        let known = |effect: &str| EFFECTS.into_iter().find(|known| *known == effect);
        let effect = match effect {
            None => None,
            Some(effect) => Some(known(effect).ok_or_else(|| {
                format!(
                    "{effect:?} is not an effect of a taint: there are {}",
                    EFFECTS.join(", ")
                )
            })?),
        };
        if !is_name(key) || !value.is_none_or(is_value) {
            return Err(format!(
                "{text:?} is not a taint: write KEY, KEY=VALUE or KEY=VALUE:EFFECT, such as dedicated=repairs:NoSchedule"
            ));
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            effect,
        })
    }

    /// As a pod has it.
    pub(crate) fn of_a_pod(&self) -> Value {
        let mut toleration = match &self.value {
            Some(value) => json!({"key": self.key, "operator": "Equal", "value": value}),
            None => json!({"key": self.key, "operator": "Exists"}),
        };
        if let Some(effect) = self.effect {
            toleration["effect"] = json!(effect);
        }
        toleration
    }
}

/// A label of a node, `KEY=VALUE`.
///
/// # Errors
/// In words for a person.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if is_name(key) && is_value(value) => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!(
            "{text:?} is not a label: write KEY=VALUE, such as node-role.example.com/repairs=true"
        )),
    }
}

/// A name with or without a prefix, as in `example.com/pool`.
fn is_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let good_prefix = |prefix: &str| {
        let part = |part: &str| is_value(part) && !part.is_empty() && !part.contains(['_', '.']);
        prefix.len() <= PREFIX_MAX
            && !prefix.contains(|c: char| c.is_ascii_uppercase())
            && prefix.split('.').all(part)
    };
    !name.is_empty() && is_value(name) && prefix.is_none_or(good_prefix)
}

fn is_value(text: &str) -> bool {
    let end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= PART_MAX && text.chars().all(inner) && end(text.chars().next()) && end(text.chars().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taint_is_tolerated_as_kubectl_writes_it() {
        for (text, toleration) in [
            ("dedicated", json!({"key": "dedicated", "operator": "Exists"})),
            (
                "dedicated:NoExecute",
                json!({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}),
            ),
            (
                "example.com/pool=repairs:NoSchedule",
                json!({"key": "example.com/pool", "operator": "Equal", "value": "repairs", "effect": "NoSchedule"}),
            ),
            ("a=", json!({"key": "a", "operator": "Equal", "value": ""})),
        ] {
            let parsed = Toleration::parse(text).map(|taint| taint.of_a_pod());
            assert_eq!(parsed, Ok(toleration), "{text}");
        }
    }

    #[test]
    fn what_no_taint_and_no_label_can_be_is_refused() {
        for text in [
            "",
            "-a",
            "a b",
            "a=b c",
            "a:Never",
            "a=b:",
            "a/b/c",
            "A.b/c",
            "/a",
            "a/",
            "=b:NoSchedule",
        ] {
            assert!(Toleration::parse(text).is_err(), "{text}");
            assert!(parse_label(text).is_err(), "{text}");
        }
        assert!(parse_label("pool").is_err());
        assert!(parse_label(&format!("pool={}", "a".repeat(64))).is_err());
        assert_eq!(
            parse_label("example.com/pool=repairs"),
            Ok(("example.com/pool".to_owned(), "repairs".to_owned()))
        );
    }
}
