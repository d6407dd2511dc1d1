{{/*
The rules of the daemon's own settings (daemon/config/), one line for each way in which they are broken. The bounds, the
order of settings and what each login needs come from the daemon's tables. The other rules are written down twice, here
and in daemon/config/rules.py; tests/chart/test_chart_rules.py breaks each of them in both.

No line quotes a text: it may be a secret that was given for the wrong setting.
*/}}
{{- define "course-sync-daemon.brokenRules" -}}
{{- $table := include "course-sync-daemon.table" . | fromJson -}}

{{- $outside := list -}}
{{- range $name, $row := $table.settings -}}
{{- $text := include "course-sync-daemon.setting" (list $ $name) -}}
{{- $path := splitList "." $name -}}
{{- $given := get (get $.Values.config (first $path) | default dict) (last $path) -}}
{{- if and (eq $row.kind "duration") (not (regexMatch `^[0-9]{1,15}(\.[0-9]{1,6})?(ms|s|m|h|d)$` $text)) -}}
{{- $outside = append $outside $name -}}
{{ printf "config.%s: the value is not a duration; for example, write 500ms, 15s, 5m, 24h or 7d\n" $name }}
{{- else if and (eq $row.kind "size") (not (regexMatch `^[0-9]{1,15}(\.[0-9]{1,6})?(B|KiB|MiB|GiB)?$` $text)) -}}
{{- $outside = append $outside $name -}}
{{ printf "config.%s: the value is not a size; for example, write 512KiB, 1MiB or a number of bytes\n" $name }}
{{- else if and (eq $row.kind "file") (kindIs "string" $given) $text (not (regexMatch "^/." $text)) -}}
{{ printf "config.%s: is not the path of a file in the container, which begins with /; to take it from a Secret, write {secret: NAME, key: KEY}\n" $name }}
{{- else if and $row.low (ne $text "") -}}
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

{{- include "course-sync-daemon.brokenTables" . -}}

{{- $calls := include "course-sync-daemon.setting" (list . "http.in_flight_max") | float64 -}}
{{- $share := include "course-sync-daemon.setting" (list . "http.poll_share") -}}
{{- $reserved := mulf $calls ($share | float64) | floor -}}
{{- if or (lt $reserved 1.0) (ge $reserved $calls) -}}
{{ printf "config.http.poll_share: %s of config.http.in_flight_max (%.0f) reserves %.0f calls for polls; polls and submissions need at least one call each\n" $share $calls $reserved }}
{{- end -}}

{{- with include "course-sync-daemon.setting" (list . "kafka.bootstrap_servers") -}}
{{- range $index, $server := splitList "," . -}}
{{- $port := regexFind "[0-9]+$" (trim $server) | int64 -}}
{{- if not (and (regexMatch `^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$` (trim $server)) (ge $port 1) (le $port 65535)) -}}
{{ printf "config.kafka.bootstrap_servers: entry %d is not host:port\n" (add1 $index) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $kafka := .Values.config.kafka | default dict -}}
{{- $protocol := include "course-sync-daemon.setting" (list . "kafka.security_protocol") -}}
{{- $mechanism := include "course-sync-daemon.setting" (list . "kafka.sasl_mechanism") -}}
{{- if and (hasPrefix "SASL_" $protocol) (not $mechanism) -}}
{{ printf "config.kafka.sasl_mechanism: must be set because config.kafka.security_protocol is %s\n" $protocol }}
{{- end -}}
{{- range $table.logins -}}
{{- $given := not (empty (get $kafka .setting)) -}}
{{- if and $given (not (hasPrefix "SASL_" $protocol)) -}}
{{ printf "config.kafka.%s: is set, but config.kafka.security_protocol is %s, which does not log in; SASL_SSL does\n" .setting $protocol }}
{{- else if and (not $given) (has $mechanism .needed_by) (hasPrefix "SASL_" $protocol) -}}
{{ printf "config.kafka.%s: must be set because config.kafka.sasl_mechanism is %s\n" .setting $mechanism }}
{{- else if and $given $mechanism (not (has $mechanism .used_by)) -}}
{{ printf "config.kafka.%s: is set, but config.kafka.sasl_mechanism is %s, which does not use it\n" .setting $mechanism }}
{{- end -}}
{{- end -}}
{{- if and (eq $mechanism "AWS_MSK_IAM") (eq $protocol "SASL_PLAINTEXT") -}}
{{ print "config.kafka.security_protocol: must be SASL_SSL because config.kafka.sasl_mechanism is AWS_MSK_IAM\n" }}
{{- end -}}

