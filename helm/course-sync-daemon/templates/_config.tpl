{{/*
The folder in which the pod finds its settings: the TOML file and, under the names of the settings that ask for
them, the files of Secrets and ConfigMaps.
*/}}
{{- define "course-sync-daemon.folder" -}}
/etc/course-sync-daemon
{{- end }}

{{/*
The settings as the daemon's TOML file. A JSON text is a TOML text, too, and so is a JSON number.
kafka.group_instance_id is left out: it contains the pod's name and comes by the environment.
*/}}
{{- define "course-sync-daemon.toml" -}}
{{- $folder := include "course-sync-daemon.folder" . -}}
{{- range $group, $settings := .Values.config }}
{{- with omit $settings "group_instance_id" }}
[{{ $group }}]
{{- range $attribute, $value := . }}
{{- if kindIs "map" $value }}
{{ $attribute }} = {{ printf "%s/%s.%s" $folder $group $attribute | toJson }}
{{- else }}
{{ $attribute }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{ end }}
{{- end }}
{{- end }}

{{/*
Sources of the projected volume: each file that a setting takes from a Secret or a ConfigMap.
*/}}
{{- define "course-sync-daemon.fileSources" -}}
{{- $keys := dict
  "kafka.sasl_password_file" "password"
  "kafka.sasl_oauth_client_secret_file" "client-secret"
  "kafka.sasl_oauth_ca_file" "ca.crt"
  "kafka.tls_ca_file" "ca.crt"
  "kafka.tls_certificate_file" "tls.crt"
  "kafka.tls_key_file" "tls.key"
  "kombo.api_key_file" "api-key"
  "kombo.proxy_password_file" "proxy-password"
  "kombo.ca_file" "ca.crt" -}}
{{- range $group, $settings := .Values.config }}
{{- range $attribute, $value := $settings }}
{{- if kindIs "map" $value -}}
{{- $name := printf "%s.%s" $group $attribute }}
- {{ if $value.secret }}secret{{ else }}configMap{{ end }}:
    name: {{ $value.secret | default $value.configMap }}
    items:
      - key: {{ $value.key | default (get $keys $name) | quote }}
        path: {{ $name }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Any setting, by group, attribute and the default of the daemon: (list $ "admin" "port" 8080)
*/}}
{{- define "course-sync-daemon.setting" -}}
{{- $root := index . 0 -}}
{{- $group := get $root.Values.config (index . 1) | default dict -}}
{{- $value := get $group (index . 2) -}}
{{- if eq (toString $value) "" }}{{ index . 3 }}{{ else }}{{ $value }}{{ end }}
{{- end }}

{{- define "course-sync-daemon.port" -}}
{{- include "course-sync-daemon.setting" (list . "admin" "port" 8080) | int }}
{{- end }}

{{/*
Whole seconds, rounded up, of a duration as the daemon writes them: 500ms, 15s, 1.5m, 24h, 7d.
*/}}
{{- define "course-sync-daemon.seconds" -}}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- mulf $number (get $units (regexFind "[a-z]+$" .)) | ceil | int }}
{{- end }}

{{/*
Versions of the Secrets that the settings name, as far as the cluster may be asked: `helm upgrade` then restarts the
pods when one has changed. Nothing of their content, which a hash could help to guess. Empty in `helm template`.
*/}}
{{- define "course-sync-daemon.secretVersions" -}}
{{- range $group, $settings := .Values.config }}
{{- range $attribute, $value := $settings }}
{{- if and (kindIs "map" $value) (get $value "secret") }}
{{- with lookup "v1" "Secret" $.Release.Namespace $value.secret }}
{{- printf "%s=%s/%s\n" $value.secret .metadata.uid .metadata.resourceVersion }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
TCP ports that the daemon calls, space-separated: of the brokers to start from, of the API or its proxy, and of what gives
out tokens for the login: the token endpoint, or AWS (443 for its security token service, 80 for the credentials of the pod).
*/}}
{{- define "course-sync-daemon.egressPorts" -}}
{{- $ports := list -}}
{{- range regexFindAll ":[0-9]+\\s*(,|$)" (include "course-sync-daemon.setting" (list . "kafka" "bootstrap_servers" "")) -1 -}}
{{- $ports = append $ports (regexFind "[0-9]+" .) -}}
{{- end -}}
{{- $api := include "course-sync-daemon.setting" (list . "kombo" "base_url" "https://api.kombo.dev/v1") -}}
{{- $url := urlParse (include "course-sync-daemon.setting" (list . "kombo" "proxy" $api)) -}}
{{- $ports = append $ports (include "course-sync-daemon.portOf" $url) -}}
{{- with include "course-sync-daemon.setting" (list . "kafka" "sasl_oauth_token_url" "") -}}
{{- $ports = append $ports (include "course-sync-daemon.portOf" (urlParse .)) -}}
{{- end -}}
{{- if eq (include "course-sync-daemon.setting" (list . "kafka" "sasl_mechanism" "")) "AWS_MSK_IAM" -}}
{{- $ports = concat $ports (list "443" "80") -}}
{{- end -}}
{{- $ports | uniq | join " " }}
{{- end }}

{{- define "course-sync-daemon.portOf" -}}
{{- default (ternary "443" "80" (eq .scheme "https")) (regexFind ":[0-9]+$" .host | trimPrefix ":") }}
{{- end }}

{{/*
How KEDA's scaler `kafka` logs in: entries of its metadata.
*/}}
{{- define "course-sync-daemon.kedaLogin" -}}
{{- $names := dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512" "OAUTHBEARER" "oauthbearer" "AWS_MSK_IAM" "oauthbearer" -}}
{{- $mechanism := include "course-sync-daemon.setting" (list . "kafka" "sasl_mechanism" "") -}}
{{- if hasPrefix "SASL_" (include "course-sync-daemon.setting" (list . "kafka" "security_protocol" "PLAINTEXT")) -}}
sasl: {{ get $names $mechanism }}
{{- if eq $mechanism "AWS_MSK_IAM" }}
saslTokenProvider: aws_msk_iam
awsRegion: {{ include "course-sync-daemon.setting" (list . "kafka" "sasl_aws_region" "") | quote }}
{{- end }}
{{- else -}}
sasl: none
{{- end }}
{{- end }}
