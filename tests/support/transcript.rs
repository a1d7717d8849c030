//! The transcripts of the guide: what a person types, and what is printed, run and compared.
//!
//! In a block of `console` a line that begins with `$ ` is a command, `> ` goes on with it, and what follows is what it prints, both
//! streams together. `...` alone in a line stands for any lines, `[..]` within one for any text. A block that is marked `background`
//! is started, and compared when all others are done; one that is marked `eventually` is run until it fits. A block that is marked
//! `file=NAME` is written into the directory. KUBERNAUT_WRITE_TRANSCRIPTS=1 writes what is printed into the document.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is run until it fits is run no longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a block is for, beside being one of `console`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Block {
    marks: Vec<String>,
    /// The line of the document on which it begins, counted from 0.
    line: usize,
    commands: Vec<Typed>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Typed {
    command: String,
    /// The lines of the document that it prints.
    from: usize,
    printed: Vec<String>,
}

/// Where a transcript is run.
pub(crate) struct Shell {
    /// The directory of its commands.
    pub(crate) directory: PathBuf,
    /// Directories that come first on the PATH.
    pub(crate) path: Vec<PathBuf>,
    pub(crate) environment: Vec<(String, String)>,
}

/// The names and contents of the files that a document brings.
fn files(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let name = line
            .strip_prefix("```")
            .and_then(|info| info.split(',').find_map(|mark| mark.strip_prefix("file=")));
        if let Some(name) = name {
            found.push((name.to_owned(), String::new()));
            is_open = true;
        } else if line == "```" {
            is_open = false;
        } else if let Some((_, content)) = found.last_mut().filter(|_| is_open) {
            content.push_str(line);
            content.push('\n');
        }
    }
    found
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            None => {
                if let Some(info) = line.strip_prefix("```console") {
                    let marks = info.split(',').filter(|mark| !mark.is_empty());
                    open = Some(Block {
                        marks: marks.map(|mark| mark.trim().to_owned()).collect(),
                        line: number,
                        commands: Vec::new(),
                    });
                }
            }
            Some(block) => {
                if line == "```" {
                    found.extend(open.take());
                } else if let Some(command) = line.strip_prefix("$ ") {
                    block.commands.push(Typed {
                        command: command.to_owned(),
                        from: number + 1,
                        printed: Vec::new(),
                    });
                } else if let Some(last) = block.commands.last_mut() {
                    match line.strip_prefix("> ") {
                        Some(more) if last.printed.is_empty() => {
                            last.command.push('\n');
                            last.command.push_str(more);
                            last.from = number + 1;
                        }
                        Some(_) | None => last.printed.push(line.to_owned()),
                    }
                }
            }
        }
    }
    found
}

/// Whether lines are as a transcript has them.
fn fits(wanted: &[String], printed: &[&str]) -> bool {
    match wanted.split_first() {
        None => printed.is_empty(),
        Some((any, rest)) if any.trim() == "..." => {
            (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..]))
        }
        Some((line, rest)) => match printed.split_first() {
            Some((first, others)) => line_fits(line, first) && fits(rest, others),
            None => false,
        },
    }
}

