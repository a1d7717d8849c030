//! `kubernaut policy` as whoever writes policies meets it, and the sample of deploy/policy.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rehearse::{program, text};

const SAMPLE: &str = "deploy/policy";

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// Exit code, standard output and standard error, without the directory's own name.
fn policy(directory: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let path = directory.path().to_str().unwrap();
    let mut all = arguments.to_vec();
    all.push(path);
    let output = program("policy", &all, "");
    let plain = |bytes: &[u8]| text(bytes).replace(path, "DIR");
    (
        output.status.code().unwrap(),
        plain(&output.stdout),
        plain(&output.stderr),
    )
}

#[test]
fn the_sample_answers_its_recorded_inputs_as_expected() {
    let output = program("policy", &["test", SAMPLE], "");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = said.lines().map(words).collect();
    for line in [
        "ok half-goes allowed",
        "ok more-than-half-stays denied",
        "ok production-needs-approval allowed, with an approval",
        "ok rollback-is-exempt allowed",
        "ok second-drain-waits denied",
    ] {
        assert!(
            lines.iter().any(|found| found == line),
            "{line:?} is not in\n{said}"
        );
    }
    assert!(
        said.contains("\n8 of 8 as expected, by kubernaut.execution@"),
        "{said}"
    );
    // Each rule has an input on which it says something.
    let output = program("policy", &["test", SAMPLE, "--output=json"], "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdicts: Vec<&Value> = report["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| &case["verdict"])
        .collect();
    for rule in ["violations", "warnings"] {
        assert!(
            verdicts.iter().any(|verdict| verdict[rule] != json!([])),
            "{rule}"
        );
    }
    assert!(verdicts.iter().any(|verdict| verdict["require_approval"] == true));
}

#[test]
fn an_answer_that_is_not_as_expected_is_shown_and_is_exit_code_1() {
    let directory = directory(&[
        (
            "a.rego",
            "package kubernaut.execution\nallow := input.ok\nviolations contains \"bad\" if not input.ok",
        ),
        ("good.input.json", r#"{"ok": true}"#),
        ("good.expected.json", r#"{"allow": true}"#),
        ("wrong.input.json", r#"{"ok": false}"#),
        ("wrong.expected.json", r#"{"allow": true, "violations": []}"#),
    ]);
    let (code, said, errors) = policy(&directory, &["test"]);
    assert_eq!((code, errors.as_str()), (1, ""));
    let wrong = "FAIL  wrong  denied\n      allow is false, expected true\n      violations are [\"bad\"], expected []\n      \
                 its rule allow (a.rego) is false\n1 of 2 as expected";
    assert!(
        said.starts_with("ok    good   allowed\n") && said.contains(wrong),
        "{said}"
    );
    let (code, said, _) = policy(&directory, &["test", "--output=json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &report["passed"], &report["failed"]),
        (1, &json!(1), &json!(1))
    );
    assert_eq!(report["cases"][1]["verdict"]["violations"], json!(["bad"]));
}

#[test]
fn what_can_not_be_read_is_told_with_its_file_and_is_exit_code_2() {
    const RULE: (&str, &str) = ("a.rego", "package kubernaut.execution\nallow := true");
    for (files, words) in [
        (
            vec![("a.rego", "package kubernaut.execution\nallow if {\n")],
            "--> a.rego:3:",
        ),
        (vec![], "DIR has no file NAME.rego that declares the rule allow"),
        (vec![RULE], "DIR has no file NAME.input.json"),
        (
            vec![RULE, ("x.input.json", "{}")],
            "x.input.json: there is no x.expected.json beside it",
        ),
        (
            vec![RULE, ("x.expected.json", "{}")],
            "x.expected.json: there is no x.input.json beside it",
        ),
        (
            vec![RULE, ("x.input.json", "{}"), ("x.expected.json", "{}")],
            "x.expected.json: expects nothing",
        ),
        (
            vec![
                RULE,
                ("x.input.json", "{"),
                ("x.expected.json", r#"{"allow": true}"#),
            ],
            "x.input.json: EOF",
        ),
        (
            vec![
                RULE,
                ("x.input.json", "{}"),
                ("x.expected.json", r#"{"alow": true}"#),
            ],
            "x.expected.json: unknown field `alow`",
        ),
    ] {
        let directory = directory(&files);
        let (code, said, errors) = policy(&directory, &["test"]);
        assert_eq!((code, said.as_str()), (2, ""), "{files:?}: {errors}");
        assert!(
            errors.starts_with("error: ") && errors.contains(words),
            "{words:?} is not in {errors}"
        );
    }
}

#[test]
fn one_input_is_asked_about_by_hand() {
    let directory = directory(&[
        (
            "a.rego",
            "package kubernaut.execution\nallow := input.ok\nviolations contains \"bad\" if not input.ok\nwarnings contains \"mind\"",
        ),
        ("good.json", r#"{"ok": true}"#),
    ]);
    let good = format!("--input={}", directory.path().join("good.json").display());
    // Data of the policy, too, since it stands beside it.
    let (code, said, _) = policy(&directory, &["eval", &good]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("allowed, by kubernaut.execution@") && said.ends_with("warning: mind\n"),
        "{said}"
    );
    let other = TempDir::new().unwrap();
    let bad = other.path().join("bad.json");
    fs::write(&bad, "{\"ok\": false}").unwrap();
    let bad = format!("--input={}", bad.display());
    let (code, said, _) = policy(&directory, &["eval", &bad]);
    assert_eq!(code, 1);
    assert!(
        said.contains("its rule allow (a.rego) is false\nviolation: bad\n"),
        "{said}"
    );
    let (code, said, _) = policy(&directory, &["eval", &bad, "--output=json"]);
    let verdict: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &verdict["allow"], &verdict["violations"]),
        (1, &json!(false), &json!(["bad"]))
    );
    assert_eq!(policy(&directory, &["eval", "--input=/nowhere"]).0, 2);
}
