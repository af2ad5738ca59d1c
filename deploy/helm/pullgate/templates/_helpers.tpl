{{- define "pullgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "pullgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "pullgate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pullgate.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pullgate.selector" -}}
app.kubernetes.io/name: {{ include "pullgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pullgate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "pullgate.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "pullgate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "pullgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "pullgate.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "pullgate.policies" -}}
{{- if .Values.existingPolicies -}}
{{- .Values.existingPolicies -}}
{{- else if .Values.policies -}}
{{- include "pullgate.fullname" . }}-policies
{{- end -}}
{{- end -}}

{{- /* The registry that the kubelet asks for the gate's own image. */ -}}
{{- define "pullgate.imageHost" -}}
{{- $first := splitList "/" .Values.image.repository | first | lower -}}
{{- if and (contains "/" .Values.image.repository) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) -}}
{{- include "pullgate.familiar" $first -}}
{{- else -}}
docker.io
{{- end -}}
{{- end -}}

{{- /* Docker Hub has three names. */ -}}
{{- define "pullgate.familiar" -}}
{{- $host := lower . -}}
{{- if has $host (list "index.docker.io" "registry-1.docker.io") -}}
docker.io
{{- else -}}
{{- $host -}}
{{- end -}}
{{- end -}}

{{- /* Where a node finds its own gate. */ -}}
{{- define "pullgate.nodeURL" -}}
{{- printf "%s://127.0.0.1:%v" (ternary "https" "http" (ne .Values.tls.secretName "")) .Values.ports.pulls -}}
{{- end -}}

{{- /* With a daemonset the admin port listens on one address only. */ -}}
{{- define "pullgate.probeHost" -}}
{{- if and (eq .Values.kind "daemonset") (eq .Values.daemonset.admin "loopback") -}}
, host: 127.0.0.1
{{- end -}}
{{- end -}}

{{- define "pullgate.mounts" -}}
- {name: config, mountPath: /etc/pullgate/config, readOnly: true}
{{- if include "pullgate.policies" . }}
- {name: policies, mountPath: /etc/pullgate/policies, readOnly: true}
{{- end }}
{{- if .Values.tls.secretName }}
- {name: tls, mountPath: /etc/pullgate/tls, readOnly: true}
{{- end }}
{{- if .Values.database.secretName }}
- {name: database, mountPath: /etc/pullgate/database, readOnly: true}
{{- end }}
{{- range $i, $name := .Values.secrets }}
- {name: secret-{{ $i }}, mountPath: /etc/pullgate/secrets/{{ $name }}, readOnly: true}
{{- end }}
- {name: state, mountPath: /var/lib/pullgate}
{{- end -}}

{{- /* Whole folders and no subPath: only then do changes reach the gate, which loads them. */ -}}
{{- define "pullgate.volumes" -}}
- name: config
  configMap: {name: {{ include "pullgate.fullname" . }}}
{{- with include "pullgate.policies" . }}
- name: policies
  configMap: {name: {{ . }}}
{{- end }}
{{- with .Values.tls.secretName }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.database.secretName }}
- name: database
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- range $i, $name := .Values.secrets }}
- name: secret-{{ $i }}
  secret: {secretName: {{ $name }}, defaultMode: 0440}
{{- end }}
- name: state
  {{- if eq .Values.state.type "emptyDir" }}
  emptyDir: {sizeLimit: {{ .Values.state.size }}}
  {{- else if eq .Values.state.type "hostPath" }}
  hostPath: {path: {{ .Values.state.hostPath | quote }}, type: Directory}
  {{- else if eq .Values.state.type "persistentVolumeClaim" }}
  persistentVolumeClaim:
    claimName: {{ .Values.state.existingClaim | default (printf "%s-state" (include "pullgate.fullname" .)) }}
  {{- else }}
  ephemeral:
    volumeClaimTemplate:
      spec: {{- include "pullgate.claim" . | nindent 8 }}
  {{- end }}
{{- if and (eq .Values.kind "daemonset") .Values.daemonset.hold.enabled }}
- name: certs-d
  hostPath: {path: {{ .Values.daemonset.hold.certsDir | quote }}, type: DirectoryOrCreate}
{{- end }}
{{- end -}}

