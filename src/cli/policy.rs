//! `kubernaut policy`: tries policies on recorded inputs before a controller asks them.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use kubernaut_machines::policy::Verdict;
use serde_json::{Value, json};

use super::complain;
use crate::policy::{PolicyError, PolicySet, cases, recorded_input};

/// The exit code for what can't be read.
const BAD_INPUT: u8 = 2;

#[derive(Subcommand, Debug)]
pub(super) enum PolicyCommand {
    /// Ask the policies of a directory about the inputs recorded beside them
    ///
    /// Each NAME.input.json is asked about, and the answer compared with NAME.expected.json, which names what matters of allow,
    /// violations, warnings, require_approval and require_dry_run.
    #[command(
        after_help = "Try it: kubernaut policy test deploy/policy\n\nExit codes: 0 every answer is as expected, 1 one is not, 2 policies or inputs can't be read, or there is no input."
    )]
    Test(TestOptions),
    /// Ask the policies of a directory about one input
    #[command(
        after_help = "Try it: kubernaut policy eval --input=deploy/policy/half-goes.input.json deploy/policy\n\nExit codes: 0 it is allowed, 1 it is denied, 2 policies or input can't be read."
    )]
    Eval(EvalOptions),
}

#[derive(Args, Debug)]
pub(super) struct TestOptions {
    /// Directory of the policies
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Directory of the inputs, where they do not stand beside the policies
    #[arg(long, value_name = "DIR")]
    inputs: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Args, Debug)]
pub(super) struct EvalOptions {
    /// Directory of the policies
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// File with the input, as JSON
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    form: Form,
}

#[derive(Args, Debug)]
struct Form {
    /// What is printed: a table for people, or JSON for programs
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// A case and what came of it.
struct Tried {
    name: String,
    verdict: Verdict,
    misses: Vec<String>,
}

/// Runs the command; the exit code is its answer.
pub(super) fn execute(command: &PolicyCommand) -> ExitCode {
    let done = match command {
        PolicyCommand::Test(options) => test(options),
        PolicyCommand::Eval(options) => eval(options),
    };
    match done {
        Ok((yes, text)) => {
            let printed = io::stdout().write_all(text.as_bytes());
            match printed
                .err()
                .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
            {
                None if yes => ExitCode::SUCCESS,
                None => ExitCode::FAILURE,
                Some(error) => {
                    complain(&error);
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn test(options: &TestOptions) -> Result<(bool, String), PolicyError> {
    let policy = PolicySet::load(&options.directory)?;
    let inputs = options.inputs.as_deref().unwrap_or(&options.directory);
    let cases = cases(inputs)?;
    if cases.is_empty() {
        return Err(PolicyError::NoInput {
            path: inputs.display().to_string(),
        });
    }
    let tried: Vec<Tried> = cases
        .into_iter()
        .map(|case| {
            let verdict = policy.judge(&case.input);
            Tried {
                misses: case.expected.misses(&verdict),
                name: case.name,
                verdict,
            }
        })
        .collect();
    let failed = tried.iter().filter(|tried| !tried.misses.is_empty()).count();
    let text = match options.form.output {
        Output::Text => table(&policy, &tried, failed),
        Output::Json => json_text(&json!({
            "policy": policy.name(),
            "passed": tried.len() - failed,
            "failed": failed,
            "cases": tried.iter().map(|tried| json!({
                "name": tried.name,
                "passed": tried.misses.is_empty(),
                "misses": tried.misses,
                "verdict": as_json(&tried.verdict),
            })).collect::<Vec<_>>(),
        })),
    };
    Ok((failed == 0, text))
}

fn eval(options: &EvalOptions) -> Result<(bool, String), PolicyError> {
    let policy = PolicySet::load(&options.directory)?;
    let verdict = policy.judge(&recorded_input(Path::new(&options.input))?);
    let text = match options.form.output {
        Output::Text => told(&verdict),
        Output::Json => json_text(&as_json(&verdict)),
    };
    Ok((verdict.is_allowed(), text))
}

/// One line a case, and below it what is not as expected.
fn table(policy: &PolicySet, tried: &[Tried], failed: usize) -> String {
    let width = tried
        .iter()
        .map(|tried| tried.name.len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for Tried {
        name,
        verdict,
        misses,
    } in tried
    {
        let word = if misses.is_empty() { "ok  " } else { "FAIL" };
        let _ = writeln!(text, "{word}  {name:<width$}  {}", answer(verdict));
        for miss in misses {
            let _ = writeln!(text, "      {miss}");
        }
    }
    let all = tried.len();
    let passed = all - failed;
    let _ = writeln!(text, "{passed} of {all} as expected, by {}", policy.name());
    text
}

fn answer(verdict: &Verdict) -> String {
    if !verdict.is_allowed() {
        return "denied".to_owned();
    }
    let mut words = vec!["allowed"];
    if verdict.requires_approval {
        words.push("with an approval");
    }
    if verdict.requires_dry_run {
        words.push("after a dry run");
    }
    words.join(", ")
}

fn told(verdict: &Verdict) -> String {
    let mut text = format!("{}, by {}\n", answer(verdict), verdict.policy);
    if let Some(why) = &verdict.denied {
        let _ = writeln!(text, "{why}");
    }
    for (word, sentences) in [("violation", &verdict.violations), ("warning", &verdict.warnings)] {
        for sentence in sentences {
            let _ = writeln!(text, "{word}: {sentence}");
        }
    }
    text
}

fn as_json(verdict: &Verdict) -> Value {
    json!({
        "policy": verdict.policy,
        "allow": verdict.is_allowed(),
        "denied": verdict.denied,
        "violations": verdict.violations,
        "warnings": verdict.warnings,
        "require_approval": verdict.requires_approval,
        "require_dry_run": verdict.requires_dry_run,
    })
}

fn json_text(value: &Value) -> String {
    format!("{value:#}\n")
}
