//! Words for people: descriptions that are read alone, what each file says of itself, and names and links in the docs.

use std::path::{Path, PathBuf};

use kubernaut_machines::actions::ActionKind;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below these folders that ends so, with its text.
fn files(folders: &[&str], end: &str) -> Vec<(PathBuf, String)> {
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.to_string_lossy().ends_with(end) {
            let text = std::fs::read_to_string(&path).expect("text");
            found.push((path, text));
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    files(&["src", "actors", "crds", "tests", "benches"], ".rs")
}

/// Why a description does not help who reads it alone, as `kubectl explain` shows it.
fn fault(description: &str) -> Option<&'static str> {
    if description.split_whitespace().count() < 4 {
        return Some("has fewer than four words");
    }
    if !description.ends_with('.') {
        return Some("does not end as a sentence");
    }
    let first = description.chars().next()?;
    if !first.is_uppercase() && first != '`' && !description.starts_with("kubectl") {
        return Some("does not begin as a sentence");
    }
    None
}

fn faults_in(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match field["description"].as_str() {
            Some(description) => {
                let fault = fault(description);
                found.extend(fault.map(|fault| format!("{path}: {description:?} {fault}")));
            }
            None => found.push(format!("{path}: has no description")),
        }
        faults_in(field, &path, found);
        faults_in(&field["items"], &path, found);
    }
}

#[test]
fn each_field_of_our_kinds_is_explained_in_a_sentence_that_stands_alone() {
    let mut found = Vec::new();
    for crd in kubernaut_crds::crds() {
        let crd = serde_json::to_value(crd).expect("JSON");
        let kind = crd["spec"]["names"]["kind"].as_str().expect("a kind");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            // An Approval has no status.
            faults_in(&schema["properties"][part], &format!("{kind}.{part}"), &mut found);
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(fault("It can be."), Some("has fewer than four words"));
}

#[test]
fn each_file_says_what_it_is_and_no_comment_needs_the_line_above() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") {
            found.push(format!("{} does not begin with //!", path.display()));
        }
        let needy = text.lines().enumerate().filter(|(_, line)| {
            let line = line.trim_start();
            line.starts_with("/// The same") || line.starts_with("//! The same")
        });
        found.extend(needy.map(|(number, line)| format!("{}:{}: {line}", path.display(), number + 1)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A name of something that is only a function word makes its reader look for what it means.
#[test]
fn nothing_is_called_by_a_function_word() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if path.ends_with("tests/house/words.rs") {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            let is_named = ["of", "is", "so"].iter().any(|word| {
                let names = [
                    format!("let {word} "),
                    format!("let mut {word} "),
                    format!("let {word}:"),
                    format!("({word}: "),
                    format!(", {word}: "),
                    format!("|{word}: "),
                    format!("|{word}|"),
                ];
                names.iter().any(|name| code.contains(name.as_str()))
            });
            if is_named && !code.contains('"') {
                found.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn docs() -> Vec<(PathBuf, String)> {
    files(&["README.md", "CONTRIBUTING.md", "docs"], ".md")
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A function of that name in a file of its module's name; or an area of the conformance suite, whose tests a macro makes.
fn is_a_test(quote: &str, sources: &[(PathBuf, String)]) -> bool {
    let (module, name) = quote.rsplit_once("::").unwrap_or_default();
    let module = module.rsplit("::").next().unwrap_or_default();
    if module == "both_clusters_answer_the_same_about" {
        let cases = root().join("tests/conformance/cases");
        return cases.join(name).exists() || cases.join(format!("{name}.rs")).exists();
    }
    let function = format!("fn {name}(");
    sources.iter().any(|(path, text)| {
        let is_in = module == "tests" || path.components().any(|part| part.as_os_str() == module);
        let is_it = path.file_stem().is_some_and(|stem| stem == module);
        (is_in || is_it) && text.contains(&function)
    })
}

#[test]
fn each_test_that_the_docs_name_is_one() {
    let sources = sources();
    let mut named = 0;
    let mut found = Vec::new();
    for (path, text) in docs() {
        let is_path = |quote: &&str| {
            quote.contains("::")
                && quote
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c))
        };
        for quote in quoted(&text).filter(is_path) {
            if is_a_test(quote, &sources) {
                named += 1;
            } else {
                found.push(format!("{}: there is no test {quote}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(named > 100, "{named} tests are named");
    assert!(!is_a_test("words::web", &sources));
    assert!(!is_a_test(
        "arrows::each_link_of_the_docs_leads_somewhere",
        &sources
    ));
}

#[test]
fn each_link_of_the_docs_leads_somewhere() {
    let mut links = 0;
    for (path, text) in docs() {
        let folder = path.parent().expect("a folder");
        for rest in text.split("](").skip(1) {
            let link = rest.split([')', '#']).next().unwrap_or_default();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            links += 1;
            assert!(
                folder.join(link).exists(),
                "{}: {link} is not there",
                path.display()
            );
        }
    }
    assert!(links > 10, "{links} links");
}

#[test]
fn the_table_of_actions_has_the_names_and_accounts_of_the_code() {
    let text = std::fs::read_to_string(root().join("docs/actions.md")).expect("text");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("-sa |"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let mut named = Vec::new();
    for row in &rows {
        let names: Vec<&str> = row[1].split(", ").collect();
        let kind = ActionKind::ALL
            .into_iter()
            .find(|kind| kind.spellings().any(|name| name == names[0]))
            .unwrap_or_else(|| panic!("{} is no action", names[0]));
        assert_eq!(row[2], kind.service_account(), "{}", names[0]);
        named.extend(names);
    }
    let mut known: Vec<&str> = ActionKind::ALL
        .into_iter()
        .flat_map(ActionKind::spellings)
        .collect();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known);
}

/// Tests of a tier share a cluster: a namespace that two of them make is one that the second can't.
#[test]
fn each_namespace_of_a_test_is_its_own() {
    for tier in ["tests/control_plane", "tests/node"] {
        let mut seen = std::collections::BTreeMap::new();
        for (path, text) in files(&[tier], ".rs") {
            let constant = text
                .split_once("const NAMESPACE: &str = \"")
                .and_then(|(_, rest)| rest.split('"').next());
            for call in text.split("Scene::").skip(1) {
                let Some((_, arguments)) = call.split_once("bed().await, ") else {
                    continue;
                };
                let argument = arguments.split([')', ',']).next().unwrap_or_default();
                let namespace = match argument.strip_prefix('"') {
                    Some(literal) => literal.trim_end_matches('"'),
                    None => match constant.filter(|_| argument == "NAMESPACE") {
                        Some(constant) => constant,
                        None => continue,
                    },
                };
                if let Some(other) = seen.insert(namespace.to_owned(), path.clone()) {
                    panic!(
                        "{namespace} is made in {} and in {}",
                        other.display(),
                        path.display()
                    );
                }
            }
        }
        assert!(seen.len() > 5, "{tier}: {seen:?}");
    }
}