{{- $host := `([^/?#@\s\[\]:]+|\[[0-9A-Fa-f:.]+\])` -}}
{{- $port := `(:0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))` -}}
{{- $loopback := `(localhost|127\.0\.0\.1|\[::1\])` -}}
{{- with include "course-sync-daemon.setting" (list . "kafka.sasl_oauth_token_url") -}}
{{- if not (regexMatch (printf `^(?i)(https://%s|http://%s)%s?([/?#]|$)` $host $loopback $port) .) -}}
{{ print "config.kafka.sasl_oauth_token_url: is not a URL such as https://idp.example.com/oauth2/token (https, because the client secret is sent there; http is allowed for 127.0.0.1 only)\n" }}
{{- end -}}
{{- end -}}
{{- range $index, $extension := splitList "," (include "course-sync-daemon.setting" (list . "kafka.sasl_oauth_extensions")) -}}
{{- $text := trim $extension -}}
{{- if and $extension (or (hasPrefix "auth=" $text) (not (regexMatch `^[A-Za-z]+=[\x21-\x2b\x2d-\x7e]+$` $text))) -}}
{{ printf "config.kafka.sasl_oauth_extensions: entry %d is not name=value\n" (add1 $index) }}
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
{{- range list "changes" "journal" "results" "dead_letters" "courses" "control" -}}
{{- $topic := include "course-sync-daemon.setting" (list $ (printf "topics.%s" .)) -}}
{{- if or (not (regexMatch `^[A-Za-z0-9._-]{1,249}$` $topic)) (has $topic (list "." "..")) -}}
{{ printf "config.topics.%s: the value is not a valid topic name; use 1 to 249 letters, digits, dots, underscores and hyphens\n" . }}
{{- end -}}
{{- if hasKey $uses $topic -}}
{{ printf "config.topics.%s: has the same name as config.topics.%s; all topics need different names\n" . (get $uses $topic) }}
{{- else -}}
{{- $_ := set $uses $topic . -}}
{{- end -}}
{{- end -}}

{{- $url := include "course-sync-daemon.setting" (list . "kombo.base_url") -}}
{{- if not (regexMatch (printf `^(?i)https?://%s%s?(/[^?#\s]*)?$` $host $port) $url) -}}
{{ print "config.kombo.base_url: the value is not a URL such as https://api.kombo.dev/v1 (without user name, password and query)\n" }}
{{- else if not (regexMatch (printf `^(?i)(https:|http://%s([:/]|$))` $loopback) $url) -}}
{{ print "config.kombo.base_url: plain http would send the API key in clear text; use https (plain http is allowed for 127.0.0.1 only)\n" }}
{{- end -}}

{{- with include "course-sync-daemon.setting" (list . "admin.host_names") -}}
{{- range $index, $name := splitList "," . -}}
{{- if not (regexMatch `^[A-Za-z0-9._-]{1,253}$` (trim $name)) -}}
{{ printf "config.admin.host_names: entry %d is not the name of a host (without scheme, port and path)\n" (add1 $index) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $proxy := include "course-sync-daemon.setting" (list . "kombo.proxy") -}}
{{- $isUrl := regexMatch (printf `^(?i)[a-z][a-z0-9+.-]*://([^/?#\s]*@)?%s%s?([/?#]|$)` $host $port) $proxy -}}
{{- $login := regexFind `//[^/?#\s]*@` $proxy | trimPrefix "//" | trimSuffix "@" -}}
{{- if $proxy -}}
{{- if or (not $isUrl) (not (regexMatch (printf `^(?i)http://([^/?#\s]*@)?%s%s([/?#]|$)` $host $port) $proxy)) (contains "%3a" (regexFind "^[^:]*" $login | lower)) -}}
{{ print "config.kombo.proxy: is not a URL such as http://proxy.example:3128 or http://user@proxy.example:3128\n" }}
{{- else if contains ":" $login -}}
{{ print "config.kombo.proxy: contains a password, which everybody who may read the pods could read; leave only the user name in the URL (http://user@host:port) and set config.kombo.proxy_password_file to the Secret that holds the password\n" }}
{{- end -}}
{{- end -}}
{{- if and (get (.Values.config.kombo | default dict) "proxy_password_file") (not (and $isUrl (regexFind "^[^:]*" $login))) -}}
{{ print "config.kombo.proxy_password_file: is set, but config.kombo.proxy names no user; write it as http://user@host:port\n" }}
{{- end -}}
{{- end }}

