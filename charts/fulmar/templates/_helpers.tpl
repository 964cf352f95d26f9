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

{{/* Labels of the chart's own, of everything that is installed and of the operator's pod. */}}
{{- define "fulmar.labels" -}}
{{ include "fulmar.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fulmar
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Labels and annotations of an object; called with the root, or with a dict of the root and of more labels or annotations. */}}
{{- define "fulmar.marks" -}}
{{- $root := .root | default . -}}
labels:
  {{- include "fulmar.labels" $root | nindent 2 }}
  {{- with merge (dict) (.labels | default dict) $root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What one value cannot tell of another. Another operator is looked for where helm may ask the API server: two that look after one
     namespace would refuse each other's partition tables. */}}
{{- define "fulmar.check" -}}
{{- if ge (mul 2 (int .Values.lease.renewMilliseconds)) (mul 1000 (int .Values.lease.seconds)) -}}
{{- fail (printf "lease.renewMilliseconds: %d is not less than half of lease.seconds: %d" (int .Values.lease.renewMilliseconds) (int .Values.lease.seconds)) -}}
{{- end -}}
{{- if .Values.partitionTablePolicy.enabled -}}
{{- $own := printf "%s-tables" (include "fulmar.clusterWideName" .) -}}
{{- range (lookup "admissionregistration.k8s.io/v1" "ValidatingAdmissionPolicyBinding" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- if and (eq (get $labels "app.kubernetes.io/name") "fulmar-operator") (ne .metadata.name $own) -}}
{{- $theirs := get (.metadata.annotations | default dict) "fulmar.dev/watched-namespaces" | default "all" -}}
{{- $both := list -}}
{{- if and $.Values.watchNamespaces (ne $theirs "all") -}}
{{- range splitList "," $theirs }}{{ if has . $.Values.watchNamespaces }}{{ $both = append $both . }}{{ end }}{{ end -}}
{{- else -}}
{{- $both = list (ternary "all namespaces" (join "," $.Values.watchNamespaces | default $theirs) (and (eq $theirs "all") (not $.Values.watchNamespaces))) -}}
{{- end -}}
{{- if $both -}}
{{- fail (printf "watchNamespaces: the release %s of namespace %s looks after %s already; uninstall it first, which deletes no Cluster and no record, or give each release namespaces of its own" (index .metadata.annotations "meta.helm.sh/release-name") (index .metadata.annotations "meta.helm.sh/release-namespace") (join ", " $both)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
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
# Kubernetes deletes them with it. patch: a larger spec.storage.size grows them, which Kubernetes refuses where the StorageClass
# does not allow it: classes need not be read. create: a broker that is added to a Cluster that has grown gets a volume of that
# size. delete: only with whenScaled: Delete, of a broker that was removed and held nothing.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Whether the namespace is being deleted: then no finalizer is waited for.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end -}}
