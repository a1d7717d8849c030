//! Structural schemas of custom resources: pruning, defaults, validation, in the order and words of the API server.

use std::collections::BTreeMap;

use jsonschema::Validator as JsonSchema;
use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde_json::{Map, Value, json};

use crate::api::cel_rules::Rules;
use crate::api::status::FieldError;
use crate::api::structural_schema;
use crate::api::structural_schema::{Place, member};

/// The schema of one version of a custom resource.
pub(crate) struct CustomSchema {
    schema: Value,
    rules: Rules,
    patterns: BTreeMap<String, JsonSchema>,
    /// Field selectors, as `status.phase`.
    pub(crate) selectable: Vec<String>,
}

impl std::fmt::Debug for CustomSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CustomSchema")
            .field("selectable", &self.selectable)
            .finish_non_exhaustive()
    }
}

impl CustomSchema {
    /// Reads one entry of a CRD's `spec.versions`. Errors: rules or patterns that do not compile.
    pub(crate) fn new(version: &Value) -> Result<Self, Vec<FieldError>> {
        let schema = version["schema"]["openAPIV3Schema"].clone();
        let schema = if schema.is_object() {
            schema
        } else {
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
        };
        let mut errors = Vec::new();
        structural_schema::check(&schema, "openAPIV3Schema", &mut errors);
        let mut patterns = BTreeMap::new();
        collect_patterns(&schema, "openAPIV3Schema", &mut patterns, &mut errors);
        compile_errors(&compile_schema(&schema), "openAPIV3Schema", &mut errors);
        let rules = Rules::new(&schema);
        let selectable = version["selectableFields"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|f| f["jsonPath"].as_str())
            .map(|path| path.trim_start_matches('.').to_owned())
            .collect();
        if errors.is_empty() {
            Ok(Self {
                schema,
                rules,
                patterns,
                selectable,
            })
        } else {
            Err(errors)
        }
    }

    /// What the definition says.
    pub(crate) fn schema(&self) -> &Value {
        &self.schema
    }

    /// Removes fields that the schema does not know; their paths are returned in order. Members that are as they were in
    /// `old`, which has been through this, are not looked at.
    pub(crate) fn prune(&self, object: &mut Value, old: Option<&Value>) -> Vec<String> {
        let mut unknown = Vec::new();
        structural_schema::prune(&self.schema, object, old, Place::Root, &mut unknown);
        unknown
    }

    /// Drops nulls that the schema does not allow and fills in defaults, except in members that are as they were.
    pub(crate) fn default(&self, object: &mut Value, old: Option<&Value>) {
        structural_schema::apply_defaults(&self.schema, object, old);
    }

    /// The merge keys of the list at a path, when it is a map by its schema.
    pub(crate) fn list_keys(&self, path: &[&str]) -> Option<Vec<String>> {
        let schema = self.at(path)?;
        (schema["x-kubernetes-list-type"] == "map")
            .then(|| string_list(&schema["x-kubernetes-list-map-keys"]))
    }

    /// Whether the list at a path is a set by its schema.
    pub(crate) fn is_set(&self, path: &[&str]) -> bool {
        self.at(path)
            .is_some_and(|schema| schema["x-kubernetes-list-type"] == "set")
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        let mut schema = &self.schema;
        for part in path {
            schema = if schema["properties"].get(part).is_some() {
                &schema["properties"][part]
            } else if schema["additionalProperties"].is_object() {
                &schema["additionalProperties"]
            } else {
                return None;
            };
            if schema["items"].is_object() && path.last() != Some(part) {
                schema = &schema["items"];
            }
        }
        Some(schema)
    }

    /// Fields whose types are not those of the schema, in the words of server-side apply.
    pub(crate) fn wrong_types(&self, object: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        self.check(&self.schema, object, None, Place::Root, &mut errors);
        let wrong = errors
            .iter()
            .filter(|error| error.reason == "FieldValueTypeInvalid");
        wrong
            .map(|error| {
                let found = type_name(&value_at(object, &error.field));
                let numeric =
                    error.message.contains("of type integer") || error.message.contains("of type number");
                let wanted = if numeric {
                    "numeric (int or float)"
                } else {
                    "another type"
                };
                format!(".{}: expected {wanted}, got {found}", error.field)
            })
            .collect()
    }

