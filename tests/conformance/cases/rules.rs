//! Each rule of our own kinds has a pair: an object that passes, and one that is refused with words that a person can
//! act on.

mod creations;

use serde_json::Value;

use super::super::answer::Answer;
use super::super::case_context::CaseContext;

super::cases!(each_rule_lets_one_object_pass_and_refuses_the_other_in_plain_words,);

/// The short name of an object's kind.
fn kind(object: &Value) -> &'static str {
    if object["spec"].get("workflowDefinition").is_some() {
        "wfe"
    } else {
        "ke"
    }
}

fn refusal(answer: &Answer, what: &str, words: &str) -> Option<String> {
    if answer.code < 400 {
        return Some(format!("{what}: let pass what should be refused"));
    }
    let message = answer.message();
    (!message.contains(words)).then(|| format!("{what}: `{words}` is not in: {message}"))
}

async fn each_rule_lets_one_object_pass_and_refuses_the_other_in_plain_words(lab: &CaseContext) {
    let mut wrong = Vec::new();
    for (what, good, bad, words) in creations::creations() {
        // Sent as a dry run, so that pairs don't meet.
        let target = format!("{}?dryRun=All", kind(&good));
        let passed = lab.post(&target, good).await;
        if passed.code != 201 {
            wrong.push(format!("{what}: refused what should pass: {}", passed.message()));
        }
        let refused = lab.post(&target, bad).await;
        wrong.extend(refusal(&refused, what, words));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
