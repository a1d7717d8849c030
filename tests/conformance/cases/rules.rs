//! Each rule of our own kinds has a pair: an object that passes, and one that is refused with words that a person can
//! act on.

mod creations;
mod updates;

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::case_context::CaseContext;

super::cases!(
    each_rule_lets_one_object_pass_and_refuses_the_other_in_plain_words,
    each_transition_rule_lets_one_change_pass_and_refuses_the_other,
);

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

async fn each_transition_rule_lets_one_change_pass_and_refuses_the_other(lab: &CaseContext) {
    let mut wrong = Vec::new();
    for (what, base, good, bad, words) in updates::updates() {
        let short = kind(&base);
        let name = base["metadata"]["name"].as_str().expect("a name").to_owned();
        lab.given(short, base).await;
        let target = format!("{short}/{name}");
        // A label may change at any time: the rules must not hold up what they are not about.
        let label = json!({"metadata": {"labels": {"touched": "yes"}}});
        for change in [label].iter().chain(&good) {
            let passed = lab.merge(&target, change.clone()).await;
            if passed.code != 200 {
                wrong.push(format!("{what}: refused {change}: {}", passed.message()));
            }
        }
        wrong.extend(refusal(&lab.merge(&target, bad).await, what, words));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
