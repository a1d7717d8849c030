//! What was measured, as a table, as JSON and as plots.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use plotters::prelude::*;

use crate::run::{Outcome, to_f64};
use crate::{BenchError, io};

/// A figure: its name and unit, and where it stands.
type Figure = (&'static str, &'static str, fn(&Outcome) -> Option<f64>);

const FIGURES: [Figure; 13] = [
    ("makespan", "s", |outcome| Some(outcome.makespan)),
    ("pod end to next pod, median", "ms", |outcome| {
        outcome.pod_to_pod_median
    }),
    ("pod end to next pod, 95 %", "ms", |outcome| {
        outcome.pod_to_pod_p95
    }),
    ("own writes a step, without Events", "", |outcome| {
        Some(outcome.writes)
    }),
    ("own Events a step", "", |outcome| Some(outcome.events)),
    ("own reads a step", "", |outcome| Some(outcome.reads)),
    ("access reviews a step", "", |outcome| Some(outcome.reviews)),
    ("refused for load, or 5xx", "", |outcome| {
        Some(to_f64(usize::try_from(outcome.refused).unwrap_or(0)))
    }),
    ("own CPU per 1,000 steps", "s", |outcome| Some(outcome.own_cpu)),
    ("all CPU per 1,000 steps", "s", |outcome| Some(outcome.all_cpu)),
    ("peak memory", "MiB", |outcome| Some(outcome.peak)),
    ("idle memory", "MiB", |outcome| Some(outcome.idle)),
    ("steps that ran twice", "", |outcome| {
        Some(to_f64(usize::try_from(outcome.repeated).unwrap_or(0)))
    }),
];

/// Above this part of the machine, what others used makes a run noisy.
const NOISY: f64 = 0.05;

/// One run in one line.
pub(crate) fn line(outcome: &Outcome) -> String {
    format!(
        "{:.1} s; {:.2} writes, {:.2} Events, {:.2} reads, {:.2} reviews a step; CPU per 1,000 steps {:.1} s, own {:.2} s; {:.0} MiB{}",
        outcome.makespan,
        outcome.writes,
        outcome.events,
        outcome.reads,
        outcome.reviews,
        outcome.all_cpu,
        outcome.own_cpu,
        outcome.peak,
        if outcome.others > NOISY { "; noisy" } else { "" }
    )
}

/// A table for each load: engines beside each other, the median and in brackets the least and the most.
pub(crate) fn markdown(outcomes: &[Outcome]) -> String {
    let engines: Vec<&str> = in_order(outcomes.iter().map(|outcome| outcome.engine.as_str()));
    let mut text = String::new();
    for load in in_order(outcomes.iter().map(|outcome| outcome.load.as_str())) {
        let columns = "---|".repeat(engines.len());
        let _ = writeln!(
            text,
            "### {load}\n\n| | {} |\n|---|{columns}",
            engines.join(" | ")
        );
        for (name, unit, figure) in FIGURES {
            let cell = |engine: &&str| {
                let mut values: Vec<f64> = outcomes
                    .iter()
                    .filter(|outcome| outcome.load == load && outcome.engine == **engine)
                    .filter_map(figure)
                    .collect();
                cell(&mut values)
            };
            let unit = if unit.is_empty() {
                String::new()
            } else {
                format!(", {unit}")
            };
            let cells: Vec<String> = engines.iter().map(cell).collect();
            let _ = writeln!(text, "| {name}{unit} | {} |", cells.join(" | "));
        }
        let runs = outcomes.iter().filter(|outcome| outcome.load == load);
        let noisy = runs.clone().filter(|outcome| outcome.others > NOISY).count();
        let _ = writeln!(
            text,
            "\n{} runs; in {noisy} of them other programs used more than a twentieth of this machine.\n",
            runs.count()
        );
    }
    text
}

fn cell(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else {
        return "-".to_owned();
    };
    let median = values[values.len() / 2];
    if values.len() == 1 {
        short(median)
    } else {
        format!("{} [{}-{}]", short(median), short(*least), short(*most))
    }
}

