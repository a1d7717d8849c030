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
    /// The name of an action does not go with its parameters: where that has been told, it need not be told again.
    pub(crate) is_misfit: bool,
}

impl Problem {
    /// They quote what somebody wrote: nothing of it is more than text.
    pub(crate) fn new(field: impl Into<String>, message: impl AsRef<str>) -> Self {
        Self {
            field: plain(&field.into()).into_owned(),
            message: plain(message.as_ref()).into_owned(),
            is_misfit: false,
        }
    }

    /// The name of an action does not go with its parameters.
    pub(crate) fn misfit(message: impl AsRef<str>) -> Self {
        Self {
            is_misfit: true,
            ..Self::new("action", message)
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
