//! YAML as kubectl reads it (sigs.k8s.io/yaml): the words and numbers of YAML 1.1, so that `0644` is octal and `no` is false,
//! and every value one that JSON has.
//!
//! # Guarantees
//! Time and memory are bounded by the text and the limits, whatever aliases it holds.
//!
//! # Caveats
//! A key that stands twice is refused. kubectl takes the later one without a word, which nobody means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use granit_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Number, Value};

mod scalar;

/// Deeper than any Kubernetes object, and no deeper than JSON is read.
const DEPTH_MAX: usize = 100;

/// What a text may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Values that stand in it.
    pub values: usize,
    /// Values that aliases repeat. With none, anchors and aliases are refused.
    pub copies: usize,
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The line, from 1.
    pub line: u64,
    /// In words.
    pub reason: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for YamlError {}

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line that it begins in, from 1.
    pub line: u64,
    /// What it is.
    pub content: Content,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// One without parts.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A map by key; with each key, its line.
    Map(BTreeMap<String, (u64, Node)>),
}

impl Node {
    /// The value without its places.
    pub fn into_value(self) -> Value {
        match self.content {
            Content::Scalar(value) => value,
            Content::List(items) => Value::Array(items.into_iter().map(Self::into_value).collect()),
            Content::Map(entries) => {
                let values = entries
                    .into_iter()
                    .map(|(key, (_, node))| (key, node.into_value()));
                Value::Object(values.collect::<Map<String, Value>>())
            }
        }
    }

    fn size(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(_) => 0,
            Content::List(items) => items.iter().map(Self::size).sum(),
            Content::Map(entries) => entries.values().map(|(_, node)| node.size()).sum(),
        }
    }
}

/// The documents of a text, in order; one that holds nothing is null.
///
/// # Errors
/// The first thing that is wrong.
pub fn documents(text: &str, limits: Limits) -> Result<Vec<Node>, YamlError> {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    let mut composer = Composer {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        limits,
        last_line: 1,
        anchors: BTreeMap::new(),
        open: BTreeSet::new(),
    };
    composer.documents()
}

struct Composer<'a> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    /// What is left of them.
    limits: Limits,
    last_line: u64,
    anchors: BTreeMap<usize, Node>,
    /// Anchors of values that have not ended.
    open: BTreeSet<usize>,
}

