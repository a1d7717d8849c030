//! `kubernaut lint`: what is wrong with workflows before any cluster sees them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::RunOptions;
use crate::rehearsal::input::{self, Checked, Problem, Rule, printable};
use crate::terminal::{Done, FAILED, RESULT_VERSION, Trouble, complain, print};

/// Check workflows without a cluster: their fields, their rules, and whether they can be planned
///
/// Every object is checked as the API server would check it, and every workflow as the controller plans it, with all that is
/// wrong told at once, each with its file and line. Flags of your controller that decide what it takes, such as
/// --apply-manifest-kinds, can be given here, too.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut lint deploy/samples\n\nExit codes: 0 nothing is wrong, 1 something is (with --strict: or there is a warning), 2 wrong arguments."
)]
pub(crate) struct LintOptions {
    /// Manifests, or folders of them; `-` reads standard input
    #[arg(required_unless_present = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A manifest, as kubectl takes it; can be given several times
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// What is printed: lines for a person, one JSON object, SARIF for code scanning, or annotations for GitHub Actions
    #[arg(long, short, value_enum, default_value_t = Form::Text)]
    output: Form,
    /// Warnings count as errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
    Sarif,
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Error,
    Warning,
}

/// Something that was found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    severity: Severity,
    rule: &'static str,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    message: String,
}

impl Finding {
    fn new(severity: Severity, problem: &Problem) -> Self {
        Self {
            severity,
            rule: id(problem.rule),
            file: problem.file.display().to_string(),
            line: problem.line,
            object: problem.object.clone(),
            field: problem.field.clone(),
            message: problem.reason.clone(),
        }
    }

    /// Object, field and message in one sentence.
    fn sentence(&self) -> String {
        let parts = [self.object.as_ref(), self.field.as_ref(), Some(&self.message)];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        printable(&parts.join(": "))
    }
}

/// The name of a rule, by which findings are told apart.
fn id(rule: Rule) -> &'static str {
    match rule {
        Rule::Syntax => "syntax",
        Rule::Schema => "schema",
        Rule::Planning => "planning",
        Rule::Duplicate => "duplicate",
        Rule::OpposedSteps => "opposed-steps",
        Rule::Unusual => "unusual",
        Rule::Unread => "unread",
    }
}

/// What each rule is about, for tools that show it beside a finding.
const RULES: [(Rule, &str); 7] = [
    (
        Rule::Syntax,
        "Files are YAML or JSON, and hold Kubernetes objects.",
    ),
    (
        Rule::Schema,
        "Objects have the fields and values that the API server takes.",
    ),
    (
        Rule::Planning,
        "Workflows and executions can be planned: steps, dependencies, actions and their parameters fit.",
    ),
    (Rule::Duplicate, "A workflow stands in the files once."),
    (
        Rule::OpposedSteps,
        "Steps that change the same thing wait for each other.",
    ),
    (
        Rule::Unusual,
        "Steps say nothing that the controller would have to guess at.",
    ),
    (Rule::Unread, "Annotations of kubernaut are those that it reads."),
];

pub(super) fn lint(options: &LintOptions) -> Done {
    let files = [options.files.as_slice(), &options.filename].concat();
    let checked = input::checked(&files, &options.run.settings())
        .map_err(|problems| Trouble::Input(problems.join("; ")))?;
    let findings = findings(&checked);
    let count = |severity| findings.iter().filter(|one| one.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match options.output {
        Form::Text => {
            print(&as_text(&findings))?;
            complain(&summary(&checked, errors, warnings));
        }
        Form::Json => print_value(&json!({
            "apiVersion": RESULT_VERSION, "kind": "LintResult",
            "errors": errors, "warnings": warnings, "findings": findings,
        }))?,
        Form::Sarif => print_value(&as_sarif(&findings))?,
        Form::Github => {
            print(&as_github(&findings))?;
            complain(&summary(&checked, errors, warnings));
        }
    }
    Ok(if errors > 0 || options.strict && warnings > 0 {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

fn findings(checked: &Checked) -> Vec<Finding> {
    let errors = checked
        .problems
        .iter()
        .map(|problem| Finding::new(Severity::Error, problem));
    let warnings = checked
        .warnings
        .iter()
        .map(|problem| Finding::new(Severity::Warning, problem));
    errors.chain(warnings).collect()
}

fn summary(checked: &Checked, errors: usize, warnings: usize) -> String {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let runs = checked
        .manifests
        .iter()
        .filter(|manifest| manifest.runs())
        .count();
    let looked_at = format!(
        "{} in {}",
        counted(runs, "workflow"),
        counted(checked.manifests.len(), "object")
    );
    if errors + warnings == 0 {
        return format!("{looked_at}: nothing is wrong.");
    }
    format!(
        "{looked_at}: {}, {}.",
        counted(errors, "error"),
        counted(warnings, "warning")
    )
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let line = finding.line.map(|line| format!(":{line}"));
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{}{}: {severity}[{}]: {}",
            printable(&finding.file),
            line.unwrap_or_default(),
            finding.rule,
            finding.sentence()
        );
    }
    text
}

/// Annotations in the form that GitHub Actions reads from a step's output.
fn as_github(findings: &[Finding]) -> String {
    let escaped = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escaped(text).replace(':', "%3A").replace(',', "%2C");
    let mut text = String::new();
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let line = finding.line.map(|line| format!(",line={line}"));
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "::{severity} file={}{},title=kubernaut {}::{}",
            property(&finding.file),
            line.unwrap_or_default(),
            finding.rule,
            escaped(&finding.sentence())
        );
    }
    text
}

/// A log of SARIF 2.1.0.
fn as_sarif(findings: &[Finding]) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|(rule, about)| json!({"id": id(*rule), "shortDescription": {"text": about}}))
        .collect();
    let result = |finding: &Finding| {
        let mut location = json!({"artifactLocation": {"uri": finding.file.replace('\\', "/")}});
        if let Some(line) = finding.line {
            location["region"] = json!({"startLine": line});
        }
        json!({
            "ruleId": finding.rule,
            "level": finding.severity,
            "message": {"text": finding.sentence()},
            "locations": [{"physicalLocation": location}],
        })
    };
    let results: Vec<Value> = findings.iter().map(result).collect();
    json!({
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{
            "tool": {"driver": {"name": "kubernaut lint", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "results": results,
        }],
    })
}

fn print_value(value: &Value) -> Result<(), Trouble> {
    let text = serde_json::to_string_pretty(value);
    print(&(text.unwrap_or_default() + "\n"))
}
