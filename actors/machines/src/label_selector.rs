//! Whether the API server would take a label selector, in the grammar of its own parser
//! (`k8s.io/apimachinery/pkg/labels`). Decided in planning: a selector that it refuses is wrong for good.

/// Longest name of a label, and longest value.
const LABEL_MAX: usize = 63;
/// Longest prefix of a label's name.
const PREFIX_MAX: usize = 253;

/// What is wrong with a selector such as `app=web,tier!=cache`, in words; `None` when the API server takes it.
pub fn problem(text: &str) -> Option<String> {
    let mut parser = Parser {
        tokens: tokens(text),
        at: 0,
    };
    parser.requirements().err()
}

/// Words and operators; what is between them is dropped.
fn tokens(text: &str) -> Vec<&str> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let operator = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let mut rest = text.trim_start_matches(blank);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = if rest.starts_with("==") || rest.starts_with("!=") {
            2
        } else if rest.starts_with(operator) {
            1
        } else {
            rest.find(|c| blank(c) || operator(c)).unwrap_or(rest.len())
        };
        let (token, others) = rest.split_at(length);
        found.push(token);
        rest = others.trim_start_matches(blank);
    }
    found
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next token; empty at the end.
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).copied().unwrap_or_default()
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<(), String> {
        loop {
            self.requirement()?;
            match self.next() {
                "" => return Ok(()),
                "," => {}
                other => return Err(expected("a comma", other)),
            }
        }
    }

    /// `key`, `!key`, `key=value`, `key in (a,b)` and the like.
    fn requirement(&mut self) -> Result<(), String> {
        let absent = self.peek() == "!";
        if absent {
            self.at += 1;
        }
        let key = self.next();
        if !is_word(key) {
            return Err(expected("the name of a label", key));
        }
        check_key(key)?;
        if absent || matches!(self.peek(), "" | ",") {
            return Ok(());
        }
        match self.next() {
            "in" | "notin" => self.values(),
            "=" | "==" | "!=" => check_value(self.value()?),
            ">" | "<" => {
                let value = self.value()?;
                let number: Result<i64, _> = value.parse();
                number.map_err(|_| expected("a whole number", value))?;
                // One with a sign is no value of a label.
                check_value(value)
            }
            other => Err(expected("=, !=, in, notin or a comma", other)),
        }
    }

    /// None at all is the empty value.
    fn value(&mut self) -> Result<&'a str, String> {
        if matches!(self.peek(), "" | ",") {
            return Ok("");
        }
        let value = self.next();
        if is_word(value) {
            Ok(value)
        } else {
            Err(expected("a value", value))
        }
    }

    /// `(a,b)`: each value may be empty, and none at all is the empty one.
    fn values(&mut self) -> Result<(), String> {
        let open = self.next();
        if open != "(" {
            return Err(expected("values in parentheses", open));
        }
        loop {
            if is_word(self.peek()) {
                check_value(self.next())?;
            }
            match self.next() {
                "," => {}
                ")" => return Ok(()),
                other => return Err(expected("a comma or a closing parenthesis", other)),
            }
        }
    }
}

fn expected(what: &str, found: &str) -> String {
    if found.is_empty() {
        format!("it ends where {what} is expected")
    } else {
        format!("{found:?} stands where {what} is expected")
    }
}

fn is_word(token: &str) -> bool {
    !token.is_empty() && !token.starts_with(['=', '!', '(', ')', ',', '>', '<'])
}

fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if is_label(name) && prefix.is_none_or(is_subdomain) {
        return Ok(());
    }
    Err(format!(
        "{key:?} is not the name of a label: letters, digits, -, _ and ., at most {LABEL_MAX}, beginning and ending \
         with a letter or digit, after an optional domain and /"
    ))
}

fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_label(value) {
        return Ok(());
    }
    Err(format!(
        "{value:?} is not the value of a label: letters, digits, -, _ and ., at most {LABEL_MAX}, beginning and \
         ending with a letter or digit"
    ))
}

fn is_label(text: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= LABEL_MAX && text.chars().all(inner) && end(text.chars().next()) && end(text.chars().last())
}

fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= PREFIX_MAX && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn what_the_api_server_takes_is_taken() {
        for good in [
            "app=web",
            "app==web,tier!=cache",
            "app in (web,api), tier notin (cache)",
            "!legacy",
            "app",
            "kubernetes.io/os=linux",
            "app=",
            "app in (web,)",
            "app in ()",
            "in=in",
            "size>5,size<10",
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
    }

    #[test]
    fn what_it_refuses_is_named() {
        for (bad, word) in [
            ("", "ends"),
            ("app web", "\"web\""),
            ("app in web", "\"web\""),
            ("app=web=x", "\"=\""),
            ("app=web tier=db", "\"tier\""),
            ("a/b/c=d", "a/b/c"),
            ("app=web-", "\"web-\""),
            ("size>-5", "\"-5\""),
            ("app,", "ends"),
            ("size>big", "\"big\""),
        ] {
            let problem = problem(bad).expect(bad);
            assert!(problem.contains(word), "{bad}: {problem}");
        }
    }
}
