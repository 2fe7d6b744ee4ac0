{{- define "chaosd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Names get suffixes of up to 12 characters, and a name has 63 at most. */}}
{{- define "chaosd.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $made .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "chaosd.serviceAccountName" -}}
{{- $made := ternary (include "chaosd.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $made .Values.serviceAccount.name -}}
{{- end -}}

{{- define "chaosd.selectorLabels" -}}
app.kubernetes.io/name: {{ include "chaosd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "chaosd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "chaosd.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of the daemon's pods alone, so that its Service and its budget do not take the test's and the hook's for it. */}}
{{- define "chaosd.daemonLabels" -}}
{{ include "chaosd.selectorLabels" . }}
app.kubernetes.io/component: daemon
{{- end -}}

{{- define "chaosd.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- .Values.image.repository -}}{{- ternary (printf "@%s" .Values.image.digest) (printf ":%s" $tag) (ne .Values.image.digest "") -}}
{{- end -}}

{{- define "chaosd.configMap" -}}
{{- default (printf "%s-experiments" (include "chaosd.fullname" .)) .Values.existingConfigMap -}}
{{- end -}}

{{- define "chaosd.claim" -}}
{{- default (include "chaosd.fullname" .) .Values.ledger.persistence.existingClaim -}}
{{- end -}}

{{/* Every experiment as an object, by name: those of the values, which may be texts, and the demo's. */}}
{{- define "chaosd.experiments" -}}
{{- $all := dict -}}
{{- range $name, $given := .Values.experiments -}}
{{- $read := $given -}}
{{- if kindIs "string" $given -}}
{{- $read = fromYaml $given -}}
{{- if hasKey $read "Error" -}}
{{- fail (printf "experiments.%s is no YAML: %s" $name $read.Error) -}}
{{- end -}}
{{- end -}}
{{- if not (dig "target" "statefulset" "" $read) -}}
{{- fail (printf "experiments.%s names no target.statefulset: see docs/experiments.md" $name) -}}
{{- end -}}
{{- $_ := set $all $name (merge (dict) $read (dict "name" $name)) -}}
{{- end -}}
{{- if .Values.demo.enabled -}}
{{- $_ := set $all "demo" (include "chaosd.demo" . | fromYaml) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{- define "chaosd.demo" -}}
name: demo
description: Random pod deletions and scaling of the chart's own target, under writes.
target:
  namespace: {{ .Release.Namespace | quote }}
  statefulset: {{ .Values.demo.name }}
workload:
  files: 20
  size: 64Ki
  share: {bytes: 128Mi, files: 1000}
disruptions:
  - {kind: pod-delete, weight: 3}
  - {kind: pod-delete, grace: 0, count: all, weight: 1}
  - {kind: scale, weight: 2}
{{- end -}}

{{/* What a target takes, whoever says so: a list of {namespace, agent, disruptions: [{kind, elsewhere}]}. */}}
{{- define "chaosd.taken" -}}
{{- $taken := list -}}
{{- range $name, $experiment := include "chaosd.experiments" . | fromYaml -}}
{{- $namespace := dig "target" "namespace" "default" $experiment -}}
{{- $given := list -}}
{{- range concat (default list $experiment.disruptions) (default list $experiment.steps) -}}
{{- $one := default . .disrupt -}}
{{- $given = concat $given (list $one) (default list $one.disruptions) -}}
{{- end -}}
{{- $disruptions := list -}}
{{- range $given -}}
{{- if .kind -}}
{{- $elsewhere := ternary (default "" .namespace) "" (eq .kind "csi-restart") -}}
{{- if .hostHelper -}}
{{- $elsewhere = default $namespace .hostHelper.namespace -}}
{{- end -}}
{{- $disruptions = append $disruptions (dict "kind" .kind "elsewhere" $elsewhere) -}}
{{- end -}}
{{- end -}}
{{- $agent := ne (dig "target" "probeImage" "" $experiment) "" -}}
{{- $taken = append $taken (dict "namespace" $namespace "agent" $agent "disruptions" $disruptions) -}}
{{- end -}}
{{- range $target := .Values.targets -}}
{{- $disruptions := list -}}
{{- range $target.disruptions -}}
{{- $disruptions = append $disruptions (dict "kind" . "elsewhere" (dig . "" (default dict $target.elsewhere))) -}}
{{- end -}}
{{- $taken = append $taken (dict "namespace" $target.namespace "agent" (default false $target.agent) "disruptions" $disruptions) -}}
{{- end -}}
{{- toYaml $taken -}}
{{- end -}}

{{/* The rules that are granted, by namespace; those of the whole cluster under "". Each rule once. */}}
{{- define "chaosd.granted" -}}
{{- $rights := .Files.Get "files/rights.yaml" | fromYaml -}}
{{- $granted := dict -}}
{{- if .Values.rbac.clusterRead -}}
{{- $_ := set $granted "" $rights.cluster -}}
{{- $_ := set $granted "kube-node-lease" $rights.clocks -}}
{{- end -}}
{{- range include "chaosd.taken" . | fromYamlArray -}}
{{- $namespace := .namespace -}}
{{- $rules := concat (get $granted $namespace | default list) $rights.target -}}
{{- if .agent -}}
{{- $rules = concat $rules $rights.agent -}}
{{- end -}}
{{- if $.Values.statusPage.pause.existingSecret -}}
{{- $rules = concat $rules $rights.pause -}}
{{- end -}}
{{- $_ := set $granted $namespace $rules -}}
{{- range .disruptions -}}
{{- $own := get $rights.disruptions .kind -}}
{{- if not (hasKey $rights.disruptions .kind) -}}
{{- fail (printf "there is no disruption %q: it is one of %s" .kind (keys $rights.disruptions | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $_ := set $granted $namespace (concat (get $granted $namespace) $own.target) -}}
{{- $_ := set $granted "" (concat (get $granted "" | default list) $own.cluster) -}}
{{- if .elsewhere -}}
{{- $_ := set $granted .elsewhere (concat (get $granted .elsewhere | default list) $own.elsewhere) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $once := dict -}}
{{- range $namespace, $rules := $granted -}}
{{- if $rules -}}
{{- $_ := set $once $namespace (uniq $rules) -}}
{{- end -}}
{{- end -}}
{{- toYaml $once -}}
{{- end -}}

{{/* What the daemon's pod, the hook's and the test's have in common. */}}
{{- define "chaosd.podSpec" -}}
serviceAccountName: {{ include "chaosd.serviceAccountName" . }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "chaosd.container" -}}
image: {{ include "chaosd.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end -}}

{{/* The webhooks as the daemon's settings have them: where their Secrets are mounted. */}}
{{- define "chaosd.webhooks" -}}
{{- $hooks := list }}
{{- range . }}
{{- $folder := printf "/etc/chaosd/webhooks/%s" .name }}
{{- $hook := dict "name" .name "urlFile" (printf "%s/url" $folder) "format" (default "json" .format) }}
{{- if .signed }}
{{- $_ := set $hook "secretFile" (printf "%s/secret" $folder) }}
{{- end }}
{{- if .ca }}
{{- $_ := set $hook "caFile" (printf "%s/ca.crt" $folder) }}
{{- end }}
{{- with .verdicts }}
{{- $_ := set $hook "verdicts" . }}
{{- end }}
{{- $hooks = append $hooks $hook }}
{{- end }}
{{- toJson $hooks }}
{{- end }}
