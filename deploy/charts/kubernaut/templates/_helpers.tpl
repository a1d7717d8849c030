{{- /* Where Jobs run. */ -}}
{{- define "kubernaut.executorNamespace" -}}
{{- $namespace := index .Values.flags "executor-namespace" | default (include "kubernaut.default.executorNamespace" .) -}}
{{- if eq $namespace .Release.Namespace -}}
{{- fail (printf "the controller and its Jobs can't share the namespace %s: nothing but Jobs may run where they do; install into another namespace (--namespace), or change flags.executor-namespace" $namespace) -}}
{{- end -}}
{{- /* They stand in expressions of policies. */ -}}
{{- range $name := concat (list $namespace .Release.Namespace) (index .Values.flags "protected-namespaces" | default list) -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "%q is not the name of a namespace" $name) -}}
{{- end -}}
{{- end -}}
{{- range $flag, $name := dict "the release's namespace (--namespace)" .Release.Namespace "flags.executor-namespace" $namespace -}}
{{- if or (eq $name "default") (hasPrefix "kube-" $name) -}}
{{- fail (printf "%s is %s: that namespace is the cluster's own, and others have pods there that the policies would keep from starting; name one that is kubernaut's alone" $flag $name) -}}
{{- end -}}
{{- if has $name (index $.Values.flags "protected-namespaces" | default list) -}}
{{- fail (printf "%s is %s, which flags.protected-namespaces names as somebody's whom nothing may disturb: name another one, or leave it out there if it is kubernaut's alone, which is protected anyway" $flag $name) -}}
{{- end -}}
{{- end -}}
{{- $namespace -}}
{{- end }}

{{- /* Where nothing is acted on and no workflow may live, as what stands between the first and the last quote of a list in CEL. */ -}}
{{- define "kubernaut.protectedNamespaces" -}}
{{- $named := splitList " " (include "kubernaut.default.protectedNamespaces" .) -}}
{{- if hasKey .Values.flags "protected-namespaces" }}{{ $named = index .Values.flags "protected-namespaces" }}{{ end -}}
{{- $all := append (append $named .Release.Namespace) (include "kubernaut.executorNamespace" .) -}}
{{- $all | uniq | sortAlpha | join "', '" -}}
{{- end }}

{{- /* Whether a kind may be applied: of the root, a group and a kind. Named with its group or without it. */ -}}
{{- define "kubernaut.applies" -}}
{{- $named := index (index . 0).Values.flags "apply-manifest-kinds" | default list -}}
{{- if or (has (index . 2) $named) (has (printf "%s/%s" (index . 1) (index . 2)) $named) }}yes{{ end -}}
{{- end }}

{{- /* Whether an action is installed: of the root and the action's name. */ -}}
{{- define "kubernaut.installs" -}}
{{- $named := index (index . 0).Values.flags "actions" | default (splitList " " (include "kubernaut.default.actions" (index . 0))) -}}
{{- if has (index . 1) $named }}yes{{ end -}}
{{- end }}

{{- define "kubernaut.image" -}}
{{- .Values.image.repository -}}
{{- with .Values.image.tag }}:{{ . }}{{ end -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{- /* What the container is told: the flags that were given, in the order of the controller's help. */ -}}
{{- define "kubernaut.args" -}}
{{- $flags := deepCopy .Values.flags -}}
{{- if ne .Release.Namespace (include "kubernaut.default.controllerNamespace" .) -}}
{{- $flags = set $flags "controller-namespace" .Release.Namespace -}}
{{- end -}}
{{- if .Values.rego.configMap -}}
{{- $flags = set $flags "policy-dir" (include "kubernaut.policyDirectory" .) -}}
{{- end -}}
- controller
{{- range $name := splitList " " (include "kubernaut.flagNames" .) }}
{{- if hasKey $flags $name }}
{{- $value := index $flags $name }}
{{- if kindIs "slice" $value }}{{ $value = join "," $value }}{{ end }}
{{- /* Numbers of values are floating, and large ones would be written with an exponent. */ -}}
{{- if kindIs "float64" $value }}{{ $value = int64 $value }}{{ end }}
- {{ printf "--%s=%v" $name $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Policies in Rego, where a ConfigMap of them is named. */ -}}
{{- define "kubernaut.policyVolumes" -}}
{{- with .Values.rego.configMap }}
- name: {{ include "kubernaut.policyVolume" $ | quote }}
  configMap:
    name: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "kubernaut.policyMounts" -}}
{{- if .Values.rego.configMap }}
- name: {{ include "kubernaut.policyVolume" . | quote }}
  mountPath: {{ include "kubernaut.policyDirectory" . | quote }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "kubernaut.metricsIngress" -}}
- ports:
  - port: 8080
    protocol: TCP
  {{- with .Values.networkPolicy.metricsPeers }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "kubernaut.apiServerPorts" -}}
{{- range .Values.networkPolicy.apiServerPorts }}
- port: {{ int . }}
  protocol: TCP
{{- end }}
{{- end }}
