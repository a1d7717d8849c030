//! The conditions of both kinds: their types, and the reasons that go with them.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every one of them.
            pub const ALL: [$name; [$(stringify!($variant)),*].len()] = [$($name::$variant),*];

            /// As the status spells it: one word in CamelCase.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => stringify!($variant),)* }
            }
        }
    };
}

words! {
    /// What a condition is about.
    ConditionType {
        /// Of a workflow: its steps, their parameters and their order are sound.
        Planned,
        /// Parameters, rights and, of an execution, its target were checked.
        Validated,
        /// Of an execution: the policies let it run.
        PolicyAllowed,
        /// It may run.
        Approved,
        /// Of an execution: the Job of its last attempt has ended well.
        JobComplete,
        /// Of an execution: its target is as was wanted.
        OutcomeVerified,
        /// Of an execution: what is needed to take its change back is recorded.
        RollbackAvailable,
        /// It has ended, and well.
        Succeeded,
        /// Of a workflow: what its steps had changed was taken back.
        RolledBack,
    }
}

words! {
    /// Why a condition is as it is.
    ConditionReason {
        /// The plan has errors.
        Invalid,
        /// The plan is sound.
        Planned,
        /// What was checked is as it should be.
        Passed,
        /// A right is missing.
        InsufficientPermissions,
        /// The policies do not let it run.
        PolicyDenied,
        /// No approval was asked for.
        Automatic,
        /// An approval is waited for.
        ApprovalRequired,
        /// Everybody who has to approve has approved.
        Approved,
        /// Somebody rejected it.
        Rejected,
        /// Nobody approved it in time.
        ApprovalTimeout,
        /// The Job has ended well.
        Succeeded,
        /// It went wrong.
        Failed,
        /// The outcome is there.
        AsWanted,
        /// The outcome is not there.
        NotAsWanted,
        /// The outcome is not looked at (`--verification=false`).
        NotVerified,
        /// The state before stands in the status.
        Recorded,
        /// There is no way back.
        NotReversible,
        /// All that was wanted was done.
        Completed,
        /// It was only tried, and nothing was changed.
        DryRun,
        /// A dry run of a step failed.
        DryRunFailed,
        /// A check that is required failed.
        SafetyCheckFailed,
        /// Some steps failed, and the workflow went on without them.
        PartialSuccess,
        /// All that could be undone was.
        Undone,
        /// Something could have been undone, and was not.
        UndoFailed,
    }
}
