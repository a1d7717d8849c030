//! Which execution of a workflow an execution is: the step's own, its dry run, or its undo.

use std::fmt;

/// What an execution is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It runs the step.
    Step,
    /// It tries the step without changing anything.
    DryRun,
    /// It takes back what the step changed.
    Rollback,
}

impl Role {
    const ALL: [Role; 3] = [Role::Step, Role::DryRun, Role::Rollback];

    /// As names spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Step => "step",
            Role::DryRun => "dryrun",
            Role::Rollback => "rollback",
        }
    }
}

/// An execution among those of its workflow. Its text, `step-3`, is the end of the execution's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionKey {
    /// What it is for.
    pub role: Role,
    /// The number of the step.
    pub number: i32,
}

impl ExecutionKey {
    /// Of the execution that runs this step.
    pub fn step(number: i32) -> Self {
        let role = Role::Step;
        Self { role, number }
    }

    /// Of the execution that tries this step.
    pub fn dry_run(number: i32) -> Self {
        let role = Role::DryRun;
        Self { role, number }
    }

    /// The name of the execution: `fix-step-3` of workflow `fix`.
    pub fn name(self, workflow: &str) -> String {
        format!("{workflow}-{self}")
    }

    /// Of the execution of this name; `None` when no execution of the workflow has it.
    pub fn parse(name: &str, workflow: &str) -> Option<Self> {
        let text = name.strip_prefix(workflow)?.strip_prefix('-')?;
        Role::ALL.into_iter().find_map(|role| {
            let number = text.strip_prefix(role.as_str())?.strip_prefix('-')?;
            let key = Self {
                role,
                number: number.parse().ok()?,
            };
            // One spelling for each number.
            (key.name(workflow) == name).then_some(key)
        })
    }
}

impl fmt::Display for ExecutionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role.as_str(), self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_role_and_the_step_and_no_other_name_does() {
        for role in Role::ALL {
            let key = ExecutionKey { role, number: 12 };
            assert_eq!(ExecutionKey::parse(&key.name("fix-step"), "fix-step"), Some(key));
        }
        assert_eq!(ExecutionKey::step(3).name("fix"), "fix-step-3");
        for other in [
            "fix",
            "fix-",
            "fix-step",
            "fix-step-",
            "fix-step-03",
            "fix-step-+3",
            "fix-undo-3",
            "fixstep-3",
            "ix-step-3",
        ] {
            assert_eq!(ExecutionKey::parse(other, "fix"), None, "{other}");
        }
    }
}
