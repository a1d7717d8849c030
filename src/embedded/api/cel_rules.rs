//! The CEL rules of a custom resource's schema: which of them a write is held to. To bring an object before a rule costs far
//! more than all else of a write, so no rule sees more of it than it has to.

use std::collections::BTreeSet;

use kube::core::cel::{CompiledSchema, ValidationError, Validator, compile_schema};
use serde_json::{Map, Value};

/// The key under which rules stand in a schema.
const RULES: &str = "x-kubernetes-validations";

/// The compiled rules of a schema.
pub(crate) struct Rules {
    /// Those of the whole object, where there are some.
    of_all: Option<CompiledSchema>,
    /// The members of the object that those look at; none when that is not known.
    looked_at: Option<BTreeSet<String>>,
    /// All others.
    of_parts: CompiledSchema,
    /// The members in which those are.
    parts: BTreeSet<String>,
    /// Members with a default: what is left out would be filled in again.
    with_default: BTreeSet<String>,
}

impl Rules {
    /// The rules of a schema; those that don't compile fail when they are evaluated.
    pub(crate) fn new(schema: &Value) -> Self {
        let of_all = schema[RULES].is_array().then(|| {
            let mut schema = schema.clone();
            if let Some(parts) = schema["properties"].as_object_mut() {
                parts.values_mut().for_each(drop_rules);
            }
            compile_schema(&schema)
        });
        let mut parts = schema.clone();
        parts.as_object_mut().map(|schema| schema.remove(RULES));
        let having = |fits: fn(&Value) -> bool| -> BTreeSet<String> {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let having = properties.filter(|(_, schema)| fits(schema));
            having.map(|(name, _)| name.clone()).collect()
        };
        Self {
            of_all,
            looked_at: members(&schema[RULES]),
            of_parts: compile_schema(&parts),
            parts: having(has_rules),
            with_default: having(|schema| !schema["default"].is_null()),
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.of_all.is_none() && self.parts.is_empty()
    }

    /// The rules that an object breaks, in no particular order.
    pub(crate) fn broken(
        &self,
        cel: &Validator,
        object: &Value,
        old: Option<&Value>,
    ) -> Vec<ValidationError> {
        let mut broken = Vec::new();
        let mut evaluate = |rules: &CompiledSchema, object: &Value, old: Option<&Value>| {
            if let Err(errors) = cel.validate_compiled(rules, object, old) {
                broken.extend(errors.into_vec());
            }
        };
        match (&self.of_all, &self.looked_at) {
            (Some(rules), Some(members)) => {
                let old = old.map(|old| only(old, members));
                evaluate(rules, &only(object, members), old.as_ref());
            }
            (Some(rules), None) => evaluate(rules, object, old),
            (None, _) => {}
        }
        let (changed, before) = self.changed_parts(object, old);
        if changed.as_object().is_some_and(|parts| !parts.is_empty()) {
            evaluate(&self.of_parts, &changed, before.as_ref());
        }
        broken
    }

    /// The object and its predecessor without the parts that have no rules, and those, such as the spec, that this write leaves
    /// as they are: their rules are not held against it.
    fn changed_parts(&self, object: &Value, old: Option<&Value>) -> (Value, Option<Value>) {
        let Some(old) = old else {
            return (only(object, &self.parts), None);
        };
        let parts = self
            .parts
            .iter()
            .filter_map(|name| Some((name, object.get(name)?)));
        let (mut changed, mut before) = (Map::new(), Map::new());
        for (name, value) in parts {
            if self.with_default.contains(name) || *value != old[name] {
                changed.insert(name.clone(), value.clone());
                if let Some(old) = old.get(name) {
                    before.insert(name.clone(), old.clone());
                }
            }
        }
        (Value::Object(changed), Some(Value::Object(before)))
    }
}

/// The members of `self` and `oldSelf` that rules name; none when one of them uses either in another way. Objects are costly
/// to bring before a rule.
fn members(rules: &Value) -> Option<BTreeSet<String>> {
    let mut members = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        if rule["messageExpression"].is_string() {
            return None;
        }
        let words = |c: char| !(c.is_alphanumeric() || c == '_' || c == '.');
        for word in rule["rule"].as_str()?.split(words) {
            let mut parts = word.split('.');
            if matches!(parts.next(), Some("self" | "oldSelf")) {
                members.insert(parts.next().filter(|member| !member.is_empty())?.to_owned());
            }
        }
    }
    Some(members)
}

fn only(object: &Value, members: &BTreeSet<String>) -> Value {
    let member = |name: &String| Some((name.clone(), object.get(name)?.clone()));
    Value::Object(members.iter().filter_map(member).collect())
}

/// Whether a schema has rules, at any depth.
fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key(RULES) || map.values().any(has_rules),
        Value::Array(items) => items.iter().any(has_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Leaves a schema without rules, at any depth.
fn drop_rules(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove(RULES);
            map.values_mut().for_each(drop_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
