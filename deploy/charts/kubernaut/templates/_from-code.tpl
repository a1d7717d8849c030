{{- /* Made from the code: run ./dev fix. */ -}}
{{- define "kubernaut.flagNames" -}}
leader-elect lease-duration lease-renew-deadline lease-retry-period executor-namespace controller-namespace protected-namespaces cluster-name kubectl-image actions executor-node-selector executor-tolerations max-step-timeout job-ttl execution-ttl verification allow-gitops-managed apply-manifest-kinds authorization policy-dir monitoring-window approval-timeout approval-validity allow-self-approval max-running-jobs api-concurrency log-format log-level
{{- end }}
{{- define "kubernaut.default.controllerNamespace" -}}
kubernaut-system
{{- end }}
{{- define "kubernaut.default.executorNamespace" -}}
kubernaut-executor
{{- end }}
{{- define "kubernaut.default.protectedNamespaces" -}}
kube-system kube-public kube-node-lease
{{- end }}
{{- define "kubernaut.default.actions" -}}
scale-deployment scale-stateful-set rollout-restart delete-pod patch-deployment cordon-node uncordon-node drain-node update-configmap update-secret apply-manifest
{{- end }}
{{- define "kubernaut.policyDirectory" -}}
/etc/kubernaut/policy
{{- end }}
{{- define "kubernaut.policyVolume" -}}
policy
{{- end }}
