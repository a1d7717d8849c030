# What a cluster's owner may ask of every step, whatever a workflow says:
#
#   - in production a person has to approve
#   - at most half of the replicas of a Deployment or a StatefulSet may go at once
#   - one drain at a time, and no restart while a node is drained
#
# What takes a recorded change back is exempt: it has to be possible at any time, and what it takes back was allowed. A
# rollbackSpec of a workflow is an action like any other.
#
# Try it:     kubernaut policy test deploy/policy
# Install it: kubectl -n kubernaut-system create configmap kubernaut-policy --from-file=deploy/policy
#             kubernaut manifests --policy-config-map=kubernaut-policy | kubectl apply --server-side -f -
package kubernaut.execution

default allow := false

# What violates nothing may run.
allow if count(violations) == 0

# Namespaces of production stand in production.json beside this file.
in_production if input.target.namespace in data.production.namespaces

in_production if input.target.kind == "Node"

require_approval if {
	in_production
	not input.rollback
	not input.dryRun
}

# scaleDeployment and scaleStatefulSet alike.
wanted_replicas := parameters.replicas if {
	some member in ["scaleDeployment", "scaleStatefulSet"]
	parameters := input.parameters[member]
}

violations contains message if {
	not input.rollback
	wanted_replicas * 2 < input.state.replicas
	message := sprintf(
		"from %d to %d replicas is more than half at once: go in steps",
		[input.state.replicas, wanted_replicas],
	)
}

violations contains message if {
	not input.rollback
	input.action in {"drain-node", "rollout-restart"}
	some other in input.executing
	other.action == "drain-node"
	not other.rollback
	message := sprintf("node %s is being drained: wait for its end", [other.target.name])
}

warnings contains message if {
	in_production
	input.state.readyReplicas < input.state.replicas
	message := sprintf("%d of %d replicas are ready", [input.state.readyReplicas, input.state.replicas])
}
