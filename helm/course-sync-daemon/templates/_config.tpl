{{/*
The folder in which the pod finds its settings: the TOML file and, under the names of the settings that ask for
them, the files of Secrets and ConfigMaps.
*/}}
{{- define "course-sync-daemon.folder" -}}
/etc/course-sync-daemon
{{- end }}

{{/*
The annotation of the pod that holds the TOML file.

The settings belong to the pod template, and not to a ConfigMap of their own: a pod that is restarted or replaced
during an upgrade reads the settings of its own revision, a rollback brings them back, and nothing is left behind.
A ConfigMap with a hash in its name can do only two of the three: Helm deletes the one of the earlier revision while
its pods still run, or keeps it (helm.sh/resource-policy: keep), and then `helm rollback` fails because it finds an
object that is not in the release.
*/}}
{{- define "course-sync-daemon.annotation" -}}
course-sync-daemon/coursesync.toml
{{- end }}

{{/*
What the chart knows about the daemon's settings: kind, default and bounds of each, and the order of those that
depend on each other. Made from the daemon's own tables by tests/chart/config_schema.py.
*/}}
{{- define "course-sync-daemon.table" -}}
{{- .Files.Get "files/settings.json" }}
{{- end }}

{{/*
The settings as the daemon's TOML file. A JSON text is a TOML text, too, and so is a JSON number.
kafka.group_instance_id is left out: it contains the pod's name and is set by the environment.
*/}}
{{- define "course-sync-daemon.toml" -}}
{{- $folder := include "course-sync-daemon.folder" . -}}
{{- $lines := list -}}
{{- range $group, $settings := omit .Values.config "integrations" -}}
{{- $lines = append $lines (printf "[%s]" $group) -}}
{{- range $attribute, $value := omit ($settings | default dict) "group_instance_id" -}}
{{- if kindIs "map" $value -}}
{{- $lines = append $lines (printf "%s = %s" $attribute (printf "%s/%s.%s" $folder $group $attribute | toJson)) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $lines = append $lines (printf "%s = %s" $attribute (toJson $value)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- join "\n" $lines }}
{{ end }}

{{/*
The ConfigMap with the settings of single integrations, and the name of its only file in the folder.
*/}}
{{- define "course-sync-daemon.integrationsName" -}}
{{- include "course-sync-daemon.fullname" . }}-integrations
{{- end }}

{{- define "course-sync-daemon.integrationsFile" -}}
integrations.toml
{{- end }}

{{/*
The tables of integrations as the daemon's second TOML file.
*/}}
{{- define "course-sync-daemon.integrations" -}}
{{- $lines := list -}}
{{- range $name, $groups := .Values.config.integrations -}}
{{- $lines = append $lines (printf "[integrations.%s]" (toJson $name)) -}}
{{- range $group, $settings := $groups -}}
{{- range $attribute, $value := $settings -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $lines = append $lines (printf "%s.%s = %s" $group $attribute (toJson $value)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- join "\n" $lines }}
{{ end }}

{{/*
The key of a Secret or ConfigMap that holds a file, if none is given: (list NAME SOURCE)
*/}}
{{- define "course-sync-daemon.key" -}}
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
{{- (index . 1).key | default (get $keys (index . 0)) }}
{{- end }}

{{/*
Sources of the projected volume: each file that a setting takes from a Secret or a ConfigMap, without those of some groups:
(list $ WITHOUT)
*/}}
{{- define "course-sync-daemon.fileSources" -}}
{{- $without := index . 1 -}}
{{- range $group, $settings := omit (index . 0).Values.config "integrations" }}
{{- if not (has $group $without) }}
{{- range $attribute, $value := $settings }}
{{- if kindIs "map" $value -}}
{{- $name := printf "%s.%s" $group $attribute }}
- {{ if $value.secret }}secret{{ else }}configMap{{ end }}:
    name: {{ $value.secret | default $value.configMap | quote }}
    items:
      - key: {{ include "course-sync-daemon.key" (list $name $value) | quote }}
        path: {{ $name }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
A setting as text, or the default of the daemon: (list $ "admin.port"). Empty if there is neither.
*/}}
{{- define "course-sync-daemon.setting" -}}
{{- $root := index . 0 -}}
{{- $name := splitList "." (index . 1) -}}
{{- $value := get (get $root.Values.config (first $name) | default dict) (last $name) -}}
{{- if or (kindIs "invalid" $value) (eq (toString $value) "") -}}
{{- $value = (get (include "course-sync-daemon.table" $root | fromJson).settings (index . 1)).default -}}
{{- end -}}
{{- if kindIs "float64" $value -}}
{{- toJson $value }}
{{- else if not (kindIs "invalid" $value) -}}
{{- toString $value | trim }}
{{- end -}}
{{- end }}

{{/*
Seconds of a duration, bytes of a size, the number itself of anything else, from how the daemon writes them: 500ms,
1.5m, 512KiB.
*/}}
{{- define "course-sync-daemon.number" -}}
{{- $units := dict
  "" 1.0 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0
  "B" 1.0 "KiB" 1024.0 "MiB" 1048576.0 "GiB" 1073741824.0 -}}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get $units (regexFind "[A-Za-z]*$" .)) | toJson }}
{{- end }}

