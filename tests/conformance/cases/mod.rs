//! The cases, by what they are about.

mod access;
mod applies;
mod creations;
mod custom;
mod definitions;
mod deletions;
mod kinds;
mod lists;
mod owners;
mod patches;
mod pods;
mod rules;
mod updates;
mod watches;
mod workloads;

use super::Case;

/// The cases of each area.
macro_rules! areas {
    ($($area:ident),*) => {$(
        pub(crate) fn $area() -> Vec<Case> {
            $area::cases()
        }
    )*};
}

areas!(
    access,
    applies,
    creations,
    custom,
    definitions,
    deletions,
    kinds,
    lists,
    owners,
    patches,
    pods,
    rules,
    updates,
    watches,
    workloads
);

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