    /// Checks an object, against its predecessor where there is one. Rules are left out when the object's shape is
    /// wrong, and an error says so, as the API server does it. `found` is what is wrong otherwise.
    pub(crate) fn validate(
        &self,
        cel: &Validator,
        object: &Value,
        old: Option<&Value>,
        found: Vec<FieldError>,
    ) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.check(&self.schema, object, old, Place::Root, &mut errors);
        check_lists(&self.schema, object, old, Place::Root, &mut errors);
        // What was wrong before and did not change is let be.
        errors.retain(|error| old.is_none_or(|old| !unchanged(old, object, &error.field)));
        errors.splice(0..0, found);
        let blocking = errors.iter().any(|e| {
            matches!(
                e.reason.as_str(),
                "FieldValueNotSupported"
                    | "FieldValueRequired"
                    | "FieldValueTooLong"
                    | "FieldValueTooMany"
                    | "FieldValueTypeInvalid"
            )
        });
        if self.rules.is_empty() {
            return errors;
        }
        if blocking {
            errors.push(FieldError::invalid(
                "",
                &Value::Null,
                "some validation rules were not checked because the object was invalid; correct the existing \
                 errors to complete validation",
            ));
            return errors;
        }
        let failed = self.rules.broken(cel, object, old);
        // The engine walks properties in no particular order.
        let mut failed: Vec<FieldError> = failed.iter().map(|e| rule_error(object, e)).collect();
        failed.sort();
        let root = |field: &str| field.split(['.', '[']).next().unwrap_or("").to_owned();
        failed.retain(|error| old.is_none_or(|old| !unchanged(old, object, &root(&error.field))));
        errors.extend(failed);
        errors
    }

    /// What is as it was in `old` is not looked at: it was let in then.
    fn check(
        &self,
        schema: &Value,
        value: &Value,
        old: Option<&Value>,
        place: Place<'_>,
        errors: &mut Vec<FieldError>,
    ) {
        if old == Some(value) {
            return;
        }
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            let allowed: Vec<String> = allowed
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), ToOwned::to_owned))
                .collect();
            errors.push(FieldError::not_supported(&place.path(), value, &allowed));
        }
        if let Some(expected) = schema["type"].as_str()
            && !has_type(expected, value)
        {
            errors.push(FieldError::type_invalid(
                &place.path(),
                &json!(type_name(value)),
                &format!(
                    "{} must be of type {expected}: {:?}",
                    in_body(place),
                    type_name(value)
                ),
            ));
            return;
        }
        if schema["x-kubernetes-int-or-string"] == true && !value.is_string() && !value.is_i64() {
            errors.push(FieldError::type_invalid(
                &place.path(),
                &json!(type_name(value)),
                &format!(
                    "{} must be of type integer,string: {:?}",
                    in_body(place),
                    type_name(value)
                ),
            ));
        }
        match value {
            Value::Object(map) => self.check_object(schema, map, old, place, errors),
            Value::Array(items) => self.check_array(schema, items, place, errors),
            Value::String(text) => self.check_string(schema, text, value, place, errors),
            Value::Number(_) => check_number(schema, value, place, errors),
            Value::Null | Value::Bool(_) => {}
        }
        self.check_branches(schema, value, place, errors);
    }

    fn check_object(
        &self,
        schema: &Value,
        map: &Map<String, Value>,
        old: Option<&Value>,
        place: Place<'_>,
        errors: &mut Vec<FieldError>,
    ) {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or("");
            if !map.contains_key(name) {
                errors.push(FieldError::required(&Place::Field(&place, name).path(), ""));
            }
        }
        let count = map.len() as u64;
        if let Some(max) = schema["maxProperties"].as_u64().filter(|max| count > *max) {
            errors.push(FieldError::too_many(&place.path(), count, max));
        }
        if let Some(min) = schema["minProperties"].as_u64().filter(|min| count < *min) {
            errors.push(FieldError::invalid(
                &place.path(),
                &json!(count),
                &format!("{} should have at least {min} properties", in_body(place)),
            ));
        }
        for (name, value) in map {
            let inner = member(schema, name);
            if inner.is_object() {
                let old = old.and_then(|old| old.get(name));
                self.check(inner, value, old, Place::Field(&place, name), errors);
            }
        }
    }

    fn check_array(&self, schema: &Value, items: &[Value], place: Place<'_>, errors: &mut Vec<FieldError>) {
        let count = items.len() as u64;
        if let Some(max) = schema["maxItems"].as_u64().filter(|max| count > *max) {
            errors.push(FieldError::too_many(&place.path(), count, max));
        }
        if let Some(min) = schema["minItems"].as_u64().filter(|min| count < *min) {
            errors.push(FieldError::invalid(
                &place.path(),
                &json!(count),
                &format!("{} should have at least {min} items", in_body(place)),
            ));
        }
        if schema["items"].is_object() {
            for (i, item) in items.iter().enumerate() {
                self.check(&schema["items"], item, None, Place::Item(&place, i), errors);
            }
        }
    }

    fn check_string(
        &self,
        schema: &Value,
        text: &str,
        value: &Value,
        place: Place<'_>,
        errors: &mut Vec<FieldError>,
    ) {
        let length = text.chars().count() as u64;
        // The first rule that fails is told alone.
        if let Some(max) = schema["maxLength"].as_u64().filter(|max| length > *max) {
            errors.push(FieldError::too_long(&place.path(), max));
        } else if let Some(min) = schema["minLength"].as_u64().filter(|min| length < *min) {
            errors.push(FieldError::invalid(
                &place.path(),
                value,
                &format!("{} should be at least {min} chars long", in_body(place)),
            ));
        } else if let Some(pattern) = schema["pattern"].as_str()
            && self.patterns.get(pattern).is_some_and(|p| !p.is_valid(value))
        {
            errors.push(FieldError::invalid(
                &place.path(),
                value,
                &format!("{} should match '{pattern}'", in_body(place)),
            ));
        }
        if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
            errors.push(FieldError::type_invalid(
                &place.path(),
                value,
                &format!("{} must be of type date-time: {text:?}", in_body(place)),
            ));
        }
    }

    fn check_branches(&self, schema: &Value, value: &Value, place: Place<'_>, errors: &mut Vec<FieldError>) {
        let valid = |branch: &Value| {
            let mut inner = Vec::new();
            self.check(branch, value, None, place, &mut inner);
            inner.is_empty()
        };
        if let Some(branches) = schema["allOf"].as_array() {
            for branch in branches {
                self.check(branch, value, None, place, errors);
            }
        }
        if schema["anyOf"]
            .as_array()
            .is_some_and(|branches| !branches.iter().any(valid))
        {
            errors.push(FieldError::invalid(
                &place.path(),
                &json!(""),
                &format!("{:?} must validate at least one schema (anyOf)", place.path()),
            ));
        }
        if let Some(branches) = schema["oneOf"].as_array() {
            let count = branches.iter().filter(|b| valid(b)).count();
            if count != 1 {
                let found = if count == 0 {
                    "Found none valid".to_owned()
                } else {
                    format!("Found {count} valid alternatives")
                };
                errors.push(FieldError::invalid(
                    &place.path(),
                    &json!(""),
                    &format!(
                        "{:?} must validate one and only one schema (oneOf). {found}",
                        place.path()
                    ),
                ));
            }
        }
        if schema["not"].is_object() && valid(&schema["not"]) {
            errors.push(FieldError::invalid(
                &place.path(),
                &json!(""),
                &format!("{:?} must not validate the schema (not)", place.path()),
            ));
        }
    }
}