impl<'a> Composer<'a> {
    fn documents(&mut self) -> Result<Vec<Node>, YamlError> {
        let mut documents = Vec::new();
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentEnd, _) => {}
                (Event::StreamEnd, _) => return Ok(documents),
                (Event::DocumentStart(..), _) => {
                    self.anchors.clear();
                    let first = self.next()?;
                    documents.push(self.node(first, 0)?);
                }
                (_, line) => return Err(error(line, "is not where a value can be")),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, u64), YamlError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.last_line = line(&span.start);
                Ok((event, self.last_line))
            }
            Some(Err(scan)) => Err(self.explain(line(scan.marker()), &scan.info())),
            None => Ok((Event::StreamEnd, self.last_line)),
        }
    }

    /// A scanner says in its own words, and near by, what a person sees at once.
    fn explain(&self, at: u64, reason: &str) -> YamlError {
        let indented_by_tab = |line: &&(u64, &str)| {
            let blank = line.1.trim_start_matches([' ', '\t']);
            line.1[..line.1.len() - blank.len()].contains('\t') && !blank.is_empty()
        };
        let near: Vec<(u64, &str)> = (1..)
            .zip(self.text.lines())
            .filter(|(number, _)| (at..=at + 1).contains(number))
            .collect();
        match near.iter().find(indented_by_tab) {
            Some((number, _)) => error(*number, "is indented by a tab: write spaces"),
            None => error(at, reason),
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "which events there are depends on features of the parser"
    )]
    fn node(&mut self, (event, line): (Event<'a>, u64), depth: usize) -> Result<Node, YamlError> {
        if depth > DEPTH_MAX {
            return Err(error(line, "it is nested too deeply for a manifest"));
        }
        let too_many = || error(line, "it holds more values than are read of one manifest");
        self.limits.values = self.limits.values.checked_sub(1).ok_or_else(too_many)?;
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = resolve(&text, style, tag.as_deref()).map_err(|reason| error(line, &reason))?;
                (Content::Scalar(value), anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.insert(anchor);
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.insert(anchor);
                (self.map(depth)?, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, line),
            _ => return Err(error(line, "is not where a value can be")),
        };
        let node = Node { line, content };
        // 0 is none.
        if anchor != 0 {
            self.open.remove(&anchor);
            self.check_copies(line)?;
            self.count_copies(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn check_copies(&self, line: u64) -> Result<(), YamlError> {
        let none =
            "it has an anchor (&) or an alias (*), which are not read here: write out what they stand for";
        if self.limits.copies == 0 {
            return Err(error(line, none));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, line: u64) -> Result<Node, YamlError> {
        self.check_copies(line)?;
        if self.open.contains(&anchor) {
            return Err(error(line, "is an alias of what it stands in"));
        }
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(error(line, "is an alias of nothing"));
        };
        self.count_copies(&node)?;
        Ok(node)
    }

    fn count_copies(&mut self, node: &Node) -> Result<(), YamlError> {
        let left = self.limits.copies.checked_sub(node.size());
        let too_many = || {
            error(
                node.line,
                "its aliases make more values of it than are read of one manifest",
            )
        };
        self.limits.copies = left.ok_or_else(too_many)?;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Content, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Content::List(items)),
                other => items.push(self.node(other, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Content, YamlError> {
        let mut own: BTreeMap<String, (u64, Node)> = BTreeMap::new();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (event, line) = match self.next()? {
                (Event::MappingEnd, _) => break,
                key => key,
            };
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node((event, line), depth + 1)?;
            let value = self.next()?;
            let value = self.node(value, depth + 1)?;
            if merges {
                merged.push(value);
                continue;
            }
            let key = key_text(key)?;
            if own.contains_key(&key) {
                return Err(error(line, &format!("duplicate key: {key}")));
            }
            own.insert(key, (line, value));
        }
        for node in merged {
            merge(&mut own, node)?;
        }
        Ok(Content::Map(own))
    }
}

/// What a map has itself counts more than what is merged into it.
fn merge(own: &mut BTreeMap<String, (u64, Node)>, node: Node) -> Result<(), YamlError> {
    match node.content {
        Content::Map(entries) => {
            for (key, value) in entries {
                own.entry(key).or_insert(value);
            }
            Ok(())
        }
        Content::List(items) => items.into_iter().try_for_each(|item| merge(own, item)),
        Content::Scalar(_) => Err(error(node.line, "only maps can be merged by <<")),
    }
}

fn key_text(key: Node) -> Result<String, YamlError> {
    match key.content {
        Content::Scalar(Value::String(text)) => Ok(text),
        Content::Scalar(value @ (Value::Bool(_) | Value::Number(_))) => Ok(value.to_string()),
        Content::Scalar(Value::Null | Value::Array(_) | Value::Object(_))
        | Content::List(_)
        | Content::Map(_) => Err(error(key.line, "is no text, and only text can be a key")),
    }
}

fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let named = tag.and_then(|tag| tag.suffix_in_namespace("tag:yaml.org,2002:"));
    let plain = || scalar::resolve(text);
    let value = match (tag, named.as_deref()) {
        (None, _) if style == ScalarStyle::Plain => plain(),
        (_, Some("binary")) => return binary(text),
        (_, Some(wanted @ ("bool" | "int" | "float" | "null"))) => {
            let found = plain();
            if !scalar::is_a(wanted, &found) {
                return Err(format!("`{text}` is no !!{wanted}"));
            }
            found
        }
        // A text, or of a tag that means nothing here.
        (None | Some(_), _) => scalar::Scalar::Text,
    };
    match value {
        scalar::Scalar::Text => Ok(Value::String(text.to_owned())),
        scalar::Scalar::Null => Ok(Value::Null),
        scalar::Scalar::Bool(value) => Ok(Value::Bool(value)),
        scalar::Scalar::Signed(value) => Ok(Value::from(value)),
        scalar::Scalar::Unsigned(value) => Ok(Value::from(value)),
        scalar::Scalar::Float(value) => Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| format!("`{text}` is a number that JSON does not have")),
    }
}

fn binary(text: &str) -> Result<Value, String> {
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(compact)
        .map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
    Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()))
}

fn line(marker: &granit_parser::Marker) -> u64 {
    u64::try_from(marker.line()).unwrap_or(u64::MAX)
}

fn error(line: u64, reason: &str) -> YamlError {
    YamlError {
        line,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
