{{/* Begin of each object's name. */}}
{{- define "warmq.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "warmq" $name) }}{{ $name = printf "%s-warmq" $name }}{{ end -}}
{{- default $name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of every object. */}}
{{- define "warmq.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels by which the routers are found. */}}
{{- define "warmq.routerLabels" -}}
app.kubernetes.io/name: warmq-router
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* URL of the routers inside the cluster, with the namespace: KEDA runs in another one. */}}
{{- define "warmq.serviceUrl" -}}
http://{{ include "warmq.fullname" . }}-router.{{ .Release.Namespace }}.svc:{{ .Values.router.service.port }}
{{- end }}

{{/* --public-url. */}}
{{- define "warmq.publicUrl" -}}
{{- if .Values.publicUrl -}}
{{ .Values.publicUrl }}
{{- else if and .Values.ingress.enabled .Values.ingress.hosts -}}
{{ ternary "https" "http" (not (empty .Values.ingress.tls)) }}://{{ first .Values.ingress.hosts }}
{{- else -}}
{{ include "warmq.serviceUrl" . }}
{{- end -}}
{{- end }}

{{/*
The apps as a list: each entry over `workerDefaults`, key by key, with `fullname`. Not by sprig's
merge, which does not replace a value by 0, false or "".
*/}}
{{- define "warmq.apps" -}}
{{- $apps := list -}}
{{- $names := dict -}}
{{- range .Values.apps -}}
{{- $app := dict -}}
{{- range $key, $value := $.Values.workerDefaults }}{{ $_ := set $app $key $value }}{{ end -}}
{{- range $key, $value := . }}{{ $_ := set $app $key $value }}{{ end -}}
{{- $short := default (.app | replace "/" "-" | replace "_" "-") $app.name -}}
{{- $name := printf "%s-%s" (include "warmq.fullname" $) $short | trunc 52 | regexFind "^.*[a-z0-9]" -}}
{{- if hasKey $names $name -}}
{{- fail (printf "apps: %s and %s have the same name in Kubernetes: set `name` of one" (get $names $name) .app) -}}
{{- end -}}
{{- if eq $short "router" }}{{ fail (printf "apps: the name of %s is the routers'" .app) }}{{ end -}}
{{- if and $app.scaling (gt (int $app.scaling.min) (int $app.scaling.max)) -}}
{{- fail (printf "apps: scaling of %s: min exceeds max" .app) -}}
{{- end -}}
{{- $_ := set $names $name .app -}}
{{- $_ := set $app "fullname" $name -}}
{{- $apps = append $apps $app -}}
{{- end -}}
{{- toYaml $apps -}}
{{- end }}

{{/* Number of pods that have that many runners: (dict "runners" N "of" APP). */}}
{{- define "warmq.pods" -}}
{{- div (sub (add (int .runners) (int .of.concurrency)) 1) (int .of.concurrency) -}}
{{- end }}

{{/* A variable from a Secret: (dict "name" NAME "from" {name, key}). */}}
{{- define "warmq.secretEnv" -}}
- name: {{ .name }}
  valueFrom: { secretKeyRef: { name: {{ .from.name }}, key: {{ .from.key }} } }
{{- end }}

{{/* Variables of every process. */}}
{{- define "warmq.env" -}}
{{ include "warmq.secretEnv" (dict "name" "WARMQ_AMQP_URL" "from" .Values.secrets.amqpUrl) }}
{{ include "warmq.secretEnv" (dict "name" "WARMQ_REDIS_URL" "from" .Values.secrets.redisUrl) }}
{{- range $name, $value := .Values.storage.env }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{/* Security of every pod: the user of the images. */}}
{{- define "warmq.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  # Volumes of models are large: their owners are not changed file by file at each start.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- end }}
