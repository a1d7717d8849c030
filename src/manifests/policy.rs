//! A ValidatingAdmissionPolicy and its binding, put together from rules.

use serde_json::{Value, json};

use super::labels;

/// A ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1) with the binding that puts it in force.
///
/// Every policy fails closed, and its expressions are CEL that can't end in an error for any object: optional fields
/// are read by `?`. The API server would refuse the request otherwise, whoever sent it.
pub(super) struct Policy {
    name: &'static str,
    description: String,
    matches: Value,
    conditions: Vec<Value>,
    variables: Vec<Value>,
    validations: Vec<Value>,
}

impl Policy {
    /// `description` is for people; `matches` are the requests that are looked at (matchConstraints).
    pub(super) fn new(name: &'static str, description: impl Into<String>, matches: Value) -> Self {
        Self {
            name,
            description: description.into(),
            matches,
            conditions: Vec::new(),
            variables: Vec::new(),
            validations: Vec::new(),
        }
    }

    /// Only requests for which this holds are looked at.
    pub(super) fn when(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.conditions
            .push(json!({"name": name, "expression": expression.into()}));
        self
    }

    /// A value that the rules read as `variables.NAME`; worked out when it is read, at most once.
    pub(super) fn variable(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.variables
            .push(json!({"name": name, "expression": expression.into()}));
        self
    }

    /// What must hold, else the request is forbidden in these words.
    pub(super) fn must(self, expression: impl Into<String>, message: impl Into<String>) -> Self {
        self.rule("Forbidden", expression, None, message)
    }

    /// What must hold, else the request is forbidden in the words of a CEL expression, or in `message` where that has no value.
    pub(super) fn must_else(
        self,
        expression: impl Into<String>,
        words: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        self.rule("Forbidden", expression, Some(words.into()), message)
    }

    /// What must hold, else the object is invalid, in words as of [`Policy::must_else`].
    pub(super) fn valid_if(
        self,
        expression: impl Into<String>,
        words: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        self.rule("Invalid", expression, Some(words.into()), message)
    }

    fn rule(
        mut self,
        reason: &str,
        expression: impl Into<String>,
        words: Option<String>,
        message: impl Into<String>,
    ) -> Self {
        let mut rule = json!({"expression": expression.into(), "message": message.into(), "reason": reason});
        if let Some(words) = words {
            rule["messageExpression"] = json!(words);
        }
        self.validations.push(rule);
        self
    }

    /// Passes over what breaks no rule at the first look. The API server reads an object anew for conditions, rules, words and
    /// audit: what is written often, and nearly always as it must be, is read once by this instead of three times. Of a policy
    /// without variables: conditions know none.
    pub(super) fn looked_at_once(self) -> Self {
        let rules = self
            .validations
            .iter()
            .filter_map(|rule| rule["expression"].as_str());
        let rules: Vec<String> = rules.map(|rule| format!("({rule})")).collect();
        self.when("breaks-a-rule", format!("!({})", rules.join(" && ")))
    }

    /// Policy and binding.
    pub(super) fn manifests(self) -> [Value; 2] {
        let metadata = json!({"name": self.name, "labels": labels("admission"),
                              "annotations": {"kubernetes.io/description": self.description}});
        let mut spec = json!({
            "failurePolicy": "Fail",
            "matchConstraints": self.matches,
            "validations": self.validations,
        });
        if !self.conditions.is_empty() {
            spec["matchConditions"] = json!(self.conditions);
        }
        if !self.variables.is_empty() {
            spec["variables"] = json!(self.variables);
        }
        let api_version = "admissionregistration.k8s.io/v1";
        [
            json!({"apiVersion": api_version, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": spec}),
            json!({"apiVersion": api_version, "kind": "ValidatingAdmissionPolicyBinding",
                   "metadata": {"name": self.name, "labels": labels("admission")},
                   "spec": {"policyName": self.name, "validationActions": ["Deny"]}}),
        ]
    }
}
