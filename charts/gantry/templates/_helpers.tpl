{{/*
Names are fixed, not made from the release's: the leader Lease has one name, so one operator per namespace is all there can be, and a second
release that would watch the same namespaces is refused by Helm (its Role exists and is not its own) instead of fighting with the first one.
*/}}
{{- define "gantry.name" -}}
gantry-operator
{{- end }}

{{/* Name of the Role for the leader Lease, and of the Lease: operator/src/leader.rs. */}}
{{- define "gantry.lease" -}}
gantry-operator
{{- end }}

{{/* Name of the ClusterRole for nodes, which every release has: so it is made from the release's. */}}
{{- define "gantry.nodes" -}}
gantry-operator-nodes-{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

{{/* Of every object. */}}
{{- define "gantry.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: gantry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Of the operator's pods, and of no others of the release. Without the chart's version, so that they restart only when they change. */}}
{{- define "gantry.selector" -}}
app.kubernetes.io/name: gantry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "gantry.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{/* Security of every pod of this chart: the Pod Security Standard `restricted`. The user is that of both images. */}}
{{- define "gantry.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Security of every container of this chart. */}}
{{- define "gantry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "gantry.clusterNamespace" -}}
{{ .Values.brokerCluster.namespace | default .Release.Namespace }}
{{- end }}

{{/* What the operator may do in a namespace that it watches. Used by the ClusterRole and by each Role, and compared with the code by a test. */}}
{{- define "gantry.rules" -}}
- apiGroups: [rocketmq.gantry.dev]
  resources: [brokerclusters, topics, consumergroups]
  verbs: [list, watch]
# Finalizers.
- apiGroups: [rocketmq.gantry.dev]
  resources: [topics, consumergroups]
  verbs: [patch]
- apiGroups: [rocketmq.gantry.dev]
  resources: [brokerclusters/status, topics/status, consumergroups/status]
  verbs: [patch]
# An object in a namespace that goes away is not kept, whatever its deletionPolicy.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
# Children of a BrokerCluster. A server-side apply is a patch, and a create where there is nothing yet.
- apiGroups: [""]
  resources: [serviceaccounts, configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# A broker group is deleted only when it was declared away and is empty.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
# A rolling restart deletes pods one at a time. A label says which broker is master.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch, delete]
# Volumes grow, by their claims. A replica whose node is gone is given up with its volume, after the time that the spec states; one that is declared away,
# by reclaimPolicy.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What the schema can't say, or not in a sentence. */}}
{{- define "gantry.validate" -}}
{{- with .Values.image -}}
{{- if eq .tag "latest" -}}
{{- fail "image.tag is latest, so a restart could change the operator: write a version, or nothing for the chart's own" -}}
{{- else if not (regexMatch "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$" .tag) -}}
{{- fail (printf "image.tag %s is no tag: write letters, digits, '_', '.' and '-', e.g. %s" .tag $.Chart.AppVersion) -}}
{{- end -}}
{{- if not (regexMatch "^(sha256:[0-9a-f]{64})?$" .digest) -}}
{{- fail (printf "image.digest %s is no digest: write sha256: and 64 hexadecimal digits" .digest) -}}
{{- end -}}
{{- end -}}
{{- if not (regexMatch "(\\{version\\}|:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$" .Values.engineImage) -}}
{{- fail (printf "engineImage %s has no tag: write it with {version}, e.g. %s:{version}, which stands for each BrokerCluster's spec.version" .Values.engineImage .Values.engineImage) -}}
{{- end -}}
{{- range .Values.watchNamespaces -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" .) -}}
{{- fail (printf "watchNamespaces: %s is no namespace: write names of a-z, 0-9 and '-', or leave the list empty to watch all" .) -}}
{{- end -}}
{{- end -}}
{{- include "gantry.validateCluster" . -}}
{{- end }}

{{- define "gantry.validateCluster" -}}
{{- $namespace := include "gantry.clusterNamespace" . -}}
{{- with .Values.brokerCluster -}}
{{- if or (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .name)) (gt (len .name) 40) -}}
{{- fail (printf "brokerCluster.name %s can't be: write at most 40 of a-z, 0-9 and '-', first a letter, since names of Services are made from it" .name) -}}
{{- end -}}
{{- if and .create $.Values.watchNamespaces (not (has $namespace $.Values.watchNamespaces)) -}}
{{- fail (printf "brokerCluster would be in namespace %s, which is not among watchNamespaces, so nobody would look after it: add the namespace there, or set brokerCluster.namespace to one that is" $namespace) -}}
{{- end -}}
{{- if and (not .create) (or .topics .consumerGroups) -}}
{{- fail "brokerCluster.topics and brokerCluster.consumerGroups are parts of the release's BrokerCluster: set brokerCluster.create to true, or apply them as manifests of their own" -}}
{{- end -}}
{{- range $list := list "topics" "consumerGroups" -}}
{{- range $item := index $.Values.brokerCluster $list -}}
{{- $spec := $item.spec | default dict -}}
{{- if hasKey $spec "clusterRef" -}}
{{- fail (printf "brokerCluster.%s: %s has a clusterRef, but is always of the release's BrokerCluster: remove clusterRef" $list $item.name) -}}
{{- end -}}
{{- if ne (get $spec "deletionPolicy" | default "Retain") "Retain" -}}
{{- fail (printf "brokerCluster.%s: %s has deletionPolicy %s, but an uninstall removes the operator first, and then nobody could delete it from the engine: remove deletionPolicy, or apply it as a manifest of its own" $list $item.name $spec.deletionPolicy) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
