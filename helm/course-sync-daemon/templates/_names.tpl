{{- define "course-sync-daemon.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/*
At most 52 characters: a StatefulSet makes labels of its name and an 11-character suffix.
*/}}
{{- define "course-sync-daemon.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "course-sync-daemon.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "course-sync-daemon.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "course-sync-daemon.selectorLabels" -}}
app.kubernetes.io/name: {{ include "course-sync-daemon.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "course-sync-daemon.labels" -}}
{{ include "course-sync-daemon.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
What every object begins with: (list $ NAME LABELS), LABELS beside those that all have.
*/}}
{{- define "course-sync-daemon.metadata" -}}
name: {{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "course-sync-daemon.labels" (index . 0) | nindent 2 }}
  {{- with index . 2 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "course-sync-daemon.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "course-sync-daemon.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "course-sync-daemon.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "course-sync-daemon.replicas" -}}
{{- if kindIs "invalid" .Values.replicas }}2{{ else }}{{ int .Values.replicas }}{{ end }}
{{- end }}
