//! `kubernaut graph`: the steps of a workflow and what each waits for, as a picture.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kubernaut_crds::{StepState, WorkflowExecution};
use kubernaut_machines::Settings;
use layout::backends::svg::SVGWriter;
use layout::gv::{DotParser, GraphBuilder};

use super::connection::{ConnectArguments, Connection};
use super::get::executions;
use super::result::{StepResult, WorkflowResult, word};
use super::tree::tree;
use crate::rehearsal::input::{self, Manifest};
use crate::terminal::{BAD_INPUT, Done, Trouble, complain, in_a_line, print};

/// Draw the steps of a workflow, and what each waits for
///
/// Of a file, or, with where each step stands, of a workflow in a cluster.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut graph deploy/samples/node-maintenance.yaml -o mermaid\n\nExit codes: 0 it is drawn, 1 the cluster could not be asked, 2 there is no such workflow or file, or something is wrong with it."
)]
pub(crate) struct GraphOptions {
    /// A file, `-` for standard input, or the name of a workflow in the cluster
    #[arg(value_name = "FILE|NAME")]
    of: String,
    /// What is printed: a tree, or the text that Mermaid or Graphviz draws, or a picture
    #[arg(long, short, value_enum, default_value_t = Form::Text)]
    output: Form,
    #[command(flatten)]
    connect: ConnectArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Mermaid,
    Dot,
    Svg,
}

pub(super) async fn graph(options: &GraphOptions) -> Done {
    let path = Path::new(&options.of);
    let is_file = options.of == "-" || path.exists() || options.of.contains(['/', '.']);
    let results = if is_file {
        match of_file(path)? {
            Some(results) => results,
            None => return Ok(ExitCode::from(BAD_INPUT)),
        }
    } else {
        let connection = Connection::open(&options.connect).await?;
        let workflow = connection.workflow(&options.of).await?;
        let executions = executions(&connection, &workflow).await?;
        vec![WorkflowResult::new(&workflow, &executions)]
    };
    for result in &results {
        let text = match options.output {
            Form::Text => tree(&result.steps, Timestamp::now()),
            Form::Mermaid => mermaid(result),
            Form::Dot => dot(result),
            Form::Svg => svg(result)?,
        };
        print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The workflows of a file; none where something is wrong with it, which was told.
fn of_file(path: &Path) -> Result<Option<Vec<WorkflowResult>>, Trouble> {
    let settings = Settings::default().without_limits();
    let files: Vec<PathBuf> = vec![path.to_owned()];
    let checked =
        input::checked(&files, &settings).map_err(|problems| Trouble::Input(problems.join("; ")))?;
    for problem in &checked.problems {
        complain(&format!("error: {problem}"));
    }
    if !checked.problems.is_empty() {
        return Ok(None);
    }
    let workflows: Vec<WorkflowExecution> = checked.manifests.iter().filter_map(Manifest::workflow).collect();
    if workflows.is_empty() {
        return Err(Trouble::Input(format!("{} holds no workflow", path.display())));
    }
    let results = workflows
        .iter()
        .map(|workflow| WorkflowResult::new(workflow, &[]));
    Ok(Some(results.collect()))
}

/// The colours of a step by where it stands: of its area, and of its edge.
fn colours(status: StepState) -> (&'static str, &'static str) {
    match status {
        StepState::Pending => ("#ffffff", "#5f6b7a"),
        StepState::Executing => ("#dcebff", "#1f5fbf"),
        StepState::Completed => ("#dcf5e3", "#1a7f37"),
        StepState::Failed => ("#ffe0de", "#c62828"),
        StepState::Skipped => ("#eeeeee", "#8a8a8a"),
        StepState::RolledBack => ("#fff1d6", "#9a6700"),
    }
}

/// What stands in the box of a step, line by line.
fn lines(step: &StepResult) -> Vec<String> {
    let mut lines = vec![
        format!("{} {}", step.number, in_a_line(&step.name)),
        in_a_line(&step.action),
    ];
    lines.extend(step.target.as_deref().map(in_a_line));
    if step.status != StepState::Pending {
        lines.push(word(step.status));
    }
    lines
}

fn mermaid(result: &WorkflowResult) -> String {
    // Of what Mermaid reads as its own within quotes there is the quote, and entities.
    let escaped = |line: &String| {
        line.replace('&', "&amp;")
            .replace('"', "&quot;")
            .replace('<', "&lt;")
    };
    let mut text = "flowchart TD\n".to_owned();
    for step in &result.steps {
        let label: Vec<String> = lines(step).iter().map(escaped).collect();
        let (fill, stroke) = colours(step.status);
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "  s{0}[\"{1}\"]\n  style s{0} fill:{fill},stroke:{stroke},color:#000000",
            step.number,
            label.join("<br/>")
        );
    }
    for step in &result.steps {
        for before in &step.depends_on {
            let _ = writeln!(text, "  s{before} --> s{}", step.number);
        }
    }
    text
}

fn dot(result: &WorkflowResult) -> String {
    let escaped = |line: &String| line.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = "digraph workflow {\n".to_owned();
    for step in &result.steps {
        let label: Vec<String> = lines(step).iter().map(escaped).collect();
        let (fill, stroke) = colours(step.status);
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "  s{} [label=\"{}\", shape=box, style=filled, fillcolor=\"{fill}\", color=\"{stroke}\"];",
            step.number,
            label.join("\\n")
        );
    }
    for step in &result.steps {
        for before in &step.depends_on {
            let _ = writeln!(text, "  s{before} -> s{};", step.number);
        }
    }
    text + "}\n"
}

fn svg(result: &WorkflowResult) -> Result<String, Trouble> {
    let text = dot(result);
    let unreadable = |error: String| Trouble::Here(format!("the graph can't be drawn: {error}"));
    let parsed = DotParser::new(&text).process().map_err(unreadable)?;
    let mut builder = GraphBuilder::new();
    builder.visit_graph(&parsed);
    let mut picture = builder.get();
    let mut writer = SVGWriter::new();
    picture.do_it(false, false, false, &mut writer);
    Ok(writer.finalize())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> WorkflowResult {
        let step = |number: i32, after: &[i32]| {
            json!({"stepNumber": number, "name": format!("do \"{number}\" <b>"), "action": "cordon-node", "dependsOn": after,
                   "parameters": {"cordonNode": {"nodeName": "n"}}})
        };
        let workflow: WorkflowExecution = serde_json::from_value(json!({
            "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution", "metadata": {"name": "fix"},
            "spec": {"workflowDefinition": {"name": "fix", "version": "1", "steps": [step(1, &[]), step(2, &[1]), step(3, &[1, 2])]}},
        }))
        .expect("a workflow");
        WorkflowResult::new(&workflow, &[])
    }

    #[test]
    fn each_form_has_each_step_and_each_edge() {
        let result = result();
        let mermaid = mermaid(&result);
        assert!(
            mermaid.contains("s1[\"1 do &quot;1&quot; &lt;b><br/>cordon-node\"]"),
            "{mermaid}"
        );
        assert!(
            mermaid.contains("  s1 --> s2\n") && mermaid.contains("  s2 --> s3\n"),
            "{mermaid}"
        );
        let dot = dot(&result);
        assert!(
            dot.contains("s1 [label=\"1 do \\\"1\\\" <b>\\ncordon-node\""),
            "{dot}"
        );
        assert!(dot.contains("  s1 -> s3;\n"), "{dot}");
        let svg = svg(&result).unwrap_or_else(|trouble| panic!("{}", trouble.words()));
        assert!(svg.contains("<svg") && svg.contains("cordon-node"), "{svg}");
    }
}
