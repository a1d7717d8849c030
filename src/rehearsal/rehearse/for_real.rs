//! That a rehearsal is one, and how the same is done for real.

use std::path::Path;

use crate::rehearsal::input::{Input, InputArguments};

/// The first line of a rehearsal.
pub(crate) const REHEARSAL: &str =
    "Rehearsal: this happens in a cluster inside this process. No other cluster is changed.";

/// By this label `kubectl apply -l` picks what a cluster lacks, as in the samples.
const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
const COMPONENT_REMEDIATION: &str = "remediation";

/// Most objects that are named beside the workflows.
const NAMED_MAX: usize = 4;

/// The last line of a rehearsal: that it was one, and the command for a cluster.
pub(crate) fn last_line(arguments: &InputArguments, input: &Input) -> String {
    format!(
        "Rehearsal only: no cluster was changed. To do it for real: {}",
        command(arguments, input)
    )
}

/// What kubectl is told, and what to know about it.
fn command(arguments: &InputArguments, input: &Input) -> String {
    let generated =
        |run: &crate::rehearsal::input::Manifest| run.object["metadata"]["generateName"].is_string();
    let verb = if input.runs().iter().any(generated) {
        "create"
    } else {
        "apply"
    };
    let mut command = vec!["kubectl".to_owned()];
    command.extend(arguments.flags_of_kubectl().iter().map(|flag| quoted(flag)));
    command.push(verb.to_owned());
    for file in &arguments.files() {
        command.push(format!("-f {}", quoted(&file.display().to_string())));
    }
    let labelled = input
        .runs()
        .iter()
        .all(|run| run.object["metadata"]["labels"][LABEL_COMPONENT] == COMPONENT_REMEDIATION);
    let others = named(&input.beside);
    let mut notes = Vec::new();
    if arguments.files().iter().any(|file| file == Path::new("-")) {
        notes.push("with the same on standard input".to_owned());
    }
    if !others.is_empty() && labelled {
        command.push(format!("-l {LABEL_COMPONENT}={COMPONENT_REMEDIATION}"));
        notes.push(format!(
            "without -l it applies {others}, too, as the files have them"
        ));
    } else if !others.is_empty() {
        notes.push(format!(
            "first take out of the files what your cluster has already: it applies {others}, too, as the files have them"
        ));
    }
    let command = command.join(" ");
    if notes.is_empty() {
        command
    } else {
        format!("{command} ({})", notes.join("; "))
    }
}

fn named(objects: &[String]) -> String {
    let mut names: Vec<String> = objects.iter().take(NAMED_MAX).cloned().collect();
    match objects.len().saturating_sub(NAMED_MAX) {
        0 => {}
        more => names.push(format!("{more} more")),
    }
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
        None => String::new(),
    }
}

/// A word of a shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_blank_or_a_quote_is_one_word_of_a_shell() {
        assert_eq!(quoted("deploy/fix-1.yaml"), "deploy/fix-1.yaml");
        assert_eq!(quoted("my fix.yaml"), "'my fix.yaml'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
