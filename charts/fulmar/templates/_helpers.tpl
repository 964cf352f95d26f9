{{/* The name of everything that is installed: the release, with the chart's name in it. Room is left for a suffix. */}}
{{- define "fulmar.name" -}}
{{- if contains "fulmar" .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-fulmar" .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of the operator's ServiceAccount. */}}
{{- define "fulmar.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "fulmar.name" .) -}}
{{- end -}}

{{/* The name of what belongs to no namespace: two releases of one name in two namespaces must not meet. */}}
{{- define "fulmar.clusterWideName" -}}
{{- printf "%s-%s" .Release.Namespace (include "fulmar.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that never change: a Deployment finds its pods by them. */}}
{{- define "fulmar.selector" -}}
app.kubernetes.io/name: fulmar-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of everything that is installed. */}}
{{- define "fulmar.labels" -}}
{{ include "fulmar.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fulmar
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* An image of {repository, tag, digest}; called with a list of the image and the root. */}}
{{- define "fulmar.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do in a namespace that it looks after. */}}
{{- define "fulmar.rules" -}}
# What people write, and the operator reads: it changes only statuses, and a Topic's finalizer.
- apiGroups: [fulmar.dev]
  resources: [clusters, topics]
  verbs: [get, list, watch]
- apiGroups: [fulmar.dev]
  resources: [clusters/status, topics/status]
  verbs: [patch, update]
- apiGroups: [fulmar.dev]
  resources: [topics]
  verbs: [patch, update]
# An owner whose deletion its children may block is named by its finalizers subresource, where the API server checks that.
- apiGroups: [fulmar.dev]
  resources: [clusters/finalizers, topics/finalizers]
  verbs: [update]
# What the operator decided.
- apiGroups: [fulmar.dev]
  resources: [partitiontables]
  verbs: [get, list, watch, create, update, patch, delete]
# What a Cluster becomes.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
# The certificates of a Cluster, by name: other Secrets are never listed.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, update]
# Where the brokers are; a pod is moved out by eviction, so that a PodDisruptionBudget is heard. patch: an annotation has kubelet bring
# changed certificates into a running pod at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete, patch]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# Whose volumes there are: they carry the id of the Cluster. With whenDeleted: Delete the Cluster becomes their owner, and
# Kubernetes deletes them with it; the operator itself cannot.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, patch]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
