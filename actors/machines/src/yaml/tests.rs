//! YAML texts that kubectl reads in a way of its own.

use std::fmt::Write as _;

use serde_json::json;

use super::*;

const LIMITS: Limits = Limits {
    values: 1_000,
    copies: 1_000,
};

fn read(text: &str) -> Value {
    let mut documents = documents(text, LIMITS).expect(text);
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0).into_value()
}

fn refused(text: &str) -> (u64, String) {
    let error = documents(text, LIMITS).expect_err(text);
    (error.line, error.reason)
}

#[test]
fn words_and_numbers_are_those_of_kubectl() {
    for (text, value) in [
        ("0644", json!(420)),
        ("0o644", json!(420)),
        ("0x1F", json!(31)),
        ("0b101", json!(5)),
        ("-012", json!(-10)),
        ("08", json!(8)),
        ("0", json!(0)),
        ("1_000", json!(1000)),
        ("+7", json!(7)),
        ("1e3", json!(1000)),
        ("1.50", json!(1.5)),
        (".5", json!(0.5)),
        ("5.", json!(5)),
        ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("1e999", json!("1e999")),
        ("yes", json!(true)),
        ("No", json!(false)),
        ("on", json!(true)),
        ("y", json!(true)),
        ("yEs", json!("yEs")),
        ("~", Value::Null),
        ("", Value::Null),
        ("null", Value::Null),
        ("1.2.3", json!("1.2.3")),
        ("1.5Gi", json!("1.5Gi")),
        ("2025-01-01", json!("2025-01-01")),
        ("12:30", json!("12:30")),
        ("-", json!("-")),
        ("0x", json!("0x")),
        ("--1", json!("--1")),
        ("_1", json!("_1")),
        ("infinity", json!("infinity")),
        ("'0644'", json!("0644")),
        ("\"no\"", json!("no")),
        ("!!str 0644", json!("0644")),
        ("!!float 1", json!(1)),
        ("!!binary aGk=", json!("hi")),
        ("!custom no", json!("no")),
    ] {
        // A plain `-` alone would begin a list.
        let document = if text == "-" {
            "a: \"-\"".to_owned()
        } else {
            format!("a: {text}")
        };
        assert_eq!(read(&document), json!({"a": value}), "{text}");
    }
}

#[test]
fn keys_are_the_texts_of_what_they_are() {
    assert_eq!(
        read("1: a\nyes: b\n1.5: c\n'no': d\n010: e"),
        json!({"1": "a", "true": "b", "1.5": "c", "no": "d", "8": "e"})
    );
    assert_eq!(refused("~: a").0, 1);
    assert_eq!(refused("a: 1\n[b]: 2").0, 2);
}

#[test]
fn what_a_map_has_counts_more_than_what_is_merged_into_it() {
    let text = "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nboth:\n  <<: [*b, *o]\n  x: 5\n";
    assert_eq!(read(text)["both"], json!({"x": 5, "true": 2, "z": 4}));
    assert_eq!(refused("a: {<<: 3}").0, 1);
}

#[test]
fn every_value_has_the_line_that_it_begins_in() {
    let documents = documents("# c\na:\n- b\n-\n  c: d\n---\ne: f\n", LIMITS).expect("two");
    let Content::Map(first) = &documents[0].content else {
        panic!("{documents:?}");
    };
    let (key_line, list) = &first["a"];
    let Content::List(items) = &list.content else {
        panic!("{list:?}");
    };
    assert_eq!((*key_line, items[0].line, items[1].line), (2, 3, 5));
    assert_eq!(documents[1].line, 7);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, line, words) in [
        ("a: 1\na: 2\n", 2, "duplicate key: a"),
        ("a: 1\nb:\n\tc: 2\n", 3, "a tab"),
        ("a:\n  b: .inf\n", 2, "JSON does not have"),
        ("a: *b\n", 1, "anchor"),
        ("a: &a [*a]\n", 1, "an alias of what it stands in"),
        ("a: !!int x\n", 1, "is no !!int"),
        ("a: [\n", 1, "bracket"),
    ] {
        let (at, reason) = refused(text);
        assert_eq!(at, line, "{text}: {reason}");
        assert!(reason.contains(words), "{text}: {reason}");
    }
    let deep = format!("a: {}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
    assert!(
        refused(&deep).1.contains("nested too deeply"),
        "{:?}",
        refused(&deep)
    );
}

#[test]
fn aliases_cost_no_more_than_they_may() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d")] {
        let _ = writeln!(
            bomb,
            "{name}: &{name} [{}]",
            vec![format!("*{of}"); 10].join(", ")
        );
    }
    assert!(refused(&bomb).1.contains("aliases"));
    let none = Limits {
        values: 10,
        copies: 0,
    };
    let error = documents("a: &a 1\nb: *a\n", none).expect_err("an alias");
    assert_eq!(error.line, 1);
    assert!(error.reason.contains("an alias (*)"), "{error}");
    let error = documents("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", none).expect_err("too many");
    assert!(error.reason.contains("more values"), "{error}");
}