/// Whether a field has the value that it had.
fn unchanged(old: &Value, new: &Value, field: &str) -> bool {
    let value = value_at(new, field);
    !value.is_null() && value == value_at(old, field)
}

fn rule_error(object: &Value, error: &kube::core::cel::ValidationError) -> FieldError {
    let (field, value) = (error.field_path.as_str(), value_at(object, &error.field_path));
    if error.kind != ErrorKind::ValidationFailure {
        // A rule that can't be evaluated refuses the object, on the real server too.
        return FieldError::omitted(field, &error.message);
    }
    match error.reason.as_deref() {
        Some("FieldValueForbidden") => FieldError::forbidden(field, &error.message),
        Some("FieldValueRequired") => FieldError::required(field, &error.message),
        Some("FieldValueDuplicate") => FieldError::duplicate(field, &value),
        _ => FieldError::omitted(field, &error.message),
    }
}

fn check_number(schema: &Value, value: &Value, place: Place<'_>, errors: &mut Vec<FieldError>) {
    let number = value.as_f64().unwrap_or(0.0);
    let mut fail = |text: String| {
        errors.push(FieldError::invalid(
            &place.path(),
            value,
            &format!("{} {text}", in_body(place)),
        ));
    };
    if let Some(max) = schema["maximum"].as_f64() {
        if schema["exclusiveMaximum"] == true && number >= max {
            fail(format!("should be less than {max}"));
        } else if schema["exclusiveMaximum"] != true && number > max {
            fail(format!("should be less than or equal to {max}"));
        }
    }
    if let Some(min) = schema["minimum"].as_f64() {
        if schema["exclusiveMinimum"] == true && number <= min {
            fail(format!("should be greater than {min}"));
        } else if schema["exclusiveMinimum"] != true && number < min {
            fail(format!("should be greater than or equal to {min}"));
        }
    }
    let fits = schema["maximum"].is_null() && schema["minimum"].is_null();
    if fits && schema["format"] == "int32" && value.as_i64().is_some_and(|n| i32::try_from(n).is_err()) {
        fail("must be of type int32: \"int64\"".to_owned());
    }
}

