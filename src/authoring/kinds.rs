//! The kinds of kubernaut, and what is said of their fields.

use serde_json::Value;

use crate::rehearsal::input::meant;
use crate::terminal::Trouble;

/// One kind in its newest version.
pub(super) struct Known {
    pub(super) kind: String,
    pub(super) api_version: String,
    names: Vec<String>,
    /// Its OpenAPI schema.
    pub(super) schema: Value,
}

/// Every kind that is installed.
pub(super) fn kinds() -> Vec<Known> {
    let known = kubernaut_crds::crds().into_iter().filter_map(|crd| {
        let crd = serde_json::to_value(crd).ok()?;
        let (spec, version) = (&crd["spec"], &crd["spec"]["versions"][0]);
        let names = &spec["names"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let short = names["shortNames"].as_array().into_iter().flatten();
        let mut all: Vec<String> = [&names["kind"], &names["plural"], &names["singular"]]
            .into_iter()
            .chain(short)
            .map(|name| text(name).to_lowercase())
            .collect();
        all.retain(|name| !name.is_empty());
        Some(Known {
            kind: text(&names["kind"]),
            api_version: format!("{}/{}", text(&spec["group"]), text(&version["name"])),
            names: all,
            schema: version["schema"]["openAPIV3Schema"].clone(),
        })
    });
    known.collect()
}

/// The kind that somebody calls so.
///
/// # Errors
/// There is none: which there are.
pub(super) fn named(name: &str) -> Result<Known, Trouble> {
    let mut all = kinds();
    let lower = name.to_lowercase();
    if let Some(index) = all.iter().position(|known| known.names.contains(&lower)) {
        return Ok(all.swap_remove(index));
    }
    let known: Vec<&str> = all.iter().map(|known| known.kind.as_str()).collect();
    let hint = meant(name, &known).map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    Err(Trouble::Input(format!(
        "there is no kind {name}{hint} (there is {})",
        known.join(", ")
    )))
}

/// The first sentence of what is said of a field.
pub(super) fn sentence(schema: &Value) -> &str {
    let text = schema["description"].as_str().unwrap_or_default();
    let text = text.strip_prefix("Addition. ").unwrap_or(text);
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    text.get(..end).unwrap_or(text)
}

/// The type of a field, as kubectl explain writes it.
pub(super) fn type_of(schema: &Value) -> String {
    let own = schema["type"].as_str().unwrap_or("Object");
    match own {
        "array" => format!("[]{}", type_of(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map[string]{}", type_of(&schema["additionalProperties"]))
        }
        "object" => "Object".to_owned(),
        other => other.to_owned(),
    }
}
