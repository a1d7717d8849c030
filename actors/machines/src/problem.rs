//! What is wrong with an execution or a step, and where.

use std::fmt;

use crate::classify::plain;

/// Something that is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field below `spec` of an execution, such as `timeout` or `parameters.deletePod.pod`; empty where it is no single one.
    pub field: String,
    /// What is wrong, for a person.
    pub message: String,
}

impl Problem {
    /// They quote what somebody wrote: nothing of it is more than text.
    pub(crate) fn new(field: impl Into<String>, message: impl AsRef<str>) -> Self {
        Self {
            field: field.into(),
            message: plain(message.as_ref()).into_owned(),
        }
    }

    /// Its field is one of this one.
    pub(crate) fn within(mut self, parent: &str) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        self.field = format!("{parent}{dot}{}", self.field);
        self
    }

    /// All of them in one text.
    pub(crate) fn joined(problems: &[Self]) -> String {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        texts.join("; ")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}
