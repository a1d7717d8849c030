//! The text of a file, and the documents in it, as kubectl finds them.

/// A part of a file, and its first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first_line: u64,
    pub(super) text: String,
}

/// The text of a file. Errors: in words.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let wide = |pair: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes[2..].as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|bytes| pair(*bytes)).collect();
        // A tool that counts characters as bytes leaves half of one at the end.
        if rest.iter().any(|byte| *byte != 0) {
            return Err("is UTF-16, but ends within a character".to_owned());
        }
        String::from_utf16(&units).map_err(|_| "begins as UTF-16, and is not".to_owned())
    };
    match bytes.as_slice() {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => {
            let text = String::from_utf8(bytes).map_err(|error| {
                let valid = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..valid].split(|byte| *byte == b'\n').count();
                format!("is not text in UTF-8 or UTF-16 (line {line})")
            })?;
            Ok(match text.strip_prefix('\u{feff}') {
                Some(rest) => rest.to_owned(),
                None => text,
            })
        }
    }
}

/// The documents of a text between lines of `---`; and lines that look like one and are none.
pub(super) fn documents(text: &str) -> (Vec<Part>, Vec<u64>) {
    let mut bad = Vec::new();
    let mut parts = vec![Part {
        first_line: 1,
        text: String::new(),
    }];
    for (number, line) in (1u64..).zip(text.split_inclusive('\n')) {
        if let Some(rest) = line.strip_prefix("---") {
            let rest = rest.trim();
            if rest.is_empty() || rest.starts_with('#') {
                parts.push(Part {
                    first_line: number + 1,
                    text: String::new(),
                });
                continue;
            }
            bad.push(number);
        }
        if let Some(part) = parts.last_mut() {
            part.text.push_str(line);
        }
    }
    (parts, bad)
}

/// The values of a text that is JSON, one after the other, each where it stands; none when it is not JSON.
pub(super) fn json_values(part: &Part) -> Vec<Part> {
    let mut values = Vec::new();
    let mut stream =
        serde_json::Deserializer::from_str(&part.text).into_iter::<&serde_json::value::RawValue>();
    let mut line = part.first_line;
    let mut seen = 0;
    while let Some(value) = stream.next() {
        let Ok(value) = value else {
            return Vec::new();
        };
        let end = stream.byte_offset();
        let start = end - value.get().len();
        line += part.text[seen..start]
            .bytes()
            .map(|byte| u64::from(byte == b'\n'))
            .sum::<u64>();
        seen = start;
        values.push(Part {
            first_line: line,
            text: value.get().to_owned(),
        });
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(parts: &[Part]) -> Vec<(u64, &str)> {
        parts
            .iter()
            .map(|part| (part.first_line, part.text.as_str()))
            .collect()
    }

    #[test]
    fn a_text_has_one_of_the_encodings_that_kubectl_reads() {
        let text = "a: \u{1f680}é\n";
        let units: Vec<u16> = std::iter::once(0xfeff).chain(text.encode_utf16()).collect();
        let little = units
            .iter()
            .flat_map(|unit| unit.to_le_bytes())
            .collect::<Vec<u8>>();
        let big = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let marked = ["\u{feff}".as_bytes(), text.as_bytes()].concat();
        let padded = [little.as_slice(), &[0]].concat();
        for bytes in [text.as_bytes().to_vec(), marked, little, big, padded] {
            assert_eq!(decode(bytes).as_deref(), Ok(text));
        }
        let words = decode(vec![b'a', b'\n', 0xc3, b'(']).expect_err("no text");
        assert!(words.contains("line 2"), "{words}");
        assert!(decode(vec![0xff, 0xfe, 0, 0xd8, b'a', 0]).is_err());
    }

    #[test]
    fn documents_lie_between_lines_that_hold_nothing_but_their_mark() {
        let (parts, bad) = documents("a\n---\nb\n---\t# c\nd\n--- \n---\n e ---\n");
        assert_eq!(
            texts(&parts),
            [(1, "a\n"), (3, "b\n"), (5, "d\n"), (7, ""), (8, " e ---\n")]
        );
        assert!(bad.is_empty());
        for line in ["--- {a: 1}", "---a", "----", "--- |"] {
            assert_eq!(documents(&format!("a\n{line}\nb\n")).1, [2], "{line}");
        }
    }

    #[test]
    fn json_values_may_follow_each_other() {
        let part = |text: &str| Part {
            first_line: 3,
            text: text.to_owned(),
        };
        let two = part("{\"a\":\n 1}\n\n {\"b\": 2}{}\n");
        let values = json_values(&two);
        assert_eq!(
            texts(&values),
            [(3, "{\"a\":\n 1}"), (6, "{\"b\": 2}"), (6, "{}")]
        );
        assert!(json_values(&part("{a: 1}")).is_empty());
        assert!(json_values(&part("{\"a\": 1}\nb: 2\n")).is_empty());
    }
}
