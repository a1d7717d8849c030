//! The text form of label selectors, in the grammar and the words of the API server.

use std::collections::BTreeSet;

use serde_json::json;

use crate::api::names::{key_problems, value_problems};
use crate::api::selector::Requirement;
use crate::api::status::FieldError;

/// Reads a selector. Errors: the words of the API server.
pub(crate) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser {
        tokens: tokens(text),
        at: 0,
    };
    parser.requirements()
}

/// What is special is a token of its own.
fn tokens(text: &str) -> Vec<String> {
    let special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let mut out: Vec<String> = Vec::new();
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut Vec<String>| {
        if !word.is_empty() {
            out.push(std::mem::take(word));
        }
    };
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            flush(&mut word, &mut out);
        } else if special(c) {
            flush(&mut word, &mut out);
            let double = matches!(c, '=' | '!') && chars.next_if_eq(&'=').is_some();
            out.push(if double { format!("{c}=") } else { c.to_string() });
        } else {
            word.push(c);
        }
    }
    flush(&mut word, &mut out);
    out
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

impl Parser {
    /// The next token; empty at the end.
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        let token = self.peek().to_owned();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        if self.peek().is_empty() {
            return Ok(out);
        }
        if !begins(self.peek()) {
            return Err(format!(
                "found '{}', expected: !, identifier, or 'end of string'",
                self.peek()
            ));
        }
        loop {
            let requirement = self
                .requirement()
                .map_err(|why| format!("unable to parse requirement: {why}"))?;
            out.push(requirement);
            match self.next().as_str() {
                "" => return Ok(out),
                "," if begins(self.peek()) => {}
                "," => return Err(format!("found '{}', expected: identifier after ','", self.peek())),
                other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == "!";
        if absent {
            self.at += 1;
        }
        let key = self.next();
        if !is_word(&key) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        if let Some(problem) = key_problems(&key).first() {
            return Err(FieldError::invalid("", &json!(key), problem).to_string());
        }
        if absent {
            return Ok(Requirement::Absent(key));
        }
        if matches!(self.peek(), "" | ",") {
            return Ok(Requirement::Exists(key));
        }
        match self.next().as_str() {
            "in" => Ok(Requirement::In(key.clone(), checked(&key, self.values()?)?)),
            "notin" => Ok(Requirement::NotIn(key.clone(), checked(&key, self.values()?)?)),
            "=" | "==" => Ok(Requirement::In(key.clone(), checked(&key, vec![self.value()?])?)),
            "!=" => Ok(Requirement::NotIn(
                key.clone(),
                checked(&key, vec![self.value()?])?,
            )),
            ">" => Ok(Requirement::Above(key.clone(), self.number(&key)?)),
            "<" => Ok(Requirement::Below(key.clone(), self.number(&key)?)),
            other => Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn value(&mut self) -> Result<String, String> {
        if matches!(self.peek(), "" | ",") {
            return Ok(String::new());
        }
        let value = self.next();
        if is_word(&value) {
            Ok(value)
        } else {
            Err(format!("found '{value}', expected: identifier"))
        }
    }

    fn number(&mut self, key: &str) -> Result<i64, String> {
        let value = self.value()?;
        let number = value.parse().map_err(|_| {
            let why = "for 'Gt', 'Lt' operators, the value must be an integer";
            FieldError::invalid("values[0]", &json!(value), why).to_string()
        })?;
        checked(key, vec![value])?;
        Ok(number)
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let open = self.next();
        if open != "(" {
            return Err(format!("found '{open}' expected: '('"));
        }
        let mut out = Vec::new();
        if self.peek() == ")" {
            self.at += 1;
            return Ok(vec![String::new()]);
        }
        if !is_word(self.peek()) && self.peek() != "," {
            return Err(format!(
                "found '{}', expected: ',', ')' or identifier",
                self.peek()
            ));
        }
        loop {
            if is_word(self.peek()) {
                out.push(self.next());
            } else {
                out.push(String::new());
            }
            match self.next().as_str() {
                "," => {}
                ")" => return Ok(out),
                other => return Err(format!("found '{other}', expected: ',' or ')'")),
            }
        }
    }
}

/// Each is the value of a label; they are a set, and told in its order.
fn checked(key: &str, values: Vec<String>) -> Result<Vec<String>, String> {
    for (index, value) in values.iter().collect::<BTreeSet<_>>().into_iter().enumerate() {
        let problems = value_problems(value);
        if !problems.is_empty() {
            let field = format!("values[{index}][{key}]");
            return Err(FieldError::invalid(&field, &json!(value), &problems.join("; ")).to_string());
        }
    }
    Ok(values)
}

fn begins(token: &str) -> bool {
    token == "!" || is_word(token)
}

fn is_word(token: &str) -> bool {
    !token.is_empty() && !["=", "==", "!", "!=", "(", ")", ",", ">", "<"].contains(&token)
}
