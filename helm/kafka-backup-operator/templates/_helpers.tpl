{{- define "kbo.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "kbo.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "kbo.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "kbo.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "kbo.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kbo.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kbo.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "kbo.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "kbo.account" -}}
{{- $given := default .Values.deployment.serviceAccountName .Values.serviceAccount.name }}
{{- if $given }}{{ $given }}
{{- else if .Values.serviceAccount.create }}{{ include "kbo.fullname" . }}
{{- else }}default
{{- end }}
{{- end }}

{{- define "kbo.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag }}
{{- .Values.image.repository }}{{ hasPrefix "sha256:" $tag | ternary "@" ":" }}{{ $tag }}
{{- end }}

{{- /* Which install this is: default, listed or confined. */}}
{{- define "kbo.mode" -}}
{{- if .Values.watchNamespaces }}confined
{{- else if .Values.rbac.clusterWideWorkloads }}default
{{- else }}listed
{{- end }}
{{- end }}

{{- /* The namespaces with a Role, as JSON: {"list": [...]}; empty in the default install. */}}
{{- define "kbo.namespaces" -}}
{{- $mode := include "kbo.mode" . }}
{{- $list := list }}
{{- if eq $mode "confined" }}{{ $list = .Values.watchNamespaces }}
{{- else if eq $mode "listed" }}{{ $list = prepend .Values.workloadNamespaces .Release.Namespace }}
{{- end }}
{{- dict "list" (uniq $list) | toJson }}
{{- end }}

{{- /* Whether custom resources of the release namespace are served: "yes" or nothing. */}}
{{- define "kbo.servesRelease" -}}
{{- if or (not .Values.watchNamespaces) (has .Release.Namespace .Values.watchNamespaces) }}yes{{ end }}
{{- end }}

{{- define "kbo.resourceRules" -}}
{{- $kinds := list "kafkabackups" "kafkarestores" "kafkaoffsetresets" "kafkaoffsetrollbacks" }}
- apiGroups: [kafka.oso.sh]
  resources: [{{ join ", " $kinds }}]
  verbs: [get, list, watch, create, update, patch]
- apiGroups: [kafka.oso.sh]
  resources: [{{ join "/status, " $kinds }}/status]
  verbs: [get, update, patch]
- apiGroups: [kafka.oso.sh]
  resources: [{{ join "/finalizers, " $kinds }}/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- define "kbo.workloadRules" -}}
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create, patch]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- end }}

{{- define "kbo.workerRules" -}}
- apiGroups: [kafka.oso.sh]
  resources: [kafkabackups/status, kafkarestores/status, kafkaoffsetresets/status, kafkaoffsetrollbacks/status]
  verbs: [get, patch]
{{- end }}

{{- /* The worker block as the operator reads it. */}}
{{- define "kbo.workerSettings" -}}
{{- $worker := omit .Values.worker "networkPolicy" | deepCopy }}
{{- $_ := set $worker.image "tag" (default .Chart.AppVersion $worker.image.tag) }}
{{- $_ := set $worker.serviceAccount "operatorName" (include "kbo.account" .) }}
{{- $_ := set $worker "imagePullSecrets" .Values.imagePullSecrets }}
{{- $_ := set $worker "releaseNamespace" .Release.Namespace }}
{{- $_ := set $worker "clusterWideWorkloads" .Values.rbac.clusterWideWorkloads }}
{{- $_ := set $worker "workloadNamespaces" .Values.workloadNamespaces }}
{{- $_ := set $worker "watchNamespaces" .Values.watchNamespaces }}
{{- $worker | toJson }}
{{- end }}

{{- /* Refuses values that contradict each other. */}}
{{- define "kbo.check" -}}
{{- if hasKey .Values "enterprise" }}
{{- fail "enterprise is not a value of this chart: there is one edition; remove it" }}
{{- end }}
{{- if and .Values.workloadNamespaces .Values.watchNamespaces }}
{{- fail "workloadNamespaces must not be set together with watchNamespaces: an operator that watches some namespaces has rights in exactly these" }}
{{- end }}
{{- if and .Values.workloadNamespaces .Values.rbac.clusterWideWorkloads }}
{{- fail "workloadNamespaces must be used with rbac.clusterWideWorkloads=false: otherwise the operator may create Jobs in every namespace" }}
{{- end }}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.leaderElection.enabled) }}
{{- fail "replicaCount above 1 must be used with leaderElection.enabled=true" }}
{{- end }}
{{- if and .Values.deployment.syncSecrets.keyVaultName (not .Values.deployment.tenantId) }}
{{- fail "deployment.syncSecrets.keyVaultName must be used with deployment.tenantId" }}
{{- end }}
{{- end }}

{{- /* The operator's token, mounted by name because automounting is off. */}}
{{- define "kbo.apiVolume" -}}
- name: api
  projected:
    defaultMode: 0444
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end }}
