//! Where in a file a field stands.

use std::sync::OnceLock;

use kubernaut_machines::yaml::{self, Content, Node};

use super::files::limits;

/// A document of a file. Its lines are looked up only when something is wrong with it.
#[derive(Debug)]
pub(crate) struct Document {
    first_line: u64,
    text: String,
    root: OnceLock<Option<Node>>,
}

impl Document {
    pub(crate) fn new(first_line: u64, text: String) -> Self {
        Self {
            first_line,
            text,
            root: OnceLock::new(),
        }
    }

    /// The line of a field, such as `spec.steps[1].name`; of what should hold it, where it is missing.
    pub(crate) fn line_of(&self, field: &str) -> u64 {
        let root = self.root.get_or_init(|| {
            let documents = yaml::documents(&self.text, limits(&self.text));
            documents.ok().and_then(|documents| documents.into_iter().next())
        });
        let Some(root) = root else {
            return self.first_line;
        };
        let (mut node, mut line, mut path) = (root, root.line, field);
        while let Some((at, inner, rest)) = step(node, path) {
            (node, line, path) = (inner, at, rest);
        }
        self.first_line + line.saturating_sub(1)
    }
}

/// One step into the value: its line, what is there, and the path that is left.
fn step<'a, 'b>(node: &'a Node, path: &'b str) -> Option<(u64, &'a Node, &'b str)> {
    match &node.content {
        Content::Scalar(_) => None,
        Content::List(items) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let item = items.get(index.parse::<usize>().ok()?)?;
            Some((item.line, item, rest))
        }
        // Keys may hold dots: the longest one that fits is meant.
        Content::Map(entries) => entries
            .iter()
            .filter_map(|(key, (line, node))| Some((key.len(), (*line, node, after_key(path, key)?))))
            .max_by_key(|(length, _)| *length)
            .map(|(_, found)| found),
    }
}

/// What follows a key in a path: `.key`, `[key]` or `["key"]`.
fn after_key<'a>(path: &'a str, key: &str) -> Option<&'a str> {
    if let Some(bracket) = path.strip_prefix('[') {
        let quoted = |text: &'a str| text.strip_prefix('"')?.strip_prefix(key)?.strip_prefix('"');
        let bare = |text: &'a str| text.strip_prefix(key);
        return quoted(bracket).or_else(|| bare(bracket))?.strip_prefix(']');
    }
    let rest = path.strip_prefix('.').unwrap_or(path).strip_prefix(key)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_its_line() {
        let text = "# a comment\nkind: A\nmetadata: {name: x,\n  labels: {a.b/c: d}}\nspec:\n  steps:\n  - name: one\n    3: x\n\n  - name: two\n    depends:\n    - 7\n  data:\n    a.b: 1\n    a.b.c: 2\n";
        let document = Document::new(11, text.to_owned());
        for (field, line) in [
            ("", 12),
            ("kind", 12),
            ("metadata.name", 13),
            ("metadata.labels[a.b/c]", 14),
            ("spec.steps", 16),
            ("spec.steps[0]", 17),
            ("spec.steps[0].missing", 17),
            ("spec.steps[0].3", 18),
            ("spec.steps[1].name", 20),
            ("spec.steps[1].depends[0]", 22),
            ("spec.steps[5]", 16),
            ("spec.data.a.b", 24),
            ("spec.data[\"a.b.c\"]", 25),
            ("spec.data.a.b.c", 25),
            ("nowhere", 12),
        ] {
            assert_eq!(document.line_of(field), line, "{field}");
        }
    }

    #[test]
    fn a_document_that_can_t_be_read_again_has_its_first_line() {
        assert_eq!(Document::new(3, "a: [\n".to_owned()).line_of("a"), 3);
    }
}
