//! One version of the policies, compiled, and what it answers.

use std::error::Error;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use kubernaut_machines::policy::Verdict;
use regorus::utils::limits::{ExecutionTimerConfig, set_fallback_execution_timer_config};
use regorus::{Engine, LimitError, Value};
use sha2::{Digest, Sha256};

use super::PolicyError;
use super::files::PolicyFiles;
use super::ranges;
use super::recursion;
use super::stack::on_a_deep_stack;

/// The package whose rules are asked.
pub const PACKAGE: &str = "kubernaut.execution";
/// How long all rules together may take. A usual policy takes a thousandth of it.
pub const TIME_LIMIT: Duration = Duration::from_millis(50);
/// Steps of a policy between two looks at the clock: few, since a step may be a call that takes long.
const STEPS_BETWEEN_LOOKS: NonZeroU32 = NonZeroU32::new(8).unwrap();
/// A compilation that takes longer than this is given up by the engine where it evaluates anything.
const FALLBACK_LIMIT: Duration = Duration::from_secs(1);

/// The first part of the package's name.
const RESERVED: &str = "kubernaut";

/// The rules that are asked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Allow,
    Violations,
    RequireApproval,
    RequireDryRun,
    Warnings,
}

impl Rule {
    const ALL: [Rule; 5] = [
        Rule::Allow,
        Rule::Violations,
        Rule::RequireApproval,
        Rule::RequireDryRun,
        Rule::Warnings,
    ];

    fn name(self) -> &'static str {
        match self {
            Rule::Allow => "allow",
            Rule::Violations => "violations",
            Rule::RequireApproval => "require_approval",
            Rule::RequireDryRun => "require_dry_run",
            Rule::Warnings => "warnings",
        }
    }
}

/// One version of the policies, ready to be asked.
pub struct PolicySet {
    /// Cloned for each question: what was compiled is shared.
    engine: Engine,
    name: String,
    /// The rules that are declared, each with the files that declare it.
    rules: Vec<(Rule, String)>,
}

impl PolicySet {
    /// Compiles the policies of a directory.
    ///
    /// # Errors
    /// When it can't be read, when a file is wrong, and when no file declares what is asked.
    pub fn load(directory: &Path) -> Result<Self, PolicyError> {
        Self::compile(&PolicyFiles::read(directory)?, directory)
    }

    pub(super) fn compile(files: &PolicyFiles, directory: &Path) -> Result<Self, PolicyError> {
        on_a_deep_stack(|| Self::compile_here(files, directory))
            .unwrap_or_else(|unworked| Err(PolicyError::Rego(unworked.words())))
    }

    fn compile_here(files: &PolicyFiles, directory: &Path) -> Result<Self, PolicyError> {
        set_fallback_execution_timer_config(Some(limit(FALLBACK_LIMIT)));
        let mut engine = Engine::new();
        // What a policy prints would stand between the lines of the log.
        engine.set_gather_prints(true);
        ranges::bound(&mut engine).map_err(PolicyError::Rego)?;
        let mut ours = Vec::new();
        for (name, text) in &files.rego {
            let package = engine
                .add_policy(name.clone(), text.clone())
                .map_err(|error| PolicyError::Rego(format!("{error:#}")))?;
            if package.strip_prefix("data.") == Some(PACKAGE) {
                ours.push(name.as_str());
            }
        }
        for (name, text) in &files.data {
            let wrong = |problem: String| PolicyError::Data {
                file: name.clone(),
                problem,
            };
            let data = data(name, text).map_err(wrong)?;
            engine
                .add_data(data)
                .map_err(|error| wrong(format!("{error:#}")))?;
        }
        let ast = engine.get_ast_as_json();
        let ast = ast.map_err(|error| PolicyError::Rego(format!("{error:#}")))?;
        let ast = serde_json::from_str(&ast).map_err(|error| PolicyError::Rego(error.to_string()))?;
        if let Some(circle) = recursion::circle(&ast) {
            return Err(PolicyError::Rego(circle));
        }
        let mut rules = Vec::new();
        for rule in Rule::ALL {
            let mut declaring = Vec::new();
            for file in &ours {
                let declares = engine.has_declared_rule_rooted_at(file, rule.name());
                if declares.map_err(|error| PolicyError::Rego(format!("{file}: {error:#}")))? {
                    declaring.push(*file);
                }
            }
            if !declaring.is_empty() {
                rules.push((rule, declaring.join(", ")));
            }
        }
        if rules.first().is_none_or(|(rule, _)| *rule != Rule::Allow) {
            return Err(PolicyError::NoRule {
                path: directory.display().to_string(),
                package: PACKAGE,
            });
        }
        // What is wrong between the files shows only here: a function that nobody declares, a name that nothing binds.
        engine
            .compile_with_entrypoint(&path(Rule::Allow).into())
            .map_err(|error| PolicyError::Rego(format!("{error:#}")))?;
        Ok(Self {
            engine,
            name: format!("{PACKAGE}@{}", version(files)),
            rules,
        })
    }

    /// The package with the version of its files: `kubernaut.execution@1f2e3d4c`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks all rules about an input. Takes [`TIME_LIMIT`] where no single call of a built-in function takes longer.
    pub fn judge(&self, input: &serde_json::Value) -> Verdict {
        let verdict = on_a_deep_stack(|| self.judge_within(TIME_LIMIT, input))
            .unwrap_or_else(|unworked| Verdict::denied(&self.name, unworked.words()));
        verdict.bounded()
    }

