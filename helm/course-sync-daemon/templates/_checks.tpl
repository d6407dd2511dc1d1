{{/*
What cannot work fails here, all of it in one message, and not in the cluster: the daemon's own rules (_rules.tpl),
and those between its settings and what is around it.
*/}}
{{- define "course-sync-daemon.check" -}}
{{- $mistakes := compact (splitList "\n" (include "course-sync-daemon.brokenRules" .)) -}}
{{- $kafka := .Values.config.kafka | default dict -}}
{{- $scaling := .Values.autoscaling -}}

{{- if not $kafka.bootstrap_servers -}}
{{- $mistakes = append $mistakes "config.kafka.bootstrap_servers must be set: brokers to start from, host:port separated by commas" -}}
{{- end -}}
{{- if not (get (.Values.config.kombo | default dict) "api_key_file") -}}
{{- $mistakes = append $mistakes "config.kombo.api_key_file must be set: the Secret that holds the API key, for example {secret: course-sync-kombo, key: api-key}" -}}
{{- end -}}

{{- if eq (toString $kafka.security_protocol) "SASL_PLAINTEXT" -}}
{{- $mistakes = append $mistakes "config.kafka.security_protocol is SASL_PLAINTEXT, which sends the password or token in clear text over the cluster's network; SASL_SSL logs in over TLS" -}}
{{- end -}}

{{- with $kafka.group_instance_id -}}
{{- if eq $.Values.kind "Deployment" -}}
{{- $mistakes = append $mistakes "config.kafka.group_instance_id is set, but the pods of a Deployment have no names that outlive a restart; static membership needs kind: StatefulSet" -}}
{{- else if not (contains "$(POD_NAME)" .) -}}
{{- $mistakes = append $mistakes "config.kafka.group_instance_id is the same for every replica, and of two with the same name one ends; it must contain $(POD_NAME), or be left out" -}}
{{- end -}}
{{- end -}}

{{- if $scaling.enabled -}}
{{- if not $scaling.maxReplicas -}}
{{- $mistakes = append $mistakes "autoscaling.maxReplicas must be set with autoscaling: at most the number of partitions of the input" -}}
{{- else if lt (int $scaling.maxReplicas) (int $scaling.minReplicas) -}}
{{- $mistakes = append $mistakes (printf "autoscaling.maxReplicas is %d, less than autoscaling.minReplicas, which is %d" (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- end -}}
{{- $credentials := or (hasPrefix "SASL_" (toString $kafka.security_protocol)) $kafka.tls_ca_file $kafka.tls_certificate_file -}}
{{- if and $credentials (not $scaling.authenticationRef) -}}
{{- $mistakes = append $mistakes "autoscaling.authenticationRef must be set, since config.kafka has a login or certificates: KEDA connects to Kafka itself, with what that TriggerAuthentication holds" -}}
{{- end -}}
{{- end -}}

{{- $budget := .Values.podDisruptionBudget -}}
{{- if and (not (kindIs "invalid" $budget.maxUnavailable)) (not (kindIs "invalid" $budget.minAvailable)) -}}
{{- $mistakes = append $mistakes "podDisruptionBudget.maxUnavailable and podDisruptionBudget.minAvailable are both set; Kubernetes takes one of them" -}}
{{- end -}}

{{- $drain := include "course-sync-daemon.setting" (list . "drain.timeout") -}}
{{- $needed := add (include "course-sync-daemon.number" $drain | float64 | ceil | int64) 20 -}}
{{- if lt (int64 .Values.terminationGracePeriodSeconds) $needed -}}
{{- $mistakes = append $mistakes (printf "terminationGracePeriodSeconds is %d, but config.drain.timeout is %s and closing takes up to 20 s more: it must be at least %d, or the pod is killed before it has committed" (int64 .Values.terminationGracePeriodSeconds) $drain $needed) -}}
{{- end -}}

{{- $host := include "course-sync-daemon.setting" (list . "admin.host") -}}
{{- if or (hasPrefix "127." $host) (has $host (list "localhost" "::1")) -}}
{{- $mistakes = append $mistakes (printf "config.admin.host is %s, where neither the kubelet's probes nor Prometheus reach it; leave it out" $host) -}}
{{- end -}}

{{- if and (or .Values.prometheusRule.enabled .Values.dashboards.enabled) (not .Values.runbookUrl) -}}
{{- $mistakes = append $mistakes "runbookUrl must be set with prometheusRule.enabled or dashboards.enabled: the URL of docs/runbook.md where your engineers read it" -}}
{{- end -}}

{{- range .Values.extraEnv -}}
{{- if hasPrefix "COURSESYNC_" .name -}}
{{- $mistakes = append $mistakes (printf "extraEnv sets %s: settings of the daemon belong into config" .name) -}}
{{- else if has .name (list "POD_NAME" "POD_NAMESPACE") -}}
{{- $mistakes = append $mistakes (printf "extraEnv sets %s, which the chart sets itself; choose another name" .name) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraVolumes -}}
{{- if eq (toString .name) "settings" -}}
{{- $mistakes = append $mistakes "extraVolumes has a volume named settings, which is the chart's own; choose another name" -}}
{{- end -}}
{{- end -}}
{{- range $label, $_ := .Values.podLabels -}}
{{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance") -}}
{{- $mistakes = append $mistakes (printf "podLabels sets %s, by which everything selects the pods; set nameOverride, or choose another label" $label) -}}
{{- end -}}
{{- end -}}
{{- range $annotation, $_ := .Values.podAnnotations -}}
{{- if has $annotation (list (include "course-sync-daemon.annotation" $) "checksum/files") -}}
{{- $mistakes = append $mistakes (printf "podAnnotations sets %s, which the chart sets itself; choose another name" $annotation) -}}
{{- end -}}
{{- end -}}

{{- if $mistakes -}}
{{- fail (printf "\n  - %s" (join "\n  - " $mistakes)) -}}
{{- end -}}
{{- end }}