{{/*
A number or a percentage, as a PodDisruptionBudget takes them.
*/}}
{{- define "course-sync-daemon.countOrShare" -}}
{{- if kindIs "string" . }}{{ quote . }}{{ else }}{{ int64 . }}{{ end }}
{{- end }}

{{/*
The content of the files that the daemon reads only when it starts, as far as the cluster may be asked: `helm upgrade`
then restarts the pods if one has changed. Empty in `helm template`.

Only its hash is published. The uid of a Secret is a salt that only those know who may read the Secret anyway;
without it, the hash of a weak password could be found by trying.
*/}}
{{- define "course-sync-daemon.fileVersions" -}}
{{- $readAgain := list "kombo.api_key_file" -}}
{{- range $group, $settings := omit .Values.config "integrations" }}
{{- range $attribute, $value := $settings }}
{{- $name := printf "%s.%s" $group $attribute }}
{{- if and (kindIs "map" $value) (not (has $name $readAgain)) }}
{{- $key := include "course-sync-daemon.key" (list $name $value) }}
{{- if get $value "secret" }}
{{- with lookup "v1" "Secret" $.Release.Namespace $value.secret }}
{{- printf "%s %s %s\n" $name .metadata.uid (get (.data | default dict) $key) }}
{{- end }}
{{- else }}
{{- with lookup "v1" "ConfigMap" $.Release.Namespace $value.configMap }}
{{- printf "%s %s %s\n" $name (get (.data | default dict) $key) (get (.binaryData | default dict) $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
TCP ports that the daemon calls, space-separated: of the brokers to start from, of the API or its proxy, and of what gives
out tokens for the login: the token endpoint, or AWS (443 for its security token service, 80 for the credentials of the pod).
(list $ WITH_API)
*/}}
{{- define "course-sync-daemon.egressPorts" -}}
{{- $withApi := index . 1 -}}
{{- with index . 0 -}}
{{- $ports := list -}}
{{- range regexFindAll ":[0-9]+\\s*(,|$)" (include "course-sync-daemon.setting" (list . "kafka.bootstrap_servers")) -1 -}}
{{- $ports = append $ports (regexFind "[0-9]+" .) -}}
{{- end -}}
{{- $api := include "course-sync-daemon.setting" (list . "kombo.base_url") -}}
{{- $url := include "course-sync-daemon.setting" (list . "kombo.proxy") | default $api -}}
{{- if $withApi -}}
{{- $ports = append $ports (include "course-sync-daemon.portOf" $url) -}}
{{- end -}}
{{- with include "course-sync-daemon.setting" (list . "kafka.sasl_oauth_token_url") -}}
{{- $ports = append $ports (include "course-sync-daemon.portOf" .) -}}
{{- end -}}
{{- if eq (include "course-sync-daemon.setting" (list . "kafka.sasl_mechanism")) "AWS_MSK_IAM" -}}
{{- $ports = concat $ports (list "443" "80") -}}
{{- end -}}
{{- $ports | uniq | join " " }}
{{- end -}}
{{- end }}

{{/*
The port of a URL. Not by urlParse, which would fail on a mistake before the rules report it.
*/}}
{{- define "course-sync-daemon.portOf" -}}
{{- $host := regexReplaceAll "^[A-Za-z]+://([^/?#]*).*$" . "$1" -}}
{{- regexFind ":[0-9]+$" $host | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https:" (lower .))) }}
{{- end }}

{{/*
How KEDA's scaler `kafka` logs in: entries of its metadata.
*/}}
{{- define "course-sync-daemon.kedaLogin" -}}
{{- $names := dict
  "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512"
  "OAUTHBEARER" "oauthbearer" "AWS_MSK_IAM" "oauthbearer" -}}
{{- $mechanism := include "course-sync-daemon.setting" (list . "kafka.sasl_mechanism") -}}
{{- if hasPrefix "SASL_" (include "course-sync-daemon.setting" (list . "kafka.security_protocol")) -}}
sasl: {{ get $names $mechanism }}
{{- if eq $mechanism "AWS_MSK_IAM" }}
saslTokenProvider: aws_msk_iam
awsRegion: {{ include "course-sync-daemon.setting" (list . "kafka.sasl_aws_region") | quote }}
{{- end }}
{{- else -}}
sasl: none
{{- end }}
{{- end }}
