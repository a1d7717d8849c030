//! The steps of a workflow as a tree: each below the step that it waits for longest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use console::Style;
use jiff::Timestamp;
use kubernaut_crds::StepState;

use super::result::StepResult;
use crate::terminal::{in_a_line, span};

/// A line of the tree, before its columns are put side by side.
struct Line {
    /// Branches, mark, number and name.
    head: String,
    /// As many characters of the head as a person sees.
    width: usize,
    columns: [String; 3],
    said: String,
}

/// The tree, a line a step.
pub(super) fn tree(steps: &[StepResult], now: Timestamp) -> String {
    let depths = depths(steps);
    let depth = |number: i32| depths.get(&number).copied().unwrap_or(0);
    let mut below: BTreeMap<Option<i32>, Vec<&StepResult>> = BTreeMap::new();
    for step in steps {
        let parent = step
            .depends_on
            .iter()
            .copied()
            .filter(|number| depths.contains_key(number) && depth(*number) < depth(step.number))
            .max_by_key(|number| (depth(*number), *number));
        below.entry(parent).or_default().push(step);
    }
    let mut lines = Vec::new();
    grow(&below, None, "", now, &mut lines);
    let head = lines.iter().map(|line| line.width).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.columns.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for line in &lines {
        let mut row = format!("{}{}", line.head, " ".repeat(head - line.width));
        for (cell, width) in line.columns.iter().zip(widths) {
            // Writing to a String can't fail.
            let _ = write!(row, "  {cell:<width$}");
        }
        row.push_str("  ");
        row.push_str(&line.said);
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// The length of the longest way to each step.
fn depths(steps: &[StepResult]) -> BTreeMap<i32, usize> {
    let mut depths: BTreeMap<i32, usize> = steps.iter().map(|step| (step.number, 0)).collect();
    // A circle, which planning refuses, ends here, too.
    for _ in 0..steps.len() {
        let before = depths.clone();
        for step in steps {
            let parents = step.depends_on.iter().filter_map(|number| before.get(number));
            let depth = parents.map(|depth| depth + 1).max().unwrap_or(0);
            depths.insert(step.number, depth.min(steps.len()));
        }
        if depths == before {
            break;
        }
    }
    depths
}

fn grow(
    below: &BTreeMap<Option<i32>, Vec<&StepResult>>,
    parent: Option<i32>,
    indent: &str,
    now: Timestamp,
    lines: &mut Vec<Line>,
) {
    let steps = below.get(&parent).map(Vec::as_slice).unwrap_or_default();
    for (index, step) in steps.iter().enumerate() {
        let is_last = index + 1 == steps.len();
        let (branch, more) = match (parent, is_last) {
            (None, _) => ("", ""),
            (Some(_), true) => ("└─ ", "   "),
            (Some(_), false) => ("├─ ", "│  "),
        };
        let others: Vec<String> = step
            .depends_on
            .iter()
            .filter(|number| Some(**number) != parent)
            .map(ToString::to_string)
            .collect();
        let also = if others.is_empty() {
            String::new()
        } else {
            format!(" (also after {})", others.join(", "))
        };
        let plain = format!("{} {}{also}", step.number, in_a_line(&step.name));
        lines.push(Line {
            head: format!("{indent}{branch}{} {plain}", mark(step.status)),
            width: indent.chars().count() + branch.chars().count() + 2 + plain.chars().count(),
            columns: [
                step.target.clone().unwrap_or_else(|| step.action.clone()),
                state(step),
                lasted(step, now),
            ],
            said: said(step),
        });
        grow(below, Some(step.number), &format!("{indent}{more}"), now, lines);
    }
}

fn state(step: &StepResult) -> String {
    let status = super::result::word(step.status);
    match step.attempt {
        Some(attempt) if attempt > 1 => format!("{status}, attempt {attempt}"),
        Some(_) | None => status,
    }
}

fn lasted(step: &StepResult, now: Timestamp) -> String {
    let started = step.started;
    started.map_or_else(String::new, |from| span(from, step.ended.unwrap_or(now)))
}

fn said(step: &StepResult) -> String {
    let message = in_a_line(step.message.as_deref().unwrap_or_default());
    let error = step.error_type.as_deref().map(|error| format!("{error}: "));
    let undo = step
        .undo
        .as_deref()
        .map(|undo| format!("; undo {}", in_a_line(undo)));
    format!(
        "{}{message}{}",
        error.unwrap_or_default(),
        undo.unwrap_or_default()
    )
}

fn mark(status: StepState) -> String {
    let style = Style::new();
    let mark = match status {
        StepState::Pending => style.dim().apply_to("."),
        StepState::Executing => style.cyan().apply_to(">"),
        StepState::Completed => style.green().apply_to("✓"),
        StepState::Failed => style.red().apply_to("✗"),
        StepState::Skipped => style.yellow().apply_to("-"),
        StepState::RolledBack => style.yellow().apply_to("↩"),
    };
    mark.to_string()
}
