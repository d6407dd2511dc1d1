{{/*
The rules of the daemon's own settings (daemon/config/), one line for each way in which they are broken. The bounds and
the order of settings come from the daemon's tables. The other rules are written down twice, here and in
daemon/config/rules.py; tests/chart/test_chart_rules.py breaks each of them in both.
*/}}
{{- define "course-sync-daemon.brokenRules" -}}
{{- $table := include "course-sync-daemon.table" . | fromJson -}}

{{- $outside := list -}}
{{- range $name, $row := $table.settings -}}
{{- $text := include "course-sync-daemon.setting" (list $ $name) -}}
{{- if and $row.low (ne $text "") -}}
{{- $number := include "course-sync-daemon.number" $text | float64 -}}
{{- $low := include "course-sync-daemon.number" $row.low | float64 -}}
{{- $high := include "course-sync-daemon.number" $row.high | float64 -}}
{{- if or (lt $number $low) (gt $number $high) -}}
{{- $outside = append $outside $name -}}
{{ printf "config.%s: %s is out of range: it must be at least %s and at most %s\n" $name $text $row.low $row.high }}
{{- else if and (eq $row.kind "size") (ne $number (floor $number)) -}}
{{ printf "config.%s: %s is not a whole number of bytes\n" $name $text }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $table.orders -}}
{{- $small := include "course-sync-daemon.setting" (list $ .smaller) -}}
{{- $large := include "course-sync-daemon.setting" (list $ .larger) -}}
{{- $low := include "course-sync-daemon.number" $small | float64 -}}
{{- $high := include "course-sync-daemon.number" $large | float64 -}}
{{- if and (or (gt $low $high) (and .strict (eq $low $high))) (not (has .smaller $outside)) (not (has .larger $outside)) -}}
{{ printf "config.%s: %s must be %s config.%s, which is %s: %s\n" .smaller $small (ternary "less than" "at most" .strict) .larger $large .reason }}
{{- end -}}
{{- end -}}

{{- $calls := include "course-sync-daemon.setting" (list . "http.in_flight_max") | float64 -}}
{{- $share := include "course-sync-daemon.setting" (list . "http.poll_share") -}}
{{- $reserved := mulf $calls ($share | float64) | floor -}}
{{- if or (lt $reserved 1.0) (ge $reserved $calls) -}}
{{ printf "config.http.poll_share: %s of config.http.in_flight_max (%.0f) reserves %.0f calls for polls; polls and submissions need at least one call each\n" $share $calls $reserved }}
{{- end -}}

{{- with include "course-sync-daemon.setting" (list . "kafka.bootstrap_servers") -}}
{{- range splitList "," . -}}
{{- $port := regexFind "[0-9]+$" . | trimAll " " | int64 -}}
{{- if not (and (regexMatch `^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$` (trim .)) (ge $port 1) (le $port 65535)) -}}
{{ printf "config.kafka.bootstrap_servers: %s is not host:port\n" (quote .) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $kafka := .Values.config.kafka | default dict -}}
{{- $protocol := include "course-sync-daemon.setting" (list . "kafka.security_protocol") -}}
{{- range list "sasl_mechanism" "sasl_username" "sasl_password_file" -}}
{{- if and (hasPrefix "SASL_" $protocol) (not (get $kafka .)) -}}
{{ printf "config.kafka.%s: must be set because config.kafka.security_protocol is %s\n" . $protocol }}
{{- else if and (get $kafka .) (not (hasPrefix "SASL_" $protocol)) -}}
{{ printf "config.kafka.%s: is set, but config.kafka.security_protocol is %s, which does not log in; SASL_SSL does\n" . $protocol }}
{{- end -}}
{{- end -}}
{{- range list "tls_ca_file" "tls_certificate_file" "tls_key_file" -}}
{{- if and (get $kafka .) (not (hasSuffix "SSL" $protocol)) -}}
{{ printf "config.kafka.%s: is set, but config.kafka.security_protocol is %s, which does not encrypt; SSL and SASL_SSL do\n" . $protocol }}
{{- end -}}
{{- end -}}
{{- if ne (empty $kafka.tls_certificate_file) (empty $kafka.tls_key_file) -}}
{{ printf "config.kafka.%s: must be set as well: a certificate needs its private key\n" (ternary "tls_key_file" "tls_certificate_file" (empty $kafka.tls_key_file)) }}
{{- end -}}

{{- $uses := dict -}}
{{- range list "changes" "journal" "results" "dead_letters" -}}
{{- $topic := include "course-sync-daemon.setting" (list $ (printf "topics.%s" .)) -}}
{{- if or (not (regexMatch `^[A-Za-z0-9._-]{1,249}$` $topic)) (has $topic (list "." "..")) -}}
{{ printf "config.topics.%s: %s is not a valid topic name; use 1 to 249 letters, digits, dots, underscores and hyphens\n" . (quote $topic) }}
{{- end -}}
{{- if hasKey $uses $topic -}}
{{ printf "config.topics.%s: %s is also the name of config.topics.%s; the four topics need different names\n" . (quote $topic) (get $uses $topic) }}
{{- else -}}
{{- $_ := set $uses $topic . -}}
{{- end -}}
{{- end -}}

{{- $hostAndPort := `([^/?#@\s\[\]:]+|\[[0-9A-Fa-f:.]+\])(:0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))` -}}
{{- $url := include "course-sync-daemon.setting" (list . "kombo.base_url") -}}
{{- if not (regexMatch (printf `^(?i:https?)://%s?(/[^?#\s]*)?$` $hostAndPort) $url) -}}
{{ printf "config.kombo.base_url: %s is not a URL such as https://api.kombo.dev/v1 (without user name and query)\n" (quote $url) }}
{{- else if not (regexMatch `^(?i)(https:|http://(localhost|127\.0\.0\.1|\[::1\])([:/]|$))` $url) -}}
{{ printf "config.kombo.base_url: %s would send the API key in clear text; use https (plain http is allowed for 127.0.0.1 only)\n" (quote $url) }}
{{- end -}}
{{- with include "course-sync-daemon.setting" (list . "kombo.proxy") -}}
{{- if not (regexMatch (printf `^(?i:http)://([^/?#\s]*@)?%s([/?#]|$)` $hostAndPort) .) -}}
{{ print "config.kombo.proxy: is not a URL such as http://proxy.example:3128\n" }}
{{- end -}}
{{- end -}}
{{- end }}
