{{/*
The pod template of StatefulSet and Deployment.
*/}}
{{- define "course-sync-daemon.pod" -}}
{{- $folder := include "course-sync-daemon.folder" . -}}
metadata:
  labels:
    {{- include "course-sync-daemon.selectorLabels" . | nindent 4 }}
    app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: coursesyncd
    checksum/config: {{ include "course-sync-daemon.toml" . | sha256sum }}
    {{- with include "course-sync-daemon.secretVersions" . }}
    checksum/secret: {{ sha256sum . }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "course-sync-daemon.serviceAccountName" . }}
  automountServiceAccountToken: false
  # Variables such as COURSESYNC_PORT, of a Service that happens to be called coursesync, would be taken for settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: coursesyncd
      image: {{ include "course-sync-daemon.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run]
      # What it says of mistakes in the settings is what `kubectl describe pod` shows.
      terminationMessagePolicy: FallbackToLogsOnError
      env:
        - name: COURSESYNC_CONFIG
          value: {{ $folder }}/coursesync.toml
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
          value: {{ include "course-sync-daemon.setting" (list . "kafka" "group_instance_id" (printf "$(POD_NAMESPACE)-%s-$(POD_NAME)" .Release.Name)) | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: admin
          containerPort: {{ include "course-sync-daemon.port" . }}
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
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 3
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: settings
          mountPath: {{ $folder }}
          readOnly: true
        - name: tmp
          mountPath: /tmp
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: settings
      projected:
        defaultMode: 0440
        sources:
          - configMap:
              name: {{ include "course-sync-daemon.fullname" . }}
          {{- include "course-sync-daemon.fileSources" . | trim | nindent 10 }}
    - name: tmp
      emptyDir:
        sizeLimit: {{ .Values.tmpSizeLimit }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
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
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