{{/*
The rules of the tables of integrations (daemon/config/policy_tables.py). The tables for the ids of which a table is the most
specific one are that table and the patterns that match its own name; so each table stands for one combination of settings. An
order that a table breaks by no setting of its own is broken by the next table already.
*/}}
{{- define "course-sync-daemon.brokenTables" -}}
{{- $table := include "course-sync-daemon.table" . | fromJson -}}
{{- $patterns := dict -}}
{{- range $name, $_ := .Values.config.integrations -}}
{{- if hasSuffix "*" $name -}}
{{- $_ := set $patterns (trimSuffix "*" $name) $name -}}
{{- end -}}
{{- end -}}
{{- range $name, $groups := .Values.config.integrations -}}
{{- $stem := trimSuffix "*" $name -}}
{{- $where := printf "config.integrations.%s" (toJson $name) -}}
{{- if eq $name "*" -}}
{{ printf "%s: would be for all integrations; use the common settings\n" $where }}
{{- else if or (not $name) (contains "*" $stem) -}}
{{ printf "%s: is neither an id nor the beginning of ids followed by *, such as workday:*\n" $where }}
{{- else -}}
{{- $outside := list -}}
{{- $chain := list -}}
{{- range $prefix := keys $patterns | sortAlpha -}}
{{- if and (hasPrefix $prefix $stem) (ne (get $patterns $prefix) $name) -}}
{{- $chain = append $chain (get $patterns $prefix) -}}
{{- end -}}
{{- end -}}
{{- $effective := dict -}}
{{- range $each := append $chain $name -}}
{{- range $setting := $table.may_differ -}}
{{- $path := splitList "." $setting -}}
{{- $given := get (get $.Values.config.integrations $each | default dict) (first $path) | default dict -}}
{{- $value := get $given (last $path) -}}
{{- if and (hasKey $given (last $path)) (not (kindIs "invalid" $value)) -}}
{{- $_ := set $effective $setting (ternary (toJson $value) (toString $value | trim) (kindIs "float64" $value)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $own := dict -}}
{{- range $setting := $table.may_differ -}}
{{- $path := splitList "." $setting -}}
{{- $given := get ($groups | default dict) (first $path) | default dict -}}
{{- $row := get $table.settings $setting -}}
{{- if and (hasKey $given (last $path)) (not (kindIs "invalid" (get $given (last $path)))) -}}
{{- $text := get $effective $setting -}}
{{- $_ := set $own $setting true -}}
{{- if and (eq $row.kind "duration") (not (regexMatch `^[0-9]{1,15}(\.[0-9]{1,6})?(ms|s|m|h|d)$` $text)) -}}
{{- $outside = append $outside $setting -}}
{{ printf "%s.%s: the value is not a duration; for example, write 500ms, 15s, 5m, 24h or 7d\n" $where $setting }}
{{- else if and (eq $row.kind "size") (not (regexMatch `^[0-9]{1,15}(\.[0-9]{1,6})?(B|KiB|MiB|GiB)?$` $text)) -}}
{{- $outside = append $outside $setting -}}
{{ printf "%s.%s: the value is not a size; for example, write 512KiB, 1MiB or a number of bytes\n" $where $setting }}
{{- else -}}
{{- $number := include "course-sync-daemon.number" $text | float64 -}}
{{- $low := include "course-sync-daemon.number" $row.low | float64 -}}
{{- $high := include "course-sync-daemon.number" $row.high | float64 -}}
{{- if or (lt $number $low) (gt $number $high) -}}
{{- $outside = append $outside $setting -}}
{{ printf "%s.%s: %s is out of range: it must be at least %s and at most %s\n" $where $setting $text $row.low $row.high }}
{{- else if and (eq $row.kind "size") (ne $number (floor $number)) -}}
{{ printf "%s.%s: %s is not a whole number of bytes\n" $where $setting $text }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $outside -}}
{{- range $table.orders -}}
{{- if or (hasKey $own .smaller) (hasKey $own .larger) -}}
{{- $small := get $effective .smaller | default (include "course-sync-daemon.setting" (list $ .smaller)) -}}
{{- $large := get $effective .larger | default (include "course-sync-daemon.setting" (list $ .larger)) -}}
{{- $low := include "course-sync-daemon.number" $small | float64 -}}
{{- $high := include "course-sync-daemon.number" $large | float64 -}}
{{- if or (gt $low $high) (and .strict (eq $low $high)) -}}
{{ printf "%s: %s: %s must be %s %s, which is %s: %s\n" $where .smaller $small (ternary "less than" "at most" .strict) .larger $large .reason }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
