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

{{/*
The name of the governing Service. Unlike the names of other objects, it must begin with a letter, and the name of a
release may begin with a digit.
*/}}
{{- define "course-sync-daemon.serviceName" -}}
{{- $name := include "course-sync-daemon.fullname" . -}}
{{- if regexMatch "^[0-9]" $name }}pods-of-{{ end }}{{ $name }}
{{- end }}

{{/*
The name of the console's objects, and the labels of its pods. They are not those of the daemon's pods: nothing that selects
those may select these.
*/}}
{{- define "course-sync-daemon.consoleName" -}}
{{- printf "%s-console" (include "course-sync-daemon.fullname" .) }}
{{- end }}

{{- define "course-sync-daemon.consoleLabels" -}}
app.kubernetes.io/name: {{ printf "%s-console" (include "course-sync-daemon.name" .) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/*
The labels by which everything selects the pods. No value may change them.
*/}}
{{- define "course-sync-daemon.selectorLabels" -}}
app.kubernetes.io/name: {{ include "course-sync-daemon.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/*
What every object begins with: (list $ NAME LABELS). LABELS are merged over the labels that all objects have.
*/}}
{{- define "course-sync-daemon.metadata" -}}
{{- $root := index . 0 -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $own := dict
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" $chart -}}
name: {{ index . 1 | quote }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- include "course-sync-daemon.selectorLabels" $root | fromYaml | merge $own | merge (deepCopy (index . 2 | default dict)) | toYaml | nindent 2 }}
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
