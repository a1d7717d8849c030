//! A plan as a person reads it, and as a program does.

use std::fmt::Write as _;

use serde::Serialize;

use crate::rehearsal::input::printable;
use crate::terminal::RESULT_VERSION;

/// All workflows of the files.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plans {
    api_version: &'static str,
    kind: &'static str,
    cluster: String,
    items: Vec<Planned>,
}

/// One workflow.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Planned {
    namespace: String,
    name: String,
    /// Namespace and name of the ServiceAccount.
    pub(super) account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    pub(super) steps: Vec<StepPlan>,
    pub(super) missing_rights: Vec<String>,
    /// Why nobody knows whether rights are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rights_unknown: Option<String>,
    pub(super) missing_account: bool,
    /// What grants the missing rights, or, where they are not known, all that are needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) roles: Option<String>,
    /// Why the API server would not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
    /// What it would wait for.
    pub(super) holds: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) unread: Vec<String>,
}

/// One step.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StepPlan {
    pub(super) number: i32,
    pub(super) name: String,
    pub(super) action: String,
    pub(super) after: Vec<i32>,
    pub(super) target: String,
    pub(super) impact: String,
    /// Lines of a diff.
    pub(super) changes: Vec<String>,
    pub(super) reversible: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) irreversible_why: Option<String>,
    /// Why it would fail as things stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
    pub(super) notes: Vec<String>,
    pub(super) unread: Vec<String>,
}

impl Plans {
    pub(super) fn new(cluster: &str, items: Vec<Planned>) -> Self {
        Self {
            api_version: RESULT_VERSION,
            kind: "PlanList",
            cluster: cluster.to_owned(),
            items,
        }
    }

    /// Nothing is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.items.iter().all(Planned::is_complete)
    }

    /// What grants the rights that are missing.
    pub(super) fn roles(&self) -> String {
        let roles = self.items.iter().filter_map(|planned| planned.roles.as_deref());
        roles.collect::<Vec<_>>().join("---\n")
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("Plan for cluster {}. Nothing was changed.\n", self.cluster);
        for planned in &self.items {
            text.push('\n');
            planned.write(&mut text);
        }
        printable(&text)
    }
}

impl Planned {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Self::default()
        }
    }

    fn is_complete(&self) -> bool {
        self.missing_rights.is_empty()
            && self.rights_unknown.is_none()
            && !self.missing_account
            && self.refused.is_none()
            && self.steps.iter().all(|step| step.refused.is_none())
    }

    fn write(&self, text: &mut String) {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "workflow {}/{}, as ServiceAccount {}",
            self.namespace, self.name, self.account
        );
        for step in &self.steps {
            step.write(text);
        }
        let mut part = |head: &str, lines: &[String]| {
            if !lines.is_empty() {
                let _ = writeln!(text, "\n{head}");
            }
            for line in lines {
                let _ = writeln!(text, "  {}", line.replace('\n', "\n  "));
            }
        };
        part("Good to know:", &self.notes);
        part("Before it runs, it would wait for:", &self.holds);
        part("Could not be read:", &self.unread);
        if let Some(refused) = &self.refused {
            part("The API server would not take it:", std::slice::from_ref(refused));
        }
        if self.missing_account {
            let line = format!("ServiceAccount {} does not exist", self.account);
            part("Missing:", &[line]);
        }
        if let Some(why) = &self.rights_unknown {
            let line = format!(
                "{why}\nTo ask for the rights of an account, you need the right to create subjectaccessreviews.authorization.k8s.io."
            );
            part("Whether rights are missing nobody could say:", &[line]);
        } else if !self.missing_rights.is_empty() {
            let head = format!("Missing rights of ServiceAccount {}:", self.account);
            part(&head, &self.missing_rights);
        }
        if let Some(roles) = &self.roles {
            let head = if self.rights_unknown.is_some() {
                "All that it needs, for kubectl auth reconcile -f -, which takes no right away:"
            } else {
                "What grants them, for kubectl auth reconcile -f -, which takes no right away:"
            };
            let _ = writeln!(text, "\n{head}\n{}", roles.trim_end());
        }
        let verdict = if self.is_complete() {
            "Nothing is missing."
        } else {
            "Something is missing: as things stand it would fail."
        };
        let digest = self.digest.as_deref().unwrap_or("without a digest");
        let _ = writeln!(text, "\n{verdict}\nplan {digest}");
    }
}

impl StepPlan {
    fn write(&self, text: &mut String) {
        let after: Vec<String> = self.after.iter().map(ToString::to_string).collect();
        let after = if after.is_empty() {
            String::new()
        } else {
            format!(" (after {})", after.join(", "))
        };
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "\n  {} {}{after}: {} {}",
            self.number, self.name, self.action, self.target
        );
        if let Some(refused) = &self.refused {
            let _ = writeln!(text, "    would fail: {refused}");
        }
        if !self.impact.is_empty() {
            let back = match (self.reversible, &self.irreversible_why) {
                (true, _) => "can be taken back".to_owned(),
                (false, Some(why)) => format!("can't be taken back: {why}"),
                (false, None) => "can't be taken back".to_owned(),
            };
            let _ = writeln!(text, "    {}; {back}", self.impact);
        }
        for note in &self.notes {
            let _ = writeln!(text, "    note: {note}");
        }
        for change in &self.changes {
            let _ = writeln!(text, "    {}", change.trim_end().replace('\n', "\n    "));
        }
        for unread in &self.unread {
            let _ = writeln!(text, "    not looked at: {unread}");
        }
    }
}
