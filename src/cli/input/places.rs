//! Where in a file a field stands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A document of a file. Its lines are looked up only when something is wrong with it.
#[derive(Debug)]
pub(crate) struct Document {
    first_line: u64,
    text: String,
    tree: OnceLock<Tree>,
}

/// The lines of a value's parts.
#[derive(Debug, Default)]
enum Tree {
    #[default]
    Leaf,
    Map(BTreeMap<String, Place>),
    List(Vec<Place>),
}

#[derive(Debug)]
struct Place {
    line: u64,
    tree: Tree,
}

impl Document {
    pub(crate) fn new(first_line: u64, text: String) -> Self {
        Self {
            first_line,
            text,
            tree: OnceLock::new(),
        }
    }

    /// The line of a field, such as `spec.steps[1].name`; of what should hold it, where it is missing.
    pub(crate) fn line_of(&self, field: &str) -> u64 {
        let mut tree = self
            .tree
            .get_or_init(|| serde_saphyr::from_str(&self.text).unwrap_or_default());
        let mut line = 1 + leading_lines(&self.text);
        let mut path = field;
        while let Some((place, rest)) = tree.step(path) {
            (tree, line, path) = (&place.tree, place.line, rest);
        }
        self.first_line + line - 1
    }
}

impl Tree {
    /// One step into the value, and the path that is left.
    fn step<'a, 'b>(&'a self, path: &'b str) -> Option<(&'a Place, &'b str)> {
        match self {
            Tree::Leaf => None,
            Tree::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                Some((items.get(index.parse::<usize>().ok()?)?, rest))
            }
            // Keys may hold dots: the longest one that fits is meant.
            Tree::Map(entries) => entries
                .iter()
                .filter_map(|(key, place)| Some((key.len(), place, after_key(path, key)?)))
                .max_by_key(|(length, ..)| *length)
                .map(|(_, place, rest)| (place, rest)),
        }
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

/// Blank lines and comments before the first value.
fn leading_lines(document: &str) -> u64 {
    let blank = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    u64::try_from(document.lines().take_while(blank).count()).unwrap_or(0)
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lines)
    }
}

struct Lines;

/// Scalars have no parts.
macro_rules! leaves {
    ($($method:ident($type:ty)),*) => {
        $(fn $method<E>(self, _: $type) -> Result<Tree, E> { Ok(Tree::Leaf) })*
    };
}

impl<'de> Visitor<'de> for Lines {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    leaves!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_i128(i128),
        visit_u128(u128),
        visit_f64(f64),
        visit_str(&str)
    );

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            let tree = map.next_value()?;
            entries.insert(key.value, Place { line, tree });
        }
        Ok(Tree::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Tree>>()? {
            let line = item.referenced.line();
            items.push(Place {
                line,
                tree: item.value,
            });
        }
        Ok(Tree::List(items))
    }
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
