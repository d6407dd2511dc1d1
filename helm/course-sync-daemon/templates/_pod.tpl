{{/*
The pod template of StatefulSet and Deployment.
*/}}
{{- define "course-sync-daemon.pod" -}}
{{- $labels := dict "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $annotations := dict
  "kubectl.kubernetes.io/default-container" "coursesyncd"
  (include "course-sync-daemon.annotation" .) (include "course-sync-daemon.toml" .) -}}
{{- with include "course-sync-daemon.fileVersions" . -}}
{{- $_ := set $annotations "checksum/files" (sha256sum .) -}}
{{- end -}}
metadata:
  labels:
    {{- include "course-sync-daemon.selectorLabels" . | fromYaml | merge $labels | merge (deepCopy (.Values.podLabels | default dict)) | toYaml | nindent 4 }}
  annotations:
    {{- merge (deepCopy (.Values.podAnnotations | default dict)) $annotations | toYaml | nindent 4 }}
spec:
  {{- include "course-sync-daemon.podSettings" (list . (list)) | nindent 2 }}
  terminationGracePeriodSeconds: {{ int64 .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  containers:
    - name: coursesyncd
      {{- include "course-sync-daemon.containerSettings" (list . .Values.resources) | nindent 6 }}
      args: [run]
      env:
        - name: COURSESYNC_CONFIG
          value: {{ include "course-sync-daemon.folder" . }}/coursesync.toml
        - name: COURSESYNC_INTEGRATIONS
          value: {{ include "course-sync-daemon.folder" . }}/{{ include "course-sync-daemon.integrationsFile" . }}
        {{- if eq .Values.kind "StatefulSet" }}
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: COURSESYNC_KAFKA_GROUP_INSTANCE_ID
          value: {{ include "course-sync-daemon.setting" (list . "kafka.group_instance_id") | default (printf "$(POD_NAMESPACE)-%s-$(POD_NAME)" .Release.Name) | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: admin
          containerPort: {{ include "course-sync-daemon.setting" (list . "admin.port") }}
      # Two minutes for the first start on a busy node. It does not wait for Kafka, nor for a restore.
      startupProbe:
        httpGet:
          path: /startupz
          port: admin
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 24
      # Asks neither Kafka nor the API. The daemon's own watchdog comes first, with a stack dump.
      livenessProbe:
        httpGet:
          path: /livez
          port: admin
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
        # A process that hangs cannot drain, so waiting for it would only prolong the outage. The journal has its work.
        terminationGracePeriodSeconds: 5
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 3
  topologySpreadConstraints:
    {{- if kindIs "invalid" .Values.topologySpreadConstraints }}
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "course-sync-daemon.selectorLabels" $ | nindent 10 }}
    {{- end }}
    {{- else }}
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
    {{- end }}
{{- end }}

{{/*
What the daemon's pods, the console's and the pod of `helm test` have in common: identity, scheduling and volumes.
(list $ WITHOUT SOURCES): without the files of these groups of settings, and with more sources of files, as text.
*/}}
{{- define "course-sync-daemon.podSettings" -}}
{{- $without := index . 1 -}}
{{- $sources := slice . 2 -}}
{{- with index . 0 -}}
serviceAccountName: {{ include "course-sync-daemon.serviceAccountName" . | quote }}
automountServiceAccountToken: false
# A Service called coursesync would put variables such as COURSESYNC_PORT into the pod, which look like settings.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: settings
    projected:
      # Readable for the user of the image, whose id the chart does not know. The pod has no other processes.
      defaultMode: 0444
      sources:
        # The settings are a part of the pod template, so each pod reads those of its own revision.
        - downwardAPI:
            items:
              - path: coursesync.toml
                fieldRef:
                  fieldPath: metadata.annotations['{{ include "course-sync-daemon.annotation" . }}']
        - configMap:
            name: {{ include "course-sync-daemon.integrationsName" . | quote }}
            items:
              - key: {{ include "course-sync-daemon.integrationsFile" . }}
                path: {{ include "course-sync-daemon.integrationsFile" . }}
        {{- include "course-sync-daemon.fileSources" (list . $without) | trim | nindent 8 }}
        {{- range $sources }}
        {{- . | trim | nindent 8 }}
        {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
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
{{- end }}
{{- end }}

{{/*
What their containers have in common: (list $ RESOURCES)
*/}}
{{- define "course-sync-daemon.containerSettings" -}}
{{- $resources := index . 1 -}}
{{- with index . 0 -}}
image: {{ include "course-sync-daemon.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy | quote }}
# `kubectl describe pod` then shows what the log says about mistakes in the settings.
terminationMessagePolicy: FallbackToLogsOnError
{{- with $resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: settings
    mountPath: {{ include "course-sync-daemon.folder" . }}
    readOnly: true
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}
