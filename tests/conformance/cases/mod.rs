//! The cases, by what they are about.

mod access;
mod applies;
mod controllers;
mod creations;
mod custom;
mod definitions;
mod deletions;
mod kinds;
mod lists;
mod network;
mod owners;
mod patches;
mod pods;
mod rollouts;
mod rules;
mod updates;
mod watches;
mod workloads;

use super::Case;

/// All areas, for a macro that makes something of each.
macro_rules! with_areas {
    ($each:ident) => {
        $each!(
            access,
            applies,
            controllers,
            creations,
            custom,
            definitions,
            deletions,
            kinds,
            lists,
            network,
            owners,
            patches,
            pods,
            rollouts,
            rules,
            updates,
            watches,
            workloads
        );
    };
}
pub(crate) use with_areas;

/// The cases of each area.
macro_rules! areas {
    ($($area:ident),*) => {$(
        pub(crate) fn $area() -> Vec<Case> {
            $area::cases()
        }
    )*};
}

with_areas!(areas);

/// Functions as cases of their names. A function that is left out is never used, and the compiler says so.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub(super) fn cases() -> Vec<crate::conformance::suite::Case> {
            vec![$(crate::conformance::suite::Case {
                name: stringify!($case),
                run: |lab| Box::pin($case(lab)),
            }),*]
        }
    };
}
pub(super) use cases;