fn line_fits(wanted: &str, printed: &str) -> bool {
    let mut parts = wanted.trim_end().split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut left) = printed.trim_end().strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return left.is_empty();
    };
    for part in between {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

impl Shell {
    fn command(&self, typed: &str) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        let own = self.path.iter().map(|path| path.display().to_string());
        let path: Vec<String> = own.chain([path]).collect();
        command
            .arg("-c")
            .arg(format!("exec 2>&1\n{typed}"))
            .current_dir(&self.directory)
            .env("PATH", path.join(":"))
            .envs(self.environment.iter().cloned())
            .env("COLUMNS", "120")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    /// Runs the blocks of a document that have this mark, or none where it is empty.
    pub(crate) fn run(&self, document: &Path, mark: &str) {
        let text = std::fs::read_to_string(document).expect("a document");
        for (name, content) in files(&text) {
            std::fs::write(self.directory.join(name), content).expect("written");
        }
        let writes = std::env::var_os("KUBERNAUT_WRITE_TRANSCRIPTS").is_some();
        let mut wrong = Vec::new();
        let mut printed = Vec::new();
        let mut background: Vec<(Block, Child)> = Vec::new();
        let is_meant = |block: &&Block| match mark {
            "" => block.marks.is_empty(),
            mark => block.marks.iter().any(|one| one == mark),
        };
        let mut compare = |typed: &Typed, output: &str| {
            let lines: Vec<&str> = output.trim_end().lines().collect();
            let wanted: Vec<String> = typed.printed.clone();
            if !fits(&wanted, &lines) {
                wrong.push(format!(
                    "{}:{}: $ {}\nprints:\n{output}\nnot:\n{}\n",
                    document.display(),
                    typed.from,
                    typed.command,
                    wanted.join("\n")
                ));
            }
            printed.push((typed.clone(), output.to_owned()));
        };
        let all = blocks(&text);
        let meant: Vec<&Block> = all.iter().filter(is_meant).collect();
        assert!(!meant.is_empty(), "{} has no such block", document.display());
        for block in meant {
            if block.marks.iter().any(|mark| mark == "background") {
                let typed = block.commands.first().expect("a command");
                let child = self.command(&typed.command).spawn().expect("bash");
                background.push((block.clone(), child));
                continue;
            }
            let is_eventual = block.marks.iter().any(|mark| mark == "eventually");
            for typed in &block.commands {
                let until = Instant::now() + if is_eventual { PATIENCE } else { Duration::ZERO };
                let output = loop {
                    let output = self.command(&typed.command).output().expect("bash");
                    let output = String::from_utf8_lossy(&output.stdout).into_owned();
                    let lines: Vec<&str> = output.trim_end().lines().collect();
                    if fits(&typed.printed, &lines) || Instant::now() >= until {
                        break output;
                    }
                    std::thread::sleep(Duration::from_secs(1));
                };
                compare(typed, &output);
            }
        }
        for (block, child) in background {
            let output = child.wait_with_output().expect("an end");
            compare(&block.commands[0], &String::from_utf8_lossy(&output.stdout));
        }
        if writes {
            write(document, &text, &printed);
        } else {
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
    }
}

/// Writes what was printed where it differs from what the document has.
fn write(document: &Path, text: &str, printed: &[(Typed, String)]) {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut from_the_end: Vec<&(Typed, String)> = printed.iter().collect();
    from_the_end.sort_by_key(|(typed, _)| std::cmp::Reverse(typed.from));
    for (typed, output) in from_the_end {
        let new: Vec<&str> = output.trim_end().lines().collect();
        if !fits(&typed.printed, &new) {
            let end = typed.from + typed.printed.len();
            lines.splice(typed.from..end, new.iter().map(|line| (*line).to_owned()));
        }
    }
    std::fs::write(document, lines.join("\n") + "\n").expect("written");
}

#[test]
fn a_transcript_is_read_and_compared_with_what_may_differ() {
    let text = "x\n```console,cluster\n$ a \\\n> b\none\n...\nlast [..] of [..]s\n$ c\n```\n";
    let found = blocks(text);
    assert_eq!((found.len(), found[0].line), (1, 1));
    assert_eq!(found[0].marks, ["cluster"]);
    let commands = &found[0].commands;
    assert_eq!(commands[0].command, "a \\\nb");
    assert_eq!((commands[0].from, commands[1].from), (4, 8));
    let wanted = &commands[0].printed;
    assert!(fits(wanted, &["one", "two", "three", "last 5 of 7 s"]));
    assert!(fits(wanted, &["one", "last 5 of 7s"]));
    assert!(!fits(wanted, &["one", "last 5 of 7"]));
    assert!(!fits(wanted, &["last 5 of 7s"]));
    assert!(!fits(&commands[1].printed, &["more"]));
}
