//! Functions that call themselves, by whatever way: Rego does not allow them, and the engine, which does not look, would call until
//! its stack ends, and with it the process.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What a function calls, by whole names such as `data.kubernaut.execution.f`, and where it is declared.
#[derive(Default)]
struct Declared {
    calls: BTreeSet<String>,
    /// File and line.
    place: String,
}

type Functions = BTreeMap<String, Declared>;

/// The first circle of functions, in a sentence; `None` where there is none. `ast` is what the engine says of its policies.
pub(super) fn circle(ast: &Value) -> Option<String> {
    let mut functions = Functions::new();
    for module in list(ast) {
        note_functions(module, &mut functions);
    }
    let mut done = BTreeSet::new();
    let mut names = functions.keys();
    names.find_map(|function| walk(function, &functions, &mut Vec::new(), &mut done))
}

fn note_functions(module: &Value, functions: &mut Functions) {
    let tree = &module["ast"];
    let package = format!("data.{}", path(&tree["package"]["refr"]).unwrap_or_default());
    let file = module["source"]["file"].as_str().unwrap_or_default();
    let imports = imports(module);
    for rule in list(&tree["rules"]) {
        let (head, default) = (&rule["Spec"]["head"]["Func"], &rule["Default"]);
        let name = match (head.is_object(), list(&default["args"])) {
            (true, _) => path(&head["refr"]),
            (false, []) => None,
            (false, _) => path(&default["refr"]),
        };
        let Some(name) = name else { continue };
        let declared = functions.entry(format!("{package}.{name}")).or_default();
        if declared.place.is_empty() {
            declared.place = format!("{file}:{}", line(rule));
        }
        let mut calls = BTreeSet::new();
        note_calls(rule, &mut calls);
        let whole = calls.iter().map(|call| whole_name(call, &package, &imports));
        declared.calls.extend(whole);
    }
}

/// What a module calls other packages, or parts of them.
fn imports(module: &Value) -> BTreeMap<String, String> {
    let text = module["source"]["contents"].as_str().unwrap_or_default();
    let alias = |import: &Value, path: &str| {
        let at = |end: &str| import["as"][end].as_u64().and_then(|at| usize::try_from(at).ok());
        match (at("start"), at("end")) {
            (Some(start), Some(end)) => text.get(start..end).map(str::to_owned),
            _ => path.rsplit('.').next().map(str::to_owned),
        }
    };
    let imports = list(&module["ast"]["imports"]).iter();
    imports
        .filter_map(|import| {
            let path = path(&import["refr"])?;
            Some((alias(import, &path)?, path))
        })
        .collect()
}

fn whole_name(call: &str, package: &str, imports: &BTreeMap<String, String>) -> String {
    let (first, rest) = call.split_once('.').unwrap_or((call, ""));
    let rest = if rest.is_empty() {
        String::new()
    } else {
        format!(".{rest}")
    };
    match imports.get(first) {
        Some(path) => format!("{path}{rest}"),
        None if first == "data" => call.to_owned(),
        None => format!("{package}.{call}"),
    }
}

/// Goes on from a function; the circle that closes on the way.
fn walk<'a>(
    from: &'a str,
    functions: &'a Functions,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<String> {
    if let Some(begin) = way.iter().position(|earlier| *earlier == from) {
        let names: Vec<&str> = way[begin..].iter().copied().chain([from]).collect();
        let place = functions.get(from).map_or("", |declared| declared.place.as_str());
        return Some(format!(
            "{place}: a function calls itself: {}",
            names.join(" -> ")
        ));
    }
    let declared = functions.get(from).filter(|_| !done.contains(from))?;
    way.push(from);
    let mut calls = declared.calls.iter();
    let circle = calls.find_map(|call| walk(call, functions, way, done));
    way.pop();
    done.insert(from);
    circle
}

/// Names of all that is called within.
fn note_calls(tree: &Value, calls: &mut BTreeSet<String>) {
    match tree {
        Value::Object(members) => {
            if let Some(call) = members.get("Call").and_then(|call| path(&call["fcn"])) {
                calls.insert(call);
            }
            members.values().for_each(|member| note_calls(member, calls));
        }
        Value::Array(items) => items.iter().for_each(|item| note_calls(item, calls)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `a.b.c` of a reference; `None` where it is no plain one.
fn path(refr: &Value) -> Option<String> {
    if let Some(name) = refr["Var"]["value"].as_str() {
        return Some(name.to_owned());
    }
    if let Some(before) = refr.get("RefDot") {
        let field = before["field"][1].as_str()?;
        return Some(format!("{}.{field}", path(&before["refr"])?));
    }
    let before = refr.get("RefBrack")?;
    let index = before["index"]["String"]["value"].as_str()?;
    Some(format!("{}.{index}", path(&before["refr"])?))
}

fn line(rule: &Value) -> u64 {
    let mut members = rule.as_object().into_iter().flatten();
    members
        .find_map(|(_, rule)| rule["span"]["line"].as_u64())
        .unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
