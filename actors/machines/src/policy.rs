//! What a policy says of an execution.

use kubernaut_crds::PolicyValidation;

use crate::classify::cut;

/// Sentences of a policy that are kept: a person reads no more, and a status has its limits.
pub const SENTENCES_MAX: usize = 20;
/// Longest sentence of a policy, and longest name of one, in bytes.
pub const SENTENCE_MAX: usize = 512;

/// What the policy said when it was asked whether an execution may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Which policy it was, and which version of it.
    pub policy: String,
    /// Why it may not run, with the rule that says so; `None` where it may.
    pub denied: Option<String>,
    /// The policy's own sentences on what it does not like.
    pub violations: Vec<String>,
    /// The policy's own sentences on what a person should know although it stops nothing.
    pub warnings: Vec<String>,
    /// A person has to approve the execution first.
    pub requires_approval: bool,
    /// A dry run has to come first.
    pub requires_dry_run: bool,
}

impl Verdict {
    /// A refusal for want of an answer.
    pub fn denied(policy: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            policy: policy.into(),
            denied: Some(why.into()),
            ..Self::default()
        }
    }

    /// Whether the policy lets it run, once what it requires was done.
    pub fn is_allowed(&self) -> bool {
        self.denied.is_none()
    }

    /// This verdict within the limits of a status.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            policy: cut(&self.policy, SENTENCE_MAX),
            denied: self.denied.map(|why| cut(&why, SENTENCE_MAX)),
            violations: bounded(&self.violations),
            warnings: bounded(&self.warnings),
            ..self
        }
    }

    /// Why it may not run, in a sentence that names the policy, its rule and its violations; `None` where it may.
    pub fn refusal(&self) -> Option<String> {
        let why = self.denied.as_deref()?;
        let mut sentence = format!("the policy {} does not allow it: {why}", self.policy);
        if !self.violations.is_empty() {
            sentence.push_str(": ");
            sentence.push_str(&self.violations.join("; "));
        }
        Some(sentence)
    }

    /// As the status of an execution has it.
    pub(crate) fn validation(&self) -> PolicyValidation {
        PolicyValidation {
            policy_name: Some(self.policy.clone()),
            allowed: self.is_allowed(),
            required_approval: self.requires_approval,
            violations: self.violations.clone(),
        }
    }
}

fn bounded(sentences: &[String]) -> Vec<String> {
    let left = sentences.len().saturating_sub(SENTENCES_MAX);
    let mut kept: Vec<String> = sentences
        .iter()
        .take(SENTENCES_MAX)
        .map(|sentence| cut(sentence, SENTENCE_MAX))
        .collect();
    if left > 0 {
        kept.push(format!("... and {left} more"));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_policy_its_rule_and_all_violations() {
        let verdict = Verdict {
            violations: vec!["too many".to_owned(), "too late".to_owned()],
            ..Verdict::denied("kubernaut.execution@1", "its rule allow is false (a.rego)")
        };
        assert_eq!(
            verdict.refusal().as_deref(),
            Some(
                "the policy kubernaut.execution@1 does not allow it: its rule allow is false (a.rego): too many; too late"
            )
        );
        assert_eq!(Verdict::default().refusal(), None);
    }

    #[test]
    fn however_much_a_policy_says_a_status_keeps_a_bounded_part_of_it() {
        let long = "x".repeat(10_000);
        let verdict = Verdict {
            policy: long.clone(),
            denied: Some(long.clone()),
            violations: vec![long.clone(); 1000],
            warnings: vec![long; 1000],
            ..Verdict::default()
        };
        let bounded = verdict.bounded();
        assert_eq!(bounded.violations.len(), SENTENCES_MAX + 1);
        assert_eq!(
            bounded.violations.last().map(String::as_str),
            Some("... and 980 more")
        );
        let texts = bounded.violations.iter().chain(&bounded.warnings);
        let mut texts = texts.chain(&bounded.denied).chain([&bounded.policy]);
        assert!(texts.all(|text| text.len() <= SENTENCE_MAX));
    }
}
