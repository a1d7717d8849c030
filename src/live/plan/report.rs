//! A plan as a person reads it, and as a program does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kubernaut_actors::ports::Account;
use kubernaut_machines::actions::AccessRequest;
use serde::Serialize;

use crate::rehearsal::input::printable;
use crate::rehearsal::rehearse::changes::coloured;
use crate::roles;
use crate::terminal::RESULT_VERSION;

/// So many spaces stand before the changes of a step.
const CHANGES_INDENT: usize = 4;

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
    roles: Option<String>,
    /// Those, with who is granted them.
    #[serde(skip)]
    grants: Option<(Account, BTreeSet<AccessRequest>)>,
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
    /// Why nobody knows whether it would fail: its target could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unknown: Option<String>,
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
        // One Role for an account in a namespace: of two of one name the second would take away what the first grants.
        let mut all: BTreeMap<&Account, BTreeSet<&AccessRequest>> = BTreeMap::new();
        for (account, rights) in self.items.iter().filter_map(|planned| planned.grants.as_ref()) {
            all.entry(account).or_default().extend(rights);
        }
        let roles = all
            .into_iter()
            .map(|(account, rights)| roles::as_yaml(account, rights));
        roles.collect::<Vec<_>>().join("---\n")
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("Plan for cluster {}. Nothing was changed.\n", self.cluster);
        for planned in &self.items {
            text.push('\n');
            planned.write(&mut text);
        }
        coloured(&printable(&text), CHANGES_INDENT)
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

    /// What grants these rights is printed.
    pub(super) fn grant(&mut self, account: &Account, rights: impl IntoIterator<Item = AccessRequest>) {
        let rights: BTreeSet<AccessRequest> = rights.into_iter().collect();
        if !rights.is_empty() {
            self.roles = Some(roles::as_yaml(account, &rights));
            self.grants = Some((account.clone(), rights));
        }
    }

    fn would_fail(&self) -> bool {
        !self.missing_rights.is_empty()
            || self.missing_account
            || self.refused.is_some()
            || self.steps.iter().any(|step| step.refused.is_some())
    }

    /// Something could not be looked at.
    fn is_unread(&self) -> bool {
        !self.unread.is_empty() || self.steps.iter().any(|step| !step.unread.is_empty())
    }

    fn is_complete(&self) -> bool {
        !self.would_fail()
            && self.rights_unknown.is_none()
            && self.steps.iter().all(|step| step.unknown.is_none())
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
        let verdict = match (self.is_complete(), self.is_unread()) {
            (true, false) => "Nothing is missing.",
            (true, true) => "Nothing is known to be missing, but not all of it could be looked at.",
            (false, _) if self.would_fail() => "Something is missing: as things stand it would fail.",
            (false, _) => "Whether something is missing is not known: see above.",
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
        if let Some(unknown) = &self.unknown {
            let _ = writeln!(text, "    nobody could say whether it would fail: {unknown}");
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
            let indent = " ".repeat(CHANGES_INDENT);
            let change = change.trim_end().replace('\n', &format!("\n{indent}"));
            let _ = writeln!(text, "{indent}{change}");
        }
        for unread in &self.unread {
            let _ = writeln!(text, "    not looked at: {unread}");
        }
    }
}
