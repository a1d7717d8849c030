//! Nothing of kubernaut's is made in protected namespaces.

use kubernaut_machines::Settings;

use super::{Policy, both_kinds, but_the_controllers, list};

/// The controller refuses to run them there; this says so at once, and keeps whoever may write in such a namespace from
/// using its accounts. Creation alone: one that is there already can be changed and goes away as any other.
pub(super) fn policy(settings: &Settings, controller: &str) -> Policy {
    let policy = Policy::new(
        "kubernaut-protected-namespaces",
        "No workflow and no execution lives in the namespaces of the controller, of the executor and of the cluster itself.",
        both_kinds(&["CREATE"]),
    );
    but_the_controllers(policy, controller).must_else(
        format!(
            "!(request.namespace in {})",
            list(&settings.protected_namespaces)
        ),
        "'nothing is run from namespace ' + request.namespace + ': it is protected (--protected-namespaces); create it in \
         the namespace whose ServiceAccount has the rights for it'",
        "nothing is run from a protected namespace (--protected-namespaces)",
    )
}
