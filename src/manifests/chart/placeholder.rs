//! Places in an object that a template of the chart fills in.

use serde_json::{Value, json};

/// What a template of Helm says in the place of something that is known only when a chart is rendered.
enum Placeholder {
    /// Text, alone or within other text.
    Text(String),
    /// Anything that stands alone in one line.
    Value(String),
    /// A field's value in lines of its own.
    Block(String),
    /// A field with its value in lines of its own; it is left out where the value is empty.
    Field(String),
    /// Further fields beside those that are there.
    Entries(String),
    /// A line of the template instead of an item of a list.
    Line(String),
}

/// Placeholders in objects: each is a word that YAML writes without quotes, until [`filled`](Self::filled) puts the template in.
#[derive(Default)]
pub(super) struct Placeholders(Vec<Placeholder>);

impl Placeholders {
    pub(super) fn text(&mut self, expression: &str) -> String {
        self.add(Placeholder::Text(expression.to_owned()))
    }

    pub(super) fn value(&mut self, expression: &str) -> Value {
        json!(self.add(Placeholder::Value(expression.to_owned())))
    }

    /// `expression` is the YAML itself, as text.
    pub(super) fn block(&mut self, expression: &str) -> Value {
        json!(self.add(Placeholder::Block(expression.to_owned())))
    }

    /// Not for the first field of an item of a list, where there is no line to leave out.
    pub(super) fn field(&mut self, expression: &str) -> Value {
        json!(self.add(Placeholder::Field(expression.to_owned())))
    }

    /// The name of a field to be set to an empty text.
    pub(super) fn entries(&mut self, expression: &str) -> String {
        self.add(Placeholder::Entries(expression.to_owned()))
    }

    pub(super) fn line(&mut self, line: &str) -> Value {
        json!(self.add(Placeholder::Line(line.to_owned())))
    }

    fn add(&mut self, placeholder: Placeholder) -> String {
        self.0.push(placeholder);
        name(self.0.len() - 1)
    }

    /// The template that objects with placeholders, as YAML, stand for.
    pub(super) fn filled(&self, yaml: &str) -> String {
        let mut filled = String::new();
        for line in yaml.lines() {
            // What looks like a template is none.
            let line = line.replace("{{", "{{ \"{{\" }}");
            filled.push_str(&self.filled_line(&line));
            filled.push('\n');
        }
        filled
    }

    fn filled_line(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (number, placeholder) in self.0.iter().enumerate() {
            let name = name(number);
            let Some(before) = line.find(&name).map(|at| line[..at].to_owned()) else {
                continue;
            };
            // A field in the first line of an item stands behind its dash.
            let inner = before.trim_start_matches([' ', '-']);
            let indent = before.len() - inner.len();
            let alone = line.ends_with(&name) && (before.ends_with(": ") || before.ends_with("- "));
            line = match placeholder {
                Placeholder::Text(text) if alone => format!("{before}{{{{ {text} | quote }}}}"),
                Placeholder::Text(text) => line.replace(&name, &format!("{{{{ {text} }}}}")),
                Placeholder::Value(value) => format!("{before}{{{{ {value} }}}}"),
                Placeholder::Block(block) => {
                    let field = before.trim_end();
                    format!("{field}\n{:indent$}{{{{- {block} | nindent {indent} }}}}", "")
                }
                Placeholder::Field(value) => {
                    let (field, within) = (before.trim_end(), indent + 2);
                    format!(
                        "{:indent$}{{{{- with {value} }}}}\n{field}\n{:within$}{{{{- toYaml . | nindent {within} }}}}\n\
                         {:indent$}{{{{- end }}}}",
                        "", "", ""
                    )
                }
                Placeholder::Entries(value) => format!(
                    "{:indent$}{{{{- with {value} }}}}\n{:indent$}{{{{- toYaml . | nindent {indent} }}}}\n\
                     {:indent$}{{{{- end }}}}",
                    "", "", ""
                ),
                Placeholder::Line(text) => format!("{:width$}{text}", "", width = indent - 2),
            };
        }
        line
    }
}

/// No other word begins like it, and none is the beginning of another.
fn name(number: usize) -> String {
    format!("fill-{number:04}-of-the-chart")
}
