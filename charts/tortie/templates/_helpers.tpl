{{- define "tortie.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "tortie.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tortie.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tortie.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels that never change in the life of a release. Takes (list . component). */}}
{{- define "tortie.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "tortie.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "tortie.labels" -}}
{{- $root := index . 0 -}}
{{ include "tortie.selector" . }}
app.kubernetes.io/part-of: tortie
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tortie.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What every pod has. */}}
{{- define "tortie.podMetadata" -}}
{{- $root := index . 0 -}}
labels:
  {{- include "tortie.labels" . | nindent 2 }}
  {{- with $root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "tortie.container" -}}
image: {{ include "tortie.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{/* No rights at all but those of the user. Takes the capabilities to add, as a list. */}}
{{- define "tortie.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  {{- with . }}
  add: {{ toJson . }}
  {{- end }}
{{- end }}

{{/* The AS number as a number: 65000.1 is 65000 * 65536 + 1, and large ones must not become 4.2e+09. */}}
{{- define "tortie.asn" -}}
{{- $asn := .Values.bgp.asNumber -}}
{{- if typeIs "float64" $asn -}}
{{- int64 $asn -}}
{{- else if contains "." (toString $asn) -}}
{{- $parts := splitList "." (toString $asn) -}}
{{- add (mul (index $parts 0 | int64) 65536) (index $parts 1 | int64) -}}
{{- else -}}
{{- toString $asn -}}
{{- end -}}
{{- end }}

{{/* Of objects that must outlive the release. */}}
{{- define "tortie.objectMetadata" -}}
labels:
  {{- include "tortie.labels" (list . "configuration") | nindent 2 }}
annotations:
  helm.sh/resource-policy: keep
{{- end }}

{{- define "tortie.testPod" -}}
terminationGracePeriodSeconds: 1
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}
