{{/* What `helm uninstall` leaves, and how it goes: for the notes and for those who come later. */}}
{{- define "tortie.leaving" -}}
{{- $flags := "" -}}
{{- if ne .Values.cni.binDir "/opt/cni/bin" }}{{ $flags = printf "%s --bin-dir %s" $flags .Values.cni.binDir }}{{ end -}}
{{- if ne .Values.cni.confDir "/etc/cni/net.d" }}{{ $flags = printf "%s --conf-dir %s" $flags .Values.cni.confDir }}{{ end -}}
{{- if ne .Values.agent.stateDir "/var/lib/tortie" }}{{ $flags = printf "%s --state-dir %s" $flags .Values.agent.stateDir }}{{ end -}}
{{- if ne .Values.agent.runDir "/run/tortie" }}{{ $flags = printf "%s --run-dir %s" $flags .Values.agent.runDir }}{{ end -}}
{{- if ne (int .Values.agent.adminPort) 9099 }}{{ $flags = printf "%s --address 127.0.0.1:%v" $flags (int .Values.agent.adminPort) }}{{ end -}}
`helm uninstall` leaves CRDs, pools, BGP objects, the plugin on the nodes and what is in their kernels, so that pods go
on talking. To leave for good:

1. Uninstall, then clean the nodes. What pods need stays as long as they are there: delete or drain them, and run it
   again.
     for node in $(kubectl get nodes -o name); do
       kubectl debug -n {{ .Release.Namespace }} $node --profile=sysadmin --image={{ include "tortie.image" . }} -- \
         /usr/bin/tortie cleanup --root /host{{ $flags }} --yes
     done
     kubectl wait -n {{ .Release.Namespace }} pod -l app.kubernetes.io/managed-by=kubectl-debug \
       --for=jsonpath={.status.phase}=Succeeded --timeout=2m
     kubectl logs -n {{ .Release.Namespace }} -l app.kubernetes.io/managed-by=kubectl-debug --prefix --tail=-1
     kubectl delete pods -n {{ .Release.Namespace }} -l app.kubernetes.io/managed-by=kubectl-debug
2. Remove the objects, and with them all pools and what they remember:
     kubectl get ippools -o name | xargs -I{} kubectl patch {} --type=merge -p '{"metadata":{"finalizers":null}}'
     kubectl get crd -o name | grep -E 'crd.projectcalico.org|tortie.dev' | xargs kubectl delete
     kubectl delete -n {{ .Release.Namespace }} lease/tortie-controller configmap/{{ include "tortie.fullname" . }}-how-to-clean-up --ignore-not-found
3. Annotations projectcalico.org/... of the Nodes go with the Nodes, or with `kubectl annotate`.
{{- end }}