fn short(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Each once, where it came first.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

/// Writes bench.md, bench.json and the plots.
///
/// # Errors
/// The directory can't be written.
pub(crate) fn write(directory: &Path, outcomes: &[Outcome]) -> Result<(), BenchError> {
    let failed = |error| io("writing the report", error);
    fs::create_dir_all(directory).map_err(failed)?;
    fs::write(directory.join("bench.md"), markdown(outcomes)).map_err(failed)?;
    fs::write(directory.join("bench.json"), serde_json::to_vec_pretty(outcomes)?).map_err(failed)?;
    for (name, unit, figure) in FIGURES {
        let file = name
            .replace([' ', ','], "-")
            .replace("--", "-")
            .replace('%', "percent");
        let path = directory.join(format!("{file}.svg"));
        plot(&path, &format!("{name} {unit}"), outcomes, figure).map_err(BenchError::Engine)?;
    }
    Ok(())
}

/// One row of points for each load and engine, one point for each run.
fn plot(
    path: &Path,
    title: &str,
    outcomes: &[Outcome],
    figure: fn(&Outcome) -> Option<f64>,
) -> Result<(), String> {
    let mut rows: Vec<(String, Vec<f64>)> = Vec::new();
    for outcome in outcomes {
        let name = format!("{} {}", outcome.load, outcome.engine);
        let value = figure(outcome);
        match rows.iter_mut().find(|(row, _)| *row == name) {
            Some((_, values)) => values.extend(value),
            None => rows.push((name, value.into_iter().collect())),
        }
    }
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    let most = rows
        .iter()
        .flat_map(|(_, values)| values)
        .copied()
        .fold(0.0_f64, f64::max)
        .max(f64::EPSILON);
    let height = 60 + 30 * u32::try_from(rows.len()).unwrap_or(u32::MAX / 60);
    let root = SVGBackend::new(path, (900, height)).into_drawing_area();
    let draw = || -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        root.fill(&WHITE)?;
        let text = ("sans-serif", 14).into_font();
        root.draw(&Text::new(
            title.to_owned(),
            (10, 10),
            ("sans-serif", 16).into_font(),
        ))?;
        for ((name, values), top) in rows.iter().zip((40..).step_by(30)) {
            root.draw(&Text::new(name.clone(), (10, top), text.clone()))?;
            root.draw(&PathElement::new(
                vec![(300, top + 7), (820, top + 7)],
                BLACK.mix(0.2),
            ))?;
            for value in values {
                #[expect(clippy::cast_possible_truncation, reason = "a place on 520 pixels")]
                let x = 300 + (520.0 * value / most) as i32;
                root.draw(&Circle::new((x, top + 7), 4, BLUE.filled()))?;
            }
            if let Some(last) = values.iter().copied().reduce(f64::max) {
                root.draw(&Text::new(short(last), (830, top), text.clone()))?;
            }
        }
        root.present()
    };
    draw().map_err(|error| format!("drawing {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_stand_beside_each_other_with_medians() {
        let outcome = |engine: &str, makespan: f64| Outcome {
            engine: engine.to_owned(),
            load: "dia8x1".to_owned(),
            steps: 8,
            makespan,
            writes: 4.0,
            events: 1.0,
            reads: 2.0,
            reviews: 0.0,
            refused: 0,
            requests: std::collections::BTreeMap::default(),
            everybody: std::collections::BTreeMap::default(),
            own_cpu: 1.0,
            all_cpu: 10.0,
            cpu_by_process: std::collections::BTreeMap::default(),
            peak: 20.0,
            idle: 10.0,
            pod_to_pod_median: None,
            pod_to_pod_p95: None,
            repeated: 0,
            others: 0.0,
        };
        let outcomes = [
            outcome("a", 1.0),
            outcome("b", 9.0),
            outcome("a", 3.0),
            outcome("a", 2.0),
        ];
        let text = markdown(&outcomes);
        assert!(
            text.contains("| makespan, s | 2.00 [1.00-3.00] | 9.00 |"),
            "{text}"
        );
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &outcomes).expect("written");
        let plot = fs::read_to_string(directory.path().join("makespan.svg")).expect("a plot");
        assert!(plot.contains("dia8x1 b"), "{plot}");
    }
}
