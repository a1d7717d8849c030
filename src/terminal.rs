//! What a command prints, how, and the exit code that it ends with.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use crate::rehearsal::input::printable;

/// The version of what is printed for programs.
pub(crate) const RESULT_VERSION: &str = "cli.kubernaut.io/v1";

/// The workflow did not succeed, or what was asked could not be done.
pub(crate) const FAILED: u8 = 1;
/// What was asked for can't be read, or there is no such thing.
pub(crate) const BAD_INPUT: u8 = 2;
/// Something is missing that would keep a workflow from running.
pub(crate) const MISSING: u8 = 3;
/// It took longer than was said.
pub(crate) const LATE: u8 = 4;
/// A person ended it with Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing was done: what was asked for makes no sense.
    Input(String),
    /// It was tried, and did not succeed.
    Here(String),
    /// The time was over first.
    Late(String),
    /// Nobody reads what it prints any more, which is no failure.
    Unread,
}

/// The exit code of a command that could say it, or why it could not.
pub(crate) type Done = Result<ExitCode, Trouble>;

impl Trouble {
    /// In words for a person.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Input(words) | Self::Here(words) | Self::Late(words) => words,
            Self::Unread => "nobody reads what is printed".to_owned(),
        }
    }
}

/// Runs a command until its end, or until a person ends it.
pub(crate) fn run(command: impl Future<Output = Done>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(async {
                // The command first: until it waits for something, Ctrl-C ends the program by itself, also while it reads a file.
                tokio::select! {
                    biased;
                    done = command => done,
                    _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
                }
            });
            // A question that nobody answers is left behind.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(Trouble::Here(format!("the runtime does not start: {error}"))),
    };
    let (words, code) = match done {
        Ok(code) => return code,
        Err(Trouble::Input(words)) => (words, BAD_INPUT),
        Err(Trouble::Here(words)) => (words, FAILED),
        Err(Trouble::Late(words)) => (words, LATE),
        Err(Trouble::Unread) => return ExitCode::SUCCESS,
    };
    complain(&format!("error: {words}"));
    ExitCode::from(code)
}

/// What is printed: a table, one with more columns, the result as JSON or YAML, or names for other commands
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// Prints to standard output. A reader that has gone away is no failure.
pub(crate) fn print(text: &str) -> Result<(), Trouble> {
    let written = io::stdout().write_all(text.as_bytes());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::Here(format!("standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a result for programs.
pub(crate) fn print_result(result: &impl Serialize, output: Output) -> Result<(), Trouble> {
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

/// Prints to standard output, and ends the command where its reader has gone away: there may be no end of what it would print.
pub(crate) fn print_on(text: &str) -> Result<(), Trouble> {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Trouble::Unread),
        Err(error) => Err(Trouble::Here(format!("standard output: {error}"))),
    }
}

/// To standard error, as a text that can't do anything to a terminal; where nobody reads it, it is lost.
pub(crate) fn complain(words: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(words));
}

/// Rows below their heads, in columns.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
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

/// Lines no longer than the terminal is wide; as they are where there is none.
pub(crate) fn fitted(text: &str) -> String {
    let terminal = console::Term::stdout();
    if !terminal.is_term() {
        return text.to_owned();
    }
    let (_, width) = terminal.size();
    cut_to(text, usize::from(width))
}

fn cut_to(text: &str, width: usize) -> String {
    let lines = text
        .lines()
        .map(|line| console::truncate_str(line, width.max(20), "…"));
    lines.map(|line| line.into_owned() + "\n").collect()
}

/// How long ago that was, or lasted, in the two largest units.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0).unsigned_abs();
    let rounded = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds / 60 * 60,
        _ => seconds / 3_600 * 3_600,
    };
    humantime::format_duration(std::time::Duration::from_secs(rounded)).to_string()
}

/// A message in one line, which can't do anything to a terminal.
pub(crate) fn in_a_line(message: &str) -> String {
    printable(&message.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_its_colour_with_it() {
        assert_eq!(cut_to("ab\nc\n", 20), "ab\nc\n");
        assert_eq!(cut_to(&"é".repeat(30), 25), format!("{}…\n", "é".repeat(24)));
        let coloured = format!("\u{1b}[31m{}\u{1b}[0m", "x".repeat(30));
        assert_eq!(console::measure_text_width(cut_to(&coloured, 25).trim_end()), 25);
        assert_eq!(cut_to(&"語".repeat(30), 25), format!("{}…\n", "語".repeat(12)));
    }

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
