//! What is printed, and how.

use std::io::{self, Write as _};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use super::Trouble;
use crate::rehearsal::input::printable;

/// What is printed: a table, one with more columns, the result as JSON or YAML, or names for other commands
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// Prints to standard output. A reader that has gone away is no failure.
pub(super) fn print(text: &str) -> Result<(), Trouble> {
    let written = io::stdout().write_all(text.as_bytes());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::Here(format!("standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a result for programs.
pub(super) fn print_result(result: &impl Serialize, output: Output) -> Result<(), Trouble> {
    let unwritable = |error: String| Trouble::Here(format!("the result can't be written: {error}"));
    let text = match output {
        Output::Yaml => serde_saphyr::to_string(result).map_err(|error| unwritable(error.to_string()))?,
        Output::Table | Output::Wide | Output::Json | Output::Name => {
            let text = serde_json::to_string_pretty(result).map_err(|error| unwritable(error.to_string()))?;
            text + "\n"
        }
    };
    print(&text)
}

/// To standard error.
#[expect(clippy::print_stderr, reason = "for a person")]
pub(super) fn complain(words: &str) {
    eprintln!("{words}");
}

/// Rows below their heads, in columns.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// How long ago that was, or lasted, in the two largest units.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0).unsigned_abs();
    let rounded = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds / 60 * 60,
        _ => seconds / 3_600 * 3_600,
    };
    humantime::format_duration(std::time::Duration::from_secs(rounded)).to_string()
}

/// A message in one line, which can't do anything to a terminal.
pub(super) fn in_a_line(message: &str) -> String {
    printable(&message.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let from = Timestamp::from_second(1_800_000_000).expect("a time");
        let after = |seconds: i64| {
            span(
                from,
                Timestamp::from_second(1_800_000_000 + seconds).expect("a time"),
            )
        };
        assert_eq!(after(0), "0s");
        assert_eq!(after(75), "1m 15s");
        assert_eq!(after(3_725), "1h 2m");
        assert_eq!(after(90_061), "1day 1h");
        assert_eq!(after(-5), "0s");
    }

    #[test]
    fn no_message_draws_over_what_stands_above_it() {
        assert_eq!(in_a_line("a\n b\u{1b}[1A\u{9b}2K"), "a b\\u{1b}[1A\\u{9b}2K");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["a".to_owned(), "completed".to_owned()],
            vec!["longer".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["NAME", "PHASE"], &rows),
            "NAME     PHASE\na        completed\nlonger\n"
        );
    }
}