    fn judge_within(&self, time: Duration, input: &serde_json::Value) -> Verdict {
        let begun = Instant::now();
        let mut engine = self.engine.clone();
        engine.set_input(Value::from(input.clone()));
        let mut verdict = Verdict {
            policy: self.name.clone(),
            ..Verdict::default()
        };
        for (rule, files) in &self.rules {
            let told = |problem: String| format!("its rule {} ({files}) {problem}", rule.name());
            let left = time.saturating_sub(begun.elapsed());
            engine.set_execution_timer_config(limit(left));
            let answer = engine.eval_rule(path(*rule));
            // A built-in function that takes long is not interrupted.
            if begun.elapsed() > time {
                return Verdict::denied(&self.name, told(too_long(time)));
            }
            let problem = match answer {
                Ok(answer) => take(*rule, &answer, &mut verdict),
                Err(error) if is_timeout(error.as_ref()) => Some(too_long(time)),
                Err(error) => Some(format!("failed: {}", one_line(&format!("{error:#}")))),
            };
            if let (None, Some(problem)) = (&verdict.denied, problem) {
                verdict.denied = Some(told(problem));
            }
        }
        verdict
    }
}

fn limit(limit: Duration) -> ExecutionTimerConfig {
    ExecutionTimerConfig {
        limit,
        check_interval: STEPS_BETWEEN_LOOKS,
    }
}

fn too_long(time: Duration) -> String {
    format!("took longer than the {} ms that a policy has", time.as_millis())
}

fn path(rule: Rule) -> String {
    format!("data.{PACKAGE}.{}", rule.name())
}

/// Takes an answer into the verdict; says what is wrong with it.
fn take(rule: Rule, answer: &Value, verdict: &mut Verdict) -> Option<String> {
    match rule {
        Rule::Allow if *answer == Value::Undefined => Some("is undefined".to_owned()),
        Rule::Allow => {
            let mut allowed = false;
            let wrong = flag(answer, &mut allowed);
            wrong.or_else(|| (!allowed).then(|| "is false".to_owned()))
        }
        Rule::RequireApproval => flag(answer, &mut verdict.requires_approval),
        Rule::RequireDryRun => flag(answer, &mut verdict.requires_dry_run),
        Rule::Violations => {
            let wrong = sentences(answer, &mut verdict.violations);
            // A policy that allows what it calls a violation contradicts itself.
            let found = (!verdict.violations.is_empty()).then(|| "is not empty".to_owned());
            wrong.or(found)
        }
        Rule::Warnings => sentences(answer, &mut verdict.warnings),
    }
}

/// Takes a boolean; a rule that is undefined leaves the flag as it is.
fn flag(answer: &Value, flag: &mut bool) -> Option<String> {
    match (answer.as_bool(), *answer == Value::Undefined) {
        (Ok(value), _) => *flag = *value,
        (Err(_), true) => {}
        (Err(_), false) => return Some(format!("is no boolean but {}", kind(answer))),
    }
    None
}

/// Takes the texts of a set or an array; of a rule that is undefined none.
fn sentences(answer: &Value, sentences: &mut Vec<String>) -> Option<String> {
    let found: Vec<&Value> = match (answer.as_set(), answer.as_array()) {
        (Ok(set), _) => set.iter().collect(),
        (_, Ok(array)) => array.iter().collect(),
        _ if *answer == Value::Undefined => Vec::new(),
        _ => return Some(format!("is no set of strings but {}", kind(answer))),
    };
    for value in found {
        let Ok(text) = value.as_string() else {
            return Some(format!(
                "is a set with {} in it, where only strings may be",
                kind(value)
            ));
        };
        sentences.push(text.to_string());
    }
    None
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Set(_) => "a set",
        Value::Object(_) => "an object",
        Value::Undefined => "undefined",
    }
}

fn is_timeout(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(LimitError::TimeLimitExceeded { .. }) = error.downcast_ref() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The engine draws the line of the file below its place. In one line: the place, and what is wrong there.
pub(super) fn one_line(error: &str) -> String {
    let lines = error.lines().map(str::trim);
    let place = lines.clone().find_map(|line| line.strip_prefix("--> "));
    let problem = lines.clone().rev().find_map(|line| line.strip_prefix("error: "));
    match (place, problem) {
        (Some(place), Some(problem)) => format!("{place}: {problem}"),
        _ => lines
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// What stands in a file of data: an object, which becomes a part of Rego's `data`.
fn data(name: &str, text: &str) -> Result<Value, String> {
    let is_json = Path::new(name).extension().is_some_and(|end| end == "json");
    let parsed: serde_json::Value = if is_json {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?
    };
    let Some(members) = parsed.as_object() else {
        return Err("holds no object: only its members can be named in policies, as data.MEMBER".to_owned());
    };
    if members.contains_key(RESERVED) {
        return Err(format!(
            "has the member {RESERVED:?}, which is the name of the package that is asked: data decides nothing"
        ));
    }
    Ok(Value::from(parsed))
}

/// Eight hexadecimal digits of what the files hold.
pub(super) fn version(files: &PolicyFiles) -> String {
    let mut hash = Sha256::new();
    for (name, text) in files.rego.iter().chain(&files.data) {
        for part in [name, text] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize()[..4].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
