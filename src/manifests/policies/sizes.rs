//! How much a workflow or an execution may hold. The controller keeps all of them in memory, and whoever may create
//! them decides how many there are.

use kubernaut_crds::names;

use super::{Policy, both_kinds, but_the_controllers};

/// Members of `parameters` with maps of texts: keys and values count.
const MAPS: [&str; 5] = [
    "updateConfigMap.?data",
    "updateConfigMap.?dataUpdates",
    "updateSecret.?data",
    "updateSecret.?dataUpdates",
    "custom.?config",
];
/// Members with one long text.
const TEXTS: [&str; 4] = [
    "patchDeployment.?patch",
    "applyManifest.?manifest",
    "undo.?patch",
    "restorePreviousConfig.?snapshot",
];

/// At creation alone: what a step does is immutable, and an object from before goes away as any other.
pub(super) fn policy(controller: &str) -> Policy {
    let steps = "dyn(object).?spec.?workflowDefinition.?steps.orValue([])";
    let policy = Policy::new(
        "kubernaut-sizes",
        "The data, manifests and patches of a workflow or an execution have together no more bytes than a plan takes.",
        both_kinds(&["CREATE"]),
    );
    but_the_controllers(policy, controller)
    // An execution has one, a workflow those of its steps and of how they are undone.
    .variable(
        "parameters",
        format!(
            "[dyn(object).?spec.?parameters.orValue({{}})] + {steps}.map(step, step.?parameters.orValue({{}})) + \
             {steps}.map(step, step.?rollbackSpec.?parameters.orValue({{}}))"
        ),
    )
    .variable(
        "size",
        format!("variables.parameters.map(of, {}).sum()", size_of("of")),
    )
    .must_else(
        format!("variables.size <= {}", names::SPEC_MAX_BYTES),
        format!(
            "'data, manifests and patches have ' + string(variables.size) + ' bytes together: at most {} are taken; put \
             less into one workflow, and large files into an image or a volume'",
            names::SPEC_MAX_BYTES
        ),
        format!("data, manifests and patches have more than {} bytes together", names::SPEC_MAX_BYTES),
    )
}

fn size_of(parameters: &str) -> String {
    let maps = MAPS.map(|member| {
        let map = format!("{parameters}.?{member}.orValue({{}})");
        format!("{map}.map(key, size(key) + size(bytes({map}[key]))).sum()")
    });
    let texts = TEXTS.map(|member| format!("size(bytes({parameters}.?{member}.orValue('')))"));
    [&maps[..], &texts[..]].concat().join(" + ")
}