{{- define "pullgate.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .Values.state.storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests: {storage: {{ .Values.state.size }}}
{{- end -}}

{{- /* The gate's configuration. What the chart knows goes over what config says. */ -}}
{{- define "pullgate.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- $admin := $c.admin | default dict -}}
{{- if eq .Values.kind "daemonset" -}}
{{- $_ := set $c "listen" (printf "127.0.0.1:%v" .Values.ports.pulls) -}}
{{- $_ := set $admin "listen" (printf "127.0.0.1:%v" .Values.ports.admin) -}}
{{- else -}}
{{- $_ := set $c "listen" (printf "0.0.0.0:%v" .Values.ports.pulls) -}}
{{- $_ := set $admin "listen" (printf "0.0.0.0:%v" .Values.ports.admin) -}}
{{- end -}}
{{- $_ := set $c "admin" $admin -}}
{{- $_ := set $c "state" (dict "path" "/var/lib/pullgate" "maxBytes" .Values.state.maxBytes) -}}
{{- if include "pullgate.policies" . -}}
{{- $_ := set $c "policyFiles" (list "/etc/pullgate/policies/*.yaml") -}}
{{- end -}}
{{- with .Values.tls.secretName -}}
{{- $tls := dict "certFile" "/etc/pullgate/tls/tls.crt" "keyFile" "/etc/pullgate/tls/tls.key" -}}
{{- with $.Values.tls.clientCAKey -}}
{{- $_ := set $tls "clientCAFile" (printf "/etc/pullgate/tls/%s" .) -}}
{{- end -}}
{{- $_ := set $c "tls" $tls -}}
{{- end -}}
{{- with .Values.database -}}
{{- if .url -}}
{{- $_ := set $c "database" .url -}}
{{- end -}}
{{- if .secretName -}}
{{- $_ := set $c "databasePasswordFile" "/etc/pullgate/database/password" -}}
{{- end -}}
{{- if .namespaceKey -}}
{{- $_ := set $c "databaseNamespaceFile" (printf "/etc/pullgate/database/%s" .namespaceKey) -}}
{{- end -}}
{{- end -}}
{{- toYaml $c -}}
{{- end -}}

{{- /* What the schema cannot say. */ -}}
{{- define "pullgate.check" -}}
{{- $daemonset := eq .Values.kind "daemonset" -}}
{{- if and $daemonset (has .Values.state.type (list "persistentVolumeClaim" "ephemeral")) -}}
{{- fail "state.type: a daemonset keeps its state in emptyDir or hostPath" -}}
{{- end -}}
{{- if and (not $daemonset) (eq .Values.state.type "hostPath") -}}
{{- fail "state.type: hostPath is for a daemonset; two replicas on one node would share the folder, which the second refuses" -}}
{{- end -}}
{{- if and (not $daemonset) (eq .Values.state.type "persistentVolumeClaim") (gt (int .Values.deployment.replicas) 1) -}}
{{- fail "state.type: persistentVolumeClaim is for deployment.replicas: 1; several replicas never share a state: write ephemeral or emptyDir" -}}
{{- end -}}
{{- if and .Values.policies .Values.existingPolicies -}}
{{- fail "policies and existingPolicies: write one of them" -}}
{{- end -}}
{{- if and $daemonset .Values.networkPolicy.enabled -}}
{{- fail "networkPolicy.enabled: a daemonset's gate is on the host's network, for which network policies have no effect" -}}
{{- end -}}
{{- if and $daemonset .Values.metrics.serviceMonitor.enabled (eq .Values.daemonset.admin "loopback") -}}
{{- fail "metrics.serviceMonitor.enabled: nothing reaches the admin port on loopback; write daemonset.admin: node" -}}
{{- end -}}
{{- if and .Values.tls.clientCAKey (not .Values.tls.secretName) -}}
{{- fail "tls.clientCAKey: the certificate authority is a key of tls.secretName" -}}
{{- end -}}
{{- if and .Values.database.secretName (not .Values.database.url) -}}
{{- fail "database.secretName: there is no database.url" -}}
{{- end -}}
{{- if and .Values.database.namespaceKey (not .Values.database.secretName) -}}
{{- fail "database.namespaceKey: it is a key of database.secretName" -}}
{{- end -}}
{{- $hold := .Values.daemonset.hold -}}
{{- $held := list -}}
{{- range $hold.registries -}}
{{- $held = append $held (include "pullgate.familiar" .) -}}
{{- end -}}
{{- if $hold.enabled -}}
{{- if not $daemonset -}}
{{- fail "daemonset.hold.enabled: only kind: daemonset can write on the nodes" -}}
{{- end -}}
{{- if not $hold.registries -}}
{{- fail "daemonset.hold.registries: list the registries that nodes pull from" -}}
{{- end -}}
{{- if and (ne .Values.image.pullPolicy "Never") (has (include "pullgate.imageHost" .) $held) -}}
{{- fail (printf "daemonset.hold.registries: a node would ask its gate for the gate's own image on %s, before that gate runs; keep a copy on a registry that is not held, or bring the image onto the nodes and write image.pullPolicy: Never" (include "pullgate.imageHost" .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