/// Keys of list-maps and items of list-sets must be unique.
fn check_lists(
    schema: &Value,
    value: &Value,
    old: Option<&Value>,
    place: Place<'_>,
    errors: &mut Vec<FieldError>,
) {
    if old == Some(value) {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let inner = member(schema, name);
                if inner.is_object() {
                    let old = old.and_then(|old| old.get(name));
                    check_lists(inner, value, old, Place::Field(&place, name), errors);
                }
            }
        }
        Value::Array(items) => {
            let keys = string_list(&schema["x-kubernetes-list-map-keys"]);
            let mut seen: Vec<Value> = Vec::new();
            for (i, item) in items.iter().enumerate() {
                let at = Place::Item(&place, i);
                let identity = match schema["x-kubernetes-list-type"].as_str() {
                    Some("map") if !item.is_object() => {
                        errors.push(FieldError::invalid(
                            &at.path(),
                            item,
                            "must be an object for an array of list-type map",
                        ));
                        None
                    }
                    Some("map") => {
                        let key: Map<String, Value> = keys
                            .iter()
                            .filter_map(|k| item.get(k).map(|v| (k.clone(), v.clone())))
                            .collect();
                        Some(Value::Object(key))
                    }
                    Some("set") => Some(item.clone()),
                    _ => None,
                };
                if let Some(identity) = identity {
                    if seen.contains(&identity) {
                        errors.push(FieldError::duplicate(&at.path(), &identity));
                    } else {
                        seen.push(identity);
                    }
                }
                check_lists(&schema["items"], item, None, at, errors);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn collect_patterns(
    schema: &Value,
    path: &str,
    patterns: &mut BTreeMap<String, JsonSchema>,
    errors: &mut Vec<FieldError>,
) {
    match schema {
        Value::Object(map) => {
            if let Some(pattern) = schema["pattern"].as_str()
                && !patterns.contains_key(pattern)
            {
                match jsonschema::validator_for(&json!({"pattern": pattern})) {
                    Ok(validator) => {
                        patterns.insert(pattern.to_owned(), validator);
                    }
                    Err(error) => errors.push(FieldError::invalid(
                        &child(path, "pattern"),
                        &json!(pattern),
                        &format!("must be a valid regular expression, but isn't: {error}"),
                    )),
                }
            }
            for (name, inner) in map {
                collect_patterns(inner, &child(path, name), patterns, errors);
            }
        }
        Value::Array(items) => {
            for item in items {
                collect_patterns(item, path, patterns, errors);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn compile_errors(rules: &CompiledSchema, path: &str, errors: &mut Vec<FieldError>) {
    for (i, rule) in rules.validations.iter().enumerate() {
        if let Err(error) = rule {
            errors.push(FieldError::omitted(
                &child(path, &format!("x-kubernetes-validations[{i}].rule")),
                &error.to_string(),
            ));
        }
    }
    let mut names: Vec<&String> = rules.properties.keys().collect();
    names.sort();
    for name in names {
        compile_errors(&rules.properties[name], &child(path, name), errors);
    }
    for inner in [&rules.items, &rules.additional_properties].into_iter().flatten() {
        compile_errors(inner, path, errors);
    }
}

pub(crate) fn has_type(expected: &str, value: &Value) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0),
        _ => true,
    }
}

pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn in_body(place: Place<'_>) -> String {
    format!("{} in body", place.path())
}

pub(crate) fn child(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

pub(crate) fn string_list(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(ToOwned::to_owned))
        .collect()
}

/// The value at a path as rules report it; null when there is none.
fn value_at(object: &Value, path: &str) -> Value {
    let mut value = object;
    for part in path.split(['.', '[']).filter(|p| !p.is_empty()) {
        value = match part.strip_suffix(']').map(str::parse::<usize>) {
            Some(Ok(index)) => &value[index],
            _ => &value[part],
        };
    }
    value.clone()
}
