{{/* The file of settings; flags, node name and namespace are in the DaemonSet. */}}
{{- define "tortie.agentSettings" -}}
{{- with .Values.agent -}}
datastore: kubernetes
stateDir: {{ .stateDir }}
cniSocket: {{ .runDir }}/cni.sock
admin: 127.0.0.1:{{ .adminPort }}
{{- with $.Values.monitoring.metrics }}
{{- if .enabled }}
metrics: {{ include "tortie.hostPort" (list .address .port) | quote }}
{{- end }}
{{- end }}
log: {{ .log | quote }}
mtu: {{ .mtu }}
bgp: {{ $.Values.bgp.enabled }}
routerId: {{ .routerID | quote }}
restartTime: {{ .restartTime }}
{{- with .ipAutodetection.ipv4 }}
ipAutodetectionMethod: {{ . | quote }}
{{- end }}
{{- with .ipAutodetection.ipv6 }}
ip6AutodetectionMethod: {{ . | quote }}
{{- end }}
allowDefaultRoute: {{ .allowDefaultRoute }}
userTunnels: {{ .userTunnels }}
# /proc/sys is read-only in a pod without privileges.
sysctlRoot: /host/proc/sys
{{- end -}}
{{- end }}

{{/* Takes (list address port). */}}
{{- define "tortie.hostPort" -}}
{{- $address := index . 0 -}}
{{- if contains ":" $address -}}
[{{ $address }}]:{{ index . 1 }}
{{- else -}}
{{ $address }}:{{ index . 1 }}
{{- end -}}
{{- end }}
